#include "forms_parts.h"

#include <string.h>

/* ---- alpaca: instruction, input, output ---- */

static bool is_alpaca(const cJSON *row)
{
    return at_form_has_text(row, "instruction") &&
           (at_form_has_text(row, "output") ||
            (at_form_has_text(row, "chosen") && at_form_has_text(row, "rejected")));
}

static AT_CHECKED take_alpaca(cJSON *row)
{
    enum at_status st = AT_OK;
    static const char *const sides[][2] = { { "output", "completion" },
                                            { "chosen", "chosen" },
                                            { "rejected", "rejected" } };
    cJSON *prompt = cJSON_CreateArray();
    struct at_buf text = { 0 };
    size_t number = 1;

    if (at_form_text(row, "system")[0])
        at_form_add(prompt, "system", at_form_text(row, "system"));
    for (const cJSON *turn = at_form_has_list(row, "history") ? at_json_find(row, "history")->child
                                                              : NULL;
         turn; turn = turn->next, number++) {
        const cJSON *asked = cJSON_GetArrayItem(turn, 0), *answer = cJSON_GetArrayItem(turn, 1);
        if (!cJSON_IsString(asked) || !cJSON_IsString(answer))
            FAIL(AT_DATA, "\"history\": turn %zu is not a list of two texts", number);
        at_form_add(prompt, "user", asked->valuestring);
        at_form_add(prompt, "assistant", answer->valuestring);
    }
    at_buf_puts(&text, at_form_text(row, "instruction"));
    if (at_form_text(row, "input")[0])
        at_buf_printf(&text, "\n%s", at_form_text(row, "input"));
    TRY(at_buf_status(&text));
    at_form_set(row, "prompt", at_form_add(prompt, "user", text.data));
    prompt = NULL;
    for (size_t i = 0; i < AT_COUNT(sides); i++)
        if (at_form_has_text(row, sides[i][0])) {
            cJSON *side = at_form_list("assistant", at_form_text(row, sides[i][0]));
            at_form_drop(row, sides[i][0]);
            at_form_set(row, sides[i][1], side);
        }
    at_form_drop(row, "instruction");
    at_form_drop(row, "input");
    at_form_drop(row, "system");
    at_form_drop(row, "history");
done:
    cJSON_Delete(prompt);
    at_buf_release(&text);
    return st;
}

static AT_CHECKED give_alpaca(cJSON *row)
{
    enum at_status st = AT_OK;
    static const char *const sides[][2] = { { "completion", "output" },
                                            { "chosen", "chosen" },
                                            { "rejected", "rejected" } };
    const cJSON *prompt = at_json_find(row, "prompt"), *m = prompt ? prompt->child : NULL;
    cJSON *history = cJSON_CreateArray(), *turn = NULL;
    const char *reply = NULL;

    if (!cJSON_IsArray(prompt) || !m)
        FAIL(AT_DATA, "alpaca rows are conversations with a prompt");
    if (strcmp(at_form_text(m, "role"), "system") == 0) {
        at_form_set(row, "system", cJSON_CreateString(at_form_text(m, "content")));
        m = m->next;
    }
    for (; m && m->next && m->next->next; m = m->next->next) {
        if (strcmp(at_form_text(m, "role"), "user") != 0 ||
            strcmp(at_form_text(m->next, "role"), "assistant") != 0)
            FAIL(AT_DATA, "alpaca rows take turns: user, assistant, user, ...");
        turn = cJSON_CreateArray();
        cJSON_AddItemToArray(turn, cJSON_CreateString(at_form_text(m, "content")));
        cJSON_AddItemToArray(turn, cJSON_CreateString(at_form_text(m->next, "content")));
        cJSON_AddItemToArray(history, turn);
    }
    if (!m || m->next || strcmp(at_form_text(m, "role"), "user") != 0)
        FAIL(AT_DATA, "alpaca rows take turns: user, assistant, user, ...");
    at_form_set(row, "instruction", cJSON_CreateString(at_form_text(m, "content")));
    at_form_set(row, "input", cJSON_CreateString(""));
    if (history->child) {
        at_form_set(row, "history", history);
        history = NULL;
    }
    for (size_t i = 0; i < AT_COUNT(sides); i++)
        if (at_json_find(row, sides[i][0])) {
            TRY(at_form_reply(&reply, at_json_find(row, sides[i][0]), sides[i][0]));
            cJSON *text = cJSON_CreateString(reply);
            at_form_drop(row, sides[i][0]);
            at_form_set(row, sides[i][1], text);
        }
    at_form_drop(row, "prompt");
done:
    cJSON_Delete(history);
    return st;
}

