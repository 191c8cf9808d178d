#include "decoder_parts.h"
#include "value.h"

#include <math.h>

const char *at_recompute_name(enum at_recompute recompute)
{
    static const char *const names[] = {
        [AT_RECOMPUTE_NONE] = "none",
        [AT_RECOMPUTE_MLP] = "mlp",
        [AT_RECOMPUTE_LAYER] = "full",
        [AT_RECOMPUTE_GROUP] = "sqrt",
    };

    return names[recompute];
}

/* Queries, keys, values or gradients of them (or of attention's output, over which those of queries
 * are written). Where a norm takes heads as rows, none lie apart. */
static void reserve_heads(struct at_pool *pool, struct at_tensor *tensor,
                          const struct at_model_config *c, uint32_t T, uint32_t heads,
                          const char *what)
{
    if (c->family->qk_norm && !c->family->qk_norm_wide)
        at_tensor_reserve(pool, tensor, T, heads * c->D, what);
    else
        at_tensor_reserve_apart(pool, tensor, T, heads * c->D, what);
}

/* Whether what linears of the same input give, `cols` columns, lies together, for one product:
 * where nothing is trained and a binding holds all of it, since that of a part reaches over the
 * others; not where bindings are aligned to more than four columns. Of devices with few_rows alone:
 * others have not been timed with it. */
static bool lies_together(const struct at_pool *pool, bool trains, uint32_t T, uint32_t cols)
{
    const struct at_gpu_info *info = at_gpu_get_info(at_pool_gpu(pool));

    return !trains && info->few_rows && info->view_alignment <= AT_COLUMNS_ALIGNMENT &&
           at_tensor_apart_bytes(T + 1, cols) <= info->max_range_bytes;
}

/* Not together with norms of queries, whose rows are heads. */
static void plan_outputs(struct at_activations *a, const struct at_model_config *c, uint32_t T,
                         bool trains, struct at_pool *pool)
{
    const uint32_t cols = (c->H + 2 * c->G) * c->D;

    if (!c->family->qk_norm && lies_together(pool, trains, T, cols)) {
        at_tensor_reserve_apart(pool, &a->qkv, T + 1, cols, "queries, keys, values");
    } else {
        reserve_heads(pool, &a->q, c, T, c->H, "saved queries");
        reserve_heads(pool, &a->k, c, T, c->G, "saved keys");
        reserve_heads(pool, &a->v, c, T, c->G, "saved values");
    }
}

static void plan_hidden(struct at_activations *a, const struct at_model_config *c, uint32_t T,
                        bool trains, struct at_pool *pool)
{
    if (!c->family->ungated && c->F % 4 == 0 && lies_together(pool, trains, T, 2 * c->F)) {
        at_tensor_reserve_apart(pool, &a->gate_up, T + 1, 2 * c->F, "gate and up");
        return;
    }
    if (!c->family->ungated)
        at_tensor_reserve_apart(pool, &a->gate, T, c->F, "saved gate");
    at_tensor_reserve_apart(pool, &a->up, T, c->F, "saved up");
}

/* z of the n linear layers that read the same, the first and those behind it. What is columns of
 * the first's has a row more than tokens; at_z_has_columns() tells them apart by that. */
static void reserve_z(const struct at_decoder *d, struct at_pool *pool, struct at_tensor *z,
                      uint32_t n, uint32_t rank, const char *what)
{
    if (d->z_beside && n > 1)
        at_tensor_reserve(pool, z, d->capacity + 1, n * at_tensor_ld(rank), what);
    for (uint32_t i = 0; !(d->z_beside && n > 1) && i < n; i++)
        at_tensor_reserve(pool, &z[i], d->capacity, rank, what);
}

/* Scratch that serves any linear layer in the place of z, of which `together` are there at once. */
static void reserve_z_scratch(const struct at_decoder *d, struct at_pool *pool, struct at_tensor *z,
                              bool together, uint32_t rank, const char *what)
{
    reserve_z(d, pool, z, d->z_beside && together ? MOST_TOGETHER : 1, rank, what);
}

static bool has_frozen(const struct at_decoder *d)
{
    return d->n_stack > 0 && !d->stack[0]->trainable; /* frozen ones come first */
}

/* All but its input, z of its last matrix and what plan_hidden() reserves. */
static void plan_layer(const struct at_decoder *d, struct at_activations *a, uint32_t rank,
                       struct at_pool *pool)
{
    const struct at_model_config *c = &d->model->config;
    const uint32_t T = d->capacity;
    const bool trains = d->trains;
    static const char what_z[] = "adapter activations";

