#include "ref_gemm.h"

static void add(double *c, double sum, double alpha, bool accumulate)
{
    *c = alpha * sum + (accumulate ? *c : 0);
}

void ref_matmul_nt(double *C, const double *A, const double *B, size_t M, size_t N, size_t K,
                   double alpha, bool accumulate)
{
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N; n++) {
            double sum = 0;

            for (size_t k = 0; k < K; k++)
                sum += A[m * K + k] * B[n * K + k];
            add(&C[m * N + n], sum, alpha, accumulate);
        }
}

void ref_matmul_nn(double *C, const double *A, const double *B, size_t M, size_t N, size_t K,
                   double alpha, bool accumulate)
{
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N; n++) {
            double sum = 0;

            for (size_t k = 0; k < K; k++)
                sum += A[m * K + k] * B[k * N + n];
            add(&C[m * N + n], sum, alpha, accumulate);
        }
}

void ref_matmul_tn(double *C, const double *A, const double *B, size_t M, size_t N, size_t K,
                   double alpha, bool accumulate)
{
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N; n++) {
            double sum = 0;

            for (size_t k = 0; k < K; k++)
                sum += A[k * M + m] * B[k * N + n];
            add(&C[m * N + n], sum, alpha, accumulate);
        }
}

void ref_bias_fwd(double *y, const double *b, size_t T, size_t C)
{
    for (size_t t = 0; t < T; t++)
        for (size_t c = 0; c < C; c++)
            y[t * C + c] += b[c];
}

void ref_bias_bwd(double *db, const double *dy, size_t T, size_t C)
{
    for (size_t t = 0; t < T; t++)
        for (size_t c = 0; c < C; c++)
            db[c] += dy[t * C + c];
}
