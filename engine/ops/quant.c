#include "quant.h"

#include "kernels.h"

/* Columns that a plane packs together and the bytes they take; no columns: once a row. */
struct plane {
    uint32_t cols, bytes;
};
static const struct {
    struct at_quant quant;
    struct plane plane[2];
} types[AT_QUANT_COUNT] = {
    [AT_F32] = { { "f32", 1, 1 }, { { 1, 4 } } },
    [AT_F16] = { { "f16", 1, 1 }, { { 1, 2 } } },
    [AT_BF16] = { { "bf16", 1, 1 }, { { 1, 2 } } },
    [AT_Q8_0] = { { "q8_0", 32, 2 }, { { 1, 1 }, { 32, 2 } } },
    [AT_Q4_0] = { { "q4_0", 32, 2 }, { { 32, 16 }, { 32, 2 } } },
    [AT_Q4_1] = { { "q4_1", 32, 2 }, { { 32, 16 }, { 32, 4 } } },
    [AT_Q5_0] = { { "q5_0", 32, 2 }, { { 128, 80 }, { 32, 2 } } },
    [AT_Q5_1] = { { "q5_1", 32, 2 }, { { 128, 80 }, { 32, 4 } } },
    [AT_Q2_K] = { { "q2_k", 256, 2 }, { { 64, 16 }, { 256, 20 } } },
    [AT_Q3_K] = { { "q3_k", 256, 2 }, { { 128, 48 }, { 256, 20 } } },
    [AT_Q4_K] = { { "q4_k", 256, 2 }, { { 32, 16 }, { 256, 20 } } },
    [AT_Q5_K] = { { "q5_k", 256, 2 }, { { 128, 80 }, { 256, 20 } } },
    [AT_Q6_K] = { { "q6_k", 256, 2 }, { { 1, 1 }, { 256, 20 } } },
    [AT_IQ4] = { { "iq4", 32, 2 }, { { 32, 16 }, { 32, 4 } } },
    [AT_NF4] = { { "nf4", 64, 2 }, { { 32, 16 }, { 64, 4 } } },
    [AT_FP4] = { { "fp4", 64, 2 }, { { 32, 16 }, { 64, 4 } } },
    [AT_INT8] = { { "int8", 32, 2 }, { { 1, 1 }, { 0, 4 } } },
};

const struct at_quant *at_quant_get(enum at_quant_type type)
{
    AT_REQUIRE((uint32_t)type < AT_QUANT_COUNT);
    return &types[type].quant;
}

uint64_t at_quant_row_bytes(enum at_quant_type type, uint32_t plane, uint32_t cols)
{
    const struct plane *p = &types[type].plane[plane];
    uint64_t bytes;

    AT_REQUIRE((uint32_t)type < AT_QUANT_COUNT && plane < 2);
    bytes = at_round_up((p->cols > 0 ? at_div_up(cols, p->cols) : 1) * p->bytes, 16);
    return type == AT_F32 && plane == 0 && bytes % 1024 == 0 ? bytes + 64 : bytes;
}

uint64_t at_weight_row_bytes(const struct at_weight *weight, uint32_t plane)
{
    if (weight->is_tensor && plane == 0)
        return at_tensor_bytes(1, weight->cols);
    return at_quant_row_bytes(weight->type, plane, weight->cols);
}

struct at_tensor at_weight_values(struct at_weight weight)
{
    AT_REQUIRE(weight.type == AT_F32);
    return (struct at_tensor){ .view = weight.plane[0],
                               .dim = { weight.rows, weight.cols },
                               .ld = (uint32_t)(at_weight_row_bytes(&weight, 0) / sizeof(float)) };
}

void at_weights_reserve(struct at_pool *pool, struct at_weight *weights, uint32_t n,
                        const char *what)
{
    for (uint32_t i = 0; i < AT_COUNT(weights->plane); i++)
        for (uint32_t k = 0; k < n; k++) {
            struct at_weight *w = &weights[k];
            AT_REQUIRE(w->cols % at_quant_get(w->type)->block_cols == 0);
            if (i < at_quant_get(w->type)->n_planes)
                at_pool_reserve_unfilled(pool, &w->plane[i],
                                         w->rows * at_quant_row_bytes(w->type, i, w->cols), what);
        }
}

void at_weight_reserve(struct at_pool *pool, struct at_weight *weight, enum at_quant_type type,
                       uint32_t rows, uint32_t cols, const char *what)
{
    *weight = (struct at_weight){ .type = type, .rows = rows, .cols = cols };
    at_weights_reserve(pool, weight, 1, what);
}

bool at_weights_join(struct at_weight *out, const struct at_weight *weights, uint32_t n)
{
    *out = weights[0];
    for (uint32_t k = 1; k < n; k++) {
        const struct at_weight *w = &weights[k];
        if (w->type != out->type || w->is_tensor != out->is_tensor || w->cols != out->cols)
            return false;
        for (uint32_t i = 0; i < at_quant_get(w->type)->n_planes; i++) {
            struct at_view *view = &out->plane[i];
            if (w->plane[i].buffer != view->buffer ||
                w->plane[i].offset != view->offset + view->bytes)
                return false;
            view->bytes += w->plane[i].bytes;
        }
        out->rows += w->rows;
    }
    return true;
}

struct at_weight at_weight_rows(struct at_weight weight, uint32_t begin, uint32_t n)
{
    AT_REQUIRE(begin <= weight.rows && n <= weight.rows - begin);
    for (uint32_t i = 0; i < at_quant_get(weight.type)->n_planes; i++) {
        const uint64_t stride = at_weight_row_bytes(&weight, i);

        weight.plane[i] = at_view_part(weight.plane[i], begin * stride, n * stride);
    }
    weight.rows = n;
    return weight;
}

struct at_weight at_weight_of_tensor(struct at_tensor tensor)
{
    AT_REQUIRE(tensor.ld == at_tensor_ld(tensor.dim[1]));
    return (struct at_weight){ .type = AT_F32,
                               .is_tensor = true,
                               .rows = tensor.dim[0],
                               .cols = tensor.dim[1],
                               .plane = { tensor.view } };
}

/* The kernels of one plane and of two take the same views in the same order. */
void at_dequantise(struct at_stream *stream, struct at_tensor out, struct at_weight weight)
{
    static const uint32_t kernels[AT_QUANT_COUNT] = { [AT_F32] = AT_KERNEL_dequantise_f32,
                                                      AT_QUANT_KERNELS(dequantise) };
    const struct at_weight w = at_weight_rows(weight, 0, weight.rows);
    const struct at_view views[] = { at_tensor_view(out), w.plane[0], w.plane[1] };
    const struct dequantise_args args = {
        .rows = w.rows,
        .cols = w.cols,
        .ld = out.ld,
        .quants_stride = (uint32_t)at_weight_row_bytes(&w, 0) / 4,
        .scales_stride = (uint32_t)at_weight_row_bytes(&w, 1) / 4,
    };

    at_require_shape(out, w.rows, w.cols);
    if (w.rows > 0 && w.cols > 0)
        at_stream_launch(stream, kernels[w.type], views, &args, sizeof args,
                         (struct at_work){ .x = w.rows, .y = 1, .z = 1 });
}
