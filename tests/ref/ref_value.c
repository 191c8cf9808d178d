#include "ref_value.h"

void ref_value_fwd(double *values, double *u, const double *h, const double *w, size_t R, size_t C)
{
    for (size_t r = 0; r < R; r++) {
        values[r] = 0;
        for (size_t c = 0; c < C; c++) {
            values[r] += h[r * C + c] * w[c];
            u[r * C + c] = -w[c];
        }
    }
}

void ref_value_bwd(double *dw, double *dh, const double *coef, const double *h, const double *w,
                   size_t R, size_t C)
{
    for (size_t r = 0; r < R; r++)
        for (size_t c = 0; c < C; c++) {
            dw[c] += coef[r] * h[r * C + c];
            dh[r * C + c] = coef[r] * w[c];
        }
}
