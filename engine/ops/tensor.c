#include "tensor.h"

#include <string.h>

uint32_t at_tensor_ld(uint32_t cols)
{
    return (uint32_t)at_round_up(cols, 4);
}

uint64_t at_tensor_bytes(uint32_t rows, uint32_t cols)
{
    return (uint64_t)rows * at_tensor_ld(cols) * sizeof(float);
}

static struct at_tensor make(struct at_view view, uint32_t rows, uint32_t cols, uint32_t ld)
{
    const uint64_t bytes = (uint64_t)rows * ld * sizeof(float);

    if (view.bytes < bytes)
        AT_BUG("a tensor of %u x %u needs %llu bytes, the view has %llu", rows, cols,
               (unsigned long long)bytes, (unsigned long long)view.bytes);
    return (struct at_tensor){ .view = view, .dim = { rows, cols }, .ld = ld };
}

struct at_tensor at_tensor_make(struct at_view view, uint32_t rows, uint32_t cols)
{
    return make(view, rows, cols, at_tensor_ld(cols));
}

static uint32_t ld_apart(uint32_t cols)
{
    return (uint32_t)(at_div_up(cols, 16) | 1) * 16;
}

uint64_t at_tensor_apart_bytes(uint32_t rows, uint32_t cols)
{
    return (uint64_t)rows * ld_apart(cols) * sizeof(float);
}

struct at_tensor at_tensor_make_apart(struct at_view view, uint32_t rows, uint32_t cols)
{
    return make(view, rows, cols, ld_apart(cols));
}

struct at_tensor at_tensor_make_like(struct at_view view, struct at_tensor tensor)
{
    return make(view, tensor.dim[0], tensor.dim[1], tensor.ld);
}

struct at_tensor at_tensor_rows(struct at_tensor tensor, uint32_t begin, uint32_t n)
{
    const uint64_t row_bytes = tensor.ld * sizeof(float);

    AT_REQUIRE(begin <= tensor.dim[0] && n <= tensor.dim[0] - begin);
    tensor.view = at_view_part(tensor.view, begin * row_bytes, n * row_bytes);
    tensor.dim[0] = n;
    return tensor;
}

struct at_tensor at_tensor_columns(struct at_tensor tensor, uint32_t rows, uint32_t begin,
                                   uint32_t n)
{
    AT_REQUIRE(rows < tensor.dim[0] && begin <= tensor.dim[1] && n <= tensor.dim[1] - begin);
    tensor.view = at_view_part(tensor.view, begin * sizeof(float),
                               (uint64_t)rows * tensor.ld * sizeof(float));
    tensor.dim[0] = rows;
    tensor.dim[1] = n;
    return tensor;
}

bool at_tensor_join(struct at_tensor *out, const struct at_tensor *tensors, uint32_t n)
{
    *out = tensors[0];
    for (uint32_t i = 1; i < n; i++) {
        const struct at_tensor *t = &tensors[i];
        if (t->view.buffer != out->view.buffer || t->dim[0] != out->dim[0] || t->ld != out->ld ||
            t->view.offset != out->view.offset + out->dim[1] * sizeof(float) ||
            t->dim[1] > out->ld - out->dim[1])
            return false;
        out->dim[1] += t->dim[1];
    }
    return true;
}

bool at_tensor_stack(struct at_tensor *out, const struct at_tensor *tensors, uint32_t n)
{
    *out = tensors[0];
    for (uint32_t i = 1; i < n; i++) {
        const struct at_tensor *t = &tensors[i];
        const uint64_t bytes = at_tensor_view(*out).bytes;
        if (t->view.buffer != out->view.buffer || t->dim[1] != out->dim[1] || t->ld != out->ld ||
            t->view.offset != out->view.offset + bytes)
            return false;
        out->dim[0] += t->dim[0];
        out->view.bytes = bytes + at_tensor_view(*t).bytes;
    }
    return true;
}

uint32_t at_tensor_part_rows(struct at_stream *stream, struct at_tensor tensor)
{
    const uint64_t limit = at_gpu_get_info(at_stream_gpu(stream))->max_range_bytes;
    const uint64_t row_bytes = tensor.ld * sizeof(float), n = limit / row_bytes;

    if (n >= tensor.dim[0])
        return tensor.dim[0];
    if (n < 16)
        AT_BUG("a binding of %llu bytes holds fewer than 16 rows of %llu",
               (unsigned long long)limit, (unsigned long long)row_bytes);
    return (uint32_t)(n >= 256 ? n / 256 * 256 : n / 16 * 16);
}

void at_tensor_reserve(struct at_pool *pool, struct at_tensor *tensor, uint32_t rows, uint32_t cols,
                       const char *what)
{
    *tensor = (struct at_tensor){ .dim = { rows, cols }, .ld = at_tensor_ld(cols) };
    at_pool_reserve(pool, &tensor->view, at_tensor_bytes(rows, cols), what);
}

void at_tensor_reserve_apart(struct at_pool *pool, struct at_tensor *tensor, uint32_t rows,
                             uint32_t cols, const char *what)
{
    const bool cpu = at_gpu_get_info(at_pool_gpu(pool))->type == AT_GPU_CPU;
    const uint32_t ld = cpu ? ld_apart(cols) : at_tensor_ld(cols);

    *tensor = (struct at_tensor){ .dim = { rows, cols }, .ld = ld };
    at_pool_reserve(pool, &tensor->view, (uint64_t)rows * ld * sizeof(float), what);
}

void at_tensor_copy(struct at_stream *stream, struct at_tensor to, struct at_tensor from)
{
    at_require_shape(to, from.dim[0], from.dim[1]);
    AT_REQUIRE(to.ld == from.ld);
    at_stream_copy(stream, at_tensor_view(to), at_tensor_view(from), at_tensor_view(from).bytes);
}

void at_require_shape(struct at_tensor tensor, uint32_t rows, uint32_t cols)
{
    if (tensor.dim[0] != rows || tensor.dim[1] != cols)
        AT_BUG("a tensor is %u x %u, not %u x %u", tensor.dim[0], tensor.dim[1], rows, cols);
}

enum at_status at_tensor_write(struct at_gpu *gpu, struct at_tensor tensor, const float *values)
{
    const size_t rows = tensor.dim[0], cols = tensor.dim[1], ld = tensor.ld;
    float *padded = NULL;
    enum at_status st;

    TRY(at_alloc(&padded, rows * ld, sizeof *padded));
    for (size_t r = 0; r < rows; r++)
        memcpy(padded + r * ld, values + r * cols, cols * sizeof *values);
    TRY(at_gpu_write(gpu, tensor.view, padded, rows * ld * sizeof *padded));
done:
    at_free(&padded);
    return st;
}

enum at_status at_tensor_read(struct at_gpu *gpu, float *values, struct at_tensor tensor)
{
    const size_t rows = tensor.dim[0], cols = tensor.dim[1], ld = tensor.ld;
    float *padded = NULL;
    enum at_status st;

    TRY(at_alloc(&padded, rows * ld, sizeof *padded));
    TRY(at_gpu_read(gpu, padded, tensor.view, rows * ld * sizeof *padded));
    for (size_t r = 0; r < rows; r++)
        memcpy(values + r * cols, padded + r * ld, cols * sizeof *values);
done:
    at_free(&padded);
    return st;
}
