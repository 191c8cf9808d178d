#include "schedule.h"

#include "json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- after the warm-up: factors of the peak at step t ---- */

/* Share of the steps after the warm-up that are done. */
static double progress(const struct at_schedule *s, double t)
{
    const double span = (double)s->total - (double)s->warmup;

    return (t - (double)s->warmup) / fmax(1, span);
}

static double wave(double cycles, double p)
{
    return 0.5 * (1 + cos(acos(-1) * cycles * 2 * p));
}

static double above(double low, double factor)
{
    return fmax(0, factor * (1 - low) + low);
}

static double constant(const struct at_schedule *s, double t)
{
    (void)s, (void)t;
    return 1;
}

static double linear(const struct at_schedule *s, double t)
{
    const double span = (double)s->total - (double)s->warmup;

    return fmax(0, ((double)s->total - t) / fmax(1, span));
}

static double cosine(const struct at_schedule *s, double t)
{
    return fmax(0, wave(s->num_cycles, progress(s, t)));
}

static double cosine_with_restarts(const struct at_schedule *s, double t)
{
    const double p = progress(s, t);

    return p >= 1 ? 0 : fmax(0, wave(0.5, fmod(s->num_cycles * p, 1)));
}

static double cosine_with_min_lr(const struct at_schedule *s, double t)
{
    const double low = isnan(s->min_lr) ? s->min_lr_rate : s->min_lr / s->peak;

    return above(low, wave(s->num_cycles, progress(s, t)));
}

static double inverse_sqrt(const struct at_schedule *s, double t)
{
    const double w = (double)s->warmup, by_warmup = w > 0 ? w : 10000;
    const double scale = isnan(s->timescale) ? by_warmup : s->timescale;

    return 1 / sqrt((t + scale - w) / scale);
}

static double polynomial(const struct at_schedule *s, double t)
{
    const double left = t > (double)s->total ? 0 : 1 - progress(s, t);

    return ((s->peak - s->lr_end) * pow(left, s->power) + s->lr_end) / s->peak;
}

static double ramp(enum at_ramp type, double cycles, double p)
{
    if (type == AT_RAMP_LINEAR)
        return 1 - p;
    return type == AT_RAMP_COSINE ? wave(cycles, p) : 1 - sqrt(p);
}

static double warmup_stable_decay(const struct at_schedule *s, double t)
{
    const double w = (double)s->warmup, decay = s->num_decay_steps;
    const double stable =
        isnan(s->num_stable_steps) ? (double)s->total - w - decay : s->num_stable_steps;

    if (t < w + stable)
        return 1;
    if (t < w + stable + decay)
        return above(s->min_lr_ratio,
                     ramp(s->decay_type, s->num_cycles, (t - w - stable) / fmax(1, decay)));
    return s->min_lr_ratio;
}

/* The peak: what is left of it is in struct at_plateau. */
static double plateau(const struct at_schedule *s, double t)
{
    return constant(s, t);
}

/* ---- the table ---- */

struct at_schedule_row {
    const char *name;
    bool warms_up;
    double (*factor)(const struct at_schedule *s, double t);
    const char *knobs; /* that it has, between spaces */
    double num_cycles; /* default */
};
static const struct at_schedule_row rows[] = {
#define SCHEDULE(name, warms_up, factor, knobs, cycles) { #name, warms_up, factor, knobs, cycles },
#include "schedules.def"
#undef SCHEDULE
};

static const struct {
    const char *name;
    size_t offset;
    double low, high; /* inclusive */
} numbers[] = {
    { "cooldown", offsetof(struct at_schedule, cooldown), 0, 1e9 },
    { "eps", offsetof(struct at_schedule, eps), 0, 100 },
    { "factor", offsetof(struct at_schedule, factor), 0, 0.999999 },
    { "lr_end", offsetof(struct at_schedule, lr_end), 0, 100 },
    { "min_lr", offsetof(struct at_schedule, min_lr), 0, 100 },
    { "min_lr_rate", offsetof(struct at_schedule, min_lr_rate), 0, 1 },
    { "min_lr_ratio", offsetof(struct at_schedule, min_lr_ratio), 0, 1 },
    { "num_cycles", offsetof(struct at_schedule, num_cycles), 0, 1e6 },
    { "num_decay_steps", offsetof(struct at_schedule, num_decay_steps), 0, 1e9 },
    { "num_stable_steps", offsetof(struct at_schedule, num_stable_steps), 0, 1e9 },
    { "patience", offsetof(struct at_schedule, patience), 0, 1e9 },
    { "power", offsetof(struct at_schedule, power), 0, 1000 },
    { "threshold", offsetof(struct at_schedule, threshold), 0, 1e9 },
    { "timescale", offsetof(struct at_schedule, timescale), 1, 1e9 },
};
static const char *const ramps[] = { "linear", "cosine", "1-sqrt" };

