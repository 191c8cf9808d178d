#include "json.h"
#include "tokenizer_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- loading ---- */

AT_CHECKED at_tokenizer_begin(struct at_tokenizer *t, size_t n_tokens, size_t n_vocab,
                              size_t n_merges)
{
    enum at_status st = AT_OK;

    t->bos = t->eos = t->pad = t->unknown = -1;
    t->word = at_bpe_word;
    t->n_tokens = n_tokens;
    at_hash_init(&t->hash);
    at_hash_put_text(&t->hash, "attune tokenizer 2");
    TRY(at_alloc(&t->tokens, n_tokens, sizeof *t->tokens));
    TRY(at_string_map_init(&t->vocab, n_vocab));
    TRY(at_merge_map_init(&t->merges, n_merges));
done:
    return st;
}

static AT_CHECKED add_token(struct at_tokenizer *t, const char *text, size_t n, int32_t id,
                            const char *name)
{
    enum at_status st = AT_OK;
    struct at_token *token = &t->tokens[id];
    char *copy = NULL;

    AT_REQUIRE(id >= 0 && (size_t)id < t->n_tokens);
    if (n > UINT32_MAX || at_utf8_check(text, n) < n)
        FAIL(AT_DATA, "%s: token %d is not valid UTF-8", name, id);
    if (token->text)
        FAIL(AT_DATA, "%s: id %d stands for two tokens, \"%s\" and \"%.*s\"", name, id, token->text,
             (int)n, text);
    TRY(at_arena_strndup(&t->arena, &copy, text, n));
    *token = (struct at_token){ .text = copy, .n_text = (uint32_t)n };
    at_hash_put(&t->hash, &id, sizeof id);
    at_hash_put_text(&t->hash, copy);
done:
    return st;
}

AT_CHECKED at_tokenizer_put_token(struct at_tokenizer *t, const char *text, size_t n, int32_t id,
                                  const char *name)
{
    enum at_status st = AT_OK;

    TRY(add_token(t, text, n, id, name));
    at_string_map_put(&t->vocab, t->tokens[id].text, n, id);
done:
    return st;
}

AT_CHECKED at_tokenizer_put_merge(struct at_tokenizer *t, uint32_t rank, const char *left,
                                  size_t n_left, const char *right, size_t n_right,
                                  const char *name)
{
    enum at_status st = AT_OK;
    struct at_buf whole = { 0 };
    const int32_t a = at_string_map_find(&t->vocab, left, n_left);
    const int32_t b = at_string_map_find(&t->vocab, right, n_right);
    int32_t ids[3];

    at_buf_put(&whole, left, n_left);
    at_buf_put(&whole, right, n_right);
    TRY(at_buf_status(&whole));
    memcpy(ids, (int32_t[]){ a, b, at_string_map_find(&t->vocab, whole.data, whole.n) },
           sizeof ids);
    if (a < 0 || b < 0 || ids[2] < 0)
        FAIL(AT_DATA, "%s: merge %u (\"%.*s\" \"%.*s\"): \"%.*s\" is not in the vocabulary", name,
             rank, (int)n_left, left, (int)n_right, right,
             (int)(a < 0   ? n_left
                   : b < 0 ? n_right
                           : whole.n),
             a >= 0 && b < 0 ? right : whole.data);
    at_merge_map_put(&t->merges, a, b, rank, ids[2]);
    at_hash_put(&t->hash, ids, sizeof ids);
done:
    at_buf_release(&whole);
    return st;
}

static int compare_lengths(const void *left, const void *right)
{
    const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

    return a < b ? 1 : a > b ? -1 : 0;
}

/* Texts of the added tokens of one form, as they stand in the text that is searched. */
static AT_CHECKED index_added(struct at_tokenizer *t, struct at_added *out,
                              const struct at_added_token *tokens, size_t n, bool normalized)
{
    enum at_status st = AT_OK;
    struct at_matcher matcher = { .match = NULL };
    struct at_text text = { .at_start = true };
    size_t distinct = 0;
    char *copy = NULL;

    TRY(at_matcher_init(&matcher));
    TRY(at_string_map_init(&out->map, n));
    TRY(at_arena_alloc(&t->arena, &out->lengths, n, sizeof *out->lengths));
    for (size_t i = 0; i < n; i++) {
        if (tokens[i].normalized != normalized || !tokens[i].text[0])
            continue;
        struct at_token *token = &t->tokens[tokens[i].id];
        at_buf_clear(&text.buf);
        at_buf_puts(&text.buf, tokens[i].text);
        if (normalized)
            TRY(at_normalize(t, &matcher, &text));
        TRY(at_buf_status(&text.buf));
        TRY(at_arena_strndup(&t->arena, &copy, text.buf.data, text.buf.n));
        token->text = copy; /* the reference knows a normalised token by its normal form only */
        token->n_text = (uint32_t)text.buf.n;
        if (text.buf.n == 0)
            continue;
        at_string_map_put(&out->map, copy, text.buf.n, tokens[i].id);
        out->first[(uint8_t)copy[0]] = true;
        out->lengths[out->n_lengths++] = (uint32_t)text.buf.n;
    }
    qsort(out->lengths, out->n_lengths, sizeof *out->lengths, compare_lengths);
    for (size_t i = 0; i < out->n_lengths; i++)
        if (distinct == 0 || out->lengths[i] != out->lengths[distinct - 1])
            out->lengths[distinct++] = out->lengths[i];
    out->n_lengths = distinct;
done:
    at_matcher_release(&matcher);
    at_buf_release(&text.buf);
    return st;
}

