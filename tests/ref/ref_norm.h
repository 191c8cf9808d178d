/* RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467). Dense double; y, x, dy, dx (T,C), w, dw (C),
 * rstd (T). */
#ifndef REF_NORM_H
#define REF_NORM_H

#include <stddef.h>

void ref_rmsnorm_fwd(double *y, double *rstd, const double *x, const double *w, double eps,
                     size_t T, size_t C);
/* dx is added to. */
void ref_rmsnorm_bwd(double *dx, const double *dy, const double *x, const double *w,
                     const double *rstd, size_t T, size_t C);
/* dw is added to. */
void ref_rmsnorm_bwd_weight(double *dw, const double *dy, const double *x, const double *rstd,
                            size_t T, size_t C);

/* LayerNorm (Ba et al. 2016, arXiv 1607.06450), b (C). dx, dw and db are added to. */
void ref_layernorm_fwd(double *y, double *rstd, const double *x, const double *w, const double *b,
                       double eps, size_t T, size_t C);
void ref_layernorm_bwd(double *dx, double *dw, double *db, const double *dy, const double *x,
                       const double *w, const double *rstd, size_t T, size_t C);

#endif
