/* The fused head: log-probs of target tokens without ever holding (rows, vocabulary) values.
 * Per vocabulary chunk: z = h W^T, soft-capped where the scratch says so; m' = max; U = e^(m-m') U
 * + e^(z-m') W; sums likewise; at the end U/l - W_y is the unscaled gradient row -dlogp/dh.
 * DESIGN.md 1.4. */
#ifndef AT_LOGPROB_H
#define AT_LOGPROB_H

#include "linear.h"

struct at_head_scratch {
    uint32_t capacity_rows, chunk; /* rows R at most; vocabulary entries a chunk (multiple of 64) */
    struct at_view logits;         /* (R, chunk) */
    struct at_view state;          /* running values of each row */
    struct at_view panel;          /* dequantised chunk of W */
    struct at_halves halves;       /* operands of the products, where those are halves */
    float cap; /* soft-cap of the logits, cap * tanh(z / cap), which the caller sets; 0: none */
};
/* Plans scratch for up to R rows (rounded to 64) on a head (V, C); chunk chosen from limits.
 * `trainable`: at_head_bwd_weight() too. */
void at_head_reserve(struct at_pool *pool, struct at_head_scratch *scratch, uint32_t R,
                     struct at_weight head, bool trainable);

/* stats (R,4) f32 a row: logp of the target (nats), entropy, 1 if the target is the arg-max (lowest
 * id wins ties) else 0, mean over the vocabulary of the logit. lse (R): log-sum-exp; log_p2
 * (R): log of the sum over the vocabulary of p^2. h (R,C): gathered, normed hidden states; targets
 * (R) int32. u (R,C) = (p - onehot(target)) W, not computed when u has no buffer (reference pass;
 * stats have the same bits either way). */
void at_head_fwd(struct at_stream *s, struct at_view stats, struct at_view lse,
                 struct at_view log_p2, struct at_tensor u, struct at_tensor h,
                 struct at_view targets, struct at_weight w, const struct at_head_scratch *scratch);
/* kl (R,4) a row: KL(p || q) of its next token over the whole vocabulary (nats) and three zeros, as
 * at_segment_sums() reads them; p of the states h, q of ref_h before the same head, both (R,C).
 * stats and u of h, ref_stats of ref_h by at_head_fwd() with the same targets. Exact but for
 * rounding, near that of a log-prob; bitwise 0 where h and ref_h are equal. */
void at_head_kl(struct at_stream *s, struct at_view kl, struct at_view stats,
                struct at_view ref_stats, struct at_tensor u, struct at_tensor h,
                struct at_tensor ref_h);
/* dW (V,C) += sum_i -coef[i] (p_i - onehot)^T h_i, recomputing p chunk by chunk from lse;
 * coef (R) = dloss/dlogp. */
void at_head_bwd_weight(struct at_stream *s, struct at_tensor dW, struct at_tensor h,
                        struct at_view targets, struct at_view lse, struct at_view coef,
                        struct at_weight w, const struct at_head_scratch *scratch);
/* logits (R,V) of few rows for sampling (decoding only): R at most 64, one by at_linear_row(). */
void at_head_logits(struct at_stream *s, struct at_tensor logits, struct at_tensor h,
                    struct at_weight w, const struct at_head_scratch *scratch);

/* sums (n_segments,8): sums of stats over the segment's rows in order (4 values, the first of them
 * weighted), the number of rows, the first sum without weights, the sum of log_p2, 0. stats (R,4);
 * weight and log_p2 (R); order (n_rows) and begin (n_segments+1) int32 as in slab.h. */
void at_segment_sums(struct at_stream *s, struct at_view sums, struct at_view stats,
                     struct at_view weight, struct at_view log_p2, struct at_view order,
                     struct at_view begin, uint32_t n_segments);

/* ---- loss drivers (losses/) ---- */

/* Host twin of struct loss_params in losses/prelude.h, as floats, and the divergence of the scores
 * (losses/divergence.h). */
