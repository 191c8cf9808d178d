/* Host memory: checked sizes, zeroed allocations, arenas, a growing string.
 * All allocation of the engine passes through at_alloc(), so that tests can make call n fail. */
#ifndef AT_MEM_H
#define AT_MEM_H

#include <stdarg.h>

#include "status.h"

/* *out = a * b or a + b; false (and *out = 0) on overflow. */
bool at_mul_ok(size_t *out, size_t a, size_t b);
bool at_add_ok(size_t *out, size_t a, size_t b);
static inline size_t at_round_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}
static inline size_t at_div_up(size_t n, size_t d)
{
    return (n + d - 1) / d;
}

/* Zeroed memory for `count` elements of `size` bytes; AT_MEMORY with a sentence when it cannot be
 * had or the product overflows. count 0 gives a valid pointer. Free with at_free(). */
AT_CHECKED at_alloc(void *out_pointer, size_t count, size_t size);
/* Grows *pointer (NULL or from at_alloc) to `count` elements, keeps contents, new part zeroed. */
AT_CHECKED at_realloc(void *inout_pointer, size_t old_count, size_t count, size_t size);
/* Frees *pointer, sets it to NULL; accepts *pointer == NULL. */
void at_free(void *inout_pointer);
/* Test hook: the n-th allocation from now fails (1 = the next); 0 turns it off. */
void at_alloc_fail_at(uint64_t n);

/* Arena: allocations of one lifetime, freed together. `struct at_arena a = {0}` is ready to use.
 *
 * One that spills, `{ .spills = true }`, is for what grows with a data set: behind its first 8 MiB
 * its blocks lie in files without names (at_spill_open()), so that memory of the process stays
 * flat. Where there is no room for these it takes memory, as any arena, and warns ("spill"). */
struct at_arena {
    struct at_arena_block *last;
    size_t n_bytes; /* of all blocks */
    bool spills;
};
AT_CHECKED at_arena_alloc(struct at_arena *arena, void *out_pointer, size_t count, size_t size);
AT_CHECKED at_arena_strdup(struct at_arena *arena, char **out, const char *text);
/* Copies n bytes and adds a terminating 0. */
AT_CHECKED at_arena_strndup(struct at_arena *arena, char **out, const char *text, size_t n);
AT_CHECKED at_arena_printf(struct at_arena *arena, char **out, const char *format, ...)
    AT_PRINTF(3, 4);
/* Pages of files that it has in memory are the system's again until the next access. Cheap: after
 * each batch of what was spilled, and now and then on the way through all of it. */
void at_arena_drop(const struct at_arena *arena);
/* The same on the way through an array of its items, at each i that is a multiple of 65,536. */
void at_arena_passed(const struct at_arena *arena, size_t i);
void at_arena_release(struct at_arena *arena);

/* A growing byte string, always 0-terminated once something was appended. `struct at_buf b = {0}`.
 * A failed append makes the buffer stick at AT_MEMORY; check once with at_buf_status(). */
struct at_buf {
    char *data;
    size_t n, capacity;
    bool failed;
};
void at_buf_put(struct at_buf *buf, const void *bytes, size_t n);
void at_buf_puts(struct at_buf *buf, const char *text);
void at_buf_printf(struct at_buf *buf, const char *format, ...) AT_PRINTF(2, 3);
void at_buf_vprintf(struct at_buf *buf, const char *format, va_list args) AT_PRINTF(2, 0);
AT_CHECKED at_buf_status(const struct at_buf *buf);
void at_buf_clear(struct at_buf *buf); /* n = 0, keeps memory */
void at_buf_release(struct at_buf *buf);

/* Levenshtein distance of two words, to name the nearest; 64 when one is longer than that. */
size_t at_edit_distance(const char *a, const char *b);

/* A growing array of int32 (token ids). Same conventions as at_buf, but append is checked. */
struct at_ids {
    int32_t *data;
    size_t n, capacity;
};
AT_CHECKED at_ids_push(struct at_ids *ids, int32_t id);
void at_ids_release(struct at_ids *ids);

#endif
