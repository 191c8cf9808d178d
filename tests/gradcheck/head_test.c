/* links: base */
/* The reference head: u and dW = central differences of the log-probs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ref_head.h"
#include "tolerances.h"

enum { R = 4, C = 5, V = 9 };

static double h[R * C], W[V * C], coef[R];
static const int32_t targets[R] = { 0, 8, 3, 3 };
static const struct ref_head head = { R, C, V, h, W, targets };

static double noise(void)
{
    static uint64_t state = 11;

    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) / 4503599627370496.0 - 1;
}

/* sum coef[i] log p_i */
static double value(void)
{
    double stats[4 * R], lse[R], u[R * C], sum = 0;

    ref_head_fwd(stats, lse, u, &head);
    for (size_t i = 0; i < R; i++)
        sum += coef[i] * stats[4 * i];
    return sum;
}

static void check(const char *what, double *x, const double *d, size_t n)
{
    const double step = 1e-5;

    for (size_t i = 0; i < n; i++) {
        const double keep = x[i];
        double low, high;

        x[i] = keep - step;
        low = value();
        x[i] = keep + step;
        high = value();
        x[i] = keep;
        if (!(fabs((high - low) / (2 * step) - d[i]) <= TOL_DIFFERENCE * (1 + fabs(d[i]))))
            fail_msg("%s[%zu]: derivative %.12g, differences give %.12g", what, i, d[i],
                     (high - low) / (2 * step));
    }
}

static void head_backward_equals_differences(void **state)
{
    double stats[4 * R], lse[R], u[R * C], dh[R * C], dW[V * C] = { 0 };

    (void)state;
    for (size_t i = 0; i < R * C; i++)
        h[i] = noise();
    for (size_t i = 0; i < V * C; i++)
        W[i] = noise();
    for (size_t i = 0; i < R; i++)
        coef[i] = noise();
    ref_head_fwd(stats, lse, u, &head);
    for (size_t i = 0; i < R * C; i++)
        dh[i] = -coef[i / C] * u[i];
    ref_head_bwd_weight(dW, coef, &head);
    check("dh", h, dh, R * C);
    check("dW", W, dW, V * C);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(head_backward_equals_differences) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
