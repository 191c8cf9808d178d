#include "base.h"
#include "candidates.h"
#include "reward.h"

#include <stdlib.h>
#include <string.h>

enum { PARALLEL = 32 /* replies that grow at once, if nothing else is said */ };

/* ---- replies ---- */

/* What all runs of this voice share. */
static struct at_generation generation_of(struct cli_session *s, const struct cli_voice *voice)
{
    return (struct at_generation){
        .min_new_tokens = (uint32_t)voice->params.number[CLI_MIN_NEW_TOKENS],
        .max_new_tokens = (uint32_t)voice->params.number[CLI_MAX_NEW_TOKENS],
        .stop = voice->prompts.stop,
        .n_stop = voice->prompts.n_stop,
        .sampling = cli_reply_sampling(&voice->params),
        .context = s,
    };
}

static enum at_status take_one_token(void *context, uint32_t prompt, uint32_t sample, int32_t id,
                                     bool *ends)
{
    struct cli_session *s = context;

    (void)prompt;
    (void)sample;
    return cli_reply_token(&s->reply, id, ends);
}

static enum at_status end_one_reply(void *context, const struct at_reply *reply)
{
    struct cli_session *s = context;

    s->end = reply->end;
    s->n_tokens += reply->n;
    return AT_OK;
}

AT_CHECKED cli_session_reply(struct cli_session *s, const struct cli_voice *voice, size_t i,
                             size_t draw)
{
    enum at_status st = AT_OK;
    const struct at_prompt_ids prompt = { voice->prompts.items[i].ids, voice->prompts.items[i].n };
    struct at_generation what = generation_of(s, voice);

    what.prompts = &prompt;
    what.n_prompts = 1;
    what.prompt_index = (uint32_t)draw;
    what.token = take_one_token;
    what.reply = end_one_reply;
    s->reply.params = &voice->params;
    cli_reply_begin(&s->reply);
    if (s->other.on)
        TRY(at_generator_use(s->generator, voice->on, s->adapter_scale));
    TRY(at_generate(s->generator, &what));
done:
    if (st != AT_OK)
        at_context("prompt %zu", i + 1);
    return st;
}

/* ---- replies to print ---- */

struct printed {
    struct cli_reply text;
    bool has_head, ended;
    size_t n; /* ids */
    double logp;
    enum at_generation_end end;
    cJSON *ids, *logps; /* with --rollouts: of all ids, with the one that ended it */
};
struct printing {
    struct cli_session *session;
    bool json, rollouts;
    struct at_rewards *rewards; /* of rollouts; or NULL */
    uint32_t num_generations;
    struct printed *replies; /* (prompts, num_generations) */
    size_t n, n_printed;
    size_t n_cut, n_full; /* cut at max_new_tokens; where the model has no more positions */
};

static bool shows(const struct printing *p)
{
    return !p->json && !p->rollouts;
}

/* Before the first text of reply i, once. */
static void print_head(struct printing *p, size_t i)
{
    const size_t prompt = i / p->num_generations;

    if (!shows(p) || p->n == 1 || p->replies[i].has_head)
        return;
    p->replies[i].has_head = true;
    printf("%s--- %zu", i ? "\n" : "", prompt + 1);
    if (p->num_generations > 1)
        printf(", reply %zu", i % p->num_generations + 1);
    printf(" ---\n");
}

static AT_CHECKED keep_ids(struct printed *r, const struct at_reply *reply)
{
    r->ids = cJSON_CreateIntArray(reply->ids, (int)reply->n);
    r->logps = cJSON_CreateFloatArray(reply->logps, (int)reply->n);
    if (reply->stop >= 0) {
        cJSON_AddItemToArray(r->ids, cJSON_CreateNumber(reply->stop));
        cJSON_AddItemToArray(r->logps, cJSON_CreateNumber((double)reply->stop_logp));
    }
    return r->ids && r->logps ? AT_OK : at_fail(AT_MEMORY, "a reply cannot be kept");
}

/* "rewards" of a prompt's replies, by the sources. */
static AT_CHECKED add_rewards(const struct printing *p, cJSON *line, size_t prompt)
{
    enum at_status st = AT_OK;
    const struct printed *replies = &p->replies[prompt * p->num_generations];
    struct at_reward_sample *samples = NULL;
    cJSON *rewards = NULL;

    TRY(at_alloc(&samples, p->num_generations, sizeof *samples));
    for (uint32_t i = 0; i < p->num_generations; i++)
        samples[i] =
            (struct at_reward_sample){ .prompt = at_json_find(line, "prompt"),
                                       .row = p->session->voice.prompts.items[prompt].row,
                                       .completion = replies[i].text.text.data,
                                       .n_tokens = (uint32_t)cJSON_GetArraySize(replies[i].ids),
                                       .ended = replies[i].end == AT_END_STOP };
    TRY(at_rewards_score_json(&rewards, p->rewards, samples, p->num_generations));
    cJSON_AddItemToObject(line, "rewards", rewards);
done:
    at_free(&samples);
    return st;
}

