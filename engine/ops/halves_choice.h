/* Whether products with weights, and attention, take halves on this device (halves.h): where it has
 * matrix units and they are right and faster on the model's shapes. */
#ifndef AT_HALVES_CHOICE_H
#define AT_HALVES_CHOICE_H

#include "gpu.h"

/* A weight's (rows, cols). */
struct at_weight_shape {
    uint32_t rows, cols;
};
/* Heads, kv heads, their width and the soft-cap of scores (0: none). */
struct at_attention_shape {
    uint32_t H, G, D;
    float cap;
};
/* Sets struct at_gpu_info's `halves` and `attention_halves`; to be called before pools are planned.
 * Never on CPU devices, with baseline kernels or without matrix units. Else products of 512 rows
 * with weights of these shapes, the weights' gradients and attention over 512 tokens are made both
 * ways on random values: halves are taken where they are faster (of products with weights by the
 * sum of times) and all lie within their rounding of the f32 ones; where they do not, or memory is
 * too short to try, a warning says so. At most some seconds, once a device, driver, build and set
 * of shapes: the verdict is kept in the cache folder, as kernels-<key>.json; a file that is not
 * whole, of another version or of something else is made again. ATTUNE_HALVES=0, 1 or bf16 decides
 * without measuring, =time measures on any device. */
AT_CHECKED at_halves_choose(struct at_gpu *gpu, const struct at_weight_shape *shapes, size_t n,
                            struct at_attention_shape attention);

#endif
