/* How far results may lie from the double-precision reference, with reasons. f32 has 2^-24 = 6e-8
 * relative rounding; a sum of n terms errs by about sqrt(n) of that, relative to the sum of
 * magnitudes. */
#ifndef TOLERANCES_H
#define TOLERANCES_H

/* relative to the sum of |a||b|: sequential f32 sums of up to 1024 products, then of blocks */
#define TOL_GEMM 1e-6
/* relative to the sum of |a||b|: both operands are rounded to 11 bits, (1 + 2^-11)^2 - 1, and f32
 * sums
 */
#define TOL_HALVES 9.8e-4
/* the same to 8 bits: (1 + 2^-8)^2 - 1 */
#define TOL_BF16 7.9e-3
/* attention's outputs and log-sum-exp, relative to the largest: sums of up to 1100 products, exp2
 * to 1e-7 of scores of up to 20 */
#define TOL_ATTENTION 4e-6
/* its gradients: p is computed again from a rounded log-sum-exp */
#define TOL_ATTENTION_GRAD 1e-5
/* attention on matrix units, outputs and gradients, relative to the largest: q, k, v, d_o, p and ds
 * are rounded to 11 bits, scores of up to 20 by 1e-3 */
#define TOL_ATTENTION_HALVES 4e-3
/* scores of 1e4 are rounded by up to 1e-3, and so p by 1e-3 of itself */
#define TOL_ATTENTION_LARGE 4e-3
/* chained products (LoRA, two roundings of an intermediate), relative to the largest magnitude */
#define TOL_LINEAR 4e-6
/* log-probs and entropies: 1 + |value|; logits of width 130, exp and log of drivers within 4 ulp */
#define TOL_HEAD 1e-5
/* u and dW of the head, relative to 1 + |value| */
#define TOL_HEAD_GRAD 2e-5
/* KL of two states of the head: the difference of two log-probs, relative to 1 + |value| */
#define TOL_HEAD_KL 3e-5
/* loss values and coefficients: one exp and a short series, relative to 1 + |value| */
#define TOL_LOSS 2e-6
/* one AdamW step, relative to 1 + |value|: six roundings, the bias corrections in double */
#define TOL_ADAMW 1e-6
/* a norm over 1e5 elements, relative: slots of 4096 summed as a tree */
#define TOL_NORM 1e-6
/* rows: a norm, an activation or a turn: few roundings, sums of at most 1024 vec4s a lane; relative
 * to 1 + |value|, gradients to the magnitudes of their terms */
#define TOL_ROW 2e-6
/* central differences in double, step 1e-5: truncation 1e-10, rounding 1e-11 */
#define TOL_DIFFERENCE 1e-6
/* a side's log-prob with its prompt shared or repeated, relative: other tiles of the same f32 sums
 */
#define TOL_PREFIX 1e-5

#endif
