#include "candidates.h"

#include <stdlib.h>
#include <string.h>

/* ---- replies ---- */

AT_CHECKED cli_session_reply(struct cli_session *s, const struct cli_voice *voice, size_t i,
                             size_t draw)
{
    enum at_status st = AT_OK;
    const struct cli_prompts *prompts = &voice->prompts;
    const struct at_generation what = { .prompt = prompts->items[i].ids,
                                        .n_prompt = prompts->items[i].n,
                                        .prompt_index = (uint32_t)draw,
                                        .max_new_tokens =
                                            (uint32_t)voice->params.number[CLI_MAX_NEW_TOKENS],
                                        .stop = prompts->stop,
                                        .n_stop = prompts->n_stop,
                                        .sampling = cli_reply_sampling(&voice->params),
                                        .token = cli_reply_token,
                                        .context = &s->reply };

    s->ids.n = 0;
    s->reply.params = &voice->params;
    cli_reply_begin(&s->reply);
    if (s->other.on)
        TRY(at_generator_use(s->generator, voice->on, s->adapter_scale));
    TRY(at_generate(s->generator, &s->ids, &s->end, &what));
    cli_reply_end(&s->reply);
    s->n_tokens += s->ids.n;
done:
    if (st != AT_OK)
        at_context("prompt %zu", i + 1);
    return st;
}

static AT_CHECKED print_reply(const struct cli_session *s, size_t i)
{
    enum at_status st = AT_OK;
    cJSON *line = NULL;

    if (s->reply.shows) {
        putchar('\n');
        return st;
    }
    line = cJSON_CreateObject();
    cJSON_AddNumberToObject(line, "prompt", (double)i);
    cJSON_AddStringToObject(line, "text", s->reply.text.data);
    cJSON_AddNumberToObject(line, "n_prompt", s->voice.prompts.items[i].n);
    cJSON_AddNumberToObject(line, "n_tokens", (double)s->ids.n);
    cJSON_AddStringToObject(line, "end", s->end == AT_END_STOP ? "stop" : "length");
    TRY(cli_print_line(line));
done:
    cJSON_Delete(line);
    return st;
}

static AT_CHECKED print_replies(struct cli_session *s)
{
    enum at_status st = AT_OK;
    const size_t n = s->voice.prompts.n;

    for (size_t i = 0; i < n; i++) {
        if (s->reply.shows && n > 1)
            printf("%s--- %zu ---\n", i ? "\n" : "", i + 1);
        TRY(cli_session_reply(s, &s->voice, i, i));
        TRY(print_reply(s, i));
    }
done:
    return st;
}

/* ---- what is asked for ---- */

struct asked {
    const char *vary; /* the seeds */
    bool pairs;
    struct cli_prompts seeds;
    uint32_t n; /* prompts to make */
};

static AT_CHECKED read_asked(struct asked *out, const struct cli_args *a)
{
    static const char *const of_pairs[] = { "other_adapter", "other_system_prompt",
                                            "other_temperature" };
    enum at_status st = AT_OK;

    *out = (struct asked){ .vary = cli_flag_text(a, "vary"),
                           .pairs = cli_flag_on(a, "pairs"),
                           .n = 20 };
    if (out->vary && out->pairs)
        FAIL(AT_USAGE, "--vary and --pairs are two steps: first prompts, then pairs of replies to "
                       "them");
    for (size_t i = 0; i < AT_COUNT(of_pairs) && !out->pairs; i++)
        if (cli_flag_text(a, of_pairs[i]))
            FAIL(AT_USAGE, "--%s says how the second reply of a pair is made: add --pairs",
                 of_pairs[i]);
    if (cli_flag_text(a, "n") && !out->vary)
        FAIL(AT_USAGE, "--n says how many prompts --vary makes");
    if (out->vary && (cli_flag_text(a, "prompt") || cli_flag_text(a, "prompts")))
        FAIL(AT_USAGE, "--vary makes prompts and takes none; name its seeds alone");
    TRY(cli_flag_u32(&out->n, a, "n", 1, 100000));
done:
    return st;
}

