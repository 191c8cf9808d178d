#include "plan_time.h"

#include "drift.h"
#include "evaluate.h"
#include "objective.h"
#include "peaks.h"
#include "rollout.h"

#include <math.h>

/* What a processor and a graphics card reach where nothing can be measured. */
static const double cpu_flop_per_s = 50e9, gpu_flop_per_s = 5e12;
/* plan_time.h; measured on llvmpipe with the 135M model. */
static const double of_products = 0.92, of_adapters = 0.6, of_attention = 0.5, of_sampling = 0.5;
static const double row_operations = 950;
enum { COUNTED_ROWS = 1024 };

/* Operations, and those that a product of the model's own shape does in the same time. */
struct cost {
    double flop, work;
};

static struct cost product(double flop)
{
    return (struct cost){ flop, flop / of_products };
}

static struct cost times(struct cost c, double n)
{
    return (struct cost){ n * c.flop, n * c.work };
}

static struct cost plus(struct cost a, struct cost b)
{
    return (struct cost){ a.flop + b.flop, a.work + b.work };
}

/* A pass over so many tokens in so many layers. */
static struct cost pass_cost(const struct at_useful *u, const struct at_model_config *m,
                             double tokens, double layers)
{
    return (struct cost){ at_useful_total(u),
                          (u->base + u->head) / of_products + u->adapters / of_adapters +
                              u->attention / of_attention +
                              row_operations * tokens * layers * (m->C + m->F) };
}

/* Operations of the layers' products in a forward pass over rows: 2 a weight and token. */
static double layers_flop(const struct at_model_config *m, double tokens)
{
    return 2 * tokens * m->L * at_layer_weights(m);
}

/* Passes over rows, each once. */
struct passes {
    double tokens, targets;
    struct cost policy, backward, reference; /* the reference: the policy's own base */
    double head;                             /* operations of the head in one of them */
};

