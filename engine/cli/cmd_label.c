/* `attune label`: people choose between two replies on a local page. */
#include "cli.h"

#include "label.h"
#include "server.h"

#include <string.h>

enum { MAX_DIMENSIONS = 8 };

/* "warmth,clarity" into names. */
static AT_CHECKED read_dimensions(struct at_labels_params *p, struct at_arena *arena,
                                  const char *text)
{
    enum at_status st = AT_OK;
    const char **names = NULL;
    char *copy = NULL;

    if (!text)
        goto done;
    TRY(at_arena_alloc(arena, &names, MAX_DIMENSIONS, sizeof *names));
    TRY(at_arena_strdup(arena, &copy, text));
    for (char *next = copy; next;) {
        char *name = next;
        next = strchr(name, ',');
        if (next)
            *next++ = 0;
        if (p->n_dimensions == MAX_DIMENSIONS)
            FAIL(AT_USAGE, "--dimensions %s: at most %d are rated", text, MAX_DIMENSIONS);
        names[p->n_dimensions++] = name;
    }
    p->dimensions = names;
done:
    return st;
}

static cJSON *agreement_json(const struct at_agreement *a, size_t n)
{
    cJSON *list = cJSON_CreateArray();

    for (size_t i = 0; i < n; i++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "one", a[i].one);
        cJSON_AddStringToObject(row, "other", a[i].other);
        cJSON_AddNumberToObject(row, "n", a[i].n);
        cJSON_AddNumberToObject(row, "equal", a[i].n_equal);
        cJSON_AddNumberToObject(row, "kappa", a[i].kappa);
        cJSON_AddItemToArray(list, row);
    }
    return list;
}

/* How far annotators agree, on stderr. */
static void tell_agreement(const struct at_agreement *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        cli_note("agreement  %s and %s: %u of %u pairs (%.0f %%), kappa %.2f", a[i].one, a[i].other,
                 a[i].n_equal, a[i].n, 100.0 * a[i].n_equal / a[i].n, a[i].kappa);
}

static AT_CHECKED write_out(struct cli_args *args, const struct at_labels *labels, const char *path)
{
    enum at_status st;
    struct at_labels_counts counts;
    struct at_agreement *agreement = NULL;
    size_t n = 0;
    cJSON *json = NULL;

    TRY(at_labels_export(&counts, labels, path));
    TRY(at_labels_agreement(&args->arena, &agreement, &n, labels));
    cli_note(
        "%s: %u rows, %u of them rewritten replies; left out: %u pairs on which annotators are "
        "divided, %u undecided",
        path, counts.n_rows, counts.n_edits, counts.n_split, counts.n_undecided);
    tell_agreement(agreement, n);
    cli_next("next       attune data lint %s", path);
    if (cli_flag_on(args, "json")) {
        json = cJSON_CreateObject();
        cJSON_AddNumberToObject(json, "rows", counts.n_rows);
        cJSON_AddNumberToObject(json, "edits", counts.n_edits);
        cJSON_AddNumberToObject(json, "divided", counts.n_split);
        cJSON_AddNumberToObject(json, "undecided", counts.n_undecided);
        cJSON_AddItemToObject(json, "agreement", agreement_json(agreement, n));
        TRY(cli_print_line(json));
    }
done:
    cJSON_Delete(json);
    return st;
}

static void tell_address(void *context, const char *url)
{
    const struct cli_args *args = context;
    enum at_status st = AT_OK;
    cJSON *json = NULL;

    if (cli_flag_on(args, "json")) {
        json = cJSON_CreateObject();
        cJSON_AddStringToObject(json, "url", url);
        st = cli_print_line(json);
        cJSON_Delete(json);
    } else {
        cli_note("open this; this machine alone can. Ctrl-C stops, and the same command goes on");
        printf("%s\n", url);
    }
    if (st != AT_OK || fflush(stdout) != 0)
        at_warn("stdout", "the address cannot be written");
}

static AT_CHECKED serve(struct cli_args *args, struct at_labels *labels,
                        const struct at_labels_params *p)
{
    enum at_status st;
    struct at_agreement *agreement = NULL;
    uint32_t port = 0;
    size_t n = 0;

    TRY(cli_flag_u32(&port, args, "port", 0, 65535));
    cli_note("pairs      %u, %u of them decided by %s", at_labels_count(labels),
             at_labels_done(labels), p->annotator);
    cli_note("log        %s", p->log);
    TRY(at_label_serve(labels, (uint16_t)port, tell_address, args));
    TRY(at_labels_agreement(&args->arena, &agreement, &n, labels));
    cli_note("decided    %u of %u pairs", at_labels_done(labels), at_labels_count(labels));
    tell_agreement(agreement, n);
    cli_next("next       attune label %s --export pairs.jsonl", p->path);
done:
    return st;
}

/* Where the decisions go, and whose they are. */
static AT_CHECKED read_who(struct at_labels_params *p, struct cli_args *args, const char *path)
{
    enum at_status st = AT_OK;
    char *log = NULL;

    p->path = path;
    p->log = cli_flag_text(args, "log");
    p->annotator = cli_flag_text(args, "annotator");
    if (!p->log) {
        TRY(at_arena_printf(&args->arena, &log, "%s.labels.jsonl", path));
        p->log = log;
    }
    if (!p->annotator)
        p->annotator = at_env("USER");
    if (!p->annotator || !*p->annotator)
        p->annotator = "me";
done:
    return st;
}

AT_CHECKED cli_label_page(struct cli_args *args, const char *path, bool review)
{
    enum at_status st = AT_OK;
    struct at_labels *labels = NULL;
    struct at_labels_params p = { .review = review, .seed = 42 };

    TRY(read_who(&p, args, path));
    TRY(at_labels_open(&labels, &p));
    TRY(serve(args, labels, &p));
done:
    at_labels_close(&labels);
    return st;
}

enum at_status cli_label(struct cli_args *args)
{
    enum at_status st = AT_OK;
    const char *out = cli_flag_text(args, "export");
    struct at_labels *labels = NULL;
    struct at_labels_params p = { .review = cli_flag_on(args, "review"), .reads = out };
    uint32_t seed = 42;

    if (args->n_positional == 0)
        FAIL(AT_USAGE, "usage: attune label %s", args->command->usage);
    TRY(read_who(&p, args, args->positional[0]));
    TRY(cli_flag_u32(&seed, args, "seed", 0, UINT32_MAX));
    p.seed = seed;
    TRY(read_dimensions(&p, &args->arena, cli_flag_text(args, "dimensions")));
    TRY(at_labels_open(&labels, &p));
    TRY(out ? write_out(args, labels, out) : serve(args, labels, &p));
done:
    at_labels_close(&labels);
    return st;
}
