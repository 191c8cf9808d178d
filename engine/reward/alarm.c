#include "alarm.h"

#include <math.h>

static const double LONGER = 1.5, MORE_REPEATED = 0.1, LESS_ACCURATE = 0.05, ERRORS = 2;

static double n_of(const struct at_alarm *a, enum at_alarm_series s)
{
    return fmin(a->count[s], AT_ALARM_WINDOW);
}

static double mean(const double *x, double n)
{
    double sum = 0;

    for (int i = 0; i < n; i++)
        sum += x[i];
    return n > 0 ? sum / n : NAN;
}

/* The squared standard error of the mean. */
static double variance_of_mean(const double *x, double n)
{
    const double m = mean(x, n);
    double sum = 0;

    for (int i = 0; i < n; i++)
        sum += (x[i] - m) * (x[i] - m);
    return sum / (n - 1) / n;
}

double at_alarm_before(const struct at_alarm *a, enum at_alarm_series s)
{
    return mean(a->first[s], n_of(a, s));
}

double at_alarm_now(const struct at_alarm *a, enum at_alarm_series s)
{
    return mean(a->last[s], n_of(a, s));
}

/* Both windows are full, and of different rollouts. */
static bool is_known(const struct at_alarm *a, enum at_alarm_series s)
{
    return a->count[s] >= 2 * AT_ALARM_WINDOW;
}

/* The change of the mean is more than the noise of both, upwards or downwards. */
static bool moved(const struct at_alarm *a, enum at_alarm_series s, double sign)
{
    const double n = AT_ALARM_WINDOW;
    const double error = sqrt(variance_of_mean(a->first[s], n) + variance_of_mean(a->last[s], n));

    return is_known(a, s) && sign * (at_alarm_now(a, s) - at_alarm_before(a, s)) > ERRORS * error;
}

static bool is_sign(const struct at_alarm *a, enum at_alarm_series s)
{
    const double before = at_alarm_before(a, s), now = at_alarm_now(a, s);

    if (!is_known(a, s))
        return false;
    switch (s) {
    case AT_ALARM_ACCURACY:
        return before - now > LESS_ACCURATE && moved(a, s, -1);
    case AT_ALARM_LENGTH:
        return now > LONGER * before || LONGER * now < before;
    case AT_ALARM_REPETITION:
        return now - before > MORE_REPEATED;
    case AT_ALARM_REWARD:
    case AT_ALARM_SERIES:
        break;
    }
    return false;
}

static void keep(struct at_alarm *a, enum at_alarm_series s, double x)
{
    const int place = (int)fmod(a->count[s], AT_ALARM_WINDOW);

    if (isnan(x))
        return;
    if (a->count[s] < AT_ALARM_WINDOW)
        a->first[s][place] = x;
    a->last[s][place] = x;
    a->count[s]++;
}

uint32_t at_alarm_add(struct at_alarm *a, uint64_t step, const double values[AT_ALARM_SERIES])
{
    const enum at_alarm_series reward = AT_ALARM_REWARD;
    uint32_t n = 0;

    for (int s = 0; s < AT_ALARM_SERIES; s++)
        keep(a, (enum at_alarm_series)s, values[s]);
    for (int i = 0; i < AT_ALARM_SERIES && moved(a, reward, 1); i++) {
        const enum at_alarm_series s = (enum at_alarm_series)i;
        if (a->raised[s].step > 0 || !is_sign(a, s))
            continue;
        a->raised[s] = (struct at_alarm_raised){
            .step = (double)step,
            .before = { at_alarm_before(a, s), at_alarm_before(a, reward) },
            .now = { at_alarm_now(a, s), at_alarm_now(a, reward) },
        };
        n++;
    }
    return n;
}

void at_alarm_tell(struct at_buf *out, const struct at_alarm *a, enum at_alarm_series s)
{
    static const char *const texts[AT_ALARM_SERIES] = {
        [AT_ALARM_ACCURACY] = "the share of held-out pairs whose chosen reply is the likelier fell",
        [AT_ALARM_LENGTH] = "the mean tokens of a reply went",
        [AT_ALARM_REPETITION] = "the share of a reply's runs of four words that are repeated rose",
    };
    const struct at_alarm_raised *r = &a->raised[s];

    at_buf_printf(out,
                  "step %.0f: the reward may be exploited: it rose from %.3g to %.3g while %s from "
                  "%.3g to %.3g (means of the first and the last %d rollouts); look at "
                  "completions.jsonl",
                  r->step, r->before[1], r->now[1], texts[s], r->before[0], r->now[0],
                  AT_ALARM_WINDOW);
}
