#include "decoder.h"

#include "activation.h"
#include "decoder_parts.h"
#include "norm.h"
#include "value.h"

#include <math.h>
#include <stdlib.h>

uint32_t at_decoder_window(const struct at_decoder *d, uint32_t l)
{
    const uint32_t window = at_layer_window(&d->model->config, l);

    return window < d->model->n_positions ? window : 0;
}

/* Linear layers by what they are in the decoder. */
enum { LIN_Q, LIN_K, LIN_V, LIN_O, LIN_GATE, LIN_UP, LIN_DOWN };

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
    const uint32_t T = b->T;

    if (at_model_trains_embedding(d->model) && d->trains) {
        d->n_embed_ids = sort_embedding(d, b->ids, T);
        at_stream_upload(s, d->embed_ids, d->embed_host, 4ul * d->n_embed_ids);
        at_stream_upload(s, d->embed_begin, d->embed_host + T, 4ul * (d->n_embed_ids + 1));
        at_stream_upload(s, d->embed_order, d->embed_host + 2ul * T + 1, 4ul * T);
    }
    if (!d->model->trainable) /* the reference's, where it is trained beside an adapter */
        at_decoder_upload_rows(s, d, b->ids, T);
}

void at_decoder_begin(struct at_stream *s, struct at_decoder *d, const struct at_batch *b)
{
    AT_REQUIRE(b->T <= d->capacity && b->R <= d->capacity_rows);
    AT_REQUIRE(b->n_segments <= d->capacity_segments && b->n_order <= b->R);
    at_stream_upload(s, d->ids, b->ids, 4ul * b->T);
    at_stream_upload(s, d->positions, b->positions, 4ul * b->T);
    at_stream_upload(s, d->intervals, b->intervals, 16ul * b->T);
    if (d->dropout.p > 0)
        at_stream_upload(s, d->dropout.tokens, b->tokens, 8ul * b->T);
    at_stream_upload(s, d->query_end, b->query_end, 4ul * b->T);
    at_stream_upload(s, d->source, b->source, 4ul * b->R);
    at_stream_upload(s, d->target, b->target, 4ul * b->R);
    at_stream_upload(s, d->row_segment, b->row_segment, 4ul * b->R);
    at_stream_upload(s, d->row_weight, b->row_weight, 4ul * b->R);
    at_stream_upload(s, d->row_begin, b->row_begin, 4ul * (b->T + 1));
    if (b->n_order > 0)
        at_stream_upload(s, d->order, b->order, 4ul * b->n_order);
    at_stream_upload(s, d->segment_begin, b->segment_begin, 4ul * (b->n_segments + 1));
    upload_embedding(s, d, b);
}

/* ---- forward ---- */

/* What a pass sees of adapter a on linear i of layer l: its LoRA, or NULL when it is skipped. */
static const struct at_lora *lora_of(const struct at_adapter *a, uint32_t l, uint32_t i,
                                     enum at_pass pass)
{
    const uint32_t at = l * AT_LINEARS + i;

    if (a->rank[at] == 0)
        return NULL;
    if (pass == AT_PASS_REFERENCE && a->trainable)
        return a->reference ? &a->reference[at] : NULL;
    return &a->lora[at];
}

/* The first rows and columns of a planned tensor; nothing of one that this family does not have. */
static struct at_tensor part(struct at_tensor t, uint32_t rows, uint32_t cols)
{
    if (!t.view.buffer)
        return t;
    return at_tensor_make(t.view, rows, cols);
}

/* Scratch or saved z of an adapter: only a trainable adapter's z is needed again. */
static struct at_tensor z_of(const struct at_decoder *d, const struct at_activations *a,
                             const struct at_adapter *adapter, uint32_t i, uint32_t T,
                             uint32_t rank)
{
    return part(adapter->trainable ? a->z[i] : d->z_frozen, T, rank);
}

/* Whether x of this adapter is dropped: not that of frozen ones, and in training passes alone. */
static bool drops(const struct at_decoder *d, const struct at_adapter *adapter, enum at_pass pass)
{
    return d->dropout.p > 0 && adapter->trainable && pass == AT_PASS_POLICY_TRAIN;
}

