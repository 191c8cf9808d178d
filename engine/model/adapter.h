/* LoRA adapters over a model: a stack of frozen ones and at most one trainable one with a reference
 * slot (DESIGN.md 1.7), and their PEFT files (adapter_model.safetensors, adapter_config.json). */
#ifndef AT_ADAPTER_H
#define AT_ADAPTER_H

#include "model.h"

struct at_adapter_params {
    uint32_t r;
    double alpha;
    bool rslora;
    const char *target_modules; /* "all-linear", a regular expression, or a comma list of names */
    const double *layers;       /* n_layers indices: adapters in these layers alone; 0: in all */
    size_t n_layers;
    /* JSON objects of patterns and numbers, or NULL: other r and alpha for modules that match */
    const char *rank_pattern, *alpha_pattern;
    bool gaussian; /* how A starts */
    bool dora;     /* magnitudes of the rows, which start as their norms (ops/dora.h) */
    bool saved[AT_SAVED_COUNT]; /* modules that train in full */
    uint64_t seed;
};
/* Arrays have an entry for each linear layer; a fused module is its first linear's. The others of
 * it share that one's A and have B and magnitudes of their own rows. */
struct at_adapter {
    uint32_t r;                     /* rank of targeted modules that no pattern names */
    uint32_t max_rank;              /* of any module */
    const struct at_family *family; /* of the model */
    size_t n_modules;               /* L * AT_LINEARS */
    uint32_t *module;               /* (L * AT_LINEARS) index of the module's first linear */
    double alpha;                   /* of modules that no pattern names */
    double *alphas;                 /* (L * AT_LINEARS) */
    bool rslora, trainable, dora;
    bool zero;                     /* it changed nothing when it was made or loaded: every B is 0 */
    bool gaussian;                 /* how A started, for the file's init_lora_weights */
    struct at_lora *lora;          /* (L * AT_LINEARS); A.view.buffer NULL: not targeted */
    uint32_t *rank;                /* (L * AT_LINEARS), 0: not targeted; known from plan on */
    struct at_param **A, **B, **m; /* trainable: (L * AT_LINEARS) or NULL entries */
    struct at_lora
        *reference; /* step-0 copy (no gradients), or NULL: skipped in the reference pass */
    struct at_weights *file;       /* what it is loaded from, owned; NULL: fresh */
    const struct at_source *score; /* of a reward model's file: where its value head starts */
    /* tensors of the file that take the base's place: at_model_plan(), which must have them, or
     * NULL; and modules that train in full: at_model_plan_saved() */
    const struct at_source *saved[AT_SAVED_COUNT];
    bool trains_saved[AT_SAVED_COUNT];
    struct at_arena arena;
};
/* A fresh adapter: A ~ U(-1/sqrt(in), 1/sqrt(in)) by Philox (PEFT's kaiming_uniform(a=sqrt 5)), or
 * normal with deviation 1 / rank (PEFT's gaussian); B = 0. Ranks and alphas as at_adapter_layout()
 * says. */
AT_CHECKED at_adapter_plan_fresh(struct at_adapter *out, const struct at_model_config *model,
                                 const struct at_adapter_params *params, struct at_params *arena);
/* AT_NOT_FOUND, with what to do, where there is no folder, or it has no adapter (a whole model,
 * say); for what would look at other files of an adapter before it is loaded. */
AT_CHECKED at_adapter_check_folder(const char *dir);
/* Warns ("other_base") when run.json in an adapter's folder records other weights of the base than
 * these, which would load without a word where their shapes agree. Reads all of `weights` once
 * where it records any; weights of a header alone are not compared. */
AT_CHECKED at_adapter_check_base(const char *dir, struct at_weights *weights);
/* An adapter from a PEFT folder, which is checked so. trainable: into `arena` with a reference copy
 * in `frozen`; otherwise everything into `frozen` (NULL: it stays in its file). The copy is left
 * out where B is zero. Wrong rank, shape, missing partner, unknown or left-over tensors, biases,
 * modules_to_save beyond head and embedding: AT_DATA before anything is written, and so are a
 * reward model's adapter without model->value_head, and with it a trainable one of a language
 * model. Warns ("adapter_gap") when the file lacks modules that its target_modules select. */
AT_CHECKED at_adapter_plan_load(struct at_adapter *out, const struct at_model_config *model,
                                const char *dir, struct at_params *arena, struct at_pool *frozen);
/* Values of A, B or, of part 'm', the magnitudes of module k, which a loaded adapter has (rank[k]
 * not 0), as its file has them: (rank, inputs), (outputs, rank), (outputs). A fused module is
 * AT_DATA. */
