#include "vk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rates of submissions shorter than this say more about overhead than about the device. */
#define SHORTEST_S 0.005
#define SLOWEST_FLOP_PER_S 2.5e9

/* ---- table: items in order of their first launch, and an index by hash ---- */

static uint32_t *find(const struct at_timers *timers, const struct at_module *module,
                      const uint32_t dims[AT_MAX_DIMS])
{
    uint64_t hash = (uint64_t)(uintptr_t)module;

    for (size_t i = 0; i < AT_MAX_DIMS; i++)
        hash = (hash ^ dims[i]) * 0x9e3779b97f4a7c15u;
    for (size_t i = (size_t)(hash >> 32);; i++) {
        uint32_t *place = &timers->index[i & (2 * timers->capacity - 1)];
        const struct at_timer *t = *place > 0 ? &timers->items[*place - 1] : NULL;

        if (!t || (t->module == module && memcmp(t->dims, dims, sizeof t->dims) == 0))
            return place;
    }
}

static AT_CHECKED grow(struct at_timers *timers)
{
    const size_t more = timers->capacity ? 2 * timers->capacity : 64;
    enum at_status st;

    TRY(at_realloc(&timers->items, timers->capacity, more, sizeof *timers->items));
    at_free(&timers->index);
    timers->capacity = 0;
    TRY(at_alloc(&timers->index, 2 * more, sizeof *timers->index));
    timers->capacity = more;
    for (uint32_t i = 0; i < timers->n; i++)
        *find(timers, timers->items[i].module, timers->items[i].dims) = i + 1;
done:
    return st;
}

AT_CHECKED at_timers_count(uint32_t *out, struct at_timers *timers, const struct at_module *module,
                           const void *args, double flop, double bytes)
{
    enum at_status st = AT_OK;
    struct at_timer timer = { .module = module };
    uint32_t *place;

    for (const struct at_kernel_dim *d = module->kernel->dims; d->name; d++)
        timer.dims[d - module->kernel->dims] = ((const uint32_t *)args)[d->word];
    if (timers->n == timers->capacity)
        TRY(grow(timers));
    place = find(timers, module, timer.dims);
    if (*place == 0) {
        timers->items[timers->n++] = timer;
        *place = timers->n;
    }
    *out = *place - 1;
    timers->items[*out].calls++;
    timers->items[*out].flop += flop;
    timers->items[*out].bytes += bytes;
done:
    return st;
}

/* ---- timestamps ---- */

static double seconds(const struct at_gpu *gpu, const uint64_t stamps[2])
{
    const uint64_t mask =
        gpu->timestamp_bits < 64 ? ((uint64_t)1 << gpu->timestamp_bits) - 1 : UINT64_MAX;

    return (double)((stamps[1] - stamps[0]) & mask) * gpu->limits.timestampPeriod * 1e-9;
}

void at_timers_collect(struct at_stream *stream, struct at_slot *slot)
{
    const struct at_gpu *gpu = stream->gpu;
    const uint32_t n = slot->timed ? 2 + 2 * slot->n_launches : 2;
    double time_s, rate;

    if (!slot->queries)
        return;
    at_stream_keep(stream,
                   at_vk_check(vkGetQueryPoolResults(
                                   gpu->device, slot->queries, 0, n, n * sizeof stream->stamps[0],
                                   stream->stamps, sizeof stream->stamps[0],
                                   VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT),
                               "vkGetQueryPoolResults"));
    if (stream->status != AT_OK)
        return;
    for (uint32_t i = 0; slot->timed && i < slot->n_launches; i++)
        stream->timers.items[slot->timer[i]].time_s += seconds(gpu, &stream->stamps[2 + 2 * i]);
    time_s = seconds(gpu, stream->stamps);
    if (time_s < SHORTEST_S || slot->flop <= 0 || stream->hollow)
        return;
    rate = slot->flop / time_s;
    stream->flop_per_s = (stream->flop_per_s + rate) / 2;
    if (stream->flop_per_s < SLOWEST_FLOP_PER_S)
        stream->flop_per_s = SLOWEST_FLOP_PER_S;
}

/* ---- report ---- */

static int slowest_first(const void *a, const void *b)
{
    const struct at_kernel_time *x = a, *y = b;

    return (x->time_s < y->time_s) - (x->time_s > y->time_s);
}

/* "M=512 N=576 K=1536" */
static void write_shape(char out[AT_SHAPE_BYTES], const struct at_timer *t)
{
    const struct at_kernel_dim *dims = t->module->kernel->dims;
    size_t n = 0;

    out[0] = '\0';
    for (size_t i = 0; dims[i].name; i++)
        n += (size_t)snprintf(out + n, AT_SHAPE_BYTES - n, "%s%s=%u", i ? " " : "", dims[i].name,
                              t->dims[i]);
}

AT_CHECKED at_stream_time(struct at_stream *stream, bool on)
{
    enum at_status st;

    TRY(at_stream_wait(stream));
    stream->timed = on && stream->gpu->profile;
done:
    return st;
}

AT_CHECKED at_stream_hollow(struct at_stream *stream, bool on)
{
    enum at_status st;

    TRY(at_stream_wait(stream));
    stream->hollow = on;
done:
    return st;
}

AT_CHECKED at_stream_profile(struct at_stream *stream, struct at_arena *arena,
                             struct at_kernel_time **out, size_t *out_n)
{
    struct at_timers *timers = &stream->timers;
    enum at_status st;

    *out_n = 0;
    TRY(at_stream_wait(stream));
    TRY(at_arena_alloc(arena, out, timers->n, sizeof **out));
    for (uint32_t i = 0; i < timers->n; i++) {
        const struct at_timer *t = &timers->items[i];

        (*out)[i] = (struct at_kernel_time){ .kernel = t->module->kernel->name,
                                             .variant = t->module->variant,
                                             .calls = t->calls,
                                             .time_s = t->time_s,
                                             .flop = t->flop,
                                             .bytes = t->bytes };
        write_shape((*out)[i].shape, t);
    }
    *out_n = timers->n;
    qsort(*out, *out_n, sizeof **out, slowest_first);
    timers->n = 0;
    if (timers->capacity > 0)
        memset(timers->index, 0, 2 * timers->capacity * sizeof *timers->index);
done:
    return st;
}
