#include "command.h"

#include "os.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 4096 /* that a line of output may take on average */, SHOWN_BYTES = 300 };

/* ---- what it reads ---- */

/* Columns of a row that are its samples', or that the object has anyway. */
static bool is_own(const char *key)
{
    static const char *const keys[] = { "completion", "completions", "ended",   "n_tokens",
                                        "old_logps",  "prompt",      "rewards", "texts" };

    for (size_t i = 0; i < AT_COUNT(keys); i++)
        if (strcmp(keys[i], key) == 0)
            return true;
    return false;
}

static void write_row(struct at_buf *out, const struct at_reward_sample *s)
{
    at_buf_puts(out, "{\"prompt\":");
    at_json_write(out, s->prompt);
    at_buf_puts(out, ",\"completion\":");
    at_json_write_string(out, s->completion, strlen(s->completion));
    at_buf_printf(out, ",\"n_tokens\":%u,\"ended\":%s", s->n_tokens, s->ended ? "true" : "false");
    for (const cJSON *column = s->row ? s->row->child : NULL; column; column = column->next) {
        if (is_own(column->string))
            continue;
        at_buf_puts(out, ",");
        at_json_write_string(out, column->string, strlen(column->string));
        at_buf_puts(out, ":");
        at_json_write(out, column);
    }
    at_buf_puts(out, "}\n");
}

/* ---- what it writes ---- */

/* A number, or null (NaN) of a row that it has nothing to say about. */
static bool read_number(double *out, const char *line, size_t n)
{
    char text[64] = "", *end = NULL;

    *out = NAN;
    while (n > 0 && strchr(" \t\r", line[n - 1]))
        n--;
    while (n > 0 && strchr(" \t", line[0])) {
        line++;
        n--;
    }
    if (n == 0 || n >= sizeof text || memchr(line, 0, n))
        return false;
    memcpy(text, line, n);
    if (strcmp(text, "null") == 0 || strcmp(text, "None") == 0)
        return true;
    *out = strtod(text, &end);
    if (*end || !isfinite(*out)) {
        *out = NAN;
        return false;
    }
    return true;
}

struct answers {
    struct at_buf first; /* what is wrong with the first row that is */
    uint32_t n_lines, n_faults;
};

/* Of whole lines; the last one may lack its end where the program ended well. */
static void read_lines(struct answers *a, double *out, uint32_t n, const struct at_process *p)
{
    const char *at = p->out.data, *stop = at + p->out.n;

    for (; at < stop; a->n_lines++) {
        const char *end = memchr(at, '\n', (size_t)(stop - at));
        if (!end && p->exit_code != 0)
            break;
        end = end ? end : stop;
        if (a->n_lines < n && !read_number(&out[a->n_lines], at, (size_t)(end - at)) &&
            a->n_faults++ == 0)
            at_buf_printf(&a->first, "line %u is \"%.*s\", a number or null is expected",
                          a->n_lines + 1, (int)(end - at > 60 ? 60 : end - at), at);
        at = end < stop ? end + 1 : stop;
    }
    if (a->n_lines > n || (a->n_lines < n && p->exit_code == 0)) {
        for (uint32_t i = 0; i < n; i++) /* which line is whose is not known */
            out[i] = NAN;
        a->n_faults = n;
    } else {
        a->n_faults += n - a->n_lines;
    }
}

static void tell_end(struct at_buf *out, const struct at_reward_command *c,
                     const struct at_process *p, const struct answers *a, uint32_t n)
{
    if (p->timed_out)
        at_buf_printf(out, "it took longer than %g s (reward_command_timeout)", c->timeout_s);
    else if (p->too_much || a->n_lines > n)
        at_buf_printf(out, "it printed more than a line for each of %u rows", n);
    else if (p->signal != 0)
        at_buf_printf(out, "signal %d ended it", p->signal);
    else if (p->exit_code != 0)
        at_buf_printf(out, "it ended with exit code %d", p->exit_code);
    else if (a->n_lines < n)
        at_buf_printf(out, "it printed %u lines for %u rows", a->n_lines, n);
    else
        at_buf_puts(out, a->first.data ? a->first.data : "?");
    if (p->err.n > 0) {
        const size_t skip = p->err.n > SHOWN_BYTES ? p->err.n - SHOWN_BYTES : 0;
        at_buf_printf(out, "; its stderr ends: %s", p->err.data + skip);
        while (out->n > 0 && out->data[out->n - 1] == '\n')
            out->data[--out->n] = 0;
    }
}

static AT_CHECKED judge(struct at_reward_command *c, const struct at_process *p,
                        const struct answers *a, uint32_t n)
{
    enum at_status st = AT_OK;
    const bool ended = !p->timed_out && !p->too_much && p->exit_code == 0;
    struct at_buf why = { 0 };

    tell_end(&why, c, p, a, n);
    TRY(at_buf_status(&why));
    if (ended && a->n_faults == 0) {
        c->n_failed = 0;
        goto done;
    }
    if (p->exit_code == 126 || p->exit_code == 127)
        FAIL(AT_USAGE, "reward \"%s\": the shell cannot run \"%.200s\": %s", c->name, c->text,
             why.data);
    c->n_faults += a->n_faults;
    c->n_failed = !ended || a->n_lines != n || 2 * a->n_faults > n ? c->n_failed + 1 : 0;
    if (c->n_failed >= AT_REWARD_COMMAND_RUNS)
        FAIL(
            AT_IO,
            "reward \"%s\": the command \"%.200s\" failed %d times in a row, and %llu rows have no "
            "reward: %s",
            c->name, c->text, AT_REWARD_COMMAND_RUNS, (unsigned long long)c->n_faults, why.data);
    at_warn("reward_command", "reward \"%s\": %u of %u rows have none: %s", c->name, a->n_faults, n,
            why.data);
done:
    at_buf_release(&why);
    return st;
}

AT_CHECKED at_reward_command_score(struct at_reward_command *c, double *out,
                                   const struct at_reward_sample *samples, uint32_t n)
{
    enum at_status st = AT_OK;
    struct at_buf input = { 0 };
    struct at_process process = { .exit_code = 0 };
    struct answers answers = { .n_lines = 0 };

    for (uint32_t i = 0; i < n; i++) {
        out[i] = NAN;
        write_row(&input, &samples[i]);
    }
    TRY(at_buf_status(&input));
    TRY(at_process_run(&process, c->text,
                       &(struct at_process_params){ .input = input.data,
                                                    .n_input = input.n,
                                                    .most_bytes = (size_t)(n + 1) * LINE_BYTES,
                                                    .timeout_s = c->timeout_s }));
    read_lines(&answers, out, n, &process);
    TRY(judge(c, &process, &answers, n));
done:
    at_buf_release(&answers.first);
    at_process_release(&process);
    at_buf_release(&input);
    return st;
}
