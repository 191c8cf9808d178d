#include "cli.h"

#include <string.h>

/* rewards: of a reward model, which has no log-probs. */
static void add_segment(cJSON *line, const char *name, const struct at_row_result *r, uint32_t k,
                        bool rewards)
{
    cJSON *out = cJSON_AddObjectToObject(line, name);

    if (rewards) {
        at_metric_add(out, "", "reward", r->policy[k].logp);
        return;
    }
    at_metric_add(out, "", "logp", r->policy[k].logp);
    cJSON_AddNumberToObject(out, "n_tokens", r->policy[k].n);
    if (r->has_reference)
        at_metric_add(out, "", "ref_logp", r->reference[k].logp);
}

static AT_CHECKED print_row_json(const struct at_row *row, const struct at_row_result *r,
                                 bool rewards)
{
    enum at_status st = AT_OK;
    cJSON *line = cJSON_CreateObject();

    cJSON_AddNumberToObject(line, "row", row->line - 1);
    if (row->kind == AT_ROWS_LABELLED)
        cJSON_AddBoolToObject(line, "label", row->desirable);
    if (row->n_segments == 2) {
        add_segment(line, "chosen", r, 0, rewards);
        add_segment(line, "rejected", r, 1, rewards);
    } else {
        add_segment(line, "completion", r, 0, rewards);
    }
    TRY(cli_print_line(line));
done:
    cJSON_Delete(line);
    return st;
}

/* `pairs`: the columns are those of pairs; a row with one completion has it in the first. */
static void print_head(const struct at_run *run, bool pairs)
{
    const bool rewards = at_method_get(run->method)->value_head;

    printf("%7s", "line");
    if (at_method_get(run->method)->rows == AT_ROWS_LABELLED)
        printf("  %-13s", "label");
    for (int k = 0; k < (pairs ? 2 : 1); k++) {
        printf("  %12s", !pairs ? "completion" : k ? "rejected" : "chosen");
        if (!rewards)
            printf(" %7s %10s", "tokens", "a token");
    }
    putchar('\n');
}

static bool has_pairs(const struct at_dataset *d)
{
    for (uint32_t i = 0; i < d->n_rows; i++)
        if (d->rows[i].n_segments == 2)
            return true;
    return false;
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

/* In pieces, so that the first rows come soon and a signal is answered. */
static AT_CHECKED score_all(struct at_run *run, const struct at_dataset *d,
                            struct at_row_result *results, bool json)
{
    enum { PIECE = 64 };
    enum at_status st = AT_OK;
    const bool reference = at_method_get(run->method)->reference;
    const bool rewards = at_method_get(run->method)->value_head;
    const struct at_row *rows[PIECE];

    for (uint32_t begin = 0; begin < d->n_rows; begin += PIECE) {
        const uint32_t n = d->n_rows - begin < PIECE ? d->n_rows - begin : PIECE;
        for (uint32_t i = 0; i < n; i++)
            rows[i] = &d->rows[begin + i];
        TRY(at_score_rows(&run->engine, rows, n, results + begin, reference));
        for (uint32_t i = 0; i < n; i++) {
            if (json)
                TRY(print_row_json(rows[i], &results[begin + i], rewards));
            else
                print_row(rows[i], &results[begin + i], rewards);
        }
        if (at_signal_status() != AT_OK)
            FAIL(at_signal_status(), "stopped by a signal after %u of %u rows", begin + n,
                 d->n_rows);
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
    const bool json = cli_flag_on(args, "json");

    if (cli_flag_on(args, "tokens"))
        FAIL(AT_USAGE, "score --tokens is not built in this version");
    TRY(cli_config_read(&config, args, NULL));
    TRY(at_run_open_scores(&run, &config));
    rows = run.data.was_split ? &run.data.all : &run.data.train;
    TRY(at_alloc(&results, rows->n_rows, sizeof *results));
    for (uint32_t i = 0; i < rows->n_rows; i++)
        results[i].n_segments = at_row_sums(&rows->rows[i]);
    TRY(score_reference(&run, rows, results));
    TRY(at_engine_commit(&run.engine));
    if (run.engine.model.config.value_head && !run.engine.model.value.source)
        at_warn("random_head", "the value head is random: neither model nor adapter has one "
                               "(score.weight); name a trained reward model");
    if (!json)
        print_head(&run, has_pairs(rows));
    TRY(score_all(&run, rows, results, json));
    if (config.profile)
        TRY(cli_kernel_table(stderr, NULL, run.engine.stream));
done:
    at_free(&results);
    at_run_close(&run);
    at_config_release(&config);
    return st;
}
