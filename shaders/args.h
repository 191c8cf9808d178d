/* Push constants, one struct a kernel family: the same text for C and for GLSL. U32, I32 and F32
 * members only, so that both lay them out alike. Leading dimensions (ld*) are in elements and are
 * multiples of 4. Dimension letters: T tokens, C width, H heads, G kv heads, D head width, F feed-
 * forward width, V vocabulary, R rank, L layers; M, N, K in matrix products only. Members called C, D, F, N, cols, ld..., ..._col, t0 or key0 say where rows, columns
 * and blocks lie: stores by pairs rest on them (shaders.cmake, lib/store.glsl). */
#ifndef AT_ARGS_H
#define AT_ARGS_H
#ifdef __STDC__
#include <stdint.h>
#define U32 uint32_t
#define I32 int32_t
#define F32 float
#else
#define U32 uint
#define I32 int
#define F32 float
#endif

/* clang-format off */
struct adamw_args {
    U32 n; F32 decay, beta1, one_minus_beta1, beta2, one_minus_beta2, sqrt_correction2, step_size, epsilon;
};
struct add_args { U32 n; };
/* A block of queries from t0 and of keys from key0 on: all views but ds begin there. ds: see
 * attention_cpu_bwd_kv.comp. g0: first kv head. accumulate 0 or 1. share: of the (query, key) pairs, those
 * that are read; no shader's, but the formulas' of kernels.def. */
struct attention_bwd_args {
    U32 n_t, n_keys, t0, key0, g0, H, G, ldq, ldk, ldv, lddo, lddq, lddk, lddv, ldds, accumulate, window; F32 scale, cap, share;
};
struct attention_fwd_args { U32 T, n_keys, H, G, ldq, ldk, ldv, ldo, window; F32 scale, cap, share; };
struct attention_sum_args { U32 T, H, ldo, lddo; };
struct bias_args { U32 T, C, ld; };
struct center_args { U32 T, C, ldy, ldx, accumulate; }; /* accumulate 0 or 1 */
struct dequantise_args { U32 rows, cols, ld, quants_stride, scales_stride; }; /* strides in words */
struct dora_bwd_args { U32 T, C, lddy, ldu; };
struct dora_norm_args { U32 rows, cols, ld; };
struct dora_rows_args { U32 rows, ld; };
struct dora_scale_args { U32 T, C, ldy, ldu; F32 offset; U32 accumulate; }; /* accumulate 0 or 1 */
/* Keep where Philox >= threshold. accumulate 0 or 1. */
struct dropout_args { U32 T, C, ldy, ldx, module, threshold, key0, key1; F32 scale; U32 accumulate; };
struct embed_bwd_args { U32 n_ids, C, v0, V, t0, T, lddw, lddx; };
struct gelu_args { U32 T, F, ldy, ldx; };
struct gelu_bwd_args { U32 T, F, lddx, lddy, ldx; };
/* C[M,N] (+)= alpha * op(A) op(B); accumulate 0 or 1; *_col: first column of a matrix in its rows.
 * added_K > 0, for the wide kernels of CPU devices alone: a second product of the same form and shape but for
 * its K, times added_alpha, is added behind. The same in gemv_args, where it is x2[M,K] W2[N,K]^T. */
struct gemm_args { U32 M, N, K, lda, ldb, ldc, a_col, b_col, c_col; F32 alpha; U32 accumulate, added_K, added_lda, added_ldb; F32 added_alpha; };
/* The same of form NN where B is a weight as it is stored: strides of its planes in words. */
struct gemm_stored_args { U32 M, N, K, lda, ldc, a_col, c_col, quants_stride, scales_stride; F32 alpha; U32 accumulate, added_K, added_lda, added_ldb; F32 added_alpha; };
/* gemm_args of halves with an exponent a row (gemm_matrix.comp); lda, ldb in halves, multiples of 8. */
struct gemm_half_args { U32 M, N, K, lda, ldb, ldc, c_col, accumulate; };
/* y[M,N] (+)= alpha * x[M,K] W[N,K]^T; the sum is over columns k_begin, a multiple of 128 (DQ_HOLD), to k_end;
 * strides of W's planes in words. */
struct gemv_args { U32 M, N, k_begin, k_end, ldx, ldy, y_col, quants_stride, scales_stride; F32 alpha; U32 accumulate, added_K, added_lda, added_ldb; F32 added_alpha; };
struct head_chunk_args { U32 R, C, n, v0, ldz, ldu, first; F32 cap; };
struct head_finish_args { U32 R, C, V, ldu, ldy, with_u; F32 cap; };
struct head_grad_args { U32 R, n, v0, ldz; F32 cap; };
struct head_kl_args { U32 R, C, ldu, ldh, ldr; };
struct head_target_args { U32 R, C, n, v0, ldy, ldw; };
struct mix_args { U32 n; F32 alpha; };
struct pack_columns_args { U32 rows, cols, ldx, x_col, ldh; }; /* ldh in halves, a multiple of 8 */
struct pack_rows_args { U32 rows, cols, ldx, x_col, ldh; };    /* the same */
/* chosen: which segments are a loss's chosen side, the first, the first and the third, the third alone.
   weight: loss_weight over the pairs of the step. divergence: losses/divergence.h; log_ratios 0 or 1. */
