/* Sizes and flags of a model from config.json; what is not computed is refused by name. */
#include "halves_choice.h"
#include "model.h"
#include "weights_file.h"

#include <math.h>
#include <string.h>

/* transformers' initializer_range where a config does not give it. */
static const double INIT_STD = 0.02;
/* Limits far above any model; they keep every product of two of these below 2^64. */
enum { MAX_WIDTH = 1 << 20, MAX_VOCABULARY = 1 << 24, MAX_HEAD_WIDTH = 1024 };

static AT_CHECKED check_range(const char *name, const char *what, uint32_t value, uint32_t most)
{
    if (value < 1 || value > most)
        return at_fail(AT_DATA, "%s: %s is %u; expected 1 to %u", name, what, value, most);
    return AT_OK;
}

AT_CHECKED at_model_choose_halves(const struct at_model_config *c, struct at_gpu *gpu)
{
    const struct at_weight_shape shapes[] = { { c->H * c->D, c->C },
                                              { c->F, c->C },
                                              { c->C, c->F } };
    const struct at_attention_shape attention = { c->H, c->G, c->D, c->attention_cap };

    return at_halves_choose(gpu, shapes, AT_COUNT(shapes), attention);
}

AT_CHECKED at_model_config_check(const struct at_model_config *c, const char *name)
{
    enum at_status st = AT_OK;

    TRY(check_range(name, "hidden size", c->C, MAX_WIDTH));
    TRY(check_range(name, "feed-forward size", c->F, MAX_WIDTH));
    TRY(check_range(name, "vocabulary size", c->V, MAX_VOCABULARY));
    TRY(check_range(name, "number of layers", c->L, AT_MAX_LAYERS));
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
    if (c->rotary == 0 || c->rotary > c->D || c->rotary % 2 != 0)
        FAIL(AT_DATA,
             "%s: %u of the %u values of a head are turned (partial_rotary_factor); expected an "
             "even number",
             name, c->rotary, c->D);
    if (!(c->residual_scale > 0 && c->residual_scale < 1e6f && c->logit_scale > 0 &&
          c->logit_scale < 1e6f && c->embed_scale > 0 && c->embed_scale < 1e6f))
        FAIL(AT_DATA,
             "%s: embeddings, what is added to the residual, and logits are multiplied by %g, %g "
             "and %g; expected 0 to 1e6",
             name, (double)c->embed_scale, (double)c->residual_scale, (double)c->logit_scale);
    if (c->family->local_rope && c->window == 0)
        FAIL(AT_DATA,
             "%s: sliding_window is missing or 0, without which a %s model has no layers "
             "with local angles",
             name, c->family->name);
    if (!(c->attention_scale > 0 && c->attention_scale < 1e6f))
        FAIL(AT_DATA, "%s: attention scores are multiplied by %g; expected 0 to 1e6", name,
             (double)c->attention_scale);
    if (!(c->attention_cap >= 0 && c->attention_cap < 1e6f && c->final_cap >= 0 &&
          c->final_cap < 1e6f))
        FAIL(AT_DATA, "%s: soft-caps are %g and %g; expected 0 to 1e6", name,
             (double)c->attention_cap, (double)c->final_cap);
    if (!(c->init_std >= 0 && c->init_std < 1e3))
        FAIL(AT_DATA, "%s: initializer_range is %g; expected 0 to 1000", name, c->init_std);
    if (!(c->norm_eps > 0 && c->norm_eps < 1))
        FAIL(AT_DATA, "%s: %s is %g; expected a value between 0 and 1", name,
             c->family->eps_key ? c->family->eps_key : "rms_norm_eps", (double)c->norm_eps);
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
 * With local_rope the former holds an object a kind of layer, the latter is of layers without a
 * window. */
static AT_CHECKED read_rope(struct at_model_config *out, const cJSON *config, const char *key,
                            const char *name)
{
    const cJSON *rope = at_json_find(config, key);
    const cJSON *global = rope, *local = NULL;
    enum at_status st = AT_OK;
    uint32_t original = out->max_positions;

    if (!rope || cJSON_IsNull(rope))
        return AT_OK;
    if (out->family->local_rope && at_json_find(rope, "full_attention")) {
        global = at_json_find(rope, "full_attention");
        local = at_json_find(rope, "sliding_attention");
    }
    TRY(at_json_get_u32(&original, config, "original_max_position_embeddings", name));
    TRY(at_rope_from_json(&out->rope, global, key, name, original, out->max_positions));
    if (local && !cJSON_IsNull(local))
        TRY(at_rope_from_json(&out->local_rope, local, key, name, original, out->max_positions));
done:
    return st;
}

static AT_CHECKED read_ropes(struct at_model_config *out, const cJSON *config, const char *name)
{
    enum at_status st = AT_OK;

    out->rope.theta = out->family->defaults.rope_theta;
    out->local_rope.theta = 10000;
    out->rope.partial = out->family->defaults.partial > 0 ? out->family->defaults.partial : 1;
    out->local_rope.partial = 1;
    TRY(at_json_get_double(&out->rope.partial, config, "partial_rotary_factor", name));
    TRY(at_json_get_double(&out->rope.theta, config, "rope_theta", name));
    TRY(at_json_get_double(&out->local_rope.theta, config, "rope_local_base_freq", name));
    TRY(read_rope(out, config, "rope_scaling", name));
    TRY(read_rope(out, config, "rope_parameters", name));
    if (!(out->rope.theta >= 1 && out->rope.theta <= 1e15))
        FAIL(AT_DATA, "%s: rope_theta is %g; expected 1 to 1e15", name, out->rope.theta);
    if (!(out->local_rope.theta >= 1 && out->local_rope.theta <= 1e15))
        FAIL(AT_DATA, "%s: rope_local_base_freq is %g; expected 1 to 1e15", name,
             out->local_rope.theta);
    if (out->family->defaults.partial == 0 && out->rope.partial != 1)
        FAIL(AT_DATA, "%s: partial_rotary_factor is %g; this version computes 1 only for %s", name,
             out->rope.partial, out->family->name);
    out->rotary = (uint32_t)(out->D * fmin(fmax(out->rope.partial, 0), 1));
done:
    return st;
}

static AT_CHECKED refuse_flags(const struct at_family *family, const cJSON *config,
                               const char *name)
{
    const cJSON *quantised = at_json_find(config, "quantization_config");
    enum at_status st = AT_OK;
    const char *method = "";

    TRY(refuse_other_than(config, "activation", family->activation, name));
    TRY(refuse_other_than(config, "hidden_act", family->activation, name));
    TRY(refuse_other_than(config, "hidden_activation", family->activation, name));
    TRY(refuse_true(config, "use_mrope", name));
    TRY(refuse_true(config, "use_bidirectional_attention", name));
    TRY(refuse_true(config, "bias", name));
    TRY(refuse_true(config, "alibi", name));
    TRY(refuse_true(config, "qk_layernorm", name));
    TRY(refuse_true(config, "use_parallel_residual", name));
    if (quantised && !cJSON_IsNull(quantised)) {
        TRY(at_json_get_string(&method, quantised, "quant_method", name));
        if (strcmp(method, "bitsandbytes") != 0)
            FAIL(AT_DATA,
                 "%s: quantization_config has quant_method \"%.40s\"; only bitsandbytes is "
                 "read; use a GGUF file or the model's plain weights",
                 name, method);
    }
done:
    return st;
}

static AT_CHECKED read_biases(struct at_model_config *out, const cJSON *config, const char *name)
{
    const struct at_family *family = out->family;
    const struct {
        const char *key;
        uint32_t adds, always; /* always: linears that have one without the key */
    } keys[] = {
        { "attention_bias", family->bias_keys.attention_bias, family->biases & AT_SET_ATTENTION },
        { "mlp_bias", family->bias_keys.mlp_bias, family->biases & AT_SET_MLP },
        { "use_qkv_bias", family->bias_keys.use_qkv_bias, family->biases & AT_SET_QKV },
    };
    enum at_status st = AT_OK;

    out->biases = family->biases;
    for (size_t i = 0; i < AT_COUNT(keys); i++) {
        bool on = keys[i].always;
        TRY(at_json_get_bool(&on, config, keys[i].key, name));
        if (on && keys[i].adds)
            out->biases |= keys[i].adds;
        else if (on != (keys[i].always != 0))
            FAIL(AT_DATA, "%s: %s is %s, which this version does not compute for %s", name,
                 keys[i].key, on ? "true" : "false", family->name);
    }
done:
    return st;
}

/* ---- layers ---- */

static bool bit(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

uint32_t at_layer_window(const struct at_model_config *c, uint32_t layer)
{
    return bit(c->windowed, layer) ? c->window : 0;
}

bool at_layer_turns(const struct at_model_config *c, uint32_t layer)
{
    return !bit(c->unturned, layer);
}

uint32_t at_model_long_from(const struct at_model_config *c, uint32_t n_positions)
{
    const uint32_t global = at_rope_long_from(&c->rope), local = at_rope_long_from(&c->local_rope);
    const uint32_t from = global == 0 || (local > 0 && local < global) ? local : global;

    return n_positions > from ? from : 0;
}

bool at_model_long_each(const struct at_model_config *c)
{
    const uint32_t global = at_rope_long_from(&c->rope), local = at_rope_long_from(&c->local_rope);

    return c->rope.kind == AT_ROPE_DYNAMIC || c->local_rope.kind == AT_ROPE_DYNAMIC ||
           (global > 0 && local > 0 && global != local);
}

uint32_t at_model_made_for(const struct at_model_config *c)
{
    return c->rope.kind == AT_ROPE_DYNAMIC ? 0 : c->max_positions;
}

static AT_CHECKED read_layer_types(struct at_model_config *out, const cJSON *kinds,
                                   const char *name)
{
    enum at_status st = AT_OK;
    uint32_t l = 0;

    if (!cJSON_IsArray(kinds) || cJSON_GetArraySize(kinds) != (int)out->L)
        FAIL(AT_DATA, "%s: layer_types must be an array of %u entries, one a layer", name, out->L);
    memset(out->windowed, 0, sizeof out->windowed);
    for (const cJSON *kind = kinds->child; kind; kind = kind->next, l++) {
        const char *text = cJSON_IsString(kind) ? kind->valuestring : "?";
        if (strcmp(text, "sliding_attention") == 0)
            out->windowed[l / 64] |= 1ull << l % 64;
        else if (strcmp(text, "full_attention") != 0)
            FAIL(AT_DATA,
                 "%s: layer_types holds \"%.40s\"; this version computes full_attention and "
                 "sliding_attention",
                 name, text);
    }
done:
    return st;
}

void at_layers_default(struct at_model_config *out, uint32_t pattern, uint32_t from,
                       uint32_t unturned)
{
    const enum at_windows windows = out->family->windows;

    for (uint32_t l = 0; l < out->L; l++) {
        const bool windowed = windows == AT_WINDOWS_ALL ||
                              (windows == AT_WINDOWS_SWITCHED && l >= from) ||
                              (windows == AT_WINDOWS_ALTERNATE && (l + 1) % pattern != 0);
        if (windowed)
            out->windowed[l / 64] |= 1ull << l % 64;
        if (unturned > 0 && (l + 1) % unturned == 0)
            out->unturned[l / 64] |= 1ull << l % 64;
    }
}

/* no_rope_layers has 1 where a layer does turn. */
static AT_CHECKED read_no_rope(struct at_model_config *out, const cJSON *config, const char *name)
{
    const cJSON *list = at_json_find(config, "no_rope_layers");
    enum at_status st = AT_OK;
    uint32_t l = 0;

    if (out->family->no_rope_interval == 0 || !list || cJSON_IsNull(list))
        goto done;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != (int)out->L)
        FAIL(AT_DATA, "%s: no_rope_layers must be an array of %u entries, one a layer", name,
             out->L);
    memset(out->unturned, 0, sizeof out->unturned);
    for (const cJSON *turns = list->child; turns; turns = turns->next, l++) {
        if (!cJSON_IsNumber(turns))
            FAIL(AT_DATA, "%s: no_rope_layers must hold 0 and 1", name);
        if (turns->valuedouble == 0)
            out->unturned[l / 64] |= 1ull << l % 64;
    }
done:
    return st;
}

static AT_CHECKED read_layers(struct at_model_config *out, const cJSON *config, const char *name)
{
    const struct at_family *family = out->family;
    const cJSON *kinds = at_json_find(config, "layer_types");
    const cJSON *window = at_json_find(config, "sliding_window");
    enum at_status st = AT_OK;
    uint32_t pattern = family->window_pattern, from = 28; /* transformers' max_window_layers */
    uint32_t unturned = family->no_rope_interval;
    bool use = false;

    out->window = family->defaults.window;
    TRY(at_json_get_u32(&out->window, config, "sliding_window", name));
    TRY(at_json_get_bool(&use, config, "use_sliding_window", name));
    TRY(at_json_get_u32(&from, config, "max_window_layers", name));
    TRY(at_json_get_u32(&pattern, config, "sliding_window_pattern", name));
    if (use && family->windows == AT_WINDOWS_NONE)
        FAIL(AT_DATA, "%s: use_sliding_window is true, which this version does not compute for %s",
             name, family->name);
    if (family->windows == AT_WINDOWS_ALTERNATE && pattern == 0)
        FAIL(AT_DATA, "%s: sliding_window_pattern is 0; expected at least 1", name);
    if (unturned > 0)
        TRY(at_json_get_u32(&unturned, config, "no_rope_layer_interval", name));
    if (family->no_rope_interval > 0 && unturned == 0)
        FAIL(AT_DATA, "%s: no_rope_layer_interval is 0; expected at least 1", name);
    at_layers_default(out, pattern, from, unturned);
    TRY(read_no_rope(out, config, name));
    if (family->no_rope_interval > 0)
        memcpy(out->windowed, out->unturned, sizeof out->windowed);
    if (kinds && !cJSON_IsNull(kinds))
        TRY(read_layer_types(out, kinds, name));
    if (family->windows == AT_WINDOWS_NONE)
        for (uint32_t l = 0; l < out->L; l++)
            if (bit(out->windowed, l))
                FAIL(AT_DATA,
                     "%s: layer_types holds \"sliding_attention\", which this version does not "
                     "compute for %s",
                     name, family->name);
    if (window && cJSON_IsNull(window))
        out->window = 0;
    if ((family->windows == AT_WINDOWS_SWITCHED && !use) || out->window == 0)
        memset(out->windowed, 0, sizeof out->windowed);
done:
    return st;
}

/* ---- all of it ---- */

/* Key-value heads and feed-forward size of Falcon's two architectures, and which of its two kinds
 * of norms this one has. */
static AT_CHECKED read_falcon(struct at_model_config *out, const cJSON *config, const char *name)
{
    enum at_status st = AT_OK;
    bool renewed = false, multi_query = true, parallel = true;
    uint32_t norms = 0;

    TRY(at_json_get_bool(&renewed, config, "new_decoder_architecture", name));
    TRY(at_json_get_bool(&multi_query, config, "multi_query", name));
    TRY(at_json_get_bool(&parallel, config, "parallel_attn", name));
    norms = renewed ? 2 : 1;
    TRY(at_json_get_u32(&norms, config, "num_ln_in_parallel_attn", name));
    if (!parallel)
        FAIL(AT_DATA, "%s: parallel_attn is false, which this version does not compute", name);
    if (norms < 1 || norms > (renewed ? 2 : 1))
        FAIL(AT_DATA, "%s: num_ln_in_parallel_attn is %u; expected %s", name, norms,
             renewed ? "1 or 2" : "1");
    if (norms == 2)
        out->family = at_family_variant(out->family);
    if (renewed)
        TRY(at_json_get_u32(&out->G, config, "num_kv_heads", name));
    else if (multi_query)
        out->G = 1;
    out->F = 4 * out->C;
    TRY(at_json_get_u32(&out->F, config, "ffn_hidden_size", name));
done:
    return st;
}

static AT_CHECKED read_sizes(struct at_model_config *out, const cJSON *config, const char *name)
{
    const struct at_family_defaults *d = &out->family->defaults;
    enum at_status st = AT_OK;

    TRY(at_json_need_u32(&out->C, config, "hidden_size", name));
    TRY(at_json_need_u32(&out->H, config, "num_attention_heads", name));
    out->G = out->H;
    TRY(at_json_get_u32(&out->G, config, "num_key_value_heads", name));
    out->D = d->head_width > 0 ? d->head_width : out->H > 0 ? out->C / out->H : 0;
    TRY(at_json_get_u32(&out->D, config, "head_dim", name));
    if (at_family_variant(out->family))
        TRY(read_falcon(out, config, name));
    else
        TRY(at_json_need_u32(&out->F, config, "intermediate_size", name));
    TRY(at_json_need_u32(&out->V, config, "vocab_size", name));
    TRY(at_json_need_u32(&out->L, config, "num_hidden_layers", name));
    if (out->L > AT_MAX_LAYERS)
        FAIL(AT_DATA, "%s: number of layers is %u; expected 1 to %d", name, out->L, AT_MAX_LAYERS);
    out->max_positions = d->max_positions;
    TRY(at_json_get_u32(&out->max_positions, config, "max_position_embeddings", name));
done:
    return st;
}

/* Granite's. Scores are multiplied by 1, not by 1 / sqrt(D), where it names nothing. */
static AT_CHECKED read_multipliers(struct at_model_config *out, const cJSON *config,
                                   const char *name)
{
    enum at_status st = AT_OK;
    double embeddings = 1, scores = 1, residual = 1, divisor = 1;

    if (!out->family->multipliers)
        goto done;
    TRY(at_json_get_double(&embeddings, config, "embedding_multiplier", name));
    TRY(at_json_get_double(&scores, config, "attention_multiplier", name));
    TRY(at_json_get_double(&residual, config, "residual_multiplier", name));
    TRY(at_json_get_double(&divisor, config, "logits_scaling", name));
    out->embed_scale = (float)embeddings;
    out->attention_scale = (float)scores;
    out->residual_scale = (float)residual;
    out->logit_scale = (float)(1 / divisor);
done:
    return st;
}

/* Keys that this family does not have in its configuration are not read, but for a cap of attention
 * scores, which is refused. A cap that is null is none. */
static AT_CHECKED read_scales(struct at_model_config *out, const cJSON *config, const char *name)
{
    const struct at_family_defaults *d = &out->family->defaults;
    const cJSON *attention = at_json_find(config, "attn_logit_softcapping");
    const cJSON *final = at_json_find(config, "final_logit_softcapping");
    enum at_status st = AT_OK;
    double scalar = d->query_scalar > 0 ? d->query_scalar : out->D;
    double attention_cap = d->attention_cap, final_cap = d->final_cap;

    TRY(at_json_get_double(&attention_cap, config, "attn_logit_softcapping", name));
    if (d->attention_cap == 0 && attention_cap != 0)
        FAIL(
            AT_DATA,
            "%s: attn_logit_softcapping is %g, which transformers does not apply to %s models: set "
            "it to null",
            name, attention_cap, out->family->name);
    if (d->query_scalar > 0) {
        TRY(at_json_get_double(&scalar, config, "query_pre_attn_scalar", name));
        TRY(at_json_get_double(&final_cap, config, "final_logit_softcapping", name));
    }
    out->attention_scale = (float)(1 / sqrt(scalar));
    out->attention_cap = attention && cJSON_IsNull(attention) ? 0 : (float)attention_cap;
    out->final_cap = final && cJSON_IsNull(final) ? 0 : (float)final_cap;
    out->embed_scale = out->family->embed_scaled ? (float)sqrt(out->C) : 1;
    TRY(read_multipliers(out, config, name));
done:
    return st;
}

/* Whether a key is set to something: not null, false or 0. */
static bool is_on(const cJSON *item)
{
    return !cJSON_IsNull(item) && !cJSON_IsFalse(item) &&
           !(cJSON_IsNumber(item) && item->valuedouble == 0);
}

/* What follows the family. */
static AT_CHECKED read_as(struct at_model_config *out, const struct at_family *family,
                          const cJSON *config, const char *name)
{
    enum at_status st = AT_OK;
    double eps = family->defaults.eps > 0 ? family->defaults.eps : 1e-6;

    *out = (struct at_model_config){
        .family = family, .init_std = INIT_STD, .residual_scale = 1, .logit_scale = 1
    };
    TRY(refuse_flags(family, config, name));
    TRY(read_sizes(out, config, name));
    TRY(at_json_get_double(&eps, config, family->eps_key ? family->eps_key : "rms_norm_eps", name));
    out->norm_eps = (float)eps;
    TRY(read_ropes(out, config, name));
    TRY(read_layers(out, config, name));
    TRY(read_scales(out, config, name));
    out->tied = out->family->defaults.tied;
    TRY(at_json_get_bool(&out->tied, config, "tie_word_embeddings", name));
    TRY(read_biases(out, config, name));
    TRY(at_json_get_double(&out->init_std, config, "initializer_range", name));
    TRY(at_json_get_double(&out->attention_dropout, config, "attention_dropout", name));
    out->value_head = at_value_head_is_in(config);
    TRY(at_model_config_check(out, name));
done:
    return st;
}

/* Appends the first value that the nearest family does not compute, and tensors it has not. */
static AT_CHECKED put_differences(struct at_buf *out, const struct at_family *nearest,
                                  const cJSON *config, const char *name,
                                  const struct at_weights *weights)
{
    enum at_status st = AT_OK;
    struct at_model_config *trial = NULL;
    const size_t n = weights ? weights->n_sources : 0, skip = strlen(name) + 2;
    const char **tensors = NULL;
    size_t n_tensors = 0;

    TRY(at_alloc(&trial, 1, sizeof *trial));
    TRY(at_alloc(&tensors, n + 1, sizeof *tensors));
    if (read_as(trial, nearest, config, name) != AT_OK)
        at_buf_printf(out, "; as %s it is refused for a value: %s", nearest->name,
                      strlen(at_message()) > skip ? at_message() + skip : at_message());
    for (size_t i = 0; i < n; i++)
        if (!weights->sources[i].is_part)
            tensors[n_tensors++] = weights->sources[i].name;
    at_family_describe_tensors(out, nearest, tensors, n_tensors, false);
done:
    at_free(&tensors);
    at_free(&trial);
    return st;
}

static AT_CHECKED find_family(const struct at_family **out, const cJSON *config, const char *name,
                              const struct at_weights *weights)
{
    enum at_status st = AT_OK;
    struct at_buf near = { 0 };
    const struct at_family *nearest = NULL;
    const char *type = "", **keys = NULL;
    size_t n = 0;

    TRY(at_json_need_string(&type, config, "model_type", name));
    *out = at_family_find(type);
    if (*out)
        goto done;
    TRY(at_alloc(&keys, (size_t)cJSON_GetArraySize(config), sizeof *keys));
    for (const cJSON *item = config->child; item; item = item->next)
        if (is_on(item))
            keys[n++] = item->string;
    nearest = at_family_describe(&near, type, keys, n);
    if (nearest)
        TRY(put_differences(&near, nearest, config, name, weights));
    TRY(at_buf_status(&near));
    FAIL(AT_DATA, "%s: model_type \"%.80s\" is not known; known: %s%s", name, type,
         at_family_names(), near.data ? near.data : "");
done:
    at_free(&keys);
    at_buf_release(&near);
    return st;
}

static AT_CHECKED from_json(struct at_model_config *out, const cJSON *config, const char *name,
                            const struct at_weights *weights)
{
    const struct at_family *family = NULL;
    enum at_status st = AT_OK;

    *out = (struct at_model_config){ .family = NULL };
    if (!cJSON_IsObject(config))
        FAIL(AT_DATA, "%s: must be an object", name);
    TRY(find_family(&family, config, name, weights));
    TRY(read_as(out, family, config, name));
done:
    return st;
}

AT_CHECKED at_model_config_from_json(struct at_model_config *out, const cJSON *config,
                                     const char *name)
{
    return from_json(out, config, name, NULL);
}

AT_CHECKED at_model_config_read(struct at_model_config *out, const struct at_weights *weights)
{
    if (at_weights_is_gguf(weights))
        return at_model_config_from_gguf(out, weights);
    AT_REQUIRE(weights->config);
    return from_json(out, weights->config, weights->config_path, weights);
}
