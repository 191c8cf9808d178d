#include "model_parts.h"

#include "rng.h"
#include "weights_file.h"

#include <math.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Standard deviation of matrices that start at random (transformers' initializer_range). */
static const double INIT_STD = 0.02;

static bool has_bias(const struct at_model_config *c, uint32_t i)
{
    return c->biases >> i & 1;
}

static bool is_present(const struct at_model_config *c, uint32_t role, uint32_t layer)
{
    if (!at_role_name(c->family, role) || (is_norm_bias(role) && !c->family->layer_norm))
        return false;
    if (role < AT_ATTN_NORM || role == AT_FINAL_NORM_BIAS)
        return layer == 0 && !(role == AT_HEAD && (c->tied || c->value_head));
    if (role == AT_Q_NORM || role == AT_K_NORM)
        return c->family->qk_norm;
    if (role == AT_ATTN_POST_NORM || role == AT_MLP_POST_NORM)
        return c->family->post_norms;
    return !is_linear_bias(role) || has_bias(c, role - AT_Q_BIAS);
}

/* PyTorch's shape; vectors are (1, n). */
static void shape_of(const struct at_model_config *c, uint32_t role, uint32_t *rows, uint32_t *cols)
{
    const bool wide = c->family->qk_norm_wide;
    uint32_t in = 0;

    *rows = 1;
    *cols = c->C;
    if (role == AT_EMBED || role == AT_HEAD)
        *rows = c->V;
    else if (is_linear(role))
        at_linear_shape(c, role - AT_Q, cols, rows);
    else if (is_linear_bias(role))
        at_linear_shape(c, role - AT_Q_BIAS, &in, cols);
    else if (role == AT_Q_NORM)
        *cols = wide ? c->H * c->D : c->D;
    else if (role == AT_K_NORM)
        *cols = wide ? c->G * c->D : c->D;
}

static const struct at_source *source_of(const struct at_model *model, uint32_t role,
                                         uint32_t layer)
{
    if (role == AT_HEAD && model->saved[AT_SAVED_HEAD].source)
        return model->saved[AT_SAVED_HEAD].source;
    if (role == AT_HEAD && model->config.tied)
        role = AT_EMBED;
    return model->sources[place_of(role, layer)];
}

/* ---- planning: what the file must hold ---- */

static AT_CHECKED check_source(const struct at_model *model, uint32_t role,
                               const struct at_source *s)
{
    enum at_status st = AT_OK;
    uint32_t rows = 0, cols = 0;

    shape_of(&model->config, role, &rows, &cols);
    if (is_linear(role)) /* in the file: the module's */
        at_module_shape(&model->config, role - AT_Q, &cols, &rows);
    if (s->n_dims != (is_matrix(role) ? 2 : 1) || s->rows != rows || s->cols != cols) {
        if (is_matrix(role))
            FAIL(AT_DATA, "%s: tensor %s has %u dimensions of %llu x %llu; expected %u x %u",
                 s->file, s->name, s->n_dims, (unsigned long long)s->rows,
                 (unsigned long long)s->cols, rows, cols);
        FAIL(AT_DATA, "%s: tensor %s has %u dimensions of %llu x %llu; expected 1 of %u", s->file,
             s->name, s->n_dims, (unsigned long long)s->rows, (unsigned long long)s->cols, cols);
    }
    if (s->type == AT_QUANT_COUNT)
        FAIL(AT_DATA,
             "%s: tensor %s is %s, which is not read; usable: F32, F16, BF16, in GGUF files also "
             "Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K to Q6_K, IQ4_NL, IQ4_XS, in bitsandbytes folders "
             "NF4, FP4 and INT8",
             s->file, s->name, s->type_name);
    if (!is_matrix(role) && at_quant_get(s->type)->block_cols > 1)
        FAIL(AT_DATA, "%s: tensor %s is %s; norms and biases must be F32, F16 or BF16", s->file,
             s->name, s->type_name);
    if (model->trainable && at_quant_get(s->type)->block_cols > 1)
        FAIL(AT_DATA, "%s: tensor %s is %s; full fine-tuning needs F32, F16 or BF16 weights",
             s->file, s->name, s->type_name);
done:
    return st;
}

