#include "trainer.h"

#include "checkpoint.h"
#include "drift.h"
#include "epoch.h"
#include "evaluate.h"
#include "finite.h"
#include "precompute.h"
#include "rewards.h"
#include "rng.h"
#include "shared_reference.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- one step ---- */

static AT_CHECKED start_epoch(struct at_loop *l)
{
    l->state.cursor = 0;
    return at_epoch_order(l->order, l->run, l->state.epoch);
}

/* The packed rows of a step, or of its rollout: which data rows they are. */
static uint32_t pick_rows(struct at_loop *l)
{
    const struct at_packs *d = &l->run->data.train_packs;
    const uint64_t begin = l->state.cursor;
    const uint32_t steps = at_rollout_steps(l->config), group = l->run->data.samples.group;
    const uint32_t rows = l->run->rows_per_step * at_rollout_parts(l->config);
    const uint32_t n_packs = rows / (group > 0 ? group : 1);
    uint32_t n = 0;

    for (uint32_t k = 0; k < n_packs && l->state.cursor < l->run->packs_per_epoch; k++) {
        const uint32_t pack = at_rollout_pack(l, k, l->order[l->state.cursor++]);
        for (uint32_t i = d->begin[pack]; i < d->begin[pack + 1]; i++)
            l->picked[n++] = i;
    }
    if ((l->state.step + 1) % steps != 0) /* the next step is over the same rows */
        l->state.cursor = begin;
    return n;
}

/* The n rows picked, and what one of them weighs. */
static double take_rows(struct at_loop *l, uint32_t n)
{
    const struct at_packs *d = &l->run->data.train_packs;
    const bool fresh = l->state.step % at_rollout_steps(l->config) == 0;
    double count = 0;

    for (uint32_t k = 0; k < n; k++) {
        const uint32_t i = l->picked[k];
        l->window_rows[k] = &d->rows[i];
        l->window[k] = l->results[i];
        count += at_loop_has_row_loss(l) ? 1 : at_row_targets(&d->rows[i]);
        l->state.num_tokens += fresh ? at_row_tokens_unshared(&d->rows[i]) : 0;
    }
    return 1 / fmax(count, 1); /* packed rows may be without targets */
}

/* Whether dropout changes log-probs before the first update: B is not zero. */
static bool dropped_from_the_start(const struct at_engine *e)
{
    return e->decoder.dropout.p > 0 && e->n_adapters > 0 && !e->stack[e->n_adapters - 1]->zero;
}

/* At a fresh step 0 policy and reference agree bit for bit, rewards are 0 and the loss is its row's
 * value at zero statistics (DESIGN.md 1.7); WPO multiplies it by the device's exponentials. */
static AT_CHECKED check_step0(const struct at_loop *l, uint32_t n)
{
    enum at_status st = AT_OK;
    const double tolerance = l->what.loss_params.use_weighting ? 1e-5 : 1e-6;

    if (l->state.step != 0 || !l->what.reference || at_run_has_other_reference(l->run))
        goto done;
    if (dropped_from_the_start(&l->run->engine)) {
        at_warn("step0", "step 0 is not checked: with lora_dropout over an adapter that is not "
                         "zero, policy and reference differ from the start");
        goto done;
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct at_row_result *r = &l->window[i];
        double want = r->pair.loss;
        for (uint32_t k = 0; k < l->window_rows[i]->n_segments; k++)
            // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-*): bits are meant
            if (memcmp(&r->policy[k].logp, &r->reference[k].logp, sizeof(float)) != 0)
                FAIL(AT_INTERNAL,
                     "step 0, line %u: policy (%.9g) and reference (%.9g) log-probs differ; the "
                     "reference would be wrong",
                     l->window_rows[i]->line, (double)r->policy[k].logp,
                     (double)r->reference[k].logp);
        if (!l->objective.own)
            want = at_objective_at_start(&l->objective, &l->what.loss_params, l->window_rows[i], r);
        if (fabs((double)r->pair.loss - want) > tolerance * fmax(1, fabs(want)))
            FAIL(AT_INTERNAL, "step 0, line %u: the loss is %.9g and should be %.9g",
                 l->window_rows[i]->line, (double)r->pair.loss, want);
    }
done:
    return st;
}

