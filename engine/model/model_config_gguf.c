/* Sizes and flags of a model from GGUF metadata; what is not computed is refused by name. */
#include "model.h"
#include "weights_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* transformers' initializer_range, which GGUF files do not have. */
static const double INIT_STD = 0.02;

struct gguf_reader {
    const struct at_weights *weights;
    const char *architecture, *path;
    char key[128];
};

static const char *full_key(struct gguf_reader *r, const char *key)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->architecture, key);
    return r->key;
}

static AT_CHECKED need_u32(uint32_t *out, struct gguf_reader *r, const char *key)
{
    if (!at_gguf_has(r->weights, full_key(r, key)))
        return at_fail(AT_DATA, "%s: key %s is missing", r->path, r->key);
    return at_gguf_get_u32(out, r->weights, r->key);
}

static AT_CHECKED get_u32(uint32_t *out, struct gguf_reader *r, const char *key)
{
    return at_gguf_get_u32(out, r->weights, full_key(r, key));
}

static AT_CHECKED get_double(double *out, struct gguf_reader *r, const char *key)
{
    return at_gguf_get_double(out, r->weights, full_key(r, key));
}

/* A key that must be absent or have this value. */
static AT_CHECKED expect_u32(struct gguf_reader *r, const char *key, uint32_t expected)
{
    enum at_status st = AT_OK;
    uint32_t value = expected;

    TRY(get_u32(&value, r, key));
    if (value != expected)
        FAIL(AT_DATA, "%s: key %s is %u; this version computes %u only", r->path, r->key, value,
             expected);
done:
    return st;
}

static AT_CHECKED refuse_gguf_keys(struct gguf_reader *r, const struct at_model_config *c)
{
    enum at_status st = AT_OK;
    bool causal = true;

    TRY(at_gguf_get_bool(&causal, r->weights, full_key(r, "attention.causal")));
    if (!causal)
        FAIL(AT_DATA, "%s: key %s is false; this version computes causal attention only", r->path,
             r->key);
    TRY(expect_u32(r, "attention.value_length", c->D));
    TRY(expect_u32(r, "expert_count", 0));
done:
    return st;
}

/* Layers with windows and without rotation, which llama.cpp knows by the architecture; a window
 * pattern may be named as a number. */
static AT_CHECKED read_layers(struct at_model_config *out, struct gguf_reader *r)
{
    enum at_status st = AT_OK;
    uint32_t pattern = out->family->window_pattern;

    if (out->family->windows == AT_WINDOWS_ALTERNATE && !out->family->local_rope)
        out->window = out->family->defaults.window; /* llama.cpp's, too */
    TRY(get_u32(&out->window, r, "attention.sliding_window"));
    if (out->family->windows == AT_WINDOWS_ALTERNATE)
        TRY(get_u32(&pattern, r, "attention.sliding_window_pattern"));
    if (out->window > 0 && out->family->windows == AT_WINDOWS_SWITCHED)
        FAIL(AT_DATA,
             "%s: key %s.attention.sliding_window is %u; which layers of a %s model have windows "
             "is not in GGUF files: use the model's safetensors",
             r->path, r->architecture, out->window, out->family->name);
    if (out->family->windows == AT_WINDOWS_ALTERNATE && pattern == 0)
        FAIL(AT_DATA, "%s: key %s.attention.sliding_window_pattern is 0; expected at least 1",
             r->path, r->architecture);
    at_layers_default(out, pattern, out->L, out->family->no_rope_interval);
    if (out->window == 0)
        memset(out->windowed, 0, sizeof out->windowed);
done:
    return st;
}

/* llama.cpp scales by the head width but in the two models of 27 billion parameters, which it knows
 * by their number of layers. */
static double query_scalar(const struct at_model_config *c)
{
    static const struct {
        const char *family;
        uint32_t layers;
    } wide[] = { { "gemma2", 46 }, { "gemma3_text", 62 } };

    for (size_t i = 0; i < AT_COUNT(wide); i++)
        if (strcmp(wide[i].family, c->family->name) == 0 && wide[i].layers == c->L)
            return (double)c->C / c->H;
    return c->D;
}