/* The role's tensors of all layers; *n_found counts them. */
static AT_CHECKED find_sources(struct at_model *model, size_t *n_found)
{
    const struct at_family *family = model->config.family;
    const bool gguf = at_weights_is_gguf(model->weights);
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };

    for (uint32_t l = 0; l < model->config.L; l++)
        for (uint32_t role = 0; role < AT_ROLE_COUNT; role++) {
            const uint32_t module =
                is_linear(role) ? AT_Q + at_linear_module(family, role - AT_Q) : role;
            char *name = NULL;
            if (!is_present(&model->config, role, l))
                continue;
            if (module != role) { /* its rows lie in what is found already */
                model->sources[place_of(role, l)] = model->sources[place_of(module, l)];
                ++*n_found;
                continue;
            }
            TRY(at_arena_printf(&arena, &name,
                                gguf ? at_role_gguf_name(family, role) : at_role_name(family, role),
                                l));
            const struct at_source *s = at_weights_find(model->weights, name);
            if (!s)
                FAIL(AT_DATA, "%s: tensor %s is missing", model->weights->shards[0].path, name);
            if (is_linear(role))
                TRY(at_weights_linear(&s, model->weights, s));
            TRY(check_source(model, role, s));
            model->sources[place_of(role, l)] = s;
            ++*n_found;
        }
done:
    at_arena_release(&arena);
    return st;
}

/* Names are told apart by where they lie; a tensor to be quantised keeps its name. */
static int by_address(const void *a, const void *b)
{
    const struct at_source *x = *(const struct at_source *const *)a;
    const struct at_source *y = *(const struct at_source *const *)b;

    return x->name < y->name ? -1 : x->name > y->name;
}

static void drop_pages(const struct at_source *s)
{
    at_map_drop(s->map, (size_t)(s->data - s->map->data), s->n_bytes);
}

/* Tensors that no computation needs: the rotary table of old checkpoints, and the copy of the
 * embedding that some files hold as the head of a tied model; the head of a language model under a
 * value head, whose own tensor is looked for by itself. */
static bool is_harmless(const struct at_model *model, const struct at_source *s)
{
    static const char suffix[] = ".rotary_emb.inv_freq";
    const struct at_source *embed = model->sources[AT_EMBED];
    const size_t n = strlen(s->name), m = sizeof suffix - 1;
    bool equal = false;

    if (model->config.value_head &&
        (strcmp(s->name, AT_SCORE) == 0 ||
         strcmp(s->name, at_role_name(model->config.family, AT_HEAD)) == 0 ||
         strcmp(s->name, at_role_gguf_name(model->config.family, AT_HEAD)) == 0))
        return true;
    if (at_weights_is_gguf(model->weights))
        return s == model->config.rope.factors || s == model->config.rope.long_factors[0] ||
               s == model->config.rope.long_factors[1];
    if (n > m && strcmp(s->name + n - m, suffix) == 0)
        return true;
    if (!model->config.tied || !embed ||
        strcmp(s->name, at_role_name(model->config.family, AT_HEAD)) != 0 ||
        s->type != embed->type || s->n_bytes != embed->n_bytes)
        return false;
    equal = memcmp(s->data, embed->data, s->n_bytes) == 0;
    drop_pages(s);
    drop_pages(embed);
    return equal;
}

static AT_CHECKED check_left_over(const struct at_model *model, size_t n_found)
{
    const size_t n = at_weights_count(model->weights);
    const size_t places = (size_t)model->config.L * AT_ROLE_COUNT;
    enum at_status st = AT_OK;
    const struct at_source **used = NULL;
    size_t k = 0;

    TRY(at_alloc(&used, n_found, sizeof *used));
    for (size_t i = 0; i < places; i++)
        if (model->sources[i])
            used[k++] = model->sources[i];
    qsort(used, n_found, sizeof *used, by_address);
    for (size_t i = 0; i < n; i++) {
        const struct at_source *s = at_weights_get(model->weights, i);
        if (s->is_part || bsearch(&s, used, n_found, sizeof *used, by_address) ||
            is_harmless(model, s))
            continue;
        FAIL(AT_DATA,
             "%s: tensor %s is not part of a %s model with %u layers, as the configuration "
             "describes it",
             s->file, s->name, model->config.family->name, model->config.L);
    }
done:
    at_free(&used);
    return st;
}

