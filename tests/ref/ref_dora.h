/* DoRA on one linear layer (Liu et al. 2024, arXiv 2402.09353, eq. 5; dropout as PEFT has it).
 * Dense double. */
#ifndef REF_DORA_H
#define REF_DORA_H

#include "ref_lora.h"

struct ref_dora {
    struct ref_lora lora;
    const double *W, *m, *norm; /* (N, K), (N), (N) */
    const double *mask;         /* (T, K) 0 or 1 / (1 - p) of x; NULL: no dropout */
};
/* norm (N): lengths of the rows of W + scale B A. */
void ref_dora_norm(double *norm, const struct ref_dora *dora);
/* y (T,N) = x W^T + (g - 1) x' W^T + g scale x' A^T B^T, g = m / norm, is added to. */
void ref_dora_fwd(double *y, const double *x, const struct ref_dora *dora);
/* All are added to: dx (T,K), dA (r,K), dB (N,r), dm (N). The norm is a constant. */
void ref_dora_bwd(double *dx, double *dA, double *dB, double *dm, const double *dy, const double *x,
                  const struct ref_dora *dora);

#endif
