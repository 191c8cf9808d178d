/* links: base */
/* DoRA's backward pass = central differences of its forward pass, the norm held; with and without
 * dropout. */
#include "differences.h"
#include "ref_dora.h"

enum { T = 5, K = 7, N = 6, RANK = 3 };

static double x[T * K], W[N * K], A[RANK * K], B[N * RANK], m[N], norm[N], mask[T * K], dy[T * N];
static struct ref_dora dora = {
    .lora = { T, K, N, RANK, A, B, 0.75 }, .W = W, .m = m, .norm = norm
};

static double value(void)
{
    double y[T * N] = { 0 };

    ref_dora_fwd(y, x, &dora);
    return gd_dot(dy, y, T * N);
}

static void check(void)
{
    double dx[T * K] = { 0 }, dA[RANK * K] = { 0 }, dB[N * RANK] = { 0 }, dm[N] = { 0 };

    ref_dora_norm(norm, &dora);
    ref_dora_bwd(dx, dA, dB, dm, dy, x, &dora);
    gd_check("dx", value, x, dx, T * K);
    gd_check("dA", value, A, dA, RANK * K);
    gd_check("dB", value, B, dB, N * RANK);
    gd_check("dm", value, m, dm, N);
}

static void dora_backward_equals_differences(void **state)
{
    (void)state;
    gd_fill(x, T * K);
    gd_fill(W, N * K);
    gd_fill(A, RANK * K);
    gd_fill(B, N * RANK);
    gd_fill(m, N);
    gd_fill(dy, T * N);
    check();
    for (size_t i = 0; i < T * K; i++)
        mask[i] = i % 4 == 1 ? 0 : 4.0 / 3;
    dora.mask = mask;
    check();
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(dora_backward_equals_differences) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
