#include "convert.h"

#include "forms_parts.h"
#include "lines.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Kinds of rows, as --only has them. */
enum kind { PAIRS, LABELLED, SFT, KINDS };
static const char *const kinds[KINDS] = { "pairs", "labelled", "sft" };

struct job {
    const struct at_convert_params *params;
    struct at_convert_counts *counts;
    const struct at_form *from, *form; /* from: NULL, any */
    struct at_writer *writer;
    struct at_buf line;
    /* the row that is read: of a line, or the number of an object in a JSON array */
    const char *path;
    uint32_t number;
    bool of_array;
    uint64_t n_kind[KINDS]; /* rows that go out */
};

/* AT_DATA gets its place in front. */
static enum at_status placed(const struct job *job, enum at_status st)
{
    if (st == AT_DATA && job->of_array)
        at_context("%s: record %u", job->path, job->number);
    else if (st == AT_DATA)
        at_context("%s:%u", job->path, job->number);
    return st;
}

/* The row is left out; `why` stays. */
static void leave_out(struct job *job, const char *why)
{
    struct at_convert_left *left = job->counts->left;
    size_t i = 0;

    job->counts->n_left++;
    while (i + 1 < AT_COUNT(job->counts->left) && left[i].why && strcmp(left[i].why, why) != 0)
        i++;
    if (!left[i].why)
        left[i] = (struct at_convert_left){
            .why = why, .path = job->path, .first = job->number, .of_array = job->of_array
        };
    left[i].n++;
}

const char *at_form_names(bool written)
{
    static _Thread_local char text[200];
    size_t n = 0;

    text[0] = 0;
    for (size_t i = 0; at_form_get(i); i++)
        if ((!written || at_form_get(i)->give) && n < sizeof text)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n > 0 ? ", " : "",
                                  at_form_get(i)->name);
    return text;
}

static void count_form(struct at_convert_counts *counts, const char *name)
{
    size_t i = 0;

    while (i + 1 < AT_COUNT(counts->forms) && counts->forms[i] &&
           strcmp(counts->forms[i], name) != 0)
        i++;
    if (i + 1 < AT_COUNT(counts->forms))
        counts->forms[i] = name;
}

static bool is_system(const cJSON *message)
{
    const cJSON *role = at_json_find(message, "role");

    return cJSON_IsString(role) && strcmp(role->valuestring, "system") == 0;
}

/* The system message of the conversation that begins a row: of `prompt`, of `messages`, or of both
 * sides of pairs without a prompt. A row of texts has none. */
static void change_system(struct job *job, cJSON *row)
{
    static const char *const keys[] = { "prompt", "messages", "chosen", "rejected" };
    const bool with_prompt = at_json_find(row, "prompt") != NULL;
    bool changed = false;

    for (size_t i = 0; i < AT_COUNT(keys); i++) {
        cJSON *list = cJSON_GetObjectItemCaseSensitive(row, keys[i]), *m = NULL, *next = NULL;
        if (!cJSON_IsArray(list) || (i > 1 && with_prompt))
            continue;
        for (m = list->child; m; m = next) {
            next = m->next;
            if (!is_system(m))
                continue;
            changed = true;
            cJSON_Delete(cJSON_DetachItemViaPointer(list, m));
        }
        if (!job->params->system)
            continue;
        m = cJSON_CreateObject();
        cJSON_AddStringToObject(m, "role", "system");
        cJSON_AddStringToObject(m, "content", job->params->system);
        cJSON_InsertItemInArray(list, 0, m);
        changed = true;
    }
    job->counts->n_system += changed;
}

static enum kind kind_of(const cJSON *row)
{
    if (at_json_find(row, "chosen") || at_json_find(row, "rejected"))
        return PAIRS;
    return at_json_find(row, "label") ? LABELLED : SFT;
}

/* Of a log of feedback: whether somebody edited decides the kind of a row. */
static AT_CHECKED check_kinds(const struct job *job)
{
    enum at_status st = AT_OK;
    struct at_buf found = { 0 }, flags = { 0 };

    for (size_t i = 0; i < KINDS; i++) {
        if (job->n_kind[i] == 0 || job->n_kind[i] == job->counts->n_rows)
            continue;
        at_buf_printf(&found, "%s%llu %s", found.n > 0 ? ", " : "",
                      (unsigned long long)job->n_kind[i], kinds[i]);
        at_buf_printf(&flags, "%s--only %s", flags.n > 0 ? " or " : "", kinds[i]);
    }
    TRY(at_buf_status(&found));
    TRY(at_buf_status(&flags));
    if (found.n > 0)
        FAIL(AT_USAGE, "%s: rows of several kinds (%s), which no training reads together: say %s",
             job->params->from[0], found.data, flags.data);
done:
    at_buf_release(&found);
    at_buf_release(&flags);
    return st;
}

