#include "cli.h"

#include "bundle.h"
#include "generate.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_MESSAGES = 256 };

struct prompt {
    int32_t *ids;
    uint32_t n;
};
struct session {
    struct cli_args *args;
    struct at_arena arena;
    struct at_bundle bundle;
    struct at_generator *generator;
    struct prompt *prompts;
    size_t n, capacity;
    const char *system;
    bool json, raw;
    int32_t stop[2];
    size_t n_stop;
    struct at_decoding decoding; /* of the reply that is being printed */
    struct at_buf text;
};

/* ---- prompts ---- */

static AT_CHECKED add_text(struct session *s, const char *text, size_t n, bool special)
{
    enum at_status st = AT_OK;
    struct at_ids ids = { .n = 0 };
    struct prompt *p = NULL;

    if (s->n == s->capacity) {
        const size_t capacity = s->capacity ? 2 * s->capacity : 16;
        TRY(at_realloc(&s->prompts, s->capacity, capacity, sizeof *s->prompts));
        s->capacity = capacity;
    }
    TRY(at_tokenizer_encode(s->bundle.tokenizer, &ids, text, n, special));
    if (ids.n == 0)
        FAIL(AT_DATA, "prompt %zu is empty", s->n + 1);
    p = &s->prompts[s->n];
    TRY(at_arena_alloc(&s->arena, &p->ids, ids.n, sizeof *p->ids));
    memcpy(p->ids, ids.data, ids.n * sizeof *p->ids);
    p->n = (uint32_t)ids.n;
    s->n++;
done:
    at_ids_release(&ids);
    return st;
}

static AT_CHECKED add_messages(struct session *s, const struct at_message *messages, size_t n)
{
    enum at_status st = AT_OK;
    struct at_message all[MAX_MESSAGES + 1];
    struct at_chat_request request = { .messages = all, .add_generation_prompt = true };
    const bool system = s->system && (n == 0 || strcmp(messages[0].role, "system") != 0);
    struct at_buf text = { 0 };

    if (!s->bundle.chat)
        FAIL(AT_DATA, "%s; --raw takes prompts as plain text, --chat_template names a template",
             s->bundle.chat_problem ? s->bundle.chat_problem : "the model has no chat template");
    all[0] = (struct at_message){ "system", s->system, NULL };
    for (size_t i = 0; i < n; i++)
        all[system + i] = messages[i];
    request.n = n + system;
    TRY(at_chat_render(s->bundle.chat, &text, &request));
    TRY(at_buf_status(&text));
    TRY(add_text(s, text.data, text.n, false));
done:
    at_buf_release(&text);
    return st;
}

static AT_CHECKED add_user(struct session *s, const char *text)
{
    const struct at_message message = { "user", text, NULL };

    if (s->raw || (!s->bundle.chat && !s->bundle.chat_problem))
        return add_text(s, text, strlen(text), true);
    return add_messages(s, &message, 1);
}

static AT_CHECKED add_list(struct session *s, const cJSON *list, const char *name)
{
    enum at_status st = AT_OK;
    struct at_message messages[MAX_MESSAGES];
    size_t n = 0;

    if (cJSON_GetArraySize(list) > MAX_MESSAGES)
        FAIL(AT_DATA, "%s: more than %d messages", name, MAX_MESSAGES);
    for (const cJSON *m = list->child; m; m = m->next, n++) {
        TRY(at_json_need_string(&messages[n].role, m, "role", name));
        TRY(at_json_need_string(&messages[n].content, m, "content", name));
        messages[n].json = m;
    }
    if (n > 0 && strcmp(messages[n - 1].role, "assistant") == 0)
        n--; /* the reply that a training row has */
    if (n == 0)
        FAIL(AT_DATA, "%s: no message to reply to", name);
    TRY(add_messages(s, messages, n));
done:
    return st;
}

static AT_CHECKED add_line(struct session *s, const char *line, size_t n, const char *path,
                           size_t number)
{
    enum at_status st = AT_OK;
    cJSON *json = NULL;
    const cJSON *prompt = NULL;
    char name[512];

    snprintf(name, sizeof name, "%s: line %zu", path, number);
    TRY(at_json_parse(&json, line, n, path, number));
    prompt = at_json_find(json, "prompt");
    if (!prompt)
        prompt = at_json_find(json, "messages");
    if (cJSON_IsString(prompt))
        TRY(add_user(s, prompt->valuestring));
    else if (cJSON_IsArray(prompt))
        TRY(add_list(s, prompt, name));
    else
        FAIL(AT_DATA, "%s: \"prompt\" (text or messages) or \"messages\" expected", name);
done:
    at_json_free(&json);
    return st;
}

