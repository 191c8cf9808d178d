/* Super-blocks of 256 values: sub-blocks of 16 or 32 have a scale, and some a least value, of a few
 * bits, which are parts of one or two halves (layouts: ggml-common.h). First each sub-block is
 * fitted alone, then its codes are chosen again for the scale that is left of it. */
#include "encode_blocks.h"

#include <math.h>
#include <string.h>

#include "fit.h"
#include "weights_file.h"

enum { SUPER = AT_SUPER, SMALL = 16, WIDE = 32 };
static const float beyond = 1e9f; /* no type here holds it, and its squares are still finite */

static bool fits(const float *x)
{
    return fabsf(at_fit_extreme(x, SUPER)) < beyond;
}

/* Bits 2 part and 2 part + 1 of 32 bytes hold 32 values, 128 of them in a run. */
static void put_pairs(uint8_t *out, const uint8_t *code)
{
    memset(out, 0, SUPER / 4);
    for (uint32_t i = 0; i < SUPER; i++)
        out[i / 128 * 32 + i % 32] |= (uint8_t)((code[i] & 3) << i / 32 % 4 * 2);
}

/* 32 bytes hold 64 values, the first 32 in their low nibbles. */
static void put_nibbles(uint8_t *out, const uint8_t *code)
{
    for (uint32_t i = 0; i < SUPER / 2; i++) {
        const uint8_t *low = code + i / 32 * 64 + i % 32;
        out[i] = (uint8_t)((low[0] & 15) | (low[32] & 15) << 4);
    }
}

/* Bit `bit` of the codes: 32 bytes, a bit of each for 32 values. */
static void put_bits(uint8_t *out, const uint8_t *code, uint32_t bit)
{
    memset(out, 0, SUPER / 8);
    for (uint32_t i = 0; i < SUPER; i++)
        out[i % 32] |= (uint8_t)((code[i] >> bit & 1) << i / 32);
}

/* ---- scales and least values ---- */

/* Sub-blocks of a super-block: scale q - minus. */
struct ranged {
    uint8_t scale[SMALL], minus[SMALL], code[SUPER];
};

/* Positive numbers as parts of the largest one, of which there are `levels`; *out is a part. False:
 * too large for a half. */
static bool put_parts(uint8_t *half, uint8_t *part, const float *x, uint32_t n, float levels)
{
    float most = 0;

    for (uint32_t k = 0; k < n; k++)
        most = x[k] > most ? x[k] : most;
    for (uint32_t k = 0; k < n; k++) {
        const float p = most > 0 ? at_fit_whole(levels / most * x[k], 0, levels) : 0;
        part[k] = p > 0 ? (uint8_t)p : 0;
    }
    return at_put_scale(half, most / levels);
}

/* `halves`: of the scales and, behind it, of the least values. */
static bool fit_ranged(struct ranged *out, uint8_t *halves, const float *x,
                       const struct at_fit_range *range, float levels)
{
    const uint32_t n = range->n, group = AT_FIT_LANES * n;
    float scale[SMALL], minus[SMALL];

    if (!fits(x))
        return false;
    for (uint32_t g = 0; g < SUPER / group; g++)
        at_fit_ranged(scale + AT_FIT_LANES * g, minus + AT_FIT_LANES * g, out->code + group * g,
                      x + group * g, range);
    if (!put_parts(halves, out->scale, scale, SUPER / n, levels) ||
        !put_parts(halves + 2, out->minus, minus, SUPER / n, levels))
        return false;
    for (uint32_t k = 0; k < SUPER / n; k++) {
        const float d = at_widen_half(at_get_half(halves)) * (float)out->scale[k];
        const float m = at_widen_half(at_get_half(halves + 2)) * (float)out->minus[k];
        for (uint32_t i = k * n; d != 0 && i < (k + 1) * n; i++)
            out->code[i] = (uint8_t)at_fit_whole((x[i] + m) / d, 0, range->most);
    }
    return true;
}

/* Six bits: the first four scales and least values in the low bits of bytes 0 to 7; of the last
 * four the nibbles in bytes 8 to 11, the rest in the upper bits of 0 to 7. */
static void put_six_bit_pairs(uint8_t *out, const struct ranged *r)
{
    for (uint32_t k = 0; k < 4; k++) {
        out[k] = (uint8_t)(r->scale[k] | r->scale[k + 4] >> 4 << 6);
        out[k + 4] = (uint8_t)(r->minus[k] | r->minus[k + 4] >> 4 << 6);
        out[k + 8] = (uint8_t)((r->scale[k + 4] & 15) | (r->minus[k + 4] & 15) << 4);
    }
}

