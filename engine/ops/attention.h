/* Rotary embedding and interval attention. Heads lie side by side in a row: q, o (T, H*D); k, v
 * (keys, G*D); query head h reads kv head h / (H/G). */
#ifndef AT_ATTENTION_H
#define AT_ATTENTION_H

#include "tensor.h"

/* q and k in place: the two halves of the first W values of each head (Hugging Face's layout: i and
 * i + W/2) are turned by the angle of (position, i). table (positions, W): cos in [0, W/2), sin in
 * [W/2, W), made on the host in double. D, the head's width, is a multiple of 4, W even. positions
 * (T) int32. There is no k where its buffer is NULL. `backward` turns the other way. */
void at_rope(struct at_stream *s, struct at_tensor q, struct at_tensor k, struct at_view positions,
             struct at_tensor table, uint32_t D, bool backward);

struct at_attention {
    uint32_t T;               /* query rows */
    uint32_t n_keys;          /* rows of k and v (T in training; more when decoding) */
    uint32_t H, G, D;         /* H a multiple of G; D a multiple of 4 */
    float scale;              /* 1 / sqrt(D) usually */
    float cap;                /* soft-cap of the scaled scores, cap * tanh(s / cap); 0: none */
    uint32_t window;          /* a key is read from less than this many positions away; 0: from any.
                               * Positions count from a row's prefix, or segment without one */
    uint32_t n_alone;         /* rows, about, that share their segment with no other of these: how
                               * rows are put together goes by it, no bit of the result does */
    double pairs;             /* at_attention_pairs() of the rows, for profiles and the length of
                               * submissions; 0: half of T * n_keys, about */
    struct at_view intervals; /* (T) 4 x int32: prefix_begin, prefix_end, seg_begin, key_end */
    struct at_view query_end; /* (T) int32, for the backward pass (see slab.h) */
};
/* (query, key) pairs of n rows with these intervals (n, 4), of host memory: in each interval of a
 * row positions run on, and its last key is the query itself. */
double at_attention_pairs(const int32_t *intervals, uint32_t n, uint32_t window);
/* o[t] = softmax over the allowed keys of scale q.k, times v; lse (T,H) = log-sum-exp of the scaled
 * scores, 0 for rows without keys (o is 0 there). FlashAttention-2, arXiv 2307.08691.
 * Rows of a segment lie behind each other, each one's key_end one more than the one's before. A
 * row's bits depend on its own q, keys and values alone, as long as all others are finite.
 * k and v must each fit the device's largest binding: else AT_BUG. */
void at_attention_fwd(struct at_stream *s, struct at_tensor o, struct at_view lse,
                      struct at_tensor q, struct at_tensor k, struct at_tensor v,
                      const struct at_attention *p);
/* dq, dk, dv are overwritten; n_keys = T. dsum (T,H) f32 and scores are scratch of
 * at_attention_scratch_bytes(): T * H floats and, where kernels keep them, 32 MiB at most. The same
 * slab, device and limits give the same bits. A binding must hold 64 rows of each tensor. */
void at_attention_bwd(struct at_stream *s, struct at_tensor dq, struct at_tensor dk,
                      struct at_tensor dv, struct at_tensor d_o, struct at_tensor q,
                      struct at_tensor k, struct at_tensor v, struct at_tensor o,
                      struct at_view lse, struct at_view scratch, const struct at_attention *p);
/* Of the kernels in use now: at_gpu_use_attention_halves(). */
uint64_t at_attention_scratch_bytes(const struct at_gpu *gpu, uint32_t T, uint32_t H, uint32_t G,
                                    uint32_t D);

#endif
