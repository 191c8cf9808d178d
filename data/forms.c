#include "forms_parts.h"

#include <string.h>

/* ---- parts ---- */

bool at_form_has_text(const cJSON *row, const char *key)
{
    return cJSON_IsString(at_json_find(row, key));
}

bool at_form_has_list(const cJSON *row, const char *key)
{
    return cJSON_IsArray(at_json_find(row, key));
}

const char *at_form_text(const cJSON *row, const char *key)
{
    const cJSON *item = at_json_find(row, key);

    return cJSON_IsString(item) ? item->valuestring : "";
}

cJSON *at_form_add(cJSON *list, const char *role, const char *content)
{
    cJSON *m = cJSON_CreateObject();

    cJSON_AddStringToObject(m, "role", role);
    cJSON_AddStringToObject(m, "content", content);
    cJSON_AddItemToArray(list, m);
    return list;
}

cJSON *at_form_list(const char *role, const char *content)
{
    return at_form_add(cJSON_CreateArray(), role, content);
}

void at_form_set(cJSON *row, const char *key, cJSON *item)
{
    if (at_json_find(row, key))
        cJSON_ReplaceItemInObjectCaseSensitive(row, key, item);
    else
        cJSON_AddItemToObject(row, key, item);
}

void at_form_drop(cJSON *row, const char *key)
{
    cJSON_DeleteItemFromObjectCaseSensitive(row, key);
}

AT_CHECKED at_form_messages(cJSON **out, const cJSON *item, const char *key)
{
    if (!cJSON_IsArray(item) && !cJSON_IsObject(item))
        return at_fail(AT_DATA, "\"%s\" must be a message or a list of messages", key);
    *out = cJSON_Duplicate(item, true);
    if (cJSON_IsObject(item)) {
        cJSON *list = cJSON_CreateArray();
        cJSON_AddItemToArray(list, *out);
        *out = list;
    }
    return AT_OK;
}

AT_CHECKED at_form_check(const cJSON *list, const char *key, bool whole)
{
    size_t number = 1;

    for (const cJSON *m = list ? list->child : NULL; m; m = m->next, number++) {
        const cJSON *content = at_json_find(m, "content");
        const bool calls = at_form_has_list(m, "tool_calls");
        if (!at_form_has_text(m, "role") ||
            !(cJSON_IsString(content) || (whole && (calls || cJSON_IsArray(content)))))
            return at_fail(AT_DATA, "\"%s\": message %zu is not an object with role and content",
                           key, number);
        for (const cJSON *item = m->child; !whole && item; item = item->next)
            if (strcmp(item->string, "role") != 0 && strcmp(item->string, "content") != 0)
                return at_fail(AT_DATA,
                               "\"%s\": message %zu has \"%.40s\", which this form cannot hold",
                               key, number, item->string);
    }
    return AT_OK;
}

AT_CHECKED at_form_reply(const char **out, const cJSON *list, const char *key)
{
    const cJSON *m = list ? list->child : NULL;

    if (!cJSON_IsArray(list) || !m || m->next || strcmp(at_form_text(m, "role"), "assistant") != 0)
        return at_fail(AT_DATA, "\"%s\" must be one message of the assistant in this form", key);
    *out = at_form_text(m, "content");
    return AT_OK;
}

/* ---- trl: as it is, whatever else it may look like ---- */

static bool is_object(const cJSON *row)
{
    return cJSON_IsObject(row);
}

static AT_CHECKED keep(cJSON *row)
{
    (void)row;
    return AT_OK;
}

const struct at_form at_form_trl = {
    .name = "trl",
    .what = "prompt, chosen, rejected; prompt, completion, label; messages; text",
    .whole_messages = true,
    .is = is_object,
    .take = keep,
    .give = keep,
};

/* ---- the table ---- */

static const struct at_form *const forms[] = {
    &at_form_alpaca,   &at_form_argilla,  &at_form_feedback,      &at_form_hh_rlhf,
    &at_form_openai,   &at_form_openpipe, &at_form_orca,          &at_form_ratings,
    &at_form_sharegpt, &at_form_trl,      &at_form_ultrafeedback,
};

const struct at_form *at_form_get(size_t i)
{
    return i < AT_COUNT(forms) ? forms[i] : NULL;
}

const struct at_form *at_form_find(const char *name)
{
    for (size_t i = 0; i < AT_COUNT(forms); i++)
        if (strcmp(forms[i]->name, name) == 0)
            return forms[i];
    return NULL;
}

/* ---- prompts ---- */