AT_CHECKED at_tokenizer_put_added(struct at_tokenizer *t, const struct at_added_token *tokens,
                                  size_t n, const char *name)
{
    enum at_status st = AT_OK;

    for (size_t i = 0; i < n; i++) {
        const struct at_added_token *a = &tokens[i];
        struct at_token *token = &t->tokens[a->id];
        const int32_t known = at_string_map_find(&t->vocab, a->text, strlen(a->text));
        if (known >= 0 && known != a->id)
            FAIL(AT_DATA, "%s: added token \"%s\" has id %d, in the vocabulary it is %d", name,
                 a->text, a->id, known);
        if (known < 0)
            TRY(add_token(t, a->text, strlen(a->text), a->id, name));
        token->special = a->special;
        token->lstrip = a->lstrip;
        token->rstrip = a->rstrip;
        token->single_word = a->single_word;
        at_hash_put_text(&t->hash, a->text);
        at_hash_put(&t->hash,
                    (bool[]){ a->special, a->lstrip, a->rstrip, a->single_word, a->normalized }, 5);
    }
    TRY(index_added(t, &t->added[0], tokens, n, false));
    TRY(index_added(t, &t->added[1], tokens, n, true));
done:
    return st;
}

AT_CHECKED at_tokenizer_put_normalizer(struct at_tokenizer *t, struct at_normalizer z,
                                       const char *pattern, const char *name)
{
    enum at_status st = AT_OK;

    if (t->n_normalizers == AT_MAX_STAGES) {
        pcre2_code_free(z.code);
        FAIL(AT_DATA, "%s: more than %d normalizers", name, AT_MAX_STAGES);
    }
    t->normalizers[t->n_normalizers++] = z;
    at_hash_put(&t->hash, (uint8_t[]){ (uint8_t)z.kind, z.left, z.right }, 3);
    at_hash_put_text(&t->hash, pattern);
    at_hash_put_text(&t->hash, z.text ? z.text : "");
done:
    return st;
}

AT_CHECKED at_tokenizer_put_stage(struct at_tokenizer *t, struct at_stage stage,
                                  const char *pattern, const char *name)
{
    enum at_status st = AT_OK;

    if (t->n_stages == AT_MAX_STAGES) {
        pcre2_code_free(stage.code);
        FAIL(AT_DATA, "%s: more than %d pre-tokenizers", name, AT_MAX_STAGES);
    }
    t->stages[t->n_stages++] = stage;
    at_hash_put_text(&t->hash, pattern);
    at_hash_put_text(&t->hash, stage.mark ? stage.mark : "");
    at_hash_put(&t->hash,
                (uint8_t[]){ (uint8_t)stage.behavior, stage.invert, (uint8_t)stage.prepend }, 3);
done:
    return st;
}

AT_CHECKED at_tokenizer_put_isolated(struct at_tokenizer *t, const char *pattern, const char *name)
{
    enum at_status st = AT_OK;
    struct at_stage stage = { .behavior = AT_SPLIT_ISOLATED };

    TRY(at_pattern_compile(&stage.code, pattern, name));
    TRY(at_tokenizer_put_stage(t, stage, pattern, name));
done:
    return st;
}

AT_CHECKED at_tokenizer_put_decode(struct at_tokenizer *t, struct at_decode_op op, const char *name)
{
    enum at_status st = AT_OK;

    if (t->decoder.n_ops == AT_COUNT(t->decoder.ops))
        FAIL(AT_DATA, "%s: more than %d decoders", name, AT_MAX_STAGES);
    t->decoder.ops[t->decoder.n_ops++] = op;
done:
    return st;
}

