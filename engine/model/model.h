/* A decoder-only language model: sizes, frozen weights on the device, or trainable ones in a
 * parameter arena (full fine-tuning). */
#ifndef AT_MODEL_H
#define AT_MODEL_H

#include "linear.h"
#include "params.h"
#include "rope.h"
#include "saved.h"
#include "value_head.h"
#include "weights.h"

enum { AT_MAX_LAYERS = 4096 };
struct at_model_config {
    const struct at_family *family;
    uint32_t C, H, G, D, F, V, L;
    uint32_t max_positions;
    struct at_rope rope, local_rope; /* local: of layers with a window, with family->local_rope */
    uint32_t window;                 /* a key is read from less than this many positions away */
    uint64_t windowed[AT_MAX_LAYERS / 64], unturned[AT_MAX_LAYERS / 64]; /* bits of layers */
    float attention_scale;
    float attention_cap, final_cap; /* cap * tanh(score / cap); 0: none */
    float embed_scale;              /* 1: none */
    float residual_scale;           /* of what attention and MLP add to the residual; 1: none */
    float logit_scale;              /* 1: none */
    uint32_t rotary;                /* values of a head that are turned, the first of it */
    float norm_eps;
    bool tied;                /* head = embedding */
    uint32_t biases;          /* bit i: linear i has one */
    bool value_head;          /* a reward model: one output in place of the language-model head */
    double init_std;          /* of a head that starts at random (initializer_range) */
    double attention_dropout; /* that transformers trains with; it is not computed */
};
/* From config.json or GGUF metadata. Unknown families, rope kinds, activations and every flag that
 * this build does not compute are AT_DATA, by name. */
AT_CHECKED at_model_config_read(struct at_model_config *out, const struct at_weights *weights);
AT_CHECKED at_model_config_from_json(struct at_model_config *out, const cJSON *config,
                                     const char *name);
AT_CHECKED at_model_config_from_gguf(struct at_model_config *out, const struct at_weights *weights);
/* Sizes within what products of two of them and the kernels allow. name: for messages. */
AT_CHECKED at_model_config_check(const struct at_model_config *config, const char *name);
/* at_halves_choose() for the shapes of this model's layers. */
AT_CHECKED at_model_choose_halves(const struct at_model_config *config, struct at_gpu *gpu);
/* The bits of layers as the family has them where nothing is said: with a window every pattern-th
 * layer but, or those from `from` on; without rotation every `unturned`-th (0: none). */
void at_layers_default(struct at_model_config *out, uint32_t pattern, uint32_t from,
                       uint32_t unturned);
/* Window of layer l, 0: none; whether its queries and keys are turned. */
uint32_t at_layer_window(const struct at_model_config *config, uint32_t layer);
bool at_layer_turns(const struct at_model_config *config, uint32_t layer);
/* Inputs and outputs of linear i, and those of the module that it is a part of. */
void at_linear_shape(const struct at_model_config *config, uint32_t i, uint32_t *in, uint32_t *out);
void at_module_shape(const struct at_model_config *config, uint32_t i, uint32_t *in, uint32_t *out);
/* Weights of a layer's linear layers: what each of its tokens is multiplied with; and of those
 * behind attention, which in the last layer of a slab multiply its sources alone. */
double at_layer_weights(const struct at_model_config *config);
double at_layer_weights_behind(const struct at_model_config *config);
/* Row of that module that is row `row` of linear i: in PEFT files and safetensors, or in GGUF. */
uint64_t at_module_row(const struct at_model_config *config, uint32_t i, uint64_t row, bool gguf);
/* Sequences of more tokens than this have other rotary angles, whose table follows that of the
 * n_positions; 0: none of n_positions tokens has. */
uint32_t at_model_long_from(const struct at_model_config *config, uint32_t n_positions);
/* Whether those of each length have angles of their own: at_model_turn() writes them. */
bool at_model_long_each(const struct at_model_config *config);
/* Positions that the model is made for; 0: any number of them. */
uint32_t at_model_made_for(const struct at_model_config *config);

/* Row of a role's tensor in a file that is row `row` of the role: that of its module, and in GGUF
 * files of a family with gguf_permutes_qk the place that q and k have there. */
uint64_t at_file_row(const struct at_model_config *config, uint32_t role, uint64_t row, bool gguf);

