#include "feedback.h"

#include "forms_parts.h"
#include <math.h>
#include <string.h>

/* ---- reading ---- */

/* A key's value; null is missing. */
static const cJSON *find(const cJSON *row, const char *key)
{
    const cJSON *item = at_json_find(row, key);

    return cJSON_IsNull(item) ? NULL : item;
}

static AT_CHECKED read_told(enum at_told *out, const cJSON *row, const char *key)
{
    const cJSON *item = find(row, key);

    *out = AT_UNTOLD;
    if (item && !cJSON_IsBool(item))
        return at_fail(AT_DATA, "\"%s\" must be true or false", key);
    if (item)
        *out = cJSON_IsTrue(item) ? AT_TOLD_YES : AT_TOLD_NO;
    return AT_OK;
}

static AT_CHECKED read_thumb(enum at_told *out, const cJSON *row)
{
    const cJSON *item = find(row, "thumb");
    const char *text = cJSON_GetStringValue(item);
    const double number = cJSON_IsNumber(item) ? item->valuedouble : 0;

    *out = AT_UNTOLD;
    if (!item)
        return AT_OK;
    if (cJSON_IsTrue(item) || number == 1 || (text && strcmp(text, "up") == 0))
        *out = AT_TOLD_YES;
    else if (cJSON_IsFalse(item) || number == -1 || (text && strcmp(text, "down") == 0))
        *out = AT_TOLD_NO;
    else
        return at_fail(AT_DATA, "\"thumb\" must be \"up\" or \"down\" (or true, false, 1, -1)");
    return AT_OK;
}

static AT_CHECKED read_number(double *out, const cJSON *row, const char *key)
{
    const cJSON *item = find(row, key);

    if (!item)
        item = find(find(row, "usage"), key);
    *out = NAN;
    if (!item)
        return AT_OK;
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) || isinf(item->valuedouble))
        return at_fail(AT_DATA, "\"%s\" must be a number from 0 on", key);
    *out = item->valuedouble;
    return AT_OK;
}

/* The assistant's last message, or the completion. */
static AT_CHECKED read_reply(const char **out, const cJSON *row)
{
    enum at_status st = AT_OK;
    const cJSON *messages = find(row, "messages"), *completion = find(row, "completion");
    const cJSON *last = cJSON_IsArray(messages)
                            ? cJSON_GetArrayItem(messages, cJSON_GetArraySize(messages) - 1)
                            : NULL;

    if (last && strcmp(at_form_text(last, "role"), "assistant") == 0 &&
        at_form_has_text(last, "content")) {
        *out = at_form_text(last, "content");
        return AT_OK;
    }
    if (!messages && find(row, "prompt") && cJSON_IsString(completion)) {
        *out = completion->valuestring;
        return AT_OK;
    }
    if (messages || !find(row, "prompt") || !completion)
        FAIL(AT_DATA, "a reply is expected: \"messages\" that end with the assistant's, or "
                      "\"prompt\" and \"completion\"");
    TRY(at_form_reply(out, completion, "completion"));
done:
    return st;
}

/* Of "content_filter", "error" and the like it is not told whether a reply had ended. */
static AT_CHECKED read_end(enum at_told *out, const cJSON *row)
{
    static const char *const by_itself[] = { "eos", "stop", "tool_calls" };
    const cJSON *item = find(row, "finish_reason");

    *out = AT_UNTOLD;
    if (item && !cJSON_IsString(item))
        return at_fail(AT_DATA, "\"finish_reason\" must be a text, such as \"stop\"");
    if (!item)
        return AT_OK;
    if (strcmp(item->valuestring, "length") == 0)
        *out = AT_TOLD_NO;
    for (size_t i = 0; i < AT_COUNT(by_itself); i++)
        if (strcmp(item->valuestring, by_itself[i]) == 0)
            *out = AT_TOLD_YES;
    return AT_OK;
}

AT_CHECKED at_feedback_read(struct at_feedback *f, const cJSON *row)
{
    enum at_status st = AT_OK;
    const cJSON *edit = find(row, "edit");

    *f = (struct at_feedback){ .reply = "", .edit = cJSON_GetStringValue(edit) };
    TRY(read_reply(&f->reply, row));
    if (edit && !f->edit)
        FAIL(AT_DATA, "\"edit\" must be the text that the reply became");
    if (f->edit && strcmp(f->edit, f->reply) == 0)
        f->edit = NULL;
    TRY(read_thumb(&f->thumb, row));
    TRY(read_told(&f->completed, row, "completed"));
    TRY(read_told(&f->escalated, row, "escalated"));
    TRY(read_told(&f->flagged, row, "flagged"));
    TRY(read_end(&f->ended, row));
    TRY(read_number(&f->completion_tokens, row, "completion_tokens"));
    TRY(read_number(&f->latency_s, row, "latency_s"));
    TRY(read_number(&f->prompt_tokens, row, "prompt_tokens"));
done:
    return st;
}

/* ---- as a form: an edit makes a pair, a thumb alone a labelled row ---- */

static bool is_feedback(const cJSON *row)
{
    return cJSON_IsObject(row); /* take_feedback() says what is missing */
}

/* Nor does an edit that changed nothing teach something. */
static const char *lacks_feedback(const cJSON *row, struct at_form_unused *unused)
{
    struct at_feedback f;

    (void)unused;
    if (at_feedback_read(&f, row) != AT_OK || f.edit || f.thumb != AT_UNTOLD)
        return NULL;
    return "neither edit nor thumb";
}

/* A reply as the prompt is: a text, or a message. */
static cJSON *reply_json(const cJSON *prompt, const char *text)
{
    return cJSON_IsString(prompt) ? cJSON_CreateString(text) : at_form_list("assistant", text);
}

static AT_CHECKED take_feedback(cJSON *row)
{
    enum at_status st = AT_OK;
    struct at_feedback f;
    cJSON *reply = NULL, *edit = NULL, *messages = NULL;

    TRY(at_feedback_read(&f, row));
    messages = cJSON_GetObjectItemCaseSensitive(row, "messages");
    if (messages) {
        cJSON *prompt = cJSON_Duplicate(messages, true);
        cJSON_DeleteItemFromArray(prompt, cJSON_GetArraySize(prompt) - 1);
        at_form_set(row, "prompt", prompt);
    }
    if (!at_form_has_text(row, "prompt") && !at_form_has_list(row, "prompt"))
        FAIL(AT_DATA, "\"prompt\" must be a text or messages");
    reply = reply_json(at_json_find(row, "prompt"), f.reply);
    if (f.edit) {
        edit = reply_json(at_json_find(row, "prompt"), f.edit);
        at_form_drop(row, "completion");
        at_form_set(row, "chosen", edit);
        at_form_set(row, "rejected", reply);
    } else {
        at_form_set(row, "completion", reply);
        at_form_set(row, "label", cJSON_CreateBool(f.thumb == AT_TOLD_YES));
    }
    at_form_drop(row, "messages");
    at_form_drop(row, "edit");
    at_form_drop(row, "thumb");
done:
    return st;
}

const struct at_form at_form_feedback = {
    .name = "feedback",
    .what = "messages or prompt and completion; thumb, edit (README, after release)",
    .whole_messages = true,
    .only_named = true,
    .is = is_feedback,
    .lacks = lacks_feedback,
    .take = take_feedback,
};
