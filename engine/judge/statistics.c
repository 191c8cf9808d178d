#include "statistics.h"

#include "mem.h"
#include "rng.h"

#include <math.h>
#include <stdlib.h>

enum { RESAMPLES = 10000, CONTROLLED_RESAMPLES = 1000, NEWTON_STEPS = 25 };
static const double ridge = 0.1;

static int compare(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;

    return a < b ? -1 : a > b;
}

/* Of n sorted values, 0 <= q <= 1. */
static double quantile(const double *sorted, uint32_t n, double q)
{
    const double at = q * (n - 1);
    const uint32_t below = (uint32_t)at, above = below + 1 < n ? below + 1 : below;

    return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

static double mean_of(const double *values, uint32_t n)
{
    double sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += values[i];
    return n > 0 ? sum / n : 0;
}

AT_CHECKED at_bootstrap_mean(struct at_estimate *out, const double *values, uint32_t n,
                             uint64_t seed)
{
    enum at_status st = AT_OK;
    double *means = NULL;

    *out = (struct at_estimate){ .value = mean_of(values, n), -INFINITY, INFINITY, n };
    if (n == 0)
        goto done;
    TRY(at_alloc(&means, RESAMPLES, sizeof *means));
    for (uint32_t k = 0; k < RESAMPLES; k++) {
        struct at_rng rng = at_rng_make(seed, AT_RNG_BOOTSTRAP, k, 0);
        double sum = 0;
        for (uint32_t i = 0; i < n; i++)
            sum += values[at_rng_below(&rng, n)];
        means[k] = sum / n;
    }
    qsort(means, RESAMPLES, sizeof *means, compare);
    out->low = quantile(means, RESAMPLES, 0.025);
    out->high = quantile(means, RESAMPLES, 0.975);
done:
    at_free(&means);
    return st;
}

struct at_share at_share_of(double hits, double n)
{
    const double z = 1.959963984540054, p = n > 0 ? hits / n : 0, d = 1 + z * z / n;
    const double centre = (p + z * z / (2 * n)) / d;
    const double half = z / d * sqrt(p * (1 - p) / n + z * z / (4 * n * n));

    if (n <= 0)
        return (struct at_share){ 0, 0, 1, 0 };
    return (struct at_share){ p, fmax(0, centre - half), fmin(1, centre + half), n }; /* rounding */
}

/* Of equal values in [least, most]; that of others stays. */
static void widen(struct at_estimate *estimate, const double *values, uint32_t n, double least,
                  double most)
{
    const double others = at_share_of(0, n).high;

    for (uint32_t i = 1; i < n; i++)
        if (values[i] != values[0])
            return;
    if (n == 0)
        return;
    estimate->low = fmin(estimate->low, values[0] - others * (values[0] - least));
    estimate->high = fmax(estimate->high, values[0] + others * (most - values[0]));
}

AT_CHECKED at_bootstrap_bounded(struct at_estimate *out, const double *values, uint32_t n,
                                uint64_t seed, double least, double most)
{
    enum at_status st = AT_OK;

    TRY(at_bootstrap_mean(out, values, n, seed));
    widen(out, values, n, least, most);
done:
    return st;
}

double at_sign_test(uint32_t wins, uint32_t losses)
{
    const double n = (double)wins + losses, log_half = log(0.5);
    const uint32_t least = wins < losses ? wins : losses;
    double p = 0;

    if (wins == losses)
        return 1;
    for (uint32_t k = 0; k <= least; k++)
        p += exp(lgamma(n + 1) - lgamma(k + 1.0) - lgamma(n - k + 1) + n * log_half);
    return fmin(1, 2 * p);
}

double at_pairs_needed(const double *differences, uint32_t n)
{
    const double z = 1.959963984540054 + 0.8416212335729143; /* 95 %, two-sided; 80 % */
    const double mean = mean_of(differences, n);
    double squares = 0;

    for (uint32_t i = 0; i < n; i++)
        squares += (differences[i] - mean) * (differences[i] - mean);
    if (n < 2 || mean == 0)
        return 0;
    return ceil(fmax(6 / fabs(mean), z * z * squares / (n - 1) / (mean * mean)));
}

/* ---- at equal length ---- */

/* The intercept of the regression, by Newton's method: the objective is strictly concave. */
static double intercept(const double *y, const double *x, uint32_t n)
{
    double a = 0, b = 0;

    for (int step = 0; step < NEWTON_STEPS; step++) {
        double ga = -ridge * a, gb = -ridge * b, haa = ridge, hab = 0, hbb = ridge;
        for (uint32_t i = 0; i < n; i++) {
            const double p = 1 / (1 + exp(-(a + b * x[i]))), w = p * (1 - p);
            ga += y[i] - p;
            gb += (y[i] - p) * x[i];
            haa += w;
            hab += w * x[i];
            hbb += w * x[i] * x[i];
        }
        const double det = haa * hbb - hab * hab;
        a += fmax(-2, fmin(2, (hbb * ga - hab * gb) / det)); /* far steps overshoot */
        b += fmax(-2, fmin(2, (haa * gb - hab * ga) / det));
    }
    return a;
}

AT_CHECKED at_length_controlled(struct at_estimate *out, const double *outcomes,
                                const double *longer, uint32_t n, uint64_t seed)
{
    enum at_status st = AT_OK;
    double *x = NULL, *y = NULL, *drawn = NULL, *shares = NULL, squares = 0;

    TRY(at_alloc(&x, n, sizeof *x));
    TRY(at_alloc(&y, n, sizeof *y));
    TRY(at_alloc(&drawn, n, sizeof *drawn));
    TRY(at_alloc(&shares, CONTROLLED_RESAMPLES, sizeof *shares));
    for (uint32_t i = 0; i < n; i++)
        squares += longer[i] * longer[i] / n;
    for (uint32_t i = 0; i < n; i++)
        x[i] = squares > 0 ? longer[i] / sqrt(squares) : 0;
    *out = (struct at_estimate){ .value = 1 / (1 + exp(-intercept(outcomes, x, n))), .n = n };
    for (uint32_t k = 0; k < CONTROLLED_RESAMPLES; k++) {
        struct at_rng rng = at_rng_make(seed, AT_RNG_BOOTSTRAP, k, 1);
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t from = at_rng_below(&rng, n);
            y[i] = outcomes[from];
            drawn[i] = x[from];
        }
        shares[k] = 1 / (1 + exp(-intercept(y, drawn, n)));
    }
    qsort(shares, CONTROLLED_RESAMPLES, sizeof *shares, compare);
    out->low = quantile(shares, CONTROLLED_RESAMPLES, 0.025);
    out->high = quantile(shares, CONTROLLED_RESAMPLES, 0.975);
    widen(out, outcomes, n, 0, 1);
done:
    at_free(&x);
    at_free(&y);
    at_free(&drawn);
    at_free(&shares);
    return st;
}