/* ---- planning: memory ---- */

static AT_CHECKED plan_params(struct at_model *model, struct at_params *params)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };

    TRY(at_arena_alloc(&model->arena, &model->grads, model->config.L, sizeof *model->grads));
    for (uint32_t l = 0; l < model->config.L; l++)
        for (uint32_t role = 0; role < AT_ROLE_COUNT; role++) {
            uint32_t rows = 0, cols = 0;
            char *name = NULL;
            if (!is_present(&model->config, role, l))
                continue;
            shape_of(&model->config, role, &rows, &cols);
            TRY(at_arena_printf(&arena, &name, at_role_name(model->config.family, role), l));
            if (is_linear(role) &&
                at_linear_module(model->config.family, role - AT_Q) != role - AT_Q)
                TRY(at_arena_printf(&arena, &name, "%s, part %u", name, role - AT_Q));
            TRY(at_params_add(params, &model->params[place_of(role, l)], name, rows, cols,
                              is_matrix(role) ? AT_PARAM_MATRIX : AT_PARAM_VECTOR));
        }
done:
    at_arena_release(&arena);
    return st;
}

/* The norms of a layer, and their biases. */
static const struct {
    uint32_t role;
    size_t weight, grad; /* where they lie in at_layer and at_layer_grads */
} norms[] = {
#define NORM(role, field)                                                              \
    {                                                                                  \
        role, offsetof(struct at_layer, field), offsetof(struct at_layer_grads, field) \
    }
    NORM(AT_ATTN_NORM, attn_norm),
    NORM(AT_MLP_NORM, mlp_norm),
    NORM(AT_Q_NORM, q_norm),
    NORM(AT_K_NORM, k_norm),
    NORM(AT_ATTN_POST_NORM, attn_post_norm),
    NORM(AT_MLP_POST_NORM, mlp_post_norm),
    NORM(AT_ATTN_NORM_BIAS, attn_norm_bias),
    NORM(AT_MLP_NORM_BIAS, mlp_norm_bias),
#undef NORM
};

static struct at_view *norm_of(struct at_layer *layer, size_t i)
{
    return (struct at_view *)(void *)((char *)layer + norms[i].weight);
}

static struct at_view *norm_grad_of(struct at_layer_grads *grads, size_t i)
{
    return (struct at_view *)(void *)((char *)grads + norms[i].grad);
}

/* Type and shape: all that is known of a trainable matrix until upload. */
static struct at_weight matrix_of(const struct at_model *model, uint32_t role, uint32_t layer)
{
    struct at_weight w = { .type = AT_F32 };

    shape_of(&model->config, role, &w.rows, &w.cols);
    if (!model->trainable)
        w.type = source_of(model, role, layer)->type;
    return w;
}

/* Those of a layer that read the same lie together: at_decoder_linears_fwd(). */
static void plan_linears(const struct at_model *model, struct at_pool *frozen, uint32_t l)
{
    static const uint32_t ends[] = { AT_V, AT_O, AT_UP, AT_DOWN };
    struct at_weight *linear = model->layers[l].linear;
    uint32_t first = 0, n = 0;

    for (size_t k = 0; k < AT_COUNT(ends); k++, first = n) {
        for (; n <= ends[k] - AT_Q; n++) {
            if (is_present(&model->config, AT_Q + n, l))
                linear[n] = matrix_of(model, AT_Q + n, l);
            else
                first = n + 1; /* the gate of a family without one */
        }
        if (!model->trainable)
            at_weights_reserve(frozen, linear + first, n - first, "weights");
    }
}

