#include "evaluate.h"

#include "drift.h"
#include "os.h"
#include "rewards.h"

#include <stdio.h>
#include <string.h>

/* ---- how many ---- */

uint64_t at_run_every(const struct at_run *run, const char *strategy, uint32_t steps)
{
    if (strcmp(strategy, "no") == 0)
        return 0;
    return strcmp(strategy, "steps") == 0 ? steps : run->steps_per_epoch;
}

uint64_t at_evaluations_made(const struct at_run *run, uint64_t steps)
{
    const struct at_config *c = run->config;
    const bool pairs = run->online.reward_watch.held.n_rows > 0;
    const uint64_t every = at_run_every(run, c->eval_strategy, c->eval_steps);

    if (!pairs && !run->data.has_eval)
        return 0;
    return 1 + (every > 0 ? steps / every : 0);
}

uint64_t at_evaluations_all(const struct at_run *run)
{
    const uint64_t ends = run->data.has_eval ? 1 : 0;

    return run->total_steps > 0 ? at_evaluations_made(run, run->total_steps - 1) + ends : ends;
}

/* ---- one of them ---- */

bool at_loop_has_row_loss(const struct at_loop *l)
{
    return l->what.kind != AT_LOSS_TOKEN;
}

static const char *best_key(const struct at_config *c)
{
    return c->metric_for_best_model ? c->metric_for_best_model : "eval_loss";
}

static bool lower_is_better(const struct at_loop *l)
{
    return strstr(best_key(l->config), "loss") != NULL;
}

/* The entry of an evaluation's line that says how good the state is, and its name. */
static const cJSON *find_best(char with_prefix[128], const struct at_config *c, const cJSON *line)
{
    const char *key = best_key(c);

    snprintf(with_prefix, 128, "%s%s", strncmp(key, "eval_", 5) ? "eval_" : "", key);
    return at_json_find(line, with_prefix);
}

AT_CHECKED at_evaluation_check(const struct at_config *c)
{
    enum at_status st = AT_OK;
    struct at_metric_style style = { .method = c->run_method, .beta = 1 };
    const struct at_tally one = { .rows = 1, .labelled = { 1, 1 } };
    cJSON *line = cJSON_CreateObject();
    struct at_buf names = { 0 };
    struct at_objective objective;
    char with_prefix[128];

    at_objective_make(&objective, c, NULL);
    style.log_odds = objective.log_odds;
    style.kl = objective.kl;
    style.triples = objective.triples;
    style.without_reference = objective.without_reference;
    at_tally_write(line, &one, "eval_", &style);
    if (at_method_get(c->run_method)->rows == AT_ROWS_PAIR && !style.without_reference)
        at_metric_length_names(line, "eval_");
    if (find_best(with_prefix, c, line))
        goto done;
    if (strcmp(with_prefix, "eval_drift/kl") == 0)
        FAIL(AT_USAGE,
             "metric_for_best_model: %s is 0 before the first step, and no later state "
             "would be better; max_drift is a limit for it",
             with_prefix);
    for (const cJSON *item = line->child; item; item = item->next)
        at_buf_printf(&names, "%s%s", item == line->child ? "" : ", ", item->string);
    TRY(at_buf_status(&names));
    FAIL(AT_USAGE, "metric_for_best_model: evaluations have no %s; they have %s", with_prefix,
         names.data);
done:
    at_buf_release(&names);
    cJSON_Delete(line);
    return st;
}

/* The value of an evaluation's line that says how good the state is. */
static AT_CHECKED judge(double *out, const struct at_loop *l, const cJSON *line)
{
    enum at_status st = AT_OK;
    char with_prefix[128];
    const cJSON *value = find_best(with_prefix, l->config, line);

    if (cJSON_IsNull(value)) /* a state that was trained may have a checkpoint behind it */
        FAIL(l->state.step > l->state.skipped ? AT_RETRY : AT_NUMERIC,
             "step %llu: %s of the held-out rows is not finite", (unsigned long long)l->state.step,
             with_prefix);
    if (!cJSON_IsNumber(value))
        FAIL(
            AT_USAGE,
            "metric_for_best_model: the held-out rows have no %s, for none has its label or length",
            with_prefix);
    *out = value->valuedouble;
done:
    return st;
}

/* Keeps the parameters when this evaluation, of the step that the run is at, is the best so far. */
static AT_CHECKED keep_best(struct at_loop *l, double value)
{
    enum at_status st = AT_OK;
    struct at_engine *e = &l->run->engine;
    const double gain = (lower_is_better(l) ? -1 : 1) * (value - l->state.best_metric);

    if (l->state.has_best && gain <= l->config->early_stopping_threshold)
        l->state.stale++;
    else
        l->state.stale = 0;
    if (l->state.has_best && gain <= 0)
        goto done;
    l->state.has_best = true;
    l->state.best_metric = value;
    l->state.best_step = l->state.step;
    if (l->config->load_best_model_at_end)
        TRY(at_params_read(e->gpu, &e->params, l->best_p, l->m, l->v));
done:
    return st;
}

