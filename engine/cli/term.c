#include "cli.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { WARNINGS_SHOWN = 5 };
static const double line_every_s = 5; /* plain progress lines */

static struct {
    bool quiet, verbose;
    bool updates;  /* stderr is a terminal that takes escape codes */
    bool in_line;  /* a progress line stands unfinished */
    double last_s; /* when progress was last shown */
    double eval_s; /* when the evaluation began */
    size_t hidden; /* warnings that were not shown */
} term;

static struct {
    bool held;
    struct at_buf line;
} next;

static void leave_line(void)
{
    if (term.in_line)
        fputs("\r\033[K", stderr);
    term.in_line = false;
}

static void show_warning(const char *kind, const char *text)
{
    const size_t n = at_warn_count(kind);

    if (n > WARNINGS_SHOWN) {
        term.hidden++;
        return;
    }
    leave_line();
    fprintf(stderr, "attune: warning: %s%s\n", text,
            n == WARNINGS_SHOWN ? " (further ones of this kind are counted only)" : "");
}

static bool takes_codes(int fd)
{
    const char *name = at_env("TERM"), *no_color = at_env("NO_COLOR");

    return at_stream_is_terminal(fd) && !(no_color && *no_color) && name &&
           strcmp(name, "dumb") != 0;
}

bool cli_colours(void)
{
    return takes_codes(1);
}

/* Seconds between two lines of progress. */
static double pause_s(void)
{
    return term.updates ? 0.1 : line_every_s;
}

/* A line after `done` of n turns, where they take longer than such a pause; none after the last
 * one, which takes away what stands. */
