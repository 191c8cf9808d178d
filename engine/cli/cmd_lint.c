#include "cli.h"

#include "bundle.h"
#include "lint.h"
#include "lint_with.h"
#include "objective.h"
#include <stdlib.h>
#include <string.h>

/* ---- output ---- */

static const char *path_of(const struct at_lint_params *p, uint32_t file)
{
    return file < p->n_train ? p->train[file] : p->held[file - p->n_train];
}

/* ---- findings of one cause ---- */

/* A finding, or the first of many rows that share its cause. */
struct told {
    const struct at_lint_finding *finding;
    const struct told *next; /* of the cause, by line */
    size_t n;                /* rows of the cause; 0: an earlier one speaks for it */
};

/* Texts that differ in numbers alone have one cause: "the same as line 7", "52 tokens, ...". */
static int compare_causes(const char *a, const char *b)
{
    static const char digits[] = "0123456789";

    for (;;) {
        const size_t n = strspn(a, digits), m = strspn(b, digits);
        a += n;
        b += m;
        if ((n > 0) != (m > 0))
            return n > 0 ? 1 : -1;
        if (*a != *b)
            return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
        if (!*a)
            return 0;
        a++;
        b++;
    }
}

static int compare_kinds(const struct at_lint_finding *a, const struct at_lint_finding *b)
{
    if (a->check != b->check)
        return a->check < b->check ? -1 : 1;
    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    return compare_causes(a->text, b->text);
}

static int compare_told(const void *left, const void *right)
{
    const struct told *a = *(const struct told *const *)left;
    const struct told *b = *(const struct told *const *)right;
    const int kinds = compare_kinds(a->finding, b->finding);

    return kinds != 0 ? kinds : a < b ? -1 : a > b;
}

/* What to tell of each finding: more than FEW of one cause are told at the first. */
static AT_CHECKED group(struct told **out, struct at_arena *arena, const struct at_lint *lint,
                        bool all)
{
    enum { FEW = 5 };
    enum at_status st = AT_OK;
    struct told *told = NULL, **order = NULL;
    size_t end = 0;

    TRY(at_arena_alloc(arena, &told, lint->n_findings, sizeof *told));
    TRY(at_arena_alloc(arena, &order, lint->n_findings, sizeof *order));
    for (size_t i = 0; i < lint->n_findings; i++) {
        told[i] = (struct told){ .finding = &lint->findings[i], .n = 1 };
        order[i] = &told[i];
    }
    if (!all)
        qsort(order, lint->n_findings, sizeof *order, compare_told);
    for (size_t i = 0; i < lint->n_findings && !all; i = end) {
        for (end = i + 1;
             end < lint->n_findings && compare_kinds(order[i]->finding, order[end]->finding) == 0;)
            end++;
        if (end - i <= FEW)
            continue;
        order[i]->n = end - i;
        for (size_t k = i + 1; k < end; k++) {
            order[k - 1]->next = order[k];
            order[k]->n = 0;
        }
    }
    *out = told;
done:
    return st;
}

static void print_finding(const struct at_lint_params *p, const struct told *told)
{
    enum { NAMED = 4 };
    const struct at_lint_finding *f = told->finding;
    const struct at_lint_row *check = at_lint_get(f->check);
    size_t named = 0;

    if (f->line > 0)
        printf("%s:%u:", path_of(p, f->file), f->line);
    if (f->column > 0)
        printf("%u:", f->column);
    printf("%s%s: %s: %s", f->line > 0 ? " " : "", at_lint_level_name(check->level), check->name,
           f->text);
    if (told->n > 1)
        printf("; %zu more such rows, lines", told->n - 1);
    for (const struct told *t = told->next; t && named < NAMED; t = t->next)
        printf("%s%u", named++ > 0 ? ", " : " ", t->finding->line);
    printf("%s\n", told->n > 1 ? ", ... (--all shows each)" : "");
}

/* "errors    empty 1, reversed 2" */
static void print_counts(const struct at_lint *lint, enum at_lint_level level, const char *label)
{
    bool any = false;

    for (uint32_t i = 0; i < AT_LINT_CHECKS; i++) {
        if (at_lint_get(i)->level != level || lint->counts[i] == 0)
            continue;
        printf("%s %s %u", any ? "," : label, at_lint_get(i)->name, lint->counts[i]);
        any = true;
    }
    if (any)
        printf("\n");
}

static int compare_scores(const void *left, const void *right)
{
    const struct at_lint_finding *a = *(const struct at_lint_finding *const *)left;
    const struct at_lint_finding *b = *(const struct at_lint_finding *const *)right;

    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a < b ? -1 : a > b;
}

