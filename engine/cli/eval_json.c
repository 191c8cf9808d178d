/* What was measured of a state as JSON. */
#include "eval.h"

const char *eval_verdict_word(enum eval_verdict verdict)
{
    return verdict == EVAL_BETTER ? "better" : verdict == EVAL_WORSE ? "worse" : "open";
}

void eval_add_interval(cJSON *out, const char *name, struct at_estimate i)
{
    cJSON *part = cJSON_AddObjectToObject(out, name);

    cJSON_AddNumberToObject(part, "value", i.value);
    cJSON_AddNumberToObject(part, "low", i.low);
    cJSON_AddNumberToObject(part, "high", i.high);
    cJSON_AddNumberToObject(part, "n", i.n);
}

static void add_replies(cJSON *out, const struct eval_state *s)
{
    cJSON *part = NULL;
    const double n = s->n_replies;

    if (s->n_replies == 0)
        return;
    part = cJSON_AddObjectToObject(out, "replies");
    cJSON_AddNumberToObject(part, "n", n);
    cJSON_AddItemToObject(part, "exact_match", at_share_json(at_share_of(s->n_exact, n)));
    eval_add_interval(part, "rouge_l", s->rouge_l);
    cJSON_AddNumberToObject(part, "bleu", at_bleu_score(&s->bleu));
    eval_add_interval(part, "words", s->words);
    eval_add_interval(part, "repetition", s->repetition);
    cJSON_AddItemToObject(part, "ended", at_share_json(at_share_of(s->n_ended, n)));
    cJSON_AddItemToObject(part, "refusals", at_share_json(at_share_of(s->n_refusals, n)));
}

cJSON *eval_state_json(const struct eval_state *s)
{
    cJSON *out = cJSON_CreateObject();

    cJSON_AddStringToObject(out, "name", s->name);
    cJSON_AddItemToObject(out, "accuracy", at_share_json(s->accuracy));
    eval_add_interval(out, "margin", s->margin);
    cJSON_AddNumberToObject(out, "perplexity", s->perplexity);
    cJSON_AddNumberToObject(out, "prompt_tokens", s->prompt_tokens);
    if (s->has_drift)
        cJSON_AddNumberToObject(out, "drift", s->drift);
    add_replies(out, s);
    if (s->n_rules > 0)
        cJSON_AddItemToObject(out, "rules", at_share_json(at_share_of(s->n_passed, s->n_rules)));
    return out;
}

cJSON *eval_comparison_json(const struct eval_state *s, const struct eval_comparison *c)
{
    cJSON *out = cJSON_CreateObject();

    cJSON_AddStringToObject(out, "name", s->name);
    cJSON_AddStringToObject(out, "verdict", eval_verdict_word(c->verdict));
    eval_add_interval(out, "accuracy", c->accuracy);
    eval_add_interval(out, "margin", c->margin);
    cJSON_AddNumberToObject(out, "wins", c->wins);
    cJSON_AddNumberToObject(out, "losses", c->losses);
    cJSON_AddNumberToObject(out, "p", c->p);
    if (c->needed > 0)
        cJSON_AddNumberToObject(out, "pairs_needed", c->needed);
    if (s->n_rules > 0) {
        cJSON_AddNumberToObject(out, "rules_gained", c->gained);
        cJSON_AddNumberToObject(out, "rules_lost", c->lost);
    }
    cJSON_AddBoolToObject(out, "over_drift", c->over_drift);
    cJSON_AddBoolToObject(out, "over_lost_rules", c->over_lost);
    return out;
}
