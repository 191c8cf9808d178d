#include "family.h"

#include <string.h>

/* ---- names that differ from Llama's ---- */

#define LINEAR(path, gguf_name)                   \
    {                                             \
        path ".weight", gguf_name ".weight", path \
    }
#define NAME(hf_name, gguf_name) \
    {                            \
        hf_name, gguf_name, NULL \
    }
#define NONE           \
    {                  \
        "", NULL, NULL \
    }
#define LAYER "model.layers.%u."

static const struct at_names gemma_names[AT_ROLE_COUNT] = {
    [AT_MLP_NORM] = NAME(LAYER "pre_feedforward_layernorm.weight", "blk.%u.ffn_norm.weight"),
};
static const struct at_names phi3_names[AT_ROLE_COUNT] = {
    [AT_Q] = LINEAR(LAYER "self_attn.qkv_proj", "blk.%u.attn_qkv"),
    [AT_K] = LINEAR(LAYER "self_attn.qkv_proj", "blk.%u.attn_qkv"),
    [AT_V] = LINEAR(LAYER "self_attn.qkv_proj", "blk.%u.attn_qkv"),
    [AT_GATE] = LINEAR(LAYER "mlp.gate_up_proj", "blk.%u.ffn_up"),
    [AT_UP] = LINEAR(LAYER "mlp.gate_up_proj", "blk.%u.ffn_up"),
};
#define FALCON "transformer.h.%u."
#define FALCON_NAMES                                                                        \
    [AT_EMBED] = NAME("transformer.word_embeddings.weight", "token_embd.weight"),           \
    [AT_FINAL_NORM] = NAME("transformer.ln_f.weight", "output_norm.weight"),                \
    [AT_FINAL_NORM_BIAS] = NAME("transformer.ln_f.bias", "output_norm.bias"),               \
    [AT_Q] = LINEAR(FALCON "self_attention.query_key_value", "blk.%u.attn_qkv"),            \
    [AT_K] = LINEAR(FALCON "self_attention.query_key_value", "blk.%u.attn_qkv"),            \
    [AT_V] = LINEAR(FALCON "self_attention.query_key_value", "blk.%u.attn_qkv"),            \
    [AT_O] = LINEAR(FALCON "self_attention.dense", "blk.%u.attn_output"), [AT_GATE] = NONE, \
    [AT_UP] = LINEAR(FALCON "mlp.dense_h_to_4h", "blk.%u.ffn_up"),                          \
    [AT_DOWN] = LINEAR(FALCON "mlp.dense_4h_to_h", "blk.%u.ffn_down")
static const struct at_names falcon_names[AT_ROLE_COUNT] = {
    FALCON_NAMES,
    [AT_ATTN_NORM] = NAME(FALCON "input_layernorm.weight", "blk.%u.attn_norm.weight"),
    [AT_ATTN_NORM_BIAS] = NAME(FALCON "input_layernorm.bias", "blk.%u.attn_norm.bias"),
    [AT_MLP_NORM] = NONE,
    [AT_MLP_NORM_BIAS] = NONE,
};
static const struct at_names falcon_two_names[AT_ROLE_COUNT] = {
    FALCON_NAMES,
    [AT_ATTN_NORM] = NAME(FALCON "ln_attn.weight", "blk.%u.attn_norm_2.weight"),
    [AT_ATTN_NORM_BIAS] = NAME(FALCON "ln_attn.bias", "blk.%u.attn_norm_2.bias"),
    [AT_MLP_NORM] = NAME(FALCON "ln_mlp.weight", "blk.%u.attn_norm.weight"),
    [AT_MLP_NORM_BIAS] = NAME(FALCON "ln_mlp.bias", "blk.%u.attn_norm.bias"),
};
static const struct at_names olmo2_names[AT_ROLE_COUNT] = {
    [AT_ATTN_NORM] = NONE,
    [AT_MLP_NORM] = NONE,
};

/* ---- families ---- */