/* Linear i of layer l under DoRA, as a pass sees it. */
static struct at_dora_linear dora_of(const struct at_decoder *d, uint32_t l, uint32_t i, uint32_t T,
                                     enum at_pass pass)
{
    const struct at_adapter *a = d->stack[0];
    const struct at_weight w = d->model->layers[l].linear[i];
    const uint32_t rank = a->rank[l * AT_LINEARS + i];
    const bool dropped = drops(d, a, pass);

    return (struct at_dora_linear){
        .w = w,
        .scratch = &d->linear,
        .lora = lora_of(a, l, i, pass),
        .u = part(d->wide, T, w.rows),
        .z = z_of(d, &d->layers[d->trains ? l : 0], a, i, T, rank),
        .dz = d->trains ? part(d->dz, T, rank) : d->dz,
        .dropped = dropped ? part(d->dropped, T, w.cols) : d->dropped,
        .dropout = dropped ? &d->dropout : NULL,
        .module = l * AT_LINEARS + i,
    };
}

static bool has_dora(const struct at_decoder *d, uint32_t l, uint32_t i)
{
    return d->dora && d->stack[0]->rank[l * AT_LINEARS + i] > 0;
}

/* y (+)= x W^T + bias + adapters of linear i in layer l. */
static void linear_fwd(struct at_stream *s, struct at_decoder *d, struct at_tensor y,
                       struct at_tensor x, uint32_t l, uint32_t i, enum at_pass pass,
                       bool accumulate)
{
    const struct at_layer *layer = &d->model->layers[l];
    const struct at_activations *a = &d->layers[d->trains ? l : 0];
    const bool one_row = x.dim[0] == 1; /* decoding: slabs have multiples of 64 */
    const bool dora = has_dora(d, l, i);

    if (dora) {
        const struct at_dora_linear linear = dora_of(d, l, i, x.dim[0], pass);
        at_dora_fwd(s, y, x, &linear, accumulate);
    } else if (one_row) {
        at_linear_row(s, y, x, layer->linear[i], 1, accumulate);
    } else {
        at_linear_fwd(s, y, x, layer->linear[i], &d->linear, accumulate);
    }
    if (i <= LIN_V && layer->bias[i].buffer)
        at_bias_fwd(s, y, layer->bias[i]);
    for (size_t k = 0; !dora && k < d->n_stack; k++) {
        const struct at_lora *lora = lora_of(d->stack[k], l, i, pass);
        struct at_tensor z;
        if (!lora)
            continue;
        z = z_of(d, a, d->stack[k], i, x.dim[0], lora->A.dim[0]);
        if (one_row)
            at_lora_row(s, y, z, x, lora);
        else if (drops(d, d->stack[k], pass))
            at_lora_dropout_fwd(s, y, z, x, part(d->dropped, x.dim[0], x.dim[1]), lora, &d->dropout,
                                l * AT_LINEARS + i);
        else
            at_lora_fwd(s, y, z, x, lora);
    }
}

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
                                  .intervals = at_view_part(d->intervals, 0, 16ul * T),
                                  .query_end = at_view_part(d->query_end, 0, 4ul * T) };
}

static struct at_view words(struct at_view view, uint64_t n)
{
    return at_view_part(view, 0, at_round_up(4 * n, 16));
}

/* Keys that attention binds for n in the cache: they grow in steps, since each new size costs CPU
 * devices new texel views. Rows past n are masked, and finite: zeros, or an earlier run's. */
static uint32_t bound_keys(const struct at_kv_cache *cache, uint32_t n)
{
    const uint64_t most = at_round_up(n, 256);

    return most < cache->capacity ? (uint32_t)most : cache->capacity;
}

/* Appends `rows` to a layer's cache of n rows and returns the rows that attention binds. */
static struct at_tensor cache_put(struct at_stream *s, struct at_tensor cache, uint32_t n,
                                  struct at_tensor rows, uint32_t n_keys)
{
    const uint64_t row = rows.ld * sizeof(float), bytes = rows.dim[0] * row;

    at_stream_copy(s, at_view_part(cache.view, n * row, bytes), rows.view, bytes);
    return at_tensor_rows(cache, 0, n_keys);
}

