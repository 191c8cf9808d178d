/* Tensors of files to device planes, and plain values to f32. */
#include "weights_file.h"

#include <string.h>

enum { UPLOAD_TASK_BYTES = 1 << 16 }; /* of planes */

uint16_t at_get_half(const uint8_t *bytes)
{
    uint16_t h = 0;

    memcpy(&h, bytes, sizeof h);
    return h;
}

float at_widen_half(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31;
    uint32_t mantissa = h & 1023, bits = 0;
    float value = 0;

    if (exponent == 31) {
        bits = sign | 0x7f800000 | mantissa << 13;
    } else if (exponent > 0) {
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    } else if (mantissa > 0) {
        uint32_t shift = 0;
        while (!(mantissa & 1024)) {
            mantissa <<= 1;
            shift++;
        }
        bits = sign | (113 - shift) << 23 | (mantissa & 1023) << 13;
    } else {
        bits = sign;
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float widen_bf16(uint16_t h)
{
    const uint32_t bits = (uint32_t)h << 16;
    float value = 0;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint8_t *present(uint8_t *plane)
{
    AT_REQUIRE(plane);
    return plane;
}

static void repack_row(uint8_t *plane0, uint8_t *plane1, const struct at_source *s, uint64_t row)
{
    const uint8_t *data = s->data + row * s->row_bytes;

    if (s->repack) {
        s->repack(plane0, present(plane1), s, row);
        return;
    }
    AT_REQUIRE(s->format && s->format->type == s->type);
    if (s->format->repack)
        s->format->repack(plane0, present(plane1), data, s->cols / s->format->block_cols);
    else
        memcpy(plane0, data, s->row_bytes);
}

void at_repack_rows(uint8_t *plane0, uint8_t *plane1, const struct at_source *source,
                    uint64_t begin, uint64_t n, at_row_order *row_of, const void *context)
{
    const uint64_t stride0 = at_quant_row_bytes(source->type, 0, (uint32_t)source->cols);
    const uint64_t stride1 = at_quant_get(source->type)->n_planes > 1
                                 ? at_quant_row_bytes(source->type, 1, (uint32_t)source->cols)
                                 : 0;

    if (n > 0) {
        memset(plane0, 0, n * stride0);
        if (stride1 > 0)
            memset(present(plane1), 0, n * stride1);
    }
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t row = row_of ? row_of(context, begin + i) : begin + i;
        AT_REQUIRE(row < source->rows);
        repack_row(plane0 + i * stride0, stride1 > 0 ? plane1 + i * stride1 : NULL, source, row);
    }
}

/* ---- upload ---- */

struct piece {
    uint8_t *plane[2];
    uint64_t stride[2], begin, n, rows_a_task;
    const struct at_source *source;
    at_row_order *row_of;
    const void *context;
};

static void repack_task(void *context, size_t task)
{
    const struct piece *p = context;
    const uint64_t first = task * p->rows_a_task;
    const uint64_t left = first < p->n ? p->n - first : 0;

    at_repack_rows(p->plane[0] + first * p->stride[0],
                   p->plane[1] ? p->plane[1] + first * p->stride[1] : NULL, p->source,
                   p->begin + first, left < p->rows_a_task ? left : p->rows_a_task, p->row_of,
                   p->context);
}

AT_CHECKED at_weight_upload(struct at_gpu *gpu, struct at_weight weight,
                            const struct at_source *source, at_row_order *row_of,
                            const void *context)
{
    struct piece p = { .source = source, .row_of = row_of, .context = context };
    const uint32_t n_planes = at_quant_get(weight.type)->n_planes;
    struct at_view part[AT_COUNT(p.plane)];
    enum at_status st = AT_OK;
    uint64_t row_bytes = 0, rows = 0, last = 0;

    AT_REQUIRE(weight.type == source->type && weight.cols == source->cols &&
               (weight.rows == source->rows || (row_of && weight.rows < source->rows)));
    for (uint32_t i = 0; i < n_planes; i++) {
        p.stride[i] = at_quant_row_bytes(weight.type, i, weight.cols);
        row_bytes += p.stride[i];
    }
    AT_REQUIRE(row_bytes > 0 && row_bytes <= AT_STAGE_BYTES);
    rows = AT_STAGE_BYTES / row_bytes;
    TRY(at_quantise_begin(source));
    for (p.begin = 0; p.begin < weight.rows; p.begin += p.n) {
        const uint64_t left = weight.rows - p.begin;
        p.n = left < rows ? left : rows;
        p.rows_a_task = at_div_up(UPLOAD_TASK_BYTES, row_bytes);
        for (uint32_t i = 0; i < n_planes; i++) {
            part[i] = at_view_part(weight.plane[i], p.begin * p.stride[i], p.n * p.stride[i]);
            p.plane[i] = at_view_bytes(part[i]);
        }
        if (!p.plane[0] && !at_stream_stage(at_gpu_transfer(gpu), p.plane, part, n_planes))
            break; /* at_stream_wait() has the error */
        at_parallel_for(at_div_up(p.n, p.rows_a_task), repack_task, &p);
        /* A row order stays close, and a page that is needed again comes back. */
        last = row_of ? row_of(context, p.begin + p.n - 1) : p.begin + p.n - 1;
        at_map_drop(source->map, (size_t)(source->data - source->map->data),
                    (last + 1) * source->row_bytes);
    }
    TRY(at_quantise_end(source));
done:
    return st;
}

/* n values of a plain source from value `begin` on. */
static AT_CHECKED widen(float *out, const struct at_source *source, uint64_t begin, uint64_t n)
{
    const uint8_t *data = source->data;

    switch (source->type) {
    case AT_F32:
        if (n > 0)
            memcpy(out, data + 4 * begin, n * sizeof *out);
        return AT_OK;
    case AT_F16:
        for (uint64_t i = 0; i < n; i++)
            out[i] = at_widen_half(at_get_half(data + 2 * (begin + i)));
        return AT_OK;
    case AT_BF16:
        for (uint64_t i = 0; i < n; i++)
            out[i] = widen_bf16(at_get_half(data + 2 * (begin + i)));
        return AT_OK;
    default:
        return at_fail(AT_DATA, "%s: tensor %s is %s; F32, F16 or BF16 is needed here",
                       source->file, source->name, source->type_name);
    }
}

AT_CHECKED at_source_floats(float *out, const struct at_source *source)
{
    return widen(out, source, 0, source->rows * source->cols);
}

AT_CHECKED at_source_row(float *out, const struct at_source *source, uint64_t row)
{
    AT_REQUIRE(row < source->rows);
    return widen(out, source, row * source->cols, source->cols);
}
