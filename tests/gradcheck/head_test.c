/* links: base */
/* The reference head: u and dW = central differences of the log-probs. */
#include "differences.h"
#include "ref_head.h"

enum { R = 4, C = 5, V = 9 };

static double h[R * C], W[V * C], coef[R];
static const int32_t targets[R] = { 0, 8, 3, 3 };
static struct ref_head head = { .R = R, .C = C, .V = V, .h = h, .W = W, .targets = targets };

/* sum coef[i] log p_i */
static double value(void)
{
    double stats[4 * R], lse[R], u[R * C], sum = 0;

    ref_head_fwd(stats, lse, u, &head);
    for (size_t i = 0; i < R; i++)
        sum += coef[i] * stats[4 * i];
    return sum;
}

static void head_backward_equals_differences(void **state)
{
    double stats[4 * R], lse[R], u[R * C], dh[R * C], dW[V * C] = { 0 };

    (void)state;
    gd_fill(h, R * C);
    gd_fill(W, V * C);
    gd_fill(coef, R);
    ref_head_fwd(stats, lse, u, &head);
    for (size_t i = 0; i < R * C; i++)
        dh[i] = -coef[i / C] * u[i];
    ref_head_bwd_weight(dW, coef, &head);
    gd_check("dh", value, h, dh, R * C);
    gd_check("dW", value, W, dW, V * C);
}

static void capped_head_backward_equals_differences(void **state)
{
    head.cap = 1.5;
    head_backward_equals_differences(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(head_backward_equals_differences),
        cmocka_unit_test(capped_head_backward_equals_differences),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
