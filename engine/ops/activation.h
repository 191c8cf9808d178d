/* Elementwise operations and row movements. */
#ifndef AT_ACTIVATION_H
#define AT_ACTIVATION_H

#include "tensor.h"

/* m = silu(gate) * up, or with `gelu` GELU (by tanh) in place of silu; all (T,F). Shazeer 2020,
 * arXiv 2002.05202. */
void at_swiglu_fwd(struct at_stream *s, struct at_tensor m, struct at_tensor gate,
                   struct at_tensor up, bool gelu);
/* dgate and dup from dm. All (T,F); dgate may be gate, dup may be up. */
void at_swiglu_bwd(struct at_stream *s, struct at_tensor dgate, struct at_tensor dup,
                   struct at_tensor dm, struct at_tensor gate, struct at_tensor up, bool gelu);
/* y = GELU(x) by erf, and dx = dy GELU'(x); dx may be x. All (T,F). arXiv 1606.08415. */
void at_gelu_fwd(struct at_stream *s, struct at_tensor y, struct at_tensor x);
void at_gelu_bwd(struct at_stream *s, struct at_tensor dx, struct at_tensor dy, struct at_tensor x);
/* y *= factor. */
void at_scale(struct at_stream *s, struct at_tensor y, float factor);
/* y = cap * tanh(y / cap); the same. */
void at_softcap(struct at_stream *s, struct at_tensor y, float cap);
/* y += x; equal shapes and leading dimensions. */
void at_add(struct at_stream *s, struct at_tensor y, struct at_tensor x);
/* y = (1 - alpha) y + alpha x; the same. */
void at_mix(struct at_stream *s, struct at_tensor y, struct at_tensor x, float alpha);

/* out[i,:] = x[index[i],:]; index (rows of out) int32. Where x has no such row, -1 say, out's stays
 * as it is. */
void at_gather_rows(struct at_stream *s, struct at_tensor out, struct at_tensor x,
                    struct at_view index);
/* dx[t,:] = -sum of coef[i] * u[i,:] over i in [row_begin[t], row_begin[t+1]) in order (0 where the
 * range is empty). dx (T,C); u (R,C), R > 0; coef (R); row_begin (T+1) int32. */
void at_scatter_rows(struct at_stream *s, struct at_tensor dx, struct at_tensor u,
                     struct at_view coef, struct at_view row_begin);
/* Gradient of a trainable embedding: dW[id[j],:] += sum of dx[order[i],:] over i in
 * [begin[j], begin[j+1]) in order, j < n_ids; the ids are distinct, each id's rows ascend (the host
 * sorts). ids (n_ids), begin (n_ids+1), order (rows of dx) int32. */
void at_embed_bwd(struct at_stream *s, struct at_tensor dW, struct at_tensor dx, struct at_view ids,
                  struct at_view begin, struct at_view order, uint32_t n_ids);

#endif
