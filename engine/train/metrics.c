#include "metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void add_labelled(struct at_tally *t, const struct at_row *row,
                         const struct at_row_result *r)
{
    const struct at_segment_result *p = &r->policy[0];
    const int k = row->desirable ? 0 : 1;

    t->labelled[k]++;
    t->logp[k] += p->logp;
    t->logit[k] += p->logit_mean;
    t->tokens[k] += p->n;
    t->score[k] += r->pair.score_chosen;
    t->entropy += p->entropy;
    t->kl += r->kl;
}

/* The cross-entropy that a method without a reference adds, or may. */
static void add_nll(struct at_tally *t, const struct at_row *row, const struct at_row_result *r)
{
    const struct at_segment_result *chosen = &r->policy[0], *third = &r->policy[2];

    if (row->n_segments > 2) {
        t->nll -= third->logp;
        t->nll_tokens += third->n;
        t->entropy += third->entropy;
        return;
    }
    t->nll -= (double)chosen->logp + (row->prompt_targets ? (double)third->logp : 0);
    t->nll_tokens += (double)chosen->n + at_row_prompt_targets(row);
}

void at_tally_add(struct at_tally *t, const struct at_row *row, const struct at_row_result *r)
{
    double mean[2] = { 0, 0 };

    t->rows++;
    t->loss += r->pair.loss;
    if (row->kind == AT_ROWS_LABELLED) {
        add_labelled(t, row, r);
        return;
    }
    for (uint32_t k = 0; k < row->n_segments && k < 2; k++) {
        const struct at_segment_result *p = &r->policy[k];
        t->logp[k] += p->logp;
        t->logit[k] += p->logit_mean;
        t->entropy += p->entropy;
        t->tokens[k] += p->n;
        mean[k] = p->n > 0 ? (double)p->raw_logp / p->n : 0;
    }
    t->hits += r->policy[0].hits;
    if (row->n_segments < 2)
        return;
    t->score[0] += r->pair.score_chosen;
    t->score[1] += r->pair.score_rejected;
    t->wins += r->pair.score_chosen > r->pair.score_rejected;
    add_nll(t, row, r);
    t->log_odds += r->pair.log_odds;
    t->log_ratio -= log1p(exp(-(double)r->pair.log_odds));
    t->mean_logp[0] += mean[0];
    t->mean_logp[1] += mean[1];
    t->mean_logp_wins += mean[0] > mean[1];
}

void at_tally_group(struct at_tally *t, const struct at_row_result *results, uint32_t n)
{
    double low = INFINITY, high = -INFINITY;

    for (uint32_t i = 0; i < n; i++) {
        const double chosen = results[i].pair.score_chosen, other = results[i].pair.score_rejected;
        low = fmin(low, fmin(chosen, other));
        high = fmax(high, fmax(chosen, other));
    }
    t->groups++;
    t->low += low;
    t->high += high;
}

void at_metric_add(cJSON *out, const char *prefix, const char *name, double value)
{
    char key[96];
    cJSON *list = NULL;

    snprintf(key, sizeof key, "%s%s", prefix, name);
    if (isfinite(value)) {
        cJSON_AddNumberToObject(out, key, value);
        return;
    }
    cJSON_AddNullToObject(out, key);
    list = cJSON_GetObjectItemCaseSensitive(out, "nonfinite");
    if (!list)
        list = cJSON_AddArrayToObject(out, "nonfinite");
    cJSON_AddItemToArray(list, cJSON_CreateString(key));
}

static double share(double sum, double n)
{
    return n > 0 ? sum / n : 0;
}

static void write_sft(cJSON *out, const struct at_tally *t, const char *prefix)
{
    at_metric_add(out, prefix, "loss", share(t->loss, t->tokens[0]));
    at_metric_add(out, prefix, "entropy", share(t->entropy, t->tokens[0]));
    at_metric_add(out, prefix, "mean_token_accuracy", share(t->hits, t->tokens[0]));
}

static const struct {
    uint32_t most;
    const char *name;
} buckets[] = { { 32, "margins/len_32" },
                { 128, "margins/len_128" },
                { 512, "margins/len_512" },
                { UINT32_MAX, "margins/len_more" } };

void at_metric_length_names(cJSON *out, const char *prefix)
{
    for (size_t k = 0; k < AT_COUNT(buckets); k++)
        at_metric_add(out, prefix, buckets[k].name, 0);
}

void at_metric_lengths(cJSON *out, const char *prefix, const struct at_row *rows,
                       const struct at_row_result *results, uint32_t n, double scale)
{
    double sum[AT_COUNT(buckets)] = { 0 }, count[AT_COUNT(buckets)] = { 0 };

    for (uint32_t i = 0; i < n; i++) {
        const struct at_pair_result *pair = &results[i].pair;
        size_t k = 0;
        while (rows[i].segment[0].n > buckets[k].most)
            k++;
        sum[k] += (double)pair->score_chosen - pair->score_rejected;
        count[k]++;
    }
    for (size_t k = 0; k < AT_COUNT(buckets); k++)
        if (count[k] > 0)
            at_metric_add(out, prefix, buckets[k].name, scale * sum[k] / count[k]);
}

