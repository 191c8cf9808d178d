#include "score_tokens.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LISTED = 10, OPENING_WORDS = 3 };
static const double shown_from = 0.1; /* nats: smaller changes are not marked */

AT_CHECKED score_tokens_open(struct score_tokens *out, const struct at_tokenizer *tokenizer,
                             bool json, bool reference)
{
    enum at_status st = AT_OK;

    *out = (struct score_tokens){ .tokenizer = tokenizer,
                                  .json = json,
                                  .colours = cli_colours(),
                                  .reference = reference,
                                  .n_tokens = at_tokenizer_size(tokenizer) };
    TRY(at_alloc(&out->tokens, out->n_tokens, sizeof *out->tokens));
    for (uint32_t i = 0; i < out->n_tokens; i++)
        out->tokens[i].id = (int32_t)i;
done:
    return st;
}

void score_tokens_close(struct score_tokens *t)
{
    at_free(&t->tokens);
    at_free(&t->openings);
    at_arena_release(&t->arena);
}

AT_CHECKED score_tokens_room(struct at_row_result *r, const struct at_row *row, bool reference)
{
    enum at_status st = AT_OK;

    for (int k = 0; k < 1 + reference; k++)
        TRY(at_alloc(&r->tokens[k], at_row_targets(row), sizeof *r->tokens[k]));
done:
    return st;
}

void score_tokens_release(struct at_row_result *r)
{
    for (int k = 0; k < 2; k++)
        at_free(&r->tokens[k]);
}

/* ---- a side ---- */

/* A target token of a side: its text and log-probs; change is the log-ratio. */
struct token {
    int32_t id;
    const char *text;
    double logp, ref_logp, change;
};

/* A token's text is what it adds to the text before it: of a character that takes several tokens
 * the last one has it. */
static AT_CHECKED collect(struct token *out, struct at_buf *texts, const struct score_tokens *t,
                          const struct at_row *row, const struct at_row_result *r, uint32_t k)
{
    enum at_status st = AT_OK;
    const struct at_segment *s = &row->segment[k];
    struct at_decoding decoding = { .n_pending = 0 };
    size_t *begin = NULL;
    uint32_t first = 0, n = 0;

    for (uint32_t j = 0; j < k; j++)
        first += row->segment[j].n_targets;
    TRY(at_alloc(&begin, s->n_targets, sizeof *begin));
    for (uint32_t i = 0; i < s->n; i++) {
        const size_t at = texts->n;
        TRY(at_decoding_put(&decoding, t->tokenizer, texts, s->ids[i], false));
        at_buf_put(texts, "", 1); /* the end of this one's text */
        if (!s->targets[i])
            continue;
        begin[n] = at;
        out[n].id = s->ids[i];
        out[n].logp = (double)r->tokens[0][first + n];
        out[n].ref_logp = t->reference ? (double)r->tokens[1][first + n] : NAN;
        out[n].change = out[n].logp - out[n].ref_logp;
        n++;
    }
    TRY(at_buf_status(texts));
    for (uint32_t i = 0; i < n; i++)
        out[i].text = texts->data + begin[i];
done:
    at_free(&begin);
    return st;
}

static void add_json(cJSON *side, const struct token *tokens, uint32_t n, bool reference)
{
    cJSON *out = cJSON_AddObjectToObject(side, "tokens");
    cJSON *ids = cJSON_AddArrayToObject(out, "ids"), *texts = cJSON_AddArrayToObject(out, "texts");
    cJSON *logp = cJSON_AddArrayToObject(out, "logp");
    cJSON *ref = reference ? cJSON_AddArrayToObject(out, "ref_logp") : NULL;

    for (uint32_t i = 0; i < n; i++) {
        cJSON_AddItemToArray(ids, cJSON_CreateNumber(tokens[i].id));
        cJSON_AddItemToArray(texts, cJSON_CreateString(tokens[i].text));
        cJSON_AddItemToArray(logp, cJSON_CreateNumber(tokens[i].logp));
        if (ref)
            cJSON_AddItemToArray(ref, cJSON_CreateNumber(tokens[i].ref_logp));
    }
}