static bool is_blank(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r')
            return false;
    return true;
}

static AT_CHECKED add_file(struct session *s, const char *path)
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
        if (!is_blank(line, end - begin))
            TRY(add_line(s, line, end - begin, path, number));
    }
done:
    at_map_close(&map);
    return st;
}

static AT_CHECKED read_prompts(struct session *s)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = s->args;

    for (size_t i = 0; i < a->n_own; i++) {
        if (strcmp(a->own[i].key, "prompt") == 0)
            TRY(add_user(s, a->own[i].value));
        else if (strcmp(a->own[i].key, "prompts") == 0)
            TRY(add_file(s, a->own[i].value));
    }
    if (s->n == 0)
        FAIL(AT_USAGE, "a prompt is missing: --prompt TEXT or --prompts FILE.jsonl");
done:
    return st;
}

/* ---- replies ---- */

static AT_CHECKED put_token(void *context, int32_t id)
{
    enum at_status st = AT_OK;
    struct session *s = context;
    const size_t before = s->text.n;

    TRY(at_decoding_put(&s->decoding, s->bundle.tokenizer, &s->text, id, true));
    TRY(at_buf_status(&s->text));
    if (!s->json && s->text.n > before) {
        fwrite(s->text.data + before, 1, s->text.n - before, stdout);
        fflush(stdout);
    }
done:
    return st;
}

static AT_CHECKED print_reply(const struct session *s, size_t i, const struct at_ids *ids,
                              enum at_generation_end end)
{
    enum at_status st = AT_OK;
    cJSON *line = NULL;

    if (!s->json) {
        putchar('\n');
        return st;
    }
    line = cJSON_CreateObject();
    cJSON_AddNumberToObject(line, "prompt", (double)i);
    cJSON_AddStringToObject(line, "text", s->text.data ? s->text.data : "");
    cJSON_AddNumberToObject(line, "n_prompt", s->prompts[i].n);
    cJSON_AddNumberToObject(line, "n_tokens", (double)ids->n);
    cJSON_AddStringToObject(line, "end", end == AT_END_STOP ? "stop" : "length");
    TRY(cli_print_line(line));
done:
    cJSON_Delete(line);
    return st;
}

static AT_CHECKED reply(struct session *s, size_t i, const struct at_sampling *sampling,
                        uint32_t max_new, uint64_t *n_tokens)
{
    enum at_status st = AT_OK;
    struct at_ids ids = { .n = 0 };
    enum at_generation_end end = AT_END_LENGTH;
    const struct at_generation what = { .prompt = s->prompts[i].ids,
                                        .n_prompt = s->prompts[i].n,
                                        .prompt_index = (uint32_t)i,
                                        .max_new_tokens = max_new,
                                        .stop = s->stop,
                                        .n_stop = s->n_stop,
                                        .sampling = *sampling,
                                        .token = put_token,
                                        .context = s };

    at_buf_clear(&s->text);
    at_buf_puts(&s->text, "");
    s->decoding = (struct at_decoding){ .n_pending = 0 };
    if (!s->json && s->n > 1)
        printf("%s--- %zu ---\n", i ? "\n" : "", i + 1);
    TRY(at_generate(s->generator, &ids, &end, &what));
    TRY(print_reply(s, i, &ids, end));
    *n_tokens += ids.n;
done:
    if (st != AT_OK)
        at_context("prompt %zu", i + 1);
    at_ids_release(&ids);
    return st;
}

/* ---- opening ---- */

static AT_CHECKED find_stops(struct session *s)
{
    enum at_status st = AT_OK;
    const struct at_tokenizer *t = s->bundle.tokenizer;
    const int32_t eos = at_tokenizer_eos(t);
    const char *turn = s->bundle.chat ? at_chat_end_of_turn(s->bundle.chat) : NULL;
    struct at_ids ids = { .n = 0 };

    if (eos >= 0)
        s->stop[s->n_stop++] = eos;
    if (turn)
        TRY(at_tokenizer_encode(t, &ids, turn, strlen(turn), false));
    if (ids.n > 0 && ids.data[0] != eos && at_tokenizer_is_special(t, ids.data[0]))
        s->stop[s->n_stop++] = ids.data[0];
done:
    at_ids_release(&ids);
    return st;
}

