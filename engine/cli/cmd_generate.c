#include "cli.h"

#include "prompts.h"
#include "reply.h"

#include <stdlib.h>
#include <string.h>

struct session {
    struct cli_args *args;
    struct at_arena arena;
    struct at_bundle bundle;
    struct at_generator *generator;
    struct cli_prompts prompts;
    bool json;
    struct cli_reply_params params;
    struct cli_reply reply; /* that is being printed */
};

static AT_CHECKED read_prompts(struct session *s)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = s->args;

    for (size_t i = 0; i < a->n_own; i++) {
        if (strcmp(a->own[i].key, "prompt") == 0)
            TRY(cli_prompts_add(&s->prompts, a->own[i].value));
        else if (strcmp(a->own[i].key, "prompts") == 0)
            TRY(cli_prompts_read(&s->prompts, a->own[i].value));
    }
    if (s->prompts.n == 0)
        FAIL(AT_USAGE, "a prompt is missing: --prompt TEXT or --prompts FILE.jsonl");
done:
    return st;
}

/* ---- replies ---- */

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
    cJSON_AddStringToObject(line, "text", s->reply.text.data);
    cJSON_AddNumberToObject(line, "n_prompt", s->prompts.items[i].n);
    cJSON_AddNumberToObject(line, "n_tokens", (double)ids->n);
    cJSON_AddStringToObject(line, "end", end == AT_END_STOP ? "stop" : "length");
    TRY(cli_print_line(line));
done:
    cJSON_Delete(line);
    return st;
}

static AT_CHECKED reply(struct session *s, size_t i, uint64_t *n_tokens)
{
    enum at_status st = AT_OK;
    struct at_ids ids = { .n = 0 };
    enum at_generation_end end = AT_END_LENGTH;
    const struct at_generation what = { .prompt = s->prompts.items[i].ids,
                                        .n_prompt = s->prompts.items[i].n,
                                        .prompt_index = (uint32_t)i,
                                        .max_new_tokens =
                                            (uint32_t)s->params.number[CLI_MAX_NEW_TOKENS],
                                        .stop = s->prompts.stop,
                                        .n_stop = s->prompts.n_stop,
                                        .sampling = cli_reply_sampling(&s->params),
                                        .token = cli_reply_token,
                                        .context = &s->reply };

    cli_reply_begin(&s->reply);
    if (!s->json && s->prompts.n > 1)
        printf("%s--- %zu ---\n", i ? "\n" : "", i + 1);
    TRY(at_generate(s->generator, &ids, &end, &what));
    cli_reply_end(&s->reply);
    TRY(print_reply(s, i, &ids, end));
    *n_tokens += ids.n;
done:
    if (st != AT_OK)
        at_context("prompt %zu", i + 1);
    at_ids_release(&ids);
    return st;
}

/* ---- opening ---- */

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
    TRY(cli_prompts_open(&s->prompts, &s->bundle));
done:
    return st;
}

static AT_CHECKED open_generator(struct session *s)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = s->args;
    const uint32_t positions = s->bundle.config.max_positions;
    const uint32_t max_new = (uint32_t)s->params.number[CLI_MAX_NEW_TOKENS];
    struct at_generator_params p = { .gpu = cli_gpu_params(a), .adapter_scale = 1 };
    const char **dirs = NULL;
    uint32_t longest = 0;

    TRY(cli_flag_f64(&p.adapter_scale, a, "adapter_scale", -100, 100));
    TRY(at_arena_alloc(&s->arena, &dirs, a->n_own + 1, sizeof *dirs));
    for (size_t i = 0; i < a->n_own; i++)
        if (strcmp(a->own[i].key, "adapter") == 0)
            dirs[p.n_adapters++] = a->own[i].value;
    p.adapter_dirs = dirs;
    for (size_t i = 0; i < s->prompts.n; i++)
        longest = s->prompts.items[i].n > longest ? s->prompts.items[i].n : longest;
    p.n_positions = longest + max_new;
    if (positions > 0 && p.n_positions > positions) {
        if (longest >= positions)
            FAIL(AT_DATA, "a prompt has %u tokens; the model was made for %u positions", longest,
                 positions);
        p.n_positions = positions;
    }
    TRY(at_model_check_length(&s->bundle.config, p.n_positions));
    if (at_model_long_from(&s->bundle.config, p.n_positions) > 0)
        FAIL(AT_DATA,
             "prompt and reply may have %u tokens; beyond %u the rotary angles of this model "
             "are others, which generate does not compute: set max_new_tokens to at most %d",
             p.n_positions, s->bundle.config.rope.original,
             (int)s->bundle.config.rope.original - (int)longest);
    TRY(at_generator_open(&s->generator, s->bundle.weights, &s->bundle.config, &p));
    cli_note("device   %s, driver %s", at_generator_get_info(s->generator)->name,
             at_generator_get_info(s->generator)->driver);
done:
    return st;
}

enum at_status cli_generate(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct session s = { .args = args,
                         .prompts = { .system = cli_flag_text(args, "system_prompt"),
                                      .raw = cli_flag_on(args, "raw") },
                         .json = cli_flag_on(args, "json") };
    uint64_t n_tokens = 0;
    double begin_s = 0;

    TRY(cli_gpu_check(args));
    TRY(cli_reply_params_read(&s.params, args));
    TRY(open_bundle(&s));
    TRY(read_prompts(&s));
    TRY(open_generator(&s));
    s.reply = (struct cli_reply){ .tokenizer = s.bundle.tokenizer,
                                  .params = &s.params,
                                  .shows = !s.json };
    begin_s = at_now_s();
    for (size_t i = 0; i < s.prompts.n; i++)
        TRY(reply(&s, i, &n_tokens));
    cli_note("%llu tokens, %.1f tokens/s", (unsigned long long)n_tokens,
             (double)n_tokens / (at_now_s() - begin_s + 1e-9));
    if (cli_flag_on(args, "profile"))
        TRY(cli_kernel_table(stderr, NULL, at_generator_get_stream(s.generator)));
done:
    at_generator_close(&s.generator);
    at_bundle_close(&s.bundle);
    cli_prompts_release(&s.prompts);
    at_buf_release(&s.reply.text);
    at_arena_release(&s.arena);
    return st;
}