const struct at_form at_form_alpaca = {
    .name = "alpaca",
    .what = "instruction, input, output or chosen and rejected, system, history",
    .is = is_alpaca,
    .take = take_alpaca,
    .give = give_alpaca,
};

/* ---- hh-rlhf: transcripts ---- */

static const char human[] = "\n\nHuman:", assistant[] = "\n\nAssistant:";

static bool is_transcript(const cJSON *item)
{
    return cJSON_IsString(item) && strncmp(item->valuestring, human, sizeof human - 1) == 0;
}

static bool is_hh(const cJSON *row)
{
    return !at_json_find(row, "prompt") && is_transcript(at_json_find(row, "chosen")) &&
           is_transcript(at_json_find(row, "rejected"));
}

/* Where a mark stands next at or behind `from`; it is looked for again only once it lies before. */
static const char *next_mark(const char **last, const char *mark, const char *from)
{
    if (*last < from) {
        const char *found = strstr(from, mark);
        *last = found ? found : from + strlen(from);
    }
    return *last;
}

static AT_CHECKED take_transcript(cJSON *row, const char *key)
{
    enum at_status st = AT_OK;
    cJSON *list = cJSON_CreateArray();
    struct at_buf text = { 0 };
    const char *at = at_form_text(row, key), *ask = NULL, *answer = NULL;

    while (at[0]) {
        const bool asks = strncmp(at, human, sizeof human - 1) == 0;
        const char *begin = at + (asks ? sizeof human : sizeof assistant) - 1;
        const char *a = next_mark(&ask, human, begin), *b = next_mark(&answer, assistant, begin);
        const char *next = a < b ? a : b;
        at = next;
        while (begin < next && strchr(" \t\r\n", begin[0]))
            begin++;
        while (next > begin && strchr(" \t\r\n", next[-1]))
            next--;
        at_buf_clear(&text);
        at_buf_put(&text, begin, (size_t)(next - begin));
        TRY(at_buf_status(&text));
        at_form_add(list, asks ? "user" : "assistant", text.n > 0 ? text.data : "");
    }
    at_form_set(row, key, list);
    list = NULL;
done:
    cJSON_Delete(list);
    at_buf_release(&text);
    return st;
}

static AT_CHECKED take_hh(cJSON *row)
{
    enum at_status st = AT_OK;

    TRY(take_transcript(row, "chosen"));
    TRY(take_transcript(row, "rejected"));
done:
    return st;
}

/* Appends messages; a transcript knows no other roles, and its marks end a message. */
static AT_CHECKED put_transcript(struct at_buf *out, const cJSON *list)
{
    for (const cJSON *m = list->child; m; m = m->next) {
        const bool asks = strcmp(at_form_text(m, "role"), "user") == 0;
        if (!asks && strcmp(at_form_text(m, "role"), "assistant") != 0)
            return at_fail(AT_DATA, "hh-rlhf rows have no messages of role \"%s\"",
                           at_form_text(m, "role"));
        if (strstr(at_form_text(m, "content"), human) ||
            strstr(at_form_text(m, "content"), assistant))
            return at_fail(AT_DATA, "a message holds a mark of hh-rlhf's transcripts");
        at_buf_printf(out, "%s %s", asks ? human : assistant, at_form_text(m, "content"));
    }
    return at_buf_status(out);
}

static AT_CHECKED give_hh(cJSON *row)
{
    static const char *const sides[] = { "chosen", "rejected" };
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    const cJSON *prompt = at_json_find(row, "prompt");

    for (size_t i = 0; i < AT_COUNT(sides); i++) {
        const cJSON *side = at_json_find(row, sides[i]);
        if (!cJSON_IsArray(side) || !side->child || (prompt && !cJSON_IsArray(prompt)))
            FAIL(AT_DATA, "hh-rlhf rows are pairs of conversations");
        at_buf_clear(&text);
        if (prompt)
            TRY(put_transcript(&text, prompt));
        TRY(put_transcript(&text, side));
        at_form_set(row, sides[i], cJSON_CreateString(text.data));
    }
    at_form_drop(row, "prompt");
done:
    at_buf_release(&text);
    return st;
}

const struct at_form at_form_hh_rlhf = {
    .name = "hh-rlhf",
    .what = "chosen and rejected transcripts of Human: and Assistant:",
    .is = is_hh,
    .take = take_hh,
    .give = give_hh,
};

/* ---- sharegpt: conversations of {from, value} ---- */

static const char *const speakers[][2] = {
    { "human", "user" }, { "gpt", "assistant" },       { "system", "system" },
    { "user", "user" },  { "assistant", "assistant" }, { "chatgpt", "assistant" }
};

