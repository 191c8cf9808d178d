#include "mem.h"

#include "os.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_BYTES = 64 * 1024,
    FIRST_CAPACITY = 64,
    SPILL_FROM = 8 << 20, /* bytes of an arena that stay in memory */
    SPILL_BLOCK_BYTES = 16 << 20,
    PASSED = 1 << 16
};

/* Calls left until one fails; 0: none will. */
static _Atomic uint64_t fail_countdown;

bool at_mul_ok(size_t *out, size_t a, size_t b)
{
    bool ok = !__builtin_mul_overflow(a, b, out);
    if (!ok)
        *out = 0;
    return ok;
}

bool at_add_ok(size_t *out, size_t a, size_t b)
{
    bool ok = !__builtin_add_overflow(a, b, out);
    if (!ok)
        *out = 0;
    return ok;
}

void at_alloc_fail_at(uint64_t n)
{
    atomic_store(&fail_countdown, n);
}

static bool must_fail(void)
{
    uint64_t left = atomic_load(&fail_countdown);
    while (left > 0)
        if (atomic_compare_exchange_weak(&fail_countdown, &left, left - 1))
            return left == 1;
    return false;
}

/* Pointers go in and out by memcpy: the caller's object is a `T *`, not a `void *`. */
static void *load_pointer(const void *slot)
{
    void *p;
    memcpy(&p, slot, sizeof p);
    return p;
}

static void store_pointer(void *slot, void *p)
{
    memcpy(slot, &p, sizeof p);
}

enum at_status at_alloc(void *out_pointer, size_t count, size_t size)
{
    store_pointer(out_pointer, NULL);
    size_t bytes;
    if (!at_mul_ok(&bytes, count, size))
        return at_fail(AT_MEMORY, "%zu elements of %zu bytes are more than any memory", count,
                       size);
    void *p = must_fail() ? NULL : calloc(1, bytes ? bytes : 1);
    if (!p)
        return at_fail(AT_MEMORY, "out of memory: %zu bytes could not be allocated", bytes);
    store_pointer(out_pointer, p);
    return AT_OK;
}

enum at_status at_realloc(void *inout_pointer, size_t old_count, size_t count, size_t size)
{
    size_t bytes;
    if (!at_mul_ok(&bytes, count, size))
        return at_fail(AT_MEMORY, "%zu elements of %zu bytes are more than any memory", count,
                       size);
    void *old = load_pointer(inout_pointer);
    char *p = must_fail() ? NULL : realloc(old, bytes ? bytes : 1);
    if (!p)
        return at_fail(AT_MEMORY, "out of memory: %zu bytes could not be allocated", bytes);
    size_t kept = old ? old_count * size : 0;
    if (bytes > kept)
        memset(p + kept, 0, bytes - kept);
    store_pointer(inout_pointer, p);
    return AT_OK;
}

void at_free(void *inout_pointer)
{
    free(load_pointer(inout_pointer));
    store_pointer(inout_pointer, NULL);
}

struct at_arena_block {
    struct at_arena_block *previous;
    size_t used, capacity;
    bool spilled;
    _Alignas(max_align_t) unsigned char bytes[];
};

static size_t block_bytes(const struct at_arena_block *block)
{
    return sizeof *block + block->capacity;
}

/* Into a file; an arena that cannot does not try again. */
static bool spill_block(struct at_arena *arena, struct at_arena_block **out, size_t total)
{
    void *data = NULL;

    if (at_spill_open(&data, total) != AT_OK) {
        if (at_warn_count("spill") == 0)
            at_warn("spill", "%s; large data is kept in memory", at_message());
        arena->spills = false;
        return false;
    }
    *out = data;
    (*out)->spilled = true;
    return true;
}

static enum at_status add_block(struct at_arena *arena, struct at_arena_block **out, size_t bytes)
{
    const bool spills =
        arena->spills && (arena->n_bytes >= SPILL_FROM || bytes > SPILL_FROM - arena->n_bytes);
    const size_t unit = spills ? SPILL_BLOCK_BYTES : BLOCK_BYTES;
    size_t capacity = bytes > unit / 4 ? bytes : unit, total;

    if (!at_add_ok(&total, capacity, sizeof **out))
        return at_fail(AT_MEMORY, "%zu bytes are more than any memory", bytes);
    if (!spills || !spill_block(arena, out, total)) {
        enum at_status st = at_alloc(out, total, 1);
        if (st != AT_OK)
            return st;
    }
    (*out)->capacity = capacity;
    arena->n_bytes += total;
    struct at_arena_block *last = arena->last;
    if (last && capacity != unit) { /* a large one: `last` keeps serving small ones */
        (*out)->previous = last->previous;
        last->previous = *out;
    } else {
        (*out)->previous = last;
        arena->last = *out;
    }
    return AT_OK;
}

enum at_status at_arena_alloc(struct at_arena *arena, void *out_pointer, size_t count, size_t size)
{
    store_pointer(out_pointer, NULL);
    const size_t unit = _Alignof(max_align_t);
    size_t bytes;
    if (!at_mul_ok(&bytes, count, size) || bytes > SIZE_MAX - unit)
        return at_fail(AT_MEMORY, "%zu elements of %zu bytes are more than any memory", count,
                       size);
    bytes = at_round_up(bytes ? bytes : 1, unit);
    struct at_arena_block *block = arena->last;
    if (!block || block->capacity - block->used < bytes) {
        enum at_status st = add_block(arena, &block, bytes);
        if (st != AT_OK)
            return st;
    }
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): add_block() set it
    store_pointer(out_pointer, block->bytes + block->used);
    block->used += bytes;
    return AT_OK;
}

