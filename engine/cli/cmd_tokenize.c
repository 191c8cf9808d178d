#include "cli.h"

#include "bundle.h"

#include <stdlib.h>
#include <string.h>

struct job {
    struct at_bundle bundle;
    bool json, decode, chat, render, generation, special;
    char name[32]; /* "stdin" */
};

static AT_CHECKED print_ids(const struct at_ids *ids)
{
    enum at_status st = AT_OK;
    const int none = 0; /* cJSON takes no array of no numbers without an address */
    cJSON *list = cJSON_CreateIntArray(ids->data ? ids->data : &none, (int)ids->n);

    TRY(cli_print_line(list));
done:
    cJSON_Delete(list);
    return st;
}

static AT_CHECKED print_text(const struct at_buf *text)
{
    enum at_status st = AT_OK;
    struct at_buf out = { 0 };

    at_json_write_string(&out, text->data ? text->data : "", text->n);
    at_buf_puts(&out, "\n");
    TRY(at_buf_status(&out));
    fwrite(out.data, 1, out.n, stdout);
done:
    at_buf_release(&out);
    return st;
}

static AT_CHECKED encode(const struct job *j, const char *text, size_t n, bool special)
{
    enum at_status st = AT_OK;
    struct at_ids ids = { .n = 0 };

    TRY(at_tokenizer_encode(j->bundle.tokenizer, &ids, text, n, special));
    TRY(print_ids(&ids));
done:
    at_ids_release(&ids);
    return st;
}

static AT_CHECKED decode(const struct job *j, const cJSON *list, size_t line)
{
    enum at_status st = AT_OK;
    struct at_ids ids = { .n = 0 };
    struct at_buf text = { 0 };

    if (!cJSON_IsArray(list))
        FAIL(AT_DATA, "%s: line %zu: an array of ids expected", j->name, line);
    for (const cJSON *item = list->child; item; item = item->next) {
        if (!cJSON_IsNumber(item) || item->valuedouble != item->valueint)
            FAIL(AT_DATA, "%s: line %zu: an array of ids expected", j->name, line);
        TRY(at_ids_push(&ids, item->valueint));
    }
    TRY(at_tokenizer_decode(j->bundle.tokenizer, &text, ids.data, ids.n, !j->special));
    TRY(at_buf_status(&text));
    TRY(print_text(&text));
done:
    at_ids_release(&ids);
    at_buf_release(&text);
    return st;
}

static AT_CHECKED render(const struct job *j, const cJSON *object, size_t line)
{
    enum at_status st = AT_OK;
    const cJSON *list = at_json_find(object, "messages"), *tools = at_json_find(object, "tools");
    const cJSON *variables = at_json_find(object, "chat_template_kwargs");
    struct at_chat_request request = { .add_generation_prompt = j->generation };
    struct at_message *messages = NULL;
    struct at_buf text = { 0 };
    char name[64];

    snprintf(name, sizeof name, "%s: line %zu", j->name, line);
    if (!cJSON_IsArray(list))
        FAIL(AT_DATA, "%s: {\"messages\":[...]} expected", name);
    if (tools && !cJSON_IsNull(tools) && !cJSON_IsArray(tools))
        FAIL(AT_DATA, "%s: \"tools\" must be a list of schemas", name);
    if (variables && !cJSON_IsNull(variables) && !cJSON_IsObject(variables))
        FAIL(AT_DATA, "%s: \"chat_template_kwargs\" must be an object", name);
    TRY(at_alloc(&messages, (size_t)cJSON_GetArraySize(list) + 1, sizeof *messages));
    for (const cJSON *m = list->child; m; m = m->next, request.n++) {
        TRY(at_json_need_string(&messages[request.n].role, m, "role", name));
        messages[request.n].json = m;
    }
    request.messages = messages;
    request.tools = cJSON_IsNull(tools) ? NULL : tools;
    request.variables = variables;
    TRY(at_chat_render(j->bundle.chat, &text, &request));
    TRY(at_buf_status(&text));
    if (j->render)
        TRY(print_text(&text));
    else
        TRY(encode(j, text.data ? text.data : "", text.n, false));
done:
    at_free(&messages);
    at_buf_release(&text);
    return st;
}

static AT_CHECKED take_line(const struct job *j, const char *text, size_t n, size_t line)
{
    enum at_status st = AT_OK;
    cJSON *json = NULL;

    if (!j->json && !j->decode && !j->chat) {
        st = encode(j, text, n, j->special);
        goto done;
    }
    TRY(at_json_parse(&json, text, n, j->name, line));
    if (j->chat)
        TRY(render(j, json, line));
    else if (j->decode)
        TRY(decode(j, json, line));
    else if (!cJSON_IsString(json))
        FAIL(AT_DATA, "%s: line %zu: a JSON string expected", j->name, line);
    else
        TRY(encode(j, json->valuestring, strlen(json->valuestring), j->special));
done:
    at_json_free(&json);
    return st;
}

static AT_CHECKED open_job(struct job *j, const struct cli_args *a)
{
    enum at_status st = AT_OK;
    struct at_bundle_params p = { .path = cli_flag_text(a, "model"),
                                  .tokenizer_dir = cli_flag_text(a, "tokenizer"),
                                  .chat_template_path = cli_flag_text(a, "chat_template"),
                                  .tokenizer_only = true };

    if (!p.path && a->n_positional > 0)
        p.path = a->positional[0];
    if (!p.path)
        FAIL(AT_USAGE, "a model is missing; usage: attune tokenize %s", a->command->usage);
    if (j->chat && j->decode)
        FAIL(AT_USAGE, "--chat and --decode exclude each other");
    if ((j->render || j->generation) && !j->chat)
        FAIL(AT_USAGE, "--render and --add_generation_prompt need --chat");
    TRY(at_bundle_open(&j->bundle, &p));
    if (j->chat && !j->bundle.chat)
        FAIL(AT_DATA, "%s",
             j->bundle.chat_problem ? j->bundle.chat_problem : "the model has no chat template");
done:
    return st;
}

enum at_status cli_tokenize(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct job j = { .json = cli_flag_on(args, "json"),
                     .decode = cli_flag_on(args, "decode"),
                     .chat = cli_flag_on(args, "chat"),
                     .render = cli_flag_on(args, "render"),
                     .generation = cli_flag_on(args, "add_generation_prompt"),
                     .special = !cli_flag_on(args, "no_special_tokens"),
                     .name = "stdin" };
    char *line = NULL;
    size_t capacity = 0, number = 0;

    TRY(open_job(&j, args));
    for (ssize_t n = 0; (n = getline(&line, &capacity, stdin)) >= 0;) {
        number++;
        n -= n > 0 && line[n - 1] == '\n';
        TRY(take_line(&j, line, (size_t)n, number));
    }
    if (ferror(stdin))
        FAIL(AT_IO, "standard input cannot be read");
done:
    free(line); /* from getline */
    at_bundle_close(&j.bundle);
    return st;
}
