/* The forward pass of a decoder layer. */
#include "activation.h"
#include "decoder_parts.h"
#include "norm.h"
#include "sampling.h"

struct at_attention at_decoder_attention(const struct at_decoder *d, uint32_t l, uint32_t T)
{
    const struct at_model_config *c = &d->model->config;
    const int which = T == d->counted[0].T ? 0 : 1;

    AT_REQUIRE(T == d->counted[which].T);
    return (struct at_attention){ .T = T,
                                  .n_keys = T,
                                  .H = c->H,
                                  .G = c->G,
                                  .D = c->D,
                                  .scale = c->attention_scale,
                                  .cap = c->attention_cap,
                                  .window = at_decoder_window(d, l),
                                  .n_alone = d->n_alone,
                                  .pairs = d->counted[which].pairs[at_decoder_window(d, l) > 0],
                                  .intervals = at_view_part(d->intervals, 0, 16ul * T),
                                  .query_end = at_view_part(d->query_end, 0, 4ul * T) };
}

struct at_tensor at_decoder_heads(const struct at_decoder *d, struct at_tensor t)
{
    const uint32_t D = d->model->config.D;

    if (d->model->config.family->qk_norm_wide)
        return t;
    AT_REQUIRE(t.ld == t.dim[1]);
    return at_tensor_make(t.view, t.dim[0] * (t.dim[1] / D), D);
}

void at_decoder_turn(struct at_stream *s, const struct at_decoder *d, uint32_t l,
                     struct at_tensor q, struct at_tensor k, bool backward)
{
    const struct at_model_config *c = &d->model->config;
    const bool local = c->family->local_rope && at_layer_window(c, l) > 0;
    const struct at_tensor table = local ? d->model->local_rope : d->model->rope;

    if (at_layer_turns(c, l))
        at_rope(s, q, k, words(d->positions, q.dim[0]), table, c->D, backward);
}

/* What linear i makes of y is added to the residual x: as it is, scaled, or normed, where the
 * family does that. out: where the norm's input is kept. h: scratch, which y may not be. */
static void add_output(struct at_stream *s, struct at_decoder *d, uint32_t l, uint32_t i,
                       enum at_pass pass, struct at_tensor x, struct at_tensor y,
                       struct at_tensor out, struct at_view rstd, struct at_view norm)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_tensor h = part(d->h, x.dim[0], x.dim[1]);

    if (c->family->post_norms) {
        at_decoder_linear_fwd(s, d, out, y, l, i, pass, false);
        at_rmsnorm_fwd(s, h, words(rstd, x.dim[0]), out, norm, c->norm_eps);
        at_add(s, x, h);
    } else if (c->residual_scale != 1) {
        at_decoder_linear_fwd(s, d, h, y, l, i, pass, false);
        at_scale(s, h, c->residual_scale);
        at_add(s, x, h);
    } else {
        at_decoder_linear_fwd(s, d, x, y, l, i, pass, true);
    }
}

/* What attention or the MLP reads of the residual x: its norm, into h, or x itself. */
static struct at_tensor read_residual(struct at_stream *s, const struct at_decoder *d,
                                      struct at_view rstd, struct at_tensor x, struct at_view norm,
                                      struct at_view bias)
{
    const struct at_tensor h = part(d->h, x.dim[0], x.dim[1]);

    if (d->model->config.family->no_pre_norms)
        return x;
    at_decoder_norm_fwd(s, d, h, words(rstd, x.dim[0]), x, norm, bias);
    return h;
}

void at_decoder_activate(struct at_stream *s, const struct at_decoder *d, struct at_tensor m,
                         struct at_tensor gate, struct at_tensor up)
{
    const struct at_family *family = d->model->config.family;

    if (family->ungated)
        at_gelu_fwd(s, m, up);
    else
        at_swiglu_fwd(s, m, gate, up, family->gelu);
}

/* q and k of h, normed where the family does, and turned; and v. */
static void read_by_attention(struct at_stream *s, struct at_decoder *d,
                              const struct at_activations *a, uint32_t l, struct at_tensor q,
                              struct at_tensor k, struct at_tensor v, struct at_tensor h,
                              enum at_pass pass)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_layer *layer = &d->model->layers[l];
    const uint32_t T = h.dim[0];

    if (c->family->qk_norm) {
        const struct at_tensor raw_q = part(a->raw_q, T, q.dim[1]);
        const struct at_tensor raw_k = part(a->raw_k, T, k.dim[1]);
        at_decoder_linears_fwd(s, d, (const struct at_tensor[]){ raw_q, raw_k, v }, 3, h, l, LIN_Q,
                               pass);
        at_rmsnorm_fwd(s, at_decoder_heads(d, q), words(a->rstd_q, at_decoder_heads(d, q).dim[0]),
                       at_decoder_heads(d, raw_q), layer->q_norm, c->norm_eps);
        at_rmsnorm_fwd(s, at_decoder_heads(d, k), words(a->rstd_k, at_decoder_heads(d, k).dim[0]),
                       at_decoder_heads(d, raw_k), layer->k_norm, c->norm_eps);
    } else {
        at_decoder_linears_fwd(s, d, (const struct at_tensor[]){ q, k, v }, 3, h, l, LIN_Q, pass);
    }
    at_decoder_turn(s, d, l, q, k, false);
}

/* The first rows of what a layer saves of x, or x itself, which it has not changed yet. */
static struct at_tensor saved_or(struct at_tensor saved, struct at_tensor x)
{
    return saved.view.buffer ? part(saved, x.dim[0], x.dim[1]) : x;
}

/* What attention gives of x, as its last matrix reads it, saving into `a`. With a cache the rows'
 * keys are put there and read. */
