/* A tensor is a value: a view of device memory with two dimensions, f32, row-major. Rows lie `ld`
 * elements apart (a multiple of 4; at least dim[1]); from dim[1] to the next multiple of 4 they are
 * zero, and what lies behind that has no meaning. */
#ifndef AT_TENSOR_H
#define AT_TENSOR_H

#include "gpu.h"

struct at_tensor {
    struct at_view view;
    uint32_t dim[2];
    uint32_t ld;
};
/* Bytes of a (rows, cols) tensor with the smallest leading dimension. */
uint64_t at_tensor_bytes(uint32_t rows, uint32_t cols);
uint32_t at_tensor_ld(uint32_t cols); /* cols rounded up to 4 */
/* Tensor of this shape at the start of `view`, which must be large enough: else AT_BUG. */
struct at_tensor at_tensor_make(struct at_view view, uint32_t rows, uint32_t cols);
/* The same for operands of products, whose rows lie an odd number of 64 bytes apart: a column of
 * them is in all sets of a processor's cache. With rows of 6,144 bytes it is in two, and a product
 * on llvmpipe takes 1.1 times as long. */
uint64_t at_tensor_apart_bytes(uint32_t rows, uint32_t cols);
struct at_tensor at_tensor_make_apart(struct at_view view, uint32_t rows, uint32_t cols);
/* One with the shape and the leading dimension of another, at the start of `view`: else AT_BUG. */
struct at_tensor at_tensor_make_like(struct at_view view, struct at_tensor tensor);
/* The bytes of the tensor's rows, no more: what a launch binds. */
static inline struct at_view at_tensor_view(struct at_tensor tensor)
{
    return at_view_part(tensor.view, 0, (uint64_t)tensor.dim[0] * tensor.ld * sizeof(float));
}
/* Rows [begin, begin + n). Devices align bindings to up to 256 bytes: what a launch gets should
 * begin at a multiple of 16 rows. */
struct at_tensor at_tensor_rows(struct at_tensor tensor, uint32_t begin, uint32_t n);
/* Columns [begin, begin + n) of the first rows of a tensor that has one row more; begin a multiple
 * of 4. Not of devices that align bindings to more (at_gpu_info.view_alignment). */
enum { AT_COLUMNS_ALIGNMENT = 16 };
struct at_tensor at_tensor_columns(struct at_tensor tensor, uint32_t rows, uint32_t begin,
                                   uint32_t n);
/* Whether the n tensors are columns of one behind each other: *out is that. */
bool at_tensor_join(struct at_tensor *out, const struct at_tensor *tensors, uint32_t n);
/* Whether they are rows of one below each other: the same. */
bool at_tensor_stack(struct at_tensor *out, const struct at_tensor *tensors, uint32_t n);
/* Rows of a tensor that one binding holds: all, or a multiple of 256 (of 16 where it holds fewer),
 * so that parts begin aligned and sums over blocks of 256 rows do not depend on the parts. */
uint32_t at_tensor_part_rows(struct at_stream *stream, struct at_tensor tensor);
/* Plans a (rows, cols) tensor; its view is written when the pool is committed. */
void at_tensor_reserve(struct at_pool *pool, struct at_tensor *tensor, uint32_t rows, uint32_t cols,
                       const char *what);
/* The same for an operand of products: as at_tensor_make_apart() on devices that are processors, as
 * at_tensor_make() on others. */
void at_tensor_reserve_apart(struct at_pool *pool, struct at_tensor *tensor, uint32_t rows,
                             uint32_t cols, const char *what);
/* Copies a tensor to one of the same shape and leading dimension. */
void at_tensor_copy(struct at_stream *stream, struct at_tensor to, struct at_tensor from);
/* AT_BUG with both shapes when they differ. */
void at_require_shape(struct at_tensor tensor, uint32_t rows, uint32_t cols);
/* Immediate transfers of dense host arrays (rows * cols floats): pads and strips the ld. */
AT_CHECKED at_tensor_write(struct at_gpu *gpu, struct at_tensor tensor, const float *values);
AT_CHECKED at_tensor_read(struct at_gpu *gpu, float *values, struct at_tensor tensor);

#endif
