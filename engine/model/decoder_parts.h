/* Inside engine/model only: parts of the decoder that several files share. */
#ifndef AT_DECODER_PARTS_H
#define AT_DECODER_PARTS_H

#include "decoder.h"

/* A token of the slab, for sorting by id. */
struct id_place {
    int32_t id, place;
};

/* Linear layers by what they are in the decoder. */
enum { LIN_Q, LIN_K, LIN_V, LIN_O, LIN_GATE, LIN_UP, LIN_DOWN };
enum { MOST_TOGETHER = 3 }; /* that read the same */

/* The first rows and columns of a planned tensor, apart where its rows are; nothing of one that
 * this family does not have. */
static inline struct at_tensor part(struct at_tensor t, uint32_t rows, uint32_t cols)
{
    if (!t.view.buffer)
        return t;
    if (cols == t.dim[1]) /* which may be columns of another */
        return at_tensor_rows(t, 0, rows);
    return t.ld == at_tensor_ld(t.dim[1]) ? at_tensor_make(t.view, rows, cols)
                                          : at_tensor_make_apart(t.view, rows, cols);
}

/* The first of the linear layers that read what linear i reads, one behind the other. */
static inline uint32_t at_linear_first(uint32_t i)
{
    return i <= LIN_V ? LIN_Q : i == LIN_UP ? LIN_GATE : i;
}

/* Whether a tensor planned for z has the columns of all linear layers that read the same:
 * reserve_z() in decoder_plan.c. */
static inline bool at_z_has_columns(const struct at_decoder *d, struct at_tensor z)
{
    return z.dim[0] > d->capacity;
}

/* Where layer l saves what its backward pass reads. */
static inline struct at_activations at_decoder_saved(const struct at_decoder *d, uint32_t l)
{
    const struct at_activations *own = &d->layers[d->trains ? l : 0];
    struct at_activations a = *own;

    if (d->recompute >= AT_RECOMPUTE_LAYER) {
        a = d->shared;
        a.x = l % d->group > 0 ? d->inputs[l % d->group - 1] : own->x;
        a.z[LIN_DOWN] = own->z[LIN_DOWN]; /* the last matrix is not computed again */
    } else if (d->recompute == AT_RECOMPUTE_MLP) {
        a.gate = d->shared.gate;
        a.up = d->shared.up;
    }
    return a;
}

static inline struct at_view words(struct at_view view, uint64_t n)
{
    return at_view_part(view, 0, at_round_up(4 * n, 16));
}

/* Queries, keys and values, or gate and up, of T rows. */
static inline struct at_tensor columns_or_part(struct at_tensor together, struct at_tensor apart,
                                               uint32_t T, uint32_t begin, uint32_t n)
{
    return together.view.buffer ? at_tensor_columns(together, T, begin, n) : part(apart, T, n);
}

/* Rows of a pass: T tokens. Behind attention a slab's last layer goes over its S sources alone,
 * since nothing reads what it would make of the others; S is 0 in decoding, where hidden states of
 * all tokens are asked for. */
struct at_pass_rows {
    uint32_t T, S;
};

/* Whether layer l goes on behind attention with the rows of sources, in d->x_last and d->o_last. */
static inline bool at_takes_sources(const struct at_decoder *d, uint32_t l,
                                    struct at_pass_rows rows)
{
    return rows.S > 0 && l + 1 == d->model->config.L;
}

/* Rows of layer l behind attention. */
static inline uint32_t at_rows_behind(const struct at_decoder *d, uint32_t l,
                                      struct at_pass_rows rows)
{
    return at_takes_sources(d, l, rows) ? rows.S : rows.T;
}

/* The head that a pass reads. */
static inline struct at_weight at_head_of(const struct at_model *model, enum at_pass pass)
{
    const bool policy = pass != AT_PASS_REFERENCE;

    return policy && model->saved[AT_SAVED_HEAD].param ? model->trained_head : model->head;
}

/* Whether what the head reads is scaled, and so the logits. */
static inline bool at_scales_logits(const struct at_model_config *c)
{
    return c->logit_scale != 1 && !c->value_head;
}

/* Attention of T tokens of layer l. */
struct at_attention at_decoder_attention(const struct at_decoder *d, uint32_t l, uint32_t T);
/* q or k of T rows as one row a norm: a head, or all of it. */
struct at_tensor at_decoder_heads(const struct at_decoder *d, struct at_tensor t);
/* Turns q and k of layer l, or turns gradients back. */
void at_decoder_turn(struct at_stream *s, const struct at_decoder *d, uint32_t l,
                     struct at_tensor q, struct at_tensor k, bool backward);
