/* Rows of floats to the bytes of files: plain types rounded to nearest even, and the quantised
 * blocks of ggml's reference quantisers (quantize_row_*_ref of ggml-quants.c), bit for bit. */
#include "weights_file.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 32 };

uint16_t at_narrow_half(float x)
{
    uint32_t bits = 0, magnitude = 0;
    uint16_t sign = 0;

    memcpy(&bits, &x, sizeof bits);
    magnitude = bits & 0x7fffffff;
    sign = (uint16_t)(bits >> 16 & 0x8000);
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x477ff000) /* 65520 and more */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) /* below 2^-14: steps of 2^-24 */
        return (uint16_t)(sign | (uint16_t)nearbyintf(ldexpf(fabsf(x), 24)));
    magnitude += 0xfff + (magnitude >> 13 & 1); /* to even, at 13 bits less */
    return (uint16_t)(sign | (uint16_t)((magnitude - 0x38000000) >> 13));
}

static void put_half(uint8_t *out, uint16_t half)
{
    out[0] = (uint8_t)half;
    out[1] = (uint8_t)(half >> 8);
}

/* False: it is too large for a half. */
static bool put_scale(uint8_t *out, float x)
{
    const uint16_t half = at_narrow_half(x);

    put_half(out, half);
    return (half & 0x7fff) < 0x7c00;
}

/* ---- plain types ---- */

static bool encode_f32(uint8_t *out, const float *x)
{
    memcpy(out, x, sizeof *x);
    return true;
}

static bool encode_f16(uint8_t *out, const float *x)
{
    return put_scale(out, *x);
}

static bool encode_bf16(uint8_t *out, const float *x)
{
    uint32_t bits = 0;

    memcpy(&bits, x, sizeof bits);
    bits += 0x7fff + (bits >> 16 & 1);
    put_half(out, (uint16_t)(bits >> 16));
    return (bits & 0x7fffffff) < 0x7f800000;
}

/* ---- blocks of 32 ---- */

/* The value of largest magnitude, the first one of several. */
static float extreme(const float *x)
{
    float most = x[0];

    for (uint32_t i = 1; i < BLOCK; i++)
        most = fabsf(x[i]) > fabsf(most) ? x[i] : most;
    return most;
}

static float inverse(float d)
{
    return d != 0 && isfinite(1 / d) ? 1 / d : 0;
}

static bool encode_q8_0(uint8_t *out, const float *x)
{
    const float d = fabsf(extreme(x)) / 127, id = inverse(d);

    for (uint32_t i = 0; i < BLOCK; i++)
        out[2 + i] = (uint8_t)(int8_t)roundf(x[i] * id);
    return put_scale(out, d);
}

/* Codes of `levels` values: where `high`, their fifth bits; then nibbles, value i beside i + 16. */
static void put_codes(uint8_t *out, const float *x, float least, float id, float round,
                      uint32_t levels, bool high)
{
    uint8_t *nibbles = high ? out + 4 : out;
    uint32_t fifth = 0;

    for (uint32_t i = 0; i < BLOCK; i++) {
        const uint32_t whole = (uint32_t)((x[i] - least) * id + round);
        const uint32_t code = whole < levels ? whole : levels - 1;
        if (i < BLOCK / 2)
            nibbles[i] = (uint8_t)(code & 15);
        else
            nibbles[i - BLOCK / 2] |= (uint8_t)((code & 15) << 4);
        fifth |= (code >> 4) << i;
    }
    for (uint32_t i = 0; high && i < 4; i++)
        out[i] = (uint8_t)(fifth >> 8 * i);
}

/* d (q - levels / 2): the value of largest magnitude is the code 0. */
static bool encode_centred(uint8_t *out, const float *x, uint32_t levels)
{
    const float half = (float)levels / 2, d = extreme(x) / -half;

    put_codes(out + 2, x, 0, inverse(d), half + 0.5f, levels, levels > 16);
    return put_scale(out, d);
}