    at_tensor_reserve_apart(pool, &a->o, T, c->H * c->D, "saved attention");
    if (trains && !c->family->parallel)
        at_tensor_reserve_apart(pool, &a->mid, T, c->C, "saved residual");
    plan_outputs(a, c, T, trains, pool);
    at_pool_reserve(pool, &a->rstd1, T * sizeof(float), "saved norms");
    at_pool_reserve(pool, &a->rstd2, T * sizeof(float), "saved norms");
    at_pool_reserve(pool, &a->lse, (uint64_t)T * c->H * sizeof(float), "saved norms");
    if (c->family->qk_norm) {
        reserve_heads(pool, &a->raw_q, c, T, c->H, "saved queries");
        reserve_heads(pool, &a->raw_k, c, T, c->G, "saved keys");
        at_pool_reserve(pool, &a->rstd_q, (uint64_t)T * c->H * sizeof(float), "saved norms");
        at_pool_reserve(pool, &a->rstd_k, (uint64_t)T * c->G * sizeof(float), "saved norms");
    }
    if (c->family->post_norms) {
        at_tensor_reserve_apart(pool, &a->attn_out, T, c->C, "saved outputs");
        at_tensor_reserve_apart(pool, &a->mlp_out, T, c->C, "saved outputs");
        at_pool_reserve(pool, &a->rstd_attn, T * sizeof(float), "saved norms");
        at_pool_reserve(pool, &a->rstd_mlp, T * sizeof(float), "saved norms");
    }
    if (rank > 0) {
        reserve_z(d, pool, &a->z[LIN_Q], 3, rank, what_z);
        reserve_z(d, pool, &a->z[LIN_O], 1, rank, what_z);
        reserve_z(d, pool, &a->z[LIN_GATE], 2, rank, what_z);
    }
}

/* Layers of a group, for the least inputs that are there at once. */
static uint32_t group_of(const struct at_decoder *d)
{
    return d->recompute == AT_RECOMPUTE_GROUP ? (uint32_t)ceil(sqrt(d->model->config.L)) : 1;
}

/* What each layer has for itself, and what they share. */
static void plan_layers(struct at_decoder *d, uint32_t rank, struct at_pool *pool)
{
    const struct at_model_config *c = &d->model->config;
    const uint32_t T = d->capacity, n = d->trains ? c->L : 1;

    for (uint32_t l = 0; l < n; l++) {
        if (d->trains ? l % d->group == 0 : c->family->parallel)
            at_tensor_reserve_apart(pool, &d->layers[l].x, T, c->C, "saved residual");
        if (rank > 0)
            reserve_z(d, pool, &d->layers[l].z[LIN_DOWN], 1, rank, "adapter activations");
        if (d->recompute < AT_RECOMPUTE_LAYER)
            plan_layer(d, &d->layers[l], rank, pool);
        if (d->recompute == AT_RECOMPUTE_NONE)
            plan_hidden(&d->layers[l], c, T, d->trains, pool);
    }
    for (uint32_t i = 0; i + 1 < d->group; i++)
        at_tensor_reserve_apart(pool, &d->inputs[i], T, c->C, "saved residual");
    if (d->recompute >= AT_RECOMPUTE_LAYER)
        plan_layer(d, &d->shared, rank, pool);
    if (d->recompute != AT_RECOMPUTE_NONE)
        plan_hidden(&d->shared, c, T, d->trains, pool);
}

static void plan_inputs(struct at_decoder *d, struct at_pool *pool)
{
    const uint64_t T = d->capacity, R = d->capacity_rows, n = d->capacity_segments;
    static const char what[] = "slab arrays";

    at_pool_reserve(pool, &d->ids, T * 4, what);
    at_pool_reserve(pool, &d->positions, T * 4, what);
    at_pool_reserve(pool, &d->intervals, T * 16, what);
    at_pool_reserve(pool, &d->query_end, T * 4, what);
    at_pool_reserve(pool, &d->sources, R * 4, what);
    at_pool_reserve(pool, &d->row_source, R * 4, what);
    at_pool_reserve(pool, &d->source_begin, (R + 1) * 4, what);
    at_pool_reserve(pool, &d->source_place, T * 4, what);
    at_pool_reserve(pool, &d->target, R * 4, what);
    at_pool_reserve(pool, &d->row_segment, R * 4, what);
    at_pool_reserve(pool, &d->row_weight, R * 4, what);
    at_pool_reserve(pool, &d->order, R * 4, what);
    at_pool_reserve(pool, &d->segment_begin, (n + 1) * 4, what);
    at_pool_reserve(pool, &d->stats, R * 16, what);
    at_pool_reserve(pool, &d->lse, R * 4, what);
    at_pool_reserve(pool, &d->log_p2, R * 4, what);
    at_pool_reserve(pool, &d->coef, R * 4, what);
    at_pool_reserve(pool, &d->row_loss, R * 16, what);
    at_pool_reserve(pool, &d->sums, n * 32, what);
    at_pool_reserve(pool, &d->ref_sums, n * 32, what);
    at_pool_reserve(pool, &d->pair_match, (n / 2 + 1) * 16, what);
    at_pool_reserve(pool, &d->pair_out, n * 16, what);
    at_pool_reserve(pool, &d->row_facts, n * 8, what);
    if (d->dropout.p > 0) {
        at_pool_reserve(pool, &d->dropout.tokens, T * 8, what);
        at_pool_reserve(pool, &d->source_names, R * 8, what);
    }
    if (at_model_trains_embedding(d->model)) {
        at_pool_reserve(pool, &d->embed_ids, T * 4, what);
        at_pool_reserve(pool, &d->embed_begin, (T + 1) * 4, what);
        at_pool_reserve(pool, &d->embed_order, T * 4, what);
    }
}

