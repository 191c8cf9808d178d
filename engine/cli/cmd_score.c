#include "score_rollouts.h"
#include "score_tokens.h"

#include <string.h>

/* What is printed of rows. */
struct scoring {
    bool json, reference, rewards; /* rewards: of a reward model, which has no log-probs */
    uint32_t group;                /* samples a line of rollouts */
    struct score_tokens *tokens;   /* NULL: not wanted */
};

static cJSON *add_segment(cJSON *line, const char *name, const struct at_row_result *r, uint32_t k,
                          bool rewards)
{
    cJSON *out = cJSON_AddObjectToObject(line, name);

    if (rewards) {
        at_metric_add(out, "", "reward", r->policy[k].logp);
        return out;
    }
    at_metric_add(out, "", "logp", r->policy[k].logp);
    cJSON_AddNumberToObject(out, "n_tokens", r->policy[k].n);
    if (r->has_reference)
        at_metric_add(out, "", "ref_logp", r->reference[k].logp);
    return out;
}

static AT_CHECKED print_row_json(const struct scoring *s, const struct at_row *row,
                                 const struct at_row_result *r)
{
    enum at_status st = AT_OK;
    cJSON *line = cJSON_CreateObject();

    cJSON_AddNumberToObject(line, "row", row->line - 1);
    if (row->kind == AT_ROWS_LABELLED)
        cJSON_AddBoolToObject(line, "label", row->desirable);
    if (row->kind == AT_ROWS_SAMPLE)
        cJSON_AddNumberToObject(line, "sample", row->index % s->group);
    for (uint32_t k = 0; k < row->n_segments; k++) {
        const char *name = at_row_side_name(row, k);
        cJSON *side = add_segment(line, name, r, k, s->rewards);
        if (s->tokens)
            TRY(score_tokens_side(s->tokens, side, name, row, r, k));
    }
    TRY(cli_print_line(line));
done:
    cJSON_Delete(line);
    return st;
}

/* Columns of the row with most sides; a row with one completion has it in the first. */
static void print_head(const struct at_run *run, const struct at_row *widest)
{
    const bool rewards = at_method_get(run->method)->value_head;

    printf("%7s", "line");
    if (at_method_get(run->method)->rows == AT_ROWS_LABELLED)
        printf("  %-13s", "label");
    for (uint32_t k = 0; k < widest->n_segments; k++) {
        printf("  %12s", at_row_side_name(widest, k));
        if (!rewards)
            printf(" %7s %10s", "tokens", "a token");
    }
    putchar('\n');
}

static const struct at_row *widest_row(const struct at_dataset *d)
{
    const struct at_row *widest = &d->rows[0];

    for (uint32_t i = 1; i < d->n_rows; i++)
        if (d->rows[i].n_segments > widest->n_segments)
            widest = &d->rows[i];
    return widest;
}

static void print_row(const struct at_row *row, const struct at_row_result *r, bool rewards)
{
    printf("%7u", row->line);
    if (row->kind == AT_ROWS_LABELLED)
        printf("  %-13s", row->desirable ? "desirable" : "not desirable");
    for (uint32_t k = 0; rewards && k < row->n_segments; k++)
        printf("  %12.4f", (double)r->policy[k].logp);
    for (uint32_t k = 0; !rewards && k < row->n_segments; k++)
        printf("  %12.4f %7.0f %10.4f", (double)r->policy[k].logp, (double)r->policy[k].n,
               (double)(r->policy[k].logp / r->policy[k].n));
    putchar('\n');
}

/* Reference values of all rows by another model, before the policy is on the device. */
static AT_CHECKED score_reference(struct at_run *run, const struct at_dataset *d,
                                  struct at_row_result *results)
{
    enum at_status st = AT_OK;

    if (!at_run_has_other_reference(run))
        goto done;
    TRY(at_reference_commit(&run->reference));
    TRY(at_reference_rows(&run->reference.engine, d->rows, results, d->n_rows, 0));
done:
    at_reference_leave_device(&run->reference);
    return st;
}

static AT_CHECKED print_one(const struct scoring *s, const struct at_row *row,
                            const struct at_row_result *r)
{
    enum at_status st = AT_OK;

    if (s->json) {
        TRY(print_row_json(s, row, r));
    } else if (s->tokens) {
        for (uint32_t k = 0; k < row->n_segments; k++)
            TRY(score_tokens_side(s->tokens, NULL, at_row_side_name(row, k), row, r, k));
    } else {
        print_row(row, r, s->rewards);
    }
done:
    return st;
}