bool at_encode_q2_k(uint8_t *out, const float *x)
{
    static const struct at_fit_range range = { SMALL, 3, -0.5f, 0.1f, 15, true };
    struct ranged r;

    if (!fit_ranged(&r, out + 80, x, &range, 15))
        return false;
    for (uint32_t k = 0; k < SMALL; k++)
        out[k] = (uint8_t)(r.scale[k] | r.minus[k] << 4);
    put_pairs(out + 16, r.code);
    return true;
}

bool at_encode_q4_k(uint8_t *out, const float *x)
{
    static const struct at_fit_range range = { WIDE, 15, -1, 0.1f, 20, false };
    struct ranged r;

    if (!fit_ranged(&r, out, x, &range, 63))
        return false;
    put_six_bit_pairs(out + 4, &r);
    put_nibbles(out + 16, r.code);
    return true;
}

bool at_encode_q5_k(uint8_t *out, const float *x)
{
    static const struct at_fit_range range = { WIDE, 31, -0.5f, 0.1f, 15, false };
    struct ranged r;

    if (!fit_ranged(&r, out, x, &range, 63))
        return false;
    put_six_bit_pairs(out + 4, &r);
    put_bits(out + 16, r.code, 4);
    put_nibbles(out + 48, r.code);
    return true;
}

/* ---- scales of both signs ---- */

typedef float fit_scale(uint8_t *code, const float *x, uint32_t n, float half);

/* Sub-blocks of 16: scale (q - half), the largest scale as -levels. */
static bool fit_signed(int8_t *scale, uint8_t *code, uint8_t *half_out, const float *x,
                       fit_scale *fit, float half, float levels)
{
    float alone[SMALL], inverse = 0;

    if (!fits(x))
        return false;
    for (uint32_t k = 0; k < SMALL; k++)
        alone[k] = fit(code + k * SMALL, x + k * SMALL, SMALL, half);
    const float most = at_fit_extreme(alone, SMALL);

    memset(scale, 0, SMALL);
    inverse = most != 0 ? -levels / most : 0;
    if (!at_put_scale(half_out, most != 0 ? 1 / inverse : 0))
        return false;
    for (uint32_t k = 0; k < SMALL; k++) {
        scale[k] = (int8_t)at_fit_whole(inverse * alone[k], -levels, levels - 1);
        const float d = at_widen_half(at_get_half(half_out)) * (float)scale[k];
        for (uint32_t i = k * SMALL; d != 0 && i < (k + 1) * SMALL; i++)
            code[i] = (uint8_t)(at_fit_whole(x[i] / d, -half, half - 1) + half);
    }
    return true;
}

/* Scales of six bits more than -32 (of a block of zeros: nothing): nibbles in bytes 0 to 7, the
 * upper two bits in 8 to 11. */
bool at_encode_q3_k(uint8_t *out, const float *x)
{
    const int more = at_fit_extreme(x, SUPER) != 0 ? 32 : 0;
    uint8_t code[SUPER], *six = out + 96;
    int8_t scale[SMALL];

    if (!fit_signed(scale, code, out + 108, x, at_fit_by_turns, 4, 32))
        return false;
    memset(six, 0, 12);
    for (uint32_t k = 0; k < SMALL; k++) {
        const uint32_t s = (uint32_t)(scale[k] + more);
        six[k % 8] |= (uint8_t)((s & 15) << k / 8 * 4);
        six[8 + k % 4] |= (uint8_t)(s >> 4 << k / 4 * 2);
    }
    put_bits(out, code, 2);
    put_pairs(out + 32, code);
    return true;
}

bool at_encode_q6_k(uint8_t *out, const float *x)
{
    uint8_t code[SUPER];
    int8_t scale[SMALL];

    if (!fit_signed(scale, code, out + 208, x, at_fit_centred, 32, 128))
        return false;
    memcpy(out + 192, scale, SMALL);
    for (uint32_t i = 0; i < SUPER / 2; i++) {
        const uint8_t *low = code + i / 64 * 128 + i % 64;
        out[i] = (uint8_t)((low[0] & 15) | (low[64] & 15) << 4);
    }
    for (uint32_t i = 0; i < SUPER / 4; i++) {
        const uint8_t *q = code + i / 32 * 128 + i % 32;
        out[128 + i] = (uint8_t)(q[0] >> 4 | q[32] >> 4 << 2 | q[64] >> 4 << 4 | q[96] >> 4 << 6);
    }
    return true;
}
