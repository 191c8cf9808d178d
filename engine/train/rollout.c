#include "rollout.h"

#include "drift.h"
#include "loop.h"
#include "reward.h"
#include "rng.h"

#include <math.h>
#include <string.h>

/* Leave-one-out baselines, and the KL term in the reward. */
static bool is_product(const struct at_config *c)
{
    return at_rollout_reads(c, 'q');
}

uint32_t at_rollout_pack(struct at_loop *l, uint32_t k, uint32_t pack)
{
    if (!l->run->online.is_on)
        return pack;
    l->run->online.prompt[k] = pack;
    return k;
}

uint32_t at_rollout_forwards(const struct at_run *run)
{
    const bool kl = run->config->beta > 0, drift = run->engine.decoder.drift;

    if (run->online.pairs)
        return (at_objective_reads_reference(run->config) ? 1u : 0u) + (drift ? 2u : 0u);
    return (uint32_t)(kl || drift) + (uint32_t)(drift || (kl && is_product(run->config)) ||
                                                at_rollout_parts(run->config) > 1);
}

/* ---- rows ---- */

/* Some prompt's samples must differ in their rewards. */
static AT_CHECKED check_spread(const struct at_config *c, const struct at_samples *s, uint32_t n)
{
    double first = 0;

    for (uint32_t i = 0; i < n; i++) {
        const double r = at_reward_sum(s->items[i].reward, c->reward_weights.items, s->n_rewards);
        if (i % s->group == 0 || isnan(first))
            first = r;
        else if (!isnan(r) && r != first)
            return AT_OK;
    }
    return at_fail(AT_DATA,
                   "%s: the samples of every line have equal rewards: nothing could be learnt",
                   c->rollouts);
}

AT_CHECKED at_rollout_init(struct at_rollout *out, const struct at_run *run)
{
    enum at_status st = AT_OK;
    const struct at_config *c = run->config;
    const struct at_packs *d = &run->data.train_packs;
    const struct at_samples *s = &run->data.samples;
    uint64_t n = 0;

    *out = (struct at_rollout){ .n_targets = 0, .shown.kl = NAN };
    if (s->n_rewards > 0 && c->reward_weights.n > 0 && c->reward_weights.n != s->n_rewards)
        FAIL(AT_USAGE, "reward_weights: %u numbers expected, one for each reward of %s, found %zu",
             s->n_rewards, c->rollouts ? "rollouts" : "reward_funcs", c->reward_weights.n);
    if (c->rollouts && !at_rollout_has_samples(c))
        TRY(check_spread(c, &run->online.recorded.samples, run->online.recorded.rows.n_rows));
    if (!at_rollout_has_samples(c))
        goto done;
    if (c->rollouts)
        TRY(check_spread(c, s, d->n_rows));
    TRY(at_alloc(&out->first, d->n_rows, sizeof *out->first));
    for (uint32_t i = 0; i < d->n_rows; i++) {
        out->first[i] = (uint32_t)n;
        n += at_row_targets(&d->rows[i]);
    }
    if (n > UINT32_MAX)
        FAIL(AT_DATA, "rollouts has more than %u tokens", UINT32_MAX);
    out->n_targets = (uint32_t)n;
    TRY(at_alloc(&out->old, n, sizeof *out->old));
    TRY(at_alloc(&out->ref, n, sizeof *out->ref));
    TRY(at_alloc(&out->advantage, d->n_rows, sizeof *out->advantage));
    TRY(at_alloc(&out->window, run->window, sizeof *out->window));
    TRY(at_alloc(&out->rewards, run->window, sizeof *out->rewards));
    for (size_t i = 0; i < n; i++)
        out->ref[i] = NAN;
done:
    return st;
}

void at_rollout_release(struct at_rollout *r)
{
    at_free(&r->first);
    at_free(&r->old);
    at_free(&r->ref);
    at_free(&r->advantage);
    at_free(&r->window);
    at_free(&r->rewards);
}

static const struct at_sample *sample_of(const struct at_loop *l, uint32_t i)
{
    return &l->run->data.samples.items[l->picked[i]];
}

static uint32_t first_of(const struct at_loop *l, uint32_t i)
{
    return l->rollout.first[l->picked[i]];
}

static uint32_t targets_of(const struct at_loop *l, uint32_t i)
{
    return l->window_rows[i]->segment[0].n_targets;
}

/* Whether forward passes give the log-probs of the policy that drew the samples: for RLOO's KL
 * term, and for parts of a rollout that are trained on when the policy has moved. */
