#include "family.h"

#include <string.h>

static const struct at_family families[] = {
    { .name = "llama", .gguf = "llama", .gguf_permutes_qk = true },
    { .name = "qwen2", .gguf = "qwen2", .qkv_bias = true },
};

const struct at_family *at_family_find(const char *model_type)
{
    for (size_t i = 0; i < AT_COUNT(families); i++)
        if (strcmp(families[i].name, model_type) == 0)
            return &families[i];
    return NULL;
}

const struct at_family *at_family_find_gguf(const char *architecture)
{
    for (size_t i = 0; i < AT_COUNT(families); i++)
        if (strcmp(families[i].gguf, architecture) == 0)
            return &families[i];
    return NULL;
}

const char *at_family_names(void)
{
    return "llama, qwen2";
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
};

const char *at_role_name(enum at_role role)
{
    AT_REQUIRE((uint32_t)role < AT_ROLE_COUNT);
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