static struct at_tensor attention_fwd(struct at_stream *s, struct at_decoder *d,
                                      const struct at_activations *a, uint32_t l,
                                      struct at_tensor x, enum at_pass pass,
                                      const struct at_kv_cache *cache)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_layer *layer = &d->model->layers[l];
    const uint32_t T = x.dim[0];
    const uint32_t HD = c->H * c->D, GD = c->G * c->D;
    const struct at_tensor q = columns_or_part(a->qkv, a->q, T, 0, HD), o = part(a->o, T, HD);
    struct at_tensor k = columns_or_part(a->qkv, a->k, T, HD, GD);
    struct at_tensor v = columns_or_part(a->qkv, a->v, T, HD + GD, GD);
    struct at_attention attention = at_decoder_attention(d, l, T);
    const struct at_tensor h =
        read_residual(s, d, a->rstd1, saved_or(a->x, x), layer->attn_norm, layer->attn_norm_bias);

    read_by_attention(s, d, a, l, q, k, v, h, pass);
    if (cache) {
        at_store_rows(s, cache->k[l], cache->v[l], k, v, words(cache->place, T));
        attention.n_keys = cache->rows;
        k = cache->k[l];
        v = cache->v[l];
    }
    at_attention_fwd(s, o, words(a->lse, (uint64_t)T * c->H), q, k, v, &attention);
    return o;
}

/* What the last layer reads of the residual x and of attention's o: rows of the sources. In the
 * backward pass these have T_back rows; those of sources behind, riders', stay as they were, and
 * have no gradient. */
static void last_rows(struct at_stream *s, const struct at_decoder *d, uint32_t S,
                      struct at_tensor *x, struct at_tensor *o)
{
    const struct at_tensor x_last = part(d->x_last, S, x->dim[1]);
    const struct at_tensor o_last = part(d->o_last, S, o->dim[1]);

    at_gather_rows(s, x_last, *x, words(d->sources, S));
    at_gather_rows(s, o_last, *o, words(d->sources, S));
    if (d->mid_last.view.buffer)
        at_tensor_copy(s, part(d->mid_last, S, x->dim[1]), x_last);
    *x = x_last;
    *o = o_last;
}

struct at_tensor at_decoder_behind_attention(struct at_stream *s, struct at_decoder *d,
                                             const struct at_activations *a, uint32_t l,
                                             struct at_pass_rows rows, struct at_tensor x,
                                             enum at_pass pass, const struct at_kv_cache *cache)
{
    const uint32_t n = at_rows_behind(d, l, rows), C = x.dim[1];
    struct at_tensor o = attention_fwd(s, d, a, l, x, pass, cache);

    if (at_takes_sources(d, l, rows))
        last_rows(s, d, n, &x, &o);
    add_output(s, d, l, LIN_O, pass, x, o, part(a->attn_out, n, C), a->rstd_attn,
               d->model->layers[l].attn_post_norm);
    if (a->mid.view.buffer)
        at_tensor_copy(s, part(a->mid, n, C), x);
    return x;
}

void at_decoder_hidden_fwd(struct at_stream *s, struct at_decoder *d,
                           const struct at_activations *a, uint32_t l, struct at_tensor mid,
                           enum at_pass pass)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_layer *layer = &d->model->layers[l];
    const uint32_t T = mid.dim[0];
    const struct at_tensor gate = columns_or_part(a->gate_up, a->gate, T, 0, c->F);
    const struct at_tensor up = columns_or_part(a->gate_up, a->up, T, c->F, c->F);
    const struct at_tensor h =
        read_residual(s, d, a->rstd2, mid, layer->mlp_norm, layer->mlp_norm_bias);

    if (c->family->ungated)
        at_decoder_linear_fwd(s, d, up, h, l, LIN_UP, pass, false);
    else
        at_decoder_linears_fwd(s, d, (const struct at_tensor[]){ gate, up }, 2, h, l, LIN_GATE,
                               pass);
}

void at_decoder_mlp_fwd(struct at_stream *s, struct at_decoder *d, const struct at_activations *a,
                        uint32_t l, struct at_tensor x, struct at_tensor mid, enum at_pass pass)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_layer *layer = &d->model->layers[l];
    const uint32_t T = x.dim[0];
    const struct at_tensor gate = columns_or_part(a->gate_up, a->gate, T, 0, c->F);
    const struct at_tensor up = columns_or_part(a->gate_up, a->up, T, c->F, c->F);
    const struct at_tensor m = part(d->m, T, c->F);

    at_decoder_hidden_fwd(s, d, a, l, mid, pass);
    at_decoder_activate(s, d, m, gate, up);
    add_output(s, d, l, LIN_DOWN, pass, x, m, part(a->mlp_out, T, c->C), a->rstd_mlp,
               layer->mlp_post_norm);
}

struct at_tensor at_decoder_mid(const struct at_decoder *d, const struct at_activations *a,
                                uint32_t l, struct at_pass_rows rows)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_tensor beside = at_takes_sources(d, l, rows) ? d->mid_last : a->x;

    return part(c->family->parallel ? beside : a->mid, at_rows_behind(d, l, rows), c->C);
}

struct at_tensor at_decoder_layer_fwd(struct at_stream *s, struct at_decoder *d,
                                      const struct at_activations *a, uint32_t l,
                                      struct at_pass_rows rows, struct at_tensor x,
                                      enum at_pass pass, const struct at_kv_cache *cache)
{
    if (a->x.view.buffer)
        at_tensor_copy(s, part(a->x, rows.T, x.dim[1]), x);
    x = at_decoder_behind_attention(s, d, a, l, rows, x, pass, cache);
    at_decoder_mlp_fwd(s, d, a, l, x, saved_or(at_decoder_mid(d, a, l, rows), x), pass);
    return x;
}
