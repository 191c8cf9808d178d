/* Quantised formats from raw GGUF blocks (ggml-common.h): the values in f32, with one rounding
 * where the format's definition has one, and the repacking to the device's planes
 * (engine/ops/quant.h). */
#ifndef REF_QUANT_H
#define REF_QUANT_H

#include <stddef.h>
#include <stdint.h>

struct ref_quant {
    const char *name; /* as gguf-py names it, in lower case */
    size_t block_cols, block_bytes;
};
const struct ref_quant *
ref_quant_find(const char *name); /* f16 bf16 q8_0 q4_0 q4_1 q6_k, or NULL */

/* n values (a multiple of block_cols) from blocks. */
void ref_quant_values(float *values, const struct ref_quant *quant, const uint8_t *blocks,
                      size_t n);
/* (rows, cols) into planes whose rows lie stride0 and stride1 bytes apart; both zeroed by the
 * caller. */
void ref_quant_planes(uint8_t *plane0, size_t stride0, uint8_t *plane1, size_t stride1,
                      const struct ref_quant *quant, const uint8_t *blocks, size_t rows,
                      size_t cols);
float ref_half(uint16_t half);

#endif