/* A label that no row has is left out, as TRL does. */
static void write_labelled(cJSON *out, const struct at_tally *t, const char *prefix,
                           const struct at_metric_style *style)
{
    static const char *const names[2][3] = { { "rewards/chosen", "logps/chosen", "logits/chosen" },
                                             { "rewards/rejected", "logps/rejected",
                                               "logits/rejected" } };
    const double beta = style->beta, *n = t->labelled;

    at_metric_add(out, prefix, "loss", share(t->loss, t->rows));
    if (style->kl)
        at_metric_add(out, prefix, "kl", share(t->kl, t->rows));
    for (int k = 0; k < 2; k++) {
        if (n[k] == 0)
            continue;
        at_metric_add(out, prefix, names[k][0], beta * share(t->score[k], n[k]));
        at_metric_add(out, prefix, names[k][1], share(t->logp[k], n[k]));
        at_metric_add(out, prefix, names[k][2], share(t->logit[k], t->tokens[k]));
    }
    if (n[0] > 0 && n[1] > 0)
        at_metric_add(out, prefix, "rewards/margins",
                      beta * (share(t->score[0], n[0]) - share(t->score[1], n[1])));
    at_metric_add(out, prefix, "entropy", share(t->entropy, t->tokens[0] + t->tokens[1]));
}

/* Of reward models, under the names of TRL's RewardTrainer. */
static void write_rewards(cJSON *out, const struct at_tally *t, const char *prefix)
{
    at_metric_add(out, prefix, "loss", share(t->loss, t->rows));
    at_metric_add(out, prefix, "min_reward", share(t->low, t->groups));
    at_metric_add(out, prefix, "mean_reward", share(t->score[0] + t->score[1], 2 * t->rows));
    at_metric_add(out, prefix, "max_reward", share(t->high, t->groups));
    at_metric_add(out, prefix, "accuracy", share(t->wins, t->rows));
    at_metric_add(out, prefix, "margin", share(t->score[0] - t->score[1], t->rows));
}

static void write_pairs(cJSON *out, const struct at_tally *t, const char *prefix,
                        const struct at_metric_style *style)
{
    const double *logp = style->token_means ? t->mean_logp : t->logp, beta = style->beta;
    const double tokens = t->tokens[0] + t->tokens[1] + (style->triples ? t->nll_tokens : 0);

    at_metric_add(out, prefix, "loss", share(t->loss, t->rows));
    if (!style->without_reference) {
        at_metric_add(out, prefix, "rewards/chosen", beta * share(t->score[0], t->rows));
        at_metric_add(out, prefix, "rewards/rejected", beta * share(t->score[1], t->rows));
        at_metric_add(out, prefix, "rewards/margins",
                      beta * share(t->score[0] - t->score[1], t->rows));
        at_metric_add(out, prefix, "rewards/accuracies", share(t->wins, t->rows));
    }
    at_metric_add(out, prefix, "logps/chosen", share(logp[0], t->rows));
    at_metric_add(out, prefix, "logps/rejected", share(logp[1], t->rows));
    at_metric_add(out, prefix, "logits/chosen", share(t->logit[0], t->tokens[0]));
    at_metric_add(out, prefix, "logits/rejected", share(t->logit[1], t->tokens[1]));
    at_metric_add(out, prefix, "entropy", share(t->entropy, tokens));
    at_metric_add(out, prefix, "mean_token_accuracy", share(t->hits, t->tokens[0]));
    if (!at_method_get(style->method)->reference)
        at_metric_add(out, prefix, "nll_loss", share(t->nll, t->nll_tokens));
    if (style->log_odds) {
        at_metric_add(out, prefix, "log_odds_chosen", share(t->log_odds, t->rows));
        at_metric_add(out, prefix, "log_odds_ratio", share(t->log_ratio, t->rows));
    }
    if (*prefix)
        at_metric_add(out, prefix, "logps/accuracies", share(t->mean_logp_wins, t->rows));
}

void at_tally_write(cJSON *out, const struct at_tally *t, const char *prefix,
                    const struct at_metric_style *style)
{
    switch (at_method_get(style->method)->rows) {
    case AT_ROWS_SFT:
        write_sft(out, t, prefix);
        break;
    case AT_ROWS_PAIR:
        if (at_method_get(style->method)->value_head)
            write_rewards(out, t, prefix);
        else
            write_pairs(out, t, prefix, style);
        break;
    case AT_ROWS_LABELLED:
        write_labelled(out, t, prefix, style);
        break;
    case AT_ROWS_SAMPLE: /* at_rollout_write(); evaluations have none */
        at_metric_add(out, prefix, "loss", share(t->loss, t->rows));
        break;
    }
}

cJSON *at_share_json(struct at_share s)
{
    cJSON *out = cJSON_CreateObject();

    cJSON_AddNumberToObject(out, "value", s.value);
    cJSON_AddNumberToObject(out, "low", s.low);
    cJSON_AddNumberToObject(out, "high", s.high);
    cJSON_AddNumberToObject(out, "n", s.n);
    return out;
}
