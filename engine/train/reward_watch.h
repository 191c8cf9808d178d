/* What shows, in runs that draw samples, whether a reward is exploited (reward/alarm.h): length and
 * repetition of the replies of each rollout, and the share of held-out pairs (eval_dataset, with
 * eval_strategy steps) whose chosen reply is the likelier one, by its mean log-prob a token. */
#ifndef AT_REWARD_WATCH_H
#define AT_REWARD_WATCH_H

#include "alarm.h"
#include "dataset.h"

struct at_loop;
struct at_run;

struct at_reward_watch {
    struct at_dataset held;        /* pairs; none: no rows */
    struct at_row_result *results; /* (held.n_rows) */
    struct at_alarm alarm;         /* part of a checkpoint */
    double accuracy;               /* of the step's rollout; NaN: not measured */
    double repetition;             /* of the same */
};
/* Reads the held-out pairs, which are read as `params` has the prompts. */
AT_CHECKED at_reward_watch_open(struct at_reward_watch *out, const struct at_run *run,
                                const struct at_dataset_params *params);
void at_reward_watch_close(struct at_reward_watch *watch);
/* Of the replies of a rollout: the mean of at_repetition(). */
AT_CHECKED at_reward_watch_replies(struct at_reward_watch *watch, const struct at_buf *replies,
                                   uint32_t n);
/* At the first step of a rollout, whose rewards are known: measures the pairs every eval_steps
 * steps, and warns ("reward_alarm") of what is raised. */
AT_CHECKED at_reward_watch_step(struct at_loop *loop, double reward, double length);

#endif
