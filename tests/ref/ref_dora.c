#include "ref_dora.h"

#include <math.h>

/* W + scale B A at row n, column k. */
static double delta(const struct ref_dora *d, size_t n, size_t k)
{
    double sum = 0;

    for (size_t j = 0; j < d->lora.r; j++)
        sum += d->lora.B[n * d->lora.r + j] * d->lora.A[j * d->lora.K + k];
    return d->lora.scale * sum;
}

void ref_dora_norm(double *norm, const struct ref_dora *d)
{
    for (size_t n = 0; n < d->lora.N; n++) {
        double sum = 0;
        for (size_t k = 0; k < d->lora.K; k++)
            sum += pow(d->W[n * d->lora.K + k] + delta(d, n, k), 2);
        norm[n] = sqrt(sum);
    }
}

static double dropped(const struct ref_dora *d, const double *x, size_t i)
{
    return d->mask ? d->mask[i] * x[i] : x[i];
}

void ref_dora_fwd(double *y, const double *x, const struct ref_dora *d)
{
    const size_t K = d->lora.K, N = d->lora.N;

    for (size_t t = 0; t < d->lora.T; t++)
        for (size_t n = 0; n < N; n++) {
            const double g = d->m[n] / d->norm[n];
            for (size_t k = 0; k < K; k++) {
                const double w = d->W[n * K + k], xd = dropped(d, x, t * K + k);
                y[t * N + n] += x[t * K + k] * w + (g - 1) * xd * w + g * xd * delta(d, n, k);
            }
        }
}

void ref_dora_bwd(double *dx, double *dA, double *dB, double *dm, const double *dy, const double *x,
                  const struct ref_dora *d)
{
    const size_t K = d->lora.K, N = d->lora.N, r = d->lora.r;
    const double *A = d->lora.A, *B = d->lora.B, s = d->lora.scale;

    for (size_t t = 0; t < d->lora.T; t++)
        for (size_t n = 0; n < N; n++) {
            const double g = d->m[n] / d->norm[n], e = dy[t * N + n];
            for (size_t k = 0; k < K; k++) {
                const double w = d->W[n * K + k], xd = dropped(d, x, t * K + k);
                const double change = delta(d, n, k), keep = d->mask ? d->mask[t * K + k] : 1;
                dm[n] += e * xd * (w + change) / d->norm[n];
                dx[t * K + k] += e * (w + keep * ((g - 1) * w + g * change));
                for (size_t j = 0; j < r; j++) {
                    dB[n * r + j] += e * g * s * xd * A[j * K + k];
                    dA[j * K + k] += e * g * s * B[n * r + j] * xd;
                }
            }
        }
}