/* Every lora_B must have moved after the first update that had a rate and a gradient. */
static AT_CHECKED check_moved(struct at_loop *l, double rate)
{
    enum at_status st = AT_OK;
    struct at_engine *e = &l->run->engine;
    struct at_buf names = { 0 };

    if (l->state.moved_checked || rate == 0 || l->norm[0] == 0 || e->n_adapters == 0)
        goto done;
    l->state.moved_checked = true;
    TRY(at_adapter_check_moved(&names, e->gpu, e->stack[e->n_adapters - 1]));
    if (names.n > 0)
        FAIL(AT_INTERNAL, "after the first update these adapters have not moved: %s", names.data);
done:
    at_buf_release(&names);
    return st;
}

/* Seconds in steps so far: evaluations are left out. */
static double training_s(const struct at_loop *l)
{
    return at_now_s() - l->start_s - l->state.evaluated_s;
}

/* What is left behind this step: steps and evaluations, each as long as those so far were. The
 * first evaluation may have computed a reference that later ones find. */
static double eta_s(const struct at_loop *l)
{
    const uint64_t made = at_evaluations_made(l->run, l->state.step);
    const double evaluation_s = made > 0 ? l->state.evaluated_s / (double)made : 0;

    return training_s(l) / (double)(l->state.step + 1) *
               (double)(l->run->total_steps - l->state.step - 1) +
           evaluation_s * (double)(at_evaluations_all(l->run) - made);
}

/* Adds the step's rows to the window of the next line, unless they are not finite and it was
 * skipped. */
static void tally_step(struct at_loop *l, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        at_tally_add(&l->state.tally, l->window_rows[i], &l->window[i]);
    at_tally_group(&l->state.tally, l->window, n);
    at_rollout_tally_step(l, n);
    l->state.norm_sum += l->norm[0];
    l->state.logged++;
}

static AT_CHECKED log_step(struct at_loop *l, uint32_t n, double rate, double step_s, bool finite)
{
    enum at_status st = AT_OK;
    struct at_run *run = l->run;
    const struct at_metric_style style = at_loop_style(l);
    cJSON *line = NULL;
    uint64_t tokens = 0;

    for (uint32_t i = 0; i < n; i++)
        tokens += at_row_tokens(l->window_rows[i]);
    if (finite)
        tally_step(l, n);
    l->state.step_tokens += tokens;
    l->state.step_rows += n;
    TRY(at_records_timing(l->records,
                          &(struct at_step_timing){ .step = l->state.step + 1,
                                                    .tokens = tokens,
                                                    .rows = n,
                                                    .step_s = step_s,
                                                    .eta_s = eta_s(l),
                                                    .samples = at_online_draws(&run->online),
                                                    .sampling_s = run->online.sampling_s,
                                                    .scoring_s = run->online.scoring_s,
                                                    .n_sampled = run->online.n_sampled }));
    if ((l->state.step + 1) % l->config->logging_steps != 0 &&
        l->state.step + 1 != run->total_steps)
        goto done;
    if (l->state.logged == 0) /* all of its steps were skipped, which have lines of their own */
        goto done;
    line = at_records_line(l->state.step + 1,
                           (double)(l->state.step + 1) / (double)run->steps_per_epoch);
    if (l->objective.kind == AT_LOSS_POLICY)
        at_rollout_write(line, l);
    else
        at_tally_write(line, &l->state.tally, "", &style);
    if (run->online.pairs)
        at_pairs_write(line, l);
    at_metric_add(line, "", "grad_norm", l->state.norm_sum / (double)l->state.logged);
    at_metric_add(line, "", "learning_rate", rate);
    at_metric_add(line, "", "num_tokens", (double)l->state.num_tokens);
    TRY(at_records_metrics(l->records, line));
    if (finite)
        TRY(at_reward_histograms(l, l->state.step + 1, "", l->window_rows, l->window, n));
    l->state.tally = (struct at_tally){ 0 };
    l->state.norm_sum = 0;
    l->state.logged = 0;
done:
    cJSON_Delete(line);
    return st;
}