struct at_layer {
    struct at_weight linear[AT_LINEARS];
    struct at_view bias[AT_LINEARS];              /* (f32); no buffer when absent */
    struct at_view attn_norm, mlp_norm;           /* (C) */
    struct at_view attn_norm_bias, mlp_norm_bias; /* (C); no buffer when absent */
    struct at_view q_norm, k_norm;                /* (D), or of rows; no buffer when absent */
    struct at_view attn_post_norm, mlp_post_norm; /* (C); no buffer when absent */
};
/* Gradients of a layer under full fine-tuning; tensors without buffer are frozen. */
struct at_layer_grads {
    struct at_tensor linear[AT_LINEARS];
    struct at_view bias[AT_LINEARS], attn_norm, mlp_norm, q_norm, k_norm, attn_post_norm,
        mlp_post_norm;
    struct at_view attn_norm_bias, mlp_norm_bias;
};
struct at_model {
    struct at_model_config config;
    struct at_layer *layers;                    /* (L) */
    struct at_weight head;                      /* (V, C); nothing with a value head */
    struct at_view final_norm, final_norm_bias; /* (C); the bias has no buffer when absent */
    struct at_tensor rope;       /* (positions, rotary) table, twice with at_model_long_from() */
    struct at_tensor local_rope; /* the same of layers with a window, with family->local_rope */
    uint32_t n_positions;
    /* frozen embedding: gathered on the host from the file, raw rows */
    struct at_weights *weights; /* borrowed; NULL when initialised at random */
    const struct at_source *embedding;
    struct at_value_head value; /* with config.value_head */
    struct at_saved_module saved[AT_SAVED_COUNT];
    struct at_weight trained_head; /* (V, C) beside the frozen one; no rows: it is not trained */
    /* full fine-tuning, and modules that are trained in full beside an adapter */
    bool trainable;                  /* full fine-tuning */
    struct at_tensor embed, d_embed; /* (V, C) */
    struct at_tensor d_head;         /* (V, C); d_embed's memory when tied and trainable */
    struct at_view d_final_norm, d_final_norm_bias;
    struct at_layer_grads *grads; /* (L) */
    /* of role r in layer l at l * AT_ROLE_COUNT + r (layer 0 for those that exist once), or NULL */
    const struct at_source **sources;
    struct at_param **params;
    struct at_arena arena;
};

/* Plans the model's memory: into `frozen` pool, or with `params` not NULL into that arena, as f32.
 * Checks that every tensor exists with the right shape and that none is left over (names them).
 * saved: NULL, or AT_SAVED_COUNT tensors of the right shape that take the place of the base's
 * where they are not NULL, of files that stay open (params NULL). */
AT_CHECKED at_model_plan(struct at_model *out, const struct at_model_config *config,
                         struct at_weights *weights, struct at_pool *frozen,
                         struct at_params *params, uint32_t n_positions,
                         const struct at_source *const *saved);
/* Modules that train in full beside an adapter: adds them to the parameters of a model that is
 * frozen otherwise. They have values from at_decoder_start_saved() on. */
AT_CHECKED at_model_plan_saved(struct at_model *model, struct at_params *params,
                               const bool trains[AT_SAVED_COUNT]);
/* Whether the embedding's gradient is wanted; the head's. */
bool at_model_trains_embedding(const struct at_model *model);
bool at_model_trains_head(const struct at_model *model);
/* With config.value_head, whose head is a trainable parameter whatever the rest is: from `source`,
 * an adapter's, or NULL: the model's own or random. */
AT_CHECKED at_model_plan_value(struct at_model *model, struct at_params *params,
                               const struct at_source *source);
/* After commit (and at_params_bind() under full fine-tuning, whose tensors are filled in here;
 * types and shapes are right from plan on): uploads weights and the rope table. With weights NULL
 * (random start) draws N(0, 0.02) by `seed` for matrices, ones for norms, zeros for biases (params
 * only). */
AT_CHECKED at_model_upload(struct at_model *model, struct at_gpu *gpu, uint64_t seed);
/* Called by at_model_upload() after each layer and at the end: `done` of n parts are uploaded. The
 * last call, which a failing upload does not make, has done = n. NULL: nothing is called. */
typedef void at_loading_sink(uint32_t done, uint32_t n);
void at_model_set_loading_sink(at_loading_sink *sink);
/* Records the upload of rotary rows [begin, begin + n): positions 0 to n - 1 of a sequence of
 * `length` tokens; 0: of position p those of p + 1 tokens, as the table starts. */
void at_model_turn(struct at_stream *s, const struct at_model *model, uint32_t begin, uint32_t n,
                   uint32_t length);
/* A reward model over the weights of `of`, which is frozen and must stay: the same but for its
 * head, which is `out`'s own (at_model_plan_value()). Once to plan, and again when `of` was
 * committed. */
void at_model_share(struct at_model *out, const struct at_model *of);
void at_model_release(struct at_model *model);

/* Raw embedding rows of T ids for upload into an at_weight of the embedding's type with T rows. */
void at_model_embed_rows(uint8_t *plane0, uint8_t *plane1, const struct at_model *model,
                         const int32_t *ids, uint32_t T);
/* Full fine-tuning: writes model.safetensors (at_role_name() names, F32; a tied head is left out)
 * and config.json with the given text into `dir` (created). A non-finite value is AT_NUMERIC. */
AT_CHECKED at_model_save(const char *dir, struct at_gpu *gpu, const struct at_model *model,
                         const char *config_json_text);

#endif