/* Findings of displacement, the most alike sides first. */
static AT_CHECKED rank(const struct at_lint_finding ***out, size_t *out_n, struct at_arena *arena,
                       const struct at_lint *lint)
{
    enum at_status st = AT_OK;
    const struct at_lint_finding **ranked = NULL;
    size_t n = 0;

    TRY(at_arena_alloc(arena, &ranked, lint->counts[AT_LINT_DISPLACEMENT], sizeof *ranked));
    for (size_t i = 0; i < lint->n_findings; i++)
        if (lint->findings[i].check == AT_LINT_DISPLACEMENT)
            ranked[n++] = &lint->findings[i];
    qsort(ranked, n, sizeof *ranked, compare_scores);
    *out = ranked;
    *out_n = n;
done:
    return st;
}

static AT_CHECKED print_text(const struct at_lint *lint, const struct at_lint_params *p,
                             struct at_arena *arena, bool all)
{
    enum { SHOWN = 20, RANKED = 5 };
    enum at_status st = AT_OK;
    uint32_t shown[AT_LINT_CHECKS] = { 0 };
    size_t hidden = 0;
    struct told *told = NULL;
    const struct at_lint_finding **ranked = NULL;
    size_t n_ranked = 0;

    TRY(group(&told, arena, lint, all));
    for (size_t i = 0; i < lint->n_findings; i++) {
        const enum at_lint_check check = told[i].finding->check;
        if (told[i].n == 0)
            continue;
        if (!all && at_lint_get(check)->level == AT_LINT_WARNING && shown[check]++ >= SHOWN)
            hidden += told[i].n;
        else
            print_finding(p, &told[i]);
    }
    if (hidden > 0)
        printf("and %zu more warnings (--all shows them)\n", hidden);
    TRY(rank(&ranked, &n_ranked, arena, lint));
    for (size_t i = 0; i < n_ranked && i < RANKED; i++)
        printf("%s%s:%u (%.0f %%)%s", i == 0 ? "most alike " : ", ", path_of(p, ranked[i]->file),
               ranked[i]->line, 100 * ranked[i]->score,
               i + 1 == n_ranked || i + 1 == RANKED ? "\n" : "");
    if (lint->n_prompts > 0)
        printf("rows       %u: %u prompts to draw samples for; %u bad\n", lint->n_rows,
               lint->n_prompts, lint->n_bad);
    else
        printf("rows       %u: %u pairs, %u labelled, %u with one completion; %u bad\n",
               lint->n_rows, lint->n_pairs, lint->n_labelled, lint->n_singles, lint->n_bad);
    if (lint->n_pairs > 0)
        printf("length     chosen is longer in %.0f %% of the pairs, %.2f times the words\n",
               100 * lint->chosen_longer, lint->length_ratio);
    print_counts(lint, AT_LINT_ERROR, "errors    ");
    print_counts(lint, AT_LINT_WARNING, "warnings  ");
    print_counts(lint, AT_LINT_NOTE, "notes     ");
done:
    return st;
}

static void add_finding(cJSON *list, const struct at_lint_params *p,
                        const struct at_lint_finding *f)
{
    const struct at_lint_row *check = at_lint_get(f->check);
    cJSON *item = cJSON_CreateObject();

    cJSON_AddStringToObject(item, "check", check->name);
    cJSON_AddStringToObject(item, "level", at_lint_level_name(check->level));
    if (f->line > 0) {
        cJSON_AddStringToObject(item, "file", path_of(p, f->file));
        cJSON_AddNumberToObject(item, "line", f->line);
    }
    if (f->column > 0)
        cJSON_AddNumberToObject(item, "column", f->column);
    cJSON_AddStringToObject(item, "message", f->text);
    if (f->score > 0)
        cJSON_AddNumberToObject(item, "score", f->score);
    if (f->other > 0) {
        cJSON_AddStringToObject(item, "other_file", path_of(p, f->other_file));
        cJSON_AddNumberToObject(item, "other_line", f->other);
    }
    cJSON_AddItemToArray(list, item);
}