/* Mean log-prob of the chosen sides: of a pair's, or of desirable rows. */
static double chosen_logp(const struct at_tally *t)
{
    const double labelled = t->labelled[0] + t->labelled[1];
    const double n = labelled > 0 ? t->labelled[0] : t->rows;

    return n > 0 ? t->logp[0] / n : 0;
}

static bool has_chosen(const struct at_loop *l)
{
    const struct at_method_row *m = at_method_get(l->run->method);

    return m->rows != AT_ROWS_SFT && !m->value_head;
}

/* Likelihood displacement (Razin et al. 2024, arXiv 2410.08847): chosen sides become unlikely
 * although only the margin is asked for. */
static void watch_chosen(const struct at_loop *l, const struct at_tally *t, struct at_outcome *out)
{
    const double now = chosen_logp(t), before = out->chosen_logp_before;

    if (out->displaced_step > 0 || !(now < AT_DISPLACED * before))
        return;
    out->displaced_step = l->state.step;
    out->displaced_logp = now;
    at_warn("displacement",
            "step %llu: the chosen log-probs of the held-out rows fell from %.2f to %.2f "
            "(likelihood displacement); an anchor holds them (dpo: loss_type [\"sigmoid\", "
            "\"sft\"], cpo: cpo_alpha), so may a lower learning_rate; `attune data lint` names "
            "sides that are too alike",
            (unsigned long long)l->state.step, before, now);
}

static void set_after(const struct at_loop *l, const struct at_tally *t,
                      const struct at_evaluation *e, struct at_outcome *out)
{
    out->evaluated_step = l->state.step;
    out->after = e->accuracy;
    out->eval_loss_after = e->loss;
    out->chosen_logp_after = chosen_logp(t);
    out->margin_after = (t->score[0] - t->score[1]) / t->rows;
    out->drift_after = l->state.drift;
}

static void eval_outcome(const struct at_loop *l, const struct at_tally *t,
                         const struct at_evaluation *e, bool before, struct at_outcome *out)
{
    out->has_eval = true;
    out->has_drift = l->run->engine.decoder.drift;
    if (before) {
        out->before = e->accuracy;
        out->eval_loss_before = e->loss;
        out->chosen_logp_before = chosen_logp(t);
        out->margin_before = (t->score[0] - t->score[1]) / t->rows;
        out->drift_before = l->state.drift;
    }
    if (before || !l->config->load_best_model_at_end || l->state.best_step == l->state.step)
        set_after(l, t, e, out);
}

uint32_t at_evaluation_piece(uint32_t batch)
{
    return (uint32_t)at_round_up(32, batch);
}

/* Computes the held-out rows in pieces, so that one sees it go on and a signal is answered. */
static AT_CHECKED evaluate_rows(struct at_loop *l, struct at_tally *tally, struct at_evaluation *e)
{
    enum at_status st = AT_OK;
    struct at_run *run = l->run;
    struct at_compute what = l->what;
    const uint32_t batch = l->config->per_device_eval_batch_size,
                   piece = at_evaluation_piece(batch);
    double count = 0;

    what.train = false;
    what.drift = at_drift_is_of_eval(run);
    what.weight = 1;
    what.loss_params.mean_n_chosen = at_objective_mean_chosen(l->eval_rows, e->rows);
    if (run->events.evaluation)
        run->events.evaluation(run->events.context, e);
    while (e->done < e->rows) {
        const uint32_t n = e->rows - e->done < piece ? e->rows - e->done : piece;
        TRY(at_kl_begin(&l->eval_kl, &run->engine, l->eval_order + e->done, l->eval + e->done, n,
                        batch, &what));
        TRY(at_coupling_rows(&l->coupling, &run->engine, l->eval_rows + e->done, l->eval + e->done,
                             n, batch, &what));
        TRY(at_engine_finish(&run->engine));
        at_objective_score(&l->objective, l->eval + e->done, n);
        for (uint32_t i = e->done; i < e->done + n; i++)
            at_tally_add(tally, l->eval_rows[i], &l->eval[i]);
        e->done += n;
        at_loop_drop(l);
        if (e->done < e->rows && run->events.evaluation)
            run->events.evaluation(run->events.context, e);
        if (at_signal_status() != AT_OK)
            FAIL(at_signal_status(), "stopped by a signal while evaluating at step %llu",
                 (unsigned long long)l->state.step);
    }
    at_tally_group(tally, l->eval, e->rows);
    count = at_loop_has_row_loss(l) ? tally->rows : tally->tokens[0];
    e->loss = count > 0 ? tally->loss / count : 0;
    e->accuracy = at_share_of(tally->mean_logp_wins, tally->rows);
done:
    return st;
}