/* d q + m */
static bool encode_ranged(uint8_t *out, const float *x, uint32_t levels)
{
    float least = x[0], most = x[0], d = 0;

    for (uint32_t i = 1; i < BLOCK; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    d = (most - least) / (float)(levels - 1);
    put_codes(out + 4, x, least, inverse(d), 0.5f, levels, levels > 16);
    const bool fits = put_scale(out, d);

    return put_scale(out + 2, least) && fits;
}

static bool encode_q4_0(uint8_t *out, const float *x)
{
    return encode_centred(out, x, 16);
}

static bool encode_q4_1(uint8_t *out, const float *x)
{
    return encode_ranged(out, x, 16);
}

static bool encode_q5_0(uint8_t *out, const float *x)
{
    return encode_centred(out, x, 32);
}

static bool encode_q5_1(uint8_t *out, const float *x)
{
    return encode_ranged(out, x, 32);
}

/* ---- and back ---- */

static void decode_plain(float *x, const uint8_t *b, bool bf16)
{
    const uint16_t half = at_get_half(b);
    const uint32_t bits = (uint32_t)half << 16;

    if (bf16)
        memcpy(x, &bits, sizeof *x);
    else
        *x = at_widen_half(half);
}

static void decode_f32(float *x, const uint8_t *b)
{
    memcpy(x, b, sizeof *x);
}

static void decode_f16(float *x, const uint8_t *b)
{
    decode_plain(x, b, false);
}

static void decode_bf16(float *x, const uint8_t *b)
{
    decode_plain(x, b, true);
}

static void decode_q8_0(float *x, const uint8_t *b)
{
    const float d = at_widen_half(at_get_half(b));

    for (uint32_t i = 0; i < BLOCK; i++)
        x[i] = d * (float)(int8_t)b[2 + i];
}

/* d (q - levels / 2), or d q + m. */
static void decode_codes(float *x, const uint8_t *b, uint32_t levels, bool ranged)
{
    const float d = at_widen_half(at_get_half(b));
    const float m = ranged ? at_widen_half(at_get_half(b + 2)) : 0;
    const float zero = ranged ? 0 : (float)levels / 2;
    const uint8_t *high = b + (ranged ? 4 : 2), *nibbles = levels > 16 ? high + 4 : high;

    for (uint32_t i = 0; i < BLOCK; i++) {
        const uint32_t low = nibbles[i % (BLOCK / 2)] >> (i < BLOCK / 2 ? 0 : 4) & 15;
        const uint32_t fifth = levels > 16 ? (uint32_t)high[i / 8] >> i % 8 & 1u : 0;
        x[i] = d * ((float)(low | fifth << 4) - zero) + m;
    }
}

static void decode_q4_0(float *x, const uint8_t *b)
{
    decode_codes(x, b, 16, false);
}

static void decode_q4_1(float *x, const uint8_t *b)
{
    decode_codes(x, b, 16, true);
}

static void decode_q5_0(float *x, const uint8_t *b)
{
    decode_codes(x, b, 32, false);
}

static void decode_q5_1(float *x, const uint8_t *b)
{
    decode_codes(x, b, 32, true);
}

/* ---- the table ---- */

/* A block of values; false: its scale is beyond the type. */
static const struct {
    const char *name;
    bool (*block)(uint8_t *out, const float *x);
    void (*decode)(float *x, const uint8_t *bytes);
} encoders[] = {
    { "BF16", encode_bf16, decode_bf16 }, { "F16", encode_f16, decode_f16 },
    { "F32", encode_f32, decode_f32 },    { "Q4_0", encode_q4_0, decode_q4_0 },
    { "Q4_1", encode_q4_1, decode_q4_1 }, { "Q5_0", encode_q5_0, decode_q5_0 },
    { "Q5_1", encode_q5_1, decode_q5_1 }, { "Q8_0", encode_q8_0, decode_q8_0 },
};

static size_t find(const struct at_format *format)
{
    size_t i = 0;

    while (i < AT_COUNT(encoders) && strcmp(encoders[i].name, format->name) != 0)
        i++;
    return i;
}

bool at_format_is_written(const struct at_format *format)
{
    return find(format) < AT_COUNT(encoders);
}

AT_CHECKED at_format_encode(uint8_t *out, const struct at_format *format, const float *values,
                            uint64_t n, const char *name)
{
    enum at_status st = AT_OK;
    const size_t i = find(format);

    AT_REQUIRE(i < AT_COUNT(encoders) && n % format->block_cols == 0);
    TRY(at_check_finite(name, values, n));
    for (uint64_t b = 0; b < n / format->block_cols; b++)
        if (!encoders[i].block(out + b * format->block_bytes, values + b * format->block_cols))
            FAIL(AT_NUMERIC, "tensor %s holds values that are too large for %s", name,
                 format->name);
done:
    return st;
}

double at_format_rounding(const struct at_format *format, const uint8_t *bytes, const float *values,
                          uint64_t n)
{
    const size_t i = find(format);
    float back[BLOCK];
    double sum = 0;

    AT_REQUIRE(i < AT_COUNT(encoders) && format->block_cols <= BLOCK &&
               n % format->block_cols == 0);
    for (uint64_t at = 0; at < n; at += format->block_cols) {
        encoders[i].decode(back, bytes + at / format->block_cols * format->block_bytes);
        for (uint32_t k = 0; k < format->block_cols; k++) {
            const double d = (double)back[k] - (double)values[at + k];
            sum += d * d;
        }
    }
    return sum;
}
