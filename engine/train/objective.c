#include "objective.h"

#include "loss_file.h"
#include "losses.h"

#include "divergence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int divergence;
} divergences[] = {
    { "alpha_divergence", DIVERGENCE_ALPHA },
    { "forward_kl", DIVERGENCE_FORWARD_KL },
    { "js_divergence", DIVERGENCE_JS },
    { "reverse_kl", DIVERGENCE_REVERSE_KL },
};

static int divergence_of(const struct at_config *c)
{
    for (size_t i = 0; i < AT_COUNT(divergences); i++)
        if (strcmp(divergences[i].name, c->f_divergence_type) == 0)
            return divergences[i].divergence;
    AT_BUG("no divergence %s", c->f_divergence_type);
}

static double weight_of(const struct at_config *c, size_t i)
{
    return c->loss_weights.n > 0 ? c->loss_weights.items[i] : 1;
}

/* Whether a loss of the list, with a weight above 0, reads a knob of these letters. */
static bool any_reads(const struct at_config *c, const char *letters)
{
    bool found = false;

    for (size_t i = 0; i < c->loss_type.n; i++)
        found = found || (weight_of(c, i) > 0 && strpbrk(c->losses[i]->reads, letters));
    return found;
}

bool at_objective_reads_reference(const struct at_config *c)
{
    bool reads = false;

    for (size_t i = 0; i < c->loss_type.n; i++)
        reads = reads || (weight_of(c, i) > 0 && !strchr(c->losses[i]->reads, 'p'));
    return reads && at_method_get(c->run_method)->reference;
}

static bool has_file(const struct at_config *c)
{
    bool found = false;

    for (size_t i = 0; i < c->loss_type.n; i++)
        found = found || c->losses[i]->file;
    return found;
}

static bool given(const struct at_config *c, enum at_key key)
{
    return c->is_set[key] && c->origin[key] >= AT_FROM_FILE;
}

static bool is_listed(const struct at_loss *loss, const struct at_method_row *m,
                      const char *letters)
{
    return strchr(loss->methods, m->letter) && (!*letters || strpbrk(loss->reads, letters));
}

/* "a, b or c": the losses of a method, those that read one of the letters when there are any. */
static void list_losses(struct at_buf *out, const struct at_config *c, const char *letters)
{
    size_t n = 0, left = 0;
    const struct at_loss *all = at_loss_list(&n);
    const struct at_method_row *m = at_method_get(c->run_method);

    for (size_t i = 0; i < n; i++)
        left += is_listed(&all[i], m, letters);
    for (size_t i = 0; i < n; i++)
        if (is_listed(&all[i], m, letters))
            at_buf_printf(out, "%s%s", all[i].name, --left > 1 ? ", " : left == 1 ? " or " : "");
}

/* "a, b": the methods that a loss fits. */
static void list_methods(struct at_buf *out, const struct at_loss *loss)
{
    at_buf_clear(out);
    for (int m = 0; m < AT_METHOD_COUNT; m++)
        if (strchr(loss->methods, at_method_get((enum at_method)m)->letter))
            at_buf_printf(out, "%s%s", out->n ? ", " : "", at_method_get((enum at_method)m)->name);
}

/* ---- the list ---- */

AT_CHECKED at_objective_find(const struct at_loss **out, const struct at_config *c,
                             const char *name)
{
    enum at_status st = AT_OK;
    const struct at_method_row *m = at_method_get(c->run_method);
    const bool flag = c->origin[AT_KEY_loss_type] == AT_FROM_FLAG, in_file = !flag && c->file;
    const bool own = strchr(AT_LOSS_FILE_METHODS, m->letter) != NULL;
    const char *best = NULL;
    struct at_buf names = { 0 };
    size_t n = 0, near = 1 + strlen(name) / 3;
    const struct at_loss *all = at_loss_list(&n);

    *out = at_loss_find(name);
    if (*out)
        goto done;
    for (size_t i = 0; i < n; i++) {
        const size_t d = at_edit_distance(name, all[i].name);
        if (is_listed(&all[i], m, "") && d <= near && (!best || d < near)) {
            near = d;
            best = all[i].name;
        }
    }
    list_losses(&names, c, "");
    TRY(at_buf_status(&names));
    FAIL(AT_USAGE, "%s%sloss_type: unknown loss \"%s\"; %s%s%s%s takes %s%s",
         flag      ? "--"
         : in_file ? c->file
                   : "",
         in_file ? ": " : "", name, best ? "did you mean " : "", best ? best : "", best ? "? " : "",
         m->name, names.data, own ? ", or file:PATH.h" : "");
done:
    at_buf_release(&names);
    return st;
}