static bool has_knob(const struct at_schedule_row *row, const char *name)
{
    char word[64];

    snprintf(word, sizeof word, " %s ", name);
    return strlen(name) < sizeof word - 2 && strstr(row->knobs, word);
}

/* One of two words. */
static AT_CHECKED set_either(bool *second, const cJSON *value, const char *a, const char *b)
{
    *second = cJSON_IsString(value) && strcmp(value->valuestring, b) == 0;
    if (*second || (cJSON_IsString(value) && strcmp(value->valuestring, a) == 0))
        return AT_OK;
    return at_fail(AT_USAGE, "lr_scheduler_kwargs: %s: %s or %s expected", value->string, a, b);
}

static AT_CHECKED set_mode(struct at_schedule *s, const cJSON *value)
{
    enum at_status st = AT_OK;
    bool max = false;

    TRY(set_either(&max, value, "min", "max"));
    s->mode = max ? AT_BEST_MAX : AT_BEST_MIN;
done:
    return st;
}

static AT_CHECKED set_ramp(enum at_ramp *out, const cJSON *value)
{
    for (size_t i = 0; i < AT_COUNT(ramps); i++)
        if (cJSON_IsString(value) && strcmp(ramps[i], value->valuestring) == 0) {
            *out = (enum at_ramp)i;
            return AT_OK;
        }
    return at_fail(AT_USAGE, "lr_scheduler_kwargs: %s: one of linear|cosine|1-sqrt expected",
                   value->string);
}

static AT_CHECKED set_knob(struct at_schedule *s, const cJSON *value)
{
    const char *knobs = s->row->knobs; /* " a b " */
    const int length = (int)strlen(knobs) - 1;

    if (!has_knob(s->row, value->string))
        return at_fail(AT_USAGE, "lr_scheduler_kwargs: schedule %s has no %s%s%.*s", s->row->name,
                       value->string, length > 0 ? "; it has" : "", length, knobs);
    if (strcmp(value->string, "warmup_type") == 0)
        return set_ramp(&s->warmup_type, value);
    if (strcmp(value->string, "decay_type") == 0)
        return set_ramp(&s->decay_type, value);
    if (strcmp(value->string, "threshold_mode") == 0)
        return set_either(&s->threshold_is_absolute, value, "rel", "abs");
    if (strcmp(value->string, "mode") == 0)
        return set_mode(s, value);
    for (size_t i = 0; i < AT_COUNT(numbers); i++) {
        if (strcmp(numbers[i].name, value->string) != 0)
            continue;
        if (!cJSON_IsNumber(value) || !(value->valuedouble >= numbers[i].low) ||
            !(value->valuedouble <= numbers[i].high))
            return at_fail(AT_USAGE, "lr_scheduler_kwargs: %s: a number in %g..%g expected",
                           value->string, numbers[i].low, numbers[i].high);
        *(double *)(void *)((char *)s + numbers[i].offset) = value->valuedouble;
        return AT_OK;
    }
    return at_fail(AT_USAGE, "lr_scheduler_kwargs: there is no %s", value->string);
}