AT_CHECKED at_tokenizer_end(struct at_tokenizer *t)
{
    enum at_status st = AT_OK;

    for (unsigned byte = 0; byte < 256; byte++) {
        char text[16];
        size_t n = at_utf8_put(text, at_alphabet_char((uint8_t)byte));
        t->byte_id[byte] = at_string_map_find(&t->vocab, text, n);
        n = (size_t)snprintf(text, sizeof text, "<0x%02X>", byte);
        t->fallback_id[byte] = at_string_map_find(&t->vocab, text, n);
    }
    TRY(at_decoder_end(t));
    at_hash_put(&t->hash,
                (bool[]){ t->ignore_merges, t->byte_level, t->byte_fallback, t->fuse_unknown,
                          t->word == at_bpe_word },
                5);
    at_hash_put(&t->hash, &t->unknown, sizeof t->unknown);
    at_hash_put(&t->hash, t->before, t->n_before * sizeof *t->before);
    at_hash_put(&t->hash, (uint8_t[]){ (uint8_t)t->n_before, (uint8_t)t->n_after }, 2);
    at_hash_put(&t->hash, t->after, t->n_after * sizeof *t->after);
    memcpy(t->digest, at_hash_end(&t->hash).hex, sizeof t->digest);
done:
    return st;
}

void at_tokenizer_destroy(struct at_tokenizer **tokenizer)
{
    struct at_tokenizer *t = *tokenizer;

    if (!t)
        return;
    for (size_t i = 0; i < t->n_stages; i++)
        pcre2_code_free(t->stages[i].code);
    for (size_t i = 0; i < t->n_normalizers; i++)
        pcre2_code_free(t->normalizers[i].code);
    at_unigram_release(&t->unigram);
    for (size_t i = 0; i < AT_COUNT(t->added); i++)
        at_string_map_release(&t->added[i].map);
    at_string_map_release(&t->vocab);
    at_merge_map_release(&t->merges);
    at_free(&t->tokens);
    at_arena_release(&t->arena);
    at_free(tokenizer);
}

/* ---- asking ---- */

uint32_t at_tokenizer_size(const struct at_tokenizer *tokenizer)
{
    return (uint32_t)tokenizer->n_tokens;
}

int32_t at_tokenizer_bos(const struct at_tokenizer *tokenizer)
{
    return tokenizer->bos;
}

int32_t at_tokenizer_eos(const struct at_tokenizer *tokenizer)
{
    return tokenizer->eos;
}

int32_t at_tokenizer_pad(const struct at_tokenizer *tokenizer)
{
    return tokenizer->pad;
}

int32_t at_tokenizer_find(const struct at_tokenizer *t, const char *token)
{
    const size_t n = strlen(token);
    int32_t id = at_string_map_find(&t->vocab, token, n);

    for (size_t i = 0; i < AT_COUNT(t->added) && id < 0; i++)
        id = at_string_map_find(&t->added[i].map, token, n);
    return id;
}

bool at_tokenizer_is_special(const struct at_tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->n_tokens && t->tokens[id].special;
}

static const char *text_of(const struct at_tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->n_tokens ? t->tokens[id].text : NULL;
}

/* An id that texts have in `a` and that is nothing in `b`, or -1: a byte, what a merge makes, an
 * added token. */
static int32_t find_missing(const struct at_tokenizer *a, const struct at_tokenizer *b)
{
    for (size_t i = 0; i < AT_COUNT(a->byte_id); i++)
        if (a->byte_id[i] >= 0 && !text_of(b, a->byte_id[i]))
            return a->byte_id[i];
    for (size_t i = 0; i < a->merges.n_slots; i++)
        if (a->merges.slots[i].pair != UINT64_MAX && !text_of(b, a->merges.slots[i].id))
            return a->merges.slots[i].id;
    for (size_t id = 0; id < a->n_tokens; id++)
        for (size_t i = 0; i < AT_COUNT(a->added) && a->tokens[id].text; i++)
            if (at_string_map_find(&a->added[i].map, a->tokens[id].text,
                                   strlen(a->tokens[id].text)) >= 0 &&
                !text_of(b, (int32_t)id))
                return (int32_t)id;
    return -1;
}

/* The first id that both name, and not alike, or -1. */
static int32_t find_other(const struct at_tokenizer *a, const struct at_tokenizer *b)
{
    for (int32_t id = 0; (size_t)id < a->n_tokens; id++)
        if (text_of(a, id) && text_of(b, id) && strcmp(text_of(a, id), text_of(b, id)) != 0)
            return id;
    return -1;
}

int32_t at_tokenizer_compare(const struct at_tokenizer *a, const struct at_tokenizer *b,
                             const char **a_text, const char **b_text)
{
    int32_t id = find_other(a, b);

    if (id < 0)
        id = find_missing(a, b);
    if (id < 0)
        id = find_missing(b, a);
    *a_text = text_of(a, id);
    *b_text = text_of(b, id);
    return id;
}

