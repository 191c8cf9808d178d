/* Rows of GGUF blocks to rows of device planes (layouts: quant.h, blocks: ggml-common.h). */
#include "weights_file.h"

#include <string.h>

enum { SUPER = 256, SUPER_SCALES_BYTES = 20 }; /* a super-block's columns, bytes in plane 1 */

/* The low nibbles of eight bytes, in order, as four bytes (little-endian). */
static uint32_t low_nibbles(uint64_t bytes)
{
    bytes &= 0x0f0f0f0f0f0f0f0f;
    bytes = (bytes | bytes >> 4) & 0x00ff00ff00ff00ff;
    bytes = (bytes | bytes >> 8) & 0x0000ffff0000ffff;
    return (uint32_t)(bytes | bytes >> 16);
}

/* In the file byte j holds columns j (low nibble) and j + 16; in the plane columns go up by
 * nibbles. Eight bytes at a time: this is most of what loading computes. */
static void nibbles(uint8_t *out, const uint8_t *in)
{
    for (uint32_t j = 0; j < 2; j++) {
        uint64_t bytes = 0;
        memcpy(&bytes, in + 8 * j, sizeof bytes);
        const uint32_t low = low_nibbles(bytes), high = low_nibbles(bytes >> 4);
        memcpy(out + 4 * j, &low, sizeof low);
        memcpy(out + 8 + 4 * j, &high, sizeof high);
    }
}

/* ---- blocks of 32 columns ---- */

