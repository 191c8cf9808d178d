/* Architecture as data: a family is a row of flags and tensor names over one decoder. */
#ifndef AT_FAMILY_H
#define AT_FAMILY_H

#include "status.h"

/* The tensors of a decoder. Those from AT_ATTN_NORM on exist once a layer. */
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
    AT_ROLE_COUNT
};
/* Linear layers of a decoder layer, as indices from 0: role AT_Q + i. */
enum { AT_LINEARS = AT_DOWN - AT_Q + 1 };

struct at_family {
    const char *name;      /* model_type of config.json */
    const char *gguf;      /* general.architecture */
    bool qkv_bias;         /* biases on q, k, v, unless the config says otherwise */
    bool gguf_permutes_qk; /* GGUF holds q and k rows in the interleaved rotary order */
};
const struct at_family *at_family_find(const char *model_type); /* or NULL */
const struct at_family *at_family_find_gguf(const char *architecture);
/* "llama, qwen2": for messages. */
const char *at_family_names(void);

/* Names of a role's tensor, with "%u" for the layer: Hugging Face's and GGUF's. */
const char *at_role_name(enum at_role role);
const char *at_role_gguf_name(enum at_role role);
/* PEFT's module name of linear i: "q_proj", ..., and its path "model.layers.%u.self_attn.q_proj".
 */
const char *at_linear_name(uint32_t i);
const char *at_linear_path(uint32_t i);

#endif
