#include "family.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_COMMON = 3, MOST_KEYS = 8 };

/* By the beginnings of names, the longest first, where name or difference does not follow from the
 * letters and keys. */
static const struct {
    const char *begin, *nearest, *difference;
} others[] = {
    { "deepseek", "llama", "latent attention and a mixture of experts" },
    { "gemma3n", "gemma3_text", "per-layer embeddings and AltUp" },
    { "gemma3", "gemma3_text", "an image tower: save its language model alone" },
    { "gemma", "gemma2", "the absence of norms behind attention and MLP" },
    { "gpt_oss", "llama", "attention sinks and a mixture of experts" },
    { "llama4", "llama", "chunked attention and a mixture of experts" },
    { "mistral3", "mistral", "an image tower: save its language model alone" },
    { "mixtral", "mistral", "a mixture of experts" },
    { "qwen2_vl", "qwen2", "an image tower" },
};

/* Keys that say nothing unusual: those of known families' configurations, and what transformers
 * writes into every one. GGUF's stand behind general.architecture and a dot. Sorted. */
static const char *const usual[] = {
    "_name_or_path",
    "activation",
    "alibi",
    "architectures",
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.scale",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.value_length",
    "attention_bias",
    "attention_dropout",
    "attention_multiplier",
    "attn_logit_softcapping",
    "auto_map",
    "bias",
    "block_count",
    "bos_token_id",
    "chunk_size_feed_forward",
    "context_length",
    "dtype",
    "embd_pdrop",
    "embedding_length",
    "embedding_multiplier",
    "embedding_scale",
    "eos_token_id",
    "feed_forward_length",
    "ffn_hidden_size",
    "final_logit_softcapping",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "hidden_dropout",
    "hidden_size",
    "id2label",
    "initializer_range",
    "intermediate_size",
    "is_encoder_decoder",
    "label2id",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "layer_types",
    "logit_scale",
    "logits_scaling",
    "max_position_embeddings",
    "max_window_layers",
    "mlp_bias",
    "model_type",
    "multi_query",
    "new_decoder_architecture",
    "no_rope_layer_interval",
    "no_rope_layers",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_kv_heads",
    "num_ln_in_parallel_attn",
    "original_max_position_embeddings",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "parallel_attn",
    "partial_rotary_factor",
    "pretraining_tp",
    "problem_type",
    "qk_layernorm",
    "quantization_config",
    "query_pre_attn_scalar",
    "resid_pdrop",
    "residual_multiplier",
    "residual_scale",
    "return_dict",
    "rms_norm_eps",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "sliding_window_pattern",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "use_bidirectional_attention",
    "use_cache",
    "use_parallel_residual",
    "use_qkv_bias",
    "use_sliding_window",
    "vocab_size",
};

static int compare_key(const void *key, const void *entry)
{
    return strcmp(key, *(const char *const *)entry);
}

static bool is_usual(const char *key)
{
    return bsearch(key, usual, AT_COUNT(usual), sizeof usual[0], compare_key);
}

/* Letters that two names begin with alike; '-' is as '_'. */
static size_t common(const char *a, const char *b)
{
    size_t n = 0;

    while (a[n] && (a[n] == b[n] || (a[n] == '-' && b[n] == '_')))
        n++;
    return n;
}

static bool has_key(const char *const *keys, size_t n, const char *const *any, size_t n_any)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n_any; k++)
            if (strcmp(keys[i], any[k]) == 0)
                return true;
    return false;
}

/* By name, else by what its norms are: Llama's are RMSNorm, Falcon's LayerNorm. NULL: none. */
static const char *nearest_of(const char *name, const char *const *keys, size_t n)
{
    static const char *const rms[] = { "rms_norm_eps", "attention.layer_norm_rms_epsilon" };
    static const char *const centred[] = { "layer_norm_eps", "layer_norm_epsilon",
                                           "attention.layer_norm_epsilon" };
    const char *best = NULL;
    size_t most = LEAST_COMMON - 1;

    for (size_t i = 0; at_family_get(i); i++) {
        const char *known = at_family_get(i)->name;
        if (common(name, known) > most) {
            most = common(name, known);
            best = known;
        }
    }
    if (best)
        return best;
    if (has_key(keys, n, rms, AT_COUNT(rms)))
        return "llama";
    return has_key(keys, n, centred, AT_COUNT(centred)) ? "falcon" : NULL;
}

