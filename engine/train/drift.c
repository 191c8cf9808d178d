#include "drift.h"

#include "os.h"

#include <math.h>

static const char *key_given(const struct at_config *c)
{
    return c->is_set[AT_KEY_max_drift]   ? "max_drift"
           : c->regression_dataset.n > 0 ? "regression_dataset"
                                         : NULL;
}

AT_CHECKED at_drift_check(const struct at_config *c)
{
    const char *key = key_given(c);

    if (!key || !at_key_read_by(AT_KEY_max_drift, c->run_method))
        return AT_OK;
    if (!c->use_peft)
        return at_fail(AT_USAGE,
                       "%s needs use_peft: true (full fine-tuning keeps the log-probs of its "
                       "reference, not the model)",
                       key);
    if (!at_method_get(c->run_method)->draws && !at_config_holds_out(c))
        return at_fail(AT_USAGE,
                       "%s is measured in evaluations, which need held-out rows: give eval_dataset "
                       "or eval_split",
                       key);
    return AT_OK;
}

AT_CHECKED at_drift_check_planned(const struct at_run *run)
{
    const struct at_config *c = run->config;

    if (key_given(c) && at_drift_is_wanted(c) && !run->engine.decoder.drift)
        return at_fail(AT_USAGE,
                       "%s compares states of the policy before one linear head, and here the head "
                       "%s; leave it out",
                       key_given(c),
                       run->engine.model.saved[AT_SAVED_HEAD].param
                           ? "is trained in full beside the adapter"
                           : "caps its logits (final_logit_softcapping)");
    return AT_OK;
}

bool at_drift_is_wanted(const struct at_config *c)
{
    return c->use_peft && at_key_read_by(AT_KEY_max_drift, c->run_method) &&
           (at_method_get(c->run_method)->reference || c->is_set[AT_KEY_max_drift] ||
            c->regression_dataset.n > 0);
}

bool at_drift_is_of_eval(const struct at_run *run)
{
    return run->engine.decoder.drift && run->config->regression_dataset.n == 0;
}

struct sum {
    double kl, tokens;
};

static void add_row(struct sum *sum, const struct at_row_result *r)
{
    sum->kl += r->drift;
    sum->tokens += r->policy[0].n;
}

static AT_CHECKED measure_rows(struct at_loop *l, struct sum *sum)
{
    enum { PIECE = 32 };
    enum at_status st = AT_OK;
    const struct at_dataset *d = &l->run->data.regression;
    const struct at_events *events = &l->run->events;
    struct at_evaluation e = { .step = l->state.step, .rows = d->n_rows, .regression = true };
    const struct at_compute what = { .policy = true, .drift = true };
    const struct at_row *rows[PIECE];
    struct at_row_result results[PIECE];

    for (uint32_t begin = 0; begin < d->n_rows; begin += PIECE) {
        const uint32_t n = d->n_rows - begin < PIECE ? d->n_rows - begin : PIECE;
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = &d->rows[begin + i];
            results[i] = (struct at_row_result){ .n_segments = at_row_sums(rows[i]) };
        }
        TRY(at_engine_rows(&l->run->engine, rows, results, n, &what));
        TRY(at_engine_finish(&l->run->engine));
        for (uint32_t i = 0; i < n; i++)
            add_row(sum, &results[i]);
        e.done = begin + n;
        if (events->evaluation)
            events->evaluation(events->context, &e);
        if (at_signal_status() != AT_OK)
            FAIL(at_signal_status(), "stopped by a signal while evaluating at step %llu",
                 (unsigned long long)l->state.step);
    }
done:
    return st;
}

AT_CHECKED at_drift_measure(struct at_loop *l, double *kl)
{
    enum at_status st = AT_OK;
    struct sum sum = { 0, 0 };

    if (at_drift_is_of_eval(l->run))
        for (uint32_t i = 0; i < l->run->data.eval_packs.n_rows; i++)
            add_row(&sum, &l->eval[i]);
    else
        TRY(measure_rows(l, &sum));
    *kl = sum.tokens > 0 ? sum.kl / sum.tokens : 0;
done:
    return st;
}

bool at_drift_is_of_samples(const struct at_run *run)
{
    return run->engine.decoder.drift && at_method_get(run->method)->draws;
}

AT_CHECKED at_drift_take_samples(struct at_loop *l, const struct at_row_result *rows, uint32_t n)
{
    struct sum sum = { 0, 0 };

    for (uint32_t i = 0; i < n; i++)
        add_row(&sum, &rows[i]);
    l->state.drift = sum.kl / fmax(sum.tokens, 1);
    if (at_drift_is_over(l))
        return at_fail(AT_OVER_BUDGET,
                       "step %llu: drift/kl, the policy's distance from its reference on the "
                       "samples of a rollout, is %.4g nats a token, further than max_drift %g",
                       (unsigned long long)l->state.step, l->state.drift, l->config->max_drift);
    l->state.within = l->state.step;
    return AT_OK;
}

AT_CHECKED at_drift_measure_samples(struct at_loop *l, uint32_t n)
{
    enum at_status st = AT_OK;
    const struct at_compute what = { .policy = true, .drift = true };
    struct at_row_result *results = NULL;

    TRY(at_alloc(&results, n, sizeof *results));
    for (uint32_t i = 0; i < n; i++)
        results[i].n_segments = at_row_sums(l->window_rows[i]);
    TRY(at_engine_rows(&l->run->engine, l->window_rows, results, n, &what));
    TRY(at_engine_finish(&l->run->engine));
    TRY(at_drift_take_samples(l, results, n));
done:
    at_free(&results);
    return st;
}

AT_CHECKED at_drift_check_last(struct at_loop *l)
{
    if (!at_drift_is_of_samples(l->run) || l->n_picked == 0)
        return AT_OK;
    return at_drift_measure_samples(l, l->n_picked);
}

bool at_drift_is_over(const struct at_loop *l)
{
    return l->config->is_set[AT_KEY_max_drift] && l->run->engine.decoder.drift &&
           l->state.drift > l->config->max_drift;
}
