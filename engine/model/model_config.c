/* Sizes of a model from config.json or GGUF metadata; what is not computed is refused by name. */
#include "model.h"
#include "weights_file.h"

#include <stdio.h>
#include <string.h>

/* transformers' initializer_range where a config does not give it. */
static const double INIT_STD = 0.02;
/* Limits far above any model; they keep every product of two of these below 2^64. */
enum { MAX_WIDTH = 1 << 20, MAX_VOCABULARY = 1 << 24, MAX_LAYERS = 4096, MAX_HEAD_WIDTH = 1024 };

static AT_CHECKED check_range(const char *name, const char *what, uint32_t value, uint32_t most)
{
    if (value < 1 || value > most)
        return at_fail(AT_DATA, "%s: %s is %u; expected 1 to %u", name, what, value, most);
    return AT_OK;
}

static AT_CHECKED check(const struct at_model_config *c, const char *name)
{
    enum at_status st = AT_OK;

    TRY(check_range(name, "hidden size", c->C, MAX_WIDTH));
    TRY(check_range(name, "feed-forward size", c->F, MAX_WIDTH));
    TRY(check_range(name, "vocabulary size", c->V, MAX_VOCABULARY));
    TRY(check_range(name, "number of layers", c->L, MAX_LAYERS));
    TRY(check_range(name, "number of attention heads", c->H, MAX_WIDTH));
    TRY(check_range(name, "number of key-value heads", c->G, c->H));
    TRY(check_range(name, "head width", c->D, MAX_HEAD_WIDTH));
    TRY(check_range(name, "number of positions", c->max_positions, INT32_MAX));
    if (c->H % c->G != 0)
        FAIL(AT_DATA, "%s: %u attention heads are not a multiple of %u key-value heads", name, c->H,
             c->G);
    if (c->D % 4 != 0)
        FAIL(AT_DATA, "%s: head width %u is not a multiple of 4, which the kernels need", name,
             c->D);
    TRY(check_range(name, "attention width", c->H * c->D, MAX_WIDTH));
    if (!(c->rope_theta >= 1 && c->rope_theta <= 1e15))
        FAIL(AT_DATA, "%s: rope_theta is %g; expected 1 to 1e15", name, c->rope_theta);
    if (!(c->init_std >= 0 && c->init_std < 1e3))
        FAIL(AT_DATA, "%s: initializer_range is %g; expected 0 to 1000", name, c->init_std);
    if (!(c->norm_eps > 0 && c->norm_eps < 1))
        FAIL(AT_DATA, "%s: rms_norm_eps is %g; expected a value between 0 and 1", name,
             (double)c->norm_eps);
done:
    return st;
}

/* ---- config.json ---- */

static AT_CHECKED refuse_other_than(const cJSON *config, const char *key, const char *expected,
                                    const char *name)
{
    enum at_status st = AT_OK;
    const char *value = expected;

    TRY(at_json_get_string(&value, config, key, name));
    if (strcmp(value, expected) != 0)
        FAIL(AT_DATA, "%s: %s is \"%.40s\"; this version computes \"%s\" only", name, key, value,
             expected);
done:
    return st;
}

static AT_CHECKED refuse_true(const cJSON *config, const char *key, const char *name)
{
    enum at_status st = AT_OK;
    bool value = false;

    TRY(at_json_get_bool(&value, config, key, name));
    if (value)
        FAIL(AT_DATA, "%s: %s is true, which this version does not compute", name, key);
done:
    return st;
}

/* `rope_parameters` of transformers 5 and `rope_scaling` of those before; both may hold the base.
 */
static AT_CHECKED read_rope(struct at_model_config *out, const cJSON *config, const char *key,
                            const char *name)
{
    const cJSON *rope = at_json_find(config, key);
    enum at_status st = AT_OK;
    const char *kind = "default";
    double partial = 1;

    if (!rope || cJSON_IsNull(rope))
        return AT_OK;
    if (!cJSON_IsObject(rope))
        FAIL(AT_DATA, "%s: %s must be an object", name, key);
    TRY(at_json_get_string(&kind, rope, "type", name));
    TRY(at_json_get_string(&kind, rope, "rope_type", name));
    if (strcmp(kind, "default") != 0)
        FAIL(
            AT_DATA,
            "%s: %s has kind \"%.40s\"; this version computes \"default\" only (others come later)",
            name, key, kind);
    TRY(at_json_get_double(&out->rope_theta, rope, "rope_theta", name));
    TRY(at_json_get_double(&partial, rope, "partial_rotary_factor", name));
    if (partial != 1)
        FAIL(AT_DATA, "%s: partial_rotary_factor is %g; this version computes 1 only", name,
             partial);
done:
    return st;
}

