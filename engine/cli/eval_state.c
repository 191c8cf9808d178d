#include "eval.h"

#include "cli.h"
#include "generate.h"
#include "lint.h"
#include "prompts.h"

#include <math.h>
#include <string.h>

enum { SEQUENCES = 16 /* replies that are written at once, at most */ };

/* ---- progress ---- */

/* Of an adapter's strengths the number is the name; of a long path the last part. */
static void tell(const struct eval_state *s, uint32_t done, uint32_t n, const char *what)
{
    enum { WIDTH = 40 };
    const bool strength = s->adapter && strcmp(s->name, s->adapter) != 0;
    const char *part = strlen(s->name) > WIDTH ? strrchr(s->name, '/') : NULL;
    char name[WIDTH + 16];

    snprintf(name, sizeof name, "%s%.*s", strength ? "strength " : "", WIDTH,
             part && part[1] ? part + 1 : s->name);
    cli_measuring(name, done, n, what);
}

/* ---- log-probs ---- */

static AT_CHECKED take_row(struct eval_state *s, uint32_t i, const struct at_row *row,
                           const struct at_row_result *r)
{
    s->lines[i] = row->line;
    for (uint32_t k = 0; k < 2; k++) {
        const struct at_segment_result *p = &r->policy[k];
        s->side[k][i] = p->n > 0 ? (double)p->raw_logp / p->n : 0;
        if (!isfinite(s->side[k][i]))
            return at_fail(AT_NUMERIC, "line %u: the log-prob under %s is not finite", row->line,
                           s->name);
    }
    return AT_OK;
}

static AT_CHECKED score_rows(struct eval_state *s, struct at_run *run)
{
    enum { PIECE = 32 };
    enum at_status st = AT_OK;
    const struct at_dataset *d = &run->data.train;
    const struct at_compute what = { .policy = true, .drift = run->engine.decoder.drift };
    const struct at_row *rows[PIECE];
    struct at_row_result results[PIECE];
    double logp = 0, tokens = 0, drift = 0;

    tell(s, 0, d->n_rows, "pairs");
    for (uint32_t begin = 0; begin < d->n_rows; begin += PIECE) {
        const uint32_t n = d->n_rows - begin < PIECE ? d->n_rows - begin : PIECE;
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = &d->rows[begin + i];
            results[i] = (struct at_row_result){ .n_segments = at_row_sums(rows[i]) };
        }
        TRY(at_engine_rows(&run->engine, rows, results, n, &what));
        TRY(at_engine_finish(&run->engine));
        for (uint32_t i = 0; i < n; i++) {
            TRY(take_row(s, begin + i, rows[i], &results[i]));
            logp += results[i].policy[0].raw_logp;
            tokens += results[i].policy[0].n;
            drift += results[i].drift;
            s->prompt_tokens += (double)rows[i]->n_prompt / d->n_rows;
        }
        tell(s, begin + n, d->n_rows, "pairs");
        if (at_signal_status() != AT_OK)
            FAIL(at_signal_status(), "stopped by a signal after %u of %u pairs", begin + n,
                 d->n_rows);
    }
    s->perplexity = exp(-logp / tokens);
    s->has_drift = what.drift;
    s->drift = drift / tokens;
done:
    return st;
}

AT_CHECKED eval_sum_up(struct eval_state *s, uint64_t seed)
{
    enum at_status st = AT_OK;
    double *margins = NULL, wins = 0;

    TRY(at_alloc(&margins, s->n_pairs, sizeof *margins));
    for (uint32_t i = 0; i < s->n_pairs; i++) {
        margins[i] = s->side[0][i] - s->side[1][i];
        wins += margins[i] > 0;
    }
    s->accuracy = at_share_of(wins, s->n_pairs);
    TRY(at_bootstrap_mean(&s->margin, margins, s->n_pairs, seed));
done:
    at_free(&margins);
    return st;
}

static AT_CHECKED score(struct eval_state *s, struct at_run *run, uint64_t seed)
{
    enum at_status st = AT_OK;
    const uint32_t n = run->data.train.n_rows;

    s->n_pairs = n;
    TRY(at_arena_alloc(&s->arena, &s->lines, n, sizeof *s->lines));
    for (uint32_t k = 0; k < 2; k++)
        TRY(at_arena_alloc(&s->arena, &s->side[k], n, sizeof *s->side[k]));
    TRY(at_engine_set_scale(&run->engine, s->scale));
    TRY(score_rows(s, run));
    TRY(eval_sum_up(s, seed));
done:
    return st;
}