/* Files of one name would be one in output_dir. */
static bool is_same(const struct at_loss *a, const struct at_loss *b)
{
    return a->file && b->file ? strcmp(a->file->name, b->file->name) == 0 : a == b;
}

static AT_CHECKED check_list(const struct at_config *c)
{
    enum at_status st = AT_OK;
    const struct at_method_row *m = at_method_get(c->run_method);
    struct at_buf names = { 0 }, methods = { 0 };
    double weight = 0;

    if (c->loss_type.n == 0)
        FAIL(AT_USAGE, "loss_type: at least one loss expected, found an empty list");
    if (c->loss_type.n > AT_MAX_LOSSES)
        FAIL(AT_USAGE, "loss_type: at most %d losses can be added up", AT_MAX_LOSSES);
    if (!m->lists && c->loss_type.n > 1)
        FAIL(AT_USAGE, "loss_type: %s takes one loss", m->name);
    for (size_t i = 0; i < c->loss_type.n; i++) {
        const char *name = c->loss_type.items[i];
        if (!strchr(c->losses[i]->methods, m->letter)) {
            list_losses(&names, c, "");
            list_methods(&methods, c->losses[i]);
            TRY(at_buf_status(&names));
            TRY(at_buf_status(&methods));
            FAIL(AT_USAGE, "loss_type %s does not fit %s, which takes %s%s%s", name, m->name,
                 names.data,
                 c->losses[i]->file ? "; losses of one's own are of pairs and fit " : "",
                 c->losses[i]->file ? methods.data : "");
        }
        for (size_t j = 0; j < i; j++)
            if (is_same(c->losses[i], c->losses[j]))
                FAIL(AT_USAGE, "loss_type names %s twice: give it once, with its loss_weights",
                     name);
    }
    if (given(c, AT_KEY_loss_weights) && c->loss_weights.n != c->loss_type.n)
        FAIL(AT_USAGE, "loss_weights: %zu numbers expected, one for each loss_type, found %zu",
             c->loss_type.n, c->loss_weights.n);
    for (size_t i = 0; i < c->loss_type.n; i++)
        weight += weight_of(c, i);
    if (weight == 0)
        FAIL(AT_USAGE,
             "loss_weights: all are 0 and nothing would be learnt; give one loss a weight");
done:
    at_buf_release(&methods);
    at_buf_release(&names);
    return st;
}

/* ---- the knobs ---- */

/* Whether a number is another than TRL's default. */
static bool is_moved(const struct at_config *c, enum at_key key, double value)
{
    return value != strtod(at_key_default(key, c->run_method, "trl"), NULL);
}

/* A knob of these letters with another value than its default is read by a loss of the list. */
static AT_CHECKED check_read(const struct at_config *c, enum at_key key, const char *letters,
                             bool moved)
{
    enum at_status st = AT_OK;
    struct at_buf names = { 0 };

    if (!given(c, key) || !moved || any_reads(c, letters))
        goto done;
    list_losses(&names, c, letters);
    TRY(at_buf_status(&names));
    FAIL(AT_USAGE, "%s is not read by loss_type %s%s: use %s%s%s, or remove it", at_key_name(key),
         c->loss_type.items[0],
         c->loss_type.n > 1 ? " and those with it that have a weight above 0" : "", names.data,
         has_file(c) ? ", let the file read p." : "", has_file(c) ? at_key_name(key) : "");
done:
    at_buf_release(&names);
    return st;
}

static AT_CHECKED check_smoothing(const struct at_config *c)
{
    enum at_status st = AT_OK;

    TRY(check_read(c, AT_KEY_label_smoothing, "so", c->label_smoothing > 0));
    for (size_t i = 0; i < c->loss_type.n; i++) {
        const char *name = c->loss_type.items[i];
        const char *reads = c->losses[i]->reads;
        if (!strpbrk(reads, "so") || weight_of(c, i) == 0)
            continue;
        if (strchr(reads, 's') && c->label_smoothing <= 0)
            FAIL(AT_USAGE,
                 "loss_type %s needs label_smoothing above 0, the share of pairs that may be the "
                 "wrong way round (1e-3 is usual for exo_pair, 0.1 for cdpo and robust); without "
                 "any use sigmoid",
                 name);
        if (c->label_smoothing >= 0.5)
            FAIL(AT_USAGE,
                 "loss_type %s needs label_smoothing below 0.5: at 0.5 the labels say nothing",
                 name);
    }
done:
    return st;
}

