#include "ref_quant.h"

#include <math.h>
#include <string.h>

static const struct ref_quant quants[] = {
    { "bf16", 1, 2 },   { "f16", 1, 2 },      { "q4_0", 32, 18 },
    { "q4_1", 32, 20 }, { "q6_k", 256, 210 }, { "q8_0", 32, 34 },
};

const struct ref_quant *ref_quant_find(const char *name)
{
    for (size_t i = 0; i < sizeof quants / sizeof quants[0]; i++)
        if (strcmp(quants[i].name, name) == 0)
            return &quants[i];
    return NULL;
}

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

/* 6-bit quant of column i of a q6_k block. */
static int q6(const uint8_t *block, size_t i)
{
    const size_t half = i / 128, j = i % 128, l = j % 32, part = j / 32;
    const uint8_t *low = block + 64 * half, *high = block + 128 + 32 * half;
    const int nibble = part < 2 ? low[l + 32 * part] & 15 : low[l + 32 * (part - 2)] >> 4;

    return nibble | (high[l] >> (2 * part) & 3) << 4;
}

/* Nibble of column i of a q4_0 or q4_1 block whose quants start at qs. */
static int q4(const uint8_t *qs, size_t i)
{
    return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
}

static float q6_scale(const uint8_t *block, size_t i)
{
    return ref_half(u16(block + 208)) * (float)(int8_t)block[192 + i / 16];
}

static float value(const struct ref_quant *quant, const uint8_t *block, size_t i)
{
    float v = 0;

    if (strcmp(quant->name, "f16") == 0)
        v = ref_half(u16(block));
    else if (strcmp(quant->name, "bf16") == 0) {
        const uint32_t bits = (uint32_t)u16(block) << 16;

        memcpy(&v, &bits, sizeof v);
    } else if (strcmp(quant->name, "q8_0") == 0)
        v = ref_half(u16(block)) * (float)(int8_t)block[2 + i];
    else if (strcmp(quant->name, "q4_0") == 0)
        v = ref_half(u16(block)) * (float)(q4(block + 2, i) - 8);
    else if (strcmp(quant->name, "q4_1") == 0) {
        v = ref_half(u16(block)) * (float)q4(block + 4, i);
        v += ref_half(u16(block + 2));
    } else if (strcmp(quant->name, "q6_k") == 0)
        v = q6_scale(block, i) * (float)(q6(block, i) - 32);
    return v;
}

void ref_quant_values(float *values, const struct ref_quant *quant, const uint8_t *blocks, size_t n)
{
    for (size_t i = 0; i < n; i++)
        values[i] = value(quant, blocks + i / quant->block_cols * quant->block_bytes,
                          i % quant->block_cols);
}

/* One block, whose first column is col, into a row of each plane. */
static void repack(uint8_t *quants_row, uint8_t *scales_row, const struct ref_quant *quant,
                   const uint8_t *block, size_t col)
{
    for (size_t i = 0; i < quant->block_cols; i++) {
        const size_t c = col + i;

        if (quant->block_cols == 1)
            memcpy(quants_row + 2 * c, block, 2);
        else if (quant->block_bytes == 34)
            quants_row[c] = block[2 + i];
        else if (quant->block_bytes == 210)
            quants_row[c] = (uint8_t)q6(block, i);
        else {
            const int nibble = q4(block + quant->block_bytes - 16, i);

            quants_row[c / 2] = (uint8_t)(quants_row[c / 2] | nibble << (4 * (c % 2)));
        }
    }
    if (quant->block_bytes == 34 || quant->block_bytes == 18)
        memcpy(scales_row + col / 32 * 2, block, 2);
    else if (quant->block_bytes == 20)
        memcpy(scales_row + col / 32 * 4, block, 4);
    for (size_t i = 0; quant->block_bytes == 210 && i < 16; i++) {
        const float scale = q6_scale(block, 16 * i);

        memcpy(scales_row + (col / 16 + i) * 4, &scale, 4);
    }
}

void ref_quant_planes(uint8_t *plane0, size_t stride0, uint8_t *plane1, size_t stride1,
                      const struct ref_quant *quant, const uint8_t *blocks, size_t rows,
                      size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c += quant->block_cols, blocks += quant->block_bytes)
            repack(plane0 + r * stride0, plane1 + r * stride1, quant, blocks, c);
}