struct at_loss_params {
    float beta, label_smoothing, discopop_tau, mean_n_chosen, simpo_gamma, alphapo_alpha;
    int divergence;
    float alpha;
    float desirable_weight, undesirable_weight; /* of row losses */
    float center_rewards_coefficient;
    bool use_weighting; /* WPO: losses/pair.comp */
    float tpo_l_gamma;
};
/* A pair loss that was compiled at run time. */
struct at_own_loss {
    const char *reads; /* as in losses.def; borrowed */
    uint32_t kernel;
};
/* Makes one of the SPIR-V of losses/pair.comp with a loss in it. */
AT_CHECKED at_own_loss_make(struct at_own_loss *out, struct at_gpu *gpu, const char *name,
                            const char *reads, const uint32_t *spirv, size_t spirv_bytes);
/* A loss of a list: a row of losses.def, or one's own, and its factor. */
struct at_loss_term {
    const char *name;
    float weight;
    const struct at_own_loss *own; /* NULL: `name` is a row of losses.def */
};
/* Pairs on the device. A pair has `segments` segments: chosen, rejected, and when they are three
 * its prompt, or of triples its reference. */
struct at_pair_batch {
    uint32_t n_pairs, segments, R; /* R: all completion rows */
    bool triples;
    struct at_view sums, ref_sums; /* as at_segment_sums() gives them; ref_sums may have the pair's
                                      margin as value 7 of its chosen segment */
    struct at_view row_weight;     /* (R) that the log-probs were summed with */
    struct at_view match;          /* (n_pairs,4): struct pair_match of losses/prelude.h, 0 */
    struct at_view order, begin;
};
/* The sum of n losses. A loss that reads "w" sees the prompt and the chosen side of three segments
 * as one, and of triples the reference as the chosen side. coef[i] = weight * dloss/dlogp_i for
 * every completion row (0 for rows of no segment: all R are written); out (n_pairs,4): loss,
 * log-ratio (policy - reference) of chosen, of rejected, 0. weight: 1 / pairs of the whole
 * optimizer step. */
void at_pair_losses(struct at_stream *s, const struct at_loss_term *terms, size_t n,
                    struct at_view coef, struct at_view out, const struct at_pair_batch *pairs,
                    const struct at_loss_params *params, float weight);
/* Knobs of policy losses, those of struct policy_params in losses/prelude.h first. */
struct at_policy_params {
    float beta, epsilon_low, epsilon_high, delta, weighs_kl;
    bool sequence; /* ratios are the mean over a sample of their logarithms, not those of tokens */
};
/* Policy losses: segment i is a sample. tokens (R,4): in: log-probs of the policy that sampled and
 * of the reference, and two values that are not read; out: loss, k3 KL, 1 where the ratio is
 * clipped from below, from above. facts (n_segments,4): advantage, share of the step's loss that a
 * token's loss is, 1 where tokens have the first log-prob, 1 where the second. coef[i] = dloss of
 * the step/dlogp_i, 0 for rows of no segment. */
void at_policy_loss(struct at_stream *s, const char *loss, struct at_view coef,
                    struct at_view tokens, struct at_view stats, struct at_view facts,
                    struct at_view order, struct at_view begin, uint32_t n_segments, uint32_t R,
                    const struct at_policy_params *params);
/* Row losses: row i has one segment. coef as above; out (n_rows,4): loss, log-ratio, 0, 0. facts
 * (n_rows,2): the KL term, 1 where the row is desirable. weight: 1 / rows of the whole optimizer
 * step. */
void at_row_loss(struct at_stream *s, const char *loss, struct at_view coef, struct at_view out,
                 struct at_view sums, struct at_view ref_sums, struct at_view facts,
                 struct at_view order, struct at_view begin, uint32_t n_rows, uint32_t R,
                 const struct at_loss_params *params, float weight);
/* Token losses (SFT): coef[i] = weight * dloss/dlogp_i for rows with segment >= 0, else 0; row_loss
 * (R,4) the unweighted loss of each row and three zeros, as at_segment_sums()
 * reads it. weight: 1 / target tokens of the whole optimizer step. */
void at_token_loss(struct at_stream *s, const char *loss, struct at_view coef,
                   struct at_view row_loss, struct at_view stats, struct at_view row_segment,
                   uint32_t R, float weight);

#endif