static const struct at_family families[] = {
    {
        .name = "falcon",
        .peft_targets = "query_key_value",
        .gguf = "falcon",
        .layer_norm = true,
        .parallel = true,
        .one_norm = true,
        .qkv_by_group = true,
        .ungated = true,
        .activation = "gelu",
        .eps_key = "layer_norm_epsilon",
        .names = falcon_names,
        .defaults = { .rope_theta = 10000, .eps = 1e-5, .max_positions = 2048, .tied = true },
    },
    {
        .name = "falcon",
        .peft_targets = "query_key_value",
        .gguf = "falcon",
        .layer_norm = true,
        .parallel = true,
        .qkv_by_group = true,
        .ungated = true,
        .activation = "gelu",
        .eps_key = "layer_norm_epsilon",
        .names = falcon_two_names,
        .defaults = { .rope_theta = 10000, .eps = 1e-5, .max_positions = 2048, .tied = true },
    },
    {
        .name = "gemma2",
        .peft_targets = "q_proj,v_proj",
        .gguf = "gemma2",
        .gguf_ties = true,
        .bias_keys = { .attention_bias = AT_SET_ATTENTION },
        .norm_offset = true,
        .post_norms = true,
        .embed_scaled = true,
        .gelu = true,
        .windows = AT_WINDOWS_ALTERNATE,
        .window_pattern = 2,
        .activation = "gelu_pytorch_tanh",
        .names = gemma_names,
        .defaults = { .rope_theta = 10000,
                      .head_width = 256,
                      .max_positions = 8192,
                      .window = 4096,
                      .attention_cap = 50,
                      .final_cap = 30,
                      .query_scalar = 256,
                      .tied = true },
    },
    {
        .name = "gemma3_text",
        .peft_targets = "q_proj,v_proj",
        .gguf = "gemma3",
        .bias_keys = { .attention_bias = AT_SET_ATTENTION },
        .qk_norm = true,
        .norm_offset = true,
        .post_norms = true,
        .embed_scaled = true,
        .gelu = true,
        .local_rope = true,
        .windows = AT_WINDOWS_ALTERNATE,
        .window_pattern = 6,
        .activation = "gelu_pytorch_tanh",
        .names = gemma_names,
        .defaults = { .rope_theta = 1e6,
                      .head_width = 256,
                      .max_positions = 131072,
                      .window = 4096,
                      .query_scalar = 256,
                      .tied = true },
    },
    {
        .name = "granite",
        .gguf = "granite",
        .bias_keys = { .attention_bias = AT_SET_ATTENTION, .mlp_bias = AT_SET_MLP },
        .gguf_permutes_qk = true,
        .multipliers = true,
        .activation = "silu",
        .defaults = { .rope_theta = 10000, .max_positions = 2048 },
    },
    {
        .name = "llama",
        .peft_targets = "q_proj,v_proj",
        .gguf = "llama",
        .bias_keys = { .attention_bias = AT_SET_ATTENTION, .mlp_bias = AT_SET_MLP },
        .gguf_permutes_qk = true,
        .activation = "silu",
        .defaults = { .rope_theta = 10000, .max_positions = 2048 },
    },
    {
        .name = "mistral",
        .peft_targets = "q_proj,v_proj",
        .gguf = "llama",
        .gguf_permutes_qk = true,
        .windows = AT_WINDOWS_ALL,
        .activation = "silu",
        .defaults = { .rope_theta = 10000, .max_positions = 131072, .window = 4096 },
    },
    {
        .name = "olmo2",
        .gguf = "olmo2",
        .bias_keys = { .attention_bias = AT_SET_ATTENTION },
        .qk_norm = true,
        .qk_norm_wide = true,
        .no_pre_norms = true,
        .post_norms = true,
        .activation = "silu",
        .names = olmo2_names,
        .defaults = { .rope_theta = 10000, .eps = 1e-5, .max_positions = 2048 },
    },
    {
        .name = "phi3",
        .gguf = "phi3",
        .long_restarts = true,
        .windows = AT_WINDOWS_ALL,
        .activation = "silu",
        .names = phi3_names,
        .defaults = { .rope_theta = 10000, .partial = 1, .eps = 1e-5, .max_positions = 4096 },
    },
    {
        .name = "qwen2",
        .peft_targets = "q_proj,v_proj",
        .gguf = "qwen2",
        .biases = AT_SET_QKV,
        .windows = AT_WINDOWS_SWITCHED,
        .activation = "silu",
        .defaults = { .rope_theta = 10000, .max_positions = 32768, .window = 4096 },
    },
    {
        .name = "qwen3",
        .peft_targets = "q_proj,v_proj",
        .gguf = "qwen3",
        .bias_keys = { .attention_bias = AT_SET_ATTENTION },
        .qk_norm = true,
        .windows = AT_WINDOWS_SWITCHED,
        .activation = "silu",
        .defaults = { .rope_theta = 10000,
                      .head_width = 128,
                      .max_positions = 32768,
                      .window = 4096 },
    },
    {
        .name = "smollm3",
        .gguf = "smollm3",
        .bias_keys = { .attention_bias = AT_SET_ATTENTION, .mlp_bias = AT_SET_MLP },
        .gguf_permutes_qk = true,
        .windows = AT_WINDOWS_SWITCHED,
        .no_rope_interval = 4,
        .activation = "silu",
        .defaults = { .rope_theta = 2e6, .max_positions = 32768, .tied = true },
    },
    {
        .name = "stablelm",
        .peft_targets = "q_proj,v_proj",
        .gguf = "stablelm",
        .bias_keys = { .use_qkv_bias = AT_SET_QKV },
        .layer_norm = true,
        .activation = "silu",
        .eps_key = "layer_norm_eps",
        .defaults = { .rope_theta = 10000, .partial = 0.25, .eps = 1e-5, .max_positions = 4096 },
    },
};