static void report(const struct at_loop *l, uint32_t n, double rate, const struct at_outcome *out)
{
    const struct at_run *run = l->run;
    const double elapsed = training_s(l);
    struct at_progress p = { .step = l->state.step + 1, .total = run->total_steps };
    double score = 0;

    if (!run->events.progress)
        return;
    for (uint32_t i = 0; i < n; i++)
        score += l->window[i].pair.score_chosen - l->window[i].pair.score_rejected;
    p.pairs = at_method_get(run->method)->rows == AT_ROWS_PAIR && !l->objective.without_reference;
    p.epoch = (double)(l->state.step + 1) / (double)run->steps_per_epoch;
    p.loss = out->loss_last;
    p.margin = at_loop_reward_scale(l) * score / n;
    p.learning_rate = rate;
    p.samples = at_online_draws(&run->online);
    if (p.samples) {
        p.reward = l->rollout.shown.reward;
        p.has_kl = at_drift_is_of_samples(run) || !isnan(l->rollout.shown.kl);
        p.kl = at_drift_is_of_samples(run) ? l->state.drift : l->rollout.shown.kl;
        p.length = l->rollout.shown.length;
        p.sampling_tokens_per_s = run->online.tokens_per_s;
    }
    p.eta_s = eta_s(l);
    p.tokens_per_s = (double)l->state.step_tokens / (elapsed - l->state.drawn_s + 1e-9);
    p.pairs_per_s = (double)l->state.step_rows / (elapsed + 1e-9);
    run->events.progress(run->events.context, &p);
}

static double step_loss(const struct at_loop *l, uint32_t n)
{
    double loss = 0;

    for (uint32_t i = 0; i < n; i++)
        loss += l->window[i].pair.loss;
    return loss * l->what.weight;
}

static double learning_rate(const struct at_loop *l)
{
    return at_schedule_has_plateau(&l->schedule) ? l->state.plateau.rate
                                                 : at_schedule_at(&l->schedule, l->state.step);
}

static AT_CHECKED train_step(struct at_loop *l, struct at_outcome *out)
{
    enum at_status st = AT_OK;
    struct at_engine *e = &l->run->engine;
    const struct at_config *c = l->config;
    const double begin_s = at_now_s(), rate = learning_rate(l);
    const struct at_adamw adamw = { .learning_rate = (float)rate,
                                    .beta1 = (float)c->adam_beta1,
                                    .beta2 = (float)c->adam_beta2,
                                    .epsilon = (float)c->adam_epsilon,
                                    .step = (uint32_t)(l->state.step + 1 - l->state.skipped) };
    struct at_rng dropout = at_rng_make(c->seed, AT_RNG_DROPOUT, (uint32_t)l->state.step, 0);
    const struct at_loop_state before = l->state;
    double evaluated_s = 0; /* on held-out pairs of rewards, which are looked at in a step */
    bool finite = true;
    uint32_t n_active = 0;
    uint32_t n = pick_rows(l);

    l->n_picked = n;
    TRY(at_online_draw(l, n));
    l->state.drawn_s += l->run->online.sampling_s + l->run->online.scoring_s;
    l->what.weight = (float)take_rows(l, n);
    l->what.dropout_key[0] = at_rng_u32(&dropout);
    l->what.dropout_key[1] = at_rng_u32(&dropout);
    l->what.loss_params.mean_n_chosen = at_objective_mean_chosen(l->window_rows, n);
    TRY(at_rollout_begin(l, &n, &n_active));
    TRY(at_kl_begin(&l->kl, e, l->picked, l->window, n, c->per_device_train_batch_size, &l->what));
    TRY(at_coupling_rows(&l->coupling, e, l->window_rows, l->window, n_active,
                         c->per_device_train_batch_size, &l->what));
    at_params_step(e->stream, &e->params, &adamw, (float)c->max_grad_norm, l->norm);
    TRY(at_engine_finish(e));
    at_objective_score(&l->objective, l->window, n);
    finite = at_step_is_finite(l, n);
    if (finite) {
        TRY(check_step0(l, n));
        TRY(check_moved(l, rate));
        for (uint32_t i = 0; i < n; i++)
            l->results[l->picked[i]] = l->window[i];
        l->state.skipped_in_row = 0;
    } else {
        TRY(at_step_skip(l, n));
    }
    out->loss_last = step_loss(l, n);
    out->reward_last = l->rollout.shown.reward;
    if (l->state.step == 0) {
        out->loss_first = out->loss_last;
        out->reward_first = out->reward_last;
    }
    evaluated_s = l->state.evaluated_s - before.evaluated_s;
    TRY(log_step(l, n, rate, at_now_s() - begin_s - evaluated_s, finite));
    report(l, n, rate, out);
done:
    if (st == AT_INTERRUPTED || st == AT_TERMINATED || st == AT_OVER_BUDGET ||
        l->run->online.is_unscored)
        l->state = before; /* while samples were drawn or judged: the step was not made */
    return st;
}

