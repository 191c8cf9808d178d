/* Value head: one number a row. Dense double; h, u (R,C), w, dw (C), values, coef (R). */
#ifndef REF_VALUE_H
#define REF_VALUE_H

#include <stddef.h>

/* u: the unscaled gradient rows, -w each. */
void ref_value_fwd(double *values, double *u, const double *h, const double *w, size_t R, size_t C);
/* dw is added to; dh (R,C), where every row is its own token: minus coef times u. */
void ref_value_bwd(double *dw, double *dh, const double *coef, const double *h, const double *w,
                   size_t R, size_t C);

#endif
