#include "decoder.h"

#include "activation.h"
#include "decoder_parts.h"
#include "norm.h"
#include "sampling.h"
#include "value.h"

#include <math.h>
#include <stdlib.h>

uint32_t at_decoder_window(const struct at_decoder *d, uint32_t l)
{
    const uint32_t window = at_layer_window(&d->model->config, l);

    return window < d->model->n_positions ? window : 0;
}

/* ---- slab inputs ---- */

static int by_id(const void *a, const void *b)
{
    const struct id_place *x = a, *y = b;

    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

/* Rows of the embedding gradient: the stream's tokens sorted by (id, place), as distinct ids and
 * the places of each. Fills embed_host, returns the number of distinct ids. */
static uint32_t sort_embedding(struct at_decoder *d, const int32_t *ids, uint32_t T)
{
    struct id_place *pairs = d->embed_pairs;
    int32_t *distinct = d->embed_host, *begin = distinct + T, *order = begin + T + 1;
    uint32_t n = 0;

    for (uint32_t t = 0; t < T; t++)
        pairs[t] = (struct id_place){ ids[t], (int32_t)t };
    qsort(pairs, T, sizeof *pairs, by_id);
    for (uint32_t t = 0; t < T; t++) {
        if (t == 0 || pairs[t].id != pairs[t - 1].id) {
            distinct[n] = pairs[t].id;
            begin[n++] = (int32_t)t;
        }
        order[t] = pairs[t].place;
    }
    begin[n] = (int32_t)T;
    return n;
}

static void upload_embedding(struct at_stream *s, struct at_decoder *d, const struct at_batch *b)
{
    const uint32_t T = b->T_back;

    if (at_model_trains_embedding(d->model) && d->trains) {
        d->n_embed_ids = sort_embedding(d, b->ids, T);
        at_stream_upload(s, d->embed_ids, d->embed_host, 4ul * d->n_embed_ids);
        at_stream_upload(s, d->embed_begin, d->embed_host + T, 4ul * (d->n_embed_ids + 1));
        at_stream_upload(s, d->embed_order, d->embed_host + 2ul * T + 1, 4ul * T);
    }
    if (!d->model->trainable) /* the reference's, where it is trained beside an adapter */
        at_decoder_upload_rows(s, d, b->ids, b->T);
}

void at_decoder_begin(struct at_stream *s, struct at_decoder *d, const struct at_batch *b)
{
    AT_REQUIRE(b->T <= d->capacity && b->R <= d->capacity_rows);
    AT_REQUIRE(b->n_segments <= d->capacity_segments && b->n_order <= b->R);
    AT_REQUIRE(b->T_back <= b->T && b->R_back <= b->R);
    AT_REQUIRE(b->S > 1 && b->S <= b->R && b->S <= b->T); /* one row is what decoding has */
    AT_REQUIRE(b->S_back <= b->S && b->S_back <= b->T_back);
    at_stream_upload(s, d->ids, b->ids, 4ul * b->T);
    at_stream_upload(s, d->positions, b->positions, 4ul * b->T);
    at_stream_upload(s, d->intervals, b->intervals, 16ul * b->T);
    if (d->dropout.p > 0) {
        at_stream_upload(s, d->dropout.tokens, b->tokens, 8ul * b->T);
        at_stream_upload(s, d->source_names, b->source_names, 8ul * b->S);
    }
    at_stream_upload(s, d->query_end, b->query_end, 4ul * b->T);
    at_stream_upload(s, d->sources, b->sources, 4ul * b->S);
    at_stream_upload(s, d->row_source, b->row_source, 4ul * b->R);
    at_stream_upload(s, d->source_begin, b->source_begin, 4ul * (b->S + 1));
    at_stream_upload(s, d->source_place, b->source_place, 4ul * b->T);
    at_stream_upload(s, d->target, b->target, 4ul * b->R);
    at_stream_upload(s, d->row_segment, b->row_segment, 4ul * b->R);
    at_stream_upload(s, d->row_weight, b->row_weight, 4ul * b->R);
    if (b->n_order > 0)
        at_stream_upload(s, d->order, b->order, 4ul * b->n_order);
    at_stream_upload(s, d->segment_begin, b->segment_begin, 4ul * (b->n_segments + 1));
    for (uint32_t i = 0; i < b->n_long; i++) {
        const uint32_t begin = b->long_runs[2 * i], n = b->long_runs[2 * i + 1];
        at_model_turn(s, d->model, d->model->n_positions + begin, n, n);
    }
    upload_embedding(s, d, b);
}

/* Rows of a pass: T tokens. Behind attention a slab's last layer goes over its S sources alone,
 * since nothing reads what it would make of the others; S is 0 in decoding, where hidden states of
 * all tokens are asked for. */
struct rows {
    uint32_t T, S;
};

static bool takes_sources(const struct at_decoder *d, uint32_t l, struct rows rows)
{
    return rows.S > 0 && l + 1 == d->model->config.L;
}

/* Of layer l behind attention. */
static uint32_t rows_behind(const struct at_decoder *d, uint32_t l, struct rows rows)
{
    return takes_sources(d, l, rows) ? rows.S : rows.T;
}

/* ---- forward ---- */

static struct at_attention attention_of(const struct at_decoder *d, uint32_t l, uint32_t T)
{
    const struct at_model_config *c = &d->model->config;

    return (struct at_attention){ .T = T,
                                  .n_keys = T,
                                  .H = c->H,
                                  .G = c->G,
                                  .D = c->D,
                                  .scale = c->attention_scale,
                                  .cap = c->attention_cap,
                                  .window = at_decoder_window(d, l),
                                  .n_alone = d->n_alone,
                                  .intervals = at_view_part(d->intervals, 0, 16ul * T),
                                  .query_end = at_view_part(d->query_end, 0, 4ul * T) };
}

/* q or k of T rows as one row a norm: a head, or all of it. */
static struct at_tensor heads_of(const struct at_decoder *d, struct at_tensor t)
{
    const uint32_t D = d->model->config.D;

    if (d->model->config.family->qk_norm_wide)
        return t;
    AT_REQUIRE(t.ld == t.dim[1]);
    return at_tensor_make(t.view, t.dim[0] * (t.dim[1] / D), D);
}

/* Turns q and k of layer l, or turns gradients back. */
static void turn(struct at_stream *s, const struct at_decoder *d, uint32_t l, struct at_tensor q,
                 struct at_tensor k, bool backward)
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

/* m from what the MLP's first matrices made. */
static void activate(struct at_stream *s, const struct at_decoder *d, struct at_tensor m,
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
        at_rmsnorm_fwd(s, heads_of(d, q), words(a->rstd_q, heads_of(d, q).dim[0]),
                       heads_of(d, raw_q), layer->q_norm, c->norm_eps);
        at_rmsnorm_fwd(s, heads_of(d, k), words(a->rstd_k, heads_of(d, k).dim[0]),
                       heads_of(d, raw_k), layer->k_norm, c->norm_eps);
    } else {
        at_decoder_linears_fwd(s, d, (const struct at_tensor[]){ q, k, v }, 3, h, l, LIN_Q, pass);
    }
    turn(s, d, l, q, k, false);
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
    struct at_attention attention = attention_of(d, l, T);
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

/* x, or in the last layer its rows of the sources, with what attention gives added. */
static struct at_tensor behind_attention(struct at_stream *s, struct at_decoder *d,
                                         const struct at_activations *a, uint32_t l,
                                         struct rows rows, struct at_tensor x, enum at_pass pass,
                                         const struct at_kv_cache *cache)
{
    const uint32_t n = rows_behind(d, l, rows), C = x.dim[1];
    struct at_tensor o = attention_fwd(s, d, a, l, x, pass, cache);

    if (takes_sources(d, l, rows))
        last_rows(s, d, n, &x, &o);
    add_output(s, d, l, LIN_O, pass, x, o, part(a->attn_out, n, C), a->rstd_attn,
               d->model->layers[l].attn_post_norm);
    if (a->mid.view.buffer)
        at_tensor_copy(s, part(a->mid, n, C), x);
    return x;
}

/* gate and up of what the MLP reads. */
static void hidden_fwd(struct at_stream *s, struct at_decoder *d, const struct at_activations *a,
                       uint32_t l, struct at_tensor mid, enum at_pass pass)
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

/* x += what the MLP makes of `mid`. */
static void mlp_fwd(struct at_stream *s, struct at_decoder *d, const struct at_activations *a,
                    uint32_t l, struct at_tensor x, struct at_tensor mid, enum at_pass pass)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_layer *layer = &d->model->layers[l];
    const uint32_t T = x.dim[0];
    const struct at_tensor gate = columns_or_part(a->gate_up, a->gate, T, 0, c->F);
    const struct at_tensor up = columns_or_part(a->gate_up, a->up, T, c->F, c->F);
    const struct at_tensor m = part(d->m, T, c->F);

    hidden_fwd(s, d, a, l, mid, pass);
    activate(s, d, m, gate, up);
    add_output(s, d, l, LIN_DOWN, pass, x, m, part(a->mlp_out, T, c->C), a->rstd_mlp,
               layer->mlp_post_norm);
}

