/* Softmax attention over two intervals of keys a query, dense double, score by score. Heads lie
 * side by side: q, o (T, H*D), k, v (n_keys, G*D), lse (T,H); query head h reads kv head h / (H/G).
 */
#ifndef REF_ATTENTION_H
#define REF_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

struct ref_attention {
    size_t T, n_keys, H, G, D;
    double scale;
    const int32_t *intervals; /* (T) prefix_begin, prefix_end, seg_begin, key_end */
    double cap;               /* cap * tanh(score / cap); 0: none */
    int32_t window;           /* keys at less than this many positions' distance; 0: all */
};
/* o and lse are 0 for queries without keys. */
void ref_attention_fwd(double *o, double *lse, const double *q, const double *k, const double *v,
                       const struct ref_attention *a);
/* All gradients are overwritten. */
void ref_attention_bwd(double *dq, double *dk, double *dv, const double *d_o, const double *q,
                       const double *k, const double *v, const struct ref_attention *a);

#endif