/* riders: NULL, or (n) those that ride behind them. */
static AT_CHECKED count_passes(struct passes *out, const struct at_run *run,
                               const struct at_row *rows, const struct at_row *riders,
                               uint32_t n_rows)
{
    const struct at_decoder *decoder = &run->engine.decoder;
    const struct at_model_config *m = &run->engine.model.config;
    const uint32_t n = n_rows < COUNTED_ROWS ? n_rows : COUNTED_ROWS;
    struct at_useful policy = { 0 }, backward = { 0 }, reference = { 0 };
    double counted = 0, scale = 0;
    struct at_slab slab = { 0 };
    enum at_status st;

    *out = (struct passes){ 0 };
    TRY(at_slab_init(&slab, decoder->capacity));
    for (uint32_t i = 0; i < n_rows; i++) {
        out->tokens += at_row_tokens(&rows[i]) + (riders ? riders[i].segment[0].n : 0);
        out->targets += at_row_targets(&rows[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t k = (uint64_t)i * n_rows / n;
        const struct at_row *row = &rows[k], *rider = riders ? &riders[k] : NULL;

        if (rider)
            at_slab_fill_riders(&slab, &row, &rider, 1);
        else
            at_slab_fill(&slab, &row, 1);
        at_useful_forward(&policy, decoder, &slab, AT_PASS_POLICY_TRAIN);
        at_useful_forward(&reference, decoder, &slab, AT_PASS_REFERENCE);
        at_useful_backward(&backward, decoder, &slab);
        counted += slab.n_tokens;
    }
    scale = counted > 0 ? out->tokens / counted : 0;
    out->head = scale * policy.head;
    out->policy = times(pass_cost(&policy, m, counted, m->L), scale);
    out->reference = times(pass_cost(&reference, m, counted, m->L), scale);
    out->backward =
        times(pass_cost(&backward, m, counted, m->L - at_decoder_lowest(decoder)), scale);
done:
    at_slab_release(&slab);
    return st;
}

/* Of a backward pass over the rows: what is computed again. Of a layer that is the last matrix of
 * the MLP, whose output no gradient reads, is left out. */
static struct cost again(const struct at_run *run, const struct passes *p)
{
    const struct at_model_config *m = &run->engine.model.config;
    const double matrix = (double)m->C * m->F / (double)at_layer_weights(m);
    const double first = m->family->ungated ? matrix : 2 * matrix;
    const uint32_t group = run->engine.decoder.group;
    const double inputs = (double)(at_div_up(m->L, group) - 1) * (group - 1) / m->L;
    const double share[] = { [AT_RECOMPUTE_NONE] = 0,
                             [AT_RECOMPUTE_MLP] = first,
                             [AT_RECOMPUTE_LAYER] = 1 - matrix,
                             [AT_RECOMPUTE_GROUP] = 1 - matrix + inputs };

    return product((run->engine.decoder.dora + share[run->engine.decoder.recompute]) *
                   layers_flop(m, p->tokens));
}

/* The reference's pass over all rows, another model's by its products alone. */
static struct cost reference_pass(const struct at_run *run, const struct passes *p)
{
    const struct at_model_config *m = &run->reference.bundle.config;

    if (!at_run_has_other_reference(run))
        return p->reference;
    return product(layers_flop(m, p->tokens) + 2 * p->targets * (m->value_head ? 1 : m->V) * m->C);
}

/* An epoch's training; mismatched rows of the KL term go forward only. */
static struct cost epoch(const struct at_run *run, const struct passes *p)
{
    const double kl = at_objective_reads_kl(run->config) ? 1 : 0;

    return plus(times(p->policy, 1 + kl), plus(p->backward, again(run, p)));
}

/* The reference once a row: of an epoch. */
static struct cost references(const struct at_run *run, const struct passes *p)
{
    const double kl = at_objective_reads_kl(run->config) ? 1 : 0;

    return times(reference_pass(run, p), at_objective_reads_reference(run->config) ? 1 + kl : 0);
}

static void plan_epochs(struct plan_time *out, const struct at_run *run, const struct passes *p)
{
    const double part = run->packs_per_epoch / fmax(1, run->data.train_packs.n);
    const double epochs = (double)run->total_steps / (double)run->steps_per_epoch * part;
    const struct cost first = plus(epoch(run, p), references(run, p));
    const bool ahead = run->config->precompute_ref_log_probs || run->engine.model.trainable ||
                       at_run_has_other_reference(run); /* precompute.h */
    const struct cost all =
        plus(times(epoch(run, p), epochs), times(references(run, p), ahead ? 1 : fmin(1, epochs)));

    out->flop = all.flop;
    out->total_s = all.work / out->flop_per_s;
    out->step_s = first.work * part / (double)run->steps_per_epoch / out->flop_per_s;
}

/* Three parts of a run that draws samples, were all of them as long as they may become and their
 * prompts as the longest; a command's are its own. */
static void plan_rollouts(struct plan_time *out, const struct at_run *run, const struct passes *p)
{
    const struct at_online *o = &run->online;
    const struct at_model_config *m = &run->engine.model.config;
    const double n = (double)o->n_groups * o->group, steps = (double)run->total_steps;
    const double rollouts = ceil(steps / at_rollout_steps(run->config));
    const double tokens = (double)o->n_groups * o->prompts.longest + n * o->n_new;
    const double sampling = at_online_draws(o) * rollouts *
                            (layers_flop(m, tokens) + 2 * n * o->n_new * (double)m->V * m->C);
    const struct cost step =
        plus(times(plus(p->policy, plus(p->backward, again(run, p))),
                   1.0 / at_rollout_parts(run->config)),
             times(p->policy, at_rollout_forwards(run) * rollouts / fmax(1, steps)));
    struct cost scoring;
    uint32_t models = 0;

    for (uint32_t k = 0; k < at_rewards_count(o->rewards); k++)
        models += at_rewards_kind(o->rewards, k) == AT_REWARD_MODEL;
    scoring = product(rollouts * models * layers_flop(m, p->tokens));
    out->flop = sampling + scoring.flop + steps * step.flop;
    out->sampling_s = sampling / of_sampling / out->flop_per_s;
    out->scoring_s = scoring.work / out->flop_per_s;
    out->training_s = steps * step.work / out->flop_per_s;
    out->step_s = step.work / out->flop_per_s;
    out->total_s = out->sampling_s + out->scoring_s + out->training_s;
}

/* ---- evaluations ---- */

/* What evaluations of a run need to be known of. */
struct evaluations {
    const struct at_run *run;
    struct at_objective objective;
    double n;
    double without; /* of them, those that find no values of the reference (trainer.c) */
};

static struct evaluations evaluations_of(const struct at_run *run)
{
    struct evaluations out = { .run = run, .n = (double)at_evaluations_all(run) };
    const struct at_config *c = run->config;
    const uint64_t every = at_run_every(run, c->eval_strategy, c->eval_steps);
    uint64_t moved = 0; /* how often the reference had moved at the last one */

    at_objective_make(&out.objective, c, run->own);
    if (!out.objective.reference || at_run_has_other_reference(run))
        return out;
    out.without = 1;
    for (uint64_t step = 1; c->sync_ref_model && step <= run->total_steps; step++) {
        if (step != run->total_steps && (every == 0 || step % every != 0))
            continue;
        out.without += step / c->ref_model_sync_steps != moved;
        moved = step / c->ref_model_sync_steps;
    }
    return out;
}

/* Adds passes over rows: so many of the policy and of its own reference, with the drift or not,
 * whose head has gradient rows: not useful operations, but as much work once more. */
static void add_passes(struct plan_evaluations *out, struct cost *all, const struct passes *p,
                       double policy, double reference, bool drift)
{
    out->tokens += policy * p->tokens;
    out->ref_forward_tokens += reference * p->tokens;
    *all = plus(*all, plus(times(p->policy, policy), times(p->reference, reference)));
    all->work += drift ? policy * p->head / of_products : 0;
}

/* Adds one pass over rows of the other model that is the reference. */
static void add_other(struct plan_evaluations *out, struct cost *all, const struct at_run *run,
                      const struct at_row *rows, uint32_t n)
{
    struct passes p = { 0 };

    for (uint32_t i = 0; i < n; i++) {
        p.tokens += at_row_tokens(&rows[i]);
        p.targets += at_row_targets(&rows[i]);
    }
    out->ref_forward_tokens += p.tokens;
    *all = plus(*all, reference_pass(run, &p));
}

/* Adds all evaluations of n held-out rows and their mismatched rows (NULL: none), which ride behind
 * them or come before (kl.h). */
static AT_CHECKED add_rows(struct plan_evaluations *out, struct cost *all,
                           const struct evaluations *e, const struct at_row *rows,
                           const struct at_row *kl, bool rides, uint32_t n)
{
    const bool drift = at_drift_is_of_eval(e->run), coupled = e->objective.coupled;
    struct passes p;
    enum at_status st;

    TRY(count_passes(&p, e->run, rows, rides ? kl : NULL, n));
    add_passes(out, all, &p, e->n, drift ? e->n : coupled ? 0 : e->without, drift);
    if (coupled)
        add_passes(out, all, &p, e->n, e->without, false);
    if (kl && !rides) {
        TRY(count_passes(&p, e->run, kl, NULL, n));
        add_passes(out, all, &p, e->n, e->without, false);
    }
    if (at_run_has_other_reference(e->run)) {
        add_other(out, all, e->run, rows, n);
        add_other(out, all, e->run, kl, kl ? n : 0);
    }
done:
    return st;
}

/* With mismatched rows, piece by piece as evaluate.c computes them: of each they ride or do not. */
static AT_CHECKED add_pieces(struct plan_evaluations *out, struct cost *all,
                             const struct evaluations *e)
{
    const struct at_packs *d = &e->run->data.eval_packs;
    const struct at_row *kl = e->run->data.eval_kl;
    const uint32_t batch = e->run->config->per_device_eval_batch_size,
                   piece = at_evaluation_piece(batch);
    const struct at_row **of = NULL, **riders = NULL;
    enum at_status st = AT_OK;

    TRY(at_alloc(&of, piece, sizeof *of));
    TRY(at_alloc(&riders, piece, sizeof *riders));
    for (uint32_t begin = 0; begin < d->n_rows; begin += piece) {
        const uint32_t n = d->n_rows - begin < piece ? d->n_rows - begin : piece;
        for (uint32_t i = 0; i < n; i++) {
            of[i] = &d->rows[begin + i];
            riders[i] = &kl[begin + i];
        }
        TRY(add_rows(out, all, e, d->rows + begin, kl + begin,
                     at_engine_takes_riders(&e->run->engine, of, riders, n, batch), n));
    }
done:
    at_free(&of);
    at_free(&riders);
    return st;
}

static AT_CHECKED plan_evaluations(struct plan_time *time, const struct at_run *run)
{
    const struct at_packs *d = &run->data.eval_packs;
    const struct at_dataset *pairs = &run->online.reward_watch.held;
    const struct at_dataset *regression = &run->data.regression;
    const struct evaluations e = evaluations_of(run);
    struct plan_evaluations *out = &time->evaluations;
    struct cost all = { 0, 0 };
    enum at_status st = AT_OK;
    struct passes p;

    out->n = e.n;
    out->rows = run->data.has_eval ? d->n_rows : pairs->n_rows;
    if (pairs->n_rows > 0) {
        TRY(count_passes(&p, run, pairs->rows, NULL, pairs->n_rows));
        add_passes(out, &all, &p, e.n, 0, false);
    }
    if (run->data.has_eval && run->data.eval_kl)
        TRY(add_pieces(out, &all, &e));
    else if (run->data.has_eval)
        TRY(add_rows(out, &all, &e, d->rows, NULL, false, d->n_rows));
    if (run->engine.decoder.drift && regression->n_rows > 0) {
        TRY(count_passes(&p, run, regression->rows, NULL, regression->n_rows));
        add_passes(out, &all, &p, e.n, e.n, true);
    }
    out->flop = all.flop;
    out->time_s = all.work / time->flop_per_s;
done:
    return st;
}

static AT_CHECKED product_rate(struct plan_time *out, const struct at_run *run)
{
    const struct at_model_config *m = &run->engine.model.config;
    struct at_gpu *gpu = run->engine.gpu;
    const bool elsewhere = at_engine_is_elsewhere(&run->engine);
    enum at_status st = AT_DEVICE_MEMORY;
    struct at_rate rate = { 0, 0 };

    if (!elsewhere)
        st = at_product_rate(&rate, gpu, run->engine.decoder.capacity, m->F, m->C);
    out->flop_per_s = rate.best;
    out->least_flop_per_s = rate.least;
    out->measured = st == AT_OK;
    if (st == AT_DEVICE_MEMORY) {
        const bool cpu = at_gpu_get_info(gpu)->type == AT_GPU_CPU && !elsewhere;

        out->flop_per_s = cpu ? cpu_flop_per_s : gpu_flop_per_s;
        out->least_flop_per_s = out->flop_per_s;
        st = AT_OK;
    }
    return st;
}

AT_CHECKED cli_plan_time(struct plan_time *out, const struct at_run *run)
{
    const struct at_packs *d = &run->data.train_packs;
    struct passes passes;
    enum at_status st;

    *out = (struct plan_time){ 0 };
    TRY(product_rate(out, run));
    TRY(count_passes(&passes, run, d->rows, NULL, d->n_rows));
    if (run->online.is_on)
        plan_rollouts(out, run, &passes);
    else
        plan_epochs(out, run, &passes);
    TRY(plan_evaluations(out, run));
done:
    return st;
}