static void plan_vector(const struct at_model *model, struct at_pool *frozen, struct at_view *view,
                        uint32_t role)
{
    uint32_t rows = 0, cols = 0;

    shape_of(&model->config, role, &rows, &cols);
    if (!model->trainable)
        at_pool_reserve(frozen, view, cols * sizeof(float), "norms and biases");
}

static void plan_memory(struct at_model *model, struct at_pool *frozen)
{
    const struct at_model_config *c = &model->config;
    const uint32_t n = model->n_positions, rows = at_model_long_from(c, n) > 0 ? 2 * n : n;

    for (uint32_t l = 0; l < c->L; l++) {
        struct at_layer *layer = &model->layers[l];
        plan_linears(model, frozen, l);
        for (uint32_t i = 0; i < AT_LINEARS; i++)
            if (has_bias(c, i))
                plan_vector(model, frozen, &layer->bias[i], AT_Q_BIAS + i);
        for (size_t i = 0; i < AT_COUNT(norms); i++)
            if (is_present(c, norms[i].role, l))
                plan_vector(model, frozen, norm_of(layer, i), norms[i].role);
    }
    if (!c->value_head)
        model->head = matrix_of(model, AT_HEAD, 0);
    if (!c->value_head && !model->trainable)
        at_weights_reserve(frozen, &model->head, 1, "head");
    plan_vector(model, frozen, &model->final_norm, AT_FINAL_NORM);
    if (is_present(c, AT_FINAL_NORM_BIAS, 0))
        plan_vector(model, frozen, &model->final_norm_bias, AT_FINAL_NORM_BIAS);
    at_tensor_reserve(frozen, &model->rope, rows, c->rotary, "rotary table");
    if (c->family->local_rope)
        at_tensor_reserve(frozen, &model->local_rope, rows, c->rotary, "rotary table");
}

AT_CHECKED at_model_plan(struct at_model *out, const struct at_model_config *config,
                         struct at_weights *weights, struct at_pool *frozen,
                         struct at_params *params, uint32_t n_positions,
                         const struct at_source *const *saved)
{
    const size_t places = (size_t)config->L * AT_ROLE_COUNT;
    enum at_status st = AT_OK;
    size_t n_found = 0;

    AT_REQUIRE(weights || params);
    *out = (struct at_model){ .config = *config,
                              .n_positions = n_positions,
                              .weights = weights,
                              .trainable = params != NULL };
    TRY(at_arena_alloc(&out->arena, &out->layers, config->L, sizeof *out->layers));
    TRY(at_arena_alloc(&out->arena, &out->sources, places, sizeof *out->sources));
    TRY(at_arena_alloc(&out->arena, &out->params, places, sizeof *out->params));
    if (weights) {
        TRY(find_sources(out, &n_found));
        TRY(check_left_over(out, n_found));
        out->embedding = out->sources[AT_EMBED];
    }
    AT_REQUIRE(!saved || !params);
    for (uint32_t i = 0; saved && i < AT_SAVED_COUNT; i++)
        out->saved[i].source = saved[i];
    if (out->saved[AT_SAVED_EMBED].source)
        out->embedding = out->saved[AT_SAVED_EMBED].source;
    if (params)
        TRY(plan_params(out, params));
    plan_memory(out, frozen);
done:
    return st;
}

AT_CHECKED at_model_plan_value(struct at_model *model, struct at_params *params,
                               const struct at_source *source)
{
    const struct at_model_config *c = &model->config;

    if (!source && model->weights && !at_weights_is_gguf(model->weights))
        source = at_weights_find(model->weights, AT_SCORE);
    return at_value_head_plan(&model->value, c->C, c->init_std, params, source);
}

AT_CHECKED at_model_plan_saved(struct at_model *model, struct at_params *params,
                               const bool trains[AT_SAVED_COUNT])
{
    const struct at_model_config *c = &model->config;
    enum at_status st = AT_OK;

    AT_REQUIRE(!model->trainable && !(trains[AT_SAVED_HEAD] && c->value_head));
    for (uint32_t i = 0; i < AT_SAVED_COUNT; i++)
        if (trains[i])
            TRY(at_params_add(params, &model->saved[i].param, at_saved_tensor(i), c->V, c->C,
                              AT_PARAM_MATRIX));
done:
    return st;
}