/* The line of a prompt, behind its last reply: as data/rollouts.h reads it, where there are sources
 * of rewards. */
static AT_CHECKED print_group(const struct printing *p, size_t prompt)
{
    enum at_status st = AT_OK;
    cJSON *line = cJSON_CreateObject();
    cJSON *texts = NULL, *ids = NULL, *logps = NULL;

    cJSON_AddItemToObject(line, "prompt", cli_prompts_json(&p->session->voice.prompts, prompt));
    texts = cJSON_AddArrayToObject(line, "texts");
    ids = cJSON_AddArrayToObject(line, "completions");
    if (p->rewards)
        TRY(add_rewards(p, line, prompt));
    logps = cJSON_AddArrayToObject(line, "old_logps");
    for (uint32_t k = 0; k < p->num_generations; k++) {
        struct printed *r = &p->replies[prompt * p->num_generations + k];
        cJSON_AddItemToArray(texts, cJSON_CreateString(r->text.text.data));
        cJSON_AddItemToArray(ids, r->ids);
        cJSON_AddItemToArray(logps, r->logps);
        r->ids = r->logps = NULL;
        at_buf_release(&r->text.text);
    }
    TRY(cli_print_line(line));
done:
    cJSON_Delete(line);
    return st;
}

static AT_CHECKED print_reply(const struct printing *p, size_t i)
{
    enum at_status st = AT_OK;
    struct printed *r = &p->replies[i];
    const size_t prompt = i / p->num_generations;
    cJSON *line = NULL;

    if (p->rollouts)
        return (i + 1) % p->num_generations == 0 ? print_group(p, prompt) : st;
    if (!p->json) {
        putchar('\n');
        goto done;
    }
    line = cJSON_CreateObject();
    cJSON_AddNumberToObject(line, "prompt", (double)prompt);
    if (p->num_generations > 1)
        cJSON_AddNumberToObject(line, "reply", (double)(i % p->num_generations));
    cJSON_AddStringToObject(line, "text", r->text.text.data);
    cJSON_AddNumberToObject(line, "n_prompt", p->session->voice.prompts.items[prompt].n);
    cJSON_AddNumberToObject(line, "n_tokens", (double)r->n);
    cJSON_AddNumberToObject(line, "logp", r->logp);
    cJSON_AddStringToObject(line, "end", r->end == AT_END_STOP ? "stop" : "length");
    TRY(cli_print_line(line));
done:
    cJSON_Delete(line);
    at_buf_release(&r->text.text);
    return st;
}

static struct printed *reply_of(struct printing *p, uint32_t prompt, uint32_t sample)
{
    return &p->replies[(size_t)prompt * p->num_generations + sample];
}

static bool is_first(const struct printing *p, const struct printed *r)
{
    return r == &p->replies[p->n_printed];
}

/* The text of the reply that is next on the terminal shows as it grows. */
static enum at_status take_token(void *context, uint32_t prompt, uint32_t sample, int32_t id,
                                 bool *ends)
{
    struct printing *p = context;
    struct printed *r = reply_of(p, prompt, sample);

    r->n++;
    if (is_first(p, r)) {
        print_head(p, p->n_printed);
        r->text.shows = shows(p);
    }
    return cli_reply_token(&r->text, id, ends);
}

/* What is complete is printed in the order of the prompts. */
static enum at_status end_reply(void *context, const struct at_reply *reply)
{
    enum at_status st = AT_OK;
    struct printing *p = context;
    struct printed *r = reply_of(p, reply->prompt, reply->sample);

    for (size_t i = 0; i < reply->n; i++)
        r->logp += (double)reply->logps[i];
    if (p->rollouts)
        TRY(keep_ids(r, reply));
    r->end = reply->end;
    r->ended = true;
    if (reply->end == AT_END_LENGTH) {
        const bool full = reply->n < (uint32_t)p->session->voice.params.number[CLI_MAX_NEW_TOKENS];

        p->n_full += full;
        p->n_cut += !full;
    }
    p->session->n_tokens += reply->n;
    while (p->n_printed < p->n && p->replies[p->n_printed].ended) {
        r = &p->replies[p->n_printed];
        print_head(p, p->n_printed);
        r->text.shows = shows(p);
        cli_reply_end(&r->text);
        TRY(print_reply(p, p->n_printed));
        p->n_printed++;
    }
done:
    return st;
}

