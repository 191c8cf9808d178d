#include "prompt_rows.h"

#include "hash.h"
#include "reader.h"

#include <string.h>

/* ---- prompts ---- */

AT_CHECKED at_prompt_reader_init(struct at_prompt_reader *out,
                                 const struct at_dataset_params *params)
{
    enum at_status st = AT_OK;

    *out = (struct at_prompt_reader){ .params = params, .turn = -1 };
    if (params->chat)
        TRY(at_chat_end_id(&out->turn, params->chat, params->tokenizer));
    out->eos = params->eos ? at_tokenizer_find(params->tokenizer, params->eos)
                           : at_tokenizer_eos(params->tokenizer);
    if (params->eos && out->eos < 0)
        FAIL(AT_DATA, "eos_token \"%s\" is not a token of the model; name one that is",
             params->eos);
done:
    return st;
}

void at_prompt_reader_release(struct at_prompt_reader *reader)
{
    at_ids_release(&reader->ids);
}

static AT_CHECKED read_chat(struct at_prompt_reader *r, const struct at_line *line,
                            const cJSON *list)
{
    enum { MOST = 256 };
    enum at_status st = AT_OK;
    const struct at_dataset_params *p = r->params;
    struct at_message messages[MOST];
    size_t n = 0;

    if (!p->chat)
        return at_line_fail(line, "prompt",
                            "the prompt is a conversation, but %s; name one with "
                            "chat_template_path",
                            p->chat_problem ? p->chat_problem : "the model has no chat template");
    if (!list->child || cJSON_GetArraySize(list) > MOST)
        return at_line_fail(line, "prompt", "\"prompt\" must have 1 to %d messages", MOST);
    for (const cJSON *m = list->child; m; m = m->next) {
        const cJSON *role = at_json_find(m, "role"), *content = at_json_find(m, "content");
        if (!cJSON_IsString(role) || !cJSON_IsString(content))
            return at_line_fail(line, "prompt",
                                "\"prompt\": a message is not an object with role and content");
        messages[n++] = (struct at_message){ role->valuestring, content->valuestring, m };
    }
    TRY(at_chat_encode(p->chat, p->tokenizer, &r->ids, p->system_prompt, messages, n));
done:
    return st;
}

AT_CHECKED at_prompt_read(struct at_prompt_reader *r, const struct at_line *line, const cJSON *json)
{
    enum at_status st = AT_OK;
    const cJSON *prompt = at_json_find(json, "prompt");

    r->ids.n = 0;
    if (cJSON_IsString(prompt))
        TRY(at_tokenizer_encode(r->params->tokenizer, &r->ids, prompt->valuestring,
                                strlen(prompt->valuestring), true));
    else if (cJSON_IsArray(prompt))
        TRY(read_chat(r, line, prompt));
    else
        return at_line_fail(line, "prompt", "\"prompt\" must be a text or a list of messages");
    if (r->ids.n == 0)
        return at_line_fail(line, "prompt", "the prompt is empty: nothing predicts a completion");
done:
    return st;
}

/* ---- rows ---- */

struct loader {
    struct at_prompt_rows *out;
    struct at_prompt_reader reader;
    struct at_prompt_row *items; /* (capacity) */
    size_t capacity;
    uint32_t file, n_new;
    struct at_buf hashed;
};

static AT_CHECKED add_row(struct loader *l, const struct at_line *line, const cJSON *json)
{
    enum at_status st = AT_OK;
    struct at_prompt_rows *out = l->out;
    const size_t n = l->reader.ids.n;
    const uint32_t most = l->reader.params->max_length;
    int32_t *ids = NULL;
    char *text = NULL;

    if (most > 0 && n + l->n_new > most)
        return at_line_fail(line, "prompt",
                            "the prompt has %zu tokens and max_completion_length is %u, max_length "
                            "%u; raise it (0: no limit)",
                            n, l->n_new, most);
    if (out->n == UINT32_MAX)
        FAIL(AT_DATA, "%s: more than %u prompts", line->path, UINT32_MAX);
    if (out->n == l->capacity) {
        const size_t capacity = l->capacity ? 2 * l->capacity : 64;
        TRY(at_realloc(&l->items, l->capacity, capacity, sizeof *l->items));
        l->capacity = capacity;
    }
    TRY(at_arena_alloc(&out->arena, &ids, n, sizeof *ids));
    AT_REQUIRE(l->reader.ids.data);
    memcpy(ids, l->reader.ids.data, n * sizeof *ids);
    TRY(at_arena_strndup(&out->arena, &text, line->text, line->n));
    l->items[out->n++] =
        (struct at_prompt_row){ .ids = ids,
                                .n = (uint32_t)n,
                                .file = l->file,
                                .line = line->number,
                                .chat = cJSON_IsArray(at_json_find(json, "prompt")),
                                .json = text };
    out->n_chats += l->items[out->n - 1].chat;
    out->longest = n > out->longest ? (uint32_t)n : out->longest;
    at_buf_put(&l->hashed, ids, n * sizeof *ids);
    at_buf_put(&l->hashed, line->text, line->n);
    at_buf_put(&l->hashed, "\n", 1);
done:
    return st;
}

static AT_CHECKED read_file(struct loader *l, const char *path)
{
    enum at_status st = AT_OK;
    struct at_lines lines = { .path = path };
    struct at_line line;
    cJSON *json = NULL;
    bool found = true;

    TRY(at_lines_open(&lines, path));
    for (;;) {
        TRY(at_lines_next(&lines, &line, &found));
        if (!found)
            break;
        TRY(at_json_parse(&json, line.text, line.n, line.path, line.number));
        TRY(at_prompt_read(&l->reader, &line, json));
        TRY(add_row(l, &line, json));
        at_json_free(&json);
    }
done:
    at_json_free(&json);
    at_lines_close(&lines);
    return st;
}

AT_CHECKED at_prompt_rows_load(struct at_prompt_rows *out, const char *const *paths, size_t n_paths,
                               uint32_t n_new, const struct at_dataset_params *params)
{
    enum at_status st = AT_OK;
    struct loader l = { .out = out, .n_new = n_new };
    struct at_prompt_row *items = NULL;

    *out = (struct at_prompt_rows){ .n = 0 };
    TRY(at_prompt_reader_init(&l.reader, params));
    for (size_t i = 0; i < n_paths; i++) {
        l.file = (uint32_t)i;
        TRY(read_file(&l, paths[i]));
    }
    if (out->n == 0)
        FAIL(AT_DATA, "%s: no line: one {\"prompt\"} a line is expected", paths[0]);
    TRY(at_arena_alloc(&out->arena, &items, out->n, sizeof *items));
    AT_REQUIRE(l.items);
    memcpy(items, l.items, out->n * sizeof *items);
    out->items = items;
    TRY(at_buf_status(&l.hashed));
    memcpy(out->digest, at_hash_bytes(l.hashed.data, l.hashed.n).hex, sizeof out->digest);
done:
    at_prompt_reader_release(&l.reader);
    at_buf_release(&l.hashed);
    at_free(&l.items);
    if (st != AT_OK)
        at_prompt_rows_release(out);
    return st;
}

void at_prompt_rows_release(struct at_prompt_rows *rows)
{
    at_arena_release(&rows->arena);
    *rows = (struct at_prompt_rows){ .n = 0 };
}
