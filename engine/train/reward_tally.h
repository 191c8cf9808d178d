/* Sums of what each reward of samples was, apart: `rewards/NAME/mean` and `/std` of metrics. */
#ifndef AT_REWARD_TALLY_H
#define AT_REWARD_TALLY_H

#include "rollouts.h"

#include <cjson/cJSON.h>

/* Part of a checkpoint; all are doubles. */
struct at_reward_tally {
    double mean[AT_MAX_REWARDS], deviation[AT_MAX_REWARDS]; /* sums over rollouts */
};

/* Adds those of a rollout: n samples, the i-th of them samples->items[picked[i]], or without
 * `picked` items[i]. x (n) is overwritten. */
void at_reward_tally_add(struct at_reward_tally *tally, const struct at_samples *samples,
                         const uint32_t *picked, double *x, uint32_t n);
/* Of so many rollouts. */
void at_reward_tally_write(cJSON *line, const struct at_reward_tally *tally,
                           const struct at_samples *samples, double rollouts);

#endif
