#include "family.h"

#include <string.h>

static const struct at_family families[] = {
    {
        .name = "gemma2",
        .gguf = "gemma2",
        .norm_offset = true,
        .post_norms = true,
        .embed_scaled = true,
        .gelu = true,
        .windows = AT_WINDOWS_ALTERNATE,
        .window_pattern = 2,
        .activation = "gelu_pytorch_tanh",
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
        .gguf = "gemma3",
        .qk_norm = true,
        .norm_offset = true,
        .post_norms = true,
        .embed_scaled = true,
        .gelu = true,
        .local_rope = true,
        .windows = AT_WINDOWS_ALTERNATE,
        .window_pattern = 6,
        .activation = "gelu_pytorch_tanh",
        .defaults = { .rope_theta = 1e6,
                      .head_width = 256,
                      .max_positions = 131072,
                      .window = 4096,
                      .query_scalar = 256,
                      .tied = true },
    },
    {
        .name = "llama",
        .gguf = "llama",
        .gguf_permutes_qk = true,
        .activation = "silu",
        .defaults = { .rope_theta = 10000, .max_positions = 2048 },
    },
    {
        .name = "mistral",
        .gguf = "llama",
        .gguf_permutes_qk = true,
        .windows = AT_WINDOWS_ALL,
        .activation = "silu",
        .defaults = { .rope_theta = 10000, .max_positions = 131072, .window = 4096 },
    },
    {
        .name = "qwen2",
        .gguf = "qwen2",
        .qkv_bias = true,
        .windows = AT_WINDOWS_SWITCHED,
        .activation = "silu",
        .defaults = { .rope_theta = 10000, .max_positions = 32768, .window = 4096 },
    },
    {
        .name = "qwen3",
        .gguf = "qwen3",
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
        .gguf_permutes_qk = true,
        .windows = AT_WINDOWS_SWITCHED,
        .no_rope_interval = 4,
        .activation = "silu",
        .defaults = { .rope_theta = 2e6, .max_positions = 32768, .tied = true },
    },
};

/* Families that are not computed, by the beginning of their names, the longest first: the nearest
 * known one and what differs. */
static const struct {
    const char *begin, *nearest;
} others[] = {
    { "deepseek", "llama, from which it differs by latent attention and a mixture of experts" },
    { "falcon", "llama, from which it differs by LayerNorm, a parallel block, a fused "
                "query_key_value and an MLP without gate" },
    { "gemma3n", "gemma3_text, from which it differs by per-layer embeddings and AltUp" },
    { "gemma3", "gemma3_text: save its language model alone, without the image tower" },
    { "gemma", "gemma2, from which it differs by the absence of norms behind attention and MLP" },
    { "granitemoe", "llama, from which it differs by multipliers and a mixture of experts" },
    { "granite", "llama, from which it differs by multipliers of embeddings, attention, residuals "
                 "and logits" },
    { "gpt_oss", "llama, from which it differs by attention sinks and a mixture of experts" },
    { "llama4", "llama, from which it differs by chunked attention and a mixture of experts" },
    { "mistral3", "mistral: save its language model alone, without the image tower" },
    { "mixtral", "mistral, from which it differs by a mixture of experts" },
    { "olmo2", "llama, from which it differs by norms behind attention and MLP alone and norms of "
               "whole rows of q and k" },
    { "phimoe", "llama, from which it differs by a mixture of experts and LayerNorm" },
    { "phi3", "llama, from which it differs by fused qkv_proj and gate_up_proj, a partial rotary "
              "embedding and longrope" },
    { "qwen2_moe", "qwen2, from which it differs by a mixture of experts" },
    { "qwen2moe", "qwen2, from which it differs by a mixture of experts" },
    { "qwen3_moe", "qwen3, from which it differs by a mixture of experts" },
    { "qwen3moe", "qwen3, from which it differs by a mixture of experts" },
    { "stablelm", "llama, from which it differs by LayerNorm and a partial rotary embedding" },
};

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
    return "gemma2, gemma3_text, llama, mistral, qwen2, qwen3, smollm3";
}