static AT_CHECKED open_bundle(struct session *s)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = s->args;
    struct at_bundle_params p = { .path = cli_flag_text(a, "model_name_or_path"),
                                  .tokenizer_dir = cli_flag_text(a, "tokenizer"),
                                  .chat_template_path = cli_flag_text(a, "chat_template") };

    if (a->n_positional > 0 && p.path)
        FAIL(AT_USAGE, "the model is named twice: %s and %s", a->positional[0], p.path);
    if (a->n_positional > 0)
        p.path = a->positional[0];
    TRY(at_bundle_open(&s->bundle, &p));
    TRY(find_stops(s));
done:
    return st;
}

static AT_CHECKED open_generator(struct session *s, uint32_t max_new)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = s->args;
    const uint32_t positions = s->bundle.config.max_positions;
    struct at_generator_params p = { .gpu = cli_gpu_params(a), .adapter_scale = 1 };
    const char **dirs = NULL;
    uint32_t longest = 0;

    TRY(cli_flag_f64(&p.adapter_scale, a, "adapter_scale", -100, 100));
    TRY(at_arena_alloc(&s->arena, &dirs, a->n_own + 1, sizeof *dirs));
    for (size_t i = 0; i < a->n_own; i++)
        if (strcmp(a->own[i].key, "adapter") == 0)
            dirs[p.n_adapters++] = a->own[i].value;
    p.adapter_dirs = dirs;
    for (size_t i = 0; i < s->n; i++)
        longest = s->prompts[i].n > longest ? s->prompts[i].n : longest;
    p.n_positions = longest + max_new;
    if (positions > 0 && p.n_positions > positions) {
        if (longest >= positions)
            FAIL(AT_DATA, "a prompt has %u tokens; the model was made for %u positions", longest,
                 positions);
        p.n_positions = positions;
    }
    TRY(at_model_check_length(&s->bundle.config, p.n_positions));
    TRY(at_generator_open(&s->generator, s->bundle.weights, &s->bundle.config, &p));
    cli_note("device   %s, driver %s", at_generator_get_info(s->generator)->name,
             at_generator_get_info(s->generator)->driver);
done:
    return st;
}

static AT_CHECKED read_sampling(const struct cli_args *a, struct at_sampling *out,
                                uint32_t *max_new)
{
    enum at_status st = AT_OK;
    uint32_t seed = 42;

    *out = (struct at_sampling){ .top_p = 1 };
    *max_new = 128;
    TRY(cli_flag_f64(&out->temperature, a, "temperature", 0, 100));
    TRY(cli_flag_f64(&out->top_p, a, "top_p", 1e-6, 1));
    TRY(cli_flag_u32(&out->top_k, a, "top_k", 0, UINT32_MAX));
    TRY(cli_flag_u32(&seed, a, "seed", 0, UINT32_MAX));
    TRY(cli_flag_u32(max_new, a, "max_new_tokens", 1, 1000000));
    out->seed = seed;
done:
    return st;
}

enum at_status cli_generate(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct session s = { .args = args,
                         .system = cli_flag_text(args, "system_prompt"),
                         .json = cli_flag_on(args, "json"),
                         .raw = cli_flag_on(args, "raw") };
    struct at_sampling sampling;
    uint32_t max_new = 0;
    uint64_t n_tokens = 0;
    double begin_s = 0;

    TRY(cli_gpu_check(args));
    TRY(read_sampling(args, &sampling, &max_new));
    TRY(open_bundle(&s));
    TRY(read_prompts(&s));
    TRY(open_generator(&s, max_new));
    begin_s = at_now_s();
    for (size_t i = 0; i < s.n; i++)
        TRY(reply(&s, i, &sampling, max_new, &n_tokens));
    cli_note("%llu tokens, %.1f tokens/s", (unsigned long long)n_tokens,
             (double)n_tokens / (at_now_s() - begin_s + 1e-9));
    if (cli_flag_on(args, "profile"))
        TRY(cli_kernel_table(stderr, NULL, at_generator_get_stream(s.generator)));
done:
    at_generator_close(&s.generator);
    at_bundle_close(&s.bundle);
    at_free(&s.prompts);
    at_buf_release(&s.text);
    at_arena_release(&s.arena);
    return st;
}