static bool knows_old(const struct at_config *c)
{
    return (is_product(c) && c->beta > 0) || at_rollout_parts(c) > 1;
}

/* Truncated samples, where these are masked. */
static bool is_masked(const struct at_loop *l, uint32_t i)
{
    return l->config->mask_truncated_completions && !sample_of(l, i)->ended;
}

/* Log-probs before the first step of a rollout. */
static AT_CHECKED compute_before(struct at_loop *l, uint32_t n)
{
    enum at_status st = AT_OK;
    struct at_rollout *r = &l->rollout;
    const bool old = knows_old(l->config);
    const bool drift = at_drift_is_of_samples(l->run);
    struct at_compute what = { .policy = old || drift, .drift = drift };

    for (uint32_t i = 0; i < n; i++) {
        what.reference = what.reference || (l->config->beta > 0 && isnan(r->ref[first_of(l, i)]));
        r->window[i] = (struct at_row_result){ .n_segments = 1,
                                               .tokens = { old ? r->old + first_of(l, i) : NULL,
                                                           r->ref + first_of(l, i) } };
    }
    if (what.policy || what.reference) {
        TRY(at_engine_rows(&l->run->engine, l->window_rows, r->window, n, &what));
        TRY(at_engine_finish(&l->run->engine));
    }
    if (drift)
        TRY(at_drift_take_samples(l, r->window, n));
    for (uint32_t i = 0; i < n; i++)
        if (sample_of(l, i)->old)
            memcpy(r->old + first_of(l, i), sample_of(l, i)->old,
                   targets_of(l, i) * sizeof *r->old);
done:
    return st;
}

/* Sum over the sample's tokens of old less reference log-prob (nats): the k1 estimate. */
static double sample_kl(const struct at_loop *l, uint32_t i)
{
    const float *old = l->rollout.old + first_of(l, i), *ref = l->rollout.ref + first_of(l, i);
    double sum = 0;

    for (uint32_t t = 0; t < targets_of(l, i) && !is_masked(l, i); t++)
        sum += (double)old[t] - (double)ref[t];
    return sum;
}

static void tally_lengths(struct at_rollout_tally *t, struct at_loop *l, uint32_t n)
{
    double sum[2] = { 0 }, low[2] = { INFINITY, INFINITY }, high[2] = { 0 }, ended = 0;

    for (uint32_t i = 0; i < n; i++)
        for (int k = 0; k < 1 + sample_of(l, i)->ended; k++) {
            const double length = l->window_rows[i]->segment[0].n;
            sum[k] += length;
            low[k] = fmin(low[k], length);
            high[k] = fmax(high[k], length);
            ended += k;
        }
    l->rollout.shown.length = sum[0] / n;
    t->mean_length += sum[0] / n;
    t->min_length += low[0];
    t->max_length += high[0];
    t->clipped += 1 - ended / n;
    t->ended_mean += ended > 0 ? sum[1] / ended : 0;
    t->ended_min += ended > 0 ? low[1] : 0;
    t->ended_max += high[1];
}

static enum at_reward_scale scale_of(const struct at_config *c)
{
    return strcmp(c->scale_rewards, "none") == 0    ? AT_SCALE_NONE
           : strcmp(c->scale_rewards, "batch") == 0 ? AT_SCALE_BATCH
                                                    : AT_SCALE_GROUP;
}

void at_rollout_shape(const struct at_config *c, double *sums, const uint32_t *n_tokens, uint32_t n)
{
    const struct at_reward_shape params = {
        .length_penalty = c->reward_length_penalty,
        .clip = c->reward_clip_range.n == 2 ? c->reward_clip_range.items : NULL,
    };

    at_reward_shape(sums, n_tokens, n, &params);
}

static AT_CHECKED shape(const struct at_loop *l, double *sums, uint32_t n)
{
    enum at_status st = AT_OK;
    uint32_t *n_tokens = NULL;

    TRY(at_alloc(&n_tokens, n, sizeof *n_tokens));
    for (uint32_t i = 0; i < n; i++)
        n_tokens[i] = l->window_rows[i]->segment[0].n;
    at_rollout_shape(l->config, sums, n_tokens, n);
done:
    at_free(&n_tokens);
    return st;
}

