/* `attune chat`: a conversation on the terminal, with adapters that can be switched in it. */
#include "base.h"
#include "prompts.h"
#include "reply.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 4096 };

struct chat {
    struct cli_args *args;
    struct at_arena arena;
    struct at_bundle bundle;
    struct at_generator *generator;
    struct cli_prompts prompts;
    struct cli_reply_params params;
    struct cli_reply reply;
    char *system;                /* or NULL */
    struct at_message *messages; /* (n): the user's and the assistant's in turn; texts are owned */
    size_t n, capacity;
    const char **adapters; /* (n_adapters) folders */
    size_t n_adapters;
    bool *on;
    double scale;
    uint32_t n_turns, positions;
    uint32_t n_tokens; /* of the reply */
    enum at_generation_end end;
    bool quits;
};

/* ---- the conversation ---- */

static AT_CHECKED copy_text(char **out, const char *text)
{
    const size_t n = strlen(text) + 1;
    enum at_status st;

    TRY(at_alloc(out, n, 1));
    memcpy(*out, text, n);
done:
    return st;
}

static AT_CHECKED add(struct chat *c, const char *role, const char *text)
{
    enum at_status st = AT_OK;
    char *copy = NULL;

    if (c->n == c->capacity) {
        const size_t capacity = c->capacity ? 2 * c->capacity : 16;
        TRY(at_realloc(&c->messages, c->capacity, capacity, sizeof *c->messages));
        c->capacity = capacity;
    }
    TRY(copy_text(&copy, text));
    c->messages[c->n++] = (struct at_message){ role, copy, NULL };
done:
    return st;
}

/* Takes messages [begin, begin + n) out. */
static void drop(struct chat *c, size_t begin, size_t n)
{
    for (size_t i = begin; i < begin + n; i++) {
        void *text = (void *)(uintptr_t)c->messages[i].content;
        at_free(&text);
    }
    if (c->n > begin + n)
        memmove(c->messages + begin, c->messages + begin + n,
                (c->n - begin - n) * sizeof *c->messages);
    c->n -= n;
}

/* What is said about the chat itself, whatever --quiet says: it was asked for. */
static void AT_PRINTF(1, 2) tell(const char *format, ...)
{
    va_list list;

    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
}

/* The conversation as ids, the only item of `prompts`; the oldest turns go where it has no room for
 * a reply, or at least for a quarter of the context. A message that has no room alone is AT_DATA,
 * and then nothing goes. */
static AT_CHECKED render(struct chat *c)
{
    const uint32_t max_new = (uint32_t)c->params.number[CLI_MAX_NEW_TOKENS];
    const uint32_t room = max_new < c->positions / 4 ? max_new : c->positions / 4;
    size_t begin = 0;
    enum at_status st;

    while (c->n - begin >= CLI_MAX_MESSAGES)
        begin += 2;
    for (;; begin += 2) {
        c->prompts.n = 0;
        c->prompts.system = c->system;
        TRY(cli_prompts_add_messages(&c->prompts, c->messages + begin, c->n - begin));
        if (c->prompts.items[0].n + room <= c->positions || c->n - begin < 3)
            break;
    }
    if (c->prompts.items[0].n >= c->positions)
        FAIL(AT_DATA, "the message has %u tokens with what belongs to it; the context has %u",
             c->prompts.items[0].n, c->positions);
    if (begin > 0)
        cli_note("(the oldest %zu turns are forgotten: the context has %u tokens and %d messages)",
                 begin / 2, c->positions, CLI_MAX_MESSAGES);
    drop(c, 0, begin);
done:
    return st;
}

static enum at_status answer_token(void *context, uint32_t prompt, uint32_t sample, int32_t id,
                                   bool *ends)
{
    struct chat *c = context;

    (void)prompt;
    (void)sample;
    c->n_tokens++;
    return cli_reply_token(&c->reply, id, ends);
}

static enum at_status answer_end(void *context, const struct at_reply *reply)
{
    struct chat *c = context;

    c->end = reply->end;
    return AT_OK;
}