/* What the MLP of a layer reads: the residual behind attention, or in parallel the layer's input.
 */
static struct at_tensor mid_of(const struct at_decoder *d, const struct at_activations *a,
                               uint32_t l, struct rows rows)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_tensor beside = takes_sources(d, l, rows) ? d->mid_last : a->x;

    return part(c->family->parallel ? beside : a->mid, rows_behind(d, l, rows), c->C);
}

/* x (T,C) -> x: one decoder layer, of which the last gives other rows elsewhere. */
static struct at_tensor layer_fwd(struct at_stream *s, struct at_decoder *d,
                                  const struct at_activations *a, uint32_t l, struct rows rows,
                                  struct at_tensor x, enum at_pass pass,
                                  const struct at_kv_cache *cache)
{
    if (a->x.view.buffer)
        at_tensor_copy(s, part(a->x, rows.T, x.dim[1]), x);
    x = behind_attention(s, d, a, l, rows, x, pass, cache);
    mlp_fwd(s, d, a, l, x, saved_or(mid_of(d, a, l, rows), x), pass);
    return x;
}

/* A trained embedding or head is the policy's alone: the reference has that of the frozen model. */
static void embed_fwd(struct at_stream *s, struct at_decoder *d, struct at_tensor x,
                      enum at_pass pass)
{
    const bool policy = pass != AT_PASS_REFERENCE;

