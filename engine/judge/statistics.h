/* Statistics of few values: intervals that assume no distribution, exact tests, and what would be
 * enough. */
#ifndef AT_STATISTICS_H
#define AT_STATISTICS_H

#include "status.h"

/* The 95 % score interval of a share of n (Wilson 1927, "Probable inference, the law of succession,
 * and statistical inference"). */
struct at_share {
    double value, low, high, n;
};
struct at_share at_share_of(double hits, double n);

struct at_estimate {
    double value, low, high; /* a mean and its 95 % interval */
    uint32_t n;
};
/* Percentile bootstrap of the mean (Efron 1979, "Bootstrap methods: another look at the jackknife")
 * by 10,000 resamples, which `seed` alone determines; percentiles between order statistics are
 * interpolated as numpy does. One value, or equal ones: the interval is that value; none: 0, over
 * everything. */
AT_CHECKED at_bootstrap_mean(struct at_estimate *out, const double *values, uint32_t n,
                             uint64_t seed);
/* The same of values that cannot leave [least, most]: outcomes, their differences, scores.
 * Resamples of n equal values say nothing of others that n drew by chance did not hold. Their
 * interval is what the mean can be when as many are others as at_share_of(0, n) allows, all of them
 * `least` or all of them `most`; of outcomes that are all won or all lost that is at_share_of()
 * itself. */
AT_CHECKED at_bootstrap_bounded(struct at_estimate *out, const double *values, uint32_t n,
                                uint64_t seed, double least, double most);
/* Two-sided exact sign test: how likely are so unequal numbers of wins and losses, or more so, when
 * both are as likely? Ties are left out before. 1 without any. */
double at_sign_test(uint32_t wins, uint32_t losses);
/* Of n differences that are -1, 0 or 1 (pairs that became wrong, stayed, became right): pairs with
 * which a mean of this size would leave 0 out of its 95 % interval four times in five, by the
 * deviation of what was seen, and the sign test have six changes, the fewest that it needs; 0: no
 * number of pairs shows what is not there. */
double at_pairs_needed(const double *differences, uint32_t n);
/* The share of wins at equal length: a logistic regression of outcomes (1 won, 0.5 equal, 0 lost)
 * on how much longer the winner's reply is, in root mean squares, read where that is 0 (as
 * AlpacaEval 2: Dubois et al. 2024, arXiv 2404.04475), both coefficients held by a ridge of 0.1.
 * The interval is a percentile bootstrap of 1,000 resamples; of equal outcomes it also holds that
 * of at_bootstrap_bounded(). */
AT_CHECKED at_length_controlled(struct at_estimate *out, const double *outcomes,
                                const double *longer, uint32_t n, uint64_t seed);

#endif