static AT_CHECKED print_replies(struct cli_session *s, struct printing *p)
{
    enum at_status st = AT_OK;
    struct at_prompt_ids *prompts = NULL;
    struct at_generation what = generation_of(s, &s->voice);

    TRY(cli_prompts_ids(&prompts, &s->voice.prompts));
    what.prompts = prompts;
    what.n_prompts = (uint32_t)s->voice.prompts.n;
    what.n_samples = p->num_generations;
    what.token = take_token;
    what.reply = end_reply;
    what.context = p;
    p->session = s;
    TRY(at_arena_alloc(&s->arena, &p->replies, p->n, sizeof *p->replies));
    for (size_t i = 0; i < p->n; i++) {
        p->replies[i].text =
            (struct cli_reply){ .tokenizer = s->bundle.tokenizer, .params = &s->voice.params };
        cli_reply_begin(&p->replies[i].text);
    }
    TRY(at_generate(s->generator, &what));
done:
    for (size_t i = 0; p->replies && i < p->n; i++) {
        at_buf_release(&p->replies[i].text.text);
        cJSON_Delete(p->replies[i].ids);
        cJSON_Delete(p->replies[i].logps);
    }
    at_free(&prompts);
    return st;
}

/* ---- what is asked for ---- */

struct asked {
    const char *vary; /* the seeds */
    bool pairs, rollouts;
    struct at_rewards *rewards; /* of rollouts; or NULL */
    struct cli_prompts seeds;
    uint32_t n; /* prompts to make */
};

/* The sources of rewards of rollouts, where there are any. */
static AT_CHECKED open_rewards(struct asked *out, const struct cli_args *a)
{
    static const char *const flags[] = { "reward_command", "reward_command_timeout",
                                         "reward_funcs" };
    enum at_status st = AT_OK;
    struct at_rewards_params p = { .command = cli_flag_text(a, "reward_command"),
                                   .command_timeout_s = 600 };
    const char *funcs = cli_flag_text(a, "reward_funcs");
    struct at_buf text = { 0 };

    for (size_t i = 0; i < AT_COUNT(flags) && !out->rollouts; i++)
        if (cli_flag_text(a, flags[i]))
            FAIL(AT_USAGE, "--%s scores samples: add --rollouts", flags[i]);
    TRY(cli_flag_f64(&p.command_timeout_s, a, "reward_command_timeout", 1e-3, 1e6));
    if (!funcs && !p.command)
        goto done;
    if (funcs && funcs[0] != '[' && funcs[0] != '{')
        at_json_write_string(&text, funcs, strlen(funcs));
    p.funcs = text.data ? text.data : funcs;
    TRY(at_buf_status(&text));
    TRY(at_rewards_open(&out->rewards, &p));
    for (uint32_t k = 0; k < at_rewards_count(out->rewards); k++)
        if (at_rewards_kind(out->rewards, k) == AT_REWARD_MODEL)
            FAIL(AT_USAGE,
                 "--reward_funcs: \"%s\" is the path of a reward model: here rules and commands "
                 "score; models do while training (reward_funcs of attune rloo), and in attune "
                 "score",
                 at_rewards_what(out->rewards, k));
done:
    at_buf_release(&text);
    return st;
}