/* ---- the loop ---- */

/* Whether something that is done by `strategy` (no, steps, epoch) is due after this step. */
static bool is_due(const struct at_loop *l, const char *strategy, uint32_t steps)
{
    const uint64_t every = at_run_every(l->run, strategy, steps);

    return every > 0 && l->state.step % every == 0;
}

/* Whether early stopping ends the run. */
static bool is_stale(const struct at_loop *l)
{
    const uint32_t patience = l->config->early_stopping_patience;

    return patience > 0 && l->state.stale >= patience;
}

/* What follows a step: evaluation and checkpoint, unless a run that goes on did them before. */
static AT_CHECKED after_step(struct at_loop *l, struct at_outcome *out)
{
    enum at_status st = AT_OK;
    const struct at_config *c = l->config;
    const bool last = l->state.step == l->run->total_steps;

    if (l->state.step == 0)
        goto done;
    if (l->state.evaluated != l->state.step && (last || is_due(l, c->eval_strategy, c->eval_steps)))
        TRY(at_evaluate(l, false, out));
    if (l->saved != l->state.step && !last && !is_stale(l) && l->state.skipped_in_row == 0 &&
        is_due(l, c->save_strategy, c->save_steps))
        TRY(at_checkpoint_save(l, out));
done:
    return st;
}

static void forget_references(struct at_row_result *results, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        results[i].has_reference = false;
}

/* TR-DPO: the reference follows the policy every ref_model_sync_steps steps. */
static AT_CHECKED sync_reference(struct at_loop *l)
{
    enum at_status st = AT_OK;
    const struct at_config *c = l->config;
    const struct at_run_data *d = &l->run->data;

    if (!c->sync_ref_model || l->state.step % c->ref_model_sync_steps != 0)
        goto done;
    TRY(at_engine_sync_reference(&l->run->engine, (float)c->ref_model_mixup_alpha));
    forget_references(l->results, d->train_packs.n_rows);
    forget_references(l->eval, d->eval_packs.n_rows);
    forget_references(l->kl.results, l->kl.n);
    forget_references(l->eval_kl.results, l->eval_kl.n);
done:
    return st;
}

static AT_CHECKED train_steps(struct at_loop *l, struct at_outcome *out)
{
    enum at_status st = AT_OK;
    struct at_run *run = l->run;

    for (;;) {
        TRY(after_step(l, out));
        if (!at_drift_is_of_samples(run) && at_drift_is_over(l))
            FAIL(AT_OVER_BUDGET,
                 "step %llu: eval_drift/kl, the policy's distance from its reference, is %.4g nats "
                 "a token, further than max_drift %g",
                 (unsigned long long)l->state.step, l->state.drift, l->config->max_drift);
        if (l->state.step == run->total_steps || is_stale(l) || run->online.is_done) {
            TRY(at_drift_check_last(l));
            break;
        }
        TRY(train_step(l, out));
        at_loop_drop(l);
        l->state.step++;
        TRY(sync_reference(l));
        if (l->state.cursor == run->packs_per_epoch) {
            l->state.epoch++;
            TRY(start_epoch(l));
        }
        if (at_signal_status() != AT_OK && l->state.step < run->total_steps)
            FAIL(at_signal_status(), "stopped by a signal after step %llu of %llu",
                 (unsigned long long)l->state.step, (unsigned long long)run->total_steps);
    }
done:
    return st;
}

