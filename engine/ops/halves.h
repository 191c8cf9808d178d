/* Products of f32 activations or gradients with weights, and of both for a weight's gradient, on
 * matrix units: operands are rounded to halves with one power-of-two exponent a row, sums are f32.
 * A product errs by at most 2^-10 of sum |a||b|; values may be of any magnitude. Where a device has
 * no matrix units the same numbers come from portable kernels (tests). In use where struct
 * at_gpu_info says `halves`. Where it says `bf16` too, which is never chosen but asked for,
 * operands are bf16 without exponents, and errors up to 2^-7. */
#ifndef AT_HALVES_H
#define AT_HALVES_H

#include "tensor.h"

/* Device scratch: both operands and their exponents. */
struct at_halves {
    struct at_view a, a_exp, b, b_exp; /* no buffers: not in use */
};
/* Bytes that products need; begins as zeros. */
struct at_halves_need {
    uint64_t a, a_exp, b, b_exp;
};
/* Adds the products of up to `a_rows` rows with a weight, or a panel of one, of (rows, cols). */
void at_halves_add(struct at_halves_need *need, uint32_t a_rows, uint32_t rows, uint32_t cols);
/* Adds the gradient of such a weight by up to T rows. */
void at_halves_add_tn(struct at_halves_need *need, uint32_t T, uint32_t rows, uint32_t cols);
/* Plans the scratch; nothing where the device computes in f32. */
void at_halves_reserve(struct at_pool *pool, struct at_halves *halves,
                       const struct at_halves_need *need);

/* C[:, c_col ... + rows of B) (+)= A B^T; A (M,K), B (N,K). A row's bits do not depend on M. */
void at_halves_nt(struct at_stream *s, struct at_tensor C, uint32_t c_col, struct at_tensor A,
                  struct at_tensor B, bool accumulate, const struct at_halves *halves);
/* C (+)= A[:, a_col ... + rows of B) B; B (K,N), C (M,N). */
void at_halves_nn(struct at_stream *s, struct at_tensor C, struct at_tensor A, uint32_t a_col,
                  struct at_tensor B, bool accumulate, const struct at_halves *halves);
/* C += A^T B; A (K,M), B (K,N), C (M,N). Summed in order over K, in parts of a fixed size. */
void at_halves_tn(struct at_stream *s, struct at_tensor C, struct at_tensor A, struct at_tensor B,
                  const struct at_halves *halves);

#endif
