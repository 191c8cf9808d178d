/* links: base */
/* The value head's reference backward pass = central differences of its forward pass. */
#include "differences.h"

#include "ref_value.h"

enum { R = 5, C = 7 };
static double h[R * C], w[C], coef[R];

static double value(void)
{
    double values[R], u[R * C];

    ref_value_fwd(values, u, h, w, R, C);
    return gd_dot(coef, values, R);
}

static void value_backward_equals_differences(void **state)
{
    double dw[C] = { 0 }, dh[R * C];

    (void)state;
    gd_fill(h, R * C);
    gd_fill(w, C);
    gd_fill(coef, R);
    ref_value_bwd(dw, dh, coef, h, w, R, C);
    gd_check("dh", value, h, dh, R * C);
    gd_check("dw", value, w, dw, C);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(value_backward_equals_differences) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
