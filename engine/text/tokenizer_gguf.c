#include "tokenizer_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the arrays ---- */

enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE }; /* of token_type */

static AT_CHECKED put_tokens(struct at_tokenizer *t, const struct at_vocab *v, const char *name)
{
    enum at_status st = AT_OK;

    for (size_t i = 0; i < v->n_tokens; i++)
        TRY(at_tokenizer_put_token(t, v->tokens[i], v->token_lengths[i], (int32_t)i, name));
done:
    return st;
}

static AT_CHECKED put_merges(struct at_tokenizer *t, const struct at_vocab *v, const char *name)
{
    enum at_status st = AT_OK;

    for (size_t i = 0; i < v->n_merges; i++) {
        const char *merge = v->merges[i], *space = strchr(merge, ' ');
        if (!space)
            FAIL(AT_DATA, "%s: merge %zu (\"%s\") is not \"left right\"", name, i, merge);
        TRY(at_tokenizer_put_merge(t, (uint32_t)i, merge, (size_t)(space - merge), space + 1,
                                   strlen(space + 1), name));
    }
done:
    return st;
}

static AT_CHECKED put_added(struct at_tokenizer *t, const struct at_vocab *v, const char *name)
{
    enum at_status st = AT_OK;
    struct at_added_token *added = NULL;
    size_t n = 0;

    TRY(at_alloc(&added, v->n_tokens, sizeof *added));
    for (size_t i = 0; v->types && i < v->n_tokens; i++) {
        const int32_t type = v->types[i];
        if (type == CONTROL || type == UNKNOWN || type == USER_DEFINED)
            added[n++] = (struct at_added_token){ .text = t->tokens[i].text,
                                                  .id = (int32_t)i,
                                                  .special = type != USER_DEFINED };
    }
    TRY(at_tokenizer_put_added(t, added, n, name));
done:
    at_free(&added);
    return st;
}

static AT_CHECKED check_id(int32_t id, const struct at_vocab *v, const char *what, const char *name)
{
    enum at_status st = AT_OK;

    if (id < -1 || (id >= 0 && (size_t)id >= v->n_tokens))
        FAIL(AT_DATA, "%s: tokenizer.ggml.%s_token_id is %d, the vocabulary has %zu tokens", name,
             what, id, v->n_tokens);
done:
    return st;
}

/* ---- gpt2: byte-level BPE ---- */

static AT_CHECKED read_gpt2(struct at_tokenizer *t, const struct at_vocab *v, const char *name)
{
    enum at_status st = AT_OK;
    const struct at_pre *pre = NULL;

    if (!v->pre)
        at_warn("no_pre_tokenizer",
                "%s: tokenizer.ggml.pre is missing; \"default\" is taken, which "
                "may cut words in another way than the model's own tokenizer",
                name);
    TRY(at_pre_find(&pre, v->pre ? v->pre : "default", name));
    TRY(at_tokenizer_begin(t, v->n_tokens, v->n_tokens, v->n_merges));
    TRY(put_tokens(t, v, name));
    TRY(put_merges(t, v, name));
    t->ignore_merges = pre->ignore_merges;
    if (pre->nfc)
        TRY(at_tokenizer_put_normalizer(t, (struct at_normalizer){ .kind = AT_NORMALIZE_NFC }, "",
                                        name));
    for (size_t i = 0; i < AT_COUNT(pre->patterns) && pre->patterns[i]; i++)
        TRY(at_tokenizer_put_isolated(t, pre->patterns[i], name));
    t->byte_level = t->decoder.byte_level = true;
done:
    return st;
}

/* ---- llama: SentencePiece BPE ---- */

#define MARK "\u2581" /* stands for a space */

enum { MAX_PIECE = 4096 }; /* bytes; SentencePiece's own limit is 16 characters */