/* Without control characters, which would act on a terminal; line breaks are shown. */
static void print_safe(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        const bool c1 = *c == 0xC2 && c[1] >= 0x80 && c[1] < 0xA0;
        if (*c == '\n')
            fputs("\xE2\x8F\x8E", stdout);
        else if (c1 || *c < 0x20 || *c == 0x7f)
            fputs("\xEF\xBF\xBD", stdout);
        else
            putchar(*c);
        c += c1;
    }
}

/* Blue gained, orange lost, stronger with the change: told apart by all eyes. */
static const char *colour_of(double change)
{
    const double size = fabs(change);

    if (!(size >= shown_from))
        return "";
    if (change > 0)
        return size >= 2 ? "\033[48;5;33;97m" : size >= 0.5 ? "\033[48;5;75;30m" : "\033[38;5;39m";
    return size >= 2 ? "\033[48;5;166;97m" : size >= 0.5 ? "\033[48;5;215;30m" : "\033[38;5;208m";
}

static void print_side(const struct score_tokens *t, const char *name, uint32_t line,
                       const struct token *tokens, uint32_t n)
{
    double sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += t->reference ? tokens[i].change : tokens[i].logp;
    printf("line %u, %s: %s %+.4f over %u tokens\n  ", line, name,
           t->reference ? "log-ratio" : "log-prob", sum, n);
    for (uint32_t i = 0; i < n; i++) {
        const double value = t->reference ? tokens[i].change : tokens[i].logp;
        if (t->colours)
            fputs(colour_of(value), stdout);
        print_safe(tokens[i].text);
        if (t->colours && fabs(value) >= shown_from)
            fputs("\033[0m", stdout);
        else if (!t->colours && fabs(value) >= shown_from)
            printf("[%+.2f]", value);
    }
    putchar('\n');
}

static AT_CHECKED count_opening(struct score_tokens *t, const struct token *tokens, uint32_t n)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    struct score_sum *o = NULL;
    char *copy = NULL;
    double sum = 0;
    uint32_t words = 0;
    bool within = false;

    for (uint32_t i = 0; i < n && words <= OPENING_WORDS; i++) {
        for (const char *c = tokens[i].text; *c; c++) {
            const bool blank = strchr(" \t\r\n", *c) != NULL;
            words += !blank && !within;
            within = !blank;
        }
        if (words > OPENING_WORDS)
            break;
        at_buf_puts(&text, tokens[i].text);
        sum += tokens[i].change;
    }
    TRY(at_buf_status(&text));
    if (text.n == 0)
        goto done;
    if (t->n_openings == t->capacity) {
        const size_t capacity = t->capacity ? 2 * t->capacity : 256;
        TRY(at_realloc(&t->openings, t->capacity, capacity, sizeof *t->openings));
        t->capacity = capacity;
    }
    TRY(at_arena_strdup(&t->arena, &copy, text.data));
    o = &t->openings[t->n_openings++];
    *o = (struct score_sum){ .text = copy, .n = 1, .sum = sum };
done:
    at_buf_release(&text);
    return st;
}

AT_CHECKED score_tokens_side(struct score_tokens *t, cJSON *side, const char *name,
                             const struct at_row *row, const struct at_row_result *r, uint32_t k)
{
    enum at_status st = AT_OK;
    const uint32_t n = row->segment[k].n_targets;
    struct at_buf texts = { 0 };
    struct token *tokens = NULL;

    TRY(at_alloc(&tokens, n, sizeof *tokens));
    TRY(collect(tokens, &texts, t, row, r, k));
    if (t->json)
        add_json(side, tokens, n, t->reference);
    else
        print_side(t, name, row->line, tokens, n);
    if (!t->reference)
        goto done;
    for (uint32_t i = 0; i < n; i++) {
        t->tokens[tokens[i].id].n++;
        t->tokens[tokens[i].id].sum += tokens[i].change;
    }
    TRY(count_opening(t, tokens, n));
done:
    at_free(&tokens);
    at_buf_release(&texts);
    return st;
}