/* q or k of T rows as one row a head. */
static struct at_tensor heads_of(const struct at_decoder *d, struct at_tensor t)
{
    const uint32_t D = d->model->config.D;

    return at_tensor_make(t.view, t.dim[0] * (t.dim[1] / D), D);
}

/* Turns q and k of layer l, or turns gradients back. */
static void turn(struct at_stream *s, const struct at_decoder *d, uint32_t l, struct at_tensor q,
                 struct at_tensor k, bool backward)
{
    const struct at_model_config *c = &d->model->config;
    const bool local = c->family->local_rope && at_layer_window(c, l) > 0;
    const struct at_tensor table = local ? d->model->local_rope : d->model->rope;
    const uint32_t T = q.dim[0];

    if (!at_layer_turns(c, l))
        return;
    at_rope(s, q, words(d->positions, T), table, c->H, backward);
    at_rope(s, k, words(d->positions, T), table, c->G, backward);
}

/* x += the post-norm of y. h: scratch. */
static void add_output(struct at_stream *s, struct at_tensor x, struct at_tensor y,
                       struct at_tensor h, struct at_view rstd, struct at_view norm, float eps)
{
    at_rmsnorm_fwd(s, h, rstd, y, norm, eps);
    at_add(s, x, h);
}

/* q and k of h, normed where the family does, and turned. */
static void queries_and_keys(struct at_stream *s, struct at_decoder *d,
                             const struct at_activations *a, uint32_t l, struct at_tensor q,
                             struct at_tensor k, struct at_tensor h, enum at_pass pass)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_layer *layer = &d->model->layers[l];
    const uint32_t T = h.dim[0];

    if (c->family->qk_norm) {
        const struct at_tensor raw_q = part(a->raw_q, T, q.dim[1]);
        const struct at_tensor raw_k = part(a->raw_k, T, k.dim[1]);
        linear_fwd(s, d, raw_q, h, l, LIN_Q, pass, false);
        linear_fwd(s, d, raw_k, h, l, LIN_K, pass, false);
        at_rmsnorm_fwd(s, heads_of(d, q), words(a->rstd_q, (uint64_t)T * c->H), heads_of(d, raw_q),
                       layer->q_norm, c->norm_eps);
        at_rmsnorm_fwd(s, heads_of(d, k), words(a->rstd_k, (uint64_t)T * c->G), heads_of(d, raw_k),
                       layer->k_norm, c->norm_eps);
    } else {
        linear_fwd(s, d, q, h, l, LIN_Q, pass, false);
        linear_fwd(s, d, k, h, l, LIN_K, pass, false);
    }
    turn(s, d, l, q, k, false);
}

/* x (T,C) -> x: one decoder layer, saving into `a`. With a cache its keys come before the T rows'
 * own. */
