/* Elementwise operations and row movements. Dense double. */
#ifndef REF_ACTIVATION_H
#define REF_ACTIVATION_H

#include <stddef.h>
#include <stdint.h>

/* m = silu(gate) * up on n elements (Shazeer 2020, arXiv 2002.05202). */
void ref_swiglu_fwd(double *m, const double *gate, const double *up, size_t n);
void ref_swiglu_bwd(double *dgate, double *dup, const double *dm, const double *gate,
                    const double *up, size_t n);
/* The same with GELU by tanh (Hendrycks and Gimpel 2016, arXiv 1606.08415) in place of silu. */
void ref_geglu_fwd(double *m, const double *gate, const double *up, size_t n);
void ref_geglu_bwd(double *dgate, double *dup, const double *dm, const double *gate,
                   const double *up, size_t n);
/* y = GELU(x) by erf, n elements; dx = dy GELU'(x). */
void ref_gelu_fwd(double *y, const double *x, size_t n);
void ref_gelu_bwd(double *dx, const double *dy, const double *x, size_t n);
/* out (R,C): out[i,:] = x[index[i],:] */
void ref_gather_rows(double *out, const double *x, const int32_t *index, size_t R, size_t C);
/* dx (T,C): dx[t,:] = -sum of coef[i] * u[i,:] over i in [row_begin[t], row_begin[t+1]) */
void ref_scatter_rows(double *dx, const double *u, const double *coef, const int32_t *row_begin,
                      size_t T, size_t C);
/* dW[ids[j],:] += sum of dx[order[i],:] over i in [begin[j], begin[j+1]) */
void ref_embed_bwd(double *dW, const double *dx, const int32_t *ids, const int32_t *begin,
                   const int32_t *order, size_t n_ids, size_t C);

#endif
