#include "overlap.h"

#include "mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The words of a text, each ended by a 0. */
struct words {
    struct at_buf text;
    const char **word;
    size_t n;
};

static void release(struct words *w)
{
    at_buf_release(&w->text);
    at_free(&w->word);
}

/* ---- tokenizer 13a ---- */

/* Bytes of the blank at p, as Python's str.split() takes them; 0: it is none. */
static size_t blank(const char *p)
{
    static const char *const wide[] = {
        "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\xA8",
        "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80",
    };
    const unsigned char c = (unsigned char)*p;

    if (c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31))
        return 1;
    if (c < 0x80)
        return 0;
    for (size_t i = 0; i < AT_COUNT(wide); i++)
        if (strncmp(p, wide[i], strlen(wide[i])) == 0)
            return strlen(wide[i]);
    if (strncmp(p, "\xE2\x80", 2) == 0 && (unsigned char)p[2] >= 0x80 &&
        (unsigned char)p[2] <= 0x8A) /* U+2000 to U+200A */
        return 3;
    return 0;
}

/* Splits w->text, in place. */
static AT_CHECKED split(struct words *w)
{
    enum at_status st = AT_OK;
    char *p = NULL;

    TRY(at_buf_status(&w->text));
    TRY(at_alloc(&w->word, w->text.n / 2 + 1, sizeof(const char *)));
    w->n = 0;
    for (p = w->text.data; *p;) {
        size_t skip = blank(p);
        if (skip > 0) {
            *p = 0;
            p += skip;
            continue;
        }
        w->word[w->n++] = p;
        while (*p && blank(p) == 0)
            p++;
    }
done:
    return st;
}