/* In pieces, so that the first rows come soon and a signal is answered. */
static AT_CHECKED score_all(struct at_run *run, const struct at_dataset *d,
                            struct at_row_result *results, const struct scoring *s)
{
    enum { PIECE = 64 };
    enum at_status st = AT_OK;
    const struct at_row *rows[PIECE];

    for (uint32_t begin = 0; begin < d->n_rows; begin += PIECE) {
        const uint32_t n = d->n_rows - begin < PIECE ? d->n_rows - begin : PIECE;
        for (uint32_t i = 0; i < n; i++)
            rows[i] = &d->rows[begin + i];
        TRY(at_score_rows(&run->engine, rows, n, results + begin, s->reference));
        for (uint32_t i = 0; i < n; i++) {
            TRY(print_one(s, rows[i], &results[begin + i]));
            score_tokens_release(&results[begin + i]);
        }
        if (at_signal_status() != AT_OK)
            FAIL(at_signal_status(), "stopped by a signal after %u of %u rows", begin + n,
                 d->n_rows);
    }
    if (s->tokens)
        TRY(score_tokens_end(s->tokens));
done:
    return st;
}

/* Single tokens: of models with log-probs. */
static AT_CHECKED open_tokens(struct score_tokens *out, struct scoring *s, const struct at_run *run)
{
    enum at_status st = AT_OK;

    if (s->rewards)
        FAIL(AT_USAGE, "a reward model has one reward a reply and no tokens' log-probs: leave "
                       "--tokens out");
    TRY(score_tokens_open(out, run->bundle.tokenizer, s->json, s->reference));
    s->tokens = out;
done:
    return st;
}

static AT_CHECKED make_results(struct at_row_result **out, const struct at_dataset *rows,
                               const struct scoring *s)
{
    enum at_status st = AT_OK;

    TRY(at_alloc(out, rows->n_rows, sizeof **out));
    for (uint32_t i = 0; i < rows->n_rows; i++) {
        (*out)[i].n_segments = at_row_sums(&rows->rows[i]);
        if (s->tokens)
            TRY(score_tokens_room(&(*out)[i], &rows->rows[i], s->reference));
    }
done:
    return st;
}

enum at_status cli_score(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct at_config config = { .file = NULL };
    struct at_run run = { .config = NULL };
    struct at_row_result *results = NULL;
    const struct at_dataset *rows = NULL;
    struct score_tokens tokens = { .tokenizer = NULL };
    struct scoring s = { .json = cli_flag_on(args, "json") };
    double scale = 1;

    TRY(cli_flag_f64(&scale, args, "adapter_scale", -100, 100));
    TRY(cli_config_read(&config, args, NULL));
    if (score_rollouts_wanted(&config)) {
        TRY(score_rollouts(&config, args));
        goto done;
    }
    if (cli_flag_text(args, "adapter_scale") && !config.adapter_name_or_path)
        FAIL(AT_USAGE, "--adapter_scale: there is no adapter; name one with --adapter_name_or_path "
                       "DIR");
    TRY(at_run_open_scores(&run, &config));
    rows = run.data.was_split ? &run.data.all : &run.data.train;
    s.reference = at_method_get(run.method)->reference;
    s.rewards = at_method_get(run.method)->value_head;
    s.group = run.data.samples.group;
    if (cli_flag_on(args, "tokens"))
        TRY(open_tokens(&tokens, &s, &run));
    TRY(make_results(&results, rows, &s));
    TRY(at_engine_set_scale(&run.engine, scale));
    TRY(score_reference(&run, rows, results));
    TRY(at_engine_commit(&run.engine));
    if (run.engine.model.config.value_head && !run.engine.model.value.source)
        at_warn("random_head", "the value head is random: neither model nor adapter has one "
                               "(score.weight); name a trained reward model");
    if (!s.json && !s.tokens)
        print_head(&run, widest_row(rows));
    TRY(score_all(&run, rows, results, &s));
    if (s.tokens && s.reference && config.adapter_name_or_path)
        cli_next(
            "next       attune report %s; with --json, into tokens.jsonl there, this is on the "
            "page",
            config.adapter_name_or_path);
    if (config.profile)
        TRY(cli_kernel_table(stderr, NULL, run.engine.stream));
done:
    for (uint32_t i = 0; results && i < rows->n_rows; i++)
        score_tokens_release(&results[i]);
    at_free(&results);
    score_tokens_close(&tokens);
    at_run_close(&run);
    at_config_release(&config);
    return st;
}
