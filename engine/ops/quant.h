/* Weight storage formats on the device. A matrix (rows, cols) lies in one or two planes whose rows
 * start at multiples of 16 bytes: plane 0 the values or quants, plane 1 the scales. One GLSL file
 * shaders/lib/dq_<name>.glsl (row, column / 4 -> vec4, `precise`) serves every consumer;
 * lib/dq_texel.glsl gives CPU devices the same bits by whole texels.
 *   f32   plane 0: floats                    f16, bf16  plane 0: halves, two a word, low half first
 *   q8_0  plane 0: signed bytes, 4 a word    plane 1: f16 d per 32 columns, two a word
 *   q4_0  plane 0: nibbles, 8 a word, column 8i+j at bit 4j; value d * (nibble - 8); plane 1 as
 * q8_0 q4_1  plane 0 as q4_0; value d * nibble + m; plane 1: a word per 32 columns, d low, m high
 *   q6_k  plane 0: 6-bit quants as bytes q + 0..63, 4 a word; plane 1: f32 d * scale per 16 columns
 *         (the product d * scale is one f32 rounding, as the reference does it) */
#ifndef AT_QUANT_H
#define AT_QUANT_H

#include "gpu.h"
#include "tensor.h"

enum at_quant_type { AT_F32, AT_F16, AT_BF16, AT_Q8_0, AT_Q4_0, AT_Q4_1, AT_Q6_K, AT_QUANT_COUNT };

struct at_quant {
    const char *name;
    uint32_t block_cols; /* columns a block covers; 1 for plain types */
    uint32_t n_planes;
    double bits; /* per weight on the device */
};
const struct at_quant *at_quant_get(enum at_quant_type type);
/* Bytes of one row of a plane (multiple of 16; 0 for a plane that the type lacks). */
uint64_t at_quant_row_bytes(enum at_quant_type type, uint32_t plane, uint32_t cols);

/* A weight matrix W (rows = outputs, cols = inputs) as stored; a value. */
struct at_weight {
    enum at_quant_type type;
    uint32_t rows, cols;
    struct at_view plane[2];
};
void at_weight_reserve(struct at_pool *pool, struct at_weight *weight, enum at_quant_type type,
                       uint32_t rows, uint32_t cols, const char *what);
/* Rows [begin, begin + n) of a weight. */
struct at_weight at_weight_rows(struct at_weight weight, uint32_t begin, uint32_t n);
/* An f32 weight over a tensor's memory (trainable weights). */
struct at_weight at_weight_of_tensor(struct at_tensor tensor);
/* out (rows, cols) f32 = the weight's values, bit for bit what gguf-py's dequantisation gives. */
void at_dequantise(struct at_stream *stream, struct at_tensor out, struct at_weight weight);

#endif