static AT_CHECKED read_asked(struct asked *out, const struct cli_args *a)
{
    static const char *const of_pairs[] = { "other_adapter", "other_system_prompt",
                                            "other_temperature" };
    enum at_status st = AT_OK;

    *out = (struct asked){ .vary = cli_flag_text(a, "vary"),
                           .pairs = cli_flag_on(a, "pairs"),
                           .rollouts = cli_flag_on(a, "rollouts"),
                           .n = 20 };
    if (out->vary && out->pairs)
        FAIL(AT_USAGE, "--vary and --pairs are two steps: first prompts, then pairs of replies to "
                       "them");
    for (size_t i = 0; i < AT_COUNT(of_pairs) && !out->pairs; i++)
        if (cli_flag_text(a, of_pairs[i]))
            FAIL(AT_USAGE, "--%s says how the second reply of a pair is made: add --pairs",
                 of_pairs[i]);
    if (out->rollouts && (cli_flag_on(a, "json") || cli_flag_text(a, "stop")))
        FAIL(AT_USAGE, "--rollouts writes lines of its own, whose replies end by tokens: leave "
                       "--json and --stop out");
    TRY(open_rewards(out, a));
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

/* Samples of the policy itself, if nothing else is said. */
static AT_CHECKED read_rollouts(struct cli_session *s)
{
    enum at_status st = AT_OK;
    struct cli_reply_params *p = &s->voice.params;

    if (!cli_flag_text(s->args, "temperature"))
        TRY(cli_reply_params_set(p, "temperature", "1"));
    if (p->number[CLI_TEMPERATURE] != 1 || p->number[CLI_TOP_P] != 1 || p->number[CLI_TOP_K] > 0 ||
        p->number[CLI_MIN_P] > 0 || p->number[CLI_REPETITION_PENALTY] != 1 ||
        p->number[CLI_MIN_NEW_TOKENS] > 0)
        at_warn("other_policy", "old_logps are the model's own, at temperature 1 and with no other "
                                "rule: not those of the policy that these flags sample from");
done:
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
        if (asked->rollouts)
            TRY(read_rollouts(s));
    }
done:
    return st;
}

/* ---- opening ---- */

static AT_CHECKED open_bundle(struct cli_session *s, const char *model)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = s->args;
    struct at_bundle_params p = { .path = model,
                                  .tokenizer_dir = cli_flag_text(a, "tokenizer"),
                                  .chat_template_path = cli_flag_text(a, "chat_template") };

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

/* --num_generations and --parallel; pairs and new prompts are written one by one. */
static AT_CHECKED read_numbers(struct printing *out, uint32_t *parallel,
                               const struct cli_session *s, const struct asked *asked)
{
    static const char *const flags[] = { "json", "num_generations", "parallel", "rollouts" };
    enum at_status st = AT_OK;
    const bool one_by_one = asked->pairs || asked->vary;

    for (size_t i = 0; i < AT_COUNT(flags); i++)
        if (one_by_one && cli_flag_text(s->args, flags[i]))
            FAIL(AT_USAGE, "--%s is of plain replies: leave --pairs and --vary out", flags[i]);
    *out = (struct printing){ .json = cli_flag_on(s->args, "json"),
                              .rollouts = asked->rollouts,
                              .rewards = asked->rewards,
                              .num_generations = 1 };
    TRY(cli_flag_u32(&out->num_generations, s->args, "num_generations", 1, 1 << 16));
    if (asked->rollouts && out->num_generations < 2)
        FAIL(AT_USAGE, "--rollouts are groups of samples: say how many a prompt with "
                       "--num_generations, 2 or more");
    out->n = s->voice.prompts.n * out->num_generations;
    *parallel = out->n < PARALLEL ? (uint32_t)out->n : PARALLEL;
    TRY(cli_flag_u32(parallel, s->args, "parallel", 1, 4096));
    if (*parallel > out->n)
        *parallel = (uint32_t)out->n;
    if (one_by_one)
        *parallel = 1;
done:
    return st;
}

static AT_CHECKED open_generator(struct cli_session *s, bool pairs, uint32_t num_generations,
                                 uint32_t parallel)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = s->args;
    const uint32_t positions = at_model_made_for(&s->bundle.config);
    const uint32_t max_new = (uint32_t)s->voice.params.number[CLI_MAX_NEW_TOKENS];
    const uint32_t one = longest_of(&s->voice.prompts), other = longest_of(&s->other.prompts);
    const uint32_t longest = one > other ? one : other;
    struct at_generator_params p = { .gpu = cli_gpu_params(a), .adapter_scale = 1 };
    const char **dirs = NULL;

    TRY(cli_flag_f64(&p.adapter_scale, a, "adapter_scale", -100, 100));
    TRY(list_adapters(s, &dirs, pairs));
    TRY(cli_check_scale(a, s->n_adapters));
    s->adapter_scale = p.adapter_scale;
    p.adapter_dirs = dirs;
    p.n_adapters = s->n_adapters;
    p.sampler = (struct at_sampler_params){ .n_sequences = parallel,
                                            .n_samples = num_generations,
                                            .n_positions = longest + max_new,
                                            .n_prompt = longest,
                                            .n_new = max_new };
    if (positions > 0 && p.sampler.n_positions > positions) {
        if (longest >= positions)
            FAIL(AT_DATA, "a prompt has %u tokens; the model was made for %u positions", longest,
                 positions);
        p.sampler.n_positions = positions;
    }
    TRY(at_generator_open(&s->generator, s->bundle.weights, &s->bundle.config, &p));
    TRY(cli_check_bases(p.adapter_dirs, p.n_adapters, s->bundle.weights));
    cli_note("device   %s, driver %s", at_generator_get_info(s->generator)->name,
             at_generator_get_info(s->generator)->driver);
    if (at_generator_get_sequences(s->generator) < parallel)
        cli_note(at_model_long_from(&s->bundle.config, p.sampler.n_positions) > 0
                     ? "parallel %u reply: this long, each has rotary angles of its own, not %u at "
                       "once"
                     : "parallel %u replies: there is no memory for %u at once",
                 at_generator_get_sequences(s->generator), parallel);