const struct at_family *at_family_get(size_t i)
{
    return i < AT_COUNT(families) ? &families[i] : NULL;
}

const struct at_family *at_family_find(const char *model_type)
{
    for (size_t i = 0; i < AT_COUNT(families); i++)
        if (strcmp(families[i].name, model_type) == 0)
            return &families[i];
    return NULL;
}

const struct at_family *at_family_find_gguf(const char *architecture, bool windowed)
{
    for (size_t i = 0; i < AT_COUNT(families); i++)
        if (strcmp(families[i].gguf, architecture) == 0 &&
            (!windowed || families[i].windows != AT_WINDOWS_NONE))
            return &families[i];
    return NULL;
}

const char *at_family_names(void)
{
    return "falcon, gemma2, gemma3_text, granite, llama, mistral, olmo2, phi3, qwen2, qwen3, "
           "smollm3, "
           "stablelm";
}

const struct at_family *at_family_variant(const struct at_family *family)
{
    const struct at_family *next = family + 1;

    return next < families + AT_COUNT(families) && strcmp(next->name, family->name) == 0 ? next
                                                                                         : NULL;
}

/* ---- names ---- */

static const struct at_names usual_names[AT_ROLE_COUNT] = {
    [AT_EMBED] = NAME("model.embed_tokens.weight", "token_embd.weight"),
    [AT_FINAL_NORM] = NAME("model.norm.weight", "output_norm.weight"),
    [AT_HEAD] = NAME("lm_head.weight", "output.weight"),
    [AT_ATTN_NORM] = NAME(LAYER "input_layernorm.weight", "blk.%u.attn_norm.weight"),
    [AT_MLP_NORM] = NAME(LAYER "post_attention_layernorm.weight", "blk.%u.ffn_norm.weight"),
    [AT_Q] = LINEAR(LAYER "self_attn.q_proj", "blk.%u.attn_q"),
    [AT_K] = LINEAR(LAYER "self_attn.k_proj", "blk.%u.attn_k"),
    [AT_V] = LINEAR(LAYER "self_attn.v_proj", "blk.%u.attn_v"),
    [AT_O] = LINEAR(LAYER "self_attn.o_proj", "blk.%u.attn_output"),
    [AT_GATE] = LINEAR(LAYER "mlp.gate_proj", "blk.%u.ffn_gate"),
    [AT_UP] = LINEAR(LAYER "mlp.up_proj", "blk.%u.ffn_up"),
    [AT_DOWN] = LINEAR(LAYER "mlp.down_proj", "blk.%u.ffn_down"),
    [AT_Q_BIAS] = NAME(LAYER "self_attn.q_proj.bias", "blk.%u.attn_q.bias"),
    [AT_K_BIAS] = NAME(LAYER "self_attn.k_proj.bias", "blk.%u.attn_k.bias"),
    [AT_V_BIAS] = NAME(LAYER "self_attn.v_proj.bias", "blk.%u.attn_v.bias"),
    [AT_O_BIAS] = NAME(LAYER "self_attn.o_proj.bias", "blk.%u.attn_output.bias"),
    [AT_GATE_BIAS] = NAME(LAYER "mlp.gate_proj.bias", "blk.%u.ffn_gate.bias"),
    [AT_UP_BIAS] = NAME(LAYER "mlp.up_proj.bias", "blk.%u.ffn_up.bias"),
    [AT_DOWN_BIAS] = NAME(LAYER "mlp.down_proj.bias", "blk.%u.ffn_down.bias"),
    [AT_Q_NORM] = NAME(LAYER "self_attn.q_norm.weight", "blk.%u.attn_q_norm.weight"),
    [AT_K_NORM] = NAME(LAYER "self_attn.k_norm.weight", "blk.%u.attn_k_norm.weight"),
    [AT_ATTN_POST_NORM] =
        NAME(LAYER "post_attention_layernorm.weight", "blk.%u.post_attention_norm.weight"),
    [AT_MLP_POST_NORM] =
        NAME(LAYER "post_feedforward_layernorm.weight", "blk.%u.post_ffw_norm.weight"),
    [AT_FINAL_NORM_BIAS] = NAME("model.norm.bias", "output_norm.bias"),
    [AT_ATTN_NORM_BIAS] = NAME(LAYER "input_layernorm.bias", "blk.%u.attn_norm.bias"),
    [AT_MLP_NORM_BIAS] = NAME(LAYER "post_attention_layernorm.bias", "blk.%u.ffn_norm.bias"),
};

