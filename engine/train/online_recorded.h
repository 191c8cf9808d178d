/* Recorded pairs of samples for online DPO (`rollouts`, data/rollouts.h: two completions a line):
 * they stand in the window (online.h) where drawn ones would, with their rewards, so that choices,
 * losses and metrics are those of a run that drew them. There is no sampler, and what is looked at
 * because a policy drew it (repetition, alarms, rewards that cannot teach) is not. */
#ifndef AT_ONLINE_RECORDED_H
#define AT_ONLINE_RECORDED_H

#include "dataset.h"
#include "rollouts.h"

struct at_online;
struct at_run;

/* Samples of a file, two a prompt. */
struct at_recorded {
    struct at_dataset rows; /* none: samples are drawn */
    struct at_samples samples;
};

/* Reads the file that the run names: prompts, samples, names of rewards; the window gets room for
 * the longest sample. AT_DATA as the reader of such files says. */
AT_CHECKED at_recorded_open(struct at_online *online, struct at_run *run,
                            const struct at_dataset_params *params);
void at_recorded_close(struct at_recorded *recorded);
/* The samples of n prompts of the window. */
void at_recorded_take(struct at_online *online, uint32_t n);

#endif
