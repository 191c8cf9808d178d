#include "argilla.h"

#include "mem.h"

#include <stdio.h>
#include <string.h>

/* ---- layouts ---- */

static const char OF_ANSWERS[] = ".responses";

enum layout { LAYOUT_NONE, LAYOUT_NESTED, LAYOUT_V1_COLUMNS, LAYOUT_V2_COLUMNS };

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), n_end = strlen(end);

    return n > n_end && memcmp(text + n - n_end, end, n_end) == 0;
}

static bool has_parts(const cJSON *item)
{
    return cJSON_IsArray(item) || cJSON_IsObject(item);
}

/* A column of 1.x: a list of answers, or an object of lists. */
static bool is_answers(const cJSON *item)
{
    const cJSON *first = cJSON_IsArray(item) ? item->child : item;

    return cJSON_IsObject(first) && at_json_find(first, "user_id") &&
           at_json_find(first, "value") && at_json_find(first, "status");
}

static enum layout layout_of(const cJSON *row)
{
    if (cJSON_IsObject(at_json_find(row, "fields")) &&
        (has_parts(at_json_find(row, "responses")) || has_parts(at_json_find(row, "suggestions"))))
        return LAYOUT_NESTED;
    if (cJSON_IsString(at_json_find(row, "_server_id")) &&
        cJSON_IsString(at_json_find(row, "status")))
        return LAYOUT_V2_COLUMNS;
    for (const cJSON *item = cJSON_IsObject(row) ? row->child : NULL; item; item = item->next) {
        if (ends_with(item->string, ".responses.status") ||
            ends_with(item->string, ".suggestion.agent") ||
            ends_with(item->string, ".suggestion.score"))
            return LAYOUT_V2_COLUMNS;
        if ((ends_with(item->string, "-suggestion-metadata") && cJSON_IsObject(item)) ||
            is_answers(item))
            return LAYOUT_V1_COLUMNS;
    }
    return LAYOUT_NONE;
}

bool at_argilla_is(const cJSON *row)
{
    return layout_of(row) != LAYOUT_NONE;
}

/* ---- fields ---- */

static bool is_messages(const cJSON *item)
{
    return cJSON_IsArray(item) && cJSON_IsString(at_json_find(item->child, "role"));
}

static AT_CHECKED add_field(struct at_argilla *r, const cJSON *item)
{
    enum at_status st = AT_OK;

    if (!cJSON_IsString(item) && !is_messages(item))
        goto done; /* numbers, images, nulls */
    if (r->n_fields == r->field_capacity) {
        const size_t capacity = r->field_capacity ? 2 * r->field_capacity : 8;
        TRY(at_realloc(&r->fields, r->field_capacity, capacity, sizeof *r->fields));
        r->field_capacity = capacity;
    }
    r->fields[r->n_fields++] = (struct at_argilla_field){ item->string, item };
done:
    return st;
}

/* Columns that tell about a record, and stay. */
static bool is_told(const char *key)
{
    static const char *const names[] = { "external_id", "id", "metadata" };

    for (size_t i = 0; i < AT_COUNT(names); i++)
        if (strcmp(names[i], key) == 0)
            return true;
    return false;
}

/* Columns that are no fields. */
static bool is_of_record(const char *key)
{
    static const char *const of_server[] = { "_server_id", "inserted_at", "status", "updated_at" };
    static const char *const ends[] = { "-suggestion",       "-suggestion-metadata", ".responses",
                                        ".responses.status", ".responses.users",     ".suggestion",
                                        ".suggestion.agent", ".suggestion.score" };

    for (size_t i = 0; i < AT_COUNT(of_server); i++)
        if (strcmp(of_server[i], key) == 0)
            return true;
    for (size_t i = 0; i < AT_COUNT(ends); i++)
        if (ends_with(key, ends[i]))
            return true;
    return is_told(key);
}

static AT_CHECKED read_fields(struct at_argilla *r, const cJSON *row, enum layout layout)
{
    enum at_status st = AT_OK;
    const cJSON *from = layout == LAYOUT_NESTED ? at_json_find(row, "fields") : row;

    for (const cJSON *item = from->child; item; item = item->next)
        if (layout == LAYOUT_NESTED || !is_of_record(item->string))
            TRY(add_field(r, item));
done:
    return st;
}

/* ---- answers ---- */

static AT_CHECKED add_answer(struct at_argilla *r, const char *question, const cJSON *user,
                             const cJSON *status, const cJSON *value)
{
    enum at_status st = AT_OK;
    const char *said = cJSON_GetStringValue(status);

    if (status && !cJSON_IsNull(status) &&
        (!said || (strcmp(said, "submitted") != 0 && strcmp(said, "draft") != 0 &&
                   strcmp(said, "pending") != 0 && strcmp(said, "discarded") != 0)))
        FAIL(AT_DATA, "the status of an answer to \"%.60s\" is none of submitted, draft, discarded",
             question);
    if (said && strcmp(said, "submitted") != 0) {
        r->n_discarded += strcmp(said, "discarded") == 0;
        r->n_drafts += strcmp(said, "discarded") != 0;
        goto done;
    }
    if (!value || cJSON_IsNull(value))
        goto done; /* a question that was left out */
    if (r->n_answers == r->answer_capacity) {
        const size_t capacity = r->answer_capacity ? 2 * r->answer_capacity : 8;
        TRY(at_realloc(&r->answers, r->answer_capacity, capacity, sizeof *r->answers));
        r->answer_capacity = capacity;
    }
    r->answers[r->n_answers++] = (struct at_argilla_answer){
        .question = question,
        .n_question =
            strlen(question) - (ends_with(question, OF_ANSWERS) ? sizeof OF_ANSWERS - 1 : 0),
        .user = cJSON_GetStringValue(user),
        .value = value
    };
done:
    return st;
}

