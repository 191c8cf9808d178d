#include "tokenizer_parts.h"

#include <string.h>
#include <utf8proc.h>

/* ---- Unicode ---- */

static bool is_ascii(const char *text, size_t n)
{
    size_t i = 0;

    while (i < n && (uint8_t)text[i] < 0x80)
        i++;
    return i == n;
}

static AT_CHECKED put_form(struct at_buf *out, const char *text, size_t n,
                           utf8proc_option_t options)
{
    enum at_status st = AT_OK;
    utf8proc_int32_t *codes = NULL;
    utf8proc_ssize_t length;

    options |= UTF8PROC_STABLE;
    length =
        utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, NULL, 0, options);
    if (length < 0)
        FAIL(AT_DATA, "a text cannot be normalised: %s", utf8proc_errmsg(length));
    /* reencode writes UTF-8 over the codes and a 0 behind */
    TRY(at_alloc(&codes, (size_t)length + 1, sizeof *codes));
    length = utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, codes, length,
                                options);
    length = utf8proc_reencode(codes, length, options);
    AT_REQUIRE(length >= 0);
    at_buf_put(out, codes, (size_t)length);
done:
    at_free(&codes);
    return st;
}

/* ---- character by character ---- */

enum { DROPPED = UINT32_MAX - 1, CAPITAL_I_WITH_DOT = 0x130 };

/* What SentencePiece's nmt rules make of a character. */
static uint32_t nmt_of(uint32_t code)
{
    if ((code >= 1 && code <= 8) || code == 0xB || (code >= 0xE && code <= 0x1F) || code == 0x7F ||
        code == 0x8F || code == 0x9F)
        return DROPPED;
    if (code == '\t' || code == '\n' || code == '\f' || code == '\r' || code == 0x1680 ||
        (code >= 0x200B && code <= 0x200F) || code == 0x2028 || code == 0x2029 || code == 0x2581 ||
        code == 0xFEFF || code == 0xFFFD)
        return ' ';
    return code;
}

static uint32_t replaced(enum at_normalizer_kind kind, uint32_t code)
{
    switch (kind) {
    case AT_NORMALIZE_LOWERCASE:
        return (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
    case AT_NORMALIZE_NMT:
        return nmt_of(code);
    default:
        return at_is_mark(code) ? DROPPED : code;
    }
}

static void put_replaced(struct at_buf *out, bool *at_start, enum at_normalizer_kind kind,
                         const char *text, size_t n)
{
    for (size_t i = 0, length; i < n; i += length) {
        const uint32_t code = at_utf8_get(text + i, &length), other = replaced(kind, code);
        char utf8[4];
        if (other == DROPPED) {
            *at_start = *at_start && i > 0;
            continue;
        }
        if (kind == AT_NORMALIZE_LOWERCASE && code == CAPITAL_I_WITH_DOT)
            at_buf_puts(out, "i\xCC\x87"); /* the one capital that two characters stand for */
        else
            at_buf_put(out, utf8, at_utf8_put(utf8, other));
    }
}

/* ---- the others ---- */

static void put_stripped(struct at_buf *out, bool *at_start, const struct at_normalizer *z,
                         const char *text, size_t n)
{
    const size_t begin = z->left ? at_space_after(text, n, 0) : 0;
    const size_t end = z->right && begin < n ? at_space_before(text, n) : n;

    *at_start = *at_start && begin == 0;
    at_buf_put(out, text + begin, end - begin);
}

static AT_CHECKED put_matches(struct at_buf *out, bool *at_start, struct at_matcher *matcher,
                              const struct at_normalizer *z, const char *text, size_t n)
{
    enum at_status st = AT_OK;
    size_t done_to = 0, from = 0;

    while (from < n) {
        size_t begin, end, skip = 1;
        TRY(at_matcher_find(matcher, z->code, &begin, &end, text, n, from));
        if (begin == n)
            break;
        at_buf_put(out, text + done_to, begin - done_to);
        at_buf_puts(out, z->text);
        if (begin == 0 && end > 0 && !z->text[0])
            *at_start = false;
        if (end == begin)
            (void)at_utf8_get(text + begin, &skip);
        done_to = end;
        from = end > begin ? end : begin + skip;
    }
    at_buf_put(out, text + done_to, n - done_to);
done:
    return st;
}

static AT_CHECKED put_normal(struct at_buf *out, bool *at_start, struct at_matcher *matcher,
                             const struct at_normalizer *z, const char *text, size_t n)
{
    enum at_status st = AT_OK;
    static const utf8proc_option_t forms[] = {
        [AT_NORMALIZE_NFC] = UTF8PROC_COMPOSE,
        [AT_NORMALIZE_NFD] = UTF8PROC_DECOMPOSE,
        [AT_NORMALIZE_NFKC] = UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [AT_NORMALIZE_NFKD] = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };

    switch (z->kind) {
    case AT_NORMALIZE_LOWERCASE:
    case AT_NORMALIZE_NMT:
    case AT_NORMALIZE_STRIP_ACCENTS:
        put_replaced(out, at_start, z->kind, text, n);
        break;
    case AT_NORMALIZE_STRIP:
        put_stripped(out, at_start, z, text, n);
        break;
    case AT_NORMALIZE_PREPEND:
        at_buf_puts(out, z->text);
        at_buf_put(out, text, n);
        break;
    case AT_NORMALIZE_REPLACE:
        TRY(put_matches(out, at_start, matcher, z, text, n));
        break;
    case AT_NORMALIZE_CHARSMAP:
        at_charsmap_put(&z->map, out, text, n);
        break;
    default:
        if (is_ascii(text, n))
            at_buf_put(out, text, n);
        else
            TRY(put_form(out, text, n, forms[z->kind]));
    }
done:
    return st;
}

AT_CHECKED at_normalize(const struct at_tokenizer *t, struct at_matcher *matcher,
                        struct at_text *text)
{
    enum at_status st = AT_OK;
    struct at_buf out = { 0 };

    for (size_t i = 0; i < t->n_normalizers && text->buf.n > 0; i++) {
        at_buf_clear(&out);
        at_buf_puts(&out, "");
        TRY(put_normal(&out, &text->at_start, matcher, &t->normalizers[i], text->buf.data,
                       text->buf.n));
        TRY(at_buf_status(&out));
        const struct at_buf other = text->buf;
        text->buf = out;
        out = other;
    }
done:
    at_buf_release(&out);
    return st;
}
