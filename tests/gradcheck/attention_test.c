/* links: base */
/* The reference's backward pass of attention = central differences of its forward pass. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ref_attention.h"
#include "tolerances.h"

enum { T = 9, H = 4, G = 2, D = 3 };

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

static double q[T * H * D], k[T * G * D], v[T * G * D], d_o[T * H * D];
/* a prompt of 3, segments of 2 and 3 tokens, an empty row */
static const int32_t intervals[T][4] = { { 0, 0, 0, 1 }, { 0, 0, 0, 2 }, { 0, 0, 0, 3 },
                                         { 0, 3, 3, 4 }, { 0, 3, 3, 5 }, { 0, 3, 5, 6 },
                                         { 0, 3, 5, 7 }, { 0, 3, 5, 8 }, { 0, 0, 0, 0 } };
static const struct ref_attention attention = { T, T, H, G, D, 0.7, &intervals[0][0] };

/* sum d_o * o */
static double value(void)
{
    double o[T * H * D], lse[T * H], sum = 0;

    ref_attention_fwd(o, lse, q, k, v, &attention);
    for (size_t i = 0; i < T * H * D; i++)
        sum += d_o[i] * o[i];
    return sum;
}

/* value() at x[i] -/+ h against the analytic derivative d[i], for every i. */
static void check(const char *what, double *x, const double *d, size_t n)
{
    const double h = 1e-5;

    for (size_t i = 0; i < n; i++) {
        const double keep = x[i];
        double low, high;

        x[i] = keep - h;
        low = value();
        x[i] = keep + h;
        high = value();
        x[i] = keep;
        if (!(fabs((high - low) / (2 * h) - d[i]) <= TOL_DIFFERENCE * (1 + fabs(d[i]))))
            fail_msg("%s[%zu]: derivative %.12g, differences give %.12g", what, i, d[i],
                     (high - low) / (2 * h));
    }
}

static void attention_backward_equals_differences(void **state)
{
    double dq[T * H * D], dk[T * G * D], dv[T * G * D];

    (void)state;
    fill(q, T * H * D);
    fill(k, T * G * D);
    fill(v, T * G * D);
    fill(d_o, T * H * D);
    ref_attention_bwd(dq, dk, dv, d_o, q, k, v, &attention);
    check("dq", q, dq, T * H * D);
    check("dk", k, dk, T * G * D);
    check("dv", v, dv, T * G * D);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(attention_backward_equals_differences) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
