/* Choosing next tokens on the device: of (rows, vocabulary) logits only ids and log-probs come
 * back. */
#ifndef AT_SAMPLING_H
#define AT_SAMPLING_H

#include "tensor.h"

/* How a next token is chosen. Logits of ids that prompt or reply have are divided by the repetition
 * penalty where they are positive, else multiplied (Keskar et al. 2019, arXiv 1909.05858).
 * Temperature 0 takes the likeliest (lowest id wins ties); else logits / temperature, the top_k
 * likeliest of them (0: all; lowest ids of equal ones), of those the fewest likeliest whose
 * probabilities sum to at least top_p (Holtzman et al. 2019, arXiv 1904.09751), of those all that
 * are at least min_p times as likely as the likeliest (Nguyen et al. 2024, arXiv 2407.01082), by
 * Philox keyed by (seed, prompt, sample, position): the same token whatever else is sampled. */
struct at_sampling {
    double temperature, top_p; /* top_p in (0, 1]; 1: all */
    double min_p;              /* in [0, 1]; 0: all */
    double repetition_penalty; /* 1, or 0: none */
    uint32_t top_k;
    uint64_t seed;
};
bool at_sampling_penalises(const struct at_sampling *sampling);

struct at_sample_buffers {
    struct at_view tokens; /* (R,4) int32 out: id; f32 bits of its log-prob under the softmax of the
                            * logits as they came; lowest id whose logit is not finite, or -1; 0 */
    struct at_view rows;   /* (R) struct sample_row of shaders/args.h */
    struct at_view seen;   /* (slots, at_sample_seen_words()) bits of ids; read, and the chosen ids
                            * added, with a repetition penalty alone */
    struct at_view stop;   /* (n_stop) int32 ids that a row with `holds` may not take */
};
/* logits (R, V) are only read. */
void at_sample_rows(struct at_stream *s, struct at_tensor logits, uint32_t n_stop,
                    const struct at_sample_buffers *buffers, const struct at_sampling *sampling);
uint32_t at_sample_seen_words(uint32_t V); /* 32-bit words of a slot of `seen` */

/* Of keys and values alike: y[place[t],:] = x[t,:]; place (T) int32, no two alike, below the rows
 * of y. */
void at_store_rows(struct at_stream *s, struct at_tensor yk, struct at_tensor yv,
                   struct at_tensor xk, struct at_tensor xv, struct at_view place);

#endif
