/* Matrix products, linear layers with frozen (possibly quantised) or trainable weights, LoRA
 * (Hu et al. 2021, arXiv 2106.09685). All record into `s`, allocate nothing; shapes that disagree
 * are AT_BUG. Any number of rows works. */
#ifndef AT_LINEAR_H
#define AT_LINEAR_H

#include "halves.h"
#include "quant.h"
#include "tensor.h"

/* C (M,N) = alpha * A (M,K) B (N,K)^T, added to C with `accumulate`. */
void at_matmul_nt(struct at_stream *s, struct at_tensor C, struct at_tensor A, struct at_tensor B,
                  float alpha, bool accumulate);
/* C (M,N) = alpha * A (M,K) B (K,N). */
void at_matmul_nn(struct at_stream *s, struct at_tensor C, struct at_tensor A, struct at_tensor B,
                  float alpha, bool accumulate);
/* C (M,N) = alpha * A (K,M)^T B (K,N); K is summed in fixed blocks of
 * GEMM_TN_BLOCK in order. */
void at_matmul_tn(struct at_stream *s, struct at_tensor C, struct at_tensor A, struct at_tensor B,
                  float alpha, bool accumulate);

/* The first two with values of a weight, B, in halves where `halves` has buffers, else in f32: of
 * NT columns [c_col, c_col + rows of B) of C, of NN with columns [a_col, a_col + rows of B) of A.
 */
void at_weight_nt(struct at_stream *s, struct at_tensor C, uint32_t c_col, struct at_tensor A,
                  struct at_tensor B, bool accumulate, const struct at_halves *halves);
void at_weight_nn(struct at_stream *s, struct at_tensor C, struct at_tensor A, uint32_t a_col,
                  struct at_tensor B, bool accumulate, const struct at_halves *halves);
/* dW (N,K) += dy^T x, of a weight or of some of its rows, likewise. */
void at_weight_tn(struct at_stream *s, struct at_tensor dW, struct at_tensor dy, struct at_tensor x,
                  const struct at_halves *halves);

/* Device scratch shared by all linear layers: one dequantised panel of a weight, and the operands
 * of its product where those are halves. */
struct at_linear_scratch {
    struct at_view panel;
    struct at_halves halves;
};
/* Largest panel that any of the n weights needs (0 bytes when all are f32), for up to T rows;
 * `trainable`: at_linear_bwd_weight() too. */
void at_linear_scratch_reserve(struct at_pool *pool, struct at_linear_scratch *scratch,
                               const struct at_weight *const *weights, size_t n, uint32_t T,
                               bool trainable);

/* y (T,N) = x (T,K) W^T, added to y with `accumulate`. */
void at_linear_fwd(struct at_stream *s, struct at_tensor y, struct at_tensor x, struct at_weight w,
                   const struct at_linear_scratch *scratch, bool accumulate);
/* What is added to a product with a weight: scale * a b^T to that of at_linear_fwd_and(), scale * a
 * b to that of at_linear_bwd_and(). */
struct at_added {
    struct at_tensor a, b; /* (T,r); (N,r) forward, (r,K) backward */
    float scale;
};
/* at_linear_fwd() and at_linear_bwd(), to whose result a product is added: in the same launch,
 * where the device has kernels for it; the same bits. */
void at_linear_fwd_and(struct at_stream *s, struct at_tensor y, struct at_tensor x,
                       struct at_weight w, const struct at_linear_scratch *scratch, bool accumulate,
                       const struct at_added *added);
void at_linear_bwd_and(struct at_stream *s, struct at_tensor dx, struct at_tensor dy,
                       struct at_weight w, const struct at_linear_scratch *scratch, bool accumulate,
                       const struct at_added *added);
/* y (1,N) = alpha * x (1,K) W^T: the same for decoding, whose weights are read as they are stored.
 * Rounded otherwise than at_linear_fwd(), but on devices with at_gpu_info.few_rows. */
void at_linear_row(struct at_stream *s, struct at_tensor y, struct at_tensor x, struct at_weight w,
                   float alpha, bool accumulate);
/* dx (T,K) = dy (T,N) W. */
void at_linear_bwd(struct at_stream *s, struct at_tensor dx, struct at_tensor dy,
                   struct at_weight w, const struct at_linear_scratch *scratch, bool accumulate);
/* dW (N,K) += dy^T x, for trainable weights. */
void at_linear_bwd_weight(struct at_stream *s, struct at_tensor dW, struct at_tensor dy,
                          struct at_tensor x, const struct at_linear_scratch *scratch);

/* y[t,:] += b; b (N). db (N) += sum_t dy[t,:] in row order. */
void at_bias_fwd(struct at_stream *s, struct at_tensor y, struct at_view b);
void at_bias_bwd(struct at_stream *s, struct at_view db, struct at_tensor dy);

/* One adapter on one linear layer. dA and dB have no buffer when the adapter is frozen. */
struct at_lora {
    struct at_tensor A, B;   /* (r, K), (N, r) */
    struct at_tensor dA, dB; /* gradients, accumulated */
    float scale;             /* alpha / r, or alpha / sqrt(r) with rsLoRA */
    /* DoRA (dora.h): magnitudes (1, N) and their gradient; the norms (N) they are divided by. No
     * buffers without it. */
    struct at_tensor m, dm;
    struct at_view norm;
};
/* z (T,r) = x A^T; y += scale * z B^T. */
void at_lora_fwd(struct at_stream *s, struct at_tensor y, struct at_tensor z, struct at_tensor x,
                 const struct at_lora *lora);
/* The same for one row, with at_linear_row(). */
void at_lora_row(struct at_stream *s, struct at_tensor y, struct at_tensor z, struct at_tensor x,
                 const struct at_lora *lora);
/* dz (T,r) = scale * dy B; dB += scale * dy^T z; dA += dz^T x; dx += dz A (skipped when dx has no
 * buffer). The gradients are skipped for a frozen adapter. */
void at_lora_bwd(struct at_stream *s, struct at_tensor dx, struct at_tensor dz, struct at_tensor dy,
                 struct at_tensor x, struct at_tensor z, const struct at_lora *lora);

#endif