static void put_keys(struct at_buf *out, const char *const *keys, size_t n)
{
    size_t n_unusual = 0;
    bool experts = false;

    for (size_t i = 0; i < n; i++) {
        if (is_usual(keys[i]))
            continue;
        experts = experts || strstr(keys[i], "expert");
        if (n_unusual++ < MOST_KEYS)
            at_buf_printf(out, "%s%.60s",
                          n_unusual == 1 ? "; keys that no known family has: " : ", ", keys[i]);
    }
    if (n_unusual == 0 && n > 0)
        at_buf_puts(out, "; its configuration has no key that no known family has");
    if (n_unusual > MOST_KEYS)
        at_buf_printf(out, " and %zu more", n_unusual - MOST_KEYS);
    if (experts)
        at_buf_puts(out, ". A mixture of experts is not computed");
}

const struct at_family *at_family_describe(struct at_buf *out, const char *name,
                                           const char *const *keys, size_t n)
{
    const char *nearest = nearest_of(name, keys, n), *difference = NULL;

    for (size_t i = 0; i < AT_COUNT(others) && !difference; i++)
        if (common(name, others[i].begin) == strlen(others[i].begin)) {
            nearest = others[i].nearest;
            difference = others[i].difference;
        }
    if (nearest)
        at_buf_printf(out, ". The nearest is %s", nearest);
    if (difference)
        at_buf_printf(out, ", from which it differs by %s", difference);
    put_keys(out, keys, n);
    return nearest ? at_family_find(nearest) : NULL;
}

/* ---- tensors ---- */

/* Whether models of the family may have the role's tensor. */
static bool may_have(const struct at_family *f, uint32_t role)
{
    const uint32_t biases =
        f->biases | f->bias_keys.attention_bias | f->bias_keys.mlp_bias | f->bias_keys.use_qkv_bias;

    if (role >= AT_Q_BIAS && role <= AT_DOWN_BIAS)
        return biases >> (role - AT_Q_BIAS) & 1;
    if (role == AT_Q_NORM || role == AT_K_NORM)
        return f->qk_norm;
    if (role == AT_ATTN_POST_NORM || role == AT_MLP_POST_NORM)
        return f->post_norms;
    return role < AT_FINAL_NORM_BIAS || f->layer_norm;
}

static bool is_of(const struct at_family *f, const char *tensor, bool gguf)
{
    char name[128];

    for (uint32_t role = 0; role < AT_ROLE_COUNT; role++) {
        const char *pattern = at_role_name(f, role), *layer = NULL;
        if (!pattern || !may_have(f, role))
            continue;
        pattern = gguf ? at_role_gguf_name(f, role) : pattern;
        layer = strstr(pattern, "%u");
        snprintf(name, sizeof name, "%.*s%s%s", layer ? (int)(layer - pattern) : 0, pattern,
                 layer ? "0" : "", layer ? layer + 2 : pattern);
        if (strcmp(name, tensor) == 0)
            return true;
    }
    return false;
}

/* Whether a name has a number and the first is not 0. */
static bool is_later_layer(const char *name)
{
    const char *digits = name;

    while (*digits && !(*digits == '.' && digits[1] >= '0' && digits[1] <= '9'))
        digits++;
    return *digits && strtoul(digits + 1, NULL, 10) > 0;
}

void at_family_describe_tensors(struct at_buf *out, const struct at_family *family,
                                const char *const *tensors, size_t n, bool gguf)
{
    size_t n_other = 0;

    AT_REQUIRE(family);
    for (size_t i = 0; i < n; i++) {
        const struct at_family *f = family;
        while (f && !is_of(f, tensors[i], gguf))
            f = at_family_variant(f);
        if (f || is_later_layer(tensors[i]))
            continue;
        if (n_other++ == 0)
            at_buf_printf(out, "; tensors that %s has not: ", family->name);
        if (n_other <= MOST_KEYS)
            at_buf_printf(out, "%s%.80s", n_other > 1 ? ", " : "", tensors[i]);
    }
    if (n_other > MOST_KEYS)
        at_buf_printf(out, " and %zu more", n_other - MOST_KEYS);
}
