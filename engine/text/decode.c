#include "tokenizer_parts.h"

#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD"

/* ---- what a token decodes to ---- */

int at_byte_token(const char *text, size_t n)
{
    static const char digits[] = "0123456789ABCDEFabcdef";
    int value = 0;

    if (n != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    for (size_t i = 3; i < 5; i++) {
        const char *found = text[i] ? strchr(digits, text[i]) : NULL;
        if (!found)
            return -1;
        const int digit = (int)(found - digits);
        value = 16 * value + (digit < 16 ? digit : digit - 6);
    }
    return value;
}

static void replace_all(struct at_buf *out, const char *text, size_t n, const char *what,
                        const char *by)
{
    const size_t length = strlen(what);

    for (size_t i = 0; i < n;) {
        if (length > 0 && length <= n - i && memcmp(text + i, what, length) == 0) {
            at_buf_puts(out, by);
            i += length;
        } else {
            at_buf_put(out, text + i++, 1);
        }
    }
}

static void strip(struct at_buf *out, const char *text, size_t n, const struct at_decode_op *op)
{
    const size_t length = strlen(op->text);
    size_t begin = 0, end = n;

    for (uint32_t i = 0; i < op->start && length <= n - begin; i++) {
        if (memcmp(text + begin, op->text, length) != 0)
            break;
        begin += length;
    }
    for (uint32_t i = 0; i < op->stop && length <= end - begin; i++) {
        if (memcmp(text + end - length, op->text, length) != 0)
            break;
        end -= length;
    }
    at_buf_put(out, text + begin, end - begin);
}

/* The token's text after the decoder's operations. */
static AT_CHECKED apply_ops(const struct at_decoder *decoder, struct at_buf *text, bool first)
{
    enum at_status st = AT_OK;
    struct at_buf out = { 0 };

    for (size_t i = 0; i < decoder->n_ops && text->n > 0; i++) {
        const struct at_decode_op *op = &decoder->ops[i];
        at_buf_clear(&out);
        at_buf_puts(&out, "");
        if (op->kind == AT_DECODE_REPLACE)
            replace_all(&out, text->data, text->n, op->text, op->content);
        else if (op->kind == AT_DECODE_MARK)
            replace_all(&out, text->data, text->n, op->text,
                        first && op->first_has_none ? "" : " ");
        else
            strip(&out, text->data, text->n, op);
        TRY(at_buf_status(&out));
        const struct at_buf other = *text;
        *text = out;
        out = other;
    }
done:
    at_buf_release(&out);
    return st;
}

/* Bytes when all characters are of the alphabet, else the text as it is. */
static void put_alphabet(struct at_buf *out, const char *text, size_t n)
{
    const size_t n_before = out->n;

    for (size_t i = 0, length; i < n; i += length) {
        const int byte = at_alphabet_byte(at_utf8_get(text + i, &length));
        if (byte < 0) {
            out->n = n_before;
            at_buf_put(out, text, n);
            return;
        }
        at_buf_put(out, &(char){ (char)byte }, 1);
    }
}

/* Appends what a token decodes to, in front of all others or behind some. */
static AT_CHECKED put_token(struct at_buf *out, const struct at_tokenizer *t,
                            const struct at_token *token, bool first)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };

    if (token->is_byte) {
        const char byte = (char)at_byte_token(token->text, token->n_text);
        at_buf_put(out, &byte, 1);
    } else {
        at_buf_put(&text, token->text, token->n_text);
        TRY(apply_ops(&t->decoder, &text, first));
        if (t->decoder.byte_level)
            put_alphabet(out, text.data, text.n);
        else
            at_buf_put(out, text.data, text.n);
        TRY(at_buf_status(&text));
    }
    TRY(at_buf_status(out));
done:
    at_buf_release(&text);
    return st;
}