static void __attribute__((format(printf, 3, 4)))
show_turn(uint32_t done, uint32_t n, const char *format, ...)
{
    va_list args;

    if (done == n)
        leave_line();
    if (term.quiet || done == n || at_now_s() - term.last_s < pause_s())
        return;
    term.last_s = at_now_s();
    fputs(term.updates ? "\r\033[K" : "", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputs(term.updates ? "" : "\n", stderr);
    fflush(stderr);
    term.in_line = term.updates;
}

static void show_loading(uint32_t done, uint32_t n)
{
    if (done == 1)
        term.last_s = at_now_s();
    show_turn(done, n, "loading  %u %% of the model", 100 * done / n);
}

void cli_measuring(const char *name, uint32_t done, uint32_t n, const char *what)
{
    if (done == 0)
        term.last_s = term.updates ? 0 : at_now_s(); /* an updating line stands at once */
    show_turn(done, n, "measuring %s: %u of %u %s", name, done, n, what);
}

void cli_term_init(void)
{
    term.updates = takes_codes(2);
    at_warn_set_sink(show_warning);
    at_model_set_loading_sink(show_loading);
}

void cli_term_set(bool quiet, bool verbose)
{
    term.quiet = quiet;
    term.verbose = verbose;
}

static void __attribute__((format(printf, 1, 0))) write_line(const char *format, va_list args)
{
    leave_line();
    fflush(
        stdout); /* where both go to one file, lines stand in the order in which they were told */
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

void cli_note(const char *format, ...)
{
    va_list args;

    if (term.quiet)
        return;
    va_start(args, format);
    write_line(format, args);
    va_end(args);
}

void cli_detail(const char *format, ...)
{
    va_list args;

    if (!term.verbose || term.quiet)
        return;
    va_start(args, format);
    write_line(format, args);
    va_end(args);
}

void cli_word_put(struct at_buf *out, const char *word)
{
    const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:=,+@%-";

    if (*word && word[strspn(word, plain)] == 0) {
        at_buf_puts(out, word);
        return;
    }
    at_buf_puts(out, "'");
    for (const char *c = word; *c; c++)
        if (*c == '\'')
            at_buf_puts(out, "'\\''");
        else
            at_buf_put(out, c, 1);
    at_buf_puts(out, "'");
}

void cli_path_put(struct at_buf *out, const char *path)
{
    if (path[0] == '-' && path[1])
        at_buf_puts(out, "./");
    cli_word_put(out, path);
}

AT_CHECKED cli_new_path(char **out, struct at_arena *arena, const char *stem)
{
    enum at_status st = AT_OK;

    TRY(at_arena_strdup(arena, out, stem));
    for (unsigned n = 2; at_path_exists(*out); n++)
        TRY(at_arena_printf(arena, out, "%s_%u", stem, n));
done:
    return st;
}

void cli_next(const char *format, ...)
{
    va_list args;

    at_buf_clear(&next.line);
    va_start(args, format);
    for (const char *c = format; *c; c++)
        if (*c != '%')
            at_buf_put(&next.line, c, 1);
        else if (*++c == 's')
            cli_path_put(&next.line, va_arg(args, const char *));
        else if (*c == 'u')
            at_buf_printf(&next.line, "%u", va_arg(args, unsigned));
        else if (*c == 'g')
            at_buf_printf(&next.line, "%g", va_arg(args, double));
        else
            AT_BUG("a conversion that cli_next() has not");
    va_end(args);
    if (!next.held)
        cli_next_tell(true);
}

void cli_next_line(const char *line)
{
    at_buf_clear(&next.line);
    at_buf_puts(&next.line, line);
    if (!next.held)
        cli_next_tell(true);
}

void cli_next_hold(void)
{
    at_buf_clear(&next.line);
    next.held = true;
}

const char *cli_next_held(void)
{
    return next.line.n > 0 && at_buf_status(&next.line) == AT_OK ? next.line.data : NULL;
}

void cli_next_tell(bool print)
{
    if (print && cli_next_held())
        cli_note("%s", next.line.data);
    at_buf_release(&next.line);
    next.held = false;
}

void cli_keys_text(struct at_buf *out, const struct cli_args *args, const char *const *skip,
                   size_t n)
{
    for (size_t i = 0; i < args->n_keys; i++) {
        bool skipped = false;
        for (size_t k = 0; k < n; k++)
            skipped = skipped || strcmp(args->keys[i].key, skip[k]) == 0;
        if (skipped)
            continue;
        at_buf_printf(out, " --%s%c", args->keys[i].key,
                      strncmp(args->keys[i].value, "--", 2) == 0 ? '=' : ' ');
        cli_word_put(out, args->keys[i].value);
    }
}

static void put_named(struct at_buf *out, const char *name, const char *path)
{
    at_buf_puts(out, name);
    cli_path_put(out, path);
}

/* Takes out flags of keys that the method does not read, and its losses, which are another's. */
static void keep_read(struct cli_args *args, enum at_method method)
{
    size_t n = 0;

    for (size_t i = 0; i < args->n_keys; i++) {
        int key = 0;
        while (key < AT_KEY_COUNT && strcmp(at_key_name((enum at_key)key), args->keys[i].key) != 0)
            key++;
        if (key == AT_KEY_COUNT ||
            (key != AT_KEY_loss_type && at_key_read_by((enum at_key)key, method)))
            args->keys[n++] = args->keys[i];
    }
    args->n_keys = n;
}

void cli_method_fit(struct at_config *config, struct cli_args *args, bool singles, bool labelled)
{
    const struct at_method_row *m = at_method_get(config->run_method);
    const char *path = args->n_positional > 0 ? args->positional[0] : NULL;

    if (m->draws || m->rows == AT_ROWS_SFT || (!singles && !labelled) ||
        (!singles && m->rows == AT_ROWS_LABELLED))
        return;
    if (config->origin[AT_KEY_method] >= AT_FROM_FILE)
        at_warn("method", "there are rows %s, which %s does not read; %s does",
                singles ? "with one completion" : "that are labelled", m->name,
                singles ? "sft" : "kto");
    if (path && !cli_is_data(path))
        return;
    config->run_method = singles ? AT_SFT : AT_KTO;
    for (size_t i = 0; i < args->n_keys; i++)
        if (strcmp(args->keys[i].key, "method") == 0)
            args->keys[i].value = at_method_get(config->run_method)->name;
    keep_read(args, config->run_method);
}

AT_CHECKED cli_next_plan(const struct cli_args *args, const struct at_config *config,
                         const char *train, const char *held)
{
    /* a method that draws holds no share out */
    static const char *const skip[] = { "method", "eval_split", "train_dataset", "eval_dataset" };
    const bool draws = at_method_get(config->run_method)->draws;
    enum at_status st = AT_OK;
    struct at_buf line = { 0 };
    const char *path = args->n_positional > 0 ? args->positional[0] : NULL;
    const bool data = path && cli_is_data(path);
    const size_t from = path && !data ? 1 : 0; /* its method may be a flag's */

    at_buf_puts(&line, "next       attune plan");
    if (path && !data)
        put_named(&line, " ", path);
    else
        at_buf_printf(&line, " --method %s", at_method_get(config->run_method)->name);
    if (train || data)
        put_named(&line, " --train_dataset ", train ? train : path);
    if (held)
        put_named(&line, " --eval_dataset ", held);
    cli_keys_text(&line, args, skip + from, (train ? AT_COUNT(skip) : draws ? 2 : 1) - from);
    if (draws && from > 0 && config->eval_split > 0 &&
        config->origin[AT_KEY_eval_split] >= AT_FROM_FILE)
        at_buf_puts(&line, " --eval_split 0"); /* plan refuses a share */
    if (draws && !config->reward_funcs && !config->reward_command && !config->rollouts)
        at_buf_puts(&line, " --reward_funcs REWARDS");
    if (!config->model_name_or_path)
        at_buf_puts(&line, " --model_name_or_path MODEL");
    TRY(at_buf_status(&line));
    cli_next_line(line.data);
done:
    at_buf_release(&line);
    return st;
}

AT_CHECKED cli_next_rows(struct cli_args *args, const struct at_config *config)
{
    enum at_status st = AT_OK;
    struct at_buf line = { 0 };
    const char *path = args->n_positional > 0 ? args->positional[0] : NULL;
    const char *name = NULL, *dot = NULL;
    char *folder = NULL;

    if (!path) /* several files, or a stage of a pipeline, which knows what is next */
        return AT_OK;
    if (!cli_is_data(path) || config->eval_dataset.n > 0 || config->eval_split == 0 ||
        config->cross_validation > 0 || at_method_get(config->run_method)->draws)
        return cli_next_plan(args, config, NULL, NULL);
    name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    dot = strchr(name + strspn(name, "."), '.'); /* of ".jsonl", ".jsonl.gz" */
    TRY(at_arena_printf(&args->arena, &folder, "out/%.*s_split",
                        (int)(dot ? (size_t)(dot - name) : strlen(name)), name));
    TRY(cli_new_path(&folder, &args->arena, folder));
    at_buf_puts(&line, "next       attune data split");
    put_named(&line, " ", path);
    put_named(&line, " --output ", folder);
    cli_keys_text(&line, args, NULL, 0);
    TRY(at_buf_status(&line));
    cli_next_line(line.data);
done:
    at_buf_release(&line);
    return st;
}

void cli_duration(char out[32], double seconds)
{
    const unsigned long s = (unsigned long)(seconds + 0.5);

    if (seconds < 60)
        snprintf(out, 32, "%.1f s", seconds);
    else if (s < 3600)
        snprintf(out, 32, "%lu min %02lu s", s / 60, s % 60);
    else
        snprintf(out, 32, "%lu h %02lu min", s / 3600, s / 60 % 60);
}

static void samples_text(char *out, size_t size, const struct at_progress *p)
{
    char kl[32] = "", sampling[48] = "";

    if (p->has_kl)
        snprintf(kl, sizeof kl, "  KL %.4g", p->kl);
    if (p->sampling_tokens_per_s > 0) /* else the rollout was drawn before the run went on */
        snprintf(sampling, sizeof sampling, "sampling %.0f tokens/s, ", p->sampling_tokens_per_s);
    snprintf(out, size, "  reward %.3f%s  length %.1f  %straining", p->reward, kl, p->length,
             sampling);
}

void cli_progress(void *context, const struct at_progress *p)
{
    const double now_s = at_now_s();
    const bool edge = p->step == 1 || p->step == p->total;
    char margin[32] = "", pairs[32] = "", samples[128] = "", eta[32];

    (void)context;
    if (term.quiet || (!edge && now_s - term.last_s < pause_s()))
        return;
    term.last_s = now_s;
    cli_duration(eta, p->eta_s);
    if (p->pairs) {
        snprintf(margin, sizeof margin, "  margin %+.3f", p->margin);
        snprintf(pairs, sizeof pairs, "  %.2f pairs/s", p->pairs_per_s);
    }
    if (p->samples)
        samples_text(samples, sizeof samples, p);
    fprintf(stderr, "%sstep %llu/%llu  loss %.4f%s  lr %.2e%s  %.0f tokens/s%s  ETA %s%s",
            term.updates ? "\r\033[K" : "", (unsigned long long)p->step,
            (unsigned long long)p->total, p->loss, margin, p->learning_rate, samples,
            p->tokens_per_s, pairs, eta, term.updates ? "" : "\n");
    fflush(stderr);
    term.in_line = term.updates;
    if (p->step == p->total && term.in_line) {
        fputc('\n', stderr);
        term.in_line = false;
    }
}

/* Of an evaluation that goes on: at once where the line is an updating one, else a line if it takes
 * longer than a pause. */
static void show_evaluating(const struct at_evaluation *e)
{
    const double now_s = at_now_s();

    if (e->done == 0)
        term.eval_s = now_s;
    if (e->done == 0 ? !term.updates : now_s - fmax(term.last_s, term.eval_s) < pause_s())
        return;
    term.last_s = now_s;
    fprintf(stderr, "%seval at step %llu  %u of %u %s rows%s", term.updates ? "\r\033[K" : "",
            (unsigned long long)e->step, e->done, e->rows,
            e->regression ? "regression" : "held-out", term.updates ? "" : "\n");
}

void cli_evaluation(void *context, const struct at_evaluation *e)
{
    char accuracy[96] = "", drift[64] = "", took[32];

    (void)context;
    if (term.quiet)
        return;
    if (!e->ends) {
        show_evaluating(e);
    } else {
        if (e->pairs)
            snprintf(accuracy, sizeof accuracy, "  %s in %.1f %%",
                     e->rewards ? "chosen rewarded higher" : "chosen likelier a token",
                     100 * e->accuracy.value);
        if (e->has_drift)
            snprintf(drift, sizeof drift, "  drift %.4g nats a token", e->drift);
        cli_duration(took, e->time_s);
        fprintf(stderr, "%seval at step %llu  %u held-out rows  loss %.4f%s%s  in %s\n",
                term.updates ? "\r\033[K" : "", (unsigned long long)e->step, e->rows, e->loss,
                accuracy, drift, took);
    }
    fflush(stderr);
    term.in_line = term.updates && !e->ends;
}

void cli_term_end(void)
{
    const size_t n = at_warn_count(NULL);

    if (term.in_line)
        fputc('\n', stderr);
    term.in_line = false;
    if (n > 0)
        fprintf(stderr, "attune: %zu warning%s%s\n", n, n == 1 ? "" : "s",
                term.hidden > 0 ? ", not all shown" : "");
}

void cli_error(const char *message)
{
    fputs("attune: error: ", stderr);
    for (const char *c = message; *c; c++) /* one line, whatever the message quotes */
        fputc(*c == '\n' ? ' ' : *c, stderr);
    fputc('\n', stderr);
}

static AT_CHECKED print(struct at_buf *text, bool line)
{
    enum at_status st = AT_OK;

    if (line)
        at_buf_puts(text, "\n");
    TRY(at_buf_status(text));
    if (fwrite(text->data, 1, text->n, stdout) != text->n)
        FAIL(AT_IO, "standard output cannot be written");
done:
    at_buf_release(text);
    return st;
}

AT_CHECKED cli_print_line(const cJSON *json)
{
    struct at_buf text = { 0 };

    at_json_write(&text, json);
    return print(&text, true);
}

AT_CHECKED cli_print_pretty(const cJSON *json)
{
    struct at_buf text = { 0 };

    at_json_write_pretty(&text, json);
    return print(&text, false);
}