/* The user's message is answered; where that fails, it is taken back. */
static AT_CHECKED answer(struct chat *c, const char *text)
{
    enum at_status st;
    bool asked = false;
    struct at_prompt_ids prompt;
    struct at_generation what = { .prompts = &prompt,
                                  .n_prompts = 1,
                                  .prompt_index = c->n_turns++,
                                  .min_new_tokens = (uint32_t)c->params.number[CLI_MIN_NEW_TOKENS],
                                  .max_new_tokens = (uint32_t)c->params.number[CLI_MAX_NEW_TOKENS],
                                  .sampling = cli_reply_sampling(&c->params),
                                  .goes_on = true,
                                  .token = answer_token,
                                  .reply = answer_end,
                                  .context = c };
    const double begin_s = at_now_s();

    TRY(add(c, "user", text));
    asked = true;
    TRY(render(c));
    prompt = (struct at_prompt_ids){ c->prompts.items[0].ids, c->prompts.items[0].n };
    c->n_tokens = 0;
    what.stop = c->prompts.stop;
    what.n_stop = c->prompts.n_stop;
    cli_reply_begin(&c->reply);
    TRY(at_generate(c->generator, &what));
    cli_reply_end(&c->reply);
    TRY(add(c, "assistant", c->reply.text.data));
    asked = false;
    printf("\n");
    if (fflush(stdout) != 0)
        FAIL(AT_IO, "standard output cannot be written");
    if (c->end == AT_END_LENGTH)
        cli_note("(cut after %u tokens: /set max_new_tokens N)", c->n_tokens);
    cli_detail("(%u tokens read, %u written, %.1f tokens/s)", prompt.n, c->n_tokens,
               (double)c->n_tokens / (at_now_s() - begin_s + 1e-9));
done:
    if (asked)
        drop(c, c->n - 1, 1);
    return st;
}

/* ---- what begins with a slash ---- */

static void tell_adapters(const struct chat *c)
{
    for (size_t i = 0; i < c->n_adapters; i++)
        tell("%s %zu  %s", c->on[i] ? "on " : "off", i + 1, c->adapters[i]);
    if (c->n_adapters == 0)
        tell("no adapter was opened: attune chat MODEL --adapter DIR");
    else
        tell("scale %g", c->scale);
}

/* "", "all", "none" or numbers. */
static AT_CHECKED slash_adapter(struct chat *c, const char *text)
{
    enum at_status st = AT_OK;
    bool *on = NULL;
    char *end = NULL;

    if (!*text) {
        tell_adapters(c);
        goto done;
    }
    TRY(at_alloc(&on, c->n_adapters + 1, sizeof *on));
    for (size_t i = 0; i < c->n_adapters; i++)
        on[i] = strcmp(text, "all") == 0;
    for (const char *at = text; *at && strcmp(text, "all") != 0 && strcmp(text, "none") != 0;
         at = end) {
        const unsigned long i = strtoul(at, &end, 10);
        if (end == at || i == 0 || i > c->n_adapters)
            FAIL(AT_USAGE, "/adapter %s: all, none, or numbers from 1 to %zu", text, c->n_adapters);
        on[i - 1] = true;
        end += strspn(end, " ,");
    }
    TRY(at_generator_use(c->generator, on, c->scale));
    memcpy(c->on, on, c->n_adapters * sizeof *on);
    tell_adapters(c);
done:
    at_free(&on);
    return st;
}

static AT_CHECKED slash_scale(struct chat *c, const char *text)
{
    enum at_status st;
    char *end = NULL;
    const double scale = strtod(text, &end);

    if (!*text || *end || !(scale >= -100 && scale <= 100))
        FAIL(AT_USAGE, "/scale %s: a number in -100..100 expected", text);
    TRY(at_generator_use(c->generator, c->on, scale));
    c->scale = scale;
    tell_adapters(c);
done:
    return st;
}

static AT_CHECKED slash_set(struct chat *c, const char *text)
{
    enum at_status st = AT_OK;
    struct at_buf told = { 0 }, name = { 0 };
    const size_t n = strcspn(text, " ");

    at_buf_put(&name, text, n);
    TRY(at_buf_status(&name));
    if (text[n])
        TRY(cli_reply_params_set(&c->params, name.data, text + n + 1));
    else if (n > 0)
        FAIL(AT_USAGE, "/set NAME VALUE: the value is missing");
    TRY(cli_reply_params_tell(&told, &c->params));
    tell("%s", told.data);
done:
    at_buf_release(&told);
    at_buf_release(&name);
    return st;
}

static AT_CHECKED slash_system(struct chat *c, const char *text)
{
    at_free(&c->system);
    return *text ? copy_text(&c->system, text) : AT_OK;
}

static AT_CHECKED slash_new(struct chat *c, const char *text)
{
    (void)text;
    drop(c, 0, c->n);
    return AT_OK;
}

