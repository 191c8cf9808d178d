/* links: base */
/* RMSNorm's and LayerNorm's reference backward passes = central differences of its forward pass. */
#include "differences.h"

#include "ref_norm.h"

enum { T = 5, C = 7 };
static const double eps = 0.03; /* large, so that its part in the gradient shows */
static double x[T * C], w[C], b[C], dy[T * C];

/* sum dy * y, plus sum x: the residual path whose gradient is in dx before */
static double value(void)
{
    double y[T * C], rstd[T], sum = 0;

    ref_rmsnorm_fwd(y, rstd, x, w, eps, T, C);
    for (size_t i = 0; i < T * C; i++)
        sum += x[i];
    return gd_dot(dy, y, T * C) + sum;
}

static void rmsnorm_backward_equals_differences(void **state)
{
    double y[T * C], rstd[T], dx[T * C], dw[C] = { 0 };

    (void)state;
    gd_fill(x, T * C);
    gd_fill(w, C);
    gd_fill(dy, T * C);
    for (size_t i = 0; i < T * C; i++)
        dx[i] = 1;
    ref_rmsnorm_fwd(y, rstd, x, w, eps, T, C);
    ref_rmsnorm_bwd(dx, dy, x, w, rstd, T, C);
    ref_rmsnorm_bwd_weight(dw, dy, x, rstd, T, C);
    gd_check("dx", value, x, dx, T * C);
    gd_check("dw", value, w, dw, C);
}

static double layernorm_value(void)
{
    double y[T * C], rstd[T], sum = 0;

    ref_layernorm_fwd(y, rstd, x, w, b, eps, T, C);
    for (size_t i = 0; i < T * C; i++)
        sum += x[i];
    return gd_dot(dy, y, T * C) + sum;
}

static void layernorm_backward_equals_differences(void **state)
{
    double y[T * C], rstd[T], dx[T * C], dw[C] = { 0 }, db[C] = { 0 };

    (void)state;
    gd_fill(x, T * C);
    gd_fill(w, C);
    gd_fill(b, C);
    gd_fill(dy, T * C);
    for (size_t i = 0; i < T * C; i++)
        dx[i] = 1;
    ref_layernorm_fwd(y, rstd, x, w, b, eps, T, C);
    ref_layernorm_bwd(dx, dw, db, dy, x, w, rstd, T, C);
    gd_check("dx", layernorm_value, x, dx, T * C);
    gd_check("dw", layernorm_value, w, dw, C);
    gd_check("db", layernorm_value, b, db, C);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rmsnorm_backward_equals_differences),
        cmocka_unit_test(layernorm_backward_equals_differences),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
