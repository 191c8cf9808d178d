/* Signs that a policy exploits its reward (Gao et al. 2022, arXiv 2210.10760; Singhal et al. 2023,
 * arXiv 2310.03716): the reward rises, and
 *   length      replies become half as long again as they were, or two thirds as long
 *   repetition  a tenth more of their runs of four words occurred before in the reply
 *   accuracy    a smaller share of held-out pairs has the chosen reply as the likelier one: by more
 *               than 0.05, and by more than 2 standard errors of the rollouts' values
 *
 * Means of the last AT_ALARM_WINDOW rollouts are compared with those of the first. The reward has
 * risen when their difference is more than 2 standard errors, by the deviations within both; its
 * unit does not matter. Rollouts without a value (NaN) are passed over. */
#ifndef AT_ALARM_H
#define AT_ALARM_H

#include "mem.h"

enum at_alarm_series {
    AT_ALARM_ACCURACY,
    AT_ALARM_LENGTH,
    AT_ALARM_REPETITION,
    AT_ALARM_REWARD,
    AT_ALARM_SERIES
};
enum { AT_ALARM_WINDOW = 5 };

/* A part of checkpoints: all are doubles. `struct at_alarm a = { 0 }` is ready to use. */
struct at_alarm {
    double count[AT_ALARM_SERIES];
    double first[AT_ALARM_SERIES][AT_ALARM_WINDOW], last[AT_ALARM_SERIES][AT_ALARM_WINDOW];
    struct at_alarm_raised {
        double step;              /* 0: it was not; each is raised once */
        double before[2], now[2]; /* means of its series, of the reward */
    } raised[AT_ALARM_SERIES];
};
/* The values of the rollout of a step, from 1: share of pairs, mean tokens, mean share of repeated
 * runs, mean reward. Returns how many alarms are raised by it: those whose `step` is this. */
uint32_t at_alarm_add(struct at_alarm *alarm, uint64_t step, const double values[AT_ALARM_SERIES]);
/* Means of the first and of the last rollouts of a series; NaN before it has any. */
double at_alarm_before(const struct at_alarm *alarm, enum at_alarm_series series);
double at_alarm_now(const struct at_alarm *alarm, enum at_alarm_series series);
/* What was raised, as a sentence. */
void at_alarm_tell(struct at_buf *out, const struct at_alarm *alarm, enum at_alarm_series series);

#endif