static AT_CHECKED loop_init(struct at_loop *l, struct at_run *run)
{
    enum at_status st = AT_OK;
    const struct at_config *c = run->config;
    const struct at_packs *train = &run->data.train_packs, *eval = &run->data.eval_packs;
    const uint64_t bytes = at_params_bytes(&run->engine.params);

    *l = (struct at_loop){ .run = run, .config = c, .rows.spills = true };
    TRY(at_schedule_make(&l->schedule, c->lr_scheduler_type, c->learning_rate, c->warmup_steps,
                         run->total_steps, c->lr_scheduler_kwargs));
    l->state.plateau = at_plateau_begin(&l->schedule);
    at_objective_make(&l->objective, c, run->own);
    l->what = (struct at_compute){ .train = true,
                                   .policy = true,
                                   .reference = l->objective.reference,
                                   .losses = l->objective.terms,
                                   .n_losses = l->objective.n,
                                   .kind = l->objective.kind,
                                   .loss_params = l->objective.params,
                                   .policy_params = l->objective.policy,
                                   .tail_discount = l->objective.tail_discount };
    if (l->objective.coupled)
        TRY(at_coupling_init(&l->coupling,
                             c->per_device_train_batch_size > c->per_device_eval_batch_size
                                 ? c->per_device_train_batch_size
                                 : c->per_device_eval_batch_size));
    TRY(at_arena_alloc(&l->rows, &l->results, train->n_rows, sizeof *l->results));
    TRY(at_arena_alloc(&l->rows, &l->eval, eval->n_rows, sizeof *l->eval));
    TRY(at_arena_alloc(&l->rows, &l->eval_rows, eval->n_rows, sizeof *l->eval_rows));
    TRY(at_arena_alloc(&l->rows, &l->eval_order, eval->n_rows, sizeof *l->eval_order));
    TRY(at_arena_alloc(&l->rows, &l->order, run->epoch_packs, sizeof *l->order));
    TRY(at_alloc(&l->picked, run->window, sizeof *l->picked));
    TRY(at_alloc(&l->window, run->window, sizeof *l->window));
    TRY(at_alloc(&l->window_rows, run->window, sizeof *l->window_rows));
    if (c->load_best_model_at_end)
        TRY(at_alloc(&l->best_p, 1, bytes));
    if (strcmp(c->save_strategy, "no") != 0 || c->resume_from_checkpoint)
        TRY(at_alloc(&l->p, 1, bytes));
    if (c->sync_ref_model && l->p)
        TRY(at_alloc(&l->reference, 1,
                     at_adapter_reference_bytes(run->engine.stack[run->engine.n_adapters - 1])));
    if (l->best_p || l->p) {
        TRY(at_alloc(&l->m, 1, bytes));
        TRY(at_alloc(&l->v, 1, bytes));
    }
    for (uint32_t i = 0; i < train->n_rows; i++) {
        l->results[i].n_segments = at_row_sums(&train->rows[i]);
        at_loop_passed(l, i);
    }
    for (uint32_t i = 0; i < eval->n_rows; i++) {
        l->eval[i].n_segments = at_row_sums(&eval->rows[i]);
        l->eval_rows[i] = &eval->rows[i];
        l->eval_order[i] = i;
        at_loop_passed(l, i);
    }
    TRY(at_rollout_init(&l->rollout, run));
    TRY(at_kl_init(&l->kl, run->data.train_kl, &run->arena, train->rows, train->n_rows,
                   run->window));
    TRY(at_kl_init(&l->eval_kl, run->data.eval_kl, &run->arena, eval->rows, eval->n_rows,
                   at_evaluation_piece(c->per_device_eval_batch_size)));
done:
    return st;
}

void at_loop_drop(const struct at_loop *l)
{
    at_run_drop(l->run);
    at_arena_drop(&l->rows);
    at_arena_drop(&l->kl.arena);
    at_arena_drop(&l->eval_kl.arena);
}

void at_loop_passed(const struct at_loop *l, uint32_t i)
{
    at_run_passed(l->run, i);
    at_arena_passed(&l->rows, i);
}

static void loop_release(struct at_loop *l)
{
    at_coupling_release(&l->coupling);
    at_arena_release(&l->rows);
    at_rollout_release(&l->rollout);
    at_kl_release(&l->kl);
    at_kl_release(&l->eval_kl);
    at_free(&l->picked);
    at_free(&l->window);
    at_free(&l->window_rows);
    at_free(&l->reference);
    at_free(&l->best_p);
    at_free(&l->p);
    at_free(&l->m);
    at_free(&l->v);
}

static AT_CHECKED write_state(struct at_loop *l, const struct at_outcome *out)
{
    enum at_status st = AT_OK;
    struct at_engine *e = &l->run->engine;

    if (l->best_p && l->state.has_best && l->state.best_step != l->state.step)
        TRY(at_params_write(e->gpu, &e->params, l->best_p, l->m, l->v));
    TRY(at_records_finish(l->records, l->run, out));
done:
    return st;
}