static void layer_fwd(struct at_stream *s, struct at_decoder *d, const struct at_activations *a,
                      uint32_t l, uint32_t T, struct at_tensor x, enum at_pass pass,
                      const struct at_kv_cache *cache)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_layer *layer = &d->model->layers[l];
    const struct at_tensor h = part(d->h, T, c->C), m = part(d->m, T, c->F);
    const struct at_tensor ax = part(a->x, T, c->C), mid = part(a->mid, T, c->C);
    const struct at_tensor q = part(a->q, T, c->H * c->D), o = part(a->o, T, c->H * c->D);
    const struct at_tensor gate = part(a->gate, T, c->F), up = part(a->up, T, c->F);
    struct at_tensor k = part(a->k, T, c->G * c->D), v = part(a->v, T, c->G * c->D);
    const struct at_tensor attn_out = part(a->attn_out, T, c->C);
    const struct at_tensor mlp_out = part(a->mlp_out, T, c->C);
    const bool post = c->family->post_norms;
    struct at_attention attention = attention_of(d, l, T);
    const uint64_t bytes = at_tensor_bytes(T, c->C);

    at_stream_copy(s, ax.view, x.view, bytes);
    at_rmsnorm_fwd(s, h, words(a->rstd1, T), ax, layer->attn_norm, c->norm_eps);
    queries_and_keys(s, d, a, l, q, k, h, pass);
    linear_fwd(s, d, v, h, l, LIN_V, pass, false);
    if (cache) {
        attention.n_keys = bound_keys(cache, cache->n + T);
        k = cache_put(s, cache->k[l], cache->n, k, attention.n_keys);
        v = cache_put(s, cache->v[l], cache->n, v, attention.n_keys);
    }
    at_attention_fwd(s, o, words(a->lse, (uint64_t)T * c->H), q, k, v, &attention);
    linear_fwd(s, d, post ? attn_out : x, o, l, LIN_O, pass, !post);
    if (post)
        add_output(s, x, attn_out, h, words(a->rstd_attn, T), layer->attn_post_norm, c->norm_eps);
    at_stream_copy(s, mid.view, x.view, bytes);
    at_rmsnorm_fwd(s, h, words(a->rstd2, T), mid, layer->mlp_norm, c->norm_eps);
    linear_fwd(s, d, gate, h, l, LIN_GATE, pass, false);
    linear_fwd(s, d, up, h, l, LIN_UP, pass, false);
    at_swiglu_fwd(s, m, gate, up, c->family->gelu);
    linear_fwd(s, d, post ? mlp_out : x, m, l, LIN_DOWN, pass, !post);
    if (post)
        add_output(s, x, mlp_out, h, words(a->rstd_mlp, T), layer->mlp_post_norm, c->norm_eps);
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

void at_decoder_forward(struct at_stream *s, struct at_decoder *d, const struct at_batch *b,
                        enum at_pass pass, struct at_view sums)
{
    const struct at_model_config *c = &d->model->config;
    const uint32_t T = b->T, R = b->R;
    const struct at_tensor x = part(d->x, T, c->C), h = part(d->h, T, c->C);
    const struct at_tensor rows = part(d->rows, R, c->C);
    struct at_tensor u = { .view = { NULL, 0, 0 } };

    embed_fwd(s, d, x, pass);
    for (uint32_t l = 0; l < c->L; l++)
        layer_fwd(s, d, &d->layers[d->trains ? l : 0], l, T, x, pass, NULL);
    at_rmsnorm_fwd(s, h, words(d->final_rstd, T), x, d->model->final_norm, c->norm_eps);
    at_gather_rows(s, rows, h, words(d->source, R));
    if (pass == AT_PASS_POLICY_TRAIN || pass == AT_PASS_POLICY_DRIFT)
        u = part(d->u, R, c->C);
    if (c->value_head) {
        at_value_fwd(s, at_view_part(d->stats, 0, 16ul * R), u, rows, d->model->value.w);
        at_stream_fill(s, words(d->log_p2, R), 0);
    } else {
        at_head_fwd(s, at_view_part(d->stats, 0, 16ul * R), words(d->lse, R), words(d->log_p2, R),
                    u, rows, words(d->target, R), head_of(d->model, pass), &d->head);
    }
    at_segment_sums(s, sums, at_view_part(d->stats, 0, 16ul * R), words(d->row_weight, R),
                    words(d->log_p2, R), d->order, d->segment_begin, b->n_segments);
}

