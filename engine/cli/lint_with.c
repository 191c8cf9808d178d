#include "lint_with.h"

#include "lines.h"
#include "report.h"

#include <stdlib.h>
#include <string.h>

struct bad_rows {
    struct at_bad_pair *pairs; /* (n) the worst first */
    char **texts;              /* (n) their lines */
    uint32_t n, n_judged;
};
struct wanted {
    const struct at_bad_pair *pair;
    uint32_t index;
};

static int by_place(const void *left, const void *right)
{
    const struct wanted *a = left, *b = right;
    const int files = strcmp(a->pair->file, b->pair->file);

    if (files != 0)
        return files;
    return (a->pair->line > b->pair->line) - (a->pair->line < b->pair->line);
}

/* The lines of one file, which are in order; *taken counts them. */
static AT_CHECKED read_file(struct bad_rows *bad, struct at_arena *arena, const struct wanted *list,
                            uint32_t n, uint32_t *taken)
{
    enum at_status st = AT_OK;
    const char *path = list[0].pair->file;
    struct at_lines lines = { .number = 0 };
    struct at_line line = { .number = 0 };
    bool found = true;
    uint32_t k = 0;

    TRY(at_lines_open(&lines, path));
    for (; k < n && strcmp(list[k].pair->file, path) == 0; k++) {
        while (found && lines.number < list[k].pair->line)
            TRY(at_lines_next(&lines, &line, &found));
        if (!found || line.number != list[k].pair->line)
            FAIL(AT_DATA, "%s has changed since the run: it has no row in line %u any more", path,
                 list[k].pair->line);
        TRY(at_arena_strndup(arena, &bad->texts[list[k].index], line.text, line.n));
    }
    *taken = k;
done:
    at_lines_close(&lines);
    return st;
}

static AT_CHECKED read_rows(struct bad_rows *bad, struct at_arena *arena, const char *run)
{
    enum at_status st = AT_OK;
    struct wanted *list = NULL;
    uint32_t taken = 0;

    TRY(at_arena_alloc(arena, &list, bad->n, sizeof *list));
    TRY(at_arena_alloc(arena, &bad->texts, bad->n, sizeof *bad->texts));
    for (uint32_t i = 0; i < bad->n; i++) {
        if (!bad->pairs[i].file)
            FAIL(AT_DATA, "%s/run.json does not tell the files of its pairs", run);
        list[i] = (struct wanted){ &bad->pairs[i], i };
    }
    qsort(list, bad->n, sizeof *list, by_place);
    for (uint32_t i = 0; i < bad->n; i += taken)
        TRY(read_file(bad, arena, list + i, bad->n - i, &taken));
done:
    return st;
}

static cJSON *source_json(const struct at_bad_pair *pair)
{
    cJSON *source = cJSON_CreateObject();

    cJSON_AddStringToObject(source, "file", pair->file);
    cJSON_AddNumberToObject(source, "line", pair->line);
    cJSON_AddNumberToObject(source, "margin", pair->margin);
    cJSON_AddStringToObject(source, "fate", pair->fate);
    return source;
}

static AT_CHECKED write_rows(const struct bad_rows *bad, const char *path)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    cJSON *row = NULL;

    for (uint32_t i = 0; i < bad->n; i++) {
        TRY(at_json_parse(&row, bad->texts[i], strlen(bad->texts[i]), bad->pairs[i].file,
                          bad->pairs[i].line));
        cJSON_DeleteItemFromObjectCaseSensitive(row, "source");
        cJSON_AddItemToObject(row, "source", source_json(&bad->pairs[i]));
        at_json_write(&text, row);
        at_buf_puts(&text, "\n");
        at_json_free(&row);
    }
    TRY(at_buf_status(&text));
    TRY(at_file_write_atomic(path, text.data, text.n));
done:
    at_json_free(&row);
    at_buf_release(&text);
    return st;
}

static AT_CHECKED print_list(const struct bad_rows *bad, const char *path, bool json)
{
    enum at_status st = AT_OK;
    cJSON *out = NULL, *list = NULL;

    if (!json) {
        for (uint32_t i = 0; i < bad->n; i++)
            printf("%s:%u: %s, margin %+.3f\n", bad->pairs[i].file, bad->pairs[i].line,
                   bad->pairs[i].fate, bad->pairs[i].margin);
        return AT_OK;
    }
    out = cJSON_CreateObject();
    cJSON_AddNumberToObject(out, "judged", bad->n_judged);
    cJSON_AddStringToObject(out, "rows", path);
    list = cJSON_AddArrayToObject(out, "bad_pairs");
    for (uint32_t i = 0; i < bad->n; i++)
        cJSON_AddItemToArray(list, source_json(&bad->pairs[i]));
    TRY(cli_print_pretty(out));
done:
    cJSON_Delete(out);
    return st;
}

AT_CHECKED cli_lint_with(struct cli_args *args, const char *run)
{
    enum at_status st = AT_OK;
    const struct at_report_params p = { .dir = run };
    struct at_report *report = NULL;
    struct bad_rows bad = { .n = 0 };
    char *path = NULL;

    TRY(at_report_open(&report, &p));
    TRY(at_report_bad_pairs(&args->arena, &bad.pairs, &bad.n, &bad.n_judged, report));
    if (bad.n == 0)
        FAIL(AT_DATA,
             "%s judged no pairs: it needs held-out ones (eval_dataset or eval_split) and a "
             "method with pairs",
             run);
    TRY(read_rows(&bad, &args->arena, run));
    TRY(at_path_join(&args->arena, &path, run, "bad_pairs.jsonl"));
    TRY(write_rows(&bad, path));
    TRY(print_list(&bad, path, cli_flag_on(args, "json")));
    cli_note("bad pairs  %u of %u that the run judged; %s has them, the worst first", bad.n,
             bad.n_judged, path);
    if (cli_flag_on(args, "json"))
        cli_next("next       attune label %s --review", path);
    else
        TRY(cli_label_page(args, path, true));
done:
    at_report_close(&report);
    return st;
}
