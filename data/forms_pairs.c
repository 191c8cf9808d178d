#include "forms_parts.h"

/* ---- openai: input.messages, preferred_output, non_preferred_output ---- */

static bool is_openai(const cJSON *row)
{
    return cJSON_IsObject(at_json_find(row, "input")) && at_json_find(row, "preferred_output") &&
           at_json_find(row, "non_preferred_output");
}

static AT_CHECKED take_openai(cJSON *row)
{
    enum at_status st = AT_OK;
    cJSON *part = NULL;
    const cJSON *input = at_json_find(row, "input"), *tools = at_json_find(input, "tools");

    if (cJSON_IsArray(tools) && tools->child)
        at_form_set(row, "tools", cJSON_Duplicate(tools, true));
    TRY(at_form_messages(&part, at_json_find(input, "messages"), "messages"));
    at_form_set(row, "prompt", part);
    TRY(at_form_messages(&part, at_json_find(row, "preferred_output"), "preferred_output"));
    at_form_set(row, "chosen", part);
    TRY(at_form_messages(&part, at_json_find(row, "non_preferred_output"), "non_preferred_output"));
    at_form_set(row, "rejected", part);
    at_form_drop(row, "input");
    at_form_drop(row, "preferred_output");
    at_form_drop(row, "non_preferred_output");
done:
    return st;
}

static AT_CHECKED give_openai(cJSON *row)
{
    enum at_status st = AT_OK;
    cJSON *input = NULL;

    if (!at_form_has_list(row, "prompt") || !at_form_has_list(row, "chosen") ||
        !at_form_has_list(row, "rejected"))
        FAIL(AT_DATA, "openai rows are pairs of conversations with a prompt");
    input = cJSON_CreateObject();
    cJSON_AddItemToObject(input, "messages",
                          cJSON_DetachItemFromObjectCaseSensitive(row, "prompt"));
    if (at_json_find(row, "tools"))
        cJSON_AddItemToObject(input, "tools",
                              cJSON_DetachItemFromObjectCaseSensitive(row, "tools"));
    at_form_set(row, "input", input);
    at_form_set(row, "preferred_output", cJSON_DetachItemFromObjectCaseSensitive(row, "chosen"));
    at_form_set(row, "non_preferred_output",
                cJSON_DetachItemFromObjectCaseSensitive(row, "rejected"));
done:
    return st;
}

const struct at_form at_form_openai = {
    .name = "openai",
    .whole_messages = true,
    .what = "input.messages, preferred_output, non_preferred_output (Azure, Fireworks, Together)",
    .is = is_openai,
    .take = take_openai,
    .give = give_openai,
};

/* ---- openpipe: messages, rejected_message ---- */

static bool is_openpipe(const cJSON *row)
{
    return at_form_has_list(row, "messages") && at_json_find(row, "rejected_message");
}

static AT_CHECKED take_openpipe(cJSON *row)
{
    enum at_status st = AT_OK;
    cJSON *messages = cJSON_DetachItemFromObjectCaseSensitive(row, "messages"), *part = NULL;
    const int n = cJSON_GetArraySize(messages);

    if (n < 2)
        FAIL(AT_DATA, "\"messages\" must hold a prompt and the preferred reply");
    TRY(at_form_messages(&part, at_json_find(row, "rejected_message"), "rejected_message"));
    at_form_set(row, "rejected", part);
    part = cJSON_CreateArray();
    cJSON_AddItemToArray(part, cJSON_DetachItemFromArray(messages, n - 1));
    at_form_set(row, "chosen", part);
    at_form_set(row, "prompt", messages);
    messages = NULL;
    at_form_drop(row, "rejected_message");
done:
    cJSON_Delete(messages);
    return st;
}

static AT_CHECKED give_openpipe(cJSON *row)
{
    enum at_status st = AT_OK;
    cJSON *messages = NULL;
    const char *reply = NULL;

    TRY(at_form_reply(&reply, at_json_find(row, "chosen"), "chosen"));
    TRY(at_form_reply(&reply, at_json_find(row, "rejected"), "rejected"));
    if (!at_form_has_list(row, "prompt"))
        FAIL(AT_DATA, "openpipe rows are conversations with a prompt");
    at_form_set(row, "rejected_message",
                cJSON_DetachItemFromArray(cJSON_GetObjectItemCaseSensitive(row, "rejected"), 0));
    messages = cJSON_DetachItemFromObjectCaseSensitive(row, "prompt");
    cJSON_AddItemToArray(
        messages, cJSON_DetachItemFromArray(cJSON_GetObjectItemCaseSensitive(row, "chosen"), 0));
    at_form_set(row, "messages", messages);
    at_form_drop(row, "chosen");
    at_form_drop(row, "rejected");
done:
    return st;
}

const struct at_form at_form_openpipe = {
    .name = "openpipe",
    .whole_messages = true,
    .what = "messages, rejected_message",
    .is = is_openpipe,
    .take = take_openpipe,
    .give = give_openpipe,
};

/* ---- orca: system, question ---- */

static bool is_orca(const cJSON *row)
{
    return !at_json_find(row, "prompt") && at_form_has_text(row, "question") &&
           at_form_has_text(row, "chosen") && at_form_has_text(row, "rejected");
}