/* Whether the reward is exploited, of samples that were drawn. */
static AT_CHECKED watch(struct at_loop *l, uint32_t n)
{
    enum at_status st = AT_OK;
    struct at_rollout_tally *t = &l->rollout.tally;
    const struct at_reward_watch *w = &l->run->online.reward_watch;
    double tokens = 0;

    if (!l->run->online.is_on)
        goto done;
    for (uint32_t i = 0; i < n; i++)
        tokens += l->window_rows[i]->segment[0].n;
    TRY(at_reward_watch_step(l, l->rollout.shown.reward, tokens / n));
    t->repetition += w->repetition;
    t->pairs += isnan(w->accuracy) ? 0 : 1;
    t->accuracy += isnan(w->accuracy) ? 0 : w->accuracy;
done:
    return st;
}

/* Rewards and advantages of a new rollout. */
static AT_CHECKED judge(struct at_loop *l, uint32_t n)
{
    enum at_status st = AT_OK;
    const struct at_config *c = l->config;
    const struct at_samples *s = &l->run->data.samples;
    double flat = 0;
    const struct at_advantage_params params = { .leave_one_out = is_product(c),
                                                .scale =
                                                    is_product(c) ? AT_SCALE_NONE : scale_of(c),
                                                .normalize = c->normalize_advantages };
    struct at_rollout_tally *t = &l->rollout.tally;
    double *r = l->rollout.rewards, *advantage = NULL, *sums = NULL, kl = 0, tokens = 0;

    TRY(at_alloc(&advantage, n, sizeof *advantage));
    TRY(at_alloc(&sums, n, sizeof *sums));
    at_reward_tally_add(&t->rewards, s, l->picked, r, n);
    for (uint32_t i = 0; i < n; i++)
        r[i] = at_reward_sum(sample_of(l, i)->reward, c->reward_weights.items, s->n_rewards);
    t->reward += at_mean_of(r, n);
    t->reward_std += at_deviation_of(r, n);
    l->rollout.shown.reward = at_mean_of(r, n);
    TRY(shape(l, r, n));
    memcpy(sums, r, n * sizeof *sums);
    for (uint32_t i = 0; i < n; i++) {
        if (is_product(c) && c->beta > 0) {
            r[i] -= c->beta * sample_kl(l, i);
            kl += sample_kl(l, i);
            tokens += is_masked(l, i) ? 0 : targets_of(l, i);
        }
    }
    if (is_product(c) && c->beta > 0)
        l->rollout.shown.kl = kl / fmax(tokens, 1);
    t->sample_kl += kl / fmax(tokens, 1);
    flat = at_advantages(advantage, r, n, s->group, &params);
    t->flat += flat;
    for (uint32_t i = 0; i < n; i++)
        l->rollout.advantage[l->picked[i]] = advantage[i];
    tally_lengths(t, l, n);
    t->rollouts++;
    TRY(at_online_write(l, n));
    TRY(at_online_look(&l->run->online, sums, n, flat));
    TRY(watch(l, n));
done:
    at_free(&sums);
    at_free(&advantage);
    return st;
}

/* ---- steps ---- */

/* Whether the row has a gradient. */
static bool is_active(const struct at_loop *l, uint32_t i)
{
    const struct at_online *o = &l->run->online;

    if (o->pairs)
        return o->choice[l->picked[i]] != AT_CHOSE_NONE;
    const bool kl = l->config->beta > 0 && !is_product(l->config);

    return !is_masked(l, i) && (kl || l->rollout.advantage[l->picked[i]] != 0);
}

/* Moves the rows of the step's part to the front; *n is how many they are. */
static AT_CHECKED take_part(struct at_loop *l, uint32_t *n)
{
    enum at_status st = AT_OK;
    const struct at_config *c = l->config;
    const uint32_t parts = at_rollout_parts(c), steps = at_rollout_steps(c);
    const uint32_t part = (uint32_t)(l->state.step % parts), n_part = *n / parts;
    const uint32_t rollout = (uint32_t)(l->state.step / steps);
    struct at_rng rng = at_rng_make(at_run_data_seed(c), AT_RNG_PARTS, rollout, 0);
    uint32_t *order = NULL;

    if (parts == 1)
        goto done;
    AT_REQUIRE(*n % parts == 0);
    TRY(at_alloc(&order, *n, sizeof *order));
    memcpy(order, l->picked, *n * sizeof *order);
    if (strcmp(c->train_sampling_strategy, "random") == 0)
        at_rng_shuffle(&rng, order, *n);
    for (uint32_t i = 0; i < *n; i++) {
        l->picked[i] = order[(part * n_part + i) % *n];
        l->window_rows[i] = &l->run->data.train_packs.rows[l->picked[i]];
        l->window[i] = l->results[l->picked[i]];
    }
    *n = n_part;
done:
    at_free(&order);
    return st;
}