/* ld_alpha weighs log-ratios, so some loss must read them. */
static AT_CHECKED check_tail(const struct at_config *c)
{
    if (!given(c, AT_KEY_ld_alpha))
        return AT_OK;
    for (size_t i = 0; i < c->loss_type.n; i++)
        if (weight_of(c, i) > 0 && !strchr(c->losses[i]->reads, 'p'))
            return AT_OK;
    return at_fail(AT_USAGE,
                   "ld_alpha is not read by loss_type %s, which compares nothing with the "
                   "reference: use sigmoid, or remove it",
                   c->loss_type.items[0]);
}

/* Where no loss reads the reference, none is computed, and its keys have no meaning. */
static AT_CHECKED check_reference(const struct at_config *c)
{
    const struct {
        enum at_key key;
        bool on;
    } rows[] = {
        { AT_KEY_beta, !has_file(c) && is_moved(c, AT_KEY_beta, c->beta) },
        { AT_KEY_precompute_ref_log_probs, c->precompute_ref_log_probs },
        { AT_KEY_ref_model_name_or_path, c->ref_model_name_or_path },
        { AT_KEY_sync_ref_model, c->sync_ref_model },
    };

    if (!at_method_get(c->run_method)->reference || at_objective_reads_reference(c))
        return AT_OK;
    for (size_t i = 0; i < AT_COUNT(rows); i++)
        if (given(c, rows[i].key) && rows[i].on)
            return at_fail(AT_USAGE,
                           "%s is not read: loss_type %s compares nothing with the reference; add "
                           "sigmoid to the list, or remove the key",
                           at_key_name(rows[i].key), c->loss_type.items[0]);
    return AT_OK;
}

/* What couples the pairs of a micro-batch takes no weight of a pair, and needs several. */
static AT_CHECKED check_coupled(const struct at_config *c)
{
    for (size_t i = 0; i < c->loss_type.n; i++) {
        const char *name = c->loss_type.items[i];
        if (!strchr(c->losses[i]->reads, 'b'))
            continue;
        if (c->use_weighting)
            return at_fail(AT_USAGE,
                           "use_weighting weighs a pair and loss_type %s takes pairs apart: use "
                           "sigmoid, or remove use_weighting",
                           name);
        if (c->lora_dropout > 0 && !c->disable_dropout)
            return at_fail(AT_USAGE,
                           "loss_type %s sorts log-probs that were computed without dropout: set "
                           "lora_dropout to 0 or disable_dropout to true",
                           name);
        if (c->per_device_eval_batch_size == 1 && strcmp(c->eval_strategy, "no") != 0)
            at_warn("micro_batch",
                    "loss_type %s compares the pairs of a micro-batch, and with "
                    "per_device_eval_batch_size 1 there is one: its evaluations are those of "
                    "sigmoid",
                    name);
        if (c->per_device_train_batch_size == 1)
            at_warn("micro_batch",
                    "loss_type %s compares the pairs of a micro-batch, and with "
                    "per_device_train_batch_size 1 there is one: it trains as sigmoid (cdpo with "
                    "label_smoothing) does",
                    name);
    }
    return AT_OK;
}

/* All losses of the list can work on the divergence's scores, and its knob belongs to it. */
static AT_CHECKED check_divergence(const struct at_config *c)
{
    enum at_status st = AT_OK;
    const int divergence = divergence_of(c);
    struct at_buf names = { 0 };

    for (size_t i = 0; divergence != DIVERGENCE_REVERSE_KL && i < c->loss_type.n; i++) {
        const char *reads = c->losses[i]->reads;
        if (strchr(reads, 'f') || strchr(reads, 'p'))
            continue;
        list_losses(&names, c, "f");
        TRY(at_buf_status(&names));
        FAIL(AT_USAGE,
             "loss_type %s does not take f_divergence_type %s: use %s, or the divergence "
             "reverse_kl",
             c->loss_type.items[i], c->f_divergence_type, names.data);
    }
    if (given(c, AT_KEY_f_divergence_type) && divergence != DIVERGENCE_REVERSE_KL &&
        !any_reads(c, "f"))
        FAIL(AT_USAGE, "f_divergence_type %s is not read by loss_type %s; remove it",
             c->f_divergence_type, c->loss_type.items[0]);
    if (given(c, AT_KEY_f_alpha_divergence_coef) && divergence != DIVERGENCE_ALPHA)
        FAIL(AT_USAGE,
             "f_alpha_divergence_coef is not read by f_divergence_type %s: use alpha_divergence, "
             "or remove it",
             c->f_divergence_type);
done:
    at_buf_release(&names);
    return st;
}