double at_loop_reward_scale(const struct at_loop *l)
{
    return at_method_get(l->run->method)->value_head ? 1 : l->config->beta;
}

struct at_metric_style at_loop_style(const struct at_loop *l)
{
    return (struct at_metric_style){ .method = l->run->method,
                                     .triples = l->objective.triples,
                                     .beta = at_loop_reward_scale(l),
                                     .token_means = l->objective.token_means,
                                     .log_odds = l->objective.log_odds,
                                     .kl = l->objective.kl,
                                     .without_reference = l->objective.without_reference };
}

/* How far the state is from the start: drift/chosen, by the chosen sides' mean log-prob a token,
 * and drift/kl. `out`: what the start was; NULL: this is it. */
static AT_CHECKED add_drift(cJSON *line, struct at_loop *l, const struct at_tally *t,
                            struct at_evaluation *e, const struct at_outcome *out)
{
    enum at_status st = AT_OK;
    const double moved = out ? chosen_logp(t) - out->chosen_logp_before : 0;

    if (has_chosen(l) && t->tokens[0] > 0)
        at_metric_add(line, "eval_", "drift/chosen",
                      moved * (t->labelled[0] > 0 ? t->labelled[0] : t->rows) / t->tokens[0]);
    e->has_drift = l->run->engine.decoder.drift;
    if (!e->has_drift)
        goto done;
    TRY(at_drift_measure(l, &l->state.drift));
    e->drift = l->state.drift;
    at_metric_add(line, "eval_", "drift/kl", e->drift);
done:
    return st;
}

AT_CHECKED at_evaluate(struct at_loop *l, bool before, struct at_outcome *out)
{
    enum at_status st = AT_OK;
    const struct at_metric_style style = at_loop_style(l);
    struct at_run *run = l->run;
    const double begin_s = at_now_s();
    const bool pairs = at_method_get(run->method)->rows == AT_ROWS_PAIR;
    struct at_evaluation e = { .step = l->state.step,
                               .rows = run->data.eval_packs.n_rows,
                               .pairs = pairs,
                               .rewards = at_method_get(run->method)->value_head };
    struct at_tally tally = { 0 };
    cJSON *line = NULL;
    double value = 0;

    if (!run->data.has_eval)
        goto done;
    TRY(evaluate_rows(l, &tally, &e));
    line = at_records_line(l->state.step, (double)l->state.step / (double)run->steps_per_epoch);
    at_tally_write(line, &tally, "eval_", &style);
    if (pairs && !style.without_reference)
        at_metric_lengths(line, "eval_", run->data.eval.rows, l->eval, e.rows,
                          at_loop_reward_scale(l));
    TRY(add_drift(line, l, &tally, &e, before ? NULL : out));
    e.ends = true;
    e.time_s = at_now_s() - begin_s;
    if (run->events.evaluation)
        run->events.evaluation(run->events.context, &e);
    cJSON_AddNumberToObject(line, "n", e.rows);
    TRY(at_records_metrics(l->records, line));
    TRY(at_reward_histograms(l, l->state.step, "eval_", l->eval_rows, l->eval, e.rows));
    TRY(at_records_rows(l->records, l->state.step, l->eval_rows, l->eval, e.rows, &style));
    TRY(judge(&value, l, line));
    l->state.passed_over = at_drift_is_over(l);
    if (!l->state.passed_over)
        TRY(keep_best(l, value));
    if (!before)
        at_plateau_step(&l->state.plateau, &l->schedule, value, lower_is_better(l));
    eval_outcome(l, &tally, &e, before, out);
    if (has_chosen(l))
        watch_chosen(l, &tally, out);
    l->state.passed_metric = value;
    l->passed = *out;
    set_after(l, &tally, &e, &l->passed);
    l->state.evaluated = l->state.step;
done:
    l->state.evaluated_s += at_now_s() - begin_s;
    cJSON_Delete(line);
    return st;
}

AT_CHECKED at_evaluation_resume(struct at_loop *l, struct at_outcome *out)
{
    enum at_status st = AT_OK;

    if (!l->state.passed_over || at_drift_is_over(l))
        goto done;
    l->state.passed_over = false;
    TRY(keep_best(l, l->state.passed_metric));
    if (l->state.best_step == l->state.step)
        *out = l->passed;
done:
    return st;
}