size_t at_form_shared(const cJSON *a, const cJSON *b)
{
    size_t n = 0;

    for (a = a->child, b = b->child; a && b; a = a->next, b = b->next, n++)
        if (!cJSON_Compare(a, b, true))
            return n;
    return n > 0 ? n - 1 : 0;
}

void at_form_part(cJSON *row)
{
    static const char *const sides[] = { "chosen", "rejected" };
    cJSON *prompt = NULL;
    size_t n = 0;

    if (at_json_find(row, "prompt") || !at_form_has_list(row, "chosen") ||
        !at_form_has_list(row, "rejected"))
        return;
    n = at_form_shared(at_json_find(row, "chosen"), at_json_find(row, "rejected"));
    if (n == 0)
        return;
    prompt = cJSON_CreateArray();
    for (size_t i = 0; i < AT_COUNT(sides); i++) {
        cJSON *side = cJSON_GetObjectItemCaseSensitive(row, sides[i]);
        for (size_t k = 0; k < n; k++) {
            cJSON *m = cJSON_DetachItemFromArray(side, 0);
            if (i == 0)
                cJSON_AddItemToArray(prompt, m);
            else
                cJSON_Delete(m);
        }
    }
    cJSON_AddItemToObject(row, "prompt", prompt);
}

/* ---- rewriting ---- */

void at_form_drop_nulls(cJSON *row)
{
    for (cJSON *item = row->child, *next = NULL; item; item = next) {
        next = item->next;
        if (cJSON_IsNull(item))
            cJSON_Delete(cJSON_DetachItemViaPointer(row, item));
    }
}

/* Whether TRL would take the row as it is, whatever other keys it has: parts of one kind. A pair
 * without a prompt of its own is complete as lists; as texts it may be a transcript. */
static bool is_complete(const cJSON *row)
{
    static const char *const parts[][3] = { { "prompt", "chosen", "rejected" },
                                            { "prompt", "completion", "completion" } };

    for (size_t i = 0; i < AT_COUNT(parts); i++) {
        bool texts = true, lists = true;
        for (size_t k = 0; k < 3; k++) {
            texts = texts && at_form_has_text(row, parts[i][k]);
            lists = lists && at_form_has_list(row, parts[i][k]);
        }
        if (texts || lists)
            return true;
    }
    return (at_form_has_list(row, "messages") && !at_json_find(row, "rejected_message") &&
            !at_json_find(row, "generations")) ||
           at_form_has_text(row, "text");
}

/* One of TRL's forms, or of what is close enough for the reader to say what is missing. */
static AT_CHECKED check_row(const cJSON *row)
{
    static const char *const needed[][2] = { { "chosen", "rejected" },
                                             { "completion", "prompt" },
                                             { "messages", "messages" },
                                             { "text", "text" },
                                             { "prompt", "chosen" } };

    for (size_t i = 0; i < AT_COUNT(needed); i++)
        if (at_json_find(row, needed[i][0]) && at_json_find(row, needed[i][1]))
            return AT_OK;
    return at_fail(AT_DATA, "the row has none of the forms that are known (attune data convert "
                            "--help lists them)");
}

const struct at_form *at_form_of(const cJSON *row)
{
    if (at_form_argilla.is(row)) /* its fields may be called as TRL's keys are */
        return &at_form_argilla;
    if (is_complete(row))
        return NULL;
    for (size_t i = 0; cJSON_IsObject(row) && i < AT_COUNT(forms); i++)
        if (forms[i] != &at_form_trl && !forms[i]->only_named && forms[i]->is(row))
            return forms[i];
    return NULL;
}

AT_CHECKED at_form_take(const struct at_form **form, cJSON *row)
{
    enum at_status st = AT_OK;

    at_form_drop_nulls(row);
    *form = at_form_of(row);
    if (*form)
        TRY((*form)->take(row));
done:
    return st;
}

AT_CHECKED at_form_give(const struct at_form *form, cJSON *row)
{
    static const char *const others[] = { "chat_template_kwargs", "tools" };
    static const char *const lists[] = { "prompt", "chosen", "rejected", "completion", "messages" };
    enum at_status st = AT_OK;

    if (!form->give)
        FAIL(AT_DATA, "rows are only read in the form %s, not written", form->name);
    TRY(check_row(row));
    for (size_t i = 0; !form->whole_messages && i < AT_COUNT(others); i++)
        if (at_json_find(row, others[i]))
            FAIL(AT_DATA, "rows of the form %s have no \"%s\"", form->name, others[i]);
    for (size_t i = 0; i < AT_COUNT(lists); i++)
        if (at_form_has_list(row, lists[i]))
            TRY(at_form_check(at_json_find(row, lists[i]), lists[i], form->whole_messages));
    TRY(form->give(row));
done:
    return st;
}