bool at_model_trains_embedding(const struct at_model *model)
{
    return model->trainable || model->saved[AT_SAVED_EMBED].param;
}

bool at_model_trains_head(const struct at_model *model)
{
    return (model->trainable && !model->config.value_head) || model->saved[AT_SAVED_HEAD].param;
}

/* ---- upload ---- */

static at_loading_sink *_Atomic loading_sink;

void at_model_set_loading_sink(at_loading_sink *sink)
{
    atomic_store(&loading_sink, sink);
}

static void tell_loaded(const struct at_model *model, uint32_t layers)
{
    at_loading_sink *sink = atomic_load(&loading_sink);

    if (sink)
        sink(layers, model->config.L + 1);
}

/* Where a row of a linear layer or its bias lies in the file. */
struct row_place {
    const struct at_model_config *config;
    uint32_t role;
    bool gguf;
};

static uint64_t source_row(const void *context, uint64_t row)
{
    const struct row_place *p = context;

    return at_file_row(p->config, p->role, row, p->gguf);
}

static struct row_place place_in_file(const struct at_model *model, uint32_t role)
{
    return (struct row_place){ .config = &model->config,
                               .role = role,
                               .gguf = model->weights && at_weights_is_gguf(model->weights) };
}

/* A value that is drawn: of a matrix, a bias or a norm. */
static float draw(struct at_rng *rng, uint32_t role)
{
    return is_matrix(role) ? (float)(INIT_STD * at_rng_normal(rng)) : is_bias(role) ? 0.0f : 1.0f;
}

static struct at_rng rng_of(uint32_t role, uint32_t layer, uint64_t seed)
{
    return at_rng_make(seed, AT_RNG_INIT, layer, 256 + role);
}

/* Values of a norm or bias in the model's order: from the file, or drawn. out: n floats. */
static AT_CHECKED vector_values(float *out, uint32_t n, const struct at_model *model, uint32_t role,
                                uint32_t layer, uint64_t seed)
{
    const struct row_place place = place_in_file(model, role);
    const struct at_source *source = source_of(model, role, layer);
    struct at_rng rng = rng_of(role, layer, seed);
    enum at_status st = AT_OK;
    float *plain = NULL;

    for (uint32_t i = 0; i < n && !model->weights; i++)
        out[i] = draw(&rng, role);
    if (!model->weights)
        goto done;
    TRY(at_alloc(&plain, source->rows * source->cols, sizeof *plain));
    TRY(at_source_floats(plain, source));
    for (uint32_t i = 0; i < n; i++)
        out[i] =
            plain[source_row(&place, i)] + (is_offset(model, role) && !place.gguf ? 1.0f : 0.0f);
done:
    at_free(&plain);
    return st;
}

static AT_CHECKED upload_vector(struct at_gpu *gpu, const struct at_model *model,
                                struct at_view view, uint32_t role, uint32_t layer, uint64_t seed)
{
    enum at_status st = AT_OK;
    uint32_t rows = 0, cols = 0;
    float *values = NULL;

    shape_of(&model->config, role, &rows, &cols);
    TRY(at_alloc(&values, cols, sizeof *values));
    TRY(vector_values(values, cols, model, role, layer, seed));
    at_stream_upload(at_gpu_transfer(gpu), view, values, cols * sizeof *values);
done:
    at_free(&values);
    return st;
}

/* With one norm for both that of the MLP is that of attention. */
static void share_norm(struct at_model *model, uint32_t l)
{
    struct at_layer *layer = &model->layers[l];

    if (!model->config.family->one_norm)
        return;
    layer->mlp_norm = layer->attn_norm;
    layer->mlp_norm_bias = layer->attn_norm_bias;
    if (!model->trainable)
        return;
    model->grads[l].mlp_norm = model->grads[l].attn_norm;
    model->grads[l].mlp_norm_bias = model->grads[l].attn_norm_bias;
}

