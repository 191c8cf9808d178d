/* Trainable parameters: named tensors in flat f32 arenas p (values), g (gradients), m, v (moments).
 */
#ifndef AT_PARAMS_H
#define AT_PARAMS_H

#include "optimizer.h"
#include "tensor.h"

/* What the optimizer does alike. */
enum at_param_group {
    AT_PARAM_VECTOR, /* norms and biases */
    AT_PARAM_MATRIX, /* lora_A too */
    AT_PARAM_LORA_B,
    AT_PARAM_GROUPS
};
struct at_param_rates {
    float weight_decay, rate; /* rate: factor of the learning rate */
};
struct at_param {
    const char *name; /* file name of the tensor, in the arena of at_params */
    struct at_tensor p, g;
    uint32_t rows, cols;
    enum at_param_group group;
    /* where it lies: part and byte offset within it */
    uint32_t part;
    uint64_t offset;
};
enum { AT_MAX_PARAMS_PARTS = 4096 };
struct at_params {
    struct at_arena arena;
    struct at_param **items; /* pointers are stable */
    size_t n, capacity;
    struct at_arena_part *parts; /* after plan: matrices first */
    size_t n_parts;
    struct at_view *views;        /* 4 a part: p, g, m, v */
    struct at_view norm, scratch; /* at_grad_norm */
    uint64_t part_bytes;          /* largest part */
    uint64_t changes;             /* at_params_step() and at_params_write() so far */
};
/* `part_bytes`: largest binding to use (device limit). */
AT_CHECKED at_params_init(struct at_params *params, uint64_t part_bytes);
/* Adds a (rows, cols) tensor; *out is stable, its tensors are valid after at_params_bind(). */
AT_CHECKED at_params_add(struct at_params *params, struct at_param **out, const char *name,
                         uint32_t rows, uint32_t cols, enum at_param_group group);
/* Lays out the parts (matrices, lora_B among them unless its rates are others, then vectors) and
 * plans them in `state`. `rates` NULL: one learning rate, no decay. */
AT_CHECKED at_params_plan(struct at_params *params, struct at_pool *state,
                          const struct at_param_rates rates[AT_PARAM_GROUPS]);
/* After the pool's commit: fills in the tensors of all items. */
void at_params_bind(struct at_params *params);
void at_params_release(struct at_params *params);
/* Number of trainable values. */
uint64_t at_params_count(const struct at_params *params);

/* One optimizer step over all parts: norm, clip, AdamW, gradients zeroed. norm_out (8 floats) is
 * downloaded with the stream. */
void at_params_step(struct at_stream *s, struct at_params *params, const struct at_adamw *adamw,
                    float max_norm, float *norm_out);
/* Gradients and moments are what they were when the pool was committed: 0. */
AT_CHECKED at_params_restart(struct at_gpu *gpu, struct at_params *params);
/* p, m and v of all parts, for checkpoints: host arrays of at_params_bytes() each; blocking. */
uint64_t at_params_bytes(const struct at_params *params);
AT_CHECKED at_params_read(struct at_gpu *gpu, const struct at_params *params, float *p, float *m,
                          float *v);
AT_CHECKED at_params_write(struct at_gpu *gpu, struct at_params *params, const float *p,
                           const float *m, const float *v);

#endif
