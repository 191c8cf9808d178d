/* Inside engine/model only: which tensors of a model are what, and where its lists hold them. */
#ifndef AT_MODEL_PARTS_H
#define AT_MODEL_PARTS_H

#include "model.h"

static inline bool is_matrix(uint32_t role)
{
    return role == AT_EMBED || role == AT_HEAD || (role >= AT_Q && role <= AT_DOWN);
}

static inline bool is_linear(uint32_t role)
{
    return role >= AT_Q && role <= AT_DOWN;
}

static inline bool is_linear_bias(uint32_t role)
{
    return role >= AT_Q_BIAS && role <= AT_DOWN_BIAS;
}

static inline bool is_norm_bias(uint32_t role)
{
    return role >= AT_FINAL_NORM_BIAS && role <= AT_MLP_NORM_BIAS;
}

static inline bool is_bias(uint32_t role)
{
    return is_linear_bias(role) || is_norm_bias(role);
}

static inline size_t place_of(uint32_t role, uint32_t layer)
{
    return (size_t)layer * AT_ROLE_COUNT + role;
}

static inline struct at_param *param_of(const struct at_model *model, uint32_t role, uint32_t layer)
{
    if (role == AT_HEAD && model->config.tied)
        role = AT_EMBED;
    return model->params[place_of(role, layer)];
}

/* Whether safetensors hold this tensor, a norm's weight, less 1. */
static inline bool is_offset(const struct at_model *model, uint32_t role)
{
    return model->config.family->norm_offset && !is_matrix(role) && !is_bias(role);
}

#endif