/* What a schedule cannot do without, and knobs that exclude each other. */
static AT_CHECKED check_knobs(const struct at_schedule *s)
{
    const bool lr = !isnan(s->min_lr), rate = !isnan(s->min_lr_rate);

    if (s->row->factor == cosine_with_min_lr && lr == rate)
        return at_fail(AT_USAGE, "lr_scheduler_kwargs: cosine_with_min_lr takes %s",
                       lr ? "min_lr or min_lr_rate, not both" : "min_lr or min_lr_rate");
    if (s->row->factor == warmup_stable_decay && isnan(s->num_decay_steps))
        return at_fail(AT_USAGE, "lr_scheduler_kwargs: warmup_stable_decay needs num_decay_steps");
    if (s->row->factor == polynomial && s->lr_end >= s->peak)
        return at_fail(AT_USAGE,
                       "lr_scheduler_kwargs: lr_end %g must be below learning_rate %g (its default "
                       "is 1e-7)",
                       s->lr_end, s->peak);
    return AT_OK;
}

AT_CHECKED at_schedule_make(struct at_schedule *out, const char *type, double peak,
                            double warmup_steps, uint64_t total, const char *kwargs)
{
    enum at_status st = AT_OK;
    cJSON *object = kwargs ? cJSON_Parse(kwargs) : NULL;

    *out = (struct at_schedule){
        .peak = peak,
        .warmup = (uint64_t)(warmup_steps < 1 ? ceil(warmup_steps * (double)total) : warmup_steps),
        .total = total,
        .power = 1,
        .lr_end = 1e-7,
        .timescale = NAN,
        .min_lr = NAN,
        .min_lr_rate = NAN,
        .num_decay_steps = NAN,
        .num_stable_steps = NAN,
        .decay_type = AT_RAMP_COSINE,
        .factor = 0.1,
        .patience = 10,
        .threshold = 1e-4,
        .eps = 1e-8
    };
    for (size_t i = 0; i < AT_COUNT(rows); i++)
        if (strcmp(rows[i].name, type) == 0)
            out->row = &rows[i];
    AT_REQUIRE(out->row);
    out->num_cycles = out->row->num_cycles;
    for (const cJSON *value = object ? object->child : NULL; value; value = value->next)
        TRY(set_knob(out, value));
    TRY(check_knobs(out));
done:
    cJSON_Delete(object);
    return st;
}

double at_schedule_at(const struct at_schedule *s, uint64_t t)
{
    const double p = (double)t / fmax(1, (double)s->warmup);

    if (!s->row->warms_up || t >= s->warmup)
        return s->peak * s->row->factor(s, (double)t);
    if (s->row->factor != warmup_stable_decay)
        return s->peak * p;
    return s->peak * above(s->min_lr_ratio, s->warmup_type == AT_RAMP_COSINE
                                                ? 0.5 * (1 - cos(acos(-1) * p))
                                            : s->warmup_type == AT_RAMP_LINEAR ? p
                                                                               : 1 - sqrt(1 - p));
}

bool at_schedule_warms_up(const struct at_schedule *s)
{
    return s->row->warms_up;
}

/* ---- plateaus ---- */

bool at_schedule_has_plateau(const struct at_schedule *s)
{
    return s->row->factor == plateau;
}

struct at_plateau at_plateau_begin(const struct at_schedule *s)
{
    return (struct at_plateau){ .rate = s->peak };
}

static bool is_better(const struct at_schedule *s, double value, double best, bool lower)
{
    const double sign = lower ? -1 : 1;

    if (s->threshold_is_absolute)
        return sign * value > sign * (best + sign * s->threshold);
    return sign * value > sign * (best * (1 + sign * s->threshold));
}

void at_plateau_step(struct at_plateau *p, const struct at_schedule *s, double metric, bool lower)
{
    const double floor = isnan(s->min_lr) ? 0 : s->min_lr;
    double rate = 0;

    if (s->mode != AT_BEST_BY_METRIC)
        lower = s->mode == AT_BEST_MIN;
    if (!p->has_best || is_better(s, metric, p->best, lower)) {
        p->best = metric;
        p->has_best = true;
        p->stale = 0;
    } else {
        p->stale++;
    }
    if (p->cooling > 0) {
        p->cooling--;
        p->stale = 0;
    }
    if ((double)p->stale <= s->patience)
        return;
    rate = fmax(p->rate * s->factor, floor);
    if (p->rate - rate > s->eps)
        p->rate = rate;
    p->cooling = (uint64_t)s->cooldown;
    p->stale = 0;
}