enum at_status at_arena_strdup(struct at_arena *arena, char **out, const char *text)
{
    return at_arena_strndup(arena, out, text, strlen(text));
}

enum at_status at_arena_strndup(struct at_arena *arena, char **out, const char *text, size_t n)
{
    *out = NULL;
    size_t bytes;
    if (!at_add_ok(&bytes, n, 1))
        return at_fail(AT_MEMORY, "%zu bytes are more than any memory", n);
    enum at_status st = at_arena_alloc(arena, out, bytes, 1);
    if (st == AT_OK && n > 0)
        memcpy(*out, text, n);
    return st;
}

enum at_status at_arena_printf(struct at_arena *arena, char **out, const char *format, ...)
{
    *out = NULL;
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    AT_REQUIRE(n >= 0);
    enum at_status st = at_arena_alloc(arena, out, (size_t)n + 1, 1);
    if (st == AT_OK)
        vsnprintf(*out, (size_t)n + 1, format, again);
    va_end(again);
    va_end(args);
    return st;
}

void at_arena_drop(const struct at_arena *arena)
{
    for (struct at_arena_block *block = arena->last; block; block = block->previous)
        if (block->spilled)
            at_spill_drop(block, block_bytes(block));
}

void at_arena_passed(const struct at_arena *arena, size_t i)
{
    if (i % PASSED == 0)
        at_arena_drop(arena);
}

void at_arena_release(struct at_arena *arena)
{
    for (struct at_arena_block *block = arena->last; block;) {
        struct at_arena_block *previous = block->previous;
        if (block->spilled)
            at_spill_close(block, block_bytes(block));
        else
            at_free(&block);
        block = previous;
    }
    arena->last = NULL;
    arena->n_bytes = 0;
}

/* Room for n further bytes and the terminating 0. */
static bool reserve(struct at_buf *buf, size_t n)
{
    size_t need;
    if (buf->failed || !at_add_ok(&need, buf->n, n) || !at_add_ok(&need, need, 1)) {
        buf->failed = true;
        return false;
    }
    if (need <= buf->capacity)
        return true;
    size_t capacity = buf->capacity ? buf->capacity : FIRST_CAPACITY;
    while (capacity < need)
        capacity = capacity > SIZE_MAX / 2 ? need : capacity * 2;
    if (at_realloc(&buf->data, buf->n, capacity, 1) != AT_OK) {
        buf->failed = true;
        return false;
    }
    buf->capacity = capacity;
    return true;
}

void at_buf_put(struct at_buf *buf, const void *bytes, size_t n)
{
    if (!reserve(buf, n))
        return;
    if (n > 0)
        memcpy(buf->data + buf->n, bytes, n);
    buf->n += n;
    buf->data[buf->n] = 0;
}

void at_buf_puts(struct at_buf *buf, const char *text)
{
    at_buf_put(buf, text, strlen(text));
}

void at_buf_vprintf(struct at_buf *buf, const char *format, va_list args)
{
    va_list again;
    int n;

    va_copy(again, args);
    n = vsnprintf(NULL, 0, format, args);
    AT_REQUIRE(n >= 0);
    if (reserve(buf, (size_t)n)) {
        vsnprintf(buf->data + buf->n, (size_t)n + 1, format, again);
        buf->n += (size_t)n;
    }
    va_end(again);
}

void at_buf_printf(struct at_buf *buf, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    at_buf_vprintf(buf, format, args);
    va_end(args);
}

enum at_status at_buf_status(const struct at_buf *buf)
{
    if (buf->failed)
        return at_fail(AT_MEMORY, "out of memory: a text of more than %zu bytes could not grow",
                       buf->n);
    return AT_OK;
}

void at_buf_clear(struct at_buf *buf)
{
    buf->n = 0;
    if (buf->data)
        buf->data[0] = 0;
}

void at_buf_release(struct at_buf *buf)
{
    at_free(&buf->data);
    *buf = (struct at_buf){ 0 };
}

enum at_status at_ids_push(struct at_ids *ids, int32_t id)
{
    if (ids->n == ids->capacity) {
        size_t capacity = ids->capacity ? ids->capacity : FIRST_CAPACITY;
        if (ids->capacity > 0 && !at_mul_ok(&capacity, ids->capacity, 2))
            return at_fail(AT_MEMORY, "%zu token ids are more than any memory", ids->n);
        enum at_status st = at_realloc(&ids->data, ids->n, capacity, sizeof *ids->data);
        if (st != AT_OK)
            return st;
        ids->capacity = capacity;
    }
    ids->data[ids->n++] = id;
    return AT_OK;
}

void at_ids_release(struct at_ids *ids)
{
    at_free(&ids->data);
    *ids = (struct at_ids){ 0 };
}

/* ---- words ---- */

static size_t min3(size_t a, size_t b, size_t c)
{
    const size_t m = a < b ? a : b;

    return m < c ? m : c;
}

size_t at_edit_distance(const char *a, const char *b)
{
    size_t row[64];
    const size_t n = strlen(b);

    if (strlen(a) >= AT_COUNT(row) || n >= AT_COUNT(row))
        return AT_COUNT(row);
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            const size_t above = row[j + 1];
            row[j + 1] = min3(above + 1, row[j] + 1, diagonal + (a[i] != b[j]));
            diagonal = above;
        }
    }
    return row[n];
}