/* Rows with a gradient in front, in their order; behind them the others. */
static AT_CHECKED put_in_front(struct at_loop *l, uint32_t n, uint32_t *n_active)
{
    enum at_status st = AT_OK;
    uint32_t *order = NULL, place = 0;

    TRY(at_alloc(&order, n, sizeof *order));
    for (int active = 1; active >= 0; active--) {
        for (uint32_t i = 0; i < n; i++)
            if (is_active(l, i) == (active == 1))
                order[place++] = l->picked[i];
        if (active)
            *n_active = place;
    }
    for (uint32_t i = 0; i < n; i++) {
        l->picked[i] = order[i];
        l->window_rows[i] = &l->run->data.train_packs.rows[order[i]];
        l->window[i] = l->results[order[i]];
    }
done:
    at_free(&order);
    return st;
}

/* The share of the step's loss that a token's loss is. */
static double share_of(const struct at_loop *l, uint32_t i, uint32_t n, double tokens)
{
    const struct at_config *c = l->config;

    if (is_masked(l, i))
        return 0;
    if (at_rollout_reads(c, 's'))
        return 1 / ((double)n * targets_of(l, i));
    return at_rollout_reads(c, 'l') ? 1 / ((double)n * c->max_completion_length)
                                    : 1 / fmax(tokens, 1);
}

static double tokens_of(const struct at_loop *l, uint32_t n)
{
    double tokens = 0;

    for (uint32_t i = 0; i < n; i++)
        tokens += is_masked(l, i) ? 0 : targets_of(l, i);
    return tokens;
}

/* tokens: what a token's share is of, where tokens count. */
static void fill_in(struct at_loop *l, uint32_t n, double tokens, bool is_first)
{
    const struct at_config *c = l->config;
    const bool kept = c->num_iterations > 1; /* for the steps that follow */

    l->what.weight = 1;
    for (uint32_t i = 0; i < n; i++) {
        float *old = l->rollout.old + first_of(l, i);
        const bool known = !is_first || sample_of(l, i)->old || knows_old(c);
        l->window[i].sample = (struct at_sample_facts){
            .advantage = (float)l->rollout.advantage[l->picked[i]],
            .share = (float)share_of(l, i, n, tokens),
            .old = known ? old : NULL,
            .ref = c->beta > 0 && !is_product(c) ? l->rollout.ref + first_of(l, i) : NULL,
        };
        l->window[i].tokens[0] = kept && !known ? old : NULL;
    }
}

static AT_CHECKED begin(struct at_loop *l, uint32_t n)
{
    enum at_status st = AT_OK;

    TRY(compute_before(l, n));
    TRY(judge(l, n));
done:
    return st;
}

AT_CHECKED at_rollout_begin(struct at_loop *l, uint32_t *n, uint32_t *n_active)
{
    enum at_status st = AT_OK;
    const bool is_first = l->state.step % at_rollout_steps(l->config) == 0;
    struct at_compute forward = l->what;
    double tokens = 0;

    *n_active = *n;
    if (!at_rollout_has_samples(l->config) && !l->run->online.pairs)
        goto done;
    if (l->run->online.pairs)
        TRY(at_pairs_begin(l, *n));
    else if (is_first)
        TRY(begin(l, *n));
    if (at_rollout_has_samples(l->config)) {
        tokens = tokens_of(l, *n) / at_rollout_parts(l->config);
        TRY(take_part(l, n));
        if (!at_rollout_reads(l->config, 'r'))
            tokens = tokens_of(l, *n);
    }
    TRY(put_in_front(l, *n, n_active));
    if (at_rollout_has_samples(l->config))
        fill_in(l, *n, tokens, is_first);
    forward.train = false;
    if (*n_active < *n) {
        TRY(at_engine_rows(&l->run->engine, l->window_rows + *n_active, l->window + *n_active,
                           *n - *n_active, &forward));
        TRY(at_engine_finish(&l->run->engine));
    }
done:
    return st;
}

/* ---- metrics ---- */

