#include "reply.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ---- */

static const struct {
    const char *name;
    double low, high, usual;
    bool whole;
} numbers[CLI_REPLY_NUMBERS] = {
    [CLI_MAX_NEW_TOKENS] = { "max_new_tokens", 1, 1000000, 128, true },
    [CLI_MIN_NEW_TOKENS] = { "min_new_tokens", 0, 1000000, 0, true },
    [CLI_MIN_P] = { "min_p", 0, 1, 0, false },
    [CLI_REPETITION_PENALTY] = { "repetition_penalty", 0.01, 100, 1, false },
    [CLI_SEED] = { "seed", 0, UINT32_MAX, 42, true },
    [CLI_TEMPERATURE] = { "temperature", 0, 100, 0, false },
    [CLI_TOP_K] = { "top_k", 0, UINT32_MAX, 0, true },
    [CLI_TOP_P] = { "top_p", 1e-6, 1, 1, false },
};

/* dashes: "--" of flags. */
static AT_CHECKED set_number(double *out, size_t i, const char *value, const char *dashes)
{
    char *end = NULL;
    const double x = strtod(value, &end);

    if (!*value || *end || !(x >= numbers[i].low && x <= numbers[i].high))
        return at_fail(AT_USAGE, "%s%s: a number in %g..%g expected, found \"%s\"", dashes,
                       numbers[i].name, numbers[i].low, numbers[i].high, value);
    if (numbers[i].whole && x != floor(x))
        return at_fail(AT_USAGE, "%s%s: a whole number expected, found \"%s\"", dashes,
                       numbers[i].name, value);
    *out = x;
    return AT_OK;
}

AT_CHECKED cli_reply_params_read(struct cli_reply_params *out, struct cli_args *args)
{
    enum at_status st = AT_OK;

    *out = (struct cli_reply_params){ .n_stops = 0 };
    for (size_t i = 0; i < CLI_REPLY_NUMBERS; i++) {
        const char *text = cli_flag_text(args, numbers[i].name);
        out->number[i] = numbers[i].usual;
        if (text)
            TRY(set_number(&out->number[i], i, text, "--"));
    }
    TRY(at_arena_alloc(&args->arena, &out->stops, args->n_own + 1, sizeof *out->stops));
    for (size_t i = 0; i < args->n_own; i++) {
        if (strcmp(args->own[i].key, "stop") != 0)
            continue;
        if (!*args->own[i].value)
            FAIL(AT_USAGE, "--stop: an empty text would end every reply");
        out->stops[out->n_stops++] = args->own[i].value;
    }
done:
    return st;
}

AT_CHECKED cli_reply_params_set(struct cli_reply_params *p, const char *name, const char *value)
{
    for (size_t i = 0; i < CLI_REPLY_NUMBERS; i++)
        if (strcmp(numbers[i].name, name) == 0)
            return set_number(&p->number[i], i, value, "");
    return at_fail(AT_USAGE, "%s is none of the numbers that can be set", name);
}

AT_CHECKED cli_reply_params_tell(struct at_buf *out, const struct cli_reply_params *p)
{
    for (size_t i = 0; i < CLI_REPLY_NUMBERS; i++)
        at_buf_printf(out, "%s%s %.10g", i > 0 ? ", " : "", numbers[i].name, p->number[i]);
    return at_buf_status(out);
}

struct at_sampling cli_reply_sampling(const struct cli_reply_params *p)
{
    return (struct at_sampling){ .temperature = p->number[CLI_TEMPERATURE],
                                 .top_p = p->number[CLI_TOP_P],
                                 .min_p = p->number[CLI_MIN_P],
                                 .repetition_penalty = p->number[CLI_REPETITION_PENALTY],
                                 .top_k = (uint32_t)p->number[CLI_TOP_K],
                                 .seed = (uint64_t)p->number[CLI_SEED] };
}

/* ---- text ---- */

void cli_reply_begin(struct cli_reply *r)
{
    at_buf_clear(&r->text);
    at_buf_puts(&r->text, "");
    r->shown = 0;
    r->decoding = (struct at_decoding){ .n_pending = 0 };
}

static void show(struct cli_reply *r, size_t end)
{
    if (!r->shows || end <= r->shown)
        return;
    fwrite(r->text.data + r->shown, 1, end - r->shown, stdout);
    fflush(stdout);
    r->shown = end;
}

/* Where a stop string that ends at or behind `from` begins, or the text's end. */
static size_t find_stop(const struct cli_reply *r, size_t from)
{
    size_t found = r->text.n;

    for (size_t i = 0; i < r->params->n_stops; i++) {
        const char *stop = r->params->stops[i];
        const size_t n = strlen(stop), begin = from > n ? from - n : 0;
        const char *at = strstr(r->text.data + begin, stop);
        if (at && (size_t)(at - r->text.data) < found)
            found = (size_t)(at - r->text.data);
    }
    return found;
}

/* Where the text ends in what may become a stop string. */
static size_t safe_end(const struct cli_reply *r)
{
    size_t end = r->text.n;

    for (size_t i = 0; i < r->params->n_stops; i++) {
        const size_t n = strlen(r->params->stops[i]);
        for (size_t k = n < r->text.n + 1 ? n - 1 : r->text.n; k > 0; k--)
            if (memcmp(r->text.data + r->text.n - k, r->params->stops[i], k) == 0) {
                end = r->text.n - k < end ? r->text.n - k : end;
                break;
            }
    }
    return end;
}

AT_CHECKED cli_reply_token(struct cli_reply *r, int32_t id, bool *ends)
{
    enum at_status st = AT_OK;
    const size_t before = r->text.n;
    size_t stop;

    TRY(at_decoding_put(&r->decoding, r->tokenizer, &r->text, id, true));
    TRY(at_buf_status(&r->text));
    stop = find_stop(r, before);
    if (stop < r->text.n) {
        *ends = true;
        r->text.n = stop;
        r->text.data[stop] = 0;
    }
    show(r, *ends ? stop : safe_end(r));
done:
    return st;
}

void cli_reply_end(struct cli_reply *r)
{
    show(r, r->text.n);
}