static void plan_scratch(struct at_decoder *d, uint32_t rank, struct at_pool *pool)
{
    const struct at_model_config *c = &d->model->config;
    const uint32_t T = d->capacity;
    uint32_t in = 0, out = 0;
    static const char what[] = "scratch";

    at_tensor_reserve_apart(pool, &d->x, T, c->C, what);
    at_tensor_reserve_apart(pool, &d->h, T, c->C, what);
    at_tensor_reserve_apart(pool, &d->m, T, c->F, what);
    at_tensor_reserve_apart(pool, &d->rows, d->capacity_rows, c->C, what);
    at_tensor_reserve_apart(pool, &d->x_last, d->capacity_rows, c->C, what);
    at_tensor_reserve_apart(pool, &d->o_last, d->capacity_rows, c->H * c->D, what);
    if (c->family->parallel)
        at_tensor_reserve_apart(pool, &d->mid_last, d->capacity_rows, c->C, what);
    at_pool_reserve(pool, &d->final_rstd, T * sizeof(float), what);
    if (c->family->layer_norm)
        at_tensor_reserve_apart(pool, &d->centred, T, c->C, what);
    if (rank > 0 && has_frozen(d))
        reserve_z_scratch(d, pool, &d->z_frozen, !d->stack[0]->dora, rank, what);
    if (!d->trains)
        return;
    at_tensor_reserve_apart(pool, &d->dx, T, c->C, what);
    at_tensor_reserve_apart(pool, &d->dh, T, c->C, what);
    if (c->family->layer_norm)
        at_tensor_reserve_apart(pool, &d->d_centred, T, c->C, what);
    if (c->family->parallel)
        at_tensor_reserve_apart(pool, &d->d_out, T, c->C, what);
    at_tensor_reserve_apart(pool, &d->dm, T, c->F, what);
    reserve_heads(pool, &d->d_o, c, T, c->H, what);
    reserve_heads(pool, &d->dq, c, T, c->H, what);
    reserve_heads(pool, &d->dk, c, T, c->G, what);
    at_tensor_reserve_apart(pool, &d->dv, T, c->G * c->D, what);
    at_tensor_reserve_apart(pool, &d->u, d->capacity_rows, c->C, what);
    at_pool_reserve(pool, &d->attention_scratch,
                    at_attention_scratch_bytes(at_pool_gpu(pool), T, c->H, c->G, c->D),
                    "attention scratch");
    if (rank > 0) /* DoRA is alone */
        reserve_z_scratch(d, pool, &d->dz, d->dropout.p == 0 && !d->stack[0]->dora, rank, what);
    at_decoder_widest(c, &in, &out);
    if (d->dropout.p > 0)
        at_tensor_reserve_apart(pool, &d->dropped, T, in, "dropout");
}

static AT_CHECKED plan_embedding(struct at_decoder *d, struct at_pool *pool)
{
    const struct at_model_config *c = &d->model->config;
    enum at_status st = AT_OK;

    if (at_model_trains_embedding(d->model)) {
        TRY(at_alloc(&d->embed_pairs, d->capacity, sizeof *d->embed_pairs));
        TRY(at_alloc(&d->embed_host, 3 * (size_t)d->capacity + 1, sizeof *d->embed_host));
    }
    if (d->model->trainable)
        goto done;
    at_weight_reserve(pool, &d->embed_rows, d->model->embedding->type, d->capacity, c->C,
                      "embedding rows");
    for (uint32_t i = 0; i < 2; i++) {
        const uint64_t row = at_quant_row_bytes(d->model->embedding->type, i, c->C);
        TRY(at_alloc(&d->embed_plane[i], d->capacity, row));
    }
done:
    return st;
}