/* Each part of a module takes its rows of the module's matrix. */
static AT_CHECKED upload_linears(struct at_model *model, struct at_gpu *gpu, uint32_t l)
{
    enum at_status st = AT_OK;

    for (uint32_t i = 0; i < AT_LINEARS; i++) {
        const struct row_place place = place_in_file(model, AT_Q + i);
        if (is_present(&model->config, AT_Q + i, l))
            TRY(at_weight_upload(gpu, model->layers[l].linear[i], source_of(model, AT_Q + i, l),
                                 source_row, &place));
    }
done:
    return st;
}

static AT_CHECKED upload_frozen(struct at_model *model, struct at_gpu *gpu)
{
    enum at_status st = AT_OK;

    for (uint32_t l = 0; l < model->config.L; l++) {
        struct at_layer *layer = &model->layers[l];
        TRY(upload_linears(model, gpu, l));
        for (uint32_t i = 0; i < AT_LINEARS; i++)
            if (has_bias(&model->config, i))
                TRY(upload_vector(gpu, model, layer->bias[i], AT_Q_BIAS + i, l, 0));
        for (size_t i = 0; i < AT_COUNT(norms); i++)
            if (is_present(&model->config, norms[i].role, l))
                TRY(upload_vector(gpu, model, *norm_of(layer, i), norms[i].role, l, 0));
        share_norm(model, l);
        at_weights_drop_pages(model->weights); /* of norms and of what pages are mapped with them */
        tell_loaded(model, l + 1);
    }
    if (!model->config.value_head)
        TRY(at_weight_upload(gpu, model->head, source_of(model, AT_HEAD, 0), NULL, NULL));
    TRY(upload_vector(gpu, model, model->final_norm, AT_FINAL_NORM, 0, 0));
    if (is_present(&model->config, AT_FINAL_NORM_BIAS, 0))
        TRY(upload_vector(gpu, model, model->final_norm_bias, AT_FINAL_NORM_BIAS, 0, 0));
done:
    return st;
}

/* Points the model's fields at the bound parameters. */
static void bind_params(struct at_model *model)
{
    const struct at_param *head = param_of(model, AT_HEAD, 0),
                          *embed = param_of(model, AT_EMBED, 0);
    const struct at_param *norm = param_of(model, AT_FINAL_NORM, 0);
    const struct at_param *bias = param_of(model, AT_FINAL_NORM_BIAS, 0);

    for (uint32_t l = 0; l < model->config.L; l++) {
        struct at_layer *layer = &model->layers[l];
        struct at_layer_grads *grads = &model->grads[l];
        for (uint32_t i = 0; i < AT_LINEARS; i++) {
            if (!param_of(model, AT_Q + i, l))
                continue;
            layer->linear[i] = at_weight_of_tensor(param_of(model, AT_Q + i, l)->p);
            grads->linear[i] = param_of(model, AT_Q + i, l)->g;
        }
        for (uint32_t i = 0; i < AT_LINEARS; i++) {
            if (!has_bias(&model->config, i))
                continue;
            layer->bias[i] = param_of(model, AT_Q_BIAS + i, l)->p.view;
            grads->bias[i] = param_of(model, AT_Q_BIAS + i, l)->g.view;
        }
        for (size_t i = 0; i < AT_COUNT(norms); i++) {
            const struct at_param *param = param_of(model, norms[i].role, l);
            if (!param)
                continue;
            *norm_of(layer, i) = param->p.view;
            *norm_grad_of(grads, i) = param->g.view;
        }
        share_norm(model, l);
    }
    if (!model->config.value_head) {
        model->head = at_weight_of_tensor(head->p);
        model->d_head = head->g;
    }
    model->embed = embed->p;
    model->d_embed = embed->g;
    model->final_norm = norm->p.view;
    model->d_final_norm = norm->g.view;
    if (bias) {
        model->final_norm_bias = bias->p.view;
        model->d_final_norm_bias = bias->g.view;
    }
}