    if (d->model->trainable || (policy && d->model->saved[AT_SAVED_EMBED].param))
        at_gather_rows(s, x, d->model->embed, words(d->ids, x.dim[0]));
    else
        at_dequantise(s, x, at_weight_rows(d->embed_rows, 0, x.dim[0]));
    if (d->model->config.embed_scale != 1)
        at_scale(s, x, d->model->config.embed_scale);
}

static struct at_weight head_of(const struct at_model *model, enum at_pass pass)
{
    const bool policy = pass != AT_PASS_REFERENCE;

    return policy && model->saved[AT_SAVED_HEAD].param ? model->trained_head : model->head;
}

/* Whether what the head reads is scaled, and so the logits. */
static bool scales_logits(const struct at_model_config *c)
{
    return c->logit_scale != 1 && !c->value_head;
}

/* h: what the head reads. */
static void final_norm_fwd(struct at_stream *s, struct at_decoder *d, struct at_tensor h,
                           struct at_tensor x)
{
    const struct at_model *model = d->model;

    at_decoder_norm_fwd(s, d, h, words(d->final_rstd, x.dim[0]), x, model->final_norm,
                        model->final_norm_bias);
    if (scales_logits(&model->config))
        at_scale(s, h, model->config.logit_scale);
}

static const struct at_tensor unwanted;

/* n completion rows from r on through the head; u: where their gradient rows are wanted. */
static void head_fwd(struct at_stream *s, struct at_decoder *d, uint32_t r, uint32_t n,
                     enum at_pass pass, struct at_tensor u)
{
    const struct at_tensor rows = part(d->rows, r + n, d->model->config.C);

