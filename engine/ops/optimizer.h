/* Gradient norm, clipping and AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) on flat f32
 * arenas, without host synchronisation. */
#ifndef AT_OPTIMIZER_H
#define AT_OPTIMIZER_H

#include "tensor.h"

/* A piece of the flat arenas: n elements; p, g, m, v views of equal size; weight decay and a factor
 * of the learning rate of its own. */
struct at_arena_part {
    struct at_view p, g, m, v;
    uint64_t n;
    float weight_decay, rate;
};
/* norm (8 floats): [0] L2 norm over all parts, [1] clip factor min(1, max_norm / (norm + 1e-6)) (1
 * when max_norm is 0), [2] 1 when everything is finite, else 0. scratch:
 * at_grad_norm_scratch_bytes(). */
void at_grad_norm(struct at_stream *s, struct at_view norm, struct at_view scratch,
                  const struct at_arena_part *parts, size_t n_parts, float max_norm);
uint64_t at_grad_norm_scratch_bytes(const struct at_arena_part *parts, size_t n_parts);

struct at_adamw {
    float learning_rate, beta1, beta2, epsilon;
    uint32_t step; /* from 1: bias corrections are computed from it in double */
};
/* g is scaled by norm[1]; p -= lr (m^ / (sqrt(v^) + eps) + wd p) as PyTorch orders it, lr being
 * learning_rate times the part's rate; g becomes 0. Nothing but g = 0 happens when norm[2] is 0. */
void at_adamw_step(struct at_stream *s, const struct at_arena_part *part, struct at_view norm,
                   const struct at_adamw *params);

#endif