const char *at_family_nearest(const char *model_type)
{
    for (size_t i = 0; i < AT_COUNT(others); i++)
        if (strncmp(model_type, others[i].begin, strlen(others[i].begin)) == 0)
            return others[i].nearest;
    return "";
}

static const struct {
    const char *hf, *gguf;
} names[AT_ROLE_COUNT] = {
    [AT_EMBED] = { "model.embed_tokens.weight", "token_embd.weight" },
    [AT_FINAL_NORM] = { "model.norm.weight", "output_norm.weight" },
    [AT_HEAD] = { "lm_head.weight", "output.weight" },
    [AT_ATTN_NORM] = { "model.layers.%u.input_layernorm.weight", "blk.%u.attn_norm.weight" },
    [AT_MLP_NORM] = { "model.layers.%u.post_attention_layernorm.weight", "blk.%u.ffn_norm.weight" },
    [AT_Q] = { "model.layers.%u.self_attn.q_proj.weight", "blk.%u.attn_q.weight" },
    [AT_K] = { "model.layers.%u.self_attn.k_proj.weight", "blk.%u.attn_k.weight" },
    [AT_V] = { "model.layers.%u.self_attn.v_proj.weight", "blk.%u.attn_v.weight" },
    [AT_O] = { "model.layers.%u.self_attn.o_proj.weight", "blk.%u.attn_output.weight" },
    [AT_GATE] = { "model.layers.%u.mlp.gate_proj.weight", "blk.%u.ffn_gate.weight" },
    [AT_UP] = { "model.layers.%u.mlp.up_proj.weight", "blk.%u.ffn_up.weight" },
    [AT_DOWN] = { "model.layers.%u.mlp.down_proj.weight", "blk.%u.ffn_down.weight" },
    [AT_Q_BIAS] = { "model.layers.%u.self_attn.q_proj.bias", "blk.%u.attn_q.bias" },
    [AT_K_BIAS] = { "model.layers.%u.self_attn.k_proj.bias", "blk.%u.attn_k.bias" },
    [AT_V_BIAS] = { "model.layers.%u.self_attn.v_proj.bias", "blk.%u.attn_v.bias" },
    [AT_Q_NORM] = { "model.layers.%u.self_attn.q_norm.weight", "blk.%u.attn_q_norm.weight" },
    [AT_K_NORM] = { "model.layers.%u.self_attn.k_norm.weight", "blk.%u.attn_k_norm.weight" },
    [AT_ATTN_POST_NORM] = { "model.layers.%u.post_attention_layernorm.weight",
                            "blk.%u.post_attention_norm.weight" },
    [AT_MLP_POST_NORM] = { "model.layers.%u.post_feedforward_layernorm.weight",
                           "blk.%u.post_ffw_norm.weight" },
};

/* With post-norms the name of the norm before the MLP is that of the one behind attention. */
const char *at_role_name(const struct at_family *family, enum at_role role)
{
    AT_REQUIRE((uint32_t)role < AT_ROLE_COUNT);
    if (role == AT_MLP_NORM && family->post_norms)
        return "model.layers.%u.pre_feedforward_layernorm.weight";
    return names[role].hf;
}

const char *at_role_gguf_name(enum at_role role)
{
    AT_REQUIRE((uint32_t)role < AT_ROLE_COUNT);
    return names[role].gguf;
}

static const char *const linear_paths[AT_LINEARS] = {
    "model.layers.%u.self_attn.q_proj", "model.layers.%u.self_attn.k_proj",
    "model.layers.%u.self_attn.v_proj", "model.layers.%u.self_attn.o_proj",
    "model.layers.%u.mlp.gate_proj",    "model.layers.%u.mlp.up_proj",
    "model.layers.%u.mlp.down_proj",
};

const char *at_linear_name(uint32_t i)
{
    return strrchr(at_linear_path(i), '.') + 1;
}

const char *at_linear_path(uint32_t i)
{
    AT_REQUIRE(i < AT_LINEARS);
    return linear_paths[i];
}
