#include "gguf_write.h"

#include "weights.h"

#include <string.h>

enum { VERSION = 3, ALIGNMENT = 32 };

struct at_gguf_writer {
    struct at_writer *file;
    const struct at_gguf_tensor *tensors;
    size_t n, next;   /* the tensor whose bytes are expected */
    uint64_t written; /* of it */
};

/* ---- metadata ---- */

static void put_number(struct at_buf *out, uint64_t value, size_t n_bytes)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < n_bytes; i++)
        bytes[i] = (uint8_t)(value >> 8 * i);
    at_buf_put(out, bytes, n_bytes);
}

static void put_string(struct at_buf *out, const char *text)
{
    put_number(out, strlen(text), 8);
    at_buf_puts(out, text);
}

static void put_key(struct at_gguf_pairs *pairs, const char *key, enum at_gguf_type type)
{
    put_string(&pairs->bytes, key);
    put_number(&pairs->bytes, type, 4);
    pairs->n++;
}

void at_gguf_put_text(struct at_gguf_pairs *pairs, const char *key, const char *text)
{
    put_key(pairs, key, AT_GGUF_STRING);
    put_string(&pairs->bytes, text);
}

void at_gguf_put_u32(struct at_gguf_pairs *pairs, const char *key, uint32_t value)
{
    put_key(pairs, key, AT_GGUF_U32);
    put_number(&pairs->bytes, value, 4);
}

void at_gguf_put_f32(struct at_gguf_pairs *pairs, const char *key, float value)
{
    uint32_t bits = 0;

    memcpy(&bits, &value, sizeof bits);
    put_key(pairs, key, AT_GGUF_F32);
    put_number(&pairs->bytes, bits, 4);
}

void at_gguf_put_pair(struct at_gguf_pairs *pairs, const uint8_t *bytes, uint64_t n)
{
    at_buf_put(&pairs->bytes, bytes, n);
    pairs->n++;
}

/* ---- the file ---- */

static uint64_t aligned(uint64_t n)
{
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static AT_CHECKED write_head(struct at_gguf_writer *w, const struct at_gguf_pairs *pairs)
{
    enum at_status st = AT_OK;
    struct at_buf head = { 0 };
    uint64_t at = 0;

    at_buf_puts(&head, "GGUF");
    put_number(&head, VERSION, 4);
    put_number(&head, w->n, 8);
    put_number(&head, pairs->n, 8);
    at_buf_put(&head, pairs->bytes.data, pairs->bytes.n);
    for (size_t i = 0; i < w->n; i++) {
        const struct at_gguf_tensor *t = &w->tensors[i];
        put_string(&head, t->name);
        put_number(&head, t->n_dims, 4);
        for (uint32_t k = t->n_dims; k-- > 0;)
            put_number(&head, t->dim[k], 8);
        put_number(&head, t->type, 4);
        put_number(&head, at, 8);
        at += aligned(t->n_bytes);
    }
    while (head.n % ALIGNMENT != 0 && !head.failed)
        at_buf_put(&head, "", 1);
    TRY(at_buf_status(&head));
    TRY(at_writer_put(w->file, head.data, head.n));
done:
    at_buf_release(&head);
    return st;
}

AT_CHECKED at_gguf_create(struct at_gguf_writer **out, const char *path,
                          const struct at_gguf_pairs *pairs, const struct at_gguf_tensor *tensors,
                          size_t n)
{
    enum at_status st = AT_OK;
    struct at_gguf_writer *w = NULL;

    *out = NULL;
    TRY(at_buf_status(&pairs->bytes));
    TRY(at_alloc(&w, 1, sizeof *w));
    w->tensors = tensors;
    w->n = n;
    TRY(at_writer_open(&w->file, path));
    TRY(write_head(w, pairs));
    *out = w;
    w = NULL;
done:
    at_gguf_close(&w);
    return st;
}

AT_CHECKED at_gguf_put(struct at_gguf_writer *w, const void *bytes, uint64_t n)
{
    static const uint8_t zeros[ALIGNMENT];
    enum at_status st = AT_OK;
    const struct at_gguf_tensor *t = &w->tensors[w->next];

    AT_REQUIRE(w->next < w->n && n <= t->n_bytes - w->written);
    TRY(at_writer_put(w->file, bytes, n));
    w->written += n;
    if (w->written == t->n_bytes) {
        TRY(at_writer_put(w->file, zeros, aligned(t->n_bytes) - t->n_bytes));
        w->next++;
        w->written = 0;
    }
done:
    return st;
}

AT_CHECKED at_gguf_commit(struct at_gguf_writer *w)
{
    AT_REQUIRE(w->next == w->n);
    return at_writer_commit(w->file);
}

void at_gguf_close(struct at_gguf_writer **writer)
{
    struct at_gguf_writer *w = *writer;

    if (!w)
        return;
    at_writer_close(&w->file);
    at_free(writer);
}