void at_decoder_keep(struct at_stream *s, struct at_decoder *d, const struct at_batch *b)
{
    const struct at_tensor rows = part(d->rows, b->R, d->model->config.C);
    const uint64_t bytes = at_tensor_bytes(b->R, rows.dim[1]);

    at_stream_copy(s, at_view_part(d->ref_rows.view, 0, bytes),
                   at_view_part(d->rows.view, 0, bytes), bytes);
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

AT_CHECKED at_kv_cache_plan(struct at_kv_cache *out, const struct at_model_config *c,
                            uint32_t capacity, struct at_pool *pool)
{
    enum at_status st = AT_OK;

    *out = (struct at_kv_cache){ .capacity = capacity };
    TRY(at_alloc(&out->k, c->L, sizeof *out->k));
    TRY(at_alloc(&out->v, c->L, sizeof *out->v));
    for (uint32_t l = 0; l < c->L; l++) {
        at_tensor_reserve(pool, &out->k[l], capacity, c->G * c->D, "key cache");
        at_tensor_reserve(pool, &out->v[l], capacity, c->G * c->D, "value cache");
    }
done:
    return st;
}

void at_kv_cache_release(struct at_kv_cache *cache)
{
    at_free(&cache->k);
    at_free(&cache->v);
    *cache = (struct at_kv_cache){ 0 };
}

void at_decoder_extend(struct at_stream *s, struct at_decoder *d, struct at_kv_cache *cache,
                       const int32_t *ids, uint32_t T, struct at_tensor last)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_batch batch = { .T = T, .ids = ids };
    const struct at_tensor x = part(d->x, T, c->C), h = part(d->h, T, c->C);
    const uint64_t row = h.ld * sizeof(float);
    int32_t positions[AT_EXTEND_ROWS], intervals[AT_EXTEND_ROWS][4];

    AT_REQUIRE(!d->trains && T > 0 && T <= AT_EXTEND_ROWS && T <= d->capacity);
    AT_REQUIRE(cache->n + T <= cache->capacity && cache->n + T <= d->model->n_positions);
    for (uint32_t t = 0; t < T; t++) {
        positions[t] = (int32_t)(cache->n + t);
        intervals[t][0] = intervals[t][1] = intervals[t][2] = 0;
        intervals[t][3] = positions[t] + 1;
    }
    at_stream_upload(s, d->ids, ids, 4ul * T);
    at_stream_upload(s, d->positions, positions, 4ul * T);
    at_stream_upload(s, d->intervals, intervals, 16ul * T);
    upload_embedding(s, d, &batch);
    embed_fwd(s, d, x, AT_PASS_POLICY_EVAL);
    for (uint32_t l = 0; l < c->L; l++)
        layer_fwd(s, d, &d->layers[0], l, T, x, AT_PASS_POLICY_EVAL, cache);
    cache->n += T;
    at_rmsnorm_fwd(s, h, words(d->final_rstd, T), x, d->model->final_norm, c->norm_eps);
    at_stream_copy(s, last.view, at_view_part(h.view, (T - 1) * row, row), row);
}

/* ---- backward ---- */

static const struct at_layer_grads none; /* of a frozen layer */

/* dx += dy W and the adapters' part; gradients of what trains. dx without a buffer is not needed.
 */
static void linear_bwd(struct at_stream *s, struct at_decoder *d, struct at_tensor dx,
                       struct at_tensor dy, struct at_tensor x, uint32_t l, uint32_t i,
                       bool accumulate)
{
    const struct at_model *model = d->model;
    const struct at_activations *a = &d->layers[l];

    if (has_dora(d, l, i)) {
        const struct at_dora_linear linear = dora_of(d, l, i, x.dim[0], AT_PASS_POLICY_TRAIN);
        at_dora_bwd(s, dx, dy, x, &linear, accumulate);
        return;
    }
    if (dx.view.buffer)
        at_linear_bwd(s, dx, dy, model->layers[l].linear[i], &d->linear, accumulate);
    if (model->trainable) {
        at_linear_bwd_weight(s, model->grads[l].linear[i], dy, x);
        if (i <= LIN_V && model->grads[l].bias[i].buffer)
            at_bias_bwd(s, model->grads[l].bias[i], dy);
    }
    for (size_t k = 0; k < d->n_stack; k++) {
        const struct at_lora *lora = lora_of(d->stack[k], l, i, AT_PASS_POLICY_TRAIN);
        if (!lora || (!dx.view.buffer && !d->stack[k]->trainable))
            continue;
        const uint32_t T = x.dim[0], rank = lora->A.dim[0];
        const struct at_tensor dz = part(d->dz, T, rank);
        const struct at_tensor z = z_of(d, a, d->stack[k], i, T, rank);
        if (drops(d, d->stack[k], AT_PASS_POLICY_TRAIN))
            at_lora_dropout_bwd(s, dx, dz, dy, x, z, part(d->dropped, T, x.dim[1]), lora,
                                &d->dropout, l * AT_LINEARS + i);
        else
            at_lora_bwd(s, dx, dz, dy, x, z, lora);
    }
}