static bool is_sharegpt(const cJSON *row)
{
    const cJSON *list = at_json_find(row, "conversations");

    return cJSON_IsArray(list) && list->child && at_json_find(list->child, "from");
}

static AT_CHECKED take_turn(cJSON *out, const cJSON *turn, const char *key)
{
    const char *from = at_form_text(turn, "from");

    if (!at_form_has_text(turn, "from") || !at_form_has_text(turn, "value"))
        return at_fail(AT_DATA, "\"%s\": a turn is {from, value}, both texts", key);
    for (size_t i = 0; i < AT_COUNT(speakers); i++)
        if (strcmp(from, speakers[i][0]) == 0) {
            at_form_add(out, speakers[i][1], at_form_text(turn, "value"));
            return AT_OK;
        }
    return at_fail(AT_DATA, "\"%s\": \"from\" is \"%s\"; human, gpt and system are known", key,
                   from);
}

static AT_CHECKED take_sharegpt(cJSON *row)
{
    static const char *const sides[] = { "chosen", "rejected" };
    enum at_status st = AT_OK;
    cJSON *list = cJSON_CreateArray();
    const bool pair = at_json_find(row, "chosen") && at_json_find(row, "rejected");

    for (const cJSON *turn = at_json_find(row, "conversations")->child; turn; turn = turn->next)
        TRY(take_turn(list, turn, "conversations"));
    at_form_drop(row, "conversations");
    if (at_form_text(row, "system")[0]) {
        cJSON *system = cJSON_CreateObject();
        cJSON_AddStringToObject(system, "role", "system");
        cJSON_AddStringToObject(system, "content", at_form_text(row, "system"));
        cJSON_InsertItemInArray(list, 0, system);
        at_form_drop(row, "system");
    }
    at_form_set(row, pair ? "prompt" : "messages", list);
    list = NULL;
    for (size_t i = 0; pair && i < AT_COUNT(sides); i++) {
        list = cJSON_CreateArray();
        TRY(take_turn(list, at_json_find(row, sides[i]), sides[i]));
        at_form_set(row, sides[i], list);
        list = NULL;
    }
done:
    cJSON_Delete(list);
    return st;
}

static AT_CHECKED give_turn(cJSON **out, const cJSON *m)
{
    for (size_t i = 0; i < AT_COUNT(speakers); i++)
        if (strcmp(at_form_text(m, "role"), speakers[i][1]) == 0) {
            *out = cJSON_CreateObject();
            cJSON_AddStringToObject(*out, "from", speakers[i][0]);
            cJSON_AddStringToObject(*out, "value", at_form_text(m, "content"));
            return AT_OK;
        }
    return at_fail(AT_DATA, "sharegpt rows have no messages of role \"%s\"",
                   at_form_text(m, "role"));
}

static AT_CHECKED give_sharegpt(cJSON *row)
{
    static const char *const sides[] = { "chosen", "rejected" };
    enum at_status st = AT_OK;
    const bool pair = at_json_find(row, "chosen") && at_json_find(row, "rejected");
    const cJSON *list =
        at_json_find(row, pair || !at_json_find(row, "messages") ? "prompt" : "messages");
    const cJSON *rest = pair ? NULL : at_json_find(row, "completion");
    cJSON *turns = cJSON_CreateArray(), *turn = NULL;
    const char *reply = NULL;

    if (!cJSON_IsArray(list) || (rest && !cJSON_IsArray(rest)))
        FAIL(AT_DATA, "sharegpt rows are conversations");
    for (const cJSON *m = list->child; m; m = m->next) {
        TRY(give_turn(&turn, m));
        cJSON_AddItemToArray(turns, turn);
    }
    for (const cJSON *m = rest ? rest->child : NULL; m; m = m->next) {
        TRY(give_turn(&turn, m));
        cJSON_AddItemToArray(turns, turn);
    }
    for (size_t i = 0; pair && i < AT_COUNT(sides); i++) {
        TRY(at_form_reply(&reply, at_json_find(row, sides[i]), sides[i]));
        TRY(give_turn(&turn, at_json_find(row, sides[i])->child));
        at_form_set(row, sides[i], turn);
    }
    at_form_drop(row, "prompt");
    at_form_drop(row, "messages");
    at_form_drop(row, "completion");
    at_form_set(row, "conversations", turns);
    turns = NULL;
done:
    cJSON_Delete(turns);
    return st;
}

const struct at_form at_form_sharegpt = {
    .name = "sharegpt",
    .what = "conversations of {from, value}, chosen, rejected",
    .is = is_sharegpt,
    .take = take_sharegpt,
    .give = give_sharegpt,
};