static AT_CHECKED refuse_flags(const cJSON *config, const char *name)
{
    const cJSON *kinds = at_json_find(config, "layer_types");
    const cJSON *quantised = at_json_find(config, "quantization_config");
    enum at_status st = AT_OK;
    const char *method = "";
    double partial = 1;

    TRY(refuse_other_than(config, "hidden_act", "silu", name));
    TRY(refuse_true(config, "mlp_bias", name));
    TRY(refuse_true(config, "use_sliding_window", name));
    TRY(refuse_true(config, "use_mrope", name));
    TRY(at_json_get_double(&partial, config, "partial_rotary_factor", name));
    if (partial != 1)
        FAIL(AT_DATA, "%s: partial_rotary_factor is %g; this version computes 1 only", name,
             partial);
    if (quantised && !cJSON_IsNull(quantised)) {
        TRY(at_json_get_string(&method, quantised, "quant_method", name));
        if (strcmp(method, "bitsandbytes") != 0)
            FAIL(
                AT_DATA,
                "%s: quantization_config has quant_method \"%.40s\"; only bitsandbytes (4 bits) is "
                "read; use a GGUF file or the model's plain weights",
                name, method);
    }
    for (const cJSON *kind = cJSON_IsArray(kinds) ? kinds->child : NULL; kind; kind = kind->next)
        if (!cJSON_IsString(kind) || strcmp(kind->valuestring, "full_attention") != 0)
            FAIL(AT_DATA,
                 "%s: layer_types holds \"%.40s\"; this version computes full_attention only", name,
                 cJSON_IsString(kind) ? kind->valuestring : "?");
done:
    return st;
}

static AT_CHECKED read_attention_bias(struct at_model_config *out, const cJSON *config,
                                      const char *name)
{
    enum at_status st = AT_OK;

    out->qkv_bias = out->family->qkv_bias;
    TRY(at_json_get_bool(&out->qkv_bias, config, "attention_bias", name));
    if (out->qkv_bias != out->family->qkv_bias)
        FAIL(AT_DATA, "%s: attention_bias is %s, which this version does not compute for %s", name,
             out->qkv_bias ? "true" : "false", out->family->name);
done:
    return st;
}

AT_CHECKED at_model_config_from_json(struct at_model_config *out, const cJSON *config,
                                     const char *name)
{
    enum at_status st = AT_OK;
    const char *type = "";
    double eps = 1e-6;

    *out = (struct at_model_config){ .rope_theta = 10000,
                                     .max_positions = 2048,
                                     .init_std = INIT_STD };
    if (!cJSON_IsObject(config))
        FAIL(AT_DATA, "%s: must be an object", name);
    TRY(at_json_need_string(&type, config, "model_type", name));
    out->family = at_family_find(type);
    if (!out->family)
        FAIL(AT_DATA, "%s: model_type \"%.80s\" is not known; known: %s", name, type,
             at_family_names());
    TRY(refuse_flags(config, name));
    TRY(at_json_need_u32(&out->C, config, "hidden_size", name));
    TRY(at_json_need_u32(&out->H, config, "num_attention_heads", name));
    out->G = out->H;
    TRY(at_json_get_u32(&out->G, config, "num_key_value_heads", name));
    out->D = out->H > 0 ? out->C / out->H : 0;
    TRY(at_json_get_u32(&out->D, config, "head_dim", name));
    TRY(at_json_need_u32(&out->F, config, "intermediate_size", name));
    TRY(at_json_need_u32(&out->V, config, "vocab_size", name));
    TRY(at_json_need_u32(&out->L, config, "num_hidden_layers", name));
    TRY(at_json_get_u32(&out->max_positions, config, "max_position_embeddings", name));
    TRY(at_json_get_double(&eps, config, "rms_norm_eps", name));
    out->norm_eps = (float)eps;
    TRY(at_json_get_double(&out->rope_theta, config, "rope_theta", name));
    TRY(read_rope(out, config, "rope_scaling", name));
    TRY(read_rope(out, config, "rope_parameters", name));
    TRY(at_json_get_bool(&out->tied, config, "tie_word_embeddings", name));
    TRY(read_attention_bias(out, config, name));
    TRY(at_json_get_double(&out->init_std, config, "initializer_range", name));
    out->value_head = at_value_head_is_in(config);
    TRY(check(out, name));
done:
    return st;
}