    if (n > 0)
        at_head_fwd(s, at_view_part(d->stats, 16ul * r, 16ul * n),
                    at_view_part(d->lse, 4ul * r, 4ul * n),
                    at_view_part(d->log_p2, 4ul * r, 4ul * n), u, at_tensor_rows(rows, r, n),
                    at_view_part(d->target, 4ul * r, 4ul * n), head_of(d->model, pass), &d->head);
}

void at_decoder_forward(struct at_stream *s, struct at_decoder *d, const struct at_batch *b,
                        enum at_pass pass, struct at_view sums)
{
    const struct at_model_config *c = &d->model->config;
    const struct rows all = { b->T, b->S };
    const uint32_t R = b->R;
    const uint32_t n = pass == AT_PASS_POLICY_TRAIN ? b->R_back : R; /* have gradient rows */
    const struct at_tensor h = part(d->h, b->S, c->C), rows = part(d->rows, R, c->C);
    struct at_tensor x = part(d->x, b->T, c->C), u = unwanted;

    embed_fwd(s, d, x, pass);
    for (uint32_t l = 0; l < c->L; l++) {
        const struct at_activations a = at_decoder_saved(d, l);
        x = layer_fwd(s, d, &a, l, all, x, pass, NULL);
    }
    final_norm_fwd(s, d, h, x);
    at_gather_rows(s, rows, h, words(d->row_source, R));
    if (pass == AT_PASS_POLICY_TRAIN || pass == AT_PASS_POLICY_DRIFT)
        u = part(d->u, n, c->C);
    if (c->value_head) {
        at_value_fwd(s, at_view_part(d->stats, 0, 16ul * R), u, rows, d->model->value.w);
        at_stream_fill(s, words(d->log_p2, R), 0);
    } else {
        head_fwd(s, d, 0, n, pass, u);
        head_fwd(s, d, n, R - n, pass, unwanted);
    }
    at_segment_sums(s, sums, at_view_part(d->stats, 0, 16ul * R), words(d->row_weight, R),
                    words(d->log_p2, R), d->order, d->segment_begin, b->n_segments);
}

void at_decoder_keep(struct at_stream *s, struct at_decoder *d, const struct at_batch *b)
{
    const struct at_tensor rows = part(d->rows, b->R, d->model->config.C);

    at_tensor_copy(s, part(d->ref_rows, b->R, rows.dim[1]), rows);
    at_stream_copy(s, at_view_part(d->ref_stats, 0, 16ul * b->R),
                   at_view_part(d->stats, 0, 16ul * b->R), 16ul * b->R);
}

void at_decoder_drift(struct at_stream *s, struct at_decoder *d, const struct at_batch *b,
                      struct at_view sums)
{
    const uint32_t R = b->R, C = d->model->config.C;
    const struct at_view kl = at_view_part(d->row_loss, 0, 16ul * R);

    at_head_kl(s, kl, at_view_part(d->stats, 0, 16ul * R), at_view_part(d->ref_stats, 0, 16ul * R),
               part(d->u, R, C), part(d->rows, R, C), part(d->ref_rows, R, C));
    at_segment_sums(s, sums, kl, words(d->row_weight, R), words(d->log_p2, R), d->order,
                    d->segment_begin, b->n_segments);
}

/* ---- decoding ---- */

struct at_tensor at_decoder_extend(struct at_stream *s, struct at_decoder *d,
                                   const struct at_kv_cache *cache,
                                   const struct at_extension *tokens)
{
    const struct at_model_config *c = &d->model->config;
    const uint32_t T = tokens->T;
    const struct at_batch batch = { .T = T, .ids = tokens->ids };
    const struct rows all = { T, 0 };
    const struct at_tensor x = part(d->x, T, c->C), h = part(d->h, T, c->C);

    AT_REQUIRE(!d->trains && T > 0 && T <= d->capacity);
    d->n_alone = tokens->n_alone;
    at_stream_upload(s, d->ids, tokens->ids, 4ul * T);
    at_stream_upload(s, d->positions, tokens->positions, 4ul * T);
    at_stream_upload(s, d->intervals, tokens->intervals, 16ul * T);
    at_stream_upload(s, cache->place, tokens->place, 4ul * T);
    upload_embedding(s, d, &batch);
    embed_fwd(s, d, x, AT_PASS_POLICY_EVAL);
    for (uint32_t l = 0; l < c->L; l++)
        layer_fwd(s, d, &d->layers[0], l, all, x, AT_PASS_POLICY_EVAL, cache);
    d->n_alone = 0;
    final_norm_fwd(s, d, h, x);
    return h;
}