static AT_CHECKED read_prompts(struct cli_prompts *prompts, const struct cli_args *a)
{
    enum at_status st = AT_OK;

    for (size_t i = 0; i < a->n_own; i++) {
        if (strcmp(a->own[i].key, "prompt") == 0)
            TRY(cli_prompts_add(prompts, a->own[i].value));
        else if (strcmp(a->own[i].key, "prompts") == 0)
            TRY(cli_prompts_read(prompts, a->own[i].value));
    }
    if (prompts->n == 0)
        FAIL(AT_USAGE, "a prompt is missing: --prompt TEXT or --prompts FILE.jsonl");
done:
    return st;
}

/* The second voice differs from the first in what was said; where nothing was, in temperature. */
static AT_CHECKED read_other(struct cli_session *s)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = s->args;
    const char *temperature = cli_flag_text(a, "other_temperature");
    const char *system = cli_flag_text(a, "other_system_prompt");

    s->other.params = s->voice.params;
    if (!temperature && !system && !cli_flag_text(a, "other_adapter"))
        temperature = "0.8";
    if (temperature)
        TRY(cli_reply_params_set(&s->other.params, "temperature", temperature));
    s->other.prompts.system = !system ? s->voice.prompts.system : *system ? system : NULL;
    s->other.prompts.raw = s->voice.prompts.raw;
    TRY(cli_prompts_open(&s->other.prompts, &s->bundle));
    TRY(read_prompts(&s->other.prompts, a));
done:
    if (st == AT_USAGE && temperature)
        at_context("--other_temperature");
    return st;
}

static AT_CHECKED read_all(struct cli_session *s, struct asked *asked)
{
    enum at_status st = AT_OK;

    if (asked->vary) {
        TRY(cli_prompts_open(&asked->seeds, &s->bundle));
        TRY(cli_prompts_read(&asked->seeds, asked->vary));
        if (asked->seeds.n == 0)
            FAIL(AT_DATA, "%s has no prompts to vary", asked->vary);
        if (!cli_flag_text(s->args, "temperature"))
            TRY(cli_reply_params_set(&s->voice.params, "temperature", "0.8"));
        TRY(cli_vary_ask(s, &asked->seeds, asked->n));
    } else {
        TRY(read_prompts(&s->voice.prompts, s->args));
        if (asked->pairs)
            TRY(read_other(s));
    }
done:
    return st;
}

/* ---- opening ---- */

static AT_CHECKED open_bundle(struct cli_session *s)
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
    TRY(cli_prompts_open(&s->voice.prompts, &s->bundle));
done:
    return st;
}

/* Adapters of both voices, the first one's before the other's; "none" is the base alone. */
static AT_CHECKED list_adapters(struct cli_session *s, const char ***out, bool pairs)
{
    static const char *const flags[] = { "adapter", "other_adapter" };
    enum at_status st = AT_OK;
    const struct cli_args *a = s->args;
    const bool own = cli_flag_text(a, "other_adapter") != NULL;
    const char **dirs = NULL;
    bool *on = NULL, *other = NULL;

    TRY(at_arena_alloc(&s->arena, &dirs, a->n_own + 1, sizeof *dirs));
    TRY(at_arena_alloc(&s->arena, &on, a->n_own + 1, sizeof *on));
    TRY(at_arena_alloc(&s->arena, &other, a->n_own + 1, sizeof *other));
    for (size_t k = 0; k < AT_COUNT(flags); k++)
        for (size_t i = 0; i < a->n_own; i++) {
            if (strcmp(a->own[i].key, flags[k]) != 0 ||
                (k == 1 && strcmp(a->own[i].value, "none") == 0))
                continue;
            on[s->n_adapters] = k == 0;
            other[s->n_adapters] = own ? k == 1 : k == 0;
            dirs[s->n_adapters++] = a->own[i].value;
        }
    s->voice.on = on;
    s->other.on = pairs && own ? other : NULL; /* NULL: nothing is switched */
    *out = dirs;
done:
    return st;
}

