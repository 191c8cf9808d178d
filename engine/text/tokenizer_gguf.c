#include "tokenizer_parts.h"

#include <string.h>

/* ---- pre-tokenizers by name ---- */

/* `tokenizer.ggml.pre` and what it means. Texts are cut by each pattern in turn. Normalisation is
 * the Hugging Face tokenizer's: a model was trained with it, whatever llama.cpp does. */
struct pre {
    const char *name;
    const char *patterns[4];
    bool nfc, ignore_merges, always_bos;
};
#define LLAMA_BPE(digits)                                                          \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits "|" \
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
static const struct pre pres[] = {
    { .name = "default",
      .patterns = { "[\\p{P}\\$\\+<=>\\^~\\|]+", at_pattern_gpt2, "\\p{N}+", "[0-9][0-9][0-9]" } },
    { .name = "gpt-2", .patterns = { at_pattern_gpt2 } },
    { .name = "llama-bpe",
      .patterns = { LLAMA_BPE("{1,3}") },
      .ignore_merges = true,
      .always_bos = true },
    { .name = "qwen2", .patterns = { LLAMA_BPE("") }, .nfc = true },
    { .name = "smollm", .patterns = { "\\p{N}", at_pattern_gpt2 } },
};

static AT_CHECKED find_pre(const struct pre **out, const char *wanted, const char *name)
{
    enum at_status st = AT_OK;
    struct at_buf known = { 0 };

    for (size_t i = 0; i < AT_COUNT(pres); i++) {
        if (strcmp(pres[i].name, wanted) == 0) {
            *out = &pres[i];
            goto done;
        }
        at_buf_printf(&known, "%s%s", i > 0 ? ", " : "", pres[i].name);
    }
    TRY(at_buf_status(&known));
    FAIL(AT_DATA, "%s: tokenizer.ggml.pre \"%s\" is not built in this version (built: %s)", name,
         wanted, known.data);
done:
    at_buf_release(&known);
    return st;
}

/* ---- the arrays ---- */

enum { CONTROL = 3, USER_DEFINED = 4 };

static AT_CHECKED put_tokens(struct at_tokenizer *t, const struct at_vocab *v, const char *name)
{
    enum at_status st = AT_OK;

    for (size_t i = 0; i < v->n_tokens; i++)
        TRY(at_tokenizer_put_token(t, v->tokens[i], v->token_lengths[i], (int32_t)i, name));
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
    for (size_t i = 0; v->types && i < v->n_tokens; i++)
        if (v->types[i] == CONTROL || v->types[i] == USER_DEFINED)
            added[n++] = (struct at_added_token){ .text = t->tokens[i].text,
                                                  .id = (int32_t)i,
                                                  .special = v->types[i] == CONTROL };
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

static AT_CHECKED read_all(struct at_tokenizer *t, const struct at_vocab *v, const char *name)
{
    enum at_status st = AT_OK;
    const struct pre *pre = NULL;

    if (!v->model || strcmp(v->model, "gpt2") != 0)
        FAIL(AT_DATA,
             "%s: tokenizer.ggml.model \"%s\" is not built in this version (built: gpt2, which is "
             "byte-level BPE)",
             name, v->model ? v->model : "");
    if (!v->pre)
        at_warn("no_pre_tokenizer",
                "%s: tokenizer.ggml.pre is missing; \"default\" is taken, which "
                "may cut words in another way than the model's own tokenizer",
                name);
    TRY(find_pre(&pre, v->pre ? v->pre : "default", name));
    if (v->n_tokens == 0 || v->n_tokens > AT_MAX_ID)
        FAIL(AT_DATA, "%s: a vocabulary of %zu tokens", name, v->n_tokens);
    TRY(check_id(v->bos, v, "bos", name));
    TRY(check_id(v->eos, v, "eos", name));
    TRY(check_id(v->pad, v, "padding", name));
    TRY(at_tokenizer_begin(t, v->n_tokens, v->n_tokens, v->n_merges));
    TRY(put_tokens(t, v, name));
    t->nfc = pre->nfc;
    t->ignore_merges = pre->ignore_merges;
    for (size_t i = 0; i < AT_COUNT(pre->patterns) && pre->patterns[i]; i++)
        TRY(at_tokenizer_put_stage(t, pre->patterns[i], (struct at_stage){ .keep = AT_KEEP_ALL },
                                   name));
    TRY(put_added(t, v, name));
    t->bos = v->bos;
    t->eos = v->eos;
    t->pad = v->pad;
    if ((v->add_bos || pre->always_bos) && v->bos >= 0)
        t->before[t->n_before++] = v->bos;
    if (v->add_eos && v->eos >= 0)
        t->after[t->n_after++] = v->eos;
    at_tokenizer_end(t);
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
