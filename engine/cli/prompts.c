#include "prompts.h"

#include "lines.h"

#include <stdio.h>
#include <string.h>

AT_CHECKED cli_prompts_add_ids(struct cli_prompts *s, const int32_t *ids, size_t n)
{
    enum at_status st = AT_OK;
    struct cli_prompt *p = NULL;

    if (n == 0)
        FAIL(AT_DATA, "prompt %zu is empty", s->n + 1);
    if (s->n == s->capacity) {
        const size_t capacity = s->capacity ? 2 * s->capacity : 16;
        TRY(at_realloc(&s->items, s->capacity, capacity, sizeof *s->items));
        s->capacity = capacity;
    }
    p = &s->items[s->n];
    *p = (struct cli_prompt){ .n = (uint32_t)n };
    TRY(at_arena_alloc(&s->arena, &p->ids, n, sizeof *p->ids));
    memcpy(p->ids, ids, n * sizeof *p->ids);
    s->n++;
done:
    return st;
}

static AT_CHECKED add_text(struct cli_prompts *s, const char *text, size_t n)
{
    enum at_status st = AT_OK;
    struct at_ids ids = { .n = 0 };

    TRY(at_tokenizer_encode(s->bundle->tokenizer, &ids, text, n, true));
    TRY(cli_prompts_add_ids(s, ids.data, ids.n));
done:
    at_ids_release(&ids);
    return st;
}

AT_CHECKED cli_prompts_add_messages(struct cli_prompts *s, const struct at_message *messages,
                                    size_t n)
{
    enum at_status st = AT_OK;
    struct at_message whole[CLI_MAX_MESSAGES];
    struct at_ids ids = { .n = 0 };
    const struct at_examples *e = &s->examples;
    const size_t lead = n > 0 && strcmp(messages[0].role, "system") == 0;

    if (n + e->n > CLI_MAX_MESSAGES)
        FAIL(AT_DATA, "a conversation of more than %d messages", CLI_MAX_MESSAGES);
    for (size_t i = 0; i < n + e->n; i++)
        whole[i] = i < lead          ? messages[i]
                   : i < lead + e->n ? e->messages[i - lead]
                                     : messages[i - e->n];
    if (!s->bundle->chat)
        FAIL(AT_DATA, "%s; --raw takes prompts as plain text, --chat_template names a template",
             s->bundle->chat_problem ? s->bundle->chat_problem : "the model has no chat template");
    TRY(at_chat_encode(s->bundle->chat, s->bundle->tokenizer, &ids, s->system, whole, n + e->n));
    TRY(cli_prompts_add_ids(s, ids.data, ids.n));
done:
    at_ids_release(&ids);
    return st;
}

static bool takes_texts(const struct cli_prompts *s)
{
    return s->raw || (!s->bundle->chat && !s->bundle->chat_problem);
}

AT_CHECKED cli_prompts_add(struct cli_prompts *s, const char *text)
{
    enum at_status st = AT_OK;
    const struct at_message message = { "user", text, NULL };

    if (takes_texts(s))
        TRY(add_text(s, text, strlen(text)));
    else
        TRY(cli_prompts_add_messages(s, &message, 1));
    s->items[s->n - 1].text = text;
done:
    return st;
}

static AT_CHECKED add_list(struct cli_prompts *s, const cJSON *list, const char *name)
{
    enum at_status st = AT_OK;
    struct at_message messages[CLI_MAX_MESSAGES];
    size_t n = 0;

    if (cJSON_GetArraySize(list) > CLI_MAX_MESSAGES) /* `messages` holds no more */
        FAIL(AT_DATA, "%s: more than %d messages", name, CLI_MAX_MESSAGES);
    for (const cJSON *m = list->child; m; m = m->next, n++) {
        TRY(at_json_need_string(&messages[n].role, m, "role", name));
        TRY(at_json_need_string(&messages[n].content, m, "content", name));
        messages[n].json = m;
    }
    if (n > 0 && strcmp(messages[n - 1].role, "assistant") == 0)
        n--; /* the reply that a training row has */
    if (n == 0)
        FAIL(AT_DATA, "%s: no message to reply to", name);
    TRY(cli_prompts_add_messages(s, messages, n));
done:
    return st;
}

static const cJSON *prompt_of(const cJSON *row)
{
    const cJSON *prompt = at_json_find(row, "prompt");

    return prompt ? prompt : at_json_find(row, "messages");
}