AT_CHECKED at_decoder_plan(struct at_decoder *out, struct at_model *model,
                           struct at_adapter *const *stack, size_t n_stack, struct at_pool *pool,
                           const struct at_decoder_params *params)
{
    enum at_status st = AT_OK;
    const struct at_weight **weights = NULL;
    const uint32_t L = model->config.L, saved = params->trains ? L : 1;
    uint32_t rank = 0;
    size_t n = 0;

    *out = (struct at_decoder){ .model = model,
                                .capacity = params->capacity,
                                .capacity_rows = params->capacity_rows,
                                .capacity_segments = params->capacity_segments,
                                .trains = params->trains,
                                .recompute = params->trains ? params->recompute : AT_RECOMPUTE_NONE,
                                .drift = params->drift,
                                .z_beside = at_gpu_get_info(at_pool_gpu(pool))->view_alignment <=
                                            AT_COLUMNS_ALIGNMENT,
                                .dropout = { .p = params->trains ? params->dropout : 0 },
                                .n_stack = n_stack };
    AT_REQUIRE(n_stack <= AT_MAX_ADAPTERS);
    for (size_t i = 0; i < n_stack; i++) {
        out->stack[i] = stack[i];
        rank = stack[i]->max_rank > rank ? stack[i]->max_rank : rank;
    }
    TRY(at_alloc(&out->layers, saved, sizeof *out->layers));
    out->group = group_of(out);
    TRY(at_alloc(&out->inputs, out->group, sizeof *out->inputs));
    plan_layers(out, rank, pool);
    plan_inputs(out, pool);
    plan_scratch(out, rank, pool);
    if (params->drift) {
        AT_REQUIRE(params->trains && !model->trainable && !model->config.value_head &&
                   !model->saved[AT_SAVED_HEAD].param);
        at_tensor_reserve_apart(pool, &out->ref_rows, out->capacity_rows, model->config.C, "drift");
        at_pool_reserve(pool, &out->ref_stats, out->capacity_rows * 16ul, "drift");
    }
    at_decoder_plan_dora(out, pool);
    TRY(plan_embedding(out, pool));

    TRY(at_alloc(&weights, (size_t)L * AT_LINEARS, sizeof *weights));
    for (uint32_t i = 0; i < L * AT_LINEARS; i++)
        if (at_linear_path(model->config.family, i % AT_LINEARS))
            weights[n++] = &model->layers[i / AT_LINEARS].linear[i % AT_LINEARS];
    at_linear_scratch_reserve(pool, &out->linear, weights, n, out->capacity,
                              out->trains && model->trainable);
    if (!model->config.value_head)
        at_head_reserve(pool, &out->head, out->capacity_rows, model->head,
                        out->trains && at_model_trains_head(model));
    out->head.cap = model->config.final_cap;
done:
    at_free(&weights);
    return st;
}

void at_decoder_release(struct at_decoder *decoder)
{
    at_free(&decoder->layers);
    at_free(&decoder->inputs);
    at_free(&decoder->embed_plane[0]);
    at_free(&decoder->embed_plane[1]);
    at_free(&decoder->embed_pairs);
    at_free(&decoder->embed_host);
    *decoder = (struct at_decoder){ 0 };
}

AT_CHECKED at_kv_cache_plan(struct at_kv_cache *out, const struct at_model_config *c, uint32_t rows,
                            uint32_t most, struct at_pool *pool, uint64_t binding_bytes)
{
    enum at_status st = AT_OK;
    const uint64_t bytes = at_tensor_bytes(rows, c->G * c->D);

    *out = (struct at_kv_cache){ .rows = rows };
    if (bytes > binding_bytes)
        FAIL(AT_DEVICE_MEMORY,
             "the keys of %u tokens take %llu MiB a layer; the device binds %llu MiB at most: take "
             "fewer tokens or fewer replies at once",
             rows, (unsigned long long)bytes >> 20, (unsigned long long)binding_bytes >> 20);
    TRY(at_alloc(&out->k, c->L, sizeof *out->k));
    TRY(at_alloc(&out->v, c->L, sizeof *out->v));
    for (uint32_t l = 0; l < c->L; l++) {
        at_tensor_reserve(pool, &out->k[l], rows, c->G * c->D, "key cache");
        at_tensor_reserve(pool, &out->v[l], rows, c->G * c->D, "value cache");
    }
    at_pool_reserve(pool, &out->place, at_round_up(4ul * most, 16), "places in the cache");
done:
    return st;
}

void at_kv_cache_release(struct at_kv_cache *cache)
{
    at_free(&cache->k);
    at_free(&cache->v);
    *cache = (struct at_kv_cache){ 0 };
}
