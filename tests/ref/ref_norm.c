#include "ref_norm.h"

#include <math.h>

void ref_rmsnorm_fwd(double *y, double *rstd, const double *x, const double *w, double eps,
                     size_t T, size_t C)
{
    for (size_t t = 0; t < T; t++, y += C, x += C) {
        double mean = 0;

        for (size_t c = 0; c < C; c++)
            mean += x[c] * x[c] / (double)C;
        rstd[t] = 1 / sqrt(mean + eps);
        for (size_t c = 0; c < C; c++)
            y[c] = w[c] * x[c] * rstd[t];
    }
}

void ref_rmsnorm_bwd(double *dx, const double *dy, const double *x, const double *w,
                     const double *rstd, size_t T, size_t C)
{
    for (size_t t = 0; t < T; t++, dx += C, dy += C, x += C) {
        double mean = 0;

        for (size_t c = 0; c < C; c++)
            mean += w[c] * dy[c] * x[c] / (double)C;
        for (size_t c = 0; c < C; c++)
            dx[c] += rstd[t] * (w[c] * dy[c] - x[c] * rstd[t] * rstd[t] * mean);
    }
}

void ref_rmsnorm_bwd_weight(double *dw, const double *dy, const double *x, const double *rstd,
                            size_t T, size_t C)
{
    for (size_t t = 0; t < T; t++)
        for (size_t c = 0; c < C; c++)
            dw[c] += dy[t * C + c] * x[t * C + c] * rstd[t];
}

static double mean_of(const double *x, size_t C)
{
    double mean = 0;

    for (size_t c = 0; c < C; c++)
        mean += x[c] / (double)C;
    return mean;
}

void ref_layernorm_fwd(double *y, double *rstd, const double *x, const double *w, const double *b,
                       double eps, size_t T, size_t C)
{
    for (size_t t = 0; t < T; t++, y += C, x += C) {
        const double mean = mean_of(x, C);
        double variance = 0;

        for (size_t c = 0; c < C; c++)
            variance += (x[c] - mean) * (x[c] - mean) / (double)C;
        rstd[t] = 1 / sqrt(variance + eps);
        for (size_t c = 0; c < C; c++)
            y[c] = w[c] * (x[c] - mean) * rstd[t] + b[c];
    }
}

/* With n = (x - mean) rstd and g = w dy: dx = rstd (g - mean(g) - n mean(g n)). */
void ref_layernorm_bwd(double *dx, double *dw, double *db, const double *dy, const double *x,
                       const double *w, const double *rstd, size_t T, size_t C)
{
    for (size_t t = 0; t < T; t++, dx += C, dy += C, x += C) {
        const double mean = mean_of(x, C);
        double g_mean = 0, gn_mean = 0;

        for (size_t c = 0; c < C; c++) {
            const double n = (x[c] - mean) * rstd[t];
            g_mean += w[c] * dy[c] / (double)C;
            gn_mean += w[c] * dy[c] * n / (double)C;
            dw[c] += dy[c] * n;
            db[c] += dy[c];
        }
        for (size_t c = 0; c < C; c++)
            dx[c] += rstd[t] * (w[c] * dy[c] - g_mean - (x[c] - mean) * rstd[t] * gn_mean);
    }
}