static uint32_t longest_of(const struct cli_prompts *prompts)
{
    uint32_t longest = 0;

    for (size_t i = 0; i < prompts->n; i++)
        longest = prompts->items[i].n > longest ? prompts->items[i].n : longest;
    return longest;
}

static AT_CHECKED open_generator(struct cli_session *s, bool pairs)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = s->args;
    const uint32_t positions = s->bundle.config.max_positions;
    const uint32_t max_new = (uint32_t)s->voice.params.number[CLI_MAX_NEW_TOKENS];
    const uint32_t one = longest_of(&s->voice.prompts), other = longest_of(&s->other.prompts);
    const uint32_t longest = one > other ? one : other;
    struct at_generator_params p = { .gpu = cli_gpu_params(a), .adapter_scale = 1 };
    const char **dirs = NULL;

    TRY(cli_flag_f64(&p.adapter_scale, a, "adapter_scale", -100, 100));
    TRY(list_adapters(s, &dirs, pairs));
    s->adapter_scale = p.adapter_scale;
    p.adapter_dirs = dirs;
    p.n_adapters = s->n_adapters;
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

/* The likely next command; of rows, with the file that stdout went to. */
static void say_next(const struct cli_session *s, const struct asked *asked)
{
    const char *model = s->args->n_positional > 0 ? s->args->positional[0] : "MODEL";
    const char *adapter = cli_flag_text(s->args, "adapter");

    if (asked->pairs)
        cli_note("next     attune label candidates.jsonl, where that is the file of these pairs");
    else if (asked->vary)
        cli_note("next     attune generate %s --prompts prompts.jsonl --pairs > candidates.jsonl, "
                 "where prompts.jsonl has these",
                 model);
    else
        cli_note("next     attune chat %s%s%s", model, adapter ? " --adapter " : "",
                 adapter ? adapter : "");
}

enum at_status cli_generate(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct cli_session s = { .args = args,
                             .voice.prompts = { .system = cli_flag_text(args, "system_prompt"),
                                                .raw = cli_flag_on(args, "raw") } };
    struct asked asked = { .vary = NULL };
    double begin_s = 0;

    TRY(cli_gpu_check(args));
    TRY(cli_reply_params_read(&s.voice.params, args));
    TRY(read_asked(&asked, args));
    TRY(open_bundle(&s));
    TRY(read_all(&s, &asked));
    TRY(open_generator(&s, asked.pairs));
    s.reply.tokenizer = s.bundle.tokenizer;
    s.reply.shows = !asked.pairs && !asked.vary && !cli_flag_on(args, "json");
    begin_s = at_now_s();
    if (asked.pairs)
        TRY(cli_pairs_print(&s));
    else if (asked.vary)
        TRY(cli_vary_print(&s, &asked.seeds));
    else
        TRY(print_replies(&s));
    cli_note("%llu tokens, %.1f tokens/s", (unsigned long long)s.n_tokens,
             (double)s.n_tokens / (at_now_s() - begin_s + 1e-9));
    say_next(&s, &asked);
    if (cli_flag_on(args, "profile"))
        TRY(cli_kernel_table(stderr, NULL, at_generator_get_stream(s.generator)));
done:
    at_generator_close(&s.generator);
    at_bundle_close(&s.bundle);
    cli_prompts_release(&s.voice.prompts);
    cli_prompts_release(&s.other.prompts);
    cli_prompts_release(&asked.seeds);
    at_buf_release(&s.reply.text);
    at_ids_release(&s.ids);
    at_arena_release(&s.arena);
    return st;
}