/* ---- what was learnt ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(((const struct score_sum *)a)->text, ((const struct score_sum *)b)->text);
}

/* The greatest sum first; what is equal in the order of ids, or of texts. */
static int by_sum(const void *a, const void *b)
{
    const struct score_sum *x = a, *y = b;

    if (x->sum != y->sum)
        return x->sum < y->sum ? 1 : -1;
    return x->text ? strcmp(x->text, y->text) : (x->id > y->id) - (x->id < y->id);
}

/* Openings that are the same become one. */
static size_t merge(struct score_sum *list, size_t n)
{
    size_t m = 0;

    qsort(list, n, sizeof *list, by_text);
    for (size_t i = 0; i < n; i++) {
        if (m > 0 && strcmp(list[m - 1].text, list[i].text) == 0) {
            list[m - 1].n++;
            list[m - 1].sum += list[i].sum;
        } else {
            list[m++] = list[i];
        }
    }
    return m;
}

static AT_CHECKED sum_text(const struct score_tokens *t, struct at_buf *out,
                           const struct score_sum *s)
{
    enum at_status st = AT_OK;

    at_buf_clear(out);
    at_buf_puts(out, s->text ? s->text : "");
    if (!s->text)
        TRY(at_tokenizer_decode(t->tokenizer, out, &s->id, 1, false));
    TRY(at_buf_status(out));
done:
    return st;
}

/* One list: entry i is the i-th best, or with `lost` the i-th worst. */
static AT_CHECKED list_sums(struct score_tokens *t, cJSON *out, const struct score_sum *list,
                            size_t n, bool lost)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };

    for (size_t i = 0; i < n && i < LISTED; i++) {
        const struct score_sum *s = &list[lost ? n - 1 - i : i];
        cJSON *entry = NULL;
        if (s->n == 0 || (lost ? !(s->sum < 0) : !(s->sum > 0)))
            break;
        TRY(sum_text(t, &text, s));
        if (!t->json) {
            printf("  %+10.3f  %6u times  ", s->sum, s->n);
            print_safe(text.data);
            putchar('\n');
            continue;
        }
        entry = cJSON_CreateObject();
        cJSON_AddItemToArray(out, entry);
        if (!s->text)
            cJSON_AddNumberToObject(entry, "id", s->id);
        cJSON_AddStringToObject(entry, "text", text.data);
        cJSON_AddNumberToObject(entry, "n", s->n);
        cJSON_AddNumberToObject(entry, "log_ratio", s->sum);
    }
done:
    at_buf_release(&text);
    return st;
}

static AT_CHECKED list_both(struct score_tokens *t, cJSON *learnt, const char *what,
                            struct score_sum *list, size_t n)
{
    static const char *const words[2] = { "gained", "lost" };
    enum at_status st = AT_OK;
    cJSON *part = t->json ? cJSON_AddObjectToObject(learnt, what) : NULL;

    qsort(list, n, sizeof *list, by_sum);
    for (int lost = 0; lost < 2; lost++) {
        if (!t->json)
            printf("%s that %s most (log-ratio summed over all rows, nats)\n", what, words[lost]);
        TRY(list_sums(t, t->json ? cJSON_AddArrayToObject(part, words[lost]) : NULL, list, n,
                      lost));
    }
done:
    return st;
}

AT_CHECKED score_tokens_end(struct score_tokens *t)
{
    enum at_status st = AT_OK;
    cJSON *line = cJSON_CreateObject();
    cJSON *learnt = cJSON_AddObjectToObject(line, "learnt");
    size_t n = 0;

    if (!t->reference)
        goto done;
    for (uint32_t i = 0; i < t->n_tokens; i++)
        if (t->tokens[i].n > 0)
            t->tokens[n++] = t->tokens[i];
    t->n_openings = merge(t->openings, t->n_openings);
    TRY(list_both(t, learnt, "tokens", t->tokens, n));
    TRY(list_both(t, learnt, "openings", t->openings, t->n_openings));
    if (t->json)
        TRY(cli_print_line(line));
done:
    cJSON_Delete(line);
    return st;
}
