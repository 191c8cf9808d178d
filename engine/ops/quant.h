/* Weight storage formats on the device. A matrix (rows, cols) lies in one or two planes whose rows
 * start at multiples of 16 bytes: plane 0 the values or quants, plane 1 the scales. One GLSL file
 * shaders/lib/dq_<name>.glsl (row, column / 4 -> vec4, `precise`) serves every consumer;
 * lib/dq_texel.glsl gives CPU devices the same bits by whole texels.
 * Quants ("words" are 32 bits; lower bits hold lower columns):
 *   nibbles   8 columns a word
 *   bytes     4 columns a word
 *   two bits  16 columns a word
 *   three bits, five bits   a run of 128 columns has its lower two or four bits as above, then 4
 *             words with the highest bit of 32 columns each
 * Scales:
 *   super     of 256 columns: a word with f16 d low and m high, then 16 bytes, which are one for
 *             every 16 columns, or a scale and a minimum for every 32
 *
 *   f32       plane 0: floats
 *   f16, bf16 plane 0: halves, two a word
 *   q8_0      signed bytes; f16 d per 32 columns, two a word: d * q
 *   q4_0      nibbles; as q8_0: d * (q - 8)
 *   q4_1      nibbles; a word per 32 columns, f16 d low, m high: d * q + m
 *   q5_0      five bits; as q8_0: d * (q - 16)
 *   q5_1      five bits; as q4_1: d * q + m
 *   q2_k      two bits; super, a byte has the scale in its low, the minimum in its high nibble:
 *             d * scale * q - m * minimum
 *   q3_k      three bits; super, signed bytes: d * scale * (q - 4)
 *   q4_k, q5_k nibbles, five bits; super by 32 columns: d * scale * q - m * minimum
 *   q6_k      bytes 0..63; as q3_k: d * scale * (q - 32)
 *   iq4       nibbles; f32 d per 32 columns: d * code[q], the whole numbers of GGUF's IQ4_NL and
 *             IQ4_XS (d is exact: an f16 times a number of six bits)
 *   nf4, fp4  nibbles; f32 d per 64 columns: d * code[q] (QLoRA, Dettmers et al. 2023, arXiv
 *             2305.14314)
 *   int8      signed bytes; an f32 d a row: q * d * (1 / 127) (LLM.int8, Dettmers et al. 2022,
 *             arXiv 2208.07339, without its outliers: products are in f32) */
#ifndef AT_QUANT_H
#define AT_QUANT_H

#include "gpu.h"
#include "tensor.h"

enum at_quant_type {
    AT_F32,
    AT_F16,
    AT_BF16,
    AT_Q8_0,
    AT_Q4_0,
    AT_Q4_1,
    AT_Q5_0,
    AT_Q5_1,
    AT_Q2_K,
    AT_Q3_K,
    AT_Q4_K,
    AT_Q5_K,
    AT_Q6_K,
    AT_IQ4,
    AT_NF4,
    AT_FP4,
    AT_INT8,
    AT_QUANT_COUNT
};

/* Initialisers of a table by type with the kernels <operation>_<type> (engine/gpu/kernels.h),
 * AT_F32's left out. */
#define AT_QUANT_KERNELS(operation)                                                     \
    [AT_F16] = AT_KERNEL_##operation##_f16, [AT_BF16] = AT_KERNEL_##operation##_bf16,   \
    [AT_Q8_0] = AT_KERNEL_##operation##_q8_0, [AT_Q4_0] = AT_KERNEL_##operation##_q4_0, \
    [AT_Q4_1] = AT_KERNEL_##operation##_q4_1, [AT_Q5_0] = AT_KERNEL_##operation##_q5_0, \
    [AT_Q5_1] = AT_KERNEL_##operation##_q5_1, [AT_Q2_K] = AT_KERNEL_##operation##_q2_k, \
    [AT_Q3_K] = AT_KERNEL_##operation##_q3_k, [AT_Q4_K] = AT_KERNEL_##operation##_q4_k, \
    [AT_Q5_K] = AT_KERNEL_##operation##_q5_k, [AT_Q6_K] = AT_KERNEL_##operation##_q6_k, \
    [AT_IQ4] = AT_KERNEL_##operation##_iq4, [AT_NF4] = AT_KERNEL_##operation##_nf4,     \
    [AT_FP4] = AT_KERNEL_##operation##_fp4, [AT_INT8] = AT_KERNEL_##operation##_int8

struct at_quant {
    const char *name;
    uint32_t block_cols; /* columns a block covers; 1 for plain types */
    uint32_t n_planes;
};
const struct at_quant *at_quant_get(enum at_quant_type type);
/* Bytes of one row of a plane (multiple of 16; 0 for a plane that the type lacks). Rows of f32
 * that would be whole KiB have 64 bytes more: at_tensor_make_apart() says why. */
uint64_t at_quant_row_bytes(enum at_quant_type type, uint32_t plane, uint32_t cols);

/* A weight matrix W (rows = outputs, cols = inputs) as stored; a value. */
struct at_weight {
    enum at_quant_type type;
    bool is_tensor; /* f32 rows as a tensor's: at_weight_of_tensor() */
    uint32_t rows, cols;
    struct at_view plane[2];
};
uint64_t at_weight_row_bytes(const struct at_weight *weight, uint32_t plane);
/* An f32 weight's values where they lie. */
struct at_tensor at_weight_values(struct at_weight weight);
/* Not filled with zeros: at_weight_upload() and the like write whole rows. */
void at_weight_reserve(struct at_pool *pool, struct at_weight *weight, enum at_quant_type type,
                       uint32_t rows, uint32_t cols, const char *what);
/* The same for n weights of which types and shapes are set: each plane of theirs behind that of the
 * one before, as far as the pool keeps them together. */
void at_weights_reserve(struct at_pool *pool, struct at_weight *weights, uint32_t n,
                        const char *what);
/* Whether the n weights are rows of one behind each other: *out is that. */
bool at_weights_join(struct at_weight *out, const struct at_weight *weights, uint32_t n);
/* Rows [begin, begin + n) of a weight. */
struct at_weight at_weight_rows(struct at_weight weight, uint32_t begin, uint32_t n);
/* An f32 weight over a tensor's memory (trainable weights). */
struct at_weight at_weight_of_tensor(struct at_tensor tensor);
/* out (rows, cols) f32 = the weight's values, bit for bit what gguf-py's dequantisation gives. */
void at_dequantise(struct at_stream *stream, struct at_tensor out, struct at_weight weight);

#endif
