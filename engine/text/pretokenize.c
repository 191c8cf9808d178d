#include "tokenizer_parts.h"

#include <string.h>

static AT_CHECKED cut(struct at_encoding *e, size_t i, const char *text, size_t n, bool at_start);

/* A text on the way through one stage: matches and what stands between them arrive in order; what
 * may still grow waits. */
struct cutting {
    struct at_encoding *e;
    size_t stage;
    const char *text;
    bool at_start;
    size_t begin, end; /* of what waits */
    bool waits, is_match;
};

static AT_CHECKED put_waiting(struct cutting *c)
{
    const bool waits = c->waits;

    c->waits = false;
    if (!waits || c->begin == c->end)
        return AT_OK;
    return cut(c->e, c->stage + 1, c->text + c->begin, c->end - c->begin,
               c->at_start && c->begin == 0);
}

/* Whether a part joins the one that waits. */
static bool joins(const struct cutting *c, enum at_behavior behavior, bool is_match)
{
    switch (behavior) {
    case AT_SPLIT_MERGED_WITH_PREVIOUS:
        return is_match && !c->is_match;
    case AT_SPLIT_MERGED_WITH_NEXT:
        return !is_match && c->is_match;
    case AT_SPLIT_CONTIGUOUS:
        return is_match == c->is_match;
    default:
        return false;
    }
}

static AT_CHECKED put_part(struct cutting *c, size_t begin, size_t end, bool is_match)
{
    enum at_status st = AT_OK;
    const struct at_stage *stage = &c->e->tokenizer->stages[c->stage];

    is_match = is_match != stage->invert;
    if (stage->behavior == AT_SPLIT_REMOVED && is_match)
        goto done;
    if (c->waits && joins(c, stage->behavior, is_match)) {
        c->end = end;
        c->is_match = is_match;
        goto done;
    }
    TRY(put_waiting(c));
    c->begin = begin;
    c->end = end;
    c->waits = true;
    c->is_match = is_match;
done:
    return st;
}

static AT_CHECKED cut_at_matches(struct at_encoding *e, size_t i, const char *text, size_t n,
                                 bool at_start)
{
    enum at_status st = AT_OK;
    struct cutting c = { .e = e, .stage = i, .text = text, .at_start = at_start };
    size_t done_to = 0, from = 0;

    while (from < n) {
        size_t begin, end, skip = 1;
        TRY(at_matcher_find(&e->matcher, e->tokenizer->stages[i].code, &begin, &end, text, n,
                            from));
        if (begin > done_to)
            /* NOLINTNEXTLINE(readability-suspicious-call-argument): in this order */
            TRY(put_part(&c, done_to, begin, false));
        if (begin < n)
            TRY(put_part(&c, begin, end, true));
        if (end == begin && begin < n)
            (void)at_utf8_get(text + begin, &skip); /* an empty match cuts, too */
        done_to = end;
        from = end > begin ? end : begin + skip;
    }
    if (done_to < n)
        TRY(put_part(&c, done_to, n, false));
    TRY(put_waiting(&c));
done:
    return st;
}

/* Spaces become marks, and one is put in front. A mark that is a space changes nothing else. */
static AT_CHECKED mark_spaces(struct at_buf *out, const struct at_stage *stage, const char *text,
                              size_t n, bool at_start)
{
    const size_t n_mark = strlen(stage->mark);
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what fails never returns AT_OK */
    const bool has_mark = text[0] == ' ' || (n >= n_mark && memcmp(text, stage->mark, n_mark) == 0);

    if (!has_mark &&
        (stage->prepend == AT_PREPEND_ALWAYS || (stage->prepend == AT_PREPEND_FIRST && at_start)))
        at_buf_put(out, stage->mark, n_mark);
    for (size_t i = 0, length; i < n; i += length) {
        const char *space = memchr(text + i, ' ', n - i);
        length = space ? (size_t)(space - text) - i : n - i;
        at_buf_put(out, text + i, length);
        if (space) {
            at_buf_put(out, stage->mark, n_mark);
            length++;
        }
    }
    return at_buf_status(out);
}

static AT_CHECKED cut(struct at_encoding *e, size_t i, const char *text, size_t n, bool at_start)
{
    enum at_status st = AT_OK;
    const struct at_tokenizer *t = e->tokenizer;
    struct at_buf marked = { 0 };

    if (i == t->n_stages) {
        TRY(t->word(e, text, n));
    } else if (t->stages[i].code) {
        TRY(cut_at_matches(e, i, text, n, at_start));
    } else {
        TRY(mark_spaces(&marked, &t->stages[i], text, n, at_start));
        TRY(cut(e, i + 1, marked.data, marked.n, at_start));
    }
done:
    at_buf_release(&marked);
    return st;
}

AT_CHECKED at_encoding_put(struct at_encoding *encoding, const char *text, size_t n, bool at_start)
{
    return n > 0 ? cut(encoding, 0, text, n, at_start) : AT_OK;
}