static AT_CHECKED slash_undo(struct chat *c, const char *text)
{
    (void)text;
    if (c->n < 2)
        return at_fail(AT_USAGE, "/undo: there is no turn to take back");
    drop(c, c->n - 2, 2);
    return AT_OK;
}

/* A row to train on: appended, so that a file collects conversations. */
static AT_CHECKED slash_save(struct chat *c, const char *text)
{
    enum at_status st = AT_OK;
    struct at_buf line = { 0 }, old = { 0 };
    cJSON *row = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(row, "messages");

    if (!*text)
        FAIL(AT_USAGE, "/save FILE.jsonl: the file is missing");
    if (c->n == 0)
        FAIL(AT_USAGE, "/save: nothing has been said yet");
    for (size_t i = 0; i < c->n + (c->system != NULL); i++) {
        const bool system = c->system && i == 0;
        const struct at_message *m = system ? NULL : &c->messages[i - (c->system != NULL)];
        cJSON *json = cJSON_CreateObject();
        cJSON_AddStringToObject(json, "role", system ? "system" : m->role);
        cJSON_AddStringToObject(json, "content", system ? c->system : m->content);
        cJSON_AddItemToArray(list, json);
    }
    cJSON_AddBoolToObject(row, "synthetic", true);
    cJSON_AddBoolToObject(row, "reviewed", false);
    if (at_path_exists(text))
        TRY(at_file_read(&old, text));
    if (old.n > 0) {
        at_buf_put(&line, old.data, old.n);
        if (line.data && line.data[line.n - 1] != '\n')
            at_buf_puts(&line, "\n");
    }
    at_json_write(&line, row);
    at_buf_puts(&line, "\n");
    TRY(at_buf_status(&line));
    TRY(at_file_write_atomic(text, line.data, line.n));
    tell("%s: this conversation is its last line", text);
done:
    cJSON_Delete(row);
    at_buf_release(&line);
    at_buf_release(&old);
    return st;
}

static AT_CHECKED slash_quit(struct chat *c, const char *text)
{
    (void)text;
    c->quits = true;
    return AT_OK;
}

static AT_CHECKED slash_help(struct chat *c, const char *text);

static const struct {
    const char *name, *help;
    AT_CHECKED (*run)(struct chat *c, const char *text);
} slashes[] = {
    { "adapter", "[all|none|N ...]  which adapters are on", slash_adapter },
    { "help", "  this list; a message that begins with / is written //", slash_help },
    { "new", "  forget the conversation", slash_new },
    { "quit", "  end (so does the end of input)", slash_quit },
    { "save", "FILE.jsonl  append the conversation as a row to train on", slash_save },
    { "scale", "X  strength of the adapters", slash_scale },
    { "set", "[NAME VALUE]  temperature, top_p, ...", slash_set },
    { "system", "[TEXT]  system message from the next reply on", slash_system },
    { "undo", "  take the last turn back", slash_undo },
};

static AT_CHECKED slash_help(struct chat *c, const char *text)
{
    (void)c;
    (void)text;
    for (size_t i = 0; i < AT_COUNT(slashes); i++)
        tell("/%s %s", slashes[i].name, slashes[i].help);
    return AT_OK;
}

static AT_CHECKED command(struct chat *c, char *line)
{
    char *text = line + strcspn(line, " ");

    if (*text)
        *text++ = 0;
    text += strspn(text, " ");
    for (size_t i = 0; i < AT_COUNT(slashes); i++)
        if (strcmp(slashes[i].name, line) == 0)
            return slashes[i].run(c, text);
    return at_fail(AT_USAGE, "/%s is no command; /help lists them", line);
}

/* ---- the loop ---- */

/* A message: a line, with those before it that end in a backslash. *more is false at the end. */
static AT_CHECKED read_message(struct at_buf *out, bool *more)
{
    enum at_status st = AT_OK;
    const bool asks = at_stream_is_terminal(0);
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;

    at_buf_clear(out);
    at_buf_puts(out, "");
    for (*more = false;;) {
        if (asks)
            fprintf(stderr, "%s", *more ? ". " : "> ");
        n = getline(&line, &capacity, stdin);
        if (n < 0)
            break;
        *more = true;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        if (n == 0 || line[n - 1] != '\\') {
            at_buf_put(out, line, (size_t)n);
            break;
        }
        at_buf_put(out, line, (size_t)n - 1);
        at_buf_puts(out, "\n");
    }
    if (at_signal_status() != AT_OK)
        FAIL(at_signal_status(), "stopped by a signal");
    if (ferror(stdin))
        FAIL(AT_IO, "standard input cannot be read");
    TRY(at_buf_status(out));
    if (at_utf8_check(out->data, out->n) != out->n || strlen(out->data) != out->n)
        FAIL(AT_DATA, "the message is no UTF-8 text");
done:
    free(line); /* from getline */
    return st;
}

