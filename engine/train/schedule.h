/* Learning-rate schedules, as transformers computes them (optimization.py): the value at optimizer
 * step t (from 0). Warm-up is t / max(1, warmup), so the first update has rate 0 when there is one
 * (warmup_stable_decay may have another). */
#ifndef AT_SCHEDULE_H
#define AT_SCHEDULE_H

#include "status.h"

enum at_ramp { AT_RAMP_LINEAR, AT_RAMP_COSINE, AT_RAMP_1_SQRT };
enum at_best { AT_BEST_BY_METRIC, AT_BEST_MIN, AT_BEST_MAX };

struct at_schedule {
    const struct at_schedule_row *row; /* of schedules.def */
    double peak;
    uint64_t warmup, total; /* steps */
    /* lr_scheduler_kwargs; NaN where not given and without a default */
    double num_cycles, power, lr_end, timescale, min_lr, min_lr_rate, min_lr_ratio;
    double num_decay_steps, num_stable_steps;
    enum at_ramp warmup_type, decay_type;
    double factor, patience, threshold, cooldown, eps; /* reduce_lr_on_plateau */
    enum at_best mode;
    bool threshold_is_absolute;
};
/* `type` is a row of schedules.def; `warmup_steps` below 1 is a share of `total`, rounded up;
 * `kwargs` is a JSON object or NULL. A knob that the schedule does not have, or lacks, or whose
 * value has no meaning, is AT_USAGE. */
AT_CHECKED at_schedule_make(struct at_schedule *out, const char *type, double peak,
                            double warmup_steps, uint64_t total, const char *kwargs);
double at_schedule_at(const struct at_schedule *schedule, uint64_t t);

/* What reduce_lr_on_plateau (PyTorch's ReduceLROnPlateau) carries from evaluation to evaluation. */
struct at_plateau {
    double rate, best;
    uint64_t stale, cooling; /* evaluations without gain; that are still not counted */
    bool has_best;
};
/* Whether warmup_steps means something to it. */
bool at_schedule_warms_up(const struct at_schedule *schedule);
bool at_schedule_has_plateau(const struct at_schedule *schedule);
struct at_plateau at_plateau_begin(const struct at_schedule *schedule);
/* After an evaluation; `lower`: the metric's lower values are better, unless lr_scheduler_kwargs
 * has a mode. */
void at_plateau_step(struct at_plateau *plateau, const struct at_schedule *schedule, double metric,
                     bool lower);
#endif