/* A row in TRL's keys goes out. */
static AT_CHECKED put_row(struct job *job, cJSON *row)
{
    enum at_status st = AT_OK;
    const enum kind kind = kind_of(row);

    if (job->params->only && strcmp(kinds[kind], job->params->only) != 0) {
        leave_out(job, "another kind of row");
        goto done;
    }
    if (job->params->drops_system)
        change_system(job, row);
    TRY(placed(job, at_form_give(job->form, row)));
    at_buf_clear(&job->line);
    at_json_write(&job->line, row);
    at_buf_puts(&job->line, "\n");
    TRY(at_buf_status(&job->line));
    TRY(at_writer_put(job->writer, job->line.data, job->line.n));
    job->counts->n_rows++;
    job->n_kind[kind]++;
done:
    return st;
}

/* The row's form, or the one that is given; AT_DATA where it is not of that. */
static AT_CHECKED form_of(const struct job *job, const struct at_form **form, cJSON *row)
{
    if (!cJSON_IsObject(row))
        return at_fail(AT_DATA, "a JSON object is expected; the file holds one a line, or all in "
                                "one list");
    if (job->from && !job->from->is(row))
        return at_fail(AT_DATA, "the row is not of the form %s: %s", job->from->name,
                       job->from->what);
    if (!job->from)
        at_form_drop_nulls(row);
    *form = job->from ? job->from : at_form_of(row);
    return AT_OK;
}

static AT_CHECKED convert_row(struct job *job, cJSON *row)
{
    enum at_status st = AT_OK;
    const struct at_form *form = NULL;
    const char *why = NULL;

    TRY(placed(job, form_of(job, &form, row)));
    if (form && form->lacks)
        why = form->lacks(row, &job->counts->unused);
    if (why) {
        leave_out(job, why);
        goto done;
    }
    if (form)
        TRY(placed(job, form->take(row)));
    count_form(job->counts, form ? form->name : "trl");
    at_form_part(row);
    TRY(put_row(job, row));
done:
    return st;
}

static AT_CHECKED convert_lines(struct job *job, const char *path)
{
    enum at_status st = AT_OK;
    struct at_lines lines;
    struct at_line line;
    cJSON *row = NULL;
    bool found = true;

    TRY(at_lines_open(&lines, path));
    for (;;) {
        TRY(at_lines_next(&lines, &line, &found));
        if (!found)
            break;
        TRY(at_json_parse(&row, line.text, line.n, path, line.number));
        job->number = line.number;
        TRY(convert_row(job, row));
        at_json_free(&row);
    }
done:
    at_json_free(&row);
    at_lines_close(&lines);
    return st;
}

/* A file that is one list of objects, as Argilla's to_json writes it. */
static AT_CHECKED convert_array(struct job *job, const struct at_text *file)
{
    enum at_status st = AT_OK;
    const size_t begin = at_text_begin(file);
    cJSON *list = NULL;

    job->of_array = true;
    TRY(at_json_parse(&list, file->data + begin, file->n - begin, job->path, 1));
    for (cJSON *row = list->child; row; row = row->next) {
        job->number++;
        TRY(convert_row(job, row));
    }
done:
    job->of_array = false;
    at_json_free(&list);
    return st;
}

static bool is_array(const struct at_text *file)
{
    size_t at = at_text_begin(file);

    while (at < file->n && file->data[at] && strchr(" \t\r\n", file->data[at]))
        at++;
    return at < file->n && file->data[at] == '[';
}

static AT_CHECKED convert_json(struct job *job, const char *path)
{
    enum at_status st = AT_OK;
    struct at_text file = { .n = 0 };

    TRY(at_text_open(&file, path));
    TRY(is_array(&file) ? convert_array(job, &file) : convert_lines(job, path));
done:
    at_text_close(&file);
    return st;
}

/* ---- tables ---- */

static const char *key_of(const struct at_convert_params *p, const char *column)
{
    for (size_t i = 0; i < p->n_columns; i++)
        if (strcmp(p->columns[i].name, column) == 0)
            return p->columns[i].key;
    return column;
}

