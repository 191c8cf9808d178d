/* What is left of values in the blocks of files, and other codes for them, by the planes that the
 * device has of blocks (layouts and formulas: quant.h). */
#include "weights_file.h"

#include <math.h>
#include <string.h>

#include "codes.h"
#include "rng.h"

enum { MOST_COLS = AT_MOST_BLOCK_COLS, MOST_BYTES = 256, MOST_SCALES_BYTES = 32, PIECES = 64 };
static const float iq4[16] = { CODES_IQ4 };

/* Code i of plane 0; 3 and 5 bits lie in runs of 128 codes, whose highest bits come last. */
static uint32_t code_of(const uint8_t *plane, uint32_t bits, uint32_t i)
{
    const uint32_t low = bits == 3 || bits == 5 ? bits - 1 : bits, at = i % 128 * low;
    const uint8_t *run = plane + i / 128 * 16 * bits;
    const uint32_t code = run[at / 8] >> at % 8 & ((1u << low) - 1);

    return bits == low ? code : code | ((uint32_t)run[16 * low + i % 128 / 8] >> i % 8 & 1) << low;
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

/* ---- other codes ---- */

/* Bits of plane 0: repacking a code moves its bits and changes none. */
enum { NOWHERE = UINT16_MAX };

void at_code_places_find(struct at_code_places *out, const struct at_format *f)
{
    AT_REQUIRE(f->repack && f->block_cols <= MOST_COLS && f->block_bytes <= MOST_BYTES);
    memset(out->of, 0xff, sizeof out->of);
    out->end = 0;
    for (uint32_t bit = 0; bit < 8 * f->block_bytes; bit++) {
        uint8_t block[MOST_BYTES] = { 0 }, codes[MOST_COLS] = { 0 };
        uint8_t scales[MOST_SCALES_BYTES] = { 0 };
        block[bit / 8] = (uint8_t)(1u << bit % 8);
        f->repack(codes, scales, block, 1);
        for (uint32_t i = 0; i < 8 * MOST_COLS; i++)
            if (codes[i / 8] >> i % 8 & 1) {
                out->of[i] = (uint16_t)bit;
                out->end = i >= out->end ? i + 1 : out->end;
            }
    }
}

static void set_code(uint8_t *plane, uint32_t bits, uint32_t i, uint32_t code)
{
    const uint32_t low = bits == 3 || bits == 5 ? bits - 1 : bits, at = i % 128 * low;
    uint8_t *run = plane + i / 128 * 16 * bits;
    const uint32_t mask = (1u << low) - 1;

    run[at / 8] = (uint8_t)((run[at / 8] & ~(mask << at % 8)) | (code & mask) << at % 8);
    if (bits != low) {
        uint8_t *high = run + 16 * low + i % 128 / 8;
        *high = (uint8_t)((*high & ~(1u << i % 8)) | code >> low << i % 8);
    }
}

/* One value's choice among codes. */
struct choice {
    enum at_quant_type type;
    const uint8_t *scales;
    float d, m;
    uint32_t i;
};

static float value_at(const struct choice *c, uint32_t step)
{
    const uint32_t code = c->type == AT_Q8_0 ? step ^ 128 : step;

    return value_of(c->type, code, c->scales, c->d, c->m, c->i);
}

/* From a step of the type's grid towards x, up to the two around it: the farther one with the
 * probability of x's share of the way, u being uniform. */
static uint32_t walk(const struct choice *c, uint32_t step, uint32_t last, float x, float u)
{
    const bool rises = value_at(c, last) > value_at(c, 0);

    for (;;) {
        const float v = value_at(c, step);
        const bool up = (x > v) == rises;
        if (x == v || step == (up ? last : 0))
            return step;
        const uint32_t next = up ? step + 1 : step - 1;
        const float gap = value_at(c, next) - v;
        if (gap == 0)
            return step;
        if ((x - v) / gap < 1)
            return u < (x - v) / gap ? next : step;
        step = next;
    }
}

/* Whether x is more than half a step outside the grid (of no steps: not on it). */
static bool is_beyond(const struct choice *c, uint32_t last, float x)
{
    const float low = value_at(c, 0), high = value_at(c, last);
    const float first = low - (value_at(c, 1) - low) / 2;
    const float final = high + (high - value_at(c, last - 1)) / 2;

    return x < fminf(first, final) || x > fmaxf(first, final);
}

struct recoding {
    uint8_t *bytes;
    const struct at_format *format;
    const float *values;
    uint64_t n, first; /* blocks; of the tensor's before them */
    uint32_t seed;
    const struct at_code_places *places;
    bool fits[PIECES];
};
/* A block's codes and scales as planes. */
struct opened {
    uint8_t codes[MOST_COLS], scales[MOST_SCALES_BYTES];
    struct choice choice;
};

static void open_block(struct opened *o, const struct at_format *f, const uint8_t *block)
{
    *o = (struct opened){ .codes = { 0 } };
    f->repack(o->codes, o->scales, block, 1);
    o->choice = (struct choice){ .type = f->type,
                                 .scales = o->scales,
                                 .d = at_widen_half(at_get_half(o->scales)),
                                 .m = at_widen_half(at_get_half(o->scales + 2)) };
}

static void put_codes(uint8_t *block, const struct at_code_places *places, const uint8_t *codes)
{
    for (uint32_t i = 0; i < places->end; i++)
        if (places->of[i] != NOWHERE) {
            const uint32_t at = places->of[i] % 8, bit = (uint32_t)codes[i / 8] >> i % 8 & 1;
            uint8_t *byte = block + places->of[i] / 8;
            *byte = (uint8_t)((*byte & ~(1u << at)) | bit << at);
        }
}

/* False: the values are too large for the type. */
static bool recode_block(uint8_t *block, const struct recoding *r, const float *x, uint64_t number)
{
    const struct at_format *f = r->format;
    const uint32_t bits = bits_of(f->type), flip = f->type == AT_Q8_0 ? 128 : 0;
    const uint32_t last = f->type == AT_Q6_K ? 63 : (1u << bits) - 1;
    struct at_rng rng = at_rng_make(number, AT_RNG_ROUND, r->seed, 0);
    struct opened o;
    bool beyond = false;

    open_block(&o, f, block);
    for (o.choice.i = 0; o.choice.i < f->block_cols; o.choice.i++)
        beyond = beyond || is_beyond(&o.choice, last, x[o.choice.i]);
    if (beyond && !at_format_encode_block(block, f, x))
        return false;
    open_block(&o, f, block);
    for (uint32_t i = 0; i < f->block_cols; i++) {
        const uint32_t step = code_of(o.codes, bits, i) ^ flip;
        o.choice.i = i;
        set_code(o.codes, bits, i,
                 walk(&o.choice, step, last, x[i], (float)at_rng_uniform(&rng)) ^ flip);
    }
    put_codes(block, r->places, o.codes);
    return true;
}

static void recode_piece(void *context, size_t piece)
{
    struct recoding *r = context;
    const struct at_format *f = r->format;
    const uint64_t each = at_div_up(r->n, PIECES), end = each * (piece + 1);
    bool fits = true;

    for (uint64_t b = each * piece; b < end && b < r->n; b++)
        fits &= recode_block(r->bytes + b * f->block_bytes, r, r->values + b * f->block_cols,
                             r->first + b);
    r->fits[piece] = fits;
}

AT_CHECKED at_format_recode(uint8_t *bytes, const struct at_format *format, const float *values,
                            uint64_t n, const char *name, const struct at_code_places *places,
                            const struct at_chance *chance)
{
    enum at_status st = AT_OK;
    struct recoding r = { .format = format,
                          .values = values,
                          .n = n / format->block_cols,
                          .first = chance->first / format->block_cols,
                          .seed = chance->seed,
                          .places = places };

    AT_REQUIRE(format->block_cols > 1 && format->block_bytes <= MOST_BYTES &&
               n % format->block_cols == 0);
    TRY(at_check_finite(name, values, n));
    r.bytes = bytes;
    at_parallel_for(PIECES, recode_piece, &r);
    for (size_t i = 0; i < PIECES; i++)
        if (!r.fits[i])
            FAIL(AT_NUMERIC, "tensor %s holds values that are too large for %s", name,
                 format->name);
done:
    return st;
}
