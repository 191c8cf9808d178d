/* Quantised formats from raw blocks: GGUF's (ggml-common.h), and nf4, fp4 (64 columns: f32 scale,
 * nibbles as in the plane) and int8 (32 columns: f32 largest of the row, bytes). The values in f32,
 * with one rounding where the format's definition has one, and the repacking to the device's planes
 * (engine/ops/quant.h). */
#ifndef REF_QUANT_H
#define REF_QUANT_H

#include <stddef.h>
#include <stdint.h>

struct ref_quant {
    const char *name;   /* as files call it */
    const char *device; /* at_quant's name */
    size_t block_cols, block_bytes;
    size_t half[2], n_halves; /* byte offsets of f16 fields */
    unsigned bits;            /* a column, as plane 0 holds it */
    int (*quant)(const uint8_t *block, size_t i);
    float (*value)(const uint8_t *block, size_t i);
    void (*scales)(uint8_t *row, const uint8_t *block, size_t col); /* into plane 1, or NULL */
};
extern const struct ref_quant ref_quants[];
extern const size_t ref_n_quants;
const struct ref_quant *ref_quant_find(const char *name); /* or NULL */
/* The first whose device type has that name. */
const struct ref_quant *ref_quant_of_device(const char *device);

/* n values (a multiple of block_cols) from blocks. */
void ref_quant_values(float *values, const struct ref_quant *quant, const uint8_t *blocks,
                      size_t n);
/* (rows, cols) into planes whose rows lie stride0 and stride1 bytes apart; both zeroed by the
 * caller. */
void ref_quant_planes(uint8_t *plane0, size_t stride0, uint8_t *plane1, size_t stride1,
                      const struct ref_quant *quant, const uint8_t *blocks, size_t rows,
                      size_t cols);
/* Makes f16 fields of n random blocks finite, and of small size or subnormal; all rows of int8
 * alike, nf4's and fp4's scales finite. */
void ref_quant_tame(const struct ref_quant *quant, uint8_t *blocks, size_t n);
float ref_half(uint16_t half);

#endif