AT_CHECKED at_decoder_end(struct at_tokenizer *t)
{
    enum at_status st = AT_OK;
    struct at_buf bytes = { 0 };
    char *copy = NULL;

    for (size_t i = 0; i < t->n_tokens; i++) {
        struct at_token *token = &t->tokens[i];
        if (!token->text)
            continue;
        token->is_byte = t->decoder.byte_fallback && at_byte_token(token->text, token->n_text) >= 0;
        at_buf_clear(&bytes);
        TRY(put_token(&bytes, t, token, false));
        TRY(at_arena_strndup(&t->arena, &copy, bytes.data ? bytes.data : "", bytes.n));
        token->bytes = copy;
        token->n_bytes = (uint32_t)bytes.n;
    }
done:
    at_buf_release(&bytes);
    return st;
}

/* ---- texts ---- */

/* The token of an id; *out is NULL when it is special and left out, or has no text: one
 * in a gap, or of a model whose embedding has more rows than the tokenizer has tokens. */
static AT_CHECKED find_token(const struct at_tokenizer *t, const struct at_token **out, int32_t id,
                             bool skip_special)
{
    enum at_status st = AT_OK;

    *out = NULL;
    if (id < 0)
        FAIL(AT_DATA, "token id %d is negative", id);
    if ((size_t)id < t->n_tokens && t->tokens[id].text && !(skip_special && t->tokens[id].special))
        *out = &t->tokens[id];
done:
    return st;
}

static AT_CHECKED put_bytes(struct at_buf *out, const struct at_tokenizer *t,
                            const struct at_token *token, bool first)
{
    if (first)
        return put_token(out, t, token, true);
    at_buf_put(out, token->bytes, token->n_bytes);
    return AT_OK;
}

/* A run of byte tokens from `begin` on: all are replaced when they are no UTF-8 together. */
static void end_run(struct at_buf *all, size_t begin)
{
    const size_t n = all->n - begin;

    if (n == 0 || all->failed || at_utf8_check(all->data + begin, n) == n)
        return;
    all->n = begin;
    for (size_t i = 0; i < n; i++)
        at_buf_puts(all, REPLACEMENT);
}

AT_CHECKED at_tokenizer_decode(const struct at_tokenizer *t, struct at_buf *out, const int32_t *ids,
                               size_t n, bool skip_special)
{
    enum at_status st = AT_OK;
    struct at_buf all = { 0 };
    bool first = true;
    size_t run = 0, skip = 0;

    for (size_t i = 0; i < n; i++) {
        const struct at_token *token;
        TRY(find_token(t, &token, ids[i], skip_special));
        if (!token)
            continue;
        if (t->decoder.byte_fallback && !token->is_byte)
            end_run(&all, run);
        TRY(put_bytes(&all, t, token, first));
        if (!token->is_byte)
            run = all.n;
        first = false;
    }
    if (t->decoder.byte_fallback)
        end_run(&all, run);
    TRY(at_buf_status(&all));
    if (t->decoder.strip && all.n > 0 && all.data[0] == t->decoder.strip)
        skip = 1;
    if (all.n > skip)
        at_utf8_repair(out, all.data + skip, all.n - skip, NULL);
    TRY(at_buf_status(out));
done:
    at_buf_release(&all);
    return st;
}

AT_CHECKED at_decoding_put(struct at_decoding *decoding, const struct at_tokenizer *tokenizer,
                           struct at_buf *out, int32_t id, bool skip_special)
{
    enum at_status st = AT_OK;
    struct at_buf all = { 0 };
    const struct at_token *token;
    size_t skip = 0;

    TRY(find_token(tokenizer, &token, id, skip_special));
    if (!token)
        goto done;
    at_buf_put(&all, decoding->pending, decoding->n_pending);
    TRY(put_bytes(&all, tokenizer, token, !decoding->has_token));
    decoding->has_token = true;
    TRY(at_buf_status(&all));
    if (all.n == 0)
        goto done;
    if (!decoding->has_text && tokenizer->decoder.strip && all.data[0] == tokenizer->decoder.strip)
        skip = 1;
    decoding->has_text = true;
    at_utf8_repair(out, all.data + skip, all.n - skip, &decoding->n_pending);
    memcpy(decoding->pending, all.data + all.n - decoding->n_pending, decoding->n_pending);
    TRY(at_buf_status(out));
done:
    at_buf_release(&all);
    return st;
}