/* The gradient of a post-norm's input y into dh (scratch), where the family has one; else dx. */
static struct at_tensor output_bwd(struct at_stream *s, struct at_decoder *d, struct at_tensor dx,
                                   struct at_tensor y, struct at_view rstd, struct at_view norm,
                                   struct at_view dnorm)
{
    const struct at_tensor dh = part(d->dh, dx.dim[0], dx.dim[1]);

    if (!d->model->config.family->post_norms)
        return dx;
    rstd = words(rstd, dx.dim[0]);
    if (d->model->trainable)
        at_rmsnorm_bwd_weight(s, dnorm, dx, y, rstd);
    at_stream_fill(s, at_tensor_view(dh), 0);
    at_rmsnorm_bwd(s, dh, dx, y, norm, rstd);
    return dh;
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

/* dx holds the gradient of the layer's output and becomes that of x_mid. */
static void mlp_bwd(struct at_stream *s, struct at_decoder *d, uint32_t l, uint32_t T,
                    struct at_tensor dx)
{
    const struct at_model *model = d->model;
    const struct at_model_config *c = &model->config;
    const struct at_layer *layer = &model->layers[l];
    const struct at_activations *a = &d->layers[l];
    const struct at_tensor m = part(d->m, T, c->F), dm = part(d->dm, T, c->F);
    const struct at_tensor gate = part(a->gate, T, c->F), up = part(a->up, T, c->F);
    const struct at_tensor mid = part(a->mid, T, c->C), h = part(d->h, T, c->C);
    const struct at_tensor dh = part(d->dh, T, c->C);
    const struct at_layer_grads *grads = model->trainable ? &model->grads[l] : &none;
    const struct at_tensor dy = output_bwd(s, d, dx, part(a->mlp_out, T, c->C), a->rstd_mlp,
                                           layer->mlp_post_norm, grads->mlp_post_norm);

    at_swiglu_fwd(s, m, gate, up, c->family->gelu);
    linear_bwd(s, d, dm, dy, m, l, LIN_DOWN, false);
    at_swiglu_bwd(s, gate, up, dm, gate, up, c->family->gelu);
    at_rmsnorm_again(s, h, mid, layer->mlp_norm, words(a->rstd2, T));
    linear_bwd(s, d, dh, gate, h, l, LIN_GATE, false);
    linear_bwd(s, d, dh, up, h, l, LIN_UP, true);
    if (model->trainable)
        at_rmsnorm_bwd_weight(s, grads->mlp_norm, dh, mid, words(a->rstd2, T));
    at_rmsnorm_bwd(s, dx, dh, mid, layer->mlp_norm, words(a->rstd2, T));
}

/* dx holds the gradient of x_mid and becomes that of the layer's input (when `deeper`). */
static void attention_bwd(struct at_stream *s, struct at_decoder *d, uint32_t l, uint32_t T,
                          struct at_tensor dx, bool deeper)
{
    const struct at_model *model = d->model;
    const struct at_model_config *c = &model->config;
    const struct at_layer *layer = &model->layers[l];
    const struct at_activations *a = &d->layers[l];
    const uint32_t HD = c->H * c->D, GD = c->G * c->D;
    const struct at_tensor o = part(a->o, T, HD), d_o = part(d->d_o, T, HD);
    const struct at_tensor dq = part(d->dq, T, HD), dk = part(d->dk, T, GD);
    const struct at_tensor dv = part(d->dv, T, GD), x = part(a->x, T, c->C);
    const struct at_tensor h = part(d->h, T, c->C);
    const struct at_attention attention = attention_of(d, l, T);
    struct at_tensor dh = { .view = { NULL, 0, 0 } }, dlinear_q = dq, dlinear_k = dk;
    const struct at_layer_grads *grads = model->trainable ? &model->grads[l] : &none;
    const struct at_tensor dy = output_bwd(s, d, dx, part(a->attn_out, T, c->C), a->rstd_attn,
                                           layer->attn_post_norm, grads->attn_post_norm);