/* The same for those that train beside an adapter. */
static void bind_saved(struct at_model *model)
{
    const struct at_param *embed = model->saved[AT_SAVED_EMBED].param;
    const struct at_param *head = model->saved[AT_SAVED_HEAD].param;

    if (embed) {
        model->embed = embed->p;
        model->d_embed = embed->g;
    }
    if (head) {
        model->trained_head = at_weight_of_tensor(head->p);
        model->d_head = head->g;
    }
}

/* A matrix in pieces of rows, from the file or drawn. */
static AT_CHECKED upload_matrix(struct at_gpu *gpu, const struct at_model *model,
                                struct at_tensor to, uint32_t role, uint32_t layer, uint64_t seed)
{
    const struct row_place place = place_in_file(model, role);
    const uint64_t row_bytes = (uint64_t)to.ld * sizeof(float);
    struct at_rng rng = rng_of(role, layer, seed);
    enum at_status st = AT_OK;

    AT_REQUIRE(row_bytes <= AT_STAGE_BYTES);
    for (uint32_t begin = 0, n; begin < to.dim[0]; begin += n) {
        const uint32_t left = to.dim[0] - begin, most = (uint32_t)(AT_STAGE_BYTES / row_bytes);
        struct at_view part;
        uint8_t *bytes = NULL;

        n = left < most ? left : most;
        part = at_view_part(to.view, begin * row_bytes, n * row_bytes);
        if (!at_stream_stage(at_gpu_transfer(gpu), &bytes, &part, 1))
            break; /* at_stream_wait() has the error */
        memset(bytes, 0, n * row_bytes);
        for (uint32_t i = 0; i < n; i++) {
            float *row = (float *)(void *)(bytes + i * row_bytes);
            for (uint32_t k = 0; k < to.dim[1] && !model->weights; k++)
                row[k] = draw(&rng, role);
            if (model->weights)
                TRY(at_source_row(row, source_of(model, role, layer),
                                  source_row(&place, begin + i)));
        }
        if (model->weights)
            at_weights_drop_pages(model->weights);
    }
done:
    return st;
}

static AT_CHECKED upload_params(struct at_model *model, struct at_gpu *gpu, uint64_t seed)
{
    enum at_status st = AT_OK;

    bind_params(model);
    for (uint32_t l = 0; l < model->config.L; l++) {
        for (uint32_t role = 0; role < AT_ROLE_COUNT; role++) {
            if (!is_present(&model->config, role, l))
                continue;
            if (is_matrix(role))
                TRY(upload_matrix(gpu, model, param_of(model, role, l)->p, role, l, seed));
            else
                TRY(upload_vector(gpu, model, param_of(model, role, l)->p.view, role, l, seed));
        }
        tell_loaded(model, l + 1);
    }
done:
    return st;
}

/* Row p of n: the cosines of p times each of the rotary / 2 frequencies, then the sines; of a
 * sequence of `length` tokens, or 0: of p + 1. out: n rows, ld apart. */
static AT_CHECKED rope_rows(float *out, uint32_t ld, const struct at_rope *rope, uint32_t W,
                            uint32_t first, uint32_t n, uint32_t length)
{
    const uint32_t half = W / 2, from = at_rope_long_from(rope);
    const bool each = rope->kind == AT_ROPE_DYNAMIC;
    double frequencies[AT_ROPE_MOST], scale = 1;
    enum at_status st = AT_OK;

    AT_REQUIRE(half <= AT_ROPE_MOST);
    for (uint32_t p = first; p < first + n; p++) {
        float *row = out + (size_t)(p - first) * ld;
        const bool changes = from > 0 && length == 0 && (p == from || (p > from && each));
        if (p == first || changes)
            TRY(at_rope_frequencies(frequencies, &scale, rope, W, length > 0 ? length : p + 1));
        for (uint32_t i = 0; i < half; i++) {
            row[i] = (float)(scale * cos(p * frequencies[i]));
            row[half + i] = (float)(scale * sin(p * frequencies[i]));
        }
    }
done:
    return st;
}

