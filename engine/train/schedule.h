/* Learning-rate schedules, as transformers computes them (optimization.py): the value at optimizer
 * step t (from 0). Warm-up is t / max(1, warmup), so the first update has rate 0 when there is one
 * (warmup_stable_decay may have another). */
#ifndef AT_SCHEDULE_H
#define AT_SCHEDULE_H

#include "status.h"

enum at_ramp { AT_RAMP_LINEAR, AT_RAMP_COSINE, AT_RAMP_1_SQRT };

struct at_schedule {
    const struct at_schedule_row *row; /* of schedules.def */
    double peak;
    uint64_t warmup, total; /* steps */
    /* lr_scheduler_kwargs; NaN where not given and without a default */
    double num_cycles, power, lr_end, timescale, min_lr, min_lr_rate, min_lr_ratio;
    double num_decay_steps, num_stable_steps;
    enum at_ramp warmup_type, decay_type;
};
/* `type` is a row of schedules.def; `warmup_steps` below 1 is a share of `total`, rounded up;
 * `kwargs` is a JSON object or NULL. A knob that the schedule does not have, or lacks, or whose
 * value has no meaning, is AT_USAGE. */
AT_CHECKED at_schedule_make(struct at_schedule *out, const char *type, double peak,
                            double warmup_steps, uint64_t total, const char *kwargs);
double at_schedule_at(const struct at_schedule *schedule, uint64_t t);
#endif