/* ---- replies ---- */

struct replies {
    struct eval_state *state; /* the one that replies */
    const struct eval_params *params;
    struct at_run *run;
    struct cli_prompts prompts; /* of the held-out rows, then of the rules */
    struct at_generator *generator;
    struct at_rule **rules;               /* (n_rules) */
    double *rouge_l, *words, *repetition; /* (n) of the held-out rows' replies */
    uint32_t n, n_rules, n_done;          /* n_done: replies that are there */
    struct at_arena arena;
};

/* The prompts as the trainer sees them. */
static AT_CHECKED add_held_out(struct replies *r)
{
    enum at_status st = AT_OK;
    const struct at_dataset *d = &r->run->data.train;
    struct at_ids ids = { .n = 0 };

    for (r->n = 0; r->n < d->n_rows && r->n < r->params->n_replies; r->n++) {
        const struct at_row *row = &d->rows[r->n];
        ids.n = 0;
        for (uint32_t i = 0; i < row->n_prompt; i++)
            TRY(at_ids_push(&ids, i < row->n_prefix ? row->prefix[i]
                                                    : row->segment[0].ids[i - row->n_prefix]));
        if (ids.n == 0)
            FAIL(AT_DATA, "line %u has no prompt to reply to; --n_replies 0 leaves replies out",
                 row->line);
        TRY(cli_prompts_add_ids(&r->prompts, ids.data, ids.n));
    }
done:
    at_ids_release(&ids);
    return st;
}

static AT_CHECKED open_generator(struct replies *r, const struct at_config *c)
{
    enum at_status st = AT_OK;
    const uint32_t most = at_model_made_for(&r->run->bundle.config);
    uint32_t longest = 0;
    struct at_generator_params p = {
        .gpu = { .device = c->device,
                 .baseline_only = strcmp(c->kernels, "baseline") == 0,
                 .memory_limit_bytes = (uint64_t)c->device_memory_limit },
        .adapter_dirs = &r->state->adapter,
        .n_adapters = r->state->adapter != NULL,
        .adapter_scale = r->state->scale,
    };

    for (size_t i = 0; i < r->prompts.n; i++)
        longest = r->prompts.items[i].n > longest ? r->prompts.items[i].n : longest;
    p.sampler = (struct at_sampler_params){
        .n_sequences = r->prompts.n < SEQUENCES ? (uint32_t)r->prompts.n : SEQUENCES,
        .n_samples = 1,
        .n_positions = longest + r->params->max_new_tokens,
    };
    if (most > 0 && p.sampler.n_positions > most)
        p.sampler.n_positions = most;
    TRY(at_generator_open(&r->generator, r->run->bundle.weights, &r->run->bundle.config, &p));
done:
    return st;
}

/* A reply beside the chosen one of its row. */
static AT_CHECKED judge_reply(struct replies *r, uint32_t i, const char *text,
                              enum at_generation_end end)
{
    enum at_status st = AT_OK;
    struct eval_state *s = r->state;
    const struct at_row *row = &r->run->data.train.rows[i];
    const uint32_t skip = row->n_prompt > row->n_prefix ? row->n_prompt - row->n_prefix : 0;
    struct at_buf chosen = { 0 };
    char *copy = NULL;

    TRY(at_arena_strdup(&s->arena, &copy, text));
    s->texts[i] = copy;
    at_buf_puts(&chosen, "");
    TRY(at_tokenizer_decode(r->run->bundle.tokenizer, &chosen, row->segment[0].ids + skip,
                            row->segment[0].n - skip, true));
    TRY(at_buf_status(&chosen));
    s->n_exact += at_is_exact_match(text, chosen.data);
    s->n_ended += end == AT_END_STOP;
    s->n_refusals += at_lint_find_refusal(text) != NULL;
    r->words[i] = at_words(text);
    TRY(at_bleu_add(&s->bleu, text, chosen.data));
    TRY(at_rouge_l(&r->rouge_l[i], text, chosen.data));
    TRY(at_repetition(&r->repetition[i], text));
done:
    at_buf_release(&chosen);
    return st;
}

