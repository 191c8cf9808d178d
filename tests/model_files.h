/* Shared by tests that need model files: safetensors and GGUF made byte by byte, so that each can
 * be wrong in one place. */
#ifndef MODEL_FILES_H
#define MODEL_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cmocka wants its includes before it */
#include <cmocka.h>

#include "mem.h"
#include "os.h"

#define REQUIRE_OK(call)                             \
    do {                                             \
        if ((call) != AT_OK)                         \
            fail_msg("%s: %s", #call, at_message()); \
    } while (0)

/* The last message must hold this text. */
static inline void require_message(const char *part)
{
    if (!strstr(at_message(), part))
        fail_msg("message \"%s\" does not hold \"%s\"", at_message(), part);
}

static inline void write_file(const char *path, const void *bytes, size_t n)
{
    REQUIRE_OK(at_file_write_atomic(path, bytes, n));
}

static inline void write_text(const char *path, const char *text)
{
    write_file(path, text, strlen(text));
}

/* ---- safetensors ---- */

/* A file of this header text and n bytes of data. */
static inline void write_safetensors(const char *path, const char *header, const void *data,
                                     size_t n)
{
    const uint64_t bytes = strlen(header);
    struct at_buf out = { 0 };

    at_buf_put(&out, &bytes, sizeof bytes);
    at_buf_put(&out, header, bytes);
    at_buf_put(&out, data, n);
    REQUIRE_OK(at_buf_status(&out));
    write_file(path, out.data, out.n);
    at_buf_release(&out);
}

/* ---- GGUF ---- */

static inline void put_u32(struct at_buf *out, uint32_t x)
{
    at_buf_put(out, &x, sizeof x);
}

static inline void put_u64(struct at_buf *out, uint64_t x)
{
    at_buf_put(out, &x, sizeof x);
}

static inline void put_string(struct at_buf *out, const char *text)
{
    put_u64(out, strlen(text));
    at_buf_put(out, text, strlen(text));
}

/* Counts of tensors and keys follow at once. */
static inline void put_head(struct at_buf *out, uint32_t version, uint64_t n_tensors,
                            uint64_t n_items)
{
    at_buf_put(out, "GGUF", 4);
    put_u32(out, version);
    put_u64(out, n_tensors);
    put_u64(out, n_items);
}

static inline void put_key_u32(struct at_buf *out, const char *key, uint32_t value)
{
    put_string(out, key);
    put_u32(out, 4);
    put_u32(out, value);
}

static inline void put_key_float(struct at_buf *out, const char *key, float value)
{
    put_string(out, key);
    put_u32(out, 6);
    at_buf_put(out, &value, sizeof value);
}

static inline void put_key_bool(struct at_buf *out, const char *key, uint8_t value)
{
    put_string(out, key);
    put_u32(out, 7);
    at_buf_put(out, &value, sizeof value);
}

static inline void put_key_string(struct at_buf *out, const char *key, const char *value)
{
    put_string(out, key);
    put_u32(out, 8);
    put_string(out, value);
}

/* ne: fastest dimension first, as the file has them. */
static inline void put_tensor(struct at_buf *out, const char *name, uint32_t n_dims,
                              const uint64_t *ne, uint32_t type, uint64_t offset)
{
    put_string(out, name);
    put_u32(out, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        put_u64(out, ne[i]);
    put_u32(out, type);
    put_u64(out, offset);
}

/* Zeros up to a multiple of `alignment`. */
static inline void put_padding(struct at_buf *out, size_t alignment)
{
    while (out->n % alignment != 0 && !out->failed)
        at_buf_put(out, "", 1);
}

#endif
