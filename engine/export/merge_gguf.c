/* Merged models as GGUF files: everything that their base says, the tokenizer among it, but for
 * what the merge changes. */
#include "gguf_write.h"
#include "merge.h"

#include <string.h>

/* general.file_type of models whose matrices have a type: llama.cpp's enum llama_ftype. */
static const struct {
    const char *type;
    uint32_t number;
} file_types[] = {
    { "BF16", 32 }, { "F16", 1 },   { "F32", 0 },   { "IQ4_NL", 25 }, { "IQ4_XS", 30 },
    { "Q2_K", 10 }, { "Q3_K", 11 }, { "Q4_0", 2 },  { "Q4_1", 3 },    { "Q4_K", 14 },
    { "Q5_0", 8 },  { "Q5_1", 9 },  { "Q5_K", 16 }, { "Q6_K", 18 },   { "Q8_0", 7 },
};

static void copy_pairs(struct at_gguf_pairs *out, const struct at_merge *m)
{
    const struct at_weights *base = m->params->base;

    for (size_t i = 0; i < at_gguf_count(base); i++) {
        const char *key = at_gguf_key(base, i);
        uint64_t n = 0;
        const uint8_t *bytes = at_gguf_pair(base, i, &n);
        /* the writer has the usual alignment */
        if (strcmp(key, "general.alignment") == 0 ||
            (m->params->type && strcmp(key, "general.file_type") == 0))
            continue;
        at_gguf_put_pair(out, bytes, n);
    }
    for (size_t i = 0; m->params->type && i < AT_COUNT(file_types); i++)
        if (strcmp(file_types[i].type, m->params->type->name) == 0)
            at_gguf_put_u32(out, "general.file_type", file_types[i].number);
}

static enum at_status put(void *context, const void *bytes, uint64_t n)
{
    return at_gguf_put(context, bytes, n);
}

AT_CHECKED at_merge_gguf(struct at_merge *m, const char *path)
{
    enum at_status st = AT_OK;
    struct at_gguf_pairs pairs = { .n = 0 };
    struct at_gguf_tensor *tensors = NULL;
    struct at_gguf_writer *writer = NULL;

    TRY(at_arena_alloc(&m->arena, &tensors, m->n, sizeof *tensors));
    for (size_t i = 0; i < m->n; i++) {
        const struct at_merged_tensor *t = &m->tensors[i];
        const struct at_format *f = t->format ? t->format : t->source->format;
        tensors[i] = (struct at_gguf_tensor){ .name = t->name,
                                              .n_dims = t->source->n_dims,
                                              .type = at_format_gguf_type(f),
                                              .n_bytes = t->n_bytes };
        memcpy(tensors[i].dim, t->source->dim, sizeof tensors[i].dim);
    }
    copy_pairs(&pairs, m);
    TRY(at_gguf_create(&writer, path, &pairs, tensors, m->n));
    for (size_t i = 0; i < m->n; i++)
        TRY(at_merge_write(m, i, put, writer));
    TRY(at_gguf_commit(writer));
done:
    at_gguf_close(&writer);
    at_buf_release(&pairs.bytes);
    return st;
}
