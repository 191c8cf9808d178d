/* File blocks to device planes (layouts: quant.h, blocks: ggml-common.h), and plain values to f32.
 */
#include "weights_file.h"

#include <string.h>

enum { UPLOAD_PIECE_BYTES = 1 << 24, UPLOAD_TASKS = 64 };

static uint16_t get_half(const uint8_t *bytes)
{
    uint16_t h = 0;

    memcpy(&h, bytes, sizeof h);
    return h;
}

/* Exact: every half is a float. */
static float widen_half(uint16_t h)
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

/* ---- one row of each type; n blocks ---- */

static void row_q8_0(uint8_t *quants, uint8_t *scales, const uint8_t *block, uint64_t n)
{
    for (uint64_t b = 0; b < n; b++, block += 34) {
        memcpy(scales + 2 * b, block, 2);
        memcpy(quants + 32 * b, block + 2, 32);
    }
}

/* In the file byte j holds columns j (low nibble) and j + 16; in the plane columns go up by
 * nibbles. */
static void nibbles(uint8_t *out, const uint8_t *in)
{
    for (uint32_t j = 0; j < 8; j++) {
        out[j] = (uint8_t)((in[2 * j] & 15) | in[2 * j + 1] << 4);
        out[j + 8] = (uint8_t)(in[2 * j] >> 4 | (in[2 * j + 1] & 0xf0));
    }
}

static void row_q4_0(uint8_t *quants, uint8_t *scales, const uint8_t *block, uint64_t n)
{
    for (uint64_t b = 0; b < n; b++, block += 18) {
        memcpy(scales + 2 * b, block, 2);
        nibbles(quants + 16 * b, block + 2);
    }
}

static void row_q4_1(uint8_t *quants, uint8_t *scales, const uint8_t *block, uint64_t n)
{
    for (uint64_t b = 0; b < n; b++, block += 20) {
        memcpy(scales + 4 * b, block, 4);
        nibbles(quants + 16 * b, block + 4);
    }
}

/* Low four bits in ql[128], high two in qh[64], 16 scales, d. */
static void row_q6_k(uint8_t *quants, uint8_t *scales, const uint8_t *block, uint64_t n)
{
    for (uint64_t b = 0; b < n; b++, block += 210, quants += 256) {
        const float d = widen_half(get_half(block + 208));
        for (uint32_t half = 0; half < 2; half++) {
            const uint8_t *ql = block + 64 * half, *qh = block + 128 + 32 * half;
            uint8_t *out = quants + 128 * half;
            for (uint32_t i = 0; i < 32; i++) {
                out[i] = (uint8_t)((ql[i] & 15) | (qh[i] & 3) << 4);
                out[i + 32] = (uint8_t)((ql[i + 32] & 15) | (qh[i] >> 2 & 3) << 4);
                out[i + 64] = (uint8_t)(ql[i] >> 4 | (qh[i] >> 4 & 3) << 4);
                out[i + 96] = (uint8_t)(ql[i + 32] >> 4 | (qh[i] >> 6) << 4);
            }
        }
        for (uint32_t i = 0; i < 16; i++) {
            const float scale = d * (float)(int8_t)block[192 + i];
            memcpy(scales + 4 * (16 * b + i), &scale, sizeof scale);
        }
    }
}

static uint8_t *present(uint8_t *plane)
{
    AT_REQUIRE(plane);
    return plane;
}

static void repack_row(uint8_t *plane0, uint8_t *plane1, const struct at_source *s,
                       const uint8_t *row)
{
    const uint64_t n = s->cols / at_quant_get(s->type)->block_cols;

    switch (s->type) {
    case AT_F32:
    case AT_F16:
    case AT_BF16:
        memcpy(plane0, row, s->row_bytes);
        return;
    case AT_Q8_0:
        row_q8_0(plane0, present(plane1), row, n);
        return;
    case AT_Q4_0:
        row_q4_0(plane0, present(plane1), row, n);
        return;
    case AT_Q4_1:
        row_q4_1(plane0, present(plane1), row, n);
        return;
    case AT_Q6_K:
        row_q6_k(plane0, present(plane1), row, n);
        return;
    case AT_QUANT_COUNT:
        break;
    }
    AT_BUG("%s: type %s has no planes", s->name, s->type_name);
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
        repack_row(plane0 + i * stride0, stride1 > 0 ? plane1 + i * stride1 : NULL, source,
                   source->data + row * source->row_bytes);
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
    enum at_status st = AT_OK;
    uint64_t rows = 0, row_bytes = 0;

    AT_REQUIRE(weight.type == source->type && weight.rows == source->rows &&
               weight.cols == source->cols);
    for (uint32_t i = 0; i < n_planes; i++) {
        p.stride[i] = at_quant_row_bytes(weight.type, i, weight.cols);
        row_bytes += p.stride[i];
    }
    AT_REQUIRE(row_bytes > 0);
    rows = UPLOAD_PIECE_BYTES / row_bytes + 1;
    rows = rows < weight.rows ? rows : weight.rows;
    for (uint32_t i = 0; i < n_planes; i++)
        TRY(at_alloc(&p.plane[i], rows, p.stride[i]));
    for (p.begin = 0; p.begin < weight.rows; p.begin += p.n) {
        const uint64_t left = weight.rows - p.begin;
        p.n = left < rows ? left : rows;
        p.rows_a_task = at_div_up(p.n, UPLOAD_TASKS);
        at_parallel_for(at_div_up(p.n, p.rows_a_task), repack_task, &p);
        /* A row order stays close, and a page that is needed again comes back. */
        at_map_drop(source->map, (size_t)(source->data - source->map->data),
                    (p.begin + p.n) * source->row_bytes);
        for (uint32_t i = 0; i < n_planes; i++)
            TRY(at_gpu_write(
                gpu, at_view_part(weight.plane[i], p.begin * p.stride[i], p.n * p.stride[i]),
                p.plane[i], p.n * p.stride[i]));
    }
done:
    at_free(&p.plane[0]);
    at_free(&p.plane[1]);
    return st;
}

AT_CHECKED at_source_floats(float *out, const struct at_source *source)
{
    const uint64_t n = source->rows * source->cols;

    switch (source->type) {
    case AT_F32:
        if (n > 0)
            memcpy(out, source->data, n * sizeof *out);
        return AT_OK;
    case AT_F16:
        for (uint64_t i = 0; i < n; i++)
            out[i] = widen_half(get_half(source->data + 2 * i));
        return AT_OK;
    case AT_BF16:
        for (uint64_t i = 0; i < n; i++)
            out[i] = widen_bf16(get_half(source->data + 2 * i));
        return AT_OK;
    default:
        return at_fail(AT_DATA, "%s: tensor %s is %s; F32, F16 or BF16 is needed here",
                       source->file, source->name, source->type_name);
    }
}
