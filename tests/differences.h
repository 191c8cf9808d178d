/* Shared by gradient checks: noise and central differences of a function of no arguments. */
#ifndef DIFFERENCES_H
#define DIFFERENCES_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tolerances.h"

/* Uniform in (-1, 1). */
static inline void gd_fill(double *x, size_t n)
{
    static uint64_t state = 7;

    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        x[i] = (double)(state >> 11) / 4503599627370496.0 - 1;
    }
}

static inline double gd_dot(const double *x, const double *y, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

/* f at x[i] -/+ h against the analytic derivative d[i], for every i. */
static inline void gd_check(const char *what, double (*f)(void), double *x, const double *d,
                            size_t n)
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

#endif