const char *at_tokenizer_digest(const struct at_tokenizer *tokenizer)
{
    return tokenizer->digest;
}

/* ---- encoding ---- */

static bool is_word_before(const char *text, size_t end)
{
    size_t n;

    return end > 0 && at_is_word(at_utf8_get(text + at_last_char(text, end), &n));
}

static bool is_word_at(const char *text, size_t n, size_t i)
{
    size_t length;

    return i < n && at_is_word(at_utf8_get(text + i, &length));
}

/* The longest added token at text[i], or -1. */
static int32_t added_at(const struct at_added *added, size_t *length, const char *text, size_t n,
                        size_t i)
{
    int32_t id = -1;

    for (size_t k = 0; added->first[(uint8_t)text[i]] && k < added->n_lengths && id < 0; k++) {
        *length = added->lengths[k];
        if (*length <= n - i)
            id = at_string_map_find(&added->map, text + i, *length);
    }
    return id;
}

static AT_CHECKED encode_form(struct at_encoding *e, unsigned form, const char *text, size_t n,
                              bool at_start);

/* What lies between added tokens: the first time it is normalised, then it is cut into words. */
static AT_CHECKED encode_between(struct at_encoding *e, unsigned form, const char *text, size_t n,
                                 bool at_start)
{
    enum at_status st = AT_OK;
    struct at_text normal = { .at_start = at_start };

    if (form == 1) {
        TRY(at_encoding_put(e, text, n, at_start));
    } else if (e->tokenizer->n_normalizers > 0) {
        at_buf_put(&normal.buf, text, n);
        TRY(at_buf_status(&normal.buf));
        TRY(at_normalize(e->tokenizer, &e->matcher, &normal));
        TRY(encode_form(e, 1, normal.buf.data, normal.buf.n, normal.at_start));
    } else {
        TRY(encode_form(e, 1, text, n, at_start));
    }
done:
    at_buf_release(&normal.buf);
    return st;
}

static AT_CHECKED encode_form(struct at_encoding *e, unsigned form, const char *text, size_t n,
                              bool at_start)
{
    enum at_status st = AT_OK;
    const struct at_added *added = &e->tokenizer->added[form];
    size_t done_to = 0;

    for (size_t i = 0, length = 0; i < n;) {
        const int32_t id = added_at(added, &length, text, n, i);
        size_t begin = i, end = i + length;
        if (id < 0) {
            i++;
            continue;
        }
        const struct at_token *token = &e->tokenizer->tokens[id];
        i = end;
        if (token->single_word && (is_word_before(text, begin) || is_word_at(text, n, end)))
            continue;
        if (token->lstrip && at_space_before(text, begin) > done_to)
            begin = at_space_before(text, begin);
        else if (token->lstrip)
            begin = done_to;
        if (token->rstrip)
            end = at_space_after(text, n, end);
        if (begin > done_to)
            TRY(encode_between(e, form, text + done_to, begin - done_to, at_start && done_to == 0));
        TRY(at_ids_push(e->out, id));
        done_to = end;
    }
    if (done_to < n)
        TRY(encode_between(e, form, text + done_to, n - done_to, at_start && done_to == 0));
done:
    return st;
}

static AT_CHECKED push_all(struct at_ids *out, const int32_t *ids, size_t n)
{
    enum at_status st = AT_OK;

    for (size_t i = 0; i < n; i++)
        TRY(at_ids_push(out, ids[i]));
done:
    return st;
}

AT_CHECKED at_tokenizer_encode(const struct at_tokenizer *t, struct at_ids *out, const char *text,
                               size_t n, bool add_special)
{
    enum at_status st = AT_OK;
    const size_t n_before = out->n;
    struct at_encoding e = { .tokenizer = t, .out = out };
    struct at_buf repaired = { 0 };

    TRY(at_matcher_init(&e.matcher));
    if (at_utf8_check(text, n) < n) {
        const size_t bad = at_utf8_repair(&repaired, text, n, NULL);
        TRY(at_buf_status(&repaired));
        at_warn("invalid_utf8", "%zu places of a text are not valid UTF-8 and became U+FFFD", bad);
        text = repaired.data;
        n = repaired.n;
    }
    if (add_special)
        TRY(push_all(out, t->before, t->n_before));
    TRY(encode_form(&e, 0, text, n, true));
    if (add_special)
        TRY(push_all(out, t->after, t->n_after));
done:
    if (st != AT_OK)
        out->n = n_before;
    at_bpe_release(&e.bpe);
    at_matcher_release(&e.matcher);
    at_buf_release(&repaired);
    return st;
}
