/* Architecture as data: a family is a row of flags and tensor names over one decoder. */
#ifndef AT_FAMILY_H
#define AT_FAMILY_H

#include "mem.h"
#include "status.h"

/* The tensors of a decoder. Those from AT_ATTN_NORM on exist once a layer, but for
 * AT_FINAL_NORM_BIAS. */
enum at_role {
    AT_EMBED,
    AT_FINAL_NORM,
    AT_HEAD,
    AT_ATTN_NORM,
    AT_MLP_NORM,
    AT_Q,
    AT_K,
    AT_V,
    AT_O,
    AT_GATE,
    AT_UP,
    AT_DOWN,
    AT_Q_BIAS,
    AT_K_BIAS,
    AT_V_BIAS,
    AT_O_BIAS,
    AT_GATE_BIAS,
    AT_UP_BIAS,
    AT_DOWN_BIAS,
    AT_Q_NORM,
    AT_K_NORM,
    AT_ATTN_POST_NORM,
    AT_MLP_POST_NORM,
    AT_FINAL_NORM_BIAS, /* once; those of LayerNorm */
    AT_ATTN_NORM_BIAS,
    AT_MLP_NORM_BIAS,
    AT_ROLE_COUNT
};
/* Linear layers of a decoder layer, as indices from 0: role AT_Q + i, its bias AT_Q_BIAS + i. Sets
 * of them have bit i. */
enum { AT_LINEARS = AT_DOWN - AT_Q + 1, AT_SET_QKV = 7, AT_SET_ATTENTION = 15, AT_SET_MLP = 112 };

/* Which layers see a window of keys alone where the configuration has a window. */
enum at_windows {
    AT_WINDOWS_NONE, /* a window is refused */
    AT_WINDOWS_ALL,
    AT_WINDOWS_SWITCHED,  /* with use_sliding_window: layer_types, or from max_window_layers on */
    AT_WINDOWS_ALTERNATE, /* layer_types, or all but every n-th layer, n = window_pattern */
};

/* A role's names: Hugging Face's and GGUF's with "%u" for the layer; of a linear layer PEFT's path
 * of its module, too. Linear layers with one path are row ranges of one fused matrix. */
struct at_names {
    const char *hf, *gguf, *path;
};

struct at_family {
    const char *name; /* model_type of config.json */
    const char *gguf; /* general.architecture */
    uint32_t biases;  /* linears with a bias, whatever the configuration says */
    struct {          /* those that have one where its key is true */
        uint32_t attention_bias, mlp_bias, use_qkv_bias;
    } bias_keys;
    bool gguf_permutes_qk; /* GGUF holds q and k rows in the interleaved rotary order */
    bool gguf_ties;        /* llama.cpp reads no head beside the embedding */
    bool qk_norm;          /* RMSNorm of each head of q and k, before they are turned */
    bool qk_norm_wide;     /* with qk_norm: of the whole row instead */
    bool layer_norm;       /* LayerNorm with a bias; else RMSNorm */
    bool no_pre_norms;     /* attention and MLP read the residual as it is */
    bool parallel;         /* attention and MLP both read the layer's input */
    bool one_norm;         /* with parallel: the same norm of it */
    bool qkv_by_group;     /* fused rows: of each kv head its queries, its key, its value */
    bool norm_offset;      /* safetensors hold norm weights less 1 */
    bool post_norms;       /* RMSNorm of what attention and MLP add to the residual */
    bool embed_scaled;     /* embeddings times sqrt(C) */
    bool gelu;             /* gate: GELU by tanh; else SiLU */
    bool ungated;          /* MLP: GELU by erf of one matrix, no gate */
    bool multipliers;      /* of embeddings, scores, what is added to the residual, and logits */
    bool long_restarts;    /* a sequence that becomes long while it is written is computed again */
    bool local_rope; /* layers with a window have their own rope_theta, rope_local_base_freq */
    enum at_windows windows;
    uint32_t window_pattern;
    uint32_t no_rope_interval; /* every n-th layer turns nothing; 0: none */
    const char *activation;    /* hidden_act, hidden_activation: the one value that is computed */
    const char *peft_targets;  /* what PEFT adapts where nothing is named; NULL: PEFT refuses */
    const char *eps_key;       /* of the norms' epsilon; NULL: rms_norm_eps */
    const struct at_names
        *names; /* AT_ROLE_COUNT that differ from Llama's, where .hf is not NULL */
    /* what transformers assumes where config.json is silent */
    struct at_family_defaults {
        double rope_theta, partial; /* partial: share of a head that is turned; 0: all of it */
        double eps;                 /* 0: 1e-6 */
        uint32_t head_width;        /* 0: hidden size / heads */
        uint32_t max_positions, window;
        double attention_cap, final_cap, query_scalar; /* 0: none; query_scalar: head width */
        bool tied;
    } defaults;
};
const struct at_family *at_family_find(const char *model_type); /* or NULL */
/* By general.architecture, which llama and mistral share: windowed asks for one with windows. */
const struct at_family *at_family_find_gguf(const char *architecture, bool windowed);
/* "llama, qwen2": for messages. */
const char *at_family_names(void);
/* Family i, or NULL behind the last one. */
const struct at_family *at_family_get(size_t i);
/* Appends to a sentence which known family a model that is not known is nearest to, by its name or
 * by the keys of its configuration (GGUF's without the architecture), and which of the keys no
 * known family has; nothing where nothing is known about it. Returns that family, or NULL. */
const struct at_family *at_family_describe(struct at_buf *out, const char *name,
                                           const char *const *keys, size_t n);
/* Appends which of the tensors, of the first layer and outside of layers, the family has not. */
void at_family_describe_tensors(struct at_buf *out, const struct at_family *family,
                                const char *const *tensors, size_t n, bool gguf);

/* Another row of the same name, or NULL: some models of the family differ in flags and names. */
const struct at_family *at_family_variant(const struct at_family *family);

/* Names of a role's tensor, with "%u" for the layer: Hugging Face's and GGUF's. NULL: the family
 * has no such tensor, whatever the configuration says. */
const char *at_role_name(const struct at_family *family, enum at_role role);
const char *at_role_gguf_name(const struct at_family *family, enum at_role role);
/* Whether the embedding has the name, embed_tokens, that adapters' files save it under. */
bool at_family_saves_embedding(const struct at_family *family);
/* PEFT's module name of linear i: "q_proj", "qkv_proj", ..., and its path,
 * "model.layers.%u.self_attn.q_proj". NULL: there is no such linear. */
const char *at_linear_name(const struct at_family *family, uint32_t i);
const char *at_linear_path(const struct at_family *family, uint32_t i);
/* The first linear of the module that i is a part of: i where nothing is fused. */
uint32_t at_linear_module(const struct at_family *family, uint32_t i);

#endif