/* The loop at its first step, or where the checkpoint left it. */
static AT_CHECKED start(struct at_loop *l, const struct at_checkpoint *from, struct at_outcome *out)
{
    enum at_status st = AT_OK;
    uint64_t cursor = 0;
    const struct at_events *events = &l->run->events;

    l->start_s = at_now_s();
    if (events->resumed && l->config->resume_from_checkpoint)
        events->resumed(events->context, from ? at_checkpoint_path(from) : NULL);
    if (!from) {
        TRY(start_epoch(l));
        TRY(at_precompute_own(l));
        TRY(at_evaluate(l, true, out));
        goto done;
    }
    TRY(at_checkpoint_restore(l, out, from));
    TRY(at_evaluation_resume(l, out));
    cursor = l->state.cursor;
    TRY(start_epoch(l));
    l->state.cursor = cursor;
done:
    return st;
}

/* The state of the newest checkpoint of a step up to `most`, and where that was; without one NULL,
 * and the state stays. */
static AT_CHECKED roll_back(struct at_loop *l, struct at_outcome *out, uint64_t most,
                            const char **where)
{
    enum at_status st = AT_OK;
    struct at_checkpoint *last = NULL;
    char *path = NULL;

    *where = NULL;
    TRY(at_checkpoint_newest(&last, l->run, most));
    if (!last)
        goto done;
    TRY(at_checkpoint_restore(l, out, last));
    TRY(at_evaluation_resume(l, out));
    TRY(at_arena_strdup(&l->run->arena, &path, at_checkpoint_path(last)));
    *where = path;
done:
    at_checkpoint_close(&last);
    return st;
}

/* Rewards failed after some step: what was trained is worth a checkpoint. */
static bool lost_rewards(const struct at_loop *l)
{
    return l->run->online.is_unscored && l->state.step > 0;
}

/* A run that is too short for at_online_look() to end it. */
static void warn_of_flat_rewards(const struct at_loop *l)
{
    const struct at_online *o = &l->run->online;

    if (at_online_draws(o) && l->state.step > 0 && o->watch.ever == 0)
        at_warn("flat_rewards",
                "in no rollout did two replies to a prompt have different rewards: nothing was "
                "learnt from rewards; try prompts or a model that earn them at times, a higher "
                "temperature, or rewards that are less strict");
}

/* What a run leaves behind when its steps ended with `trained`: a checkpoint after a signal or
 * rewards that failed, and its files. */
static AT_CHECKED finish(struct at_loop *l, enum at_status trained, struct at_outcome *out)
{
    enum at_status st = AT_OK, saved = AT_OK;
    char *why = NULL;
    const bool stopped = trained == AT_INTERRUPTED || trained == AT_TERMINATED ||
                         trained == AT_OVER_BUDGET || lost_rewards(l);
    const bool saves = stopped && !(trained == AT_OVER_BUDGET && at_drift_is_of_samples(l->run));

    out->skipped = l->state.skipped;
    out->alarm = l->run->online.reward_watch.alarm;
    if (trained == AT_RETRY)
        TRY(roll_back(l, out, UINT64_MAX, &l->rolled_back_to));
    else if (trained == AT_OVER_BUDGET && at_drift_is_of_samples(l->run))
        TRY(roll_back(l, out, l->state.within, &l->rolled_back_to));
    out->steps = l->state.step;
    out->best_step =
        l->state.has_best && l->config->load_best_model_at_end ? l->state.best_step : l->state.step;
    out->complete = trained == AT_OK;
    out->too_far = trained == AT_OVER_BUDGET;
    out->no_spread = out->complete && l->run->online.is_done;
    out->stopped_early =
        out->complete && (is_stale(l) || out->no_spread) && l->state.step < l->run->total_steps;
    out->time_s = at_now_s() - l->start_s;
    out->tokens_per_s = (double)l->run->engine.tokens_computed / (out->time_s + 1e-9);
    if (saves && l->p && l->state.step > 0 && l->saved != l->state.step)
        saved = at_checkpoint_save(l, out);
    if (out->complete) {
        warn_of_flat_rewards(l);
        if (out->has_eval && out->best_step == 0)
            at_warn("no_gain", "no evaluation was better than the start: what was written is the "
                               "model as it was; more steps or another learning_rate may help");
    }
    if (saved != AT_OK) /* the adapter may have room where a checkpoint has none */
        TRY(at_arena_strdup(&l->run->arena, &why, at_message()));
    if (trained == AT_OK || stopped || trained == AT_NUMERIC || trained == AT_RETRY)
        TRY(write_state(l, out));
    if (saved != AT_OK)
        st = at_fail(saved, "%s", why);
done:
    return st;
}

