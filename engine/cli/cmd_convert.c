#include "cli.h"

#include "convert.h"
#include "json.h"

#include <string.h>

/* "prompt=Question,chosen=New reply" into columns. */
static AT_CHECKED read_columns(struct at_column **out, size_t *out_n, struct at_arena *arena,
                               const char *text)
{
    enum at_status st = AT_OK;
    struct at_column *columns = NULL;
    char *copy = NULL, *next = NULL;
    size_t n = 0;

    TRY(at_arena_strdup(arena, &copy, text));
    TRY(at_arena_alloc(arena, &columns, strlen(text), sizeof *columns));
    for (char *key = copy; key; key = next) {
        char *name = strchr(key, '=');
        next = strchr(key, ',');
        if (next)
            *next++ = 0;
        if (!name || name == key || name[1] == 0 || (next && name > next))
            FAIL(AT_USAGE, "--columns %s: KEY=NAME,... is expected, such as prompt=Question", text);
        *name = 0;
        columns[n++] = (struct at_column){ .name = name + 1, .key = key };
    }
    *out = columns;
    *out_n = n;
done:
    return st;
}

/* keep, drop, or replace=FILE, whose text (without an end of line) takes the place. */
static AT_CHECKED read_system(struct at_convert_params *p, struct at_buf *text, const char *how)
{
    static const char replace[] = "replace=";
    enum at_status st = AT_OK;

    p->drops_system = how && strcmp(how, "keep") != 0;
    if (!p->drops_system || strcmp(how, "drop") == 0)
        goto done;
    if (strncmp(how, replace, sizeof replace - 1) != 0 || !how[sizeof replace - 1])
        FAIL(AT_USAGE, "--system %s: keep, drop or replace=FILE is expected", how);
    TRY(at_file_read(text, how + sizeof replace - 1));
    while (text->n > 0 && (text->data[text->n - 1] == '\n' || text->data[text->n - 1] == '\r'))
        text->data[--text->n] = 0;
    if (text->n == 0 || strlen(text->data) != text->n ||
        at_utf8_check(text->data, text->n) != text->n)
        FAIL(AT_DATA, "%s: a text in UTF-8 is expected", how + sizeof replace - 1);
    p->system = text->data;
done:
    return st;
}

/* What is not in the new file, and why. */
static void say_left(const struct at_convert_counts *counts)
{
    const struct at_form_unused *unused = &counts->unused;

    for (size_t i = 0; i < AT_COUNT(counts->left) && counts->left[i].why; i++) {
        const struct at_convert_left *left = &counts->left[i];
        cli_note("%llu row%s left out: %s (first %s%s%u)", (unsigned long long)left->n,
                 left->n == 1 ? " was" : "s were", left->why, left->path,
                 left->of_array ? ", record " : ":", left->first);
    }
    if (unused->n_drafts > 0 || unused->n_discarded > 0)
        cli_note("not counted: %llu answers that are drafts, %llu that were discarded",
                 (unsigned long long)unused->n_drafts, (unsigned long long)unused->n_discarded);
}

enum at_status cli_data_convert(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct at_buf system = { 0 };
    struct at_convert_counts counts;
    struct at_column *columns = NULL;
    const char *list = cli_flag_text(args, "columns");
    struct at_buf forms = { 0 };
    struct at_convert_params p = { .from = args->positional,
                                   .n_from = args->n_positional,
                                   .to = cli_flag_text(args, "output"),
                                   .from_form = cli_flag_text(args, "from"),
                                   .form = cli_flag_text(args, "to"),
                                   .only = cli_flag_text(args, "only"),
                                   .plain = cli_flag_on(args, "plain") };

    if (p.n_from == 0 || !p.to)
        FAIL(AT_USAGE, "usage: attune data convert %s", args->command->usage);
    TRY(read_system(&p, &system, cli_flag_text(args, "system")));
    if (list)
        TRY(read_columns(&columns, &p.n_columns, &args->arena, list));
    p.columns = columns;
    st = at_convert(&counts, &p);
    if (st != AT_OK && counts.n_rows == 0)
        say_left(&counts);
    TRY(st);
    for (size_t i = 0; counts.forms[i]; i++)
        at_buf_printf(&forms, "%s%s", i > 0 ? ", " : "", counts.forms[i]);
    TRY(at_buf_status(&forms));
    cli_note("%s: %llu rows, %s to %s", p.to, (unsigned long long)counts.n_rows, forms.data,
             p.form ? p.form : "trl");
    if (p.drops_system)
        cli_note("%llu of them have another system message now, or none",
                 (unsigned long long)counts.n_system);
    say_left(&counts);
    cli_next("next       attune data lint %s", p.to);
done:
    at_buf_release(&forms);
    at_buf_release(&system);
    return st;
}