/* Broken rules are found before the first reply. */
static AT_CHECKED open_rules(struct replies *r)
{
    enum at_status st = AT_OK;

    if (!r->params->rules)
        goto done;
    TRY(cli_prompts_read(&r->prompts, r->params->rules));
    if (r->prompts.n == r->n)
        FAIL(AT_DATA, "%s: holds no rule", r->params->rules);
    TRY(at_arena_alloc(&r->arena, &r->rules, r->prompts.n - r->n, sizeof *r->rules));
    for (; r->n + r->n_rules < r->prompts.n; r->n_rules++) {
        const cJSON *row = r->prompts.items[r->n + r->n_rules].row;
        char *name = NULL;
        TRY(at_arena_printf(&r->arena, &name, "%s: rule %u", r->params->rules, r->n_rules + 1));
        TRY(at_rule_open(&r->rules[r->n_rules], at_json_find(row, "rule"), name));
    }
done:
    return st;
}

static enum at_status take_reply(void *context, const struct at_reply *reply)
{
    struct replies *r = context;
    struct eval_state *s = r->state;
    const uint32_t i = reply->prompt;
    struct at_buf text = { 0 };
    enum at_status st = AT_OK;

    tell(s, ++r->n_done, (uint32_t)r->prompts.n, "replies");
    at_buf_puts(&text, "");
    TRY(at_tokenizer_decode(r->run->bundle.tokenizer, &text, reply->ids, reply->n, true));
    TRY(at_buf_status(&text));
    if (i < r->n) {
        TRY(judge_reply(r, i, text.data, reply->end));
        goto done;
    }
    TRY(at_rule_check(&s->passed[i - r->n], r->rules[i - r->n], text.data));
    s->n_passed += s->passed[i - r->n];
done:
    at_buf_release(&text);
    return st;
}

static AT_CHECKED judge_replies(struct replies *r)
{
    enum at_status st = AT_OK;
    struct eval_state *s = r->state;
    struct at_prompt_ids *prompts = NULL;
    struct at_generation what = { .n_prompts = (uint32_t)r->prompts.n,
                                  .max_new_tokens = r->params->max_new_tokens,
                                  .stop = r->prompts.stop,
                                  .n_stop = r->prompts.n_stop,
                                  .sampling = { .top_p = 1 },
                                  .reply = take_reply,
                                  .context = r };

    TRY(at_arena_alloc(&s->arena, &s->texts, r->n, sizeof *s->texts));
    TRY(at_arena_alloc(&s->arena, &s->passed, r->n_rules, sizeof *s->passed));
    s->n_rules = r->n_rules;
    TRY(cli_prompts_ids(&prompts, &r->prompts));
    what.prompts = prompts;
    r->n_done = 0;
    tell(s, 0, what.n_prompts, "replies");
    TRY(at_generate(r->generator, &what));
    s->n_replies = r->n;
    TRY(at_bootstrap_bounded(&s->rouge_l, r->rouge_l, r->n, r->params->seed, 0, 1));
    TRY(at_bootstrap_mean(&s->words, r->words, r->n, r->params->seed));
    TRY(at_bootstrap_bounded(&s->repetition, r->repetition, r->n, r->params->seed, 0, 1));
done:
    at_free(&prompts);
    return st;
}

static AT_CHECKED write_replies(struct eval_state *states, size_t n, struct at_run *run,
                                const struct at_config *config, const struct eval_params *params)
{
    enum at_status st = AT_OK;
    struct replies r = { .state = states,
                         .params = params,
                         .run = run,
                         .prompts = { .system = states->system, .examples = states->examples } };
    const bool on = true;

    if (params->n_replies == 0 && !params->rules)
        goto done;
    TRY(cli_prompts_open(&r.prompts, &run->bundle));
    TRY(add_held_out(&r));
    TRY(open_rules(&r));
    TRY(at_alloc(&r.rouge_l, r.n, sizeof *r.rouge_l));
    TRY(at_alloc(&r.words, r.n, sizeof *r.words));
    TRY(at_alloc(&r.repetition, r.n, sizeof *r.repetition));
    TRY(open_generator(&r, config));
    for (size_t i = 0; i < n; i++) {
        r.state = &states[i];
        if (i > 0)
            TRY(at_generator_use(r.generator, &on, states[i].scale));
        TRY(judge_replies(&r));
    }
done:
    at_generator_close(&r.generator);
    for (uint32_t i = 0; i < r.n_rules; i++)
        at_rule_close(&r.rules[i]);
    cli_prompts_release(&r.prompts);
    at_arena_release(&r.arena);
    at_free(&r.rouge_l);
    at_free(&r.words);
    at_free(&r.repetition);
    return st;
}