/* ---- backward ---- */

static const struct at_layer_grads none; /* of a frozen layer */

/* The gradient of what attention or the MLP gives from that of the layer's output, dx: dx itself,
 * or into dh (scratch) where the family norms or scales it. */
static struct at_tensor output_bwd(struct at_stream *s, struct at_decoder *d, struct at_tensor dx,
                                   struct at_tensor y, struct at_view rstd, struct at_view norm,
                                   struct at_view dnorm)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_tensor dh = part(d->dh, dx.dim[0], dx.dim[1]);

    if (c->residual_scale != 1) {
        at_tensor_copy(s, dh, dx);
        at_scale(s, dh, c->residual_scale);
        return dh;
    }
    if (!c->family->post_norms)
        return dx;
    rstd = words(rstd, dx.dim[0]);
    if (d->model->trainable)
        at_rmsnorm_bwd_weight(s, dnorm, dx, y, rstd);
    at_stream_fill(s, at_tensor_view(dh), 0);
    at_rmsnorm_bwd(s, dh, dx, y, norm, rstd);
    return dh;
}

/* What the first matrices of attention or the MLP read, again; the counterpart of
 * read_residual(). */
static struct at_tensor read_again(struct at_stream *s, const struct at_decoder *d,
                                   struct at_view rstd, struct at_tensor x, struct at_view norm,
                                   struct at_view bias)
{
    const struct at_tensor h = part(d->h, x.dim[0], x.dim[1]);

    if (d->model->config.family->no_pre_norms)
        return x;
    at_decoder_norm_again(s, d, h, x, norm, bias, words(rstd, x.dim[0]));
    return h;
}

/* The gradient of a head norm's input into `out`. */
static void head_norm_bwd(struct at_stream *s, struct at_decoder *d, struct at_tensor out,
                          struct at_tensor dy, struct at_tensor raw, struct at_view rstd,
                          struct at_view norm, struct at_view dnorm)
{
    const struct at_tensor rows = heads_of(d, raw);
    const struct at_view saved = words(rstd, rows.dim[0]);

    if (d->model->trainable)
        at_rmsnorm_bwd_weight(s, dnorm, heads_of(d, dy), rows, saved);
    at_stream_fill(s, at_tensor_view(out), 0);
    at_rmsnorm_bwd(s, heads_of(d, out), heads_of(d, dy), rows, norm, saved);
}

/* dx holds the gradient of the layer's output; that of `mid` is added to it. */
static void mlp_bwd(struct at_stream *s, struct at_decoder *d, uint32_t l, struct rows rows,
                    struct at_tensor dx)
{
    const uint32_t T = rows_behind(d, l, rows);
    const struct at_model *model = d->model;
    const struct at_model_config *c = &model->config;
    const struct at_family *family = c->family;
    const struct at_layer *layer = &model->layers[l];
    const struct at_activations saved = at_decoder_saved(d, l), *a = &saved;
    const struct at_tensor m = part(d->m, T, c->F), dm = part(d->dm, T, c->F);
    const struct at_tensor gate = part(a->gate, T, c->F), up = part(a->up, T, c->F);
    const struct at_tensor mid = mid_of(d, a, l, rows);
    const struct at_tensor dh = family->no_pre_norms ? dx : part(d->dh, T, c->C);
    const struct at_layer_grads *grads = model->trainable ? &model->grads[l] : &none;
    const struct at_tensor dy = output_bwd(s, d, dx, part(a->mlp_out, T, c->C), a->rstd_mlp,
                                           layer->mlp_post_norm, grads->mlp_post_norm);
    struct at_tensor h;

