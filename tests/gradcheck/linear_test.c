/* links: base */
/* The reference's backward passes = central differences of its forward passes: LoRA and the
 * products. */
#include "differences.h"
#include "ref_gemm.h"
#include "ref_lora.h"

enum { T = 5, K = 7, N = 6, RANK = 3 };

static double x[T * K], W[N * K], b[N], A[RANK * K], B[N * RANK], dy[T * N];

/* sum dy * y of y = x W^T + b with an adapter */
static double value(void)
{
    const struct ref_lora lora = { T, K, N, RANK, A, B, 0.75 };
    double y[T * N], z[T * RANK];

    ref_matmul_nt(y, x, W, T, N, K, 1, false);
    ref_bias_fwd(y, b, T, N);
    ref_lora_fwd(y, z, x, &lora);
    return gd_dot(dy, y, T * N);
}

static void linear_backward_equals_differences(void **state)
{
    const struct ref_lora lora = { T, K, N, RANK, A, B, 0.75 };
    double dx[T * K], dW[N * K], db[N] = { 0 }, dz[T * RANK], dA[RANK * K] = { 0 },
                                 dB[N * RANK] = { 0 };

    (void)state;
    gd_fill(x, T * K);
    gd_fill(W, N * K);
    gd_fill(b, N);
    gd_fill(A, RANK * K);
    gd_fill(B, N * RANK);
    gd_fill(dy, T * N);
    ref_matmul_nn(dx, dy, W, T, K, N, 1, false);
    ref_matmul_tn(dW, dy, x, N, K, T, 1, false);
    ref_bias_bwd(db, dy, T, N);
    ref_lora_bwd(dx, dz, dA, dB, dy, x, &lora);
    gd_check("dx", value, x, dx, T * K);
    gd_check("dW", value, W, dW, N * K);
    gd_check("db", value, b, db, N);
    gd_check("dA", value, A, dA, RANK * K);
    gd_check("dB", value, B, dB, N * RANK);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(linear_backward_equals_differences) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