static AT_CHECKED add_line(struct cli_prompts *s, const char *line, size_t n, const char *path,
                           size_t number)
{
    enum at_status st = AT_OK;
    cJSON *json = NULL;
    const cJSON *prompt = NULL;
    char name[512];

    snprintf(name, sizeof name, "%s: line %zu", path, number);
    TRY(at_json_parse(&json, line, n, path, number));
    prompt = prompt_of(json);
    if (cJSON_IsString(prompt))
        TRY(cli_prompts_add(s, prompt->valuestring));
    else if (cJSON_IsArray(prompt))
        TRY(add_list(s, prompt, name));
    else
        FAIL(AT_DATA, "%s: \"prompt\" (text or messages) or \"messages\" expected", name);
    s->items[s->n - 1].row = json;
    s->items[s->n - 1].line = number;
    json = NULL;
done:
    at_json_free(&json);
    return st;
}

AT_CHECKED cli_prompts_read(struct cli_prompts *s, const char *path)
{
    static const char bom[] = { '\xEF', '\xBB', '\xBF' }; /* belongs to the file, not to line 1 */
    enum at_status st = AT_OK;
    struct at_map map = { .n = 0 };
    size_t number = 0, begin = 0, end = 0;

    TRY(at_map_open(&map, path));
    if (map.n >= sizeof bom && memcmp(map.data, bom, sizeof bom) == 0)
        begin = sizeof bom;
    for (; begin < map.n; begin = end + 1) {
        const char *line = (const char *)map.data + begin;
        const char *stop = memchr(line, '\n', map.n - begin);
        end = stop ? (size_t)(stop - (const char *)map.data) : map.n;
        number++;
        if (!at_line_is_blank(line, end - begin))
            TRY(add_line(s, line, end - begin, path, number));
    }
done:
    at_map_close(&map);
    return st;
}

/* ---- as rows have them ---- */

static cJSON *message_json(const char *role, const char *content)
{
    cJSON *m = cJSON_CreateObject();

    cJSON_AddStringToObject(m, "role", role);
    cJSON_AddStringToObject(m, "content", content);
    return m;
}

static bool has_role(const cJSON *message, const char *role)
{
    const char *found = cJSON_GetStringValue(at_json_find(message, "role"));

    return found && strcmp(found, role) == 0;
}

cJSON *cli_prompts_json(const struct cli_prompts *s, size_t i)
{
    const struct cli_prompt *p = &s->items[i];
    cJSON *list = NULL;

    if (p->text && takes_texts(s))
        return cJSON_CreateString(p->text);
    if (p->text) {
        list = cJSON_CreateArray();
        cJSON_AddItemToArray(list, message_json("user", p->text));
    } else {
        list = cJSON_Duplicate(prompt_of(p->row), true);
        if (has_role(cJSON_GetArrayItem(list, cJSON_GetArraySize(list) - 1), "assistant"))
            cJSON_DeleteItemFromArray(list, cJSON_GetArraySize(list) - 1);
    }
    if (s->system && !has_role(list->child, "system"))
        cJSON_InsertItemInArray(list, 0, message_json("system", s->system));
    return list;
}

const char *cli_prompt_text(const struct cli_prompt *p)
{
    const cJSON *m = NULL;
    const char *found = "";

    if (p->text)
        return p->text;
    cJSON_ArrayForEach(m, prompt_of(p->row))
    {
        const char *content = cJSON_GetStringValue(at_json_find(m, "content"));
        if (content && has_role(m, "user"))
            found = content;
    }
    return found;
}

/* ---- the whole ---- */

static AT_CHECKED find_stops(struct cli_prompts *s)
{
    enum at_status st = AT_OK;
    const struct at_tokenizer *t = s->bundle->tokenizer;
    const int32_t eos = at_tokenizer_eos(t);
    int32_t turn = -1;

    if (eos >= 0)
        s->stop[s->n_stop++] = eos;
    if (s->bundle->chat)
        TRY(at_chat_end_id(&turn, s->bundle->chat, t));
    if (turn >= 0 && turn != eos && at_tokenizer_is_special(t, turn))
        s->stop[s->n_stop++] = turn;
done:
    return st;
}

AT_CHECKED cli_prompts_open(struct cli_prompts *prompts, const struct at_bundle *bundle)
{
    prompts->bundle = bundle;
    return find_stops(prompts);
}

void cli_prompts_release(struct cli_prompts *prompts)
{
    for (size_t i = 0; i < prompts->n; i++)
        at_json_free(&prompts->items[i].row);
    at_free(&prompts->items);
    at_arena_release(&prompts->arena);
}

AT_CHECKED cli_prompts_ids(struct at_prompt_ids **out, const struct cli_prompts *prompts)
{
    enum at_status st = AT_OK;

    TRY(at_alloc(out, prompts->n, sizeof **out));
    for (size_t i = 0; i < prompts->n; i++)
        (*out)[i] = (struct at_prompt_ids){ prompts->items[i].ids, prompts->items[i].n };
done:
    return st;
}
