/* Trained adapters as files of other programs: PEFT folders (stacks as one), llama.cpp's GGUF
 * adapters, and models that they are merged into. A device is needed for the last alone. */
#ifndef AT_EXPORT_H
#define AT_EXPORT_H

#include "adapter.h"

struct at_export_params {
    const char *const *dirs; /* PEFT folders, bottom first */
    size_t n;                /* at least 1 */
    double scale;            /* multiplies every adapter's own; 1 with DoRA and saved modules */
};
/* A stack of adapters of one base, read and checked (AT_DATA, AT_USAGE: what cannot be one). */
struct at_export {
    const struct at_model_config *config; /* borrowed */
    struct at_adapter *adapters;
    const struct at_adapter **stack;
    size_t n;
    struct at_arena arena;
};
AT_CHECKED at_export_open(struct at_export *out, const struct at_model_config *config,
                          const struct at_export_params *params);
void at_export_close(struct at_export *stack);

/* A folder that PEFT loads: adapter_model.safetensors and adapter_config.json, which names
 * `base_model`. */
AT_CHECKED at_export_peft(const struct at_export *stack, const char *dir, const char *base_model);
/* One file that llama.cpp loads beside the base (--lora): A and B of every module, F32, under the
 * base's names; rows of B in the base's order of q and k; adapter.lora.alpha such that alpha / rank
 * is the scale, where modules differ with the rest of it in B. DoRA and modules that were trained
 * in full are AT_USAGE: the format has no place for them. */
AT_CHECKED at_export_gguf(const struct at_export *stack, const char *path);

struct at_merge_params {
    struct at_weights *base;
    const char *path;             /* of the base, for messages and the files beside its weights */
    const struct at_format *type; /* of every matrix; NULL: each as the base has it */
    struct at_gpu *gpu;
};
/* The base with the adapters in its weights, which needs neither: a GGUF file with all that its
 * base says where the base is one, else a Hugging Face folder. W + s B A and DoRA's norms are
 * computed in f32 on the device, in panels of rows; a value is then rounded once, in the base's own
 * blocks by chance (at_format_recode()). Tensors that no adapter touches are copied byte for byte
 * unless `type` is another one. A warning says where the types of the file leave little of what the
 * adapters do; *quantised: they are of few bits. AT_USAGE, before anything is written, for types
 * that are read but not written (at_format_is_written()). */
AT_CHECKED at_export_merged(bool *quantised, const struct at_export *stack,
                            const struct at_merge_params *params, const char *path);

#endif