/* The converter writes spaces into the tokens for runs of them; merging works with marks. */
static AT_CHECKED put_pieces(struct at_tokenizer *t, const struct at_vocab *v, const char *name)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };

    for (size_t i = 0; i < v->n_tokens; i++) {
        const size_t n = v->token_lengths[i], n_spaces = strspn(v->tokens[i], " ");
        if (n > MAX_PIECE || isnan(v->scores[i]))
            FAIL(AT_DATA, "%s: token %zu has %zu bytes and the score %g", name, i, n,
                 (double)v->scores[i]);
        at_buf_clear(&text);
        at_buf_puts(&text, "");
        for (size_t k = 0; k < n_spaces && n_spaces == n; k++)
            at_buf_puts(&text, MARK);
        if (n_spaces < n)
            at_buf_put(&text, v->tokens[i], n);
        TRY(at_buf_status(&text));
        TRY(at_tokenizer_put_token(t, text.data, text.n, (int32_t)i, name));
    }
done:
    at_buf_release(&text);
    return st;
}

/* A token and one way to make it of two others. */
struct parts {
    float score;
    int32_t id;
    uint32_t n_left; /* bytes */
};

/* The order in which the merges of a tokenizer.json made of the same vocabulary stand: by score,
 * then the longest left part. */
static int compare_parts(const void *left, const void *right)
{
    const struct parts *a = left, *b = right;

    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    if (a->n_left != b->n_left)
        return a->n_left > b->n_left ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

/* All ways; *n counts them, `out` may be NULL. Users' tokens stay whole, so they come first,
 * whatever score a converter gives them. */
static void find_parts(const struct at_tokenizer *t, const struct at_vocab *v, struct parts *out,
                       size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < v->n_tokens; i++) {
        const struct at_token *token = &t->tokens[i];
        const int32_t type = v->types ? v->types[i] : NORMAL;
        if (type == CONTROL || type == UNKNOWN || type == BYTE)
            continue;
        for (uint32_t at = 1; at < token->n_text; at++) {
            if (((uint8_t)token->text[at] & 0xC0) == 0x80 ||
                at_string_map_find(&t->vocab, token->text, at) < 0 ||
                at_string_map_find(&t->vocab, token->text + at, token->n_text - at) < 0)
                continue;
            if (out)
                out[*n] = (struct parts){ .score = type == USER_DEFINED ? INFINITY : v->scores[i],
                                          .id = (int32_t)i,
                                          .n_left = at };
            ++*n;
        }
    }
}

/* SentencePiece merges the pair whose token has the best score: each way to make a token of two
 * others is a merge of the token's rank. */
static AT_CHECKED put_scores(struct at_tokenizer *t, const struct at_vocab *v, const char *name)
{
    enum at_status st = AT_OK;
    struct parts *parts = NULL;
    size_t n;

    find_parts(t, v, NULL, &n);
    TRY(at_alloc(&parts, n, sizeof *parts));
    find_parts(t, v, parts, &n);
    if (n > 1)
        qsort(parts, n, sizeof *parts, compare_parts);
    at_merge_map_release(&t->merges);
    TRY(at_merge_map_init(&t->merges, n));
    for (size_t i = 0; i < n; i++) {
        const struct at_token *token = &t->tokens[parts[i].id];
        TRY(at_tokenizer_put_merge(t, (uint32_t)i, token->text, parts[i].n_left,
                                   token->text + parts[i].n_left, token->n_text - parts[i].n_left,
                                   name));
    }
done:
    at_free(&parts);
    return st;
}

static AT_CHECKED put_spaces(struct at_tokenizer *t, const struct at_vocab *v, const char *name)
{
    enum at_status st = AT_OK;
    struct at_normalizer runs = { .kind = AT_NORMALIZE_REPLACE, .text = " " };
    struct at_normalizer marks = { .kind = AT_NORMALIZE_REPLACE, .text = MARK };

    if (v->remove_extra_whitespaces) {
        const struct at_normalizer strip = { .kind = AT_NORMALIZE_STRIP,
                                             .left = true,
                                             .right = true };
        TRY(at_tokenizer_put_normalizer(t, strip, "", name));
        TRY(at_pattern_compile(&runs.code, " {2,}", name));
        TRY(at_tokenizer_put_normalizer(t, runs, " {2,}", name));
    }
    if (v->add_space_prefix)
        TRY(at_tokenizer_put_normalizer(
            t, (struct at_normalizer){ .kind = AT_NORMALIZE_PREPEND, .text = MARK }, "", name));
    TRY(at_pattern_compile_literal(&marks.code, " ", name));
    TRY(at_tokenizer_put_normalizer(t, marks, " ", name));
done:
    return st;
}

