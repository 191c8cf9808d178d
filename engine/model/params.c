#include "params.h"

#include <string.h>

AT_CHECKED at_params_init(struct at_params *params, uint64_t part_bytes)
{
    *params = (struct at_params){ .part_bytes = part_bytes / 256 * 256 };
    return AT_OK;
}

AT_CHECKED at_params_add(struct at_params *params, struct at_param **out, const char *name,
                         uint32_t rows, uint32_t cols, enum at_param_group group)
{
    enum at_status st = AT_OK;
    struct at_param *item = NULL;
    char *copy = NULL;

    *out = NULL;
    if (params->n == params->capacity) {
        const size_t capacity = params->capacity ? 2 * params->capacity : 64;
        TRY(at_realloc(&params->items, params->capacity, capacity, sizeof *params->items));
        params->capacity = capacity;
    }
    TRY(at_arena_alloc(&params->arena, &item, 1, sizeof *item));
    TRY(at_arena_strdup(&params->arena, &copy, name));
    *item = (struct at_param){ .name = copy, .rows = rows, .cols = cols, .group = group };
    params->items[params->n++] = item;
    *out = item;
done:
    return st;
}

static uint64_t item_bytes(const struct at_param *item)
{
    return at_round_up(at_tensor_bytes(item->rows, item->cols), 256);
}

/* The group in whose parts a group lies: lora_B with the other matrices when nothing tells them
 * apart. */
static enum at_param_group lies_with(const struct at_param_rates *rates, enum at_param_group group)
{
    const struct at_param_rates *B = &rates[AT_PARAM_LORA_B], *matrix = &rates[AT_PARAM_MATRIX];

    if (group == AT_PARAM_LORA_B && B->rate == matrix->rate &&
        B->weight_decay == matrix->weight_decay)
        return AT_PARAM_MATRIX;
    return group;
}

/* Gives every item of this group's parts a place; parts[] counts bytes in .n until the plan ends.
 */
static AT_CHECKED place(struct at_params *params, enum at_param_group group,
                        const struct at_param_rates *rates)
{
    enum at_status st = AT_OK;
    bool open = false;

    for (size_t i = 0; i < params->n; i++) {
        struct at_param *item = params->items[i];
        const uint64_t bytes = item_bytes(item);
        if (lies_with(rates, item->group) != group)
            continue;
        if (bytes > params->part_bytes)
            FAIL(AT_DEVICE_MEMORY,
                 "%s: a trainable tensor of %llu bytes is larger than what the device binds at "
                 "once (%llu bytes)",
                 item->name, (unsigned long long)bytes, (unsigned long long)params->part_bytes);
        if (!open || params->parts[params->n_parts - 1].n + bytes > params->part_bytes) {
            params->parts[params->n_parts++] =
                (struct at_arena_part){ .weight_decay = rates[group].weight_decay,
                                        .rate = rates[group].rate };
            open = true;
        }
        item->part = (uint32_t)(params->n_parts - 1);
        item->offset = params->parts[item->part].n;
        params->parts[item->part].n += bytes;
    }
done:
    return st;
}

AT_CHECKED at_params_plan(struct at_params *params, struct at_pool *state,
                          const struct at_param_rates rates[AT_PARAM_GROUPS])
{
    static const char *const what[4] = { "trainable values", "gradients", "first moments",
                                         "second moments" };
    static const struct at_param_rates plain[AT_PARAM_GROUPS] = { { 0, 1 }, { 0, 1 }, { 0, 1 } };
    enum at_status st = AT_OK;

    rates = rates ? rates : plain;
    TRY(at_arena_alloc(&params->arena, &params->parts, params->n + 1, sizeof *params->parts));
    TRY(place(params, AT_PARAM_MATRIX, rates));
    TRY(place(params, AT_PARAM_LORA_B, rates));
    TRY(place(params, AT_PARAM_VECTOR, rates));
    TRY(at_arena_alloc(&params->arena, &params->views, 4 * params->n_parts + 1,
                       sizeof *params->views));
    for (size_t i = 0; i < params->n_parts; i++) {
        for (size_t k = 0; k < 4; k++)
            at_pool_reserve(state, &params->views[4 * i + k], params->parts[i].n, what[k]);
        params->parts[i].n /= sizeof(float);
    }
    at_pool_reserve(state, &params->norm, 8 * sizeof(float), "gradient norm");
    at_pool_reserve(state, &params->scratch,
                    at_grad_norm_scratch_bytes(params->parts, params->n_parts), "gradient norm");
done:
    return st;
}