/* The message of a run that max_drift ended: `why`, what was written and where to go on. */
static enum at_status stopped_by_drift(const struct at_loop *l, const char *why,
                                       const struct at_outcome *out)
{
    const unsigned long long step = out->best_step, saved = l->saved;
    const char *dir = l->config->output_dir;

    if (at_drift_is_of_samples(l->run) && l->rolled_back_to)
        return at_fail(AT_OVER_BUDGET,
                       "%s; the state of %s, the last good checkpoint, was written to %s", why,
                       l->rolled_back_to, dir);
    if (at_drift_is_of_samples(l->run))
        return at_fail(AT_OVER_BUDGET,
                       "%s; no checkpoint was made while it was near enough (save_steps, "
                       "save_total_limit): the state of step %llu was written to %s",
                       why, step, dir);
    if (!l->p)
        return at_fail(AT_OVER_BUDGET,
                       "%s; the state of step %llu was written to %s (save_strategy is no: there "
                       "is no checkpoint)",
                       why, step, dir);
    return at_fail(AT_OVER_BUDGET,
                   "%s; the state of step %llu was written to %s, the last checkpoint is "
                   "%s/checkpoint-%llu: go on with a higher max_drift and "
                   "--resume_from_checkpoint true",
                   why, step, dir, dir, saved);
}

AT_CHECKED at_train(struct at_run *run, struct at_outcome *out)
{
    enum at_status st = AT_OK, trained = AT_OK;
    struct at_loop l = { .run = run };
    struct at_records *records = NULL;
    struct at_checkpoint *from = NULL;
    char *why = NULL;

    *out = (struct at_outcome){ .has_pairs = at_method_get(run->method)->rows == AT_ROWS_PAIR,
                                .has_rewards = at_method_get(run->method)->value_head,
                                .has_samples = at_method_get(run->method)->draws };
    TRY(at_checkpoint_find(&from, run));
    TRY(at_records_check(run, from != NULL));
    TRY(loop_init(&l, run));
    if (run->shared)
        at_shared_reference_take(run->shared, &l);
    if (!from) /* a checkpoint has them */
        TRY(at_precompute_other(&l));
    at_reference_leave_device(&run->reference);
    TRY(run->engine.stream ? at_engine_restart(&run->engine) : at_engine_commit(&run->engine));
    TRY(at_reward_models_commit(&run->reward_models));
    TRY(at_checkpoint_clear(run, from));
    TRY(at_records_open(&records, run,
                        from ? at_checkpoint_logs(from) : (struct at_log_bytes){ 0 }));
    l.records = records;
    TRY(start(&l, from, out));
    trained = train_steps(&l, out);
    if (run->shared)
        TRY(at_shared_reference_keep(run->shared, &l));
    if (trained != AT_OK)
        TRY(at_arena_strdup(&run->arena, &why, at_message()));
    TRY(finish(&l, trained, out));
    if (trained == AT_INTERRUPTED || trained == AT_TERMINATED || lost_rewards(&l))
        st = at_fail(trained, "%s; the state so far was written to %s%s", why,
                     run->config->output_dir,
                     l.p ? ", go on with --resume_from_checkpoint true" : "");
    else if (trained == AT_OVER_BUDGET)
        st = stopped_by_drift(&l, why, out);
    else if (trained == AT_RETRY)
        st = at_fail(trained,
                     "%s; the state of %s was written to %s: start from it in another output_dir, "
                     "with a lower learning_rate",
                     why, l.rolled_back_to ? l.rolled_back_to : "the last update",
                     run->config->output_dir);
    else if (trained != AT_OK)
        st = at_fail(trained, "%s", why);
done:
    at_checkpoint_close(&from);
    loop_release(&l);
    at_records_close(&records);
    return st;
}
