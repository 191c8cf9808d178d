#include "cli.h"

#include <string.h>

/* The ids and the mask of one side as the trainer sees it: the prefix, then the segment. */
static void add_side(cJSON *line, const char *name, const struct at_row *row, uint32_t k)
{
    const struct at_segment *s = &row->segment[k];
    cJSON *side = cJSON_AddObjectToObject(line, name);
    cJSON *ids = cJSON_AddArrayToObject(side, "input_ids");
    cJSON *mask = cJSON_AddArrayToObject(side, "completion_mask");

    for (uint32_t i = 0; i < row->n_prefix; i++) {
        cJSON_AddItemToArray(ids, cJSON_CreateNumber(row->prefix[i]));
        cJSON_AddItemToArray(mask, cJSON_CreateNumber(0));
    }
    for (uint32_t i = 0; i < s->n; i++) {
        cJSON_AddItemToArray(ids, cJSON_CreateNumber(s->ids[i]));
        cJSON_AddItemToArray(mask, cJSON_CreateNumber(s->targets[i]));
    }
}

bool cli_packed_text(char out[CLI_PACKED_BYTES], const struct at_run_data *data)
{
    const struct at_packs *packs[] = { &data->train_packs, &data->eval_packs };
    const uint32_t n_rows[] = { data->train.n_rows, data->eval.n_rows };
    size_t n = 0;

    out[0] = 0;
    for (size_t i = 0; i < AT_COUNT(packs); i++) {
        const struct at_packs *p = packs[i];
        if (p->how == AT_PACKING_NONE || p->n == 0)
            continue;
        snprintf(out + n, CLI_PACKED_BYTES - n, "%s%u rows as %u of up to %u tokens, %.1f %% full",
                 i == 0  ? ""
                 : n > 0 ? "; held out "
                         : "held out ",
                 n_rows[i], p->n, p->max_length, 100 * at_packs_fill(p));
        n = strlen(out);
    }
    return n > 0;
}

/* `pack`: the packed row that it stands in, or NULL. */
static AT_CHECKED show_json(const struct at_row *row, const uint32_t *pack)
{
    enum at_status st = AT_OK;
    cJSON *line = cJSON_CreateObject();

    cJSON_AddNumberToObject(line, "row", row->line - 1);
    if (pack)
        cJSON_AddNumberToObject(line, "packed_row", *pack);
    if (row->kind == AT_ROWS_LABELLED)
        cJSON_AddBoolToObject(line, "label", row->desirable);
    if (row->prompt_targets) /* of the prompt, whose part of the masks is 0 */
        cJSON_AddNumberToObject(line, "prompt_targets", at_row_prompt_targets(row));
    for (uint32_t k = 0; k < row->n_segments; k++)
        add_side(line, at_row_side_name(row, k), row, k);
    TRY(cli_print_line(line));
done:
    cJSON_Delete(line);
    return st;
}

static AT_CHECKED show_part(const struct at_tokenizer *t, const char *label, const int32_t *ids,
                            size_t n, uint32_t targets)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };

    TRY(at_tokenizer_decode(t, &text, ids, n, false));
    TRY(at_buf_status(&text));
    printf("  %-10s %5zu tokens, %5u count\n%s\n", label, n, targets, text.data ? text.data : "");
done:
    at_buf_release(&text);
    return st;
}

static AT_CHECKED show_text(const struct at_tokenizer *t, const struct at_row *row)
{
    enum at_status st = AT_OK;

    printf("line %u%s\n", row->line,
           row->kind != AT_ROWS_LABELLED ? ""
           : row->desirable              ? ", desirable"
                                         : ", not desirable");
    TRY(show_part(t, "shared", row->prefix, row->n_prefix, at_row_prompt_targets(row)));
    for (uint32_t k = 0; k < row->n_segments; k++)
        TRY(show_part(t, at_row_side_name(row, k), row->segment[k].ids, row->segment[k].n,
                      row->segment[k].n_targets));
done:
    return st;
}

static AT_CHECKED show_rows(const struct at_run *run, const struct at_dataset *d, uint32_t n,
                            bool json)
{
    enum at_status st = AT_OK;

    for (uint32_t i = 0; i < d->n_rows && i < n; i++) {
        if (json)
            TRY(show_json(&d->rows[i], NULL));
        else
            TRY(show_text(run->bundle.tokenizer, &d->rows[i]));
    }
done:
    return st;
}

/* Packed rows of the training rows, each with what is in it. */
static AT_CHECKED show_packs(const struct at_run *run, uint32_t n, bool json)
{
    enum at_status st = AT_OK;
    const struct at_packs *p = &run->data.train_packs;

    for (uint32_t k = 0; k < p->n && k < n; k++) {
        uint32_t tokens = 0;
        for (uint32_t i = p->begin[k]; i < p->begin[k + 1]; i++)
            tokens += at_row_tokens(&p->rows[i]);
        if (!json)
            printf("packed row %u: %u of %u tokens\n", k + 1, tokens, p->max_length);
        for (uint32_t i = p->begin[k]; i < p->begin[k + 1]; i++) {
            if (json)
                TRY(show_json(&p->rows[i], &k));
            else
                TRY(show_text(run->bundle.tokenizer, &p->rows[i]));
        }
    }
done:
    return st;
}

enum at_status cli_data_show(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct at_config config = { .file = NULL };
    struct at_run run = { .config = NULL };
    const struct at_dataset *d = NULL;
    const bool json = cli_flag_on(args, "json");
    char packed[CLI_PACKED_BYTES];
    uint32_t n = 3;

    TRY(cli_flag_u32(&n, args, "n", 1, UINT32_MAX));
    TRY(cli_data_config_read(&config, args));
    TRY(at_run_open_rows(&run, &config, NULL));
    if (run.online.is_on)
        FAIL(AT_USAGE, "there are no rows before samples are drawn; completions.jsonl of a run has "
                       "them, and attune tokenize --chat shows a prompt's ids");
    d = run.data.was_split ? &run.data.all : &run.data.train;
    if (run.data.train_packs.how != AT_PACKING_NONE)
        TRY(show_packs(&run, n, json));
    else
        TRY(show_rows(&run, d, n, json));
    cli_note("rows     %u read, %u kept, %u cut, %u dropped", d->n_read, d->n_rows, d->n_cut,
             d->n_dropped);
    if (d->form)
        cli_note("         in the form %s", d->form);
    if (cli_packed_text(packed, &run.data))
        cli_note("packed   %s", packed);
    TRY(cli_next_plan(args, &config, NULL, NULL));
done:
    at_run_close(&run);
    at_config_release(&config);
    return st;
}
