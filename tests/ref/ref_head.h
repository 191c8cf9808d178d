/* The head by definition: z = h W^T, capped or not, p = softmax(z), all of it in memory, dense
 * double. */
#ifndef REF_HEAD_H
#define REF_HEAD_H

#include <stddef.h>
#include <stdint.h>

struct ref_head {
    size_t R, C, V;
    const double *h, *W; /* (R,C), (V,C) */
    const int32_t *targets;
    double cap; /* z = cap * tanh(h W^T / cap); 0: none */
};
/* stats (R,4): log p of the target, entropy, 1 if the target is the arg-max (lowest id wins ties),
 * mean logit; lse (R); u (R,C) = (p - onehot) slope W, the negative gradient of log p by h. */
void ref_head_fwd(double *stats, double *lse, double *u, const struct ref_head *head);
/* log_p2 (R): log sum_v p_v^2 */
void ref_head_log_p2(double *log_p2, const struct ref_head *head);
/* kl (R): sum_v p_v log(p_v / q_v), p of `head`, q of the states ref_h (R,C) before the same W */
void ref_head_kl(double *kl, const double *ref_h, const struct ref_head *head);
/* dW (V,C) += sum_i -coef[i] (p_i - onehot)^T h_i */
void ref_head_bwd_weight(double *dW, const double *coef, const struct ref_head *head);

#endif