/* Shares of clipped tokens; of samples, where a ratio is a sample's. */
static void tally_clipped(struct at_rollout_tally *t, const struct at_loop *l, uint32_t n)
{
    const bool whole = is_product(l->config) || l->objective.policy.sequence;
    double low = 0, high = 0, count = 0, least = INFINITY, most = -INFINITY;

    for (uint32_t i = 0; i < n; i++) {
        const struct at_sample_sums *s = &l->window[i].sample_sums;
        const double tokens = targets_of(l, i);
        if (is_masked(l, i) && !whole)
            continue;
        low += whole ? s->low / tokens : s->low;
        high += whole ? s->high / tokens : s->high;
        count += whole ? 1 : tokens;
        least = fmin(least, s->low / tokens);
        most = fmax(most, s->high / tokens);
    }
    t->low_mean += low / fmax(count, 1);
    t->high_mean += high / fmax(count, 1);
    t->region += (low + high) / fmax(count, 1);
    t->low_min += isfinite(least) ? least : 0;
    t->high_max += isfinite(most) ? most : 0;
}

void at_rollout_tally_step(struct at_loop *l, uint32_t n)
{
    struct at_rollout_tally *t = &l->rollout.tally;
    double loss = 0, kl = 0, entropy = 0, tokens = 0;

    if (l->run->online.pairs)
        at_pairs_tally_step(l, n);
    if (!at_rollout_has_samples(l->config))
        return;
    for (uint32_t i = 0; i < n; i++) {
        loss += l->window[i].pair.loss;
        if (is_masked(l, i)) { /* the ratio of no tokens is 1: a constant without a gradient */
            loss -= is_product(l->config) ? (double)l->window[i].sample.advantage / n : 0;
            continue;
        }
        kl += l->window[i].sample_sums.kl;
        entropy += l->window[i].policy[0].entropy;
        tokens += targets_of(l, i);
    }
    t->steps++;
    t->loss += loss;
    t->kl += kl / fmax(tokens, 1);
    if (l->config->beta > 0 && !is_product(l->config))
        l->rollout.shown.kl = kl / fmax(tokens, 1);
    t->entropy += entropy / fmax(tokens, 1);
    tally_clipped(t, l, n);
}

static void write_clipped(cJSON *line, const struct at_rollout_tally *t, const struct at_config *c)
{
    if (at_rollout_reads(c, 'c')) {
        at_metric_add(line, "", "cispo_clip_ratio", t->high_mean / t->steps);
        return;
    }
    at_metric_add(line, "", "clip_ratio/low_mean", t->low_mean / t->steps);
    at_metric_add(line, "", "clip_ratio/low_min", t->low_min / t->steps);
    at_metric_add(line, "", "clip_ratio/high_mean", t->high_mean / t->steps);
    at_metric_add(line, "", "clip_ratio/high_max", t->high_max / t->steps);
    at_metric_add(line, "", "clip_ratio/region_mean", t->region / t->steps);
}

static void write_rollouts(cJSON *line, const struct at_rollout_tally *t,
                           const struct at_samples *s)
{
    const struct {
        const char *name;
        double sum;
    } rows[] = {
        { "completions/mean_length", t->mean_length },
        { "completions/min_length", t->min_length },
        { "completions/max_length", t->max_length },
        { "completions/clipped_ratio", t->clipped },
        { "completions/mean_terminated_length", t->ended_mean },
        { "completions/min_terminated_length", t->ended_min },
        { "completions/max_terminated_length", t->ended_max },
        { "reward", t->reward },
        { "reward_std", t->reward_std },
        { "frac_reward_zero_std", t->flat },
    };

    for (size_t i = 0; i < AT_COUNT(rows); i++)
        at_metric_add(line, "", rows[i].name, rows[i].sum / t->rollouts);
    at_reward_tally_write(line, &t->rewards, s, t->rollouts);
}

void at_rollout_write(cJSON *line, struct at_loop *l)
{
    const struct at_config *c = l->config;
    const struct at_rollout_tally *t = &l->rollout.tally;

    at_metric_add(line, "", "loss", t->loss / t->steps);
    if (t->rollouts > 0)
        write_rollouts(line, t, &l->run->data.samples);
    if (c->beta > 0 && !is_product(c))
        at_metric_add(line, "", "kl", t->kl / t->steps);
    else if (c->beta > 0 && t->rollouts > 0)
        at_metric_add(line, "", "kl", t->sample_kl / t->rollouts);
    if (at_drift_is_of_samples(l->run) && t->rollouts > 0)
        at_metric_add(line, "", "drift/kl", l->state.drift);
    if (l->run->online.is_on && t->rollouts > 0)
        at_metric_add(line, "", "completions/repetition", t->repetition / t->rollouts);
    if (t->pairs > 0)
        at_metric_add(line, "", "eval_logps/accuracies", t->accuracy / t->pairs);
    at_metric_add(line, "", "entropy", t->entropy / t->steps);
    write_clipped(line, t, c);
    l->rollout.tally = (struct at_rollout_tally){ 0 };
}