/* m from what the MLP's first matrices made. */
void at_decoder_activate(struct at_stream *s, const struct at_decoder *d, struct at_tensor m,
                         struct at_tensor gate, struct at_tensor up);
/* x, or in the last layer its rows of the sources, with what attention gives added. */
struct at_tensor at_decoder_behind_attention(struct at_stream *s, struct at_decoder *d,
                                             const struct at_activations *a, uint32_t l,
                                             struct at_pass_rows rows, struct at_tensor x,
                                             enum at_pass pass, const struct at_kv_cache *cache);
/* gate and up of what the MLP reads. */
void at_decoder_hidden_fwd(struct at_stream *s, struct at_decoder *d,
                           const struct at_activations *a, uint32_t l, struct at_tensor mid,
                           enum at_pass pass);
/* x += what the MLP makes of `mid`. */
void at_decoder_mlp_fwd(struct at_stream *s, struct at_decoder *d, const struct at_activations *a,
                        uint32_t l, struct at_tensor x, struct at_tensor mid, enum at_pass pass);
/* What the MLP of a layer reads: the residual behind attention, or in parallel the layer's input.
 */
struct at_tensor at_decoder_mid(const struct at_decoder *d, const struct at_activations *a,
                                uint32_t l, struct at_pass_rows rows);
/* x (T,C) -> x: one decoder layer, of which the last gives other rows elsewhere. */
struct at_tensor at_decoder_layer_fwd(struct at_stream *s, struct at_decoder *d,
                                      const struct at_activations *a, uint32_t l,
                                      struct at_pass_rows rows, struct at_tensor x,
                                      enum at_pass pass, const struct at_kv_cache *cache);

/* y (+)= x W^T + bias + adapters of linear i in layer l. */
void at_decoder_linear_fwd(struct at_stream *s, struct at_decoder *d, struct at_tensor y,
                           struct at_tensor x, uint32_t l, uint32_t i, enum at_pass pass,
                           bool accumulate);
/* The same into y[0 ... n - 1] of linears i, i + 1 ... that read the same x: one product where they
 * lie together and so do their outputs, and one with lora_A where those do; the bits are those of
 * n.
 */
void at_decoder_linears_fwd(struct at_stream *s, struct at_decoder *d, const struct at_tensor *y,
                            uint32_t n, struct at_tensor x, uint32_t l, uint32_t i,
                            enum at_pass pass);
/* dx (+)= dy W and the adapters' part; gradients of what trains. dx without a buffer is not needed.
 */
void at_decoder_linear_bwd(struct at_stream *s, struct at_decoder *d, struct at_tensor dx,
                           struct at_tensor dy, struct at_tensor x, uint32_t l, uint32_t i,
                           bool accumulate);
/* The same from dy[0 ... n - 1] of linears i, i + 1 ... that read the same x: gradients of lora_A
 * by one product where they lie together; the bits are those of n. */
void at_decoder_linears_bwd(struct at_stream *s, struct at_decoder *d, struct at_tensor dx,
                            const struct at_tensor *dy, uint32_t n, struct at_tensor x, uint32_t l,
                            uint32_t i, bool accumulate);

/* Norms of rows x (T, C) with weight w and, for LayerNorm, bias b; rstd (T). */
void at_decoder_norm_fwd(struct at_stream *s, const struct at_decoder *d, struct at_tensor y,
                         struct at_view rstd, struct at_tensor x, struct at_view w,
                         struct at_view b);
/* From saved rstd, same bits. */
void at_decoder_norm_again(struct at_stream *s, const struct at_decoder *d, struct at_tensor y,
                           struct at_tensor x, struct at_view w, struct at_view b,
                           struct at_view rstd);
/* dx += the input gradient; dw and db, where the model trains, the weights'. */
void at_decoder_norm_bwd(struct at_stream *s, const struct at_decoder *d, struct at_tensor dx,
                         struct at_tensor dy, struct at_tensor x, struct at_view w,
                         struct at_view rstd, struct at_view dw, struct at_view db);

/* Most inputs and outputs of a linear layer. */
void at_decoder_widest(const struct at_model_config *c, uint32_t *most_in, uint32_t *most_out);
/* Scratch and norms of an adapter with DoRA; sets d->dora. */
void at_decoder_plan_dora(struct at_decoder *d, struct at_pool *pool);
/* Raw embedding rows of these ids, as the file has them, into d->embed_rows. */
void at_decoder_upload_rows(struct at_stream *s, struct at_decoder *d, const int32_t *ids,
                            uint32_t T);

#endif
