/* Learning-rate schedules, as transformers computes them: the value at optimizer step t (from 0).
 */
#ifndef AT_SCHEDULE_H
#define AT_SCHEDULE_H

#include "status.h"

struct at_schedule {
    const char *type; /* linear, cosine, constant, constant_with_warmup */
    double peak;
    uint64_t warmup, total; /* steps */
};
/* `warmup_steps` below 1 is a share of `total`, rounded up. */
struct at_schedule at_schedule_make(const char *type, double peak, double warmup_steps,
                                    uint64_t total);
/* Warm-up t / max(1, warmup), so the first update has rate 0 when there is one; then linear:
 * (T - t) / max(1, T - w); cosine: (1 + cos(pi p)) / 2 with p = (t - w) / max(1, T - w). */
double at_schedule_at(const struct at_schedule *schedule, uint64_t t);

#endif