void at_params_bind(struct at_params *params)
{
    for (size_t i = 0; i < params->n_parts; i++) {
        struct at_arena_part *part = &params->parts[i];
        const uint64_t bytes = part->n * sizeof(float);
        part->p = at_view_part(params->views[4 * i], 0, bytes);
        part->g = at_view_part(params->views[4 * i + 1], 0, bytes);
        part->m = at_view_part(params->views[4 * i + 2], 0, bytes);
        part->v = at_view_part(params->views[4 * i + 3], 0, bytes);
    }
    for (size_t i = 0; i < params->n; i++) {
        struct at_param *item = params->items[i];
        const struct at_arena_part *part = &params->parts[item->part];
        const uint64_t bytes = at_tensor_bytes(item->rows, item->cols);
        item->p =
            at_tensor_make(at_view_part(part->p, item->offset, bytes), item->rows, item->cols);
        item->g =
            at_tensor_make(at_view_part(part->g, item->offset, bytes), item->rows, item->cols);
    }
}

void at_params_release(struct at_params *params)
{
    at_free(&params->items);
    at_arena_release(&params->arena);
    *params = (struct at_params){ 0 };
}

uint64_t at_params_count(const struct at_params *params)
{
    uint64_t n = 0;

    for (size_t i = 0; i < params->n; i++)
        n += (uint64_t)params->items[i]->rows * params->items[i]->cols;
    return n;
}

void at_params_step(struct at_stream *s, struct at_params *params, const struct at_adamw *adamw,
                    float max_norm, float *norm_out)
{
    params->changes++;
    at_grad_norm(s, params->norm, params->scratch, params->parts, params->n_parts, max_norm);
    for (size_t i = 0; i < params->n_parts; i++)
        at_adamw_step(s, &params->parts[i], params->norm, adamw);
    at_stream_download(s, norm_out, params->norm, 8 * sizeof(float));
}

AT_CHECKED at_params_restart(struct at_gpu *gpu, struct at_params *params)
{
    struct at_stream *s = at_gpu_transfer(gpu);

    params->changes++;
    for (size_t i = 0; i < params->n_parts; i++) {
        at_stream_fill(s, params->parts[i].g, 0);
        at_stream_fill(s, params->parts[i].m, 0);
        at_stream_fill(s, params->parts[i].v, 0);
    }
    return at_stream_wait(s);
}

uint64_t at_params_bytes(const struct at_params *params)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < params->n_parts; i++)
        bytes += params->parts[i].n * sizeof(float);
    return bytes;
}

AT_CHECKED at_params_read(struct at_gpu *gpu, const struct at_params *params, float *p, float *m,
                          float *v)
{
    enum at_status st = AT_OK;
    size_t at = 0;

    for (size_t i = 0; i < params->n_parts; i++) {
        const struct at_arena_part *part = &params->parts[i];
        TRY(at_gpu_read(gpu, p + at, part->p, part->n * sizeof(float)));
        TRY(at_gpu_read(gpu, m + at, part->m, part->n * sizeof(float)));
        TRY(at_gpu_read(gpu, v + at, part->v, part->n * sizeof(float)));
        at += part->n;
    }
done:
    return st;
}

AT_CHECKED at_params_write(struct at_gpu *gpu, struct at_params *params, const float *p,
                           const float *m, const float *v)
{
    enum at_status st = AT_OK;
    size_t at = 0;

    params->changes++;
    for (size_t i = 0; i < params->n_parts; i++) {
        const struct at_arena_part *part = &params->parts[i];
        TRY(at_gpu_write(gpu, part->p, p + at, part->n * sizeof(float)));
        TRY(at_gpu_write(gpu, part->m, m + at, part->n * sizeof(float)));
        TRY(at_gpu_write(gpu, part->v, v + at, part->n * sizeof(float)));
        at += part->n;
    }
done:
    return st;
}
