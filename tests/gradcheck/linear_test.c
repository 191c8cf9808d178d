/* links: base */
/* The reference's backward passes = central differences of its forward passes: LoRA and the
 * products. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ref_gemm.h"
#include "ref_lora.h"
#include "tolerances.h"

enum { T = 5, K = 7, N = 6, RANK = 3 };

static double noise(void)
{
    static uint64_t state = 7;

    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) / 4503599627370496.0 - 1;
}

static void fill(double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = noise();
}

static double dot(const double *x, const double *y, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

/* f at x[i] -/+ h against the analytic derivative d[i], for every i. */
static void check(const char *what, double (*f)(void), double *x, const double *d, size_t n)
{
    const double h = 1e-5;

    for (size_t i = 0; i < n; i++) {
        const double keep = x[i];
        double low, high;

        x[i] = keep - h;
        low = f();
        x[i] = keep + h;
        high = f();
        x[i] = keep;
        if (!(fabs((high - low) / (2 * h) - d[i]) <= TOL_DIFFERENCE * (1 + fabs(d[i]))))
            fail_msg("%s[%zu]: derivative %.12g, differences give %.12g", what, i, d[i],
                     (high - low) / (2 * h));
    }
}

static double x[T * K], W[N * K], b[N], A[RANK * K], B[N * RANK], dy[T * N];

/* sum dy * y of y = x W^T + b with an adapter */
static double value(void)
{
    const struct ref_lora lora = { T, K, N, RANK, A, B, 0.75 };
    double y[T * N], z[T * RANK];

    ref_matmul_nt(y, x, W, T, N, K, 1, false);
    ref_bias_fwd(y, b, T, N);
    ref_lora_fwd(y, z, x, &lora);
    return dot(dy, y, T * N);
}

static void linear_backward_equals_differences(void **state)
{
    const struct ref_lora lora = { T, K, N, RANK, A, B, 0.75 };
    double dx[T * K], dW[N * K], db[N] = { 0 }, dz[T * RANK], dA[RANK * K] = { 0 },
                                 dB[N * RANK] = { 0 };

    (void)state;
    fill(x, T * K);
    fill(W, N * K);
    fill(b, N);
    fill(A, RANK * K);
    fill(B, N * RANK);
    fill(dy, T * N);
    ref_matmul_nn(dx, dy, W, T, K, N, 1, false);
    ref_matmul_tn(dW, dy, x, N, K, T, 1, false);
    ref_bias_bwd(db, dy, T, N);
    ref_lora_bwd(dx, dz, dA, dB, dy, x, &lora);
    check("dx", value, x, dx, T * K);
    check("dW", value, W, dW, N * K);
    check("db", value, b, db, N);
    check("dA", value, A, dA, RANK * K);
    check("dB", value, B, dB, N * RANK);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(linear_backward_equals_differences) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