static void row_q8_0(uint8_t *quants, uint8_t *scales, const uint8_t *block, uint64_t n)
{
    for (uint64_t b = 0; b < n; b++, block += 34) {
        memcpy(scales + 2 * b, block, 2);
        memcpy(quants + 32 * b, block + 2, 32);
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

/* Four blocks of nibbles, then their words of fifth bits. */
static void fives(uint8_t *quants, uint64_t b, const uint8_t *high, const uint8_t *low)
{
    uint8_t *run = quants + b / 4 * 80;

    nibbles(run + b % 4 * 16, low);
    memcpy(run + 64 + b % 4 * 4, high, 4);
}

static void row_q5_0(uint8_t *quants, uint8_t *scales, const uint8_t *block, uint64_t n)
{
    for (uint64_t b = 0; b < n; b++, block += 22) {
        memcpy(scales + 2 * b, block, 2);
        fives(quants, b, block + 2, block + 6);
    }
}

static void row_q5_1(uint8_t *quants, uint8_t *scales, const uint8_t *block, uint64_t n)
{
    for (uint64_t b = 0; b < n; b++, block += 24) {
        memcpy(scales + 4 * b, block, 4);
        fives(quants, b, block + 4, block + 8);
    }
}

static void row_iq4_nl(uint8_t *quants, uint8_t *scales, const uint8_t *block, uint64_t n)
{
    for (uint64_t b = 0; b < n; b++, block += 18) {
        const float d = at_widen_half(at_get_half(block));
        memcpy(scales + 4 * b, &d, sizeof d);
        nibbles(quants + 16 * b, block + 2);
    }
}

/* ---- super-blocks ---- */

/* Six-bit scales and minima of eight sub-blocks: the lower of the first four in bytes 0 to 3 and 4
 * to 7, the nibbles of the last four in bytes 8 to 11, whose upper two bits fill the former. */
static void put_six_bit_pairs(uint8_t *out, const uint8_t *in)
{
    for (uint32_t j = 0; j < 4; j++) {
        out[2 * j] = in[j] & 63;
        out[2 * j + 1] = in[j + 4] & 63;
        out[2 * j + 8] = (uint8_t)((in[j + 8] & 15) | in[j] >> 6 << 4);
        out[2 * j + 9] = (uint8_t)(in[j + 8] >> 4 | in[j + 4] >> 6 << 4);
    }
}

/* 32 bytes hold 64 columns, the first 32 in their low nibbles; byte l as columns l and l + 32. */
static void put_wide_nibbles(uint8_t *out, const uint8_t *in, uint32_t shift)
{
    for (uint32_t j = 0; j < 16; j++)
        out[j] = (uint8_t)((in[2 * j] >> shift & 15) | (in[2 * j + 1] >> shift & 15) << 4);
}

/* Bit `bit` of 32 bytes. */
static void put_bits(uint8_t *out, const uint8_t *in, uint32_t bit)
{
    for (uint32_t j = 0; j < 4; j++) {
        uint32_t byte = 0;
        for (uint32_t k = 0; k < 8; k++)
            byte |= (uint32_t)(in[8 * j + k] >> bit & 1) << k;
        out[j] = (uint8_t)byte;
    }
}

/* Bits 2 * part and up of 32 bytes. */
static void put_pairs(uint8_t *out, const uint8_t *in, uint32_t part)
{
    for (uint32_t j = 0; j < 8; j++) {
        uint32_t byte = 0;
        for (uint32_t k = 0; k < 4; k++)
            byte |= (uint32_t)(in[4 * j + k] >> 2 * part & 3) << 2 * k;
        out[j] = (uint8_t)byte;
    }
}

static void row_q4_k(uint8_t *quants, uint8_t *scales, const uint8_t *block, uint64_t n)
{
    for (; n > 0; n--, block += 144, quants += SUPER / 2, scales += SUPER_SCALES_BYTES) {
        memcpy(scales, block, 4);
        put_six_bit_pairs(scales + 4, block + 4);
        for (uint32_t part = 0; part < 8; part++)
            put_wide_nibbles(quants + 16 * part, block + 16 + part / 2 * 32, part % 2 * 4);
    }
}

static void row_q5_k(uint8_t *quants, uint8_t *scales, const uint8_t *block, uint64_t n)
{
    for (; n > 0; n--, block += 176, quants += 160, scales += SUPER_SCALES_BYTES) {
        memcpy(scales, block, 4);
        put_six_bit_pairs(scales + 4, block + 4);
        for (uint32_t part = 0; part < 8; part++) {
            uint8_t *run = quants + part / 4 * 80;
            put_wide_nibbles(run + part % 4 * 16, block + 48 + part / 2 * 32, part % 2 * 4);
            put_bits(run + 64 + part % 4 * 4, block + 16, part);
        }
    }
}

/* Scales first, d and dmin last. */
static void row_q2_k(uint8_t *quants, uint8_t *scales, const uint8_t *block, uint64_t n)
{
    for (; n > 0; n--, block += 84, quants += SUPER / 4, scales += SUPER_SCALES_BYTES) {
        memcpy(scales, block + 80, 4);
        memcpy(scales + 4, block, 16);
        for (uint32_t part = 0; part < 8; part++)
            put_pairs(quants + 8 * part, block + 16 + part / 4 * 32, part % 4);
    }
}

/* 32 bytes of third bits, 64 of lower pairs, 12 of six-bit scales less 32, d. */
static void row_q3_k(uint8_t *quants, uint8_t *scales, const uint8_t *block, uint64_t n)
{
    for (; n > 0; n--, block += 110, quants += 96, scales += SUPER_SCALES_BYTES) {
        const uint8_t *six = block + 96;
        memcpy(scales, block + 108, 2);
        for (uint32_t i = 0; i < 16; i++) {
            const int low = six[i % 8] >> i / 8 * 4 & 15, high = six[8 + i % 4] >> i / 4 * 2 & 3;
            scales[4 + i] = (uint8_t)((low | high << 4) - 32);
        }
        for (uint32_t part = 0; part < 8; part++) {
            uint8_t *run = quants + part / 4 * 48;
            put_pairs(run + part % 4 * 8, block + 32 + part / 4 * 32, part % 4);
            put_bits(run + 32 + part % 4 * 4, block, part);
        }
    }
}

/* Low four bits in ql[128], high two in qh[64], 16 scales, d. */
static void row_q6_k(uint8_t *quants, uint8_t *scales, const uint8_t *block, uint64_t n)
{
    for (; n > 0; n--, block += 210, quants += SUPER, scales += SUPER_SCALES_BYTES) {
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
        memcpy(scales, block + 208, 2);
        memcpy(scales + 4, block + 192, 16);
    }
}

/* d, upper two bits of eight six-bit scales less 32, their nibbles, quants as IQ4_NL's. */
static void row_iq4_xs(uint8_t *quants, uint8_t *scales, const uint8_t *block, uint64_t n)
{
    for (uint64_t b = 0; b < 8 * n; b++, block += b % 8 == 0 ? 136 : 0) {
        const uint32_t part = b % 8;
        const int low = block[4 + part / 2] >> part % 2 * 4 & 15;
        const int high = at_get_half(block + 2) >> 2 * part & 3;
        const float d = at_widen_half(at_get_half(block)) * (float)((low | high << 4) - 32);
        memcpy(scales + 4 * b, &d, sizeof d);
        nibbles(quants + 16 * b, block + 8 + 16 * part);
    }
}

/* ---- the table ---- */

/* Every type of ggml by its number; those without a name were removed from the format. */
static const struct at_format formats[] = {
    [0] = { "F32", 1, 4, AT_F32, NULL },
    [1] = { "F16", 1, 2, AT_F16, NULL },
    [2] = { "Q4_0", 32, 18, AT_Q4_0, row_q4_0 },
    [3] = { "Q4_1", 32, 20, AT_Q4_1, row_q4_1 },
    [6] = { "Q5_0", 32, 22, AT_Q5_0, row_q5_0 },
    [7] = { "Q5_1", 32, 24, AT_Q5_1, row_q5_1 },
    [8] = { "Q8_0", 32, 34, AT_Q8_0, row_q8_0 },
    [9] = { "Q8_1", 32, 36, AT_QUANT_COUNT, NULL },
    [10] = { "Q2_K", 256, 84, AT_Q2_K, row_q2_k },
    [11] = { "Q3_K", 256, 110, AT_Q3_K, row_q3_k },
    [12] = { "Q4_K", 256, 144, AT_Q4_K, row_q4_k },
    [13] = { "Q5_K", 256, 176, AT_Q5_K, row_q5_k },
    [14] = { "Q6_K", 256, 210, AT_Q6_K, row_q6_k },
    [15] = { "Q8_K", 256, 292, AT_QUANT_COUNT, NULL },
    [16] = { "IQ2_XXS", 256, 66, AT_QUANT_COUNT, NULL },
    [17] = { "IQ2_XS", 256, 74, AT_QUANT_COUNT, NULL },
    [18] = { "IQ3_XXS", 256, 98, AT_QUANT_COUNT, NULL },
    [19] = { "IQ1_S", 256, 50, AT_QUANT_COUNT, NULL },
    [20] = { "IQ4_NL", 32, 18, AT_IQ4, row_iq4_nl },
    [21] = { "IQ3_S", 256, 110, AT_QUANT_COUNT, NULL },
    [22] = { "IQ2_S", 256, 82, AT_QUANT_COUNT, NULL },
    [23] = { "IQ4_XS", 256, 136, AT_IQ4, row_iq4_xs },
    [24] = { "I8", 1, 1, AT_QUANT_COUNT, NULL },
    [25] = { "I16", 1, 2, AT_QUANT_COUNT, NULL },
    [26] = { "I32", 1, 4, AT_QUANT_COUNT, NULL },
    [27] = { "I64", 1, 8, AT_QUANT_COUNT, NULL },
    [28] = { "F64", 1, 8, AT_QUANT_COUNT, NULL },
    [29] = { "IQ1_M", 256, 56, AT_QUANT_COUNT, NULL },
    [30] = { "BF16", 1, 2, AT_BF16, NULL },
    [34] = { "TQ1_0", 256, 54, AT_QUANT_COUNT, NULL },
    [35] = { "TQ2_0", 256, 66, AT_QUANT_COUNT, NULL },
    [39] = { "MXFP4", 32, 17, AT_QUANT_COUNT, NULL },
    [40] = { "NVFP4", 64, 36, AT_QUANT_COUNT, NULL },
    [41] = { "Q1_0", 128, 18, AT_QUANT_COUNT, NULL },
};

const struct at_format *at_format_find_gguf(uint64_t type)
{
    return type < AT_COUNT(formats) && formats[type].name ? &formats[type] : NULL;
}

uint32_t at_format_gguf_type(const struct at_format *format)
{
    return (uint32_t)(format - formats);
}

const struct at_format *at_format_find(const char *name)
{
    for (size_t i = 0; i < AT_COUNT(formats); i++)
        if (formats[i].name && strcmp(formats[i].name, name) == 0)
            return &formats[i];
    return NULL;
}
