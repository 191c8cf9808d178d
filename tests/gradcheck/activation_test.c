/* links: base */
/* The reference's backward passes = central differences of its forward passes: SwiGLU, and the row
 * movements that are gradients of a gather. */
#include "differences.h"

#include "ref_activation.h"

enum { N = 40, V = 5, T = 7, R = 9, C = 3, IDS = 3 };

/* ---- SwiGLU, GeGLU, GELU ---- */

static double gate[N], up[N], dm[N];

static void (*gated_fwd)(double *m, const double *gate, const double *up, size_t n);

static double gated_value(void)
{
    double m[N];

    gated_fwd(m, gate, up, N);
    return gd_dot(dm, m, N);
}

/* Every other gate is `bent` times as large: flat and bent parts of the curve. */
static void fill_gated(double bent)
{
    gd_fill(gate, N);
    gd_fill(up, N);
    gd_fill(dm, N);
    for (size_t i = 1; i < N; i += 2)
        gate[i] *= bent;
}

static void swiglu_backward_equals_differences(void **state)
{
    double dgate[N], dup[N];

    (void)state;
    fill_gated(20);
    gated_fwd = ref_swiglu_fwd;
    ref_swiglu_bwd(dgate, dup, dm, gate, up, N);
    gd_check("dgate", gated_value, gate, dgate, N);
    gd_check("dup", gated_value, up, dup, N);
}

static void geglu_backward_equals_differences(void **state)
{
    double dgate[N], dup[N];

    (void)state;
    fill_gated(3);
    gated_fwd = ref_geglu_fwd;
    ref_geglu_bwd(dgate, dup, dm, gate, up, N);
    gd_check("dgate", gated_value, gate, dgate, N);
    gd_check("dup", gated_value, up, dup, N);
}

static double gelu_value(void)
{
    double y[N];

    ref_gelu_fwd(y, gate, N);
    return gd_dot(dm, y, N);
}

static void gelu_backward_equals_differences(void **state)
{
    double dx[N];

    (void)state;
    fill_gated(3);
    ref_gelu_bwd(dx, dm, gate, N);
    gd_check("dx", gelu_value, gate, dx, N);
}

/* ---- rows ---- */

static const int32_t tokens[T] = { 4, 0, 4, 1, 0, 4, 4 };
static double table[V * C], dx[T * C];

static double embed_value(void)
{
    double x[T * C];

    ref_gather_rows(x, table, tokens, T, C);
    return gd_dot(dx, x, T * C);
}

static void embed_backward_equals_differences(void **state)
{
    static const int32_t ids[IDS] = { 0, 1, 4 }, begin[IDS + 1] = { 0, 2, 3, 7 };
    static const int32_t order[T] = { 1, 4, 3, 0, 2, 5, 6 };
    double dW[V * C] = { 0 };

    (void)state;
    gd_fill(table, V * C);
    gd_fill(dx, T * C);
    ref_embed_bwd(dW, dx, ids, begin, order, IDS, C);
    gd_check("dW", embed_value, table, dW, V * C);
}

/* coef . score of rows that read row source[i] of x with the gradient -u[i] */
static const int32_t source[R] = { 0, 0, 2, 3, 3, 3, 4, 6, 6 };
static double x[T * C], u[R * C], coef[R];

static double score_value(void)
{
    double rows[R * C], sum = 0;

    ref_gather_rows(rows, x, source, R, C);
    for (size_t i = 0; i < R; i++)
        sum -= coef[i] * gd_dot(u + i * C, rows + i * C, C);
    return sum;
}

static void scatter_equals_differences(void **state)
{
    static const int32_t row_begin[T + 1] = { 0, 2, 2, 3, 6, 7, 7, 9 };
    double d[T * C];

    (void)state;
    gd_fill(x, T * C);
    gd_fill(u, R * C);
    gd_fill(coef, R);
    ref_scatter_rows(d, u, coef, row_begin, T, C);
    gd_check("dx", score_value, x, d, T * C);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(geglu_backward_equals_differences),
        cmocka_unit_test(gelu_backward_equals_differences),
        cmocka_unit_test(swiglu_backward_equals_differences),
        cmocka_unit_test(embed_backward_equals_differences),
        cmocka_unit_test(scatter_equals_differences),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