/* Granite's; a key that is missing or 0 multiplies by 1, and scores by 1 / sqrt(D). */
static AT_CHECKED read_multipliers(struct at_model_config *out, struct gguf_reader *r)
{
    enum at_status st = AT_OK;
    double embeddings = 0, scores = 0, residual = 0, divisor = 0;

    if (!out->family->multipliers)
        goto done;
    TRY(get_double(&embeddings, r, "embedding_scale"));
    TRY(get_double(&scores, r, "attention.scale"));
    TRY(get_double(&residual, r, "residual_scale"));
    TRY(get_double(&divisor, r, "logit_scale"));
    out->embed_scale = embeddings != 0 ? (float)embeddings : 1;
    out->attention_scale = scores != 0 ? (float)scores : out->attention_scale;
    out->residual_scale = residual != 0 ? (float)residual : 1;
    out->logit_scale = divisor != 0 ? (float)(1 / divisor) : 1;
done:
    return st;
}

static AT_CHECKED read_scales(struct at_model_config *out, struct gguf_reader *r)
{
    const struct at_family_defaults *d = &out->family->defaults;
    enum at_status st = AT_OK;
    double attention_cap = d->attention_cap, final_cap = d->final_cap;

    TRY(get_double(&attention_cap, r, "attn_logit_softcapping"));
    if (d->attention_cap == 0 && attention_cap != 0)
        FAIL(AT_DATA,
             "%s: key %s is %g; %s models have no cap of attention scores: leave the key out",
             r->path, r->key, attention_cap, out->family->name);
    if (d->query_scalar > 0)
        TRY(get_double(&final_cap, r, "final_logit_softcapping"));
    out->attention_cap = (float)attention_cap;
    out->final_cap = (float)final_cap;
    out->attention_scale = (float)(1 / sqrt(query_scalar(out)));
    out->embed_scale = out->family->embed_scaled ? (float)sqrt(out->C) : 1;
    TRY(read_multipliers(out, r));
done:
    return st;
}

static AT_CHECKED read_ropes(struct at_model_config *out, struct gguf_reader *r)
{
    enum at_status st = AT_OK;

    out->rope.theta = out->local_rope.theta = 10000;
    out->rope.partial = out->local_rope.partial = 1;
    out->rotary = out->D;
    TRY(get_u32(&out->rotary, r, "rope.dimension_count"));
    if (out->family->defaults.partial == 0 && out->rotary != out->D)
        FAIL(AT_DATA, "%s: key %s is %u; this version computes %u only", r->path, r->key,
             out->rotary, out->D);
    TRY(at_rope_from_gguf(&out->rope, r->weights, r->architecture, out->max_positions));
    TRY(get_double(&out->local_rope.theta, r, "rope.freq_base_swa"));
    if (!(out->local_rope.theta >= 1 && out->local_rope.theta <= 1e15))
        FAIL(AT_DATA, "%s: key %s is %g; expected 1 to 1e15", r->path, r->key,
             out->local_rope.theta);
done:
    return st;
}

static AT_CHECKED find_family(const struct at_family **out, struct gguf_reader *r)
{
    enum at_status st = AT_OK;
    struct at_buf near = { 0 };
    const struct at_family *nearest = NULL;
    const char **keys = NULL;
    uint32_t window = 0;
    size_t n = 0;

    TRY(at_gguf_get_string(&r->architecture, r->weights, "general.architecture"));
    if (!r->architecture)
        FAIL(AT_DATA, "%s: key general.architecture is missing", r->path);
    TRY(get_u32(&window, r, "attention.sliding_window"));
    *out = at_family_find_gguf(r->architecture, window > 0);
    if (*out)
        goto done;
    TRY(at_alloc(&keys, r->weights->n_items + r->weights->n_sources, sizeof *keys));
    for (size_t i = 0; i < r->weights->n_items; i++) {
        const char *key = r->weights->items[i].key;
        const size_t length = strlen(r->architecture);
        if (strncmp(key, r->architecture, length) == 0 && key[length] == '.')
            keys[n++] = key + length + 1;
    }
    nearest = at_family_describe(&near, r->architecture, keys, n);
    n = 0;
    for (size_t i = 0; i < r->weights->n_sources; i++)
        keys[n++] = r->weights->sources[i].name;
    if (nearest)
        at_family_describe_tensors(&near, nearest, keys, n, true);
    TRY(at_buf_status(&near));
    FAIL(AT_DATA, "%s: general.architecture \"%.80s\" is not known; known: %s%s", r->path,
         r->architecture, at_family_names(), near.data ? near.data : "");
done:
    at_free(&keys);
    at_buf_release(&near);
    return st;
}