/* [{user_id, value, status}], in the order of the list. */
static AT_CHECKED read_list(struct at_argilla *r, const char *question, const cJSON *list)
{
    enum at_status st = AT_OK;

    for (const cJSON *item = list->child; item; item = item->next)
        TRY(add_answer(r, question, at_json_find(item, "user_id"), at_json_find(item, "status"),
                       at_json_find(item, "value")));
done:
    return st;
}

/* Lists of users, statuses and values; those of users and statuses may be missing. */
static AT_CHECKED read_lists(struct at_argilla *r, const char *question, const cJSON *users,
                             const cJSON *statuses, const cJSON *values)
{
    enum at_status st = AT_OK;
    const int n = cJSON_GetArraySize(values);

    if ((cJSON_IsArray(users) && cJSON_GetArraySize(users) != n) ||
        (cJSON_IsArray(statuses) && cJSON_GetArraySize(statuses) != n))
        FAIL(AT_DATA, "the answers to \"%.60s\" are not as many as their users and statuses",
             question);
    for (int i = 0; i < n; i++)
        TRY(add_answer(r, question, cJSON_IsArray(users) ? cJSON_GetArrayItem(users, i) : NULL,
                       cJSON_IsArray(statuses) ? cJSON_GetArrayItem(statuses, i) : NULL,
                       cJSON_GetArrayItem(values, i)));
done:
    return st;
}

/* responses of 1.x: one a person, with the answers to all questions. */
static AT_CHECKED read_response(struct at_argilla *r, const cJSON *response)
{
    enum at_status st = AT_OK;
    const cJSON *values = at_json_find(response, "values");
    const cJSON *user = at_json_find(response, "user_id"),
                *status = at_json_find(response, "status");

    if (!cJSON_IsObject(response))
        FAIL(AT_DATA, "\"responses\" must be a list of {user_id, status, values}");
    if (!cJSON_IsObject(values) || !values->child)
        TRY(add_answer(r, "responses", user, status, NULL));
    for (const cJSON *item = cJSON_IsObject(values) ? values->child : NULL; item; item = item->next)
        TRY(add_answer(r, item->string, user, status,
                       cJSON_IsObject(item) ? at_json_find(item, "value") : item));
done:
    return st;
}

static bool is_suggested(const cJSON *suggestions)
{
    for (const cJSON *item = has_parts(suggestions) ? suggestions->child : NULL; item;
         item = item->next)
        if (!cJSON_IsNull(item))
            return true;
    return false;
}

static AT_CHECKED read_nested(struct at_argilla *r, const cJSON *row)
{
    enum at_status st = AT_OK;
    const cJSON *responses = at_json_find(row, "responses");

    r->suggested = is_suggested(at_json_find(row, "suggestions"));
    for (const cJSON *item = has_parts(responses) ? responses->child : NULL; item;
         item = item->next)
        TRY(cJSON_IsObject(responses) ? read_list(r, item->string, item) : read_response(r, item));
done:
    return st;
}

/* The column "KEY END" of a row. */
static const cJSON *beside(const cJSON *row, const char *key, const char *end)
{
    char name[256];
    const int n = snprintf(name, sizeof name, "%s%s", key, end);

    if (n < 0 || (size_t)n >= sizeof name)
        return NULL;
    return at_json_find(row, name);
}

static AT_CHECKED read_columns(struct at_argilla *r, const cJSON *row, enum layout layout)
{
    enum at_status st = AT_OK;

    for (const cJSON *item = row->child; item; item = item->next) {
        const char *key = item->string;
        if (ends_with(key, layout == LAYOUT_V2_COLUMNS ? ".suggestion" : "-suggestion"))
            r->suggested = r->suggested || !cJSON_IsNull(item);
        else if (layout == LAYOUT_V2_COLUMNS && ends_with(key, ".responses") && cJSON_IsArray(item))
            TRY(read_lists(r, key, beside(row, key, ".users"), beside(row, key, ".status"), item));
        else if (layout == LAYOUT_V1_COLUMNS && is_answers(item))
            TRY(cJSON_IsArray(item)
                    ? read_list(r, key, item)
                    : read_lists(r, key, at_json_find(item, "user_id"),
                                 at_json_find(item, "status"), at_json_find(item, "value")));
    }
done:
    return st;
}

AT_CHECKED at_argilla_read(struct at_argilla *out, const cJSON *row)
{
    enum at_status st = AT_OK;
    const enum layout layout = layout_of(row);

    AT_REQUIRE(layout != LAYOUT_NONE);
    *out = (struct at_argilla){ .mixed = layout == LAYOUT_V2_COLUMNS };
    TRY(read_fields(out, row, layout));
    TRY(layout == LAYOUT_NESTED ? read_nested(out, row) : read_columns(out, row, layout));
done:
    if (st != AT_OK)
        at_argilla_release(out);
    return st;
}

void at_argilla_drop(cJSON *row)
{
    static const char *const nested[] = { "_server_id", "fields",      "inserted_at", "responses",
                                          "status",     "suggestions", "updated_at",  "vectors" };
    const bool columns = layout_of(row) != LAYOUT_NESTED;

    for (size_t i = 0; !columns && i < AT_COUNT(nested); i++)
        cJSON_DeleteItemFromObjectCaseSensitive(row, nested[i]);
    for (cJSON *item = row->child, *next = NULL; columns && item; item = next) {
        next = item->next;
        if (!is_told(item->string))
            cJSON_Delete(cJSON_DetachItemViaPointer(row, item));
    }
}

void at_argilla_release(struct at_argilla *r)
{
    at_free(&r->fields);
    at_free(&r->answers);
    *r = (struct at_argilla){ .n_fields = 0 };
}