static AT_CHECKED print_json(const struct at_lint *lint, const struct at_lint_params *p)
{
    enum at_status st = AT_OK;
    cJSON *out = cJSON_CreateObject(), *part = NULL;

    cJSON_AddNumberToObject(out, "rows", lint->n_rows);
    cJSON_AddNumberToObject(out, "pairs", lint->n_pairs);
    cJSON_AddNumberToObject(out, "labelled", lint->n_labelled);
    cJSON_AddNumberToObject(out, "singles", lint->n_singles);
    cJSON_AddNumberToObject(out, "prompts_alone", lint->n_prompts);
    cJSON_AddNumberToObject(out, "bad_rows", lint->n_bad);
    if (lint->n_pairs > 0) {
        cJSON_AddNumberToObject(out, "chosen_longer", lint->chosen_longer);
        cJSON_AddNumberToObject(out, "length_ratio", lint->length_ratio);
    }
    part = cJSON_AddObjectToObject(out, "checks");
    for (uint32_t i = 0; i < AT_LINT_CHECKS; i++)
        cJSON_AddNumberToObject(part, at_lint_get(i)->name, lint->counts[i]);
    part = cJSON_AddArrayToObject(out, "findings");
    for (size_t i = 0; i < lint->n_findings; i++)
        add_finding(part, p, &lint->findings[i]);
    TRY(cli_print_pretty(out));
done:
    cJSON_Delete(out);
    return st;
}

/* ---- the command ---- */

static AT_CHECKED verdict(const struct at_lint *lint, const struct at_config *config,
                          struct cli_args *args, bool strict)
{
    uint32_t n_warnings = 0;

    for (uint32_t i = 0; i < AT_LINT_CHECKS; i++)
        n_warnings += at_lint_get(i)->level == AT_LINT_WARNING ? lint->counts[i] : 0;
    if (lint->n_bad > 0)
        return at_fail(AT_DATA, "%u of %u rows are bad (named above); correct or remove them",
                       lint->n_bad, lint->n_rows);
    if (strict && n_warnings > 0)
        return at_fail(AT_DATA, "%u warnings, and --strict was given", n_warnings);
    return cli_next_rows(args, config);
}

static AT_CHECKED lint_rows(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct at_config config = { .file = NULL };
    struct at_bundle bundle = { .path = NULL };
    struct at_lint_params p = { .n_train = 0 };
    struct at_lint lint = { .n_findings = 0 };
    const struct at_method_row *method = NULL;

    TRY(cli_data_config_read(&config, args));
    method = at_method_get(config.run_method);
    p.train = config.train_dataset.items;
    p.n_train = config.train_dataset.n;
    p.held = config.eval_dataset.items;
    p.n_held = config.eval_dataset.n;
    p.kind = method->draws ? AT_ROWS_SAMPLE : AT_ROWS_SFT;
    p.has_kind =
        method->draws || (!cli_is_data(args->n_positional > 0 ? args->positional[0] : "") &&
                          method->rows == AT_ROWS_SFT);
    p.n_new = config.max_completion_length;
    p.triples = at_objective_reads_triples(&config);
    p.eos = config.eos_token;
    p.system_prompt = config.system_prompt;
    p.max_length = at_run_row_limit(&config);
    TRY(cli_text_open(&bundle, &config));
    p.tokenizer = bundle.tokenizer;
    p.chat = bundle.chat;
    TRY(at_lint_run(&lint, &p));
    if (cli_flag_on(args, "json"))
        TRY(print_json(&lint, &p));
    else
        TRY(print_text(&lint, &p, &args->arena, cli_flag_on(args, "all")));
    cli_method_fit(&config, args, lint.n_singles > 0, lint.n_labelled > 0);
    TRY(verdict(&lint, &config, args, cli_flag_on(args, "strict")));
done:
    at_lint_release(&lint);
    at_bundle_close(&bundle);
    at_config_release(&config);
    return st;
}

enum at_status cli_data_lint(struct cli_args *args)
{
    static const char *const of_rows[] = { "all", "strict" }, *const of_page[] = { "annotator",
                                                                                   "port" };
    enum at_status st = AT_OK;
    const char *run = cli_flag_text(args, "with");

    for (size_t i = 0; i < AT_COUNT(of_rows) && run; i++)
        if (cli_flag_text(args, of_rows[i]))
            FAIL(AT_USAGE, "--%s is about rows, --with about a run's pairs; two commands do both",
                 of_rows[i]);
    for (size_t i = 0; i < AT_COUNT(of_page) && !run; i++)
        if (cli_flag_text(args, of_page[i]))
            FAIL(AT_USAGE, "--%s is of the page that --with RUN opens", of_page[i]);
    if (run && (args->n_positional > 0 || args->n_keys > 0))
        FAIL(AT_USAGE, "--with %s knows the files of the run's pairs; name no other", run);
    TRY(run ? cli_lint_with(args, run) : lint_rows(args));
done:
    return st;
}