static void replace_all(struct at_buf *out, const char *text)
{
    static const struct {
        const char *from, *to;
    } pairs[] = { { "<skipped>", "" }, { "-\n", "" },   { "\n", " " },  { "&quot;", "\"" },
                  { "&amp;", "&" },    { "&lt;", "<" }, { "&gt;", ">" } };
    struct at_buf from = { 0 };
    size_t n = strlen(text);

    while (n > 0 && strchr(" \t\r\n\v\f", text[n - 1]))
        n--;
    at_buf_puts(out, "");
    at_buf_put(out, text, n);
    for (size_t i = 0; i < AT_COUNT(pairs); i++) {
        const char *p = NULL, *next = NULL;
        if (!out->data || !strstr(out->data, pairs[i].from))
            continue;
        at_buf_clear(&from);
        at_buf_puts(&from, out->data);
        at_buf_clear(out);
        at_buf_puts(out, "");
        for (p = from.data ? from.data : ""; (next = strstr(p, pairs[i].from));
             p = next + strlen(pairs[i].from)) {
            at_buf_put(out, p, (size_t)(next - p));
            at_buf_puts(out, pairs[i].to);
        }
        at_buf_puts(out, p);
    }
    at_buf_release(&from);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_stop(char c)
{
    return c == '.' || c == ',';
}

/* Signs of ASCII but the apostrophe, comma, hyphen and full stop. */
static bool is_sign(char c)
{
    return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') ||
           (c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/';
}

/* One substitution of the tokenizer: `in` with what two neighbours become. */
typedef bool takes(char first, char second);
static void separate(struct at_buf *out, const char *in, takes *fits, bool before, bool after)
{
    for (const char *p = in ? in : ""; *p; p++) { /* NULL: memory is out */
        if (!p[1] || !fits(p[0], p[1])) {
            at_buf_put(out, p, 1);
            continue;
        }
        if (before)
            at_buf_puts(out, " ");
        at_buf_put(out, p, 1);
        at_buf_puts(out, " ");
        at_buf_put(out, ++p, 1);
        if (after)
            at_buf_puts(out, " ");
    }
}

static bool other_then_stop(char a, char b)
{
    return !is_digit(a) && is_stop(b);
}

static bool stop_then_other(char a, char b)
{
    return is_stop(a) && !is_digit(b);
}

static bool digit_then_hyphen(char a, char b)
{
    return is_digit(a) && b == '-';
}

static AT_CHECKED tokenize(struct words *w, const char *text)
{
    struct at_buf plain = { 0 }, a = { 0 }, b = { 0 };
    enum at_status st = AT_OK;

    *w = (struct words){ .n = 0 };
    replace_all(&plain, text);
    TRY(at_buf_status(&plain));
    at_buf_puts(&a, " ");
    for (const char *p = plain.data; *p; p++) {
        if (is_sign(*p))
            at_buf_puts(&a, " ");
        at_buf_put(&a, p, 1);
        if (is_sign(*p))
            at_buf_puts(&a, " ");
    }
    at_buf_puts(&a, " ");
    TRY(at_buf_status(&a));
    separate(&b, a.data, other_then_stop, false, true);
    TRY(at_buf_status(&b));
    at_buf_clear(&a);
    separate(&a, b.data, stop_then_other, true, false);
    TRY(at_buf_status(&a));
    separate(&w->text, a.data, digit_then_hyphen, false, true);
    TRY(split(w));
done:
    at_buf_release(&plain);
    at_buf_release(&a);
    at_buf_release(&b);
    if (st != AT_OK)
        release(w);
    return st;
}

/* ---- runs of words ---- */

struct run {
    const char *const *word;
    size_t n;
};

static int compare_runs(const void *left, const void *right)
{
    const struct run *a = left, *b = right;

    for (size_t i = 0; i < a->n; i++) {
        const int order = strcmp(a->word[i], b->word[i]);
        if (order != 0)
            return order;
    }
    return 0;
}

/* All runs of n words, sorted; *count of them. */
static AT_CHECKED list_runs(struct run **out, size_t *count, const struct words *w, size_t n)
{
    enum at_status st = AT_OK;

    *count = w->n >= n ? w->n - n + 1 : 0;
    TRY(at_alloc(out, *count, sizeof **out));
    for (size_t i = 0; i < *count; i++)
        (*out)[i] = (struct run){ w->word + i, n };
    qsort(*out, *count, sizeof **out, compare_runs);
done:
    return st;
}

/* Runs of a that b has as well, each as often as b has it. */
static uint64_t count_common(const struct run *a, size_t n_a, const struct run *b, size_t n_b)
{
    uint64_t n = 0;

    for (size_t i = 0, k = 0; i < n_a && k < n_b;) {
        const int order = compare_runs(&a[i], &b[k]);
        n += order == 0;
        i += order <= 0;
        k += order >= 0;
    }
    return n;
}

AT_CHECKED at_bleu_add(struct at_bleu *bleu, const char *reply, const char *reference)
{
    enum at_status st = AT_OK;
    struct words a = { .n = 0 }, b = { .n = 0 };
    struct run *runs_a = NULL, *runs_b = NULL;
    size_t n_a = 0, n_b = 0;

    TRY(tokenize(&a, reply));
    TRY(tokenize(&b, reference));
    bleu->reply_words += a.n;
    bleu->reference_words += b.n;
    for (size_t n = 1; n <= AT_BLEU_ORDER; n++) {
        TRY(list_runs(&runs_a, &n_a, &a, n));
        TRY(list_runs(&runs_b, &n_b, &b, n));
        bleu->correct[n - 1] += count_common(runs_a, n_a, runs_b, n_b);
        bleu->total[n - 1] += n_a;
        at_free(&runs_a);
        at_free(&runs_b);
    }
done:
    at_free(&runs_a);
    at_free(&runs_b);
    release(&a);
    release(&b);
    return st;
}

double at_bleu_score(const struct at_bleu *b)
{
    const double reply = (double)b->reply_words, reference = (double)b->reference_words;
    double smooth = 1, sum = 0;
    bool any = false;

    for (size_t n = 0; n < AT_BLEU_ORDER; n++) {
        any = any || b->correct[n] > 0;
        if (b->total[n] == 0)
            return 0;
    }
    if (!any)
        return 0;
    for (size_t n = 0; n < AT_BLEU_ORDER; n++) {
        const double total = (double)b->total[n];
        if (b->correct[n] == 0)
            smooth *= 2;
        sum += log(b->correct[n] == 0 ? 1 / (smooth * total) : (double)b->correct[n] / total);
    }
    return 100 * exp(sum / AT_BLEU_ORDER) * (reply < reference ? exp(1 - reference / reply) : 1);
}

AT_CHECKED at_repetition(double *out, const char *text)
{
    enum at_status st = AT_OK;
    struct words w = { .n = 0 };
    struct run *runs = NULL;
    size_t n = 0, again = 0;

    *out = 0;
    TRY(tokenize(&w, text));
    TRY(list_runs(&runs, &n, &w, 4));
    for (size_t i = 1; i < n; i++)
        again += compare_runs(&runs[i], &runs[i - 1]) == 0;
    *out = n > 1 ? (double)again / (double)n : 0;
done:
    at_free(&runs);
    release(&w);
    return st;
}

/* ---- ROUGE-L ---- */

/* Lower case of ASCII, and of the two other characters whose lower case holds a letter of it. */
static AT_CHECKED rouge_words(struct words *w, const char *text)
{
    *w = (struct words){ .n = 0 };
    at_buf_puts(&w->text, "");
    for (const char *p = text; *p; p++) {
        char c = *p;
        if (c >= 'A' && c <= 'Z')
            c |= 0x20;
        if (strncmp(p, "\xC4\xB0", 2) == 0) /* U+0130: its dot is a character of its own */
            at_buf_puts(&w->text, "i ");
        else if (strncmp(p, "\xE2\x84\xAA", 3) == 0) /* U+212A */
            at_buf_puts(&w->text, "k");
        else if ((unsigned char)c < 0x80)
            at_buf_put(&w->text, (c >= 'a' && c <= 'z') || is_digit(c) ? &c : " ", 1);
        else if ((unsigned char)c >= 0xC0)
            at_buf_puts(&w->text, " ");
    }
    return split(w);
}

AT_CHECKED at_rouge_l(double *out, const char *reply, const char *reference)
{
    enum at_status st = AT_OK;
    struct words a = { .n = 0 }, b = { .n = 0 };
    size_t *row = NULL, common = 0;

    *out = 0;
    TRY(rouge_words(&a, reply));
    TRY(rouge_words(&b, reference));
    TRY(at_alloc(&row, b.n + 1, sizeof *row));
    for (size_t i = 0; i < a.n; i++) {
        size_t diagonal = 0;
        for (size_t k = 1; k <= b.n; k++) {
            const size_t above = row[k];
            row[k] = strcmp(a.word[i], b.word[k - 1]) == 0 ? diagonal + 1
                     : above > row[k - 1]                  ? above
                                                           : row[k - 1];
            diagonal = above;
        }
    }
    common = row[b.n];
    if (common > 0) {
        const double precision = (double)common / (double)a.n,
                     recall = (double)common / (double)b.n;
        *out = 2 * precision * recall / (precision + recall);
    }
done:
    at_free(&row);
    release(&a);
    release(&b);
    return st;
}

uint32_t at_words(const char *text)
{
    static const char blanks[] = " \t\r\n";
    uint32_t n = 0;

    for (text += strspn(text, blanks); *text; text += strspn(text, blanks)) {
        text += strcspn(text, blanks);
        n++;
    }
    return n;
}

bool at_is_exact_match(const char *reply, const char *reference)
{
    static const char blanks[] = " \t\r\n";
    size_t n = 0, m = 0;

    reply += strspn(reply, blanks);
    reference += strspn(reference, blanks);
    n = strlen(reply);
    m = strlen(reference);
    while (n > 0 && strchr(blanks, reply[n - 1]))
        n--;
    while (m > 0 && strchr(blanks, reference[m - 1]))
        m--;
    return n == m && memcmp(reply, reference, n) == 0;
}