/* ---- GGUF ---- */

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
    const char *scaling = "none";
    double factor = 1, linear = 1;
    bool causal = true;

    TRY(at_gguf_get_string(&scaling, r->weights, full_key(r, "rope.scaling.type")));
    if (strcmp(scaling, "none") != 0)
        FAIL(AT_DATA, "%s: key %s is \"%.40s\"; this version computes \"none\" only", r->path,
             r->key, scaling);
    TRY(get_double(&factor, r, "rope.scaling.factor"));
    if (factor != 1 && factor != 0)
        FAIL(AT_DATA, "%s: key %s is %g; this version computes 1 only", r->path, r->key, factor);
    TRY(get_double(&linear, r, "rope.scale_linear"));
    if (linear != 1)
        FAIL(AT_DATA, "%s: key %s is %g; this version computes 1 only", r->path, r->key, linear);
    TRY(at_gguf_get_bool(&causal, r->weights, full_key(r, "attention.causal")));
    if (!causal)
        FAIL(AT_DATA, "%s: key %s is false; this version computes causal attention only", r->path,
             r->key);
    TRY(expect_u32(r, "rope.dimension_count", c->D));
    TRY(expect_u32(r, "attention.value_length", c->D));
    TRY(expect_u32(r, "attention.sliding_window", 0));
    TRY(expect_u32(r, "expert_count", 0));
done:
    return st;
}

static AT_CHECKED config_from_gguf(struct at_model_config *out, const struct at_weights *weights)
{
    struct gguf_reader r = { .weights = weights, .path = weights->shards[0].path };
    const struct at_source *embedding = at_weights_find(weights, at_role_gguf_name(AT_EMBED));
    enum at_status st = AT_OK;
    uint32_t n_parts = 0;
    double eps = 0;

    *out = (struct at_model_config){ .rope_theta = 10000, .init_std = INIT_STD };
    TRY(at_gguf_get_u32(&n_parts, weights, "split.count"));
    if (n_parts > 1)
        FAIL(AT_DATA, "%s: one of %u parts of a model; join them first (gguf-split --merge)",
             r.path, n_parts);
    TRY(at_gguf_get_string(&r.architecture, weights, "general.architecture"));
    if (!r.architecture)
        FAIL(AT_DATA, "%s: key general.architecture is missing", r.path);
    out->family = at_family_find_gguf(r.architecture);
    if (!out->family)
        FAIL(AT_DATA, "%s: general.architecture \"%.80s\" is not known; known: %s", r.path,
             r.architecture, at_family_names());
    TRY(need_u32(&out->C, &r, "embedding_length"));
    TRY(need_u32(&out->L, &r, "block_count"));
    TRY(need_u32(&out->F, &r, "feed_forward_length"));
    TRY(need_u32(&out->H, &r, "attention.head_count"));
    TRY(need_u32(&out->max_positions, &r, "context_length"));
    out->G = out->H;
    TRY(get_u32(&out->G, &r, "attention.head_count_kv"));
    out->D = out->H > 0 ? out->C / out->H : 0;
    TRY(get_u32(&out->D, &r, "attention.key_length"));
    TRY(get_double(&out->rope_theta, &r, "rope.freq_base"));
    TRY(get_double(&eps, &r, "attention.layer_norm_rms_epsilon"));
    out->norm_eps = (float)eps;
    if (!embedding || embedding->n_dims != 2)
        FAIL(AT_DATA, "%s: tensor %s is missing or not a matrix", r.path,
             at_role_gguf_name(AT_EMBED));
    out->V = embedding->rows < UINT32_MAX ? (uint32_t)embedding->rows : UINT32_MAX;
    out->tied = !at_weights_find(weights, at_role_gguf_name(AT_HEAD));
    out->qkv_bias = out->family->qkv_bias;
    TRY(check(out, r.path));
    TRY(refuse_gguf_keys(&r, out));
done:
    return st;
}

AT_CHECKED at_model_config_read(struct at_model_config *out, const struct at_weights *weights)
{
    if (at_weights_is_gguf(weights))
        return config_from_gguf(out, weights);
    AT_REQUIRE(weights->config);
    return at_model_config_from_json(out, weights->config, weights->config_path);
}