static AT_CHECKED read_head(struct at_arena *arena, const char ***out, struct at_cells *cells,
                            const struct at_convert_params *p)
{
    enum at_status st = AT_OK;
    const char **keys = NULL;
    char *copy = NULL;
    bool found = false;

    TRY(at_cells_next(cells, &found));
    if (!found)
        FAIL(AT_DATA, "%s: the first row must name the columns", cells->path);
    TRY(at_arena_alloc(arena, &keys, cells->n, sizeof *keys));
    for (size_t i = 0; i < cells->n; i++) {
        TRY(at_arena_strdup(arena, &copy, key_of(p, at_cells_get(cells, i))));
        for (size_t k = 0; k < i; k++)
            if (strcmp(keys[k], copy) == 0)
                FAIL(AT_DATA, "%s:%u: two columns are \"%s\"", cells->path, cells->line, copy);
        keys[i] = copy;
    }
    for (size_t i = 0; i < p->n_columns; i++) {
        size_t k = 0;
        while (k < cells->n && strcmp(at_cells_get(cells, k), p->columns[i].name) != 0)
            k++;
        if (k == cells->n)
            FAIL(AT_DATA, "%s:%u: there is no column \"%s\"", cells->path, cells->line,
                 p->columns[i].name);
    }
    *out = keys;
done:
    return st;
}

/* A label may be written in several ways; other cells are texts, or messages of one role. */
static AT_CHECKED put_cell(cJSON *row, const char *key, const char *text, bool plain,
                           const struct at_cells *cells)
{
    static const char *const yes[] = { "true", "TRUE", "True", "1", "yes" };
    static const char *const no[] = { "false", "FALSE", "False", "0", "no" };
    static const char *const roles[][2] = { { "prompt", "user" },
                                            { "chosen", "assistant" },
                                            { "rejected", "assistant" },
                                            { "completion", "assistant" } };
    cJSON *list = NULL;
    char *end = NULL;

    if (strcmp(key, "margin") == 0) {
        cJSON_AddNumberToObject(row, key, strtod(text, &end));
        if (end == text || *end)
            return at_fail(AT_DATA, "%s:%u: \"margin\" is \"%.40s\"; a number is expected",
                           cells->path, cells->line, text);
        return AT_OK;
    }
    for (size_t i = 0; strcmp(key, "label") == 0 && i < AT_COUNT(yes); i++)
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            cJSON_AddBoolToObject(row, key, strcmp(text, yes[i]) == 0);
            return AT_OK;
        }
    if (strcmp(key, "label") == 0)
        return at_fail(AT_DATA, "%s:%u: \"label\" is \"%.40s\"; true or false is expected",
                       cells->path, cells->line, text);
    for (size_t i = 0; !plain && i < AT_COUNT(roles); i++)
        if (strcmp(key, roles[i][0]) == 0) {
            cJSON *m = cJSON_CreateObject();
            list = cJSON_AddArrayToObject(row, key);
            cJSON_AddStringToObject(m, "role", roles[i][1]);
            cJSON_AddStringToObject(m, "content", text);
            cJSON_AddItemToArray(list, m);
            return AT_OK;
        }
    cJSON_AddStringToObject(row, key, text);
    return AT_OK;
}

/* A system column goes in front of the prompt's messages. */
static void move_system(cJSON *row)
{
    cJSON *prompt = cJSON_GetObjectItemCaseSensitive(row, "prompt"), *m = NULL;
    const cJSON *system = at_json_find(row, "system");

    if (!cJSON_IsArray(prompt) || !cJSON_IsString(system))
        return;
    if (system->valuestring[0]) {
        m = cJSON_CreateObject();
        cJSON_AddStringToObject(m, "role", "system");
        cJSON_AddStringToObject(m, "content", system->valuestring);
        cJSON_InsertItemInArray(prompt, 0, m);
    }
    cJSON_DeleteItemFromObjectCaseSensitive(row, "system");
}

static AT_CHECKED check_columns(const char *const *keys, size_t n, const char *path)
{
    enum at_status st = AT_OK;
    struct at_buf found = { 0 };
    bool prompt = false, pair = false, other = false, completion = false;

    for (size_t i = 0; i < n; i++) {
        prompt = prompt || strcmp(keys[i], "prompt") == 0;
        pair = pair || strcmp(keys[i], "chosen") == 0;
        other = other || strcmp(keys[i], "rejected") == 0;
        completion = completion || strcmp(keys[i], "completion") == 0;
    }
    if (prompt && ((pair && other) || completion))
        goto done;
    for (size_t i = 0; i < n; i++)
        at_buf_printf(&found, "%s%s", i > 0 ? ", " : "", keys[i]);
    TRY(at_buf_status(&found));
    FAIL(AT_DATA,
         "%s: the columns prompt, chosen and rejected (or prompt and completion) are needed, found "
         "%s; name yours with --columns prompt=NAME,chosen=NAME,rejected=NAME",
         path, found.data);
done:
    at_buf_release(&found);
    return st;
}