/* The n_positions rows; with two sets of frequencies those of longer sequences follow. */
static AT_CHECKED upload_rope(const struct at_model *model, struct at_gpu *gpu,
                              struct at_tensor out, const struct at_rope *rope)
{
    const uint32_t W = model->config.rotary, n = model->n_positions;
    enum at_status st = AT_OK;
    float *table = NULL;

    TRY(at_alloc(&table, (size_t)out.dim[0] * W, sizeof *table));
    TRY(rope_rows(table, W, rope, W, 0, n, 0));
    if (out.dim[0] > n)
        TRY(rope_rows(table + (size_t)n * W, W, rope, W, 0, n, n));
    TRY(at_tensor_write(gpu, out, table));
done:
    at_free(&table);
    return st;
}

/* at_model_turn() for one of the tables. */
static void turn_table(struct at_stream *s, struct at_tensor table, const struct at_rope *rope,
                       uint32_t begin, uint32_t n, uint32_t length)
{
    const uint32_t most = AT_STAGE_BYTES / 4 / table.ld;
    uint8_t *bytes = NULL;

    AT_REQUIRE(begin <= table.dim[0] && n <= table.dim[0] - begin);
    for (uint32_t p = 0, k; p < n; p += k) {
        k = n - p < most ? n - p : most;
        const uint64_t row_bytes = table.ld * sizeof(float);
        const struct at_view part =
            at_view_part(table.view, (begin + p) * row_bytes, k * row_bytes);
        if (!at_stream_stage(s, &bytes, &part, 1))
            return;
        memset(bytes, 0, k * row_bytes);
        /* checked when the table was uploaded */
        AT_REQUIRE(rope_rows((float *)(void *)bytes, table.ld, rope, table.dim[1], p, k, length) ==
                   AT_OK);
    }
}

void at_model_turn(struct at_stream *s, const struct at_model *model, uint32_t begin, uint32_t n,
                   uint32_t length)
{
    const struct at_model_config *c = &model->config;

    turn_table(s, model->rope, &c->rope, begin, n, length);
    if (c->family->local_rope)
        turn_table(s, model->local_rope, &c->local_rope, begin, n, length);
}

AT_CHECKED at_model_upload(struct at_model *model, struct at_gpu *gpu, uint64_t seed)
{
    enum at_status st = AT_OK;

    TRY(upload_rope(model, gpu, model->rope, &model->config.rope));
    if (model->config.family->local_rope)
        TRY(upload_rope(model, gpu, model->local_rope, &model->config.local_rope));
    if (model->config.value_head)
        TRY(at_value_head_upload(&model->value, gpu, seed));
    if (model->trainable)
        TRY(upload_params(model, gpu, seed));
    else
        TRY(upload_frozen(model, gpu));
    TRY(at_stream_wait(at_gpu_transfer(gpu)));
    bind_saved(model);
    tell_loaded(model, model->config.L + 1);
done:
    return st;
}

void at_model_share(struct at_model *out, const struct at_model *of)
{
    const struct at_value_head value = out->value;

    AT_REQUIRE(!of->trainable);
    *out = (struct at_model){
        .config = of->config,
        .layers = of->layers,
        .final_norm = of->final_norm,
        .final_norm_bias = of->final_norm_bias,
        .rope = of->rope,
        .local_rope = of->local_rope,
        .n_positions = of->n_positions,
        .weights = of->weights,
        .embedding = of->embedding,
        .value = value,
        .sources = of->sources,
        .params = of->params,
    };
    out->config.value_head = true;
}

void at_model_release(struct at_model *model)
{
    at_arena_release(&model->arena);
    *model = (struct at_model){ 0 };
}

static uint64_t row_of_id(const void *context, uint64_t i)
{
    return (uint64_t)((const int32_t *)context)[i];
}

void at_model_embed_rows(uint8_t *plane0, uint8_t *plane1, const struct at_model *model,
                         const int32_t *ids, uint32_t T)
{
    at_repack_rows(plane0, plane1, model->embedding, 0, T, row_of_id, ids);
}
