#include "reward_watch.h"

#include "loop.h"
#include "overlap.h"

#include <math.h>
#include <string.h>

AT_CHECKED at_reward_watch_open(struct at_reward_watch *out, const struct at_run *run,
                                const struct at_dataset_params *params)
{
    enum at_status st = AT_OK;
    const struct at_strings *files = &run->config->eval_dataset;
    struct at_dataset_params p = *params;

    *out = (struct at_reward_watch){ .accuracy = NAN };
    p.kind = AT_ROWS_PAIR;
    if (files->n == 0)
        goto done;
    TRY(at_dataset_load(&out->held, files->items, files->n, &p));
    TRY(at_alloc(&out->results, out->held.n_rows, sizeof *out->results));
done:
    return st;
}

void at_reward_watch_close(struct at_reward_watch *w)
{
    at_free(&w->results);
    at_dataset_release(&w->held);
}

AT_CHECKED at_reward_watch_replies(struct at_reward_watch *w, const struct at_buf *replies,
                                   uint32_t n)
{
    enum at_status st = AT_OK;
    double sum = 0, one = 0;

    for (uint32_t i = 0; i < n; i++) {
        TRY(at_repetition(&one, replies[i].data));
        sum += one;
    }
    w->repetition = sum / n;
done:
    return st;
}

static AT_CHECKED measure(struct at_reward_watch *w, struct at_engine *engine)
{
    enum at_status st = AT_OK;
    const uint32_t n = w->held.n_rows;
    const struct at_row **rows = NULL;
    double right = 0;

    TRY(at_alloc(&rows, n, sizeof *rows));
    for (uint32_t i = 0; i < n; i++) {
        rows[i] = &w->held.rows[i];
        w->results[i] = (struct at_row_result){ .n_segments = at_row_sums(rows[i]) };
    }
    TRY(at_score_rows(engine, rows, n, w->results, false));
    for (uint32_t i = 0; i < n; i++) {
        const struct at_segment_result *side = w->results[i].policy;
        right += side[0].logp / side[0].n > side[1].logp / side[1].n ? 1 : 0;
    }
    w->accuracy = right / n;
done:
    at_free(&rows);
    return st;
}

AT_CHECKED at_reward_watch_step(struct at_loop *l, double reward, double length)
{
    enum at_status st = AT_OK;
    struct at_reward_watch *w = &l->run->online.reward_watch;
    const uint64_t step = l->state.step + 1;
    const double values[AT_ALARM_SERIES] = { [AT_ALARM_LENGTH] = length,
                                             [AT_ALARM_REPETITION] = w->repetition,
                                             [AT_ALARM_REWARD] = reward };
    double series[AT_ALARM_SERIES];
    struct at_buf text = { 0 };

    w->accuracy = NAN;
    if (w->held.n_rows > 0 && l->state.step % l->config->eval_steps == 0) {
        const double begin_s = at_now_s();
        TRY(measure(w, &l->run->engine));
        l->state.evaluated_s += at_now_s() - begin_s;
    }
    memcpy(series, values, sizeof series);
    series[AT_ALARM_ACCURACY] = w->accuracy;
    if (at_alarm_add(&w->alarm, step, series) == 0)
        goto done;
    for (int s = 0; s < AT_ALARM_SERIES; s++) {
        if (w->alarm.raised[s].step < (double)step)
            continue;
        at_buf_clear(&text);
        at_alarm_tell(&text, &w->alarm, (enum at_alarm_series)s);
        TRY(at_buf_status(&text));
        at_warn("reward_alarm", "%s", text.data);
    }
done:
    at_buf_release(&text);
    return st;
}
