/* Advantages of samples from their rewards, groups of one prompt behind each other. As TRL has
 * them: a sample without a reward (NaN) takes no part in means and deviations and has advantage 0.
 */
#ifndef AT_ADVANTAGE_H
#define AT_ADVANTAGE_H

#include "rollouts.h"

enum at_reward_scale { AT_SCALE_NONE, AT_SCALE_GROUP, AT_SCALE_BATCH };

struct at_advantage_params {
    bool leave_one_out; /* RLOO: the baseline of a sample is the mean of the others of its group
                           (Ahmadian et al. 2024, arXiv 2402.14740); else the group's mean (GRPO) */
    enum at_reward_scale scale; /* GRPO: over the deviation, with 1e-4 added */
    bool normalize;             /* RLOO: advantages less their mean over their deviation */
};
/* out (n); rewards (n), n a multiple of `group`. Where all of a group are equal, out is exactly 0
 * but for `normalize`. Returns the share of groups whose rewards have no spread (deviation below
 * 1e-8; with AT_SCALE_BATCH that of all samples). */
double at_advantages(double *out, const double *rewards, uint32_t n, uint32_t group,
                     const struct at_advantage_params *params);
/* Over those that are not NaN: the mean and the deviation (n - 1), NaN of too few. */
double at_mean_of(const double *x, uint32_t n);
double at_deviation_of(const double *x, uint32_t n);

#endif