/* Those that the family may have and whose tensor is there in the first layer. */
static void find_biases(struct at_model_config *out, const struct at_weights *weights)
{
    const struct at_family *f = out->family;
    const uint32_t may =
        f->bias_keys.attention_bias | f->bias_keys.mlp_bias | f->bias_keys.use_qkv_bias;
    char name[64];

    out->biases = f->biases;
    for (uint32_t i = 0; i < AT_LINEARS; i++) {
        snprintf(name, sizeof name, at_role_gguf_name(f, AT_Q_BIAS + i), 0u);
        if (may >> i & 1 && at_weights_find(weights, name))
            out->biases |= 1u << i;
    }
}

AT_CHECKED at_model_config_from_gguf(struct at_model_config *out, const struct at_weights *weights)
{
    struct gguf_reader r = { .weights = weights, .path = weights->shards[0].path };
    const struct at_source *embedding = NULL;
    enum at_status st = AT_OK;
    uint32_t n_parts = 0;
    double eps = 0;

    *out = (struct at_model_config){ .init_std = INIT_STD, .residual_scale = 1, .logit_scale = 1 };
    TRY(at_gguf_get_u32(&n_parts, weights, "split.count"));
    if (n_parts > 1)
        FAIL(AT_DATA, "%s: one of %u parts of a model; join them first (gguf-split --merge)",
             r.path, n_parts);
    TRY(find_family(&out->family, &r));
    if (at_family_variant(out->family) &&
        at_weights_find(weights,
                        "blk.0.attn_norm_2.weight")) /* the norms are told by their names */
        out->family = at_family_variant(out->family);
    TRY(need_u32(&out->C, &r, "embedding_length"));
    TRY(need_u32(&out->L, &r, "block_count"));
    TRY(need_u32(&out->F, &r, "feed_forward_length"));
    TRY(need_u32(&out->H, &r, "attention.head_count"));
    TRY(need_u32(&out->max_positions, &r, "context_length"));
    out->G = out->H;
    TRY(get_u32(&out->G, &r, "attention.head_count_kv"));
    out->D = out->H > 0 ? out->C / out->H : 0;
    TRY(get_u32(&out->D, &r, "attention.key_length"));
    if (out->L > AT_MAX_LAYERS)
        FAIL(AT_DATA, "%s: number of layers is %u; expected 1 to %d", r.path, out->L,
             AT_MAX_LAYERS);
    TRY(read_ropes(out, &r));
    TRY(read_layers(out, &r));
    TRY(get_double(&eps, &r,
                   out->family->layer_norm ? "attention.layer_norm_epsilon"
                                           : "attention.layer_norm_rms_epsilon"));
    out->norm_eps = (float)eps;
    embedding = at_weights_find(weights, at_role_gguf_name(out->family, AT_EMBED));
    if (!embedding || embedding->n_dims != 2)
        FAIL(AT_DATA, "%s: tensor %s is missing or not a matrix", r.path,
             at_role_gguf_name(out->family, AT_EMBED));
    out->V = embedding->rows < UINT32_MAX ? (uint32_t)embedding->rows : UINT32_MAX;
    out->tied = !at_weights_find(weights, at_role_gguf_name(out->family, AT_HEAD));
    find_biases(out, weights);
    TRY(read_scales(out, &r));
    TRY(at_model_config_check(out, r.path));
    TRY(refuse_gguf_keys(&r, out));
done:
    return st;
}
