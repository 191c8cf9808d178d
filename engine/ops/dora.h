/* DoRA on one linear layer (Liu et al. 2024, arXiv 2402.09353, eq. 5, as PEFT computes it):
 *   y = g (x W^T + s x A^T B^T) + bias,  g[i] = m[i] / ||W[i,:] + s (B A)[i,:]||
 * With dropout the base's own product stays as it is: y = x W^T + (g - 1) x' W^T + g s x' A^T B^T.
 * The norm is a constant in the backward pass. A fresh one (B zero, m the norm) has the bits of the
 * base without it. All record into `s` and allocate nothing; shapes that disagree are AT_BUG. */
#ifndef AT_DORA_H
#define AT_DORA_H

#include "dropout.h"

enum { AT_DORA_PANEL = 256 }; /* rows of W that at_dora_norm() holds at once */

/* lora->norm (N) of the weights as they are. panel: scratch of at_tensor_bytes(AT_DORA_PANEL, K).
 */
void at_dora_norm(struct at_stream *s, const struct at_lora *lora, struct at_weight w,
                  struct at_view panel);

/* w (n, K), rows of the base's weights, becomes g (w + s B A), the rows that the adapter makes of
 * them: B (n, r), m (1, n) and norm (n floats of scratch) are of these rows. */
void at_dora_merge(struct at_stream *s, struct at_tensor w, const struct at_lora *lora);

/* A linear layer under DoRA and what its passes write on the way. */
struct at_dora_linear {
    struct at_weight w;
    const struct at_linear_scratch *scratch;
    const struct at_lora *lora;       /* with m and norm; NULL: this pass skips it */
    struct at_tensor u;               /* (T, N); its view also holds rows as far apart as y has */
    struct at_tensor z;               /* (T, r): kept for the backward pass */
    struct at_tensor dz;              /* (T, r), backward pass */
    struct at_tensor dropped;         /* (T, K), with dropout */
    const struct at_dropout *dropout; /* of this pass; NULL: none */
    uint32_t module;                  /* of the dropout mask */
};
/* y (T,N) without the bias, added to y with `accumulate`. A row alone is computed as in decoding:
 * at_linear_row(). */
void at_dora_fwd(struct at_stream *s, struct at_tensor y, struct at_tensor x,
                 const struct at_dora_linear *linear, bool accumulate);
/* dx (T,K) from dy, added with `accumulate`, not computed without a buffer; dA, dB and dm are added
 * to where the adapter trains. u is computed again from x and z. */
void at_dora_bwd(struct at_stream *s, struct at_tensor dx, struct at_tensor dy, struct at_tensor x,
                 const struct at_dora_linear *linear, bool accumulate);

#endif
