#include "quant.h"

#include "kernels.h"

static const struct at_quant quants[AT_QUANT_COUNT] = {
    [AT_F32] = { "f32", 1, 1, 32 },     [AT_F16] = { "f16", 1, 1, 16 },
    [AT_BF16] = { "bf16", 1, 1, 16 },   [AT_Q8_0] = { "q8_0", 32, 2, 8.5 },
    [AT_Q4_0] = { "q4_0", 32, 2, 4.5 }, [AT_Q4_1] = { "q4_1", 32, 2, 5 },
    [AT_Q6_K] = { "q6_k", 256, 2, 10 },
};
/* Bits a column in plane 0; bits a group and columns a group in plane 1. */
static const struct {
    uint32_t bits, scale_bits, scale_cols;
} planes[AT_QUANT_COUNT] = {
    [AT_F32] = { 32, 0, 1 },   [AT_F16] = { 16, 0, 1 },   [AT_BF16] = { 16, 0, 1 },
    [AT_Q8_0] = { 8, 16, 32 }, [AT_Q4_0] = { 4, 16, 32 }, [AT_Q4_1] = { 4, 32, 32 },
    [AT_Q6_K] = { 8, 32, 16 },
};

const struct at_quant *at_quant_get(enum at_quant_type type)
{
    AT_REQUIRE((uint32_t)type < AT_QUANT_COUNT);
    return &quants[type];
}

uint64_t at_quant_row_bytes(enum at_quant_type type, uint32_t plane, uint32_t cols)
{
    const uint64_t groups = at_div_up(cols, planes[type].scale_cols);
    const uint64_t bits =
        plane == 0 ? (uint64_t)cols * planes[type].bits : groups * planes[type].scale_bits;

    AT_REQUIRE((uint32_t)type < AT_QUANT_COUNT && plane < 2);
    return at_round_up(at_div_up(bits, 8), 16);
}

void at_weight_reserve(struct at_pool *pool, struct at_weight *weight, enum at_quant_type type,
                       uint32_t rows, uint32_t cols, const char *what)
{
    AT_REQUIRE(cols % at_quant_get(type)->block_cols == 0);
    *weight = (struct at_weight){ .type = type, .rows = rows, .cols = cols };
    for (uint32_t i = 0; i < at_quant_get(type)->n_planes; i++)
        at_pool_reserve(pool, &weight->plane[i], rows * at_quant_row_bytes(type, i, cols), what);
}

struct at_weight at_weight_rows(struct at_weight weight, uint32_t begin, uint32_t n)
{
    AT_REQUIRE(begin <= weight.rows && n <= weight.rows - begin);
    for (uint32_t i = 0; i < at_quant_get(weight.type)->n_planes; i++) {
        const uint64_t stride = at_quant_row_bytes(weight.type, i, weight.cols);

        weight.plane[i] = at_view_part(weight.plane[i], begin * stride, n * stride);
    }
    weight.rows = n;
    return weight;
}

struct at_weight at_weight_of_tensor(struct at_tensor tensor)
{
    AT_REQUIRE(tensor.ld == at_tensor_ld(tensor.dim[1]));
    return (struct at_weight){
        .type = AT_F32, .rows = tensor.dim[0], .cols = tensor.dim[1], .plane = { tensor.view }
    };
}

/* The kernels of one plane and of two take the same views in the same order. */
void at_dequantise(struct at_stream *stream, struct at_tensor out, struct at_weight weight)
{
    static const uint32_t kernels[AT_QUANT_COUNT] = {
        [AT_F16] = AT_KERNEL_dequantise_f16,   [AT_BF16] = AT_KERNEL_dequantise_bf16,
        [AT_Q8_0] = AT_KERNEL_dequantise_q8_0, [AT_Q4_0] = AT_KERNEL_dequantise_q4_0,
        [AT_Q4_1] = AT_KERNEL_dequantise_q4_1, [AT_Q6_K] = AT_KERNEL_dequantise_q6_k,
    };
    const struct at_weight w = at_weight_rows(weight, 0, weight.rows);
    const struct at_view views[] = { at_tensor_view(out), w.plane[0], w.plane[1] };
    const struct dequantise_args args = {
        .rows = w.rows,
        .cols = w.cols,
        .ld = out.ld,
        .quants_stride = (uint32_t)at_quant_row_bytes(w.type, 0, w.cols) / 4,
        .scales_stride = (uint32_t)at_quant_row_bytes(w.type, 1, w.cols) / 4,
    };

    at_require_shape(out, w.rows, w.cols);
    if (w.rows == 0 || w.cols == 0)
        return;
    if (w.type != AT_F32) {
        at_stream_launch(stream, kernels[w.type], views, &args, sizeof args,
                         (struct at_work){ .x = w.rows, .y = 1, .z = 1 });
        return;
    }
    AT_REQUIRE(out.ld == at_tensor_ld(w.cols));
    at_stream_copy(stream, out.view, w.plane[0], views[0].bytes);
}
