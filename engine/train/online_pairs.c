#include "online_pairs.h"

#include "drift.h"
#include "loop.h"

#include <math.h>
#include <string.h>

/* ---- choosing ---- */

/* Weighted sums of the samples' rewards, less the penalty of those that did not end. */
static void sum_rewards(const struct at_loop *l, double *sums, uint32_t n_samples)
{
    const struct at_config *c = l->config;
    const struct at_online *o = &l->run->online;

    for (uint32_t i = 0; i < n_samples; i++) {
        sums[i] = at_reward_sum(o->samples[i].reward, c->reward_weights.items,
                                l->run->data.samples.n_rewards);
        if (c->is_set[AT_KEY_missing_eos_penalty] && !o->samples[i].ended)
            sums[i] -= c->missing_eos_penalty;
    }
    at_rollout_shape(c, sums, o->n_ids, n_samples);
}

static enum at_pairs_choice choose(const double sums[2])
{
    return sums[0] > sums[1] ? AT_CHOSE_FIRST : sums[1] > sums[0] ? AT_CHOSE_SECOND : AT_CHOSE_NONE;
}

static void tally(struct at_loop *l, const double *sums, uint32_t n)
{
    const struct at_online *o = &l->run->online;
    struct at_pairs_tally *t = &l->run->online.tally;
    double margin = 0, ended = 0, length = 0, decided = 0;

    for (uint32_t g = 0; g < n; g++) {
        margin += o->choice[g] == AT_CHOSE_NONE ? 0 : fabs(sums[2 * g] - sums[2 * g + 1]);
        decided += o->choice[g] == AT_CHOSE_NONE ? 0 : 1;
    }
    for (uint32_t i = 0; i < 2 * n; i++) {
        ended += o->samples[i].ended;
        length += o->n_ids[i];
    }
    l->rollout.shown.reward = at_mean_of(sums, 2 * n);
    l->rollout.shown.length = length / (2 * n);
    t->steps++;
    t->scores += l->rollout.shown.reward;
    t->margin += margin / fmax(decided, 1);
    t->ended += ended / (2 * n);
    t->length += l->rollout.shown.length;
    t->flat += 1 - decided / n;
}

/* Whether the reward is exploited. */
static AT_CHECKED watch(struct at_loop *l)
{
    enum at_status st = AT_OK;
    struct at_pairs_tally *t = &l->run->online.tally;
    const struct at_reward_watch *w = &l->run->online.reward_watch;

    if (!at_online_draws(&l->run->online))
        goto done;
    TRY(at_reward_watch_step(l, l->rollout.shown.reward, l->rollout.shown.length));
    t->repetition += w->repetition;
    t->looks += isnan(w->accuracy) ? 0 : 1;
    t->accuracy += isnan(w->accuracy) ? 0 : w->accuracy;
done:
    return st;
}

AT_CHECKED at_pairs_decide(struct at_loop *l, uint32_t n)
{
    enum at_status st = AT_OK;
    struct at_online *o = &l->run->online;
    double *sums = NULL, *x = NULL, flat = 0;

    TRY(at_alloc(&sums, 2ul * n, sizeof *sums));
    TRY(at_alloc(&x, 2ul * n, sizeof *x));
    sum_rewards(l, sums, 2 * n);
    for (uint32_t g = 0; g < n; g++) {
        o->choice[g] = (uint8_t)choose(sums + 2ul * g);
        flat += o->choice[g] == AT_CHOSE_NONE ? 1 : 0;
    }
    at_reward_tally_add(&o->tally.rewards, &l->run->data.samples, NULL, x, 2 * n);
    tally(l, sums, n);
    TRY(watch(l));
    TRY(at_online_write(l, n));
    TRY(at_online_look(o, sums, 2 * n, flat / n));
done:
    at_free(&sums);
    at_free(&x);
    return st;
}

/* ---- a step ---- */

AT_CHECKED at_pairs_begin(struct at_loop *l, uint32_t n)
{
    return at_drift_is_of_samples(l->run) ? at_drift_measure_samples(l, n) : AT_OK;
}

void at_pairs_tally_step(struct at_loop *l, uint32_t n)
{
    struct at_pairs_tally *t = &l->run->online.tally;
    double kl = 0, entropy = 0, tokens = 0;

    for (uint32_t i = 0; i < n; i++)
        for (int k = 0; k < 2; k++) {
            const double logp = l->window[i].policy[k].raw_logp;
            if (l->what.reference)
                kl += logp - l->window[i].reference[k].raw_logp;
            entropy -= logp;
            tokens += l->window[i].policy[k].n;
        }
    t->kl += kl / (2 * n);
    t->entropy += entropy / (2 * n);
    if (l->what.reference)
        l->rollout.shown.kl = kl / fmax(tokens, 1);
}

void at_pairs_write(cJSON *line, struct at_loop *l)
{
    struct at_pairs_tally *t = &l->run->online.tally;
    const double steps = t->steps, kl = t->kl / steps, beta = l->config->beta;

    if (steps == 0)
        return;
    if (l->what.reference) {
        at_metric_add(line, "objective/", "kl", kl);
        at_metric_add(line, "objective/", "non_score_reward", -beta * kl);
        at_metric_add(line, "objective/", "rlhf_reward", t->scores / steps - beta * kl);
    }
    at_metric_add(line, "objective/", "scores", t->scores / steps);
    at_metric_add(line, "objective/", "scores_margin", t->margin / steps);
    at_metric_add(line, "objective/", "entropy", t->entropy / steps);
    at_metric_add(line, "", "val/contain_eos_token", t->ended / steps);
    at_metric_add(line, "", "completions/mean_length", t->length / steps);
    if (at_online_draws(&l->run->online))
        at_metric_add(line, "", "completions/repetition", t->repetition / steps);
    if (t->looks > 0)
        at_metric_add(line, "", "eval_logps/accuracies", t->accuracy / t->looks);
    at_metric_add(line, "", "frac_reward_zero_std", t->flat / steps);
    if (at_drift_is_of_samples(l->run))
        at_metric_add(line, "", "drift/kl", l->state.drift);
    at_reward_tally_write(line, &t->rewards, &l->run->data.samples, steps);
    *t = (struct at_pairs_tally){ 0 };
}