    activate(s, d, m, gate, up);
    at_decoder_linear_bwd(s, d, dm, dy, m, l, LIN_DOWN, false);
    if (family->ungated)
        at_gelu_bwd(s, up, dm, up);
    else
        at_swiglu_bwd(s, gate, up, dm, gate, up, family->gelu);
    h = read_again(s, d, a->rstd2, mid, layer->mlp_norm, layer->mlp_norm_bias);
    if (family->ungated)
        at_decoder_linear_bwd(s, d, dh, up, h, l, LIN_UP, family->no_pre_norms);
    else
        at_decoder_linears_bwd(s, d, dh, (const struct at_tensor[]){ gate, up }, 2, h, l, LIN_GATE,
                               family->no_pre_norms);
    if (!family->no_pre_norms)
        at_decoder_norm_bwd(s, d, dx, dh, mid, layer->mlp_norm, words(a->rstd2, T), grads->mlp_norm,
                            grads->mlp_norm_bias);
}

/* Rows of all T tokens from those of the sources; 0 where a token is none. */
static void all_rows(struct at_stream *s, const struct at_decoder *d, struct at_tensor all,
                     struct at_tensor last)
{
    at_stream_fill(s, at_tensor_view(all), 0);
    at_gather_rows(s, all, last, words(d->source_place, all.dim[0]));
}

/* The gradient of what attention gives, in d->d_o, from d_out, that of the layer's output. */
static struct at_tensor attention_output_bwd(struct at_stream *s, struct at_decoder *d, uint32_t l,
                                             struct rows rows, struct at_tensor d_out)
{
    const struct at_model *model = d->model;
    const struct at_model_config *c = &model->config;
    const struct at_layer *layer = &model->layers[l];
    const struct at_activations saved = at_decoder_saved(d, l), *a = &saved;
    const uint32_t HD = c->H * c->D, n = rows_behind(d, l, rows);
    const bool last = takes_sources(d, l, rows);
    const struct at_tensor o = part(last ? d->o_last : a->o, n, HD);
    const struct at_tensor d_o = part(d->d_o, rows.T, HD);
    const struct at_tensor its = last ? part(d->dq, n, HD) : d_o; /* dq is free by now */
    const struct at_layer_grads *grads = model->trainable ? &model->grads[l] : &none;
    const struct at_tensor dy = output_bwd(s, d, d_out, part(a->attn_out, n, c->C), a->rstd_attn,
                                           layer->attn_post_norm, grads->attn_post_norm);

    at_decoder_linear_bwd(s, d, its, dy, o, l, LIN_O, false);
    if (last)
        all_rows(s, d, d_o, its);
    return d_o;
}

/* dq, dk and dv of the linear layers from d_o; the first two are returned where they lie. */
static void scores_bwd(struct at_stream *s, struct at_decoder *d, uint32_t l, struct at_tensor d_o,
                       struct at_tensor *dq, struct at_tensor *dk)
{
    const struct at_model *model = d->model;
    const struct at_model_config *c = &model->config;
    const struct at_layer *layer = &model->layers[l];
    const struct at_activations saved = at_decoder_saved(d, l), *a = &saved;
    const uint32_t T = d_o.dim[0], HD = c->H * c->D, GD = c->G * c->D;
    const struct at_tensor dv = part(d->dv, T, GD);
    const struct at_attention attention = attention_of(d, l, T);
    const struct at_layer_grads *grads = model->trainable ? &model->grads[l] : &none;

    *dq = part(d->dq, T, HD);
    *dk = part(d->dk, T, GD);
    at_attention_bwd(s, *dq, *dk, dv, d_o, part(a->q, T, HD), part(a->k, T, GD), part(a->v, T, GD),
                     part(a->o, T, HD), words(a->lse, (uint64_t)T * c->H), d->attention_scratch,
                     &attention);
    turn(s, d, l, *dq, *dk, true);
    if (c->family->qk_norm) { /* through memory that is free by now: d_o, then dq's */
        head_norm_bwd(s, d, d_o, *dq, part(a->raw_q, T, HD), a->rstd_q, layer->q_norm,
                      grads->q_norm);
        *dq = d_o;
        head_norm_bwd(s, d, part(d->dq, T, GD), *dk, part(a->raw_k, T, GD), a->rstd_k,
                      layer->k_norm, grads->k_norm);
        *dk = part(d->dq, T, GD);
    }
}