struct pair_loss_args {
    U32 n_pairs, segments, chosen; F32 weight, loss_weight, beta, label_smoothing, discopop_tau, mean_n_chosen, simpo_gamma, tpo_l_gamma, alphapo_alpha, center_rewards_coefficient, alpha; I32 divergence, log_ratios, use_weighting;
};
struct peak_multiply_args { U32 n, turns; F32 factor, offset; };
/* level: losses/policy.comp. */
struct policy_loss_args { U32 n_segments, level; F32 beta, epsilon_low, epsilon_high, delta, weighs_kl; };
struct rmsnorm_args { U32 T, C, ldy, ldx; F32 eps; };
struct rmsnorm_bwd_args { U32 T, C, lddx, lddy, ldx; };
struct rmsnorm_bwd_weight_args { U32 T, C, lddy, ldx; };
struct rope_args { U32 T, H, G, D, ldq, ldk, p0, n, ldtable; F32 sign; };
struct row_loss_args { U32 n_rows; F32 weight, beta, desirable_weight, undesirable_weight; };
struct sample_args { U32 R, V, ldz, n_stop, top_k; F32 temperature, top_p, min_p, penalty; U32 key0, key1; };
struct scale_args { U32 n; F32 factor; };
struct scatter_rows_args { U32 T, t0, C, R, i0, lddx, ldu; };
struct segment_sum_args { U32 n_segments; };
struct softcap_args { U32 n; F32 cap; };
struct sqnorm_part_args { U32 n, first_slot; };
struct sqnorm_total_args { U32 n; F32 max_norm; };
struct store_rows_args { U32 T, C, ldy, ldx; };
struct swiglu_args { U32 T, F, ldm, ldgate, ldup; };
struct swiglu_bwd_args { U32 T, F, lddgate, lddup, lddm, ldgate, ldup; };
struct token_loss_args { U32 R; F32 weight; };
struct value_bwd_args { U32 R, C, ldh; };
struct value_fwd_args { U32 R, C, ldh, ldu, with_u; };
/* Not push constants: a row of a buffer. Who draws its next token: prompt, reply to it and place, which key
 * the random number; slot: its row of the ids seen; holds 0 or 1: it may not stop yet. */
struct sample_row { U32 prompt, sample_index, position, slot, holds; };
/* clang-format on */

/* of pair_loss_args */
#define PAIR_CHOSEN_FIRST 0
#define PAIR_CHOSEN_BOTH 1
#define PAIR_CHOSEN_THIRD 2
/* Which side of a matrix product is narrow: C has few columns, C has few rows (TN). */
#define GEMM_WIDE 0
#define GEMM_NARROW 1
#define GEMM_SHORT 2
#define GEMM_TN_BLOCK 256 /* values of k that TN sums apart, before it adds them, in order */
/* Rows of x in a tile of gemv, 1, 4, 8 or 16; of gemv_cpu_many.comp this or half of it. */
#define GEMV_MANY 64
/* Query heads of a kv head are worked on in parts of at most 32; a tile of a portable attention
 * kernel has this many positions. R query heads a kv head. */
#define ATTENTION_PARTS(R) (((R) + 31) / 32)
#define ATTENTION_HEADS(R) (((R) + ATTENTION_PARTS(R) - 1) / ATTENTION_PARTS(R))
#define ATTENTION_POSITIONS(R) (32 / ATTENTION_HEADS(R))
/* Widest heads that the attention kernels for matrix units have shared memory for. */
#define ATTENTION_MATRIX_WIDTH 128
/* Tiles of the attention kernels of CPU devices with subgroups of L: positions of the forward pass,
 * 16 to 32 (query, head) rows, that is, registers; keys of attention_cpu_bwd_kv.comp, a multiple
 * of 4, of 8 with subgroups of 16. */
#define ATTENTION_CPU_POSITIONS(L, D, R) \
    ((R) == 1 ? 16 : ((D) > 64 ? 15 + (R) : (L) < 16 ? 24 : 32) / (R))
#define ATTENTION_CPU_KEYS(L, D) ((D) > 64 ? 8 : (L) < 16 ? 12 : 24)

#undef U32
#undef I32
#undef F32
#endif
