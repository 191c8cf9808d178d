/* What is left of values in the blocks of files, by the planes that the device has of them (layouts
 * and formulas: quant.h). */
#include "weights_file.h"

#include <string.h>

#include "codes.h"

enum { MOST_COLS = 256, MOST_SCALES_BYTES = 32, PIECES = 64 };
static const float iq4[16] = { CODES_IQ4 };

/* Code i of plane 0; 3 and 5 bits lie in runs of 128 codes, whose highest bits come last. */
static uint32_t code_of(const uint8_t *plane, uint32_t bits, uint32_t i)
{
    const uint32_t low = bits == 3 || bits == 5 ? bits - 1 : bits, at = i % 128 * low;
    const uint8_t *run = plane + i / 128 * 16 * bits;
    const uint32_t code = run[at / 8] >> at % 8 & ((1u << low) - 1);

    return bits == low ? code : code | (run[16 * low + i % 128 / 8] >> i % 8 & 1u) << low;
}

static uint32_t bits_of(enum at_quant_type type)
{
    switch (type) {
    case AT_Q2_K:
        return 2;
    case AT_Q3_K:
        return 3;
    case AT_Q5_0:
    case AT_Q5_1:
    case AT_Q5_K:
        return 5;
    case AT_Q6_K:
    case AT_Q8_0:
        return 8;
    default:
        return 4;
    }
}

/* d and m: the first two halves of the scales. */
static float value_of(enum at_quant_type type, uint32_t code, const uint8_t *scales, float d,
                      float m, uint32_t i)
{
    const uint8_t *super = scales + 4, *small = super + i / 16, *wide = super + i / 32 * 2;
    const float q = (float)code;
    float x = 0;

    switch (type) {
    case AT_Q8_0:
        return d * (float)(int8_t)code;
    case AT_Q4_0:
        return d * (q - 8);
    case AT_Q5_0:
        return d * (q - 16);
    case AT_Q4_1:
    case AT_Q5_1:
        return d * q + m;
    case AT_Q2_K:
        return d * (float)(*small & 15) * q - m * (float)(*small >> 4);
    case AT_Q3_K:
        return d * (float)(int8_t)*small * (q - 4);
    case AT_Q4_K:
    case AT_Q5_K:
        return d * (float)wide[0] * q - m * (float)wide[1];
    case AT_Q6_K:
        return d * (float)(int8_t)*small * (q - 32);
    case AT_IQ4:
        memcpy(&x, scales + i / 32 * sizeof x, sizeof x);
        return x * iq4[code];
    default:
        AT_BUG("a type without codes");
    }
}

static float plain_value(enum at_quant_type type, const uint8_t *bytes)
{
    const uint32_t high = type == AT_F32 ? 0 : (uint32_t)at_get_half(bytes) << 16;
    float x = 0;

    if (type == AT_F16)
        return at_widen_half(at_get_half(bytes));
    memcpy(&x, type == AT_F32 ? (const void *)bytes : &high, sizeof x);
    return x;
}

static void block_values(float *out, const struct at_format *f, const uint8_t *bytes)
{
    uint8_t codes[MOST_COLS] = { 0 }, scales[MOST_SCALES_BYTES] = { 0 };
    const uint32_t bits = bits_of(f->type);

    if (!f->repack) {
        *out = plain_value(f->type, bytes);
        return;
    }
    f->repack(codes, scales, bytes, 1);
    const float d = at_widen_half(at_get_half(scales)), m = at_widen_half(at_get_half(scales + 2));

    for (uint32_t i = 0; i < f->block_cols; i++)
        out[i] = value_of(f->type, code_of(codes, bits, i), scales, d, m, i);
}

struct rounding {
    const struct at_format *format;
    const uint8_t *bytes;
    const float *values;
    uint64_t n; /* blocks */
    double sum[PIECES];
};

static void sum_piece(void *context, size_t piece)
{
    struct rounding *r = context;
    const struct at_format *f = r->format;
    const uint64_t each = at_div_up(r->n, PIECES), end = each * (piece + 1);
    float back[MOST_COLS] = { 0 };
    double sum = 0;

    for (uint64_t b = each * piece; b < end && b < r->n; b++) {
        block_values(back, f, r->bytes + b * f->block_bytes);
        for (uint32_t i = 0; i < f->block_cols; i++) {
            const double d = (double)back[i] - (double)r->values[b * f->block_cols + i];
            sum += d * d;
        }
    }
    r->sum[piece] = sum;
}

double at_format_rounding(const struct at_format *format, const uint8_t *bytes, const float *values,
                          uint64_t n)
{
    struct rounding r = {
        .format = format, .bytes = bytes, .values = values, .n = n / format->block_cols
    };
    double sum = 0;

    AT_REQUIRE(format->block_cols <= MOST_COLS && n % format->block_cols == 0);
    at_parallel_for(PIECES, sum_piece, &r);
    for (size_t i = 0; i < PIECES; i++)
        sum += r.sum[i];
    return sum;
}