bool at_objective_reads_triples(const struct at_config *c)
{
    return at_method_get(c->run_method)->triples && c->tpo_alpha > 0;
}

bool at_objective_reads_kl(const struct at_config *c)
{
    return at_method_get(c->run_method)->rows == AT_ROWS_LABELLED && any_reads(c, "k");
}

static AT_CHECKED check_labelled(const struct at_config *c)
{
    if (at_objective_reads_kl(c) && c->per_device_train_batch_size < 2)
        return at_fail(AT_USAGE,
                       "loss_type %s needs per_device_train_batch_size above 1: its KL term puts "
                       "each prompt of a micro-batch before another one's completion; "
                       "loss_type apo_zero_unpaired needs none",
                       c->loss_type.items[0]);
    if (at_method_get(c->run_method)->rows == AT_ROWS_LABELLED && c->desirable_weight == 0 &&
        c->undesirable_weight == 0)
        return at_fail(AT_USAGE, "desirable_weight and undesirable_weight are both 0 and nothing "
                                 "would be learnt; give one of them a weight");
    return AT_OK;
}

AT_CHECKED at_objective_check(const struct at_config *c)
{
    enum at_status st = AT_OK;

    TRY(check_list(c));
    TRY(check_labelled(c));
    if (c->beta == 0 && at_method_get(c->run_method)->rows != AT_ROWS_SAMPLE &&
        at_key_read_by(AT_KEY_beta, c->run_method))
        FAIL(AT_USAGE,
             "beta must be above 0; only grpo and rloo can do without the pull to the reference");
    if (at_method_get(c->run_method)->rows != AT_ROWS_PAIR)
        goto done;
    TRY(check_smoothing(c));
    TRY(check_tail(c));
    TRY(check_reference(c));
    TRY(check_coupled(c));
    TRY(check_read(c, AT_KEY_discopop_tau, "t", true));
    TRY(check_read(c, AT_KEY_simpo_gamma, "g", is_moved(c, AT_KEY_simpo_gamma, c->simpo_gamma)));
    TRY(check_read(c, AT_KEY_tpo_l_gamma, "h", is_moved(c, AT_KEY_tpo_l_gamma, c->tpo_l_gamma)));
    TRY(check_read(c, AT_KEY_alpha, "a", c->alpha != 0));
    TRY(check_divergence(c));
    if (any_reads(c, "a") && given(c, AT_KEY_cpo_alpha) && c->cpo_alpha != 0 &&
        is_moved(c, AT_KEY_cpo_alpha, c->cpo_alpha))
        FAIL(AT_USAGE, "cpo_alpha is not read by loss_type alphapo, which is without "
                       "cross-entropy; remove it");
done:
    return st;
}

/* ---- values ---- */

/* Weight of the cross-entropy, one more loss of the sum: of ORPO, CPO and TPO. */
static double anchor_weight(const struct at_config *c)
{
    if (at_method_get(c->run_method)->prompt)
        return 1;
    if (at_method_get(c->run_method)->triples)
        return c->tpo_alpha;
    return at_key_read_by(AT_KEY_cpo_alpha, c->run_method) && !any_reads(c, "a") ? c->cpo_alpha : 0;
}

static struct at_policy_params surrogate_of(const struct at_config *c)
{
    const double high = c->is_set[AT_KEY_epsilon_high] ? c->epsilon_high : c->epsilon;

    return (struct at_policy_params){
        .beta = (float)c->beta,
        .epsilon_low = (float)c->epsilon,
        .epsilon_high = (float)high,
        .delta = c->is_set[AT_KEY_delta] ? (float)c->delta : 0,
        .weighs_kl = c->use_bias_correction_kl,
        .sequence = strcmp(c->importance_sampling_level, "sequence") == 0,
    };
}

