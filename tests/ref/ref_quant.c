#include "ref_quant.h"

#include <math.h>
#include <string.h>

#include "codes.h"

static const float nf4_codes[16] = { CODES_NF4 }, fp4_codes[16] = { CODES_FP4 };
static const int iq4_codes[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113 };

float ref_half(uint16_t half)
{
    const int exponent = half >> 10 & 31, mantissa = half & 1023;
    double v = exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);

    if (exponent == 31)
        v = mantissa == 0 ? (double)INFINITY : (double)NAN;
    return (float)(half & 0x8000 ? -v : v);
}

static uint16_t u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static float half_at(const uint8_t *bytes)
{
    return ref_half(u16(bytes));
}

static float f32_at(const uint8_t *bytes)
{
    float v;

    memcpy(&v, bytes, sizeof v);
    return v;
}

/* ---- plain ---- */

static int word(const uint8_t *block, size_t i)
{
    (void)i;
    return u16(block);
}

static float f16_value(const uint8_t *block, size_t i)
{
    (void)i;
    return half_at(block);
}

static float bf16_value(const uint8_t *block, size_t i)
{
    const uint32_t bits = (uint32_t)u16(block) << 16;
    float v;

    (void)i;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* ---- blocks of 32 ---- */

/* Nibble of column i where byte j holds columns j and j + 16. */
static int nibble(const uint8_t *qs, size_t i)
{
    return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
}

static int bit(const uint8_t *bytes, size_t i)
{
    return bytes[i / 8] >> (i % 8) & 1;
}

static int q8_0_quant(const uint8_t *block, size_t i)
{
    return (int8_t)block[2 + i];
}
static int q4_0_quant(const uint8_t *block, size_t i)
{
    return nibble(block + 2, i);
}
static int q4_1_quant(const uint8_t *block, size_t i)
{
    return nibble(block + 4, i);
}
static int q5_0_quant(const uint8_t *block, size_t i)
{
    return nibble(block + 6, i) | bit(block + 2, i) << 4;
}
static int q5_1_quant(const uint8_t *block, size_t i)
{
    return nibble(block + 8, i) | bit(block + 4, i) << 4;
}
static float q8_0_value(const uint8_t *block, size_t i)
{
    return half_at(block) * (float)q8_0_quant(block, i);
}
static float q4_0_value(const uint8_t *block, size_t i)
{
    return half_at(block) * (float)(q4_0_quant(block, i) - 8);
}
static float q5_0_value(const uint8_t *block, size_t i)
{
    return half_at(block) * (float)(q5_0_quant(block, i) - 16);
}
static float iq4_nl_value(const uint8_t *block, size_t i)
{
    return half_at(block) * (float)iq4_codes[q4_0_quant(block, i)];
}

static float affine(float scale, int q, float m)
{
    const float product = scale * (float)q;

    return product + m;
}

static float q4_1_value(const uint8_t *block, size_t i)
{
    return affine(half_at(block), q4_1_quant(block, i), half_at(block + 2));
}
static float q5_1_value(const uint8_t *block, size_t i)
{
    return affine(half_at(block), q5_1_quant(block, i), half_at(block + 2));
}

static void scale_half(uint8_t *row, const uint8_t *block, size_t col)
{
    memcpy(row + col / 32 * 2, block, 2);
}
static void scale_halves(uint8_t *row, const uint8_t *block, size_t col)
{
    memcpy(row + col / 32 * 4, block, 4);
}
static void scale_widened(uint8_t *row, const uint8_t *block, size_t col)
{
    const float d = half_at(block);

    memcpy(row + col / 32 * 4, &d, 4);
}

/* ---- super-blocks ---- */

static int six_bits(const uint8_t *s, size_t j, int minimum)
{
    const size_t low = minimum ? j + 4 : j;

    if (j < 4)
        return s[low] & 63;
    return (minimum ? s[j + 4] >> 4 : s[j + 4] & 15) | s[minimum ? j : j - 4] >> 6 << 4;
}

static int q4_k_quant(const uint8_t *block, size_t i)
{
    const uint8_t byte = block[16 + i / 64 * 32 + i % 32];

    return i / 32 % 2 ? byte >> 4 : byte & 15;
}
static int q5_k_quant(const uint8_t *block, size_t i)
{
    const uint8_t byte = block[48 + i / 64 * 32 + i % 32];

    return (i / 32 % 2 ? byte >> 4 : byte & 15) | (block[16 + i % 32] >> (i / 32) & 1) << 4;
}
static int q2_k_quant(const uint8_t *block, size_t i)
{
    return block[16 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
}
static int q3_k_quant(const uint8_t *block, size_t i)
{
    const int low = block[32 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;

    return low | (block[i % 32] >> (i / 32) & 1) << 2;
}
static int q6_k_quant(const uint8_t *block, size_t i)
{
    const size_t half = i / 128, j = i % 128, l = j % 32, part = j / 32;
    const uint8_t *low = block + 64 * half, *high = block + 128 + 32 * half;
    const int four = part < 2 ? low[l + 32 * part] & 15 : low[l + 32 * (part - 2)] >> 4;

    return four | (high[l] >> (2 * part) & 3) << 4;
}
static int q3_k_scale(const uint8_t *block, size_t group)
{
    const uint8_t *s = block + 96;
    const int low = group < 8 ? s[group] & 15 : s[group - 8] >> 4;

    return (low | (s[8 + group % 4] >> (group / 4 * 2) & 3) << 4) - 32;
}

static float k_value(const uint8_t *d, int scale, int q, int minimum)
{
    const float m = half_at(d + 2) * (float)minimum;

    return affine(half_at(d) * (float)scale, q, -m);
}

static float q4_k_value(const uint8_t *block, size_t i)
{
    return k_value(block, six_bits(block + 4, i / 32, 0), q4_k_quant(block, i),
                   six_bits(block + 4, i / 32, 1));
}
static float q5_k_value(const uint8_t *block, size_t i)
{
    return k_value(block, six_bits(block + 4, i / 32, 0), q5_k_quant(block, i),
                   six_bits(block + 4, i / 32, 1));
}
static float q2_k_value(const uint8_t *block, size_t i)
{
    return k_value(block + 80, block[i / 16] & 15, q2_k_quant(block, i), block[i / 16] >> 4);
}
static float q3_k_value(const uint8_t *block, size_t i)
{
    return half_at(block + 108) * (float)q3_k_scale(block, i / 16) *
           (float)(q3_k_quant(block, i) - 4);
}
static float q6_k_value(const uint8_t *block, size_t i)
{
    return half_at(block + 208) * (float)(int8_t)block[192 + i / 16] *
           (float)(q6_k_quant(block, i) - 32);
}

static void scales_k(uint8_t *row, const uint8_t *block, size_t col)
{
    uint8_t *out = row + col / 256 * 20;

    memcpy(out, block, 4);
    for (size_t j = 0; j < 8; j++) {
        out[4 + 2 * j] = (uint8_t)six_bits(block + 4, j, 0);
        out[5 + 2 * j] = (uint8_t)six_bits(block + 4, j, 1);
    }
}
static void scales_q2_k(uint8_t *row, const uint8_t *block, size_t col)
{
    memcpy(row + col / 256 * 20, block + 80, 4);
    memcpy(row + col / 256 * 20 + 4, block, 16);
}
static void scales_q3_k(uint8_t *row, const uint8_t *block, size_t col)
{
    memcpy(row + col / 256 * 20, block + 108, 2);
    for (size_t j = 0; j < 16; j++)
        row[col / 256 * 20 + 4 + j] = (uint8_t)q3_k_scale(block, j);
}
static void scales_q6_k(uint8_t *row, const uint8_t *block, size_t col)
{
    memcpy(row + col / 256 * 20, block + 208, 2);
    memcpy(row + col / 256 * 20 + 4, block + 192, 16);
}

static int iq4_xs_quant(const uint8_t *block, size_t i)
{
    return nibble(block + 8 + i / 32 * 16, i % 32);
}
static float iq4_xs_scale(const uint8_t *block, size_t j)
{
    const int low = j % 2 ? block[4 + j / 2] >> 4 : block[4 + j / 2] & 15;

    return half_at(block) * (float)((low | (u16(block + 2) >> (2 * j) & 3) << 4) - 32);
}
static float iq4_xs_value(const uint8_t *block, size_t i)
{
    return iq4_xs_scale(block, i / 32) * (float)iq4_codes[iq4_xs_quant(block, i)];
}
static void scales_iq4_xs(uint8_t *row, const uint8_t *block, size_t col)
{
    for (size_t j = 0; j < 8; j++) {
        const float d = iq4_xs_scale(block, j);

        memcpy(row + (col / 32 + j) * 4, &d, 4);
    }
}

/* ---- bitsandbytes ---- */

static int code_quant(const uint8_t *block, size_t i)
{
    return block[4 + i / 2] >> (4 * (i % 2)) & 15;
}
static float nf4_value(const uint8_t *block, size_t i)
{
    return f32_at(block) * nf4_codes[code_quant(block, i)];
}
static float fp4_value(const uint8_t *block, size_t i)
{
    return f32_at(block) * fp4_codes[code_quant(block, i)];
}
static void scale_code(uint8_t *row, const uint8_t *block, size_t col)
{
    memcpy(row + col / 64 * 4, block, 4);
}
static int int8_quant(const uint8_t *block, size_t i)
{
    return (int8_t)block[4 + i];
}
static float int8_value(const uint8_t *block, size_t i)
{
    const float product = (float)int8_quant(block, i) * f32_at(block);

    return product * (1.0f / 127);
}
static void scale_row(uint8_t *row, const uint8_t *block, size_t col)
{
    if (col == 0)
        memcpy(row, block, 4);
}

/* ---- the table ---- */

#define BITS_16 16, word
const struct ref_quant ref_quants[] = {
    { "BF16", "bf16", 1, 2, { 0 }, 1, BITS_16, bf16_value, NULL },
    { "F16", "f16", 1, 2, { 0 }, 1, BITS_16, f16_value, NULL },
    { "FP4", "fp4", 64, 36, { 0 }, 0, 4, code_quant, fp4_value, scale_code },
    { "INT8", "int8", 32, 36, { 0 }, 0, 8, int8_quant, int8_value, scale_row },
    { "IQ4_NL", "iq4", 32, 18, { 0 }, 1, 4, q4_0_quant, iq4_nl_value, scale_widened },
    { "IQ4_XS", "iq4", 256, 136, { 0 }, 1, 4, iq4_xs_quant, iq4_xs_value, scales_iq4_xs },
    { "NF4", "nf4", 64, 36, { 0 }, 0, 4, code_quant, nf4_value, scale_code },
    { "Q2_K", "q2_k", 256, 84, { 80, 82 }, 2, 2, q2_k_quant, q2_k_value, scales_q2_k },
    { "Q3_K", "q3_k", 256, 110, { 108 }, 1, 3, q3_k_quant, q3_k_value, scales_q3_k },
    { "Q4_0", "q4_0", 32, 18, { 0 }, 1, 4, q4_0_quant, q4_0_value, scale_half },
    { "Q4_1", "q4_1", 32, 20, { 0, 2 }, 2, 4, q4_1_quant, q4_1_value, scale_halves },
    { "Q4_K", "q4_k", 256, 144, { 0, 2 }, 2, 4, q4_k_quant, q4_k_value, scales_k },
    { "Q5_0", "q5_0", 32, 22, { 0 }, 1, 5, q5_0_quant, q5_0_value, scale_half },
    { "Q5_1", "q5_1", 32, 24, { 0, 2 }, 2, 5, q5_1_quant, q5_1_value, scale_halves },
    { "Q5_K", "q5_k", 256, 176, { 0, 2 }, 2, 5, q5_k_quant, q5_k_value, scales_k },
    { "Q6_K", "q6_k", 256, 210, { 208 }, 1, 8, q6_k_quant, q6_k_value, scales_q6_k },
    { "Q8_0", "q8_0", 32, 34, { 0 }, 1, 8, q8_0_quant, q8_0_value, scale_half },
};
const size_t ref_n_quants = sizeof ref_quants / sizeof ref_quants[0];

const struct ref_quant *ref_quant_find(const char *name)
{
    for (size_t i = 0; i < ref_n_quants; i++)
        if (strcmp(ref_quants[i].name, name) == 0)
            return &ref_quants[i];
    return NULL;
}

const struct ref_quant *ref_quant_of_device(const char *device)
{
    for (size_t i = 0; i < ref_n_quants; i++)
        if (strcmp(ref_quants[i].device, device) == 0)
            return &ref_quants[i];
    return NULL;
}

void ref_quant_values(float *values, const struct ref_quant *quant, const uint8_t *blocks, size_t n)
{
    for (size_t i = 0; i < n; i++)
        values[i] = quant->value(blocks + i / quant->block_cols * quant->block_bytes,
                                 i % quant->block_cols);
}

/* The lower `low` bits of a column in runs of 128 columns of `run` bytes, the highest behind. */
static void put(uint8_t *row, size_t c, int q, size_t run, unsigned low)
{
    const size_t in_run = c % 128, at = in_run * low / 8;

    row += c / 128 * run;
    row[at] = (uint8_t)(row[at] | (q & ((1 << low) - 1)) << (in_run * low % 8));
    if (run > 16 * low)
        row[16 * low + in_run / 8] =
            (uint8_t)(row[16 * low + in_run / 8] | q >> low << (in_run % 8));
}

static void put_quant(uint8_t *row, unsigned bits, size_t c, int q)
{
    switch (bits) {
    case 2:
        put(row, c, q, 32, 2);
        break;
    case 3:
        put(row, c, q, 48, 2);
        break;
    case 4:
        put(row, c, q, 64, 4);
        break;
    case 5:
        put(row, c, q, 80, 4);
        break;
    default:
        memcpy(row + c * bits / 8, &q, bits / 8);
    }
}

void ref_quant_planes(uint8_t *plane0, size_t stride0, uint8_t *plane1, size_t stride1,
                      const struct ref_quant *quant, const uint8_t *blocks, size_t rows,
                      size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c += quant->block_cols, blocks += quant->block_bytes) {
            for (size_t i = 0; i < quant->block_cols; i++)
                put_quant(plane0 + r * stride0, quant->bits, c + i, quant->quant(blocks, i));
            if (quant->scales)
                quant->scales(plane1 + r * stride1, blocks, c);
        }
}

void ref_quant_tame(const struct ref_quant *quant, uint8_t *blocks, size_t n)
{
    const int is_float = quant->bits != 16 && quant->n_halves == 0;

    for (size_t i = 0; i < n; i++) {
        uint8_t *block = blocks + i * quant->block_bytes;

        for (size_t k = 0; k < quant->n_halves; k++)
            block[quant->half[k] + 1] &= quant->bits == 16 ? 0xbf : 0xa7;
        if (is_float)
            block[3] &= 0xbf;
        if (strcmp(quant->name, "INT8") == 0)
            memcpy(block, blocks, 4);
    }
}
