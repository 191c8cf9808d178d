/* Shared by the fuzz targets of model files. A parser sees the bytes twice: on the heap, where the
 * address sanitizer knows their end, and through a file, as users give them. */
#ifndef MODEL_FUZZ_H
#define MODEL_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "weights_file.h"

typedef enum at_status fuzz_parser(struct at_weights *weights, const struct at_shard *shard);

/* All rows of a tensor as planes and as floats. */
static void fuzz_source(const struct at_source *s)
{
    uint64_t strides[2] = { 0, 0 };
    uint8_t *planes[2] = { NULL, NULL };
    float *values = NULL;

    if (s->type == AT_QUANT_COUNT || s->cols > UINT32_MAX || s->n_bytes > 1 << 20)
        return;
    values = malloc(s->rows * s->cols * sizeof *values + 1);
    if (values && at_source_floats(values, s) == AT_OK && s->rows * s->cols > 0)
        (void)!at_check_finite(s->name, values, s->rows * s->cols);
    for (uint32_t i = 0; i < at_quant_get(s->type)->n_planes; i++) {
        strides[i] = at_quant_row_bytes(s->type, i, (uint32_t)s->cols);
        planes[i] = malloc(s->rows * strides[i] + 1);
    }
    if (planes[0] && (planes[1] || strides[1] == 0))
        at_repack_rows(planes[0], planes[1], s, 0, s->rows, NULL, NULL);
    free(planes[0]);
    free(planes[1]);
    free(values);
}

static void fuzz_sources(const struct at_weights *weights)
{
    for (size_t i = 0; i < weights->n_sources; i++)
        fuzz_source(&weights->sources[i]);
}

/* `look` may be NULL: what to do with a file that parses. */
static void fuzz_heap(const uint8_t *data, size_t n, fuzz_parser *parse,
                      void (*look)(const struct at_weights *weights))
{
    uint8_t *copy = malloc(n + (n == 0));
    struct at_arena *arena = calloc(1, sizeof *arena);
    struct at_shard shard = { .path = (char[]){ "fuzz" } };
    struct at_weights weights = { .arena = arena, .shards = &shard, .n_shards = 1 };

    if (copy && arena) {
        memcpy(copy, data, n);
        shard.map = (struct at_map){ copy, n };
        if (parse(&weights, &shard) == AT_OK) {
            fuzz_sources(&weights);
            if (look)
                look(&weights);
        }
        at_arena_release(arena);
    }
    at_free(&weights.sources);
    at_free(&weights.items);
    at_free(&weights.items_by_key);
    at_json_free(&weights.metadata);
    free(arena);
    free(copy);
}

/* The bytes as a file in memory; the path is the same in every run. */
static const char *fuzz_file(const uint8_t *data, size_t n)
{
    static char path[40];
    static int fd = -1;

    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    AT_REQUIRE(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data, n, 0) == (ssize_t)n);
    return path;
}

#endif
