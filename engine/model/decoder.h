/* Forward and backward passes of a decoder over a slab: activations planned once, adapters as a
 * stack, completion rows through the fused head. The same code trains adapters and full models. */
#ifndef AT_DECODER_H
#define AT_DECODER_H

#include "adapter.h"
#include "attention.h"
#include "dora.h"
#include "logprob.h"
#include "model.h"

enum { AT_MAX_ADAPTERS = 8 };

/* A slab's host arrays; layouts as in data/slab.h (int32; intervals 4, tokens 2 each). */
struct at_batch {
    uint32_t T, R, S, n_segments;    /* T, R and S: rounded up as a slab's, or not */
    uint32_t T_back, R_back, S_back; /* the first of these, that the backward pass goes over */
    uint32_t n_back; /* of those T_back tokens the others ride: they have no gradient */
    const int32_t *ids, *positions, *intervals, *query_end;
    const uint32_t *tokens, *source_names; /* read with dropout alone */
    const int32_t *sources, *row_source, *source_begin, *source_place;
    const int32_t *target, *row_segment, *order, *segment_begin;
    const float *row_weight;
    uint32_t n_order;          /* entries of `order` */
    const uint32_t *long_runs; /* (n_long, 2) sequences with angles of their own, data/slab.h */
    uint32_t n_long;
};

struct at_activations { /* of one layer, saved by the forward pass; the last one's are of sources
                         * alone from mid on */
    struct at_tensor x, q, k, v, o, mid, gate, up;
    /* of decoders that train nothing, which save neither mid nor, but with parallel blocks, x: in
     * place of q, k, v and of gate, up, where they lie together, their columns, and a row more than
     * tokens */
    struct at_tensor qkv, gate_up;
    struct at_view rstd1, rstd2, lse;
    /* with qk_norm: q and k before it; with post-norms: what attention and MLP give to them */
    struct at_tensor raw_q, raw_k, attn_out, mlp_out;
    struct at_view rstd_q, rstd_k, rstd_attn, rstd_mlp;
    /* of each linear layer; with z_beside those of q, k and v, and of gate and up, are columns of
     * the first, which has a row more than tokens */
    struct at_tensor z[AT_LINEARS];
};

/* What the backward pass computes again instead of reading what the forward pass saved (activation
 * checkpointing, Chen et al. 2016, arXiv 1604.06174): nothing, what the first matrices of the MLP
 * give, all of a layer between its input and its last matrix, or of the square root of the layers
 * all between the input of the first and the last matrix of the last. The same kernels over the
 * same rows: the same bits. */
enum at_recompute { AT_RECOMPUTE_NONE, AT_RECOMPUTE_MLP, AT_RECOMPUTE_LAYER, AT_RECOMPUTE_GROUP };
const char *at_recompute_name(enum at_recompute recompute); /* "none", "mlp", "full" or "sqrt" */

struct at_decoder {
    struct at_model *model;
    struct at_adapter
        *stack[AT_MAX_ADAPTERS]; /* frozen ones first; the trainable one, if any, last */
    size_t n_stack;
    uint32_t capacity, capacity_rows, capacity_segments; /* of a slab */
    bool trains;                                         /* a backward pass is planned */
    bool drift;                                          /* at_decoder_drift() is planned */
    struct at_activations *layers;                       /* (L), or 1 when nothing is trained */
    enum at_recompute recompute;
    struct at_activations shared; /* by the layers, one after the other: what is computed again */
    uint32_t group;           /* layers whose inputs are computed again from the first's; or 1 */
    struct at_tensor *inputs; /* (group - 1) of the others; shared by the groups */
    struct at_linear_scratch linear;
    struct at_head_scratch head;
    /* scratch and slab inputs */
    struct at_tensor x, h, m, dx, dh, dm, d_o, dq, dk, dv;
    struct at_tensor x_last, o_last; /* (S, C), (S, H * D): decoder_layer.c */
    struct at_tensor mid_last;       /* (S, C): parallel blocks, what the last one's MLP reads */
    bool z_beside;                   /* z of those that read the same are columns of one */
    struct at_tensor z_frozen, dz;   /* as `z`, of any layers */
    struct at_tensor centred, d_centred; /* (T, C): LayerNorm */
    struct at_tensor d_out;              /* (T, C): parallel blocks, the gradient of their output */
    struct at_view final_rstd, attention_scratch;
    uint32_t n_alone; /* of at_extension, in its pass; else 0 */
    struct {
        uint32_t T;      /* first tokens of what the decoder goes over */
        double pairs[2]; /* at_attention_pairs() of these: with no window, with the model's */
    } counted[2];
    struct at_dropout dropout; /* of the trainable adapter in training passes; key: the caller's */
    struct at_view source_names; /* (S, 2) dropout.tokens of a slab's sources */
    struct at_tensor dropped;    /* (T, widest input of a linear layer) */
    bool dora;                   /* the adapter has magnitudes; it is alone */
    struct at_tensor wide;       /* DoRA: (T, widest output of a linear layer) */
    struct at_view panel;        /* DoRA: weights whose norms are computed */
    struct at_weight embed_rows; /* (capacity, C) raw rows of the embedding in the file */
    uint8_t *embed_plane[2];     /* host staging of the same */
    struct at_view ids, positions, intervals, query_end;
    struct at_view sources, row_source, source_begin, source_place;
    struct at_view target, row_segment, row_weight, order, segment_begin;
    struct at_view embed_ids, embed_begin, embed_order; /* trained embedding: rows sorted by id */
    struct id_place *embed_pairs;                       /* host scratch for these */
    int32_t *embed_host;
    uint32_t n_embed_ids;
    struct at_tensor rows, u; /* (R, C) gathered hidden states; gradient rows */
    struct at_view stats, lse, log_p2, coef, sums, ref_sums;
    struct at_view pair_match, pair_out, row_loss, row_facts;
    struct at_tensor ref_rows; /* at_decoder_keep(): `rows` and `stats` of the reference */
    struct at_view ref_stats;
};