void at_objective_make(struct at_objective *out, const struct at_config *c,
                       const struct at_own_loss *own)
{
    const struct at_method_row *m = at_method_get(c->run_method);

    *out = (struct at_objective){ .kind = c->losses[0]->kind };
    for (size_t i = 0; i < c->loss_type.n; i++) {
        const bool is_own = c->losses[i]->file && own;
        if (weight_of(c, i) > 0)
            out->terms[out->n++] =
                (struct at_loss_term){ c->losses[i]->name, (float)weight_of(c, i),
                                       is_own ? &own[i] : NULL };
    }
    out->reference = at_objective_reads_reference(c);
    out->without_reference = m->reference && !out->reference;
    out->own = has_file(c);
    if (m->rows == AT_ROWS_SFT)
        return;
    if (m->rows == AT_ROWS_SAMPLE) {
        out->policy = surrogate_of(c);
        return;
    }
    if (anchor_weight(c) > 0)
        out->terms[out->n++] = (struct at_loss_term){ "sft", (float)anchor_weight(c), NULL };
    out->params =
        (struct at_loss_params){ .beta = (float)c->beta,
                                 .label_smoothing = (float)c->label_smoothing,
                                 .discopop_tau = (float)c->discopop_tau,
                                 .simpo_gamma = (float)c->simpo_gamma,
                                 .tpo_l_gamma = (float)c->tpo_l_gamma,
                                 .alphapo_alpha = (float)c->alpha,
                                 .divergence = divergence_of(c),
                                 .alpha = (float)c->f_alpha_divergence_coef,
                                 .desirable_weight = (float)c->desirable_weight,
                                 .undesirable_weight = (float)c->undesirable_weight,
                                 .center_rewards_coefficient = (float)c->center_rewards_coefficient,
                                 .use_weighting = c->use_weighting };
    out->kl = at_objective_reads_kl(c);
    out->triples = at_objective_reads_triples(c);
    out->log_odds = any_reads(c, "l");
    for (size_t i = 0; i < c->loss_type.n; i++)
        out->coupled = out->coupled || (weight_of(c, i) > 0 && strchr(c->losses[i]->reads, 'b'));
    out->token_means = !m->reference && any_reads(c, "m");
    if (c->is_set[AT_KEY_ld_alpha])
        out->tail_discount = (float)(1 - c->ld_alpha);
    out->reward_alpha = any_reads(c, "a") ? c->alpha : 0;
}

static float score_of(const struct at_objective *o, const struct at_segment_result *side)
{
    return (float)alpha_score((double)side->logp / side->n, 1 - o->reward_alpha).score;
}

static float log_odds_of(const struct at_row_result *r)
{
    const struct at_segment_result *c = &r->policy[0], *j = &r->policy[1];

    return (float)at_log_odds_ratio((double)c->logp / c->n, (double)j->logp / j->n);
}

void at_objective_score(const struct at_objective *o, struct at_row_result *pairs, uint32_t n)
{
    for (uint32_t i = 0; o->log_odds && i < n; i++)
        pairs[i].pair.log_odds = log_odds_of(&pairs[i]);
    for (uint32_t i = 0; o->token_means && i < n; i++) {
        pairs[i].pair.score_chosen = score_of(o, &pairs[i].policy[0]);
        pairs[i].pair.score_rejected = score_of(o, &pairs[i].policy[1]);
    }
}

float at_objective_mean_chosen(const struct at_row *const *rows, uint32_t n)
{
    double sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += rows[i]->n_segments > 2
                   ? rows[i]->segment[2].n_targets
                   : rows[i]->segment[0].n_targets + at_row_prompt_targets(rows[i]);
    return (float)(sum / n);
}

/* As losses/pair.comp has it. */
static double side_weight(const struct at_segment_result *side)
{
    return exp(((double)side->raw_logp - side->log_p2) / side->n);
}

static double pair_at_start(const struct at_objective *o, const struct at_loss_params *params,
                            const struct at_row_result *pair)
{
    const struct at_segment_result *chosen = &pair->policy[0], *rejected = &pair->policy[1];
    const pair_stats equal = { 0, 0, chosen->n, rejected->n };
    const pair_stats logps = { chosen->raw_logp, rejected->raw_logp, chosen->n, rejected->n };
    const loss_params p = { .beta = params->beta,
                            .label_smoothing = params->label_smoothing,
                            .discopop_tau = params->discopop_tau,
                            .mean_n_chosen = params->mean_n_chosen };
    double sum = 0;

    for (size_t i = 0; i < o->n; i++) {
        const bool by_logp = strchr(at_loss_find(o->terms[i].name)->reads, 'p') != NULL;
        sum += (double)o->terms[i].weight *
               at_pair_loss_value(o->terms[i].name, by_logp ? logps : equal, p);
    }
    return params->use_weighting ? sum * side_weight(chosen) * side_weight(rejected) : sum;
}

double at_objective_at_start(const struct at_objective *o, const struct at_loss_params *params,
                             const struct at_row *row, const struct at_row_result *result)
{
    const row_stats equal = { .desirable = row->desirable };
    const row_params p = { params->beta, params->desirable_weight, params->undesirable_weight };

    if (row->kind == AT_ROWS_LABELLED)
        return at_row_loss_value(o->terms[0].name, equal, p);
    return pair_at_start(o, params, result);
}