    linear_bwd(s, d, d_o, dy, o, l, LIN_O, false);
    at_attention_bwd(s, dq, dk, dv, d_o, part(a->q, T, HD), part(a->k, T, GD), part(a->v, T, GD), o,
                     words(a->lse, (uint64_t)T * c->H), d->attention_scratch, &attention);
    turn(s, d, l, dq, dk, true);
    if (c->family->qk_norm) { /* through memory that is free by now: d_o, then dq's */
        dlinear_q = d_o;
        head_norm_bwd(s, d, dlinear_q, dq, part(a->raw_q, T, HD), a->rstd_q, layer->q_norm,
                      grads->q_norm);
        dlinear_k = part(d->dq, T, GD);
        head_norm_bwd(s, d, dlinear_k, dk, part(a->raw_k, T, GD), a->rstd_k, layer->k_norm,
                      grads->k_norm);
    }
    at_rmsnorm_again(s, h, x, layer->attn_norm, words(a->rstd1, T));
    if (deeper)
        dh = part(d->dh, T, c->C);
    linear_bwd(s, d, dh, dlinear_q, h, l, LIN_Q, false);
    linear_bwd(s, d, dh, dlinear_k, h, l, LIN_K, true);
    linear_bwd(s, d, dh, dv, h, l, LIN_V, true);
    if (!deeper)
        return;
    if (model->trainable)
        at_rmsnorm_bwd_weight(s, grads->attn_norm, dh, x, words(a->rstd1, T));
    at_rmsnorm_bwd(s, dx, dh, x, layer->attn_norm, words(a->rstd1, T));
}

/* Lowest layer with a trainable adapter; nothing below it needs a gradient, unless the embedding
 * does. */
static uint32_t lowest_trained(const struct at_decoder *d)
{
    const struct at_adapter *a = d->n_stack > 0 ? d->stack[d->n_stack - 1] : NULL;

    for (uint32_t i = 0;
         !at_model_trains_embedding(d->model) && a && i < d->model->config.L * AT_LINEARS; i++)
        if (a->rank[i] > 0)
            return i / AT_LINEARS;
    return 0;
}

static void head_bwd(struct at_stream *s, struct at_decoder *d, uint32_t T, uint32_t R,
                     struct at_tensor dx)
{
    const struct at_model *model = d->model;
    const struct at_model_config *c = &model->config;
    const struct at_tensor x = part(d->x, T, c->C), dh = part(d->dh, T, c->C);

    if (c->value_head)
        at_value_bwd(s, model->value.dw, part(d->rows, R, c->C), at_view_part(d->coef, 0, 4ul * R));
    else if (model->d_head.view.buffer)
        at_head_bwd_weight(s, model->d_head, part(d->rows, R, c->C), words(d->target, R),
                           words(d->lse, R), words(d->coef, R),
                           head_of(model, AT_PASS_POLICY_TRAIN), &d->head);
    at_scatter_rows(s, dh, part(d->u, R, c->C), words(d->coef, R), words(d->row_begin, T + 1ul));
    if (model->trainable)
        at_rmsnorm_bwd_weight(s, model->d_final_norm, dh, x, words(d->final_rstd, T));
    at_stream_fill(s, dx.view, 0);
    at_rmsnorm_bwd(s, dx, dh, x, model->final_norm, words(d->final_rstd, T));
}

void at_decoder_backward(struct at_stream *s, struct at_decoder *d, const struct at_batch *b)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_tensor dx = part(d->dx, b->T, c->C);
    const uint32_t lowest = lowest_trained(d);

    AT_REQUIRE(d->trains);
    head_bwd(s, d, b->T, b->R, dx);
    for (uint32_t l = c->L; l-- > lowest;) {
        mlp_bwd(s, d, l, b->T, dx);
        attention_bwd(s, d, l, b->T, dx, l > lowest || at_model_trains_embedding(d->model));
    }
    if (at_model_trains_embedding(d->model) && c->embed_scale != 1)
        at_scale(s, dx, c->embed_scale);
    if (at_model_trains_embedding(d->model))
        at_embed_bwd(s, d->model->d_embed, dx, words(d->embed_ids, d->n_embed_ids),
                     words(d->embed_begin, d->n_embed_ids + 1ul), words(d->embed_order, b->T),
                     d->n_embed_ids);
}