/* ---- a state ---- */

AT_CHECKED eval_measure(struct eval_state *states, size_t n, struct at_config *config,
                        const struct eval_params *params)
{
    enum at_status st = AT_OK;
    const struct eval_state *s = states;
    struct at_run run = { .config = NULL };
    const double begin_s = at_now_s();
    char duration[32];

    config->adapter_name_or_path = s->adapter;
    config->system_prompt = s->system ? s->system : config->system_prompt;
    TRY(at_run_open_judge(&run, config, &s->examples));
    TRY(at_engine_commit(&run.engine));
    for (size_t i = 0; i < n; i++)
        TRY(score(&states[i], &run, params->seed));
    at_engine_close(&run.engine); /* the replies' one takes its place on the device */
    TRY(write_replies(states, n, &run, config, params));
    cli_duration(duration, at_now_s() - begin_s);
    cli_note("measured %s%s: %u pairs, %u replies, %u rules in %s", n > 1 ? "strengths of " : "",
             n > 1 ? s->adapter : s->name, s->n_pairs, s->n_replies, s->n_rules, duration);
done:
    if (st != AT_OK)
        at_context("%s", n > 1 ? s->adapter : s->name);
    at_run_close(&run);
    return st;
}

void eval_release(struct eval_state *s)
{
    at_arena_release(&s->arena);
}

/* ---- two of them ---- */

static AT_CHECKED check_same_rows(const struct eval_state *a, const struct eval_state *b)
{
    bool same = a->n_pairs == b->n_pairs && a->n_rules == b->n_rules;

    for (uint32_t i = 0; same && i < a->n_pairs; i++)
        same = a->lines[i] == b->lines[i];
    if (!same)
        return at_fail(AT_DATA,
                       "%s and %s were not measured on the same rows: with another prompt others "
                       "are too long; raise max_length",
                       a->name, b->name);
    return AT_OK;
}

/* A difference counts when its interval leaves out 0 and the sign test agrees, which a bootstrap of
 * few changed pairs does not always do. */
static enum eval_verdict decide(const struct eval_comparison *c)
{
    const bool clear = c->p < 0.05;

    if (c->over_drift || c->over_lost || (clear && c->accuracy.high < 0))
        return EVAL_WORSE;
    return clear && c->accuracy.low > 0 ? EVAL_BETTER : EVAL_OPEN;
}

AT_CHECKED eval_compare(struct eval_comparison *out, const struct eval_state *before,
                        const struct eval_state *after, const struct eval_params *p)
{
    enum at_status st = AT_OK;
    const uint32_t n = before->n_pairs;
    double *right = NULL, *margin = NULL;

    *out = (struct eval_comparison){ .wins = 0 };
    TRY(check_same_rows(before, after));
    TRY(at_alloc(&right, n, sizeof *right));
    TRY(at_alloc(&margin, n, sizeof *margin));
    for (uint32_t i = 0; i < n; i++) {
        const double was = before->side[0][i] - before->side[1][i];
        const double is = after->side[0][i] - after->side[1][i];
        right[i] = (is > 0) - (was > 0);
        margin[i] = is - was;
        out->wins += right[i] > 0;
        out->losses += right[i] < 0;
    }
    for (uint32_t i = 0; i < before->n_rules; i++) {
        out->gained += after->passed[i] && !before->passed[i];
        out->lost += before->passed[i] && !after->passed[i];
    }
    TRY(at_bootstrap_bounded(&out->accuracy, right, n, p->seed, -1, 1));
    TRY(at_bootstrap_mean(&out->margin, margin, n, p->seed));
    out->p = at_sign_test(out->wins, out->losses);
    out->needed = out->accuracy.value > 0 ? at_pairs_needed(right, n) : 0;
    out->over_drift = after->has_drift && after->drift > p->max_drift;
    out->over_lost =
        before->n_rules > 0 && ((double)out->lost - out->gained) / before->n_rules > p->max_lost;
    out->verdict = decide(out);
done:
    at_free(&right);
    at_free(&margin);
    return st;
}