/* The gradient of the layer's input through attention, from d_o, is added to dx (when `deeper`). */
static void attention_bwd(struct at_stream *s, struct at_decoder *d, uint32_t l,
                          struct at_tensor dx, struct at_tensor d_o, bool deeper)
{
    const struct at_model *model = d->model;
    const struct at_model_config *c = &model->config;
    const struct at_layer *layer = &model->layers[l];
    const struct at_activations saved = at_decoder_saved(d, l), *a = &saved;
    const uint32_t T = d_o.dim[0];
    const bool in_place = c->family->no_pre_norms;
    const struct at_tensor x = part(a->x, T, c->C);
    const struct at_layer_grads *grads = model->trainable ? &model->grads[l] : &none;
    struct at_tensor dh = { .view = { NULL, 0, 0 } }, h, dq, dk;

    scores_bwd(s, d, l, d_o, &dq, &dk);
    h = read_again(s, d, a->rstd1, x, layer->attn_norm, layer->attn_norm_bias);
    if (deeper)
        dh = in_place ? dx : part(d->dh, T, c->C);
    at_decoder_linears_bwd(s, d, dh,
                           (const struct at_tensor[]){ dq, dk, part(d->dv, T, c->G * c->D) }, 3, h,
                           l, LIN_Q, in_place);
    if (deeper && !in_place)
        at_decoder_norm_bwd(s, d, dx, dh, x, layer->attn_norm, words(a->rstd1, T), grads->attn_norm,
                            grads->attn_norm_bias);
}

/* The inputs of the layers of a group up to `last`, from that of its first. */
static void inputs_again(struct at_stream *s, struct at_decoder *d, uint32_t last, struct rows rows)
{
    const uint32_t first = last - last % d->group;
    const struct at_tensor x = part(d->x, rows.T, d->model->config.C);
    struct at_activations a = at_decoder_saved(d, first);

    at_tensor_copy(s, x, part(a.x, rows.T, x.dim[1]));
    for (uint32_t l = first; l < last; l++) {
        a = at_decoder_saved(d, l);
        layer_fwd(s, d, &a, l, rows, x, AT_PASS_POLICY_TRAIN, NULL);
    }
    a = at_decoder_saved(d, last);
    at_tensor_copy(s, part(a.x, rows.T, x.dim[1]), x);
}

/* What the forward pass of layer l did not keep, in d->x (the last layer's in d->x_last) from what
 * it did. */
static void compute_again(struct at_stream *s, struct at_decoder *d, uint32_t l, struct rows rows)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_activations a = at_decoder_saved(d, l);
    const struct at_tensor mid = mid_of(d, &a, l, rows);
    struct at_tensor x = part(d->x, rows.T, c->C);

    if (d->recompute == AT_RECOMPUTE_NONE)
        return;
    if (d->recompute >= AT_RECOMPUTE_LAYER) {
        at_tensor_copy(s, x, part(a.x, rows.T, c->C));
        x = behind_attention(s, d, &a, l, rows, x, AT_PASS_POLICY_TRAIN, NULL);
    }
    if (d->recompute >= AT_RECOMPUTE_LAYER && c->family->post_norms) /* whose input is read, too */
        mlp_fwd(s, d, &a, l, x, mid, AT_PASS_POLICY_TRAIN);
    else
        hidden_fwd(s, d, &a, l, mid, AT_PASS_POLICY_TRAIN);
}

/* The first rows of d->dx hold the gradient of the layer's output and become that of its input
 * (when `deeper`). */
