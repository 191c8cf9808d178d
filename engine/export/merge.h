/* Inside engine/export only: the tensors of a base with adapters merged into its weights, computed
 * on the device a panel of rows at a time, so that memory is bounded by the adapter of one module.
 */
#ifndef AT_MERGE_H
#define AT_MERGE_H

#include "export.h"

enum { AT_NO_MODULE = UINT32_MAX };
struct at_merged_tensor {
    const char *name;
    const struct at_source *source; /* the base's, or an adapter's that takes its place */
    const struct at_source *like;   /* the base's */
    const struct at_format
        *format;     /* that it is encoded in; NULL: the source's bytes as they are */
    uint32_t module; /* whose adapters it is given: its first linear's index */
    uint64_t n_bytes;
};
/* Squares over the values of matrices that adapters change, summed. */
struct at_merge_sums {
    double change;  /* of merged less base */
    double lost;    /* of written less merged */
    double moved;   /* of written less base */
    bool quantised; /* some are written in blocks of few bits */
};
struct at_merge {
    const struct at_export *stack;
    const struct at_merge_params *params;
    bool gguf;
    bool unties;                      /* head and embedding of a tied base are no longer the same */
    struct at_merged_tensor *tensors; /* the base's, in the file's order, then a head of its own */
    size_t n;
    struct at_merge_sums *sums;
    struct at_stream *stream;
    struct at_arena arena;
};
/* AT_USAGE, naming the tensor, where a type cannot be written: NULL as params->type asks for the
 * base's own. */
AT_CHECKED at_merge_plan(struct at_merge *out, const struct at_export *stack,
                         const struct at_merge_params *params);
void at_merge_release(struct at_merge *merge);
/* "F16": how the file is to call the type of tensor i. */
const char *at_merged_type(const struct at_merged_tensor *tensor);
/* Its bytes, in pieces, in order. */
typedef enum at_status at_put_bytes(void *context, const void *bytes, uint64_t n);
AT_CHECKED at_merge_write(const struct at_merge *merge, size_t i, at_put_bytes *put, void *context);

AT_CHECKED at_merge_gguf(struct at_merge *merge, const char *path);
AT_CHECKED at_merge_folder(struct at_merge *merge, const char *dir);

#endif