static AT_CHECKED read_llama(struct at_tokenizer *t, const struct at_vocab *v, const char *name)
{
    enum at_status st = AT_OK;

    if (!v->scores)
        FAIL(AT_DATA, "%s: tokenizer.ggml.scores is missing, which model \"llama\" needs", name);
    TRY(at_tokenizer_begin(t, v->n_tokens, v->n_tokens, 0));
    TRY(put_pieces(t, v, name));
    TRY(put_scores(t, v, name));
    TRY(put_spaces(t, v, name));
    t->byte_fallback = t->fuse_unknown = true;
    t->unknown = v->unknown;
    TRY(at_tokenizer_put_decode(
        t, (struct at_decode_op){ .kind = AT_DECODE_REPLACE, .text = MARK, .content = " " }, name));
    t->decoder.byte_fallback = t->decoder.fuse = true;
    t->decoder.strip = v->add_space_prefix ? ' ' : 0;
done:
    return st;
}

/* ---- any ---- */

static const struct {
    const char *name;
    enum at_status (*read)(struct at_tokenizer *t, const struct at_vocab *v, const char *name);
    bool add_bos, add_space_prefix; /* what holds when the file says nothing */
} models[] = {
    { .name = "gpt2", .read = read_gpt2 },
    { .name = "llama", .read = read_llama, .add_bos = true, .add_space_prefix = true },
};

static AT_CHECKED find_model(size_t *out, const struct at_vocab *v, const char *name)
{
    enum at_status st = AT_OK;

    for (*out = 0; *out < AT_COUNT(models); ++*out)
        if (v->model && strcmp(models[*out].name, v->model) == 0)
            goto done;
    FAIL(AT_DATA,
         "%s: tokenizer.ggml.model \"%s\" is not built in this version (built: gpt2, which is "
         "byte-level BPE, and llama, which is SentencePiece BPE)",
         name, v->model ? v->model : "");
done:
    return st;
}

AT_CHECKED at_vocab_init(struct at_vocab *out, const char *model, const char *pre, const char *name)
{
    enum at_status st = AT_OK;
    const struct at_pre *found = NULL;
    size_t i;

    *out = (struct at_vocab){
        .model = model, .pre = pre, .bos = -1, .eos = -1, .pad = -1, .unknown = -1
    };
    TRY(find_model(&i, out, name));
    out->add_bos = models[i].add_bos;
    out->add_space_prefix = models[i].add_space_prefix;
    if (models[i].read == read_gpt2 && pre) {
        TRY(at_pre_find(&found, pre, name));
        out->add_bos = found->add_bos;
    }
done:
    return st;
}

static AT_CHECKED read_all(struct at_tokenizer *t, const struct at_vocab *v, const char *name)
{
    enum at_status st = AT_OK;
    size_t i;

    TRY(find_model(&i, v, name));
    if (v->n_tokens == 0 || v->n_tokens > AT_MAX_ID)
        FAIL(AT_DATA, "%s: a vocabulary of %zu tokens", name, v->n_tokens);
    TRY(check_id(v->bos, v, "bos", name));
    TRY(check_id(v->eos, v, "eos", name));
    TRY(check_id(v->pad, v, "padding", name));
    TRY(check_id(v->unknown, v, "unknown", name));
    TRY(models[i].read(t, v, name));
    TRY(put_added(t, v, name));
    t->bos = v->bos;
    t->eos = v->eos;
    t->pad = v->pad;
    if (v->add_bos && v->bos >= 0)
        t->before[t->n_before++] = v->bos;
    if (v->add_eos && v->eos >= 0)
        t->after[t->n_after++] = v->eos;
    TRY(at_tokenizer_end(t));
done:
    return st;
}

AT_CHECKED at_tokenizer_from_vocab(struct at_tokenizer **out, const struct at_vocab *vocab,
                                   const char *name)
{
    enum at_status st = AT_OK;

    *out = NULL;
    TRY(at_alloc(out, 1, sizeof **out));
    TRY(read_all(*out, vocab, name));
done:
    if (st != AT_OK)
        at_tokenizer_destroy(out);
    return st;
}