static void layer_bwd(struct at_stream *s, struct at_decoder *d, uint32_t l, struct rows rows,
                      bool deeper)
{
    const uint32_t C = d->model->config.C, n = rows_behind(d, l, rows);
    const struct at_tensor dx = part(d->dx, rows.T, C), dx_out = part(d->dx, n, C);
    const struct at_tensor last = part(d->x, n, C); /* free but for compute_again() */
    struct at_tensor d_out = dx_out, d_o;

    if (d->group > 1 && (l + 1) % d->group == 0 &&
        l + 1 < d->model->config.L) /* the last group's are there */
        inputs_again(s, d, l, rows);
    compute_again(s, d, l, rows);
    if (d->model->config.family->parallel) { /* both read the same gradient */
        d_out = part(d->d_out, n, C);
        at_tensor_copy(s, d_out, dx_out);
    }
    mlp_bwd(s, d, l, rows, dx_out);
    d_o = attention_output_bwd(s, d, l, rows, d_out);
    if (takes_sources(d, l, rows) && deeper) {
        at_tensor_copy(s, last, dx_out);
        all_rows(s, d, dx, last);
    }
    attention_bwd(s, d, l, dx, d_o, deeper);
}

uint32_t at_decoder_lowest(const struct at_decoder *d)
{
    const struct at_adapter *a = d->n_stack > 0 ? d->stack[d->n_stack - 1] : NULL;

    for (uint32_t i = 0;
         !at_model_trains_embedding(d->model) && a && i < d->model->config.L * AT_LINEARS; i++)
        if (a->rank[i] > 0)
            return i / AT_LINEARS;
    return 0;
}

/* dx (S, C): the gradient of the last layer's output, of R completion rows. */
static void head_bwd(struct at_stream *s, struct at_decoder *d, struct at_tensor dx, uint32_t R)
{
    const uint32_t S = dx.dim[0];
    const struct at_model *model = d->model;
    const struct at_model_config *c = &model->config;
    const struct at_tensor x = part(d->x_last, S, c->C), dh = part(d->dh, S, c->C);

    if (c->value_head)
        at_value_bwd(s, model->value.dw, part(d->rows, R, c->C), at_view_part(d->coef, 0, 4ul * R));
    else if (model->d_head.view.buffer)
        at_head_bwd_weight(s, model->d_head, part(d->rows, R, c->C), words(d->target, R),
                           words(d->lse, R), words(d->coef, R),
                           head_of(model, AT_PASS_POLICY_TRAIN), &d->head);
    at_scatter_rows(s, dh, part(d->u, R, c->C), words(d->coef, R), words(d->source_begin, S + 1ul));
    if (scales_logits(c))
        at_scale(s, dh, c->logit_scale);
    at_stream_fill(s, dx.view, 0);
    at_decoder_norm_bwd(s, d, dx, dh, x, model->final_norm, words(d->final_rstd, S),
                        model->d_final_norm, model->d_final_norm_bias);
}

void at_decoder_backward(struct at_stream *s, struct at_decoder *d, const struct at_batch *b)
{
    const struct at_model_config *c = &d->model->config;
    const struct rows rows = { b->T_back, b->S_back };
    const struct at_tensor dx = part(d->dx, b->T_back, c->C);
    const uint32_t lowest = at_decoder_lowest(d);

    AT_REQUIRE(d->trains);
    if (b->n_back < b->T_back) /* dq of what reads nothing is 0; kernels leave ds to readers */
        at_stream_fill(
            s, at_view_part(d->intervals, 16ul * b->n_back, 16ul * (b->T_back - b->n_back)), 0);
    head_bwd(s, d, part(d->dx, b->S_back, c->C), b->R_back);
    for (uint32_t l = c->L; l-- > lowest;)
        layer_bwd(s, d, l, rows, l > lowest || at_model_trains_embedding(d->model));
    if (at_model_trains_embedding(d->model) && c->embed_scale != 1)
        at_scale(s, dx, c->embed_scale);
    if (at_model_trains_embedding(d->model))
        at_embed_bwd(s, d->model->d_embed, dx, words(d->embed_ids, d->n_embed_ids),
                     words(d->embed_begin, d->n_embed_ids + 1ul), words(d->embed_order, b->T_back),
                     d->n_embed_ids);
}