static AT_CHECKED take_orca(cJSON *row)
{
    cJSON *prompt = cJSON_CreateArray();

    if (at_form_text(row, "system")[0])
        at_form_add(prompt, "system", at_form_text(row, "system"));
    at_form_set(row, "prompt", at_form_add(prompt, "user", at_form_text(row, "question")));
    at_form_set(row, "chosen", at_form_list("assistant", at_form_text(row, "chosen")));
    at_form_set(row, "rejected", at_form_list("assistant", at_form_text(row, "rejected")));
    at_form_drop(row, "system");
    at_form_drop(row, "question");
    return AT_OK;
}

const struct at_form at_form_orca = {
    .name = "orca",
    .what = "system, question, chosen, rejected",
    .is = is_orca,
    .take = take_orca,
};

/* ---- ratings: several replies with scores; the best and the worst make a pair ---- */

static bool is_ratings(const cJSON *row)
{
    return at_form_has_list(row, "generations") && at_form_has_list(row, "ratings") &&
           (at_form_has_text(row, "instruction") || at_form_has_text(row, "prompt") ||
            at_form_has_list(row, "messages"));
}

static AT_CHECKED take_ratings(cJSON *row)
{
    enum at_status st = AT_OK;
    const cJSON *replies = at_json_find(row, "generations"),
                *ratings = at_json_find(row, "ratings");
    const cJSON *best = NULL, *worst = NULL;
    double high = 0, low = 0;
    const int n = cJSON_GetArraySize(replies);

    if (n < 2 || cJSON_GetArraySize(ratings) != n)
        FAIL(AT_DATA, "\"generations\" and \"ratings\" must be as many, two at least");
    for (int i = 0; i < n; i++) {
        const cJSON *reply = cJSON_GetArrayItem(replies, i),
                    *rating = cJSON_GetArrayItem(ratings, i);
        if (!cJSON_IsString(reply) || !cJSON_IsNumber(rating))
            FAIL(AT_DATA, "\"generations\" must be texts, \"ratings\" numbers");
        if (!best || rating->valuedouble > high) {
            best = reply;
            high = rating->valuedouble;
        }
        if (!worst || rating->valuedouble < low) {
            worst = reply;
            low = rating->valuedouble;
        }
    }
    if (high == low)
        FAIL(AT_DATA, "all \"ratings\" are equal, so no reply is preferred; remove the row");
    if (at_form_has_list(row, "messages"))
        at_form_set(row, "prompt", cJSON_DetachItemFromObjectCaseSensitive(row, "messages"));
    else
        at_form_set(row, "prompt",
                    at_form_list("user", at_form_text(row, at_form_has_text(row, "instruction")
                                                               ? "instruction"
                                                               : "prompt")));
    at_form_set(row, "chosen", at_form_list("assistant", best->valuestring));
    at_form_set(row, "rejected", at_form_list("assistant", worst->valuestring));
    at_form_drop(row, "generations");
    at_form_drop(row, "ratings");
    at_form_drop(row, "instruction");
done:
    return st;
}

const struct at_form at_form_ratings = {
    .name = "ratings",
    .what = "instruction, prompt or messages, generations, ratings (distilabel)",
    .is = is_ratings,
    .take = take_ratings,
};

/* ---- ultrafeedback: a prompt as text, whole conversations on both sides ---- */

static bool is_ultrafeedback(const cJSON *row)
{
    const cJSON *chosen = at_json_find(row, "chosen"), *rejected = at_json_find(row, "rejected");

    return at_form_has_text(row, "prompt") && cJSON_IsArray(chosen) && cJSON_IsArray(rejected) &&
           chosen->child && rejected->child && cJSON_Compare(chosen->child, rejected->child, true);
}

static AT_CHECKED take_ultrafeedback(cJSON *row)
{
    at_form_drop(row, "prompt"); /* the conversations begin with it */
    return AT_OK;
}

static AT_CHECKED give_ultrafeedback(cJSON *row)
{
    static const char *const sides[] = { "chosen", "rejected" };
    enum at_status st = AT_OK;
    const cJSON *prompt = at_json_find(row, "prompt"), *last = NULL;
    cJSON *whole = NULL;

    if (!cJSON_IsArray(prompt) || !prompt->child)
        FAIL(AT_DATA, "ultrafeedback rows are pairs of conversations with a prompt");
    for (size_t i = 0; i < AT_COUNT(sides); i++) {
        const cJSON *side = at_json_find(row, sides[i]);
        if (!cJSON_IsArray(side))
            FAIL(AT_DATA, "ultrafeedback rows are pairs of conversations with a prompt");
        whole = cJSON_Duplicate(prompt, true);
        for (const cJSON *m = side->child; m; m = m->next)
            cJSON_AddItemToArray(whole, cJSON_Duplicate(m, true));
        at_form_set(row, sides[i], whole);
    }
    last = cJSON_GetArrayItem(prompt, cJSON_GetArraySize(prompt) - 1);
    at_form_set(row, "prompt", cJSON_CreateString(at_form_text(last, "content")));
done:
    return st;
}

const struct at_form at_form_ultrafeedback = {
    .name = "ultrafeedback",
    .whole_messages = true,
    .what = "prompt as text, chosen and rejected as whole conversations (distilabel)",
    .is = is_ultrafeedback,
    .take = take_ultrafeedback,
    .give = give_ultrafeedback,
};