AT_CHECKED at_adapter_read_file(float *out, const struct at_adapter *adapter, uint32_t k,
                                char part);
/* The same of the module that k is the first linear of, with the rows of all its linears. */
AT_CHECKED at_adapter_read_module(float *out, const struct at_adapter *adapter, uint32_t k,
                                  char part);
/* Plans a reference copy for a trainable adapter that has none, as its reference will change. */
AT_CHECKED at_adapter_plan_reference(struct at_adapter *adapter,
                                     const struct at_model_config *model, struct at_pool *frozen);
/* AT_USAGE when these cannot be computed and written as one: DoRA is alone. */
AT_CHECKED at_adapter_check_stack(const struct at_adapter *const *stack, size_t n);
/* AT_USAGE when adapter i of a stack has what no other scale than 1 is defined for. */
AT_CHECKED at_adapter_check_scale(const struct at_adapter *adapter, size_t i, double scale);
/* Its modules act `factor` times as strongly as their rank and alpha say. */
AT_CHECKED at_adapter_set_scale(struct at_adapter *adapter, double factor);
/* Tensors that a stack's adapters put in the base's place: of several the topmost one's; what none
 * has stays as it was. */
void at_adapter_top(const struct at_source *saved[AT_SAVED_COUNT], const struct at_source **score,
                    const struct at_adapter *const *stack, size_t n);
/* selected[L * AT_LINEARS]: modules that target_modules selects, by PEFT's rules. Nothing selected,
 * a name that selects nothing, the head or the embedding: AT_USAGE. */
AT_CHECKED at_adapter_select(bool *selected, const struct at_model_config *c,
                             const char *target_modules);
/* rank[L * AT_LINEARS] (0: no adapter) and alpha[L * AT_LINEARS] of a fresh adapter: target
 * modules, layers and patterns by PEFT's rules (patterns: the first key in the object's order that
 * matches a path, or its tail behind a dot). What selects nothing, a number out of range: AT_USAGE.
 */
AT_CHECKED at_adapter_layout(uint32_t *rank, double *alpha, const struct at_model_config *c,
                             const struct at_adapter_params *params);
/* After commit and at_params_bind(): writes the values, but for the magnitudes of a fresh DoRA and
 * all norms, which at_decoder_start() computes. */
AT_CHECKED at_adapter_upload(struct at_adapter *adapter, const struct at_model_config *model,
                             struct at_gpu *gpu, uint64_t seed);
void at_adapter_release(struct at_adapter *adapter);

/* What is written: the stack as one adapter, concatenated along the rank with scales folded in so
 * that it reproduces the policy on the bare base. One adapter alone is written as it is.
 * target_modules of the file are those that the adapters hold: names, or full paths when layers
 * differ; so are the keys of its patterns. Without a device (gpu NULL) the values are those of the
 * adapters' files, and head and embedding are the topmost adapter's. */
struct at_adapter_record {
    const char *base_model; /* base_model_name_or_path */
    const char *revision;   /* of it on the hub; NULL: none is named */
    double dropout;
    const struct at_value_head *value;   /* is written with the adapter; NULL: there is none */
    const struct at_saved_module *saved; /* AT_SAVED_COUNT of the model; NULL: none are written */
};
AT_CHECKED at_adapter_save(const char *dir, struct at_gpu *gpu, const struct at_model_config *model,
                           const struct at_adapter *const *stack, size_t n,
                           const struct at_adapter_record *record);
/* The reference copy, which must be there, becomes (1 - alpha) of itself and alpha of the adapter,
 * value by value: TR-DPO (Gorbatovski et al. 2024, arXiv 2404.09656, eq. 6) on A and B. */
void at_adapter_mix_reference(struct at_stream *s, const struct at_adapter *adapter, float alpha);
/* Its values in a row, for checkpoints; 0 without a copy. */
uint64_t at_adapter_reference_bytes(const struct at_adapter *adapter);
AT_CHECKED at_adapter_reference_read(struct at_gpu *gpu, const struct at_adapter *adapter,
                                     float *values);
AT_CHECKED at_adapter_reference_write(struct at_gpu *gpu, const struct at_adapter *adapter,
                                      const float *values);
/* Names of lora_B tensors that are as they were at the start, or not finite, after an update; ""
 * when all are fine. */
AT_CHECKED at_adapter_check_moved(struct at_buf *out, struct at_gpu *gpu,
                                  const struct at_adapter *adapter);

#endif
