#include "schedule.h"

#include <math.h>
#include <string.h>

struct at_schedule at_schedule_make(const char *type, double peak, double warmup_steps,
                                    uint64_t total)
{
    const double warmup = warmup_steps < 1 ? ceil(warmup_steps * (double)total) : warmup_steps;

    return (struct at_schedule){
        .type = type, .peak = peak, .warmup = (uint64_t)warmup, .total = total
    };
}

double at_schedule_at(const struct at_schedule *s, uint64_t t)
{
    const uint64_t w = strcmp(s->type, "constant") == 0 ? 0 : s->warmup;
    const double span = s->total > w + 1 ? (double)(s->total - w) : 1;

    if (t < w)
        return s->peak * (double)t / (double)w;
    if (strcmp(s->type, "linear") == 0)
        return s->peak * (s->total > t ? (double)(s->total - t) / span : 0);
    if (strcmp(s->type, "cosine") == 0)
        return s->peak * fmax(0, 0.5 * (1 + cos(acos(-1) * (double)(t - w) / span)));
    return s->peak;
}