static AT_CHECKED convert_table(struct job *job, const char *path, char separator)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { .last = NULL };
    struct at_cells cells = { .n = 0 };
    const char **keys = NULL;
    cJSON *row = NULL;
    size_t n_keys = 0;
    bool found = true;

    TRY(at_cells_open(&cells, path, separator));
    TRY(read_head(&arena, &keys, &cells, job->params));
    n_keys = cells.n;
    TRY(check_columns(keys, n_keys, path));
    count_form(job->counts, separator == '\t' ? "tsv" : "csv");
    for (;;) {
        TRY(at_cells_next(&cells, &found));
        if (!found)
            break;
        if (cells.n != n_keys)
            FAIL(AT_DATA, "%s:%u: %zu cells, the first row has %zu", path, cells.line, cells.n,
                 n_keys);
        row = cJSON_CreateObject();
        for (size_t i = 0; i < n_keys; i++)
            TRY(put_cell(row, keys[i], at_cells_get(&cells, i), job->params->plain, &cells));
        move_system(row);
        job->number = cells.line;
        TRY(put_row(job, row));
        at_json_free(&row);
    }
done:
    at_json_free(&row);
    at_cells_close(&cells);
    at_arena_release(&arena);
    return st;
}

/* ---- files ---- */

/* "a.csv", "a.csv.gz" */
static bool ends_with(const char *path, const char *end)
{
    static const char *const packed[] = { "", ".gz", ".zst" };
    const size_t n = strlen(path), n_end = strlen(end);

    for (size_t i = 0; i < AT_COUNT(packed); i++) {
        const size_t n_packed = strlen(packed[i]);
        if (n > n_end + n_packed && memcmp(path + n - n_packed, packed[i], n_packed) == 0 &&
            memcmp(path + n - n_packed - n_end, end, n_end) == 0)
            return true;
    }
    return false;
}

AT_CHECKED at_convert(struct at_convert_counts *out, const struct at_convert_params *params)
{
    enum at_status st = AT_OK;
    struct job job = { .params = params, .counts = out };

    *out = (struct at_convert_counts){ .n_rows = 0 };
    job.form = at_form_find(params->form ? params->form : "trl");
    if (!job.form || !job.form->give)
        FAIL(AT_USAGE, "form \"%s\": one of %s is expected", params->form, at_form_names(true));
    job.from = params->from_form ? at_form_find(params->from_form) : NULL;
    if (params->from_form && !job.from)
        FAIL(AT_USAGE, "form \"%s\": one of %s is expected", params->from_form,
             at_form_names(false));
    if (params->only && strcmp(params->only, "pairs") != 0 &&
        strcmp(params->only, "labelled") != 0 && strcmp(params->only, "sft") != 0)
        FAIL(AT_USAGE, "--only %s: pairs, labelled or sft is expected", params->only);
    if (at_path_exists(params->to))
        FAIL(AT_CANNOT_WRITE,
             "%s exists, and nothing is overwritten; remove it or name another file", params->to);
    TRY(at_writer_open(&job.writer, params->to));
    for (size_t i = 0; i < params->n_from; i++) {
        const char *path = params->from[i];
        job.path = path;
        job.number = 0;
        if (ends_with(path, ".csv"))
            TRY(convert_table(&job, path, 0));
        else if (ends_with(path, ".tsv"))
            TRY(convert_table(&job, path, '\t'));
        else
            TRY(convert_json(&job, path));
    }
    if (out->n_rows == 0 && out->n_left > 0)
        FAIL(AT_DATA, "%s: nothing to write; all %llu rows would be left out", params->from[0],
             (unsigned long long)out->n_left);
    if (out->n_rows == 0)
        FAIL(AT_DATA, "%s: the data set has no rows", params->from[0]);
    if (job.from == &at_form_feedback)
        TRY(check_kinds(&job));
    TRY(at_writer_commit(job.writer));
done:
    at_writer_close(&job.writer);
    at_buf_release(&job.line);
    return st;
}