/* What one cannot go on from: anything but a wrong command or a message that is refused. */
static AT_CHECKED go_on(enum at_status st)
{
    if (st != AT_USAGE && st != AT_DATA && st != AT_CANNOT_WRITE)
        return st;
    tell("%s", at_message());
    return AT_OK;
}

static AT_CHECKED talk(struct chat *c)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    bool more = true;

    while (!c->quits) {
        st = read_message(&text, &more);
        if (st != AT_OK) {
            TRY(go_on(st));
            continue;
        }
        if (!more)
            break;
        if (text.data[0] == '/' && text.data[1] != '/')
            TRY(go_on(command(c, text.data + 1)));
        else if (text.data[strspn(text.data, " \t\n")])
            TRY(go_on(answer(c, text.data + (text.data[0] == '/'))));
    }
done:
    at_buf_release(&text);
    return st;
}

/* ---- opening ---- */

static AT_CHECKED open_model(struct chat *c)
{
    enum at_status st;
    const struct cli_args *a = c->args;
    struct at_bundle_params bundle = { .tokenizer_dir = cli_flag_text(a, "tokenizer"),
                                       .chat_template_path = cli_flag_text(a, "chat_template") };
    struct at_generator_params p = { .gpu = cli_gpu_params(a), .adapter_scale = 1 };
    uint32_t most;

    TRY(cli_model_named(&bundle.path, a));
    TRY(at_bundle_open(&c->bundle, &bundle));
    TRY(cli_prompts_open(&c->prompts, &c->bundle));
    if (!c->bundle.chat)
        FAIL(AT_DATA, "%s; --chat_template names a template",
             c->bundle.chat_problem ? c->bundle.chat_problem : "the model has no chat template");
    most = at_model_made_for(&c->bundle.config);
    c->positions = CONTEXT;
    TRY(cli_flag_u32(&c->positions, a, "context", 64, 1 << 20));
    if (most > 0 && c->positions > most)
        c->positions = most;
    TRY(at_arena_alloc(&c->arena, &c->adapters, a->n_own + 1, sizeof *c->adapters));
    TRY(at_arena_alloc(&c->arena, &c->on, a->n_own + 1, sizeof *c->on));
    for (size_t i = 0; i < a->n_own; i++)
        if (strcmp(a->own[i].key, "adapter") == 0) {
            c->on[c->n_adapters] = true;
            c->adapters[c->n_adapters++] = a->own[i].value;
        }
    TRY(cli_check_scale(a, c->n_adapters));
    TRY(cli_flag_f64(&p.adapter_scale, a, "adapter_scale", -100, 100));
    c->scale = p.adapter_scale;
    p.adapter_dirs = c->adapters;
    p.n_adapters = c->n_adapters;
    p.sampler =
        (struct at_sampler_params){ .n_sequences = 1, .n_samples = 1, .n_positions = c->positions };
    TRY(at_generator_open(&c->generator, c->bundle.weights, &c->bundle.config, &p));
    TRY(cli_check_bases(p.adapter_dirs, p.n_adapters, c->bundle.weights));
    cli_note("device   %s, driver %s", at_generator_get_info(c->generator)->name,
             at_generator_get_info(c->generator)->driver);
    cli_note("context  %u tokens; /help lists commands", c->positions);
done:
    return st;
}

enum at_status cli_chat(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct chat c = { .args = args };
    const char *system = cli_flag_text(args, "system_prompt");

    TRY(cli_gpu_check(args));
    TRY(cli_reply_params_read(&c.params, args));
    if (system)
        TRY(copy_text(&c.system, system));
    TRY(open_model(&c));
    at_signals_interrupt_reads();
    c.reply =
        (struct cli_reply){ .tokenizer = c.bundle.tokenizer, .params = &c.params, .shows = true };
    TRY(talk(&c));
done:
    at_generator_close(&c.generator);
    at_bundle_close(&c.bundle);
    cli_prompts_release(&c.prompts);
    drop(&c, 0, c.n);
    at_free(&c.messages);
    at_free(&c.system);
    at_buf_release(&c.reply.text);
    at_arena_release(&c.arena);
    return st;
}