struct at_decoder_params {
    uint32_t capacity;      /* tokens a slab, multiple of 64 */
    uint32_t capacity_rows; /* completion rows, and so sources, of a slab; multiple of 64 */
    uint32_t capacity_segments;
    bool trains;
    enum at_recompute recompute; /* read with `trains` */
    bool drift;    /* at_decoder_drift() will be called; with `trains` and a head that is frozen */
    float dropout; /* share of lora_A's input that training passes drop */
};
/* Plans everything in `pool`. The stack's adapters must have been planned. */
AT_CHECKED at_decoder_plan(struct at_decoder *out, struct at_model *model,
                           struct at_adapter *const *stack, size_t n_stack, struct at_pool *pool,
                           const struct at_decoder_params *params);
void at_decoder_release(struct at_decoder *decoder);
/* Window that layer l computes with: 0 where none of the planned positions is out of it. The same
 * for every slab, since kernels are chosen by it and a row's bits must not depend on its slab. */
uint32_t at_decoder_window(const struct at_decoder *decoder, uint32_t layer);
/* Lowest layer that trains anything: the backward pass ends with it. */
uint32_t at_decoder_lowest(const struct at_decoder *decoder);

/* Once, after the pools' commit and the uploads: modules that train in full beside an adapter start
 * from what the frozen model has in their place, as f32, and the magnitudes of a fresh DoRA as the
 * norms. */
AT_CHECKED at_decoder_start(struct at_stream *s, struct at_decoder *decoder);
/* The norms of DoRA, of the weights as they are: due after each change of the trainable adapter. */
void at_decoder_norms(struct at_stream *s, struct at_decoder *decoder);

/* Uploads a slab's arrays. */
void at_decoder_begin(struct at_stream *s, struct at_decoder *decoder,
                      const struct at_batch *batch);

enum at_pass {
    AT_PASS_POLICY_TRAIN, /* saves activations; head with gradient rows; dropout */
    AT_PASS_POLICY_EVAL,
    AT_PASS_POLICY_DRIFT, /* as EVAL; head with gradient rows, which at_decoder_drift() reads */
    AT_PASS_REFERENCE     /* state at step 0: trainable adapter skipped or its copy used */
};
/* stats, lse, log_p2 (and u: when training, of the first R_back) of the slab's completion rows;
 * segment sums into `sums`.
 * With a value head the first of a row's stats is its value, lse is not written and log_p2 is 0. */
void at_decoder_forward(struct at_stream *s, struct at_decoder *decoder,
                        const struct at_batch *batch, enum at_pass pass, struct at_view sums);
/* After a reference pass: keeps what at_decoder_drift() compares with. */
void at_decoder_keep(struct at_stream *s, struct at_decoder *decoder, const struct at_batch *batch);
/* After at_decoder_keep() and a drift pass over the same batch: sums of at_head_kl() over each
 * segment's completion rows, as value 5 of `sums`. row_loss is overwritten. */
void at_decoder_drift(struct at_stream *s, struct at_decoder *decoder, const struct at_batch *batch,
                      struct at_view sums);

/* ---- decoding ---- */

/* Keys (turned) and values of tokens so far, per layer: rows that any sequence may own. */
struct at_kv_cache {
    struct at_tensor *k, *v; /* (L) of (rows, G * D) */
    struct at_view place;    /* (rows of a pass) int32 */
    uint32_t rows;
};
/* `most`: rows of a pass. AT_DEVICE_MEMORY where a layer's keys are more than a binding holds. */
AT_CHECKED at_kv_cache_plan(struct at_kv_cache *out, const struct at_model_config *config,
                            uint32_t rows, uint32_t most, struct at_pool *pool,
                            uint64_t binding_bytes);
void at_kv_cache_release(struct at_kv_cache *cache);

/* Tokens of any sequences, computed at once: host arrays of T <= the decoder's capacity. Token t at
 * positions[t] reads the cache's rows intervals[t] (prefix_begin, prefix_end, seg_begin, key_end;
 * at_attention), its own among them: place[t], no two alike, takes its key and value. */
struct at_extension {
    uint32_t T, n_alone; /* tokens; those, about, that are the only ones of their sequence */
    const int32_t *ids, *positions, *place;
    const int32_t (*intervals)[4];
};
/* Of a decoder planned without `trains`: (T, C) normed hidden states, valid until its next pass. A
 * token's bits depend on its sequence alone, but that a pass of one token has kernels of its own.
 */
struct at_tensor at_decoder_extend(struct at_stream *s, struct at_decoder *decoder,
                                   const struct at_kv_cache *cache,
                                   const struct at_extension *tokens);

/* After AT_PASS_POLICY_TRAIN and a loss that wrote decoder->coef (R_back): adds all gradients. */
void at_decoder_backward(struct at_stream *s, struct at_decoder *decoder,
                         const struct at_batch *batch);

#endif
