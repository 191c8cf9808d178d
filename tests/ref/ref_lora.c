#include "ref_lora.h"

void ref_lora_fwd(double *y, double *z, const double *x, const struct ref_lora *lora)
{
    const size_t T = lora->T, K = lora->K, N = lora->N, r = lora->r;

    for (size_t t = 0; t < T; t++) {
        for (size_t j = 0; j < r; j++) {
            z[t * r + j] = 0;
            for (size_t k = 0; k < K; k++)
                z[t * r + j] += x[t * K + k] * lora->A[j * K + k];
        }
        for (size_t n = 0; n < N; n++)
            for (size_t j = 0; j < r; j++)
                y[t * N + n] += lora->scale * z[t * r + j] * lora->B[n * r + j];
    }
}

void ref_lora_bwd(double *dx, double *dz, double *dA, double *dB, const double *dy, const double *x,
                  const struct ref_lora *lora)
{
    const size_t T = lora->T, K = lora->K, N = lora->N, r = lora->r;

    for (size_t t = 0; t < T; t++)
        for (size_t j = 0; j < r; j++) {
            double z = 0, d = 0;

            for (size_t k = 0; k < K; k++)
                z += x[t * K + k] * lora->A[j * K + k];
            for (size_t n = 0; n < N; n++) {
                d += lora->scale * dy[t * N + n] * lora->B[n * r + j];
                dB[n * r + j] += lora->scale * dy[t * N + n] * z;
            }
            dz[t * r + j] = d;
            for (size_t k = 0; k < K; k++) {
                dA[j * K + k] += d * x[t * K + k];
                dx[t * K + k] += d * lora->A[j * K + k];
            }
        }
}