done:
    return st;
}

/* Texts that stop in the middle have their cause told. */
static void say_cut(const struct printing *p, size_t n, const char *where)
{
    if (n > 0 && p->n == 1)
        cli_note("cut      the reply %s", where);
    else if (n > 0)
        cli_note("cut      %zu of %zu replies %s", n, p->n, where);
}

static void say_cuts(const struct printing *p, uint32_t limit)
{
    char at_limit[80];

    snprintf(at_limit, sizeof at_limit, "at %s limit of %u tokens: --max_new_tokens N",
             p->n == 1 ? "its" : "their", limit);
    say_cut(p, p->n_cut, at_limit);
    say_cut(p, p->n_full, "where the model has no more positions");
}

/* The likely next command; of rows, with the file that stdout went to. */
static void say_next(const struct cli_session *s, const struct asked *asked, const char *model,
                     uint32_t num_generations)
{
    const char *adapter = cli_flag_text(s->args, "adapter");

    if (asked->pairs)
        cli_next("next     attune label candidates.jsonl, where that is the file of these pairs");
    else if (asked->rewards)
        cli_next("next     attune grpo --rollouts FILE.jsonl --num_generations %u "
                 "--model_name_or_path %s --output_dir DIR",
                 num_generations, model);
    else if (asked->rollouts)
        cli_next(
            "next     add \"rewards\" to every line, a number for each completion (or let "
            "--reward_funcs do it), then attune grpo --rollouts FILE.jsonl --num_generations %u "
            "--model_name_or_path %s --output_dir DIR",
            num_generations, model);
    else if (asked->vary)
        cli_next("next     attune generate %s --prompts prompts.jsonl --pairs > candidates.jsonl, "
                 "where prompts.jsonl has these",
                 model);
    else if (adapter)
        cli_next("next     attune chat %s --adapter %s", model, adapter);
    else
        cli_next("next     attune chat %s", model);
}

enum at_status cli_generate(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct cli_session s = { .args = args,
                             .voice.prompts = { .system = cli_flag_text(args, "system_prompt"),
                                                .raw = cli_flag_on(args, "raw") } };
    struct asked asked = { .vary = NULL };
    struct printing printing;
    const char *model = NULL;
    uint32_t parallel = 1;
    double begin_s = 0;

    TRY(cli_gpu_check(args));
    TRY(cli_reply_params_read(&s.voice.params, args));
    TRY(read_asked(&asked, args));
    TRY(cli_model_named(&model, args));
    TRY(open_bundle(&s, model));
    TRY(read_all(&s, &asked));
    TRY(read_numbers(&printing, &parallel, &s, &asked));
    TRY(open_generator(&s, asked.pairs, printing.num_generations, parallel));
    s.reply.tokenizer = s.bundle.tokenizer;
    begin_s = at_now_s();
    if (asked.pairs)
        TRY(cli_pairs_print(&s));
    else if (asked.vary)
        TRY(cli_vary_print(&s, &asked.seeds));
    else
        TRY(print_replies(&s, &printing));
    cli_note("%llu tokens, %.1f tokens/s", (unsigned long long)s.n_tokens,
             (double)s.n_tokens / (at_now_s() - begin_s + 1e-9));
    say_cuts(&printing, (uint32_t)s.voice.params.number[CLI_MAX_NEW_TOKENS]);
    say_next(&s, &asked, model, printing.num_generations);
    if (cli_flag_on(args, "profile"))
        TRY(cli_kernel_table(stderr, NULL, at_generator_get_stream(s.generator)));
done:
    at_rewards_close(&asked.rewards);
    at_generator_close(&s.generator);
    at_bundle_close(&s.bundle);
    cli_prompts_release(&s.voice.prompts);
    cli_prompts_release(&s.other.prompts);
    cli_prompts_release(&asked.seeds);
    at_buf_release(&s.reply.text);
    at_arena_release(&s.arena);
    return st;
}
