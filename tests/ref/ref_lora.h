/* One LoRA adapter on y = x W^T: y += scale x A^T B^T (Hu et al. 2021, arXiv 2106.09685). Dense
 * double. */
#ifndef REF_LORA_H
#define REF_LORA_H

#include <stddef.h>

struct ref_lora {
    size_t T, K, N, r;
    const double *A, *B; /* (r, K), (N, r) */
    double scale;
};
/* y (T,N) is added to; z (T,r) = x A^T. */
void ref_lora_fwd(double *y, double *z, const double *x, const struct ref_lora *lora);
/* dz (T,r) is written; dx (T,K), dA (r,K), dB (N,r) are added to. */
void ref_lora_bwd(double *dx, double *dz, double *dA, double *dB, const double *dy, const double *x,
                  const struct ref_lora *lora);

#endif
