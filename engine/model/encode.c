/* Rows of floats to the bytes of files: plain types rounded to nearest even, and the quantised
 * blocks of ggml's reference quantisers (quantize_row_*_ref of ggml-quants.c), bit for bit. */
#include "encode_blocks.h"

#include <math.h>
#include <string.h>

#include "weights_file.h"

enum { BLOCK = 32, PIECES = 64 };

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

bool at_put_scale(uint8_t *out, float x)
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
    return at_put_scale(out, *x);
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
    return at_put_scale(out, d);
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
    return at_put_scale(out, d);
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
    const bool fits = at_put_scale(out, d);

    return at_put_scale(out + 2, least) && fits;
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

/* ---- the table ---- */

/* A block of values; false: its scale is beyond the type. `fallback`: llama.cpp's for rows that are
 * not whole blocks. */
static const struct {
    const char *name;
    bool (*block)(uint8_t *out, const float *x);
    const char *fallback;
} encoders[] = {
    { "BF16", encode_bf16, NULL },
    { "F16", encode_f16, NULL },
    { "F32", encode_f32, NULL },
    { "IQ4_NL", at_encode_iq4_nl, "F16" },
    { "IQ4_XS", at_encode_iq4_xs, "IQ4_NL" },
    { "Q2_K", at_encode_q2_k, "Q4_0" },
    { "Q3_K", at_encode_q3_k, "Q4_0" },
    { "Q4_0", encode_q4_0, "F16" },
    { "Q4_1", encode_q4_1, "F16" },
    { "Q4_K", at_encode_q4_k, "Q5_0" },
    { "Q5_0", encode_q5_0, "F16" },
    { "Q5_1", encode_q5_1, "F16" },
    { "Q5_K", at_encode_q5_k, "Q5_1" },
    { "Q6_K", at_encode_q6_k, "Q8_0" },
    { "Q8_0", encode_q8_0, "F16" },
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

const struct at_format *at_format_for_rows(const struct at_format *format, uint64_t cols)
{
    const struct at_format *f = format;

    while (cols % f->block_cols != 0)
        f = at_format_find(encoders[find(f)].fallback);
    return f;
}

bool at_format_encode_block(uint8_t *out, const struct at_format *format, const float *x)
{
    return encoders[find(format)].block(out, x);
}

struct encoding {
    uint8_t *out;
    const struct at_format *format;
    const float *values;
    uint64_t n; /* blocks */
    size_t encoder;
    bool fits[PIECES];
};

static void encode_piece(void *context, size_t piece)
{
    struct encoding *e = context;
    const struct at_format *f = e->format;
    const uint64_t each = at_div_up(e->n, PIECES), end = each * (piece + 1);
    bool fits = true;

    for (uint64_t b = each * piece; b < end && b < e->n; b++)
        fits &=
            encoders[e->encoder].block(e->out + b * f->block_bytes, e->values + b * f->block_cols);
    e->fits[piece] = fits;
}

AT_CHECKED at_format_encode(uint8_t *out, const struct at_format *format, const float *values,
                            uint64_t n, const char *name)
{
    enum at_status st = AT_OK;
    struct encoding e = {
        .format = format, .values = values, .n = n / format->block_cols, .encoder = find(format)
    };

    e.out = out;
    AT_REQUIRE(e.encoder < AT_COUNT(encoders) && n % format->block_cols == 0);
    TRY(at_check_finite(name, values, n));
    at_parallel_for(PIECES, encode_piece, &e);
    for (size_t i = 0; i < PIECES; i++)
        if (!e.fits[i])
            FAIL(AT_NUMERIC, "tensor %s holds values that are too large for %s", name,
                 format->name);
done:
    return st;
}