static const struct at_names *names_of(const struct at_family *family, enum at_role role)
{
    AT_REQUIRE((uint32_t)role < AT_ROLE_COUNT);
    return family->names && family->names[role].hf ? &family->names[role] : &usual_names[role];
}

const char *at_role_name(const struct at_family *family, enum at_role role)
{
    const char *name = names_of(family, role)->hf;

    return name[0] ? name : NULL;
}

const char *at_role_gguf_name(const struct at_family *family, enum at_role role)
{
    return names_of(family, role)->gguf;
}

bool at_family_saves_embedding(const struct at_family *family)
{
    return strcmp(at_role_name(family, AT_EMBED), usual_names[AT_EMBED].hf) == 0;
}

const char *at_linear_path(const struct at_family *family, uint32_t i)
{
    AT_REQUIRE(i < AT_LINEARS);
    return names_of(family, AT_Q + i)->path;
}

const char *at_linear_name(const struct at_family *family, uint32_t i)
{
    return strrchr(at_linear_path(family, i), '.') + 1;
}

uint32_t at_linear_module(const struct at_family *family, uint32_t i)
{
    const char *path = at_linear_path(family, i);
    uint32_t first = 0;

    while (first < i && !(path && at_linear_path(family, first) &&
                          strcmp(path, at_linear_path(family, first)) == 0))
        first++;
    return first;
}
