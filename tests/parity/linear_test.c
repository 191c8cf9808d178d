/* links: base gpu ops */
/* Linear layers on stored weights, bias and LoRA = the reference; panels of small scratches and
 * small bindings give the same result as whole weights; one row by the kernels of decoding. */
#include "gpu_test.h"

#include "linear.h"
#include "ref_gemm.h"
#include "ref_lora.h"
#include "ref_quant.h"
#include "tolerances.h"

struct layer {
    enum at_quant_type type;
    uint32_t T, K, N;
};

/* f32 values rounded to what a q8_0 or f16 plane holds, with the planes. */
static float *make_weight(uint8_t **plane0, uint8_t **plane1, const struct layer *l)
{
    const struct ref_quant *quant = ref_quant_of_device(at_quant_get(l->type)->name);
    const size_t n = (size_t)l->N * l->K, stride0 = at_quant_row_bytes(l->type, 0, l->K),
                 stride1 = at_quant_row_bytes(l->type, 1, l->K);
    float *values = gt_floats(n, 1);
    uint8_t *blocks;

    *plane0 = calloc(l->N, stride0);
    *plane1 = calloc(l->N, stride1 + 1);
    if (l->type == AT_F32) {
        for (size_t r = 0; r < l->N; r++)
            memcpy(*plane0 + r * stride0, values + r * l->K, l->K * sizeof *values);
        return values;
    }
    blocks = malloc(n / quant->block_cols * quant->block_bytes);
    for (size_t i = 0; i < n / quant->block_cols; i++) {
        uint8_t *block = blocks + i * quant->block_bytes;

        for (size_t j = 0; j < quant->block_bytes; j++)
            block[j] = (uint8_t)(gt_random() & 0xff);
        for (size_t k = 0; k < quant->n_halves && quant->block_cols > 1; k++) {
            /* 2^-7; before scales of up to 127 2^-11; a minimum without a scale about 1/8 */
            block[quant->half[k]] = 0;
            block[quant->half[k] + 1] = quant->block_cols == 256 ? 0x10 : k == 0 ? 0x20 : 0x30;
        }
        if (quant->block_cols == 1)
            block[1] = (uint8_t)(block[1] & 0xbb); /* halves below 1 */
        else if (quant->n_halves == 0)
            memcpy(block, &(float){ 0.125f }, sizeof(float));
    }
    ref_quant_values(values, quant, blocks, n);
    ref_quant_planes(*plane0, stride0, *plane1, stride1, quant, blocks, l->N, l->K);
    free(blocks);
    return values;
}

static double *absolute(const float *x, size_t n)
{
    double *y = gt_doubles(x, n);

    for (size_t i = 0; i < n; i++)
        y[i] = fabs(y[i]);
    return y;
}

/* A weight's planes on the device: planned into b[0] and b[1], then written. */
static void plan_weight(struct gt *t, size_t b[2], const struct layer *l)
{
    for (uint32_t i = 0; i < 2; i++)
        b[i] = gt_plan(t, l->N * at_quant_row_bytes(l->type, i, l->K) + 16);
}

static struct at_weight write_weight(struct gt *t, const size_t b[2], const struct layer *l,
                                     const uint8_t *plane0, const uint8_t *plane1)
{
    struct at_weight w = { .type = l->type, .rows = l->N, .cols = l->K };

    for (uint32_t i = 0; i < at_quant_get(l->type)->n_planes; i++) {
        w.plane[i] = gt_view(t, b[i]);
        OK(at_gpu_write(t->gpu, w.plane[i], i == 0 ? plane0 : plane1,
                        l->N * at_quant_row_bytes(l->type, i, l->K)));
    }
    return w;
}

/* Where weights are read as they are stored: dx = dy W has the bits of a product with a copy in
 * f32, which scratch and a binding hold. */
static void check_copy(struct gt *t, struct at_tensor dX, struct at_tensor dY, struct at_weight w,
                       const struct at_linear_scratch *scratch)
{
    const struct at_gpu_info *info = at_gpu_get_info(t->gpu);
    const uint64_t bytes = at_tensor_bytes(w.rows, w.cols);
    const size_t n = (size_t)dX.dim[0] * dX.dim[1];
    float *stored, *copied;

    if (!info->few_rows || info->subgroup < 16 || bytes > scratch->panel.bytes ||
        bytes > info->max_range_bytes)
        return;
    stored = gt_floats(n, 1);
    copied = gt_floats(n, 1);
    const struct at_tensor values = at_tensor_make(scratch->panel, w.rows, w.cols);
    at_linear_bwd(t->stream, dX, dY, w, scratch, false);
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, stored, dX));
    at_dequantise(t->stream, values, w);
    at_matmul_nn(t->stream, dX, dY, values, 1, false);
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, copied, dX));
    for (size_t i = 0; i < n; i++)
        // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-*): bits are meant
        if (memcmp(&stored[i], &copied[i], sizeof *stored) != 0)
            fail_msg("%s: dx[%zu] is %.9g, of a copy %.9g", at_quant_get(w.type)->name, i,
                     (double)stored[i], (double)copied[i]);
    free(stored);
    free(copied);
}

static void check_layer(struct gt *t, const struct layer *l, uint64_t scratch_bytes,
                        bool accumulate)
{
    const size_t y_n = (size_t)l->T * l->N, x_n = (size_t)l->T * l->K;
    uint8_t *plane0, *plane1;
    float *W = make_weight(&plane0, &plane1, l), *x = gt_floats(x_n, 1), *dy = gt_floats(y_n, 1);
    float *y = gt_floats(y_n, 1), *dx = gt_floats(x_n, 1);
    double *W64 = gt_doubles(W, (size_t)l->N * l->K), *Wabs = absolute(W, (size_t)l->N * l->K);
    double *x64 = gt_doubles(x, x_n), *dy64 = gt_doubles(dy, y_n), *y64 = gt_doubles(y, y_n);
    double *dx64 = gt_doubles(dx, x_n), *xabs = absolute(x, x_n), *dyabs = absolute(dy, y_n);
    double *yscale = absolute(y, y_n), *dxscale = absolute(dx, x_n);
    struct at_weight w;
    struct at_linear_scratch scratch = { 0 };
    size_t b[7] = { 0 };

    gt_begin(t);
    plan_weight(t, b, l);
    b[2] = gt_plan_tensor(t, l->T, l->K, 0);
    b[3] = gt_plan_tensor(t, l->T, l->N, 4);
    b[4] = gt_plan_tensor(t, l->T, l->N, 0);
    b[5] = gt_plan_tensor(t, l->T, l->K, 8);
    b[6] = gt_plan(t, scratch_bytes);
    gt_commit(t);
    w = write_weight(t, b, l, plane0, plane1);
    scratch.panel = gt_view(t, b[6]);
    const struct at_tensor X = gt_tensor(t, b[2], l->T, l->K, 0);
    const struct at_tensor Y = gt_tensor(t, b[3], l->T, l->N, 4);
    const struct at_tensor dY = gt_tensor(t, b[4], l->T, l->N, 0);
    const struct at_tensor dX = gt_tensor(t, b[5], l->T, l->K, 8);

    OK(at_tensor_write(t->gpu, X, x));
    OK(at_tensor_write(t->gpu, Y, y));
    OK(at_tensor_write(t->gpu, dY, dy));
    OK(at_tensor_write(t->gpu, dX, dx));
    at_linear_fwd(t->stream, Y, X, w, &scratch, accumulate);
    at_linear_bwd(t->stream, dX, dY, w, &scratch, accumulate);
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, y, Y));
    OK(at_tensor_read(t->gpu, dx, dX));
    check_copy(t, dX, dY, w, &scratch);
    ref_matmul_nt(y64, x64, W64, l->T, l->N, l->K, 1, accumulate);
    ref_matmul_nt(yscale, xabs, Wabs, l->T, l->N, l->K, 1, true);
    ref_matmul_nn(dx64, dy64, W64, l->T, l->K, l->N, 1, accumulate);
    ref_matmul_nn(dxscale, dyabs, Wabs, l->T, l->K, l->N, 1, true);
    gt_require_close(t, "y", y, y64, yscale, y_n, TOL_GEMM);
    gt_require_close(t, "dx", dx, dx64, dxscale, x_n, TOL_GEMM);
    gt_end(t);
    float *floats[] = { W, x, dy, y, dx };
    double *doubles[] = { W64, Wabs, x64, dy64, y64, dx64, xabs, dyabs, yscale, dxscale };
    for (size_t i = 0; i < AT_COUNT(floats); i++)
        free(floats[i]);
    for (size_t i = 0; i < AT_COUNT(doubles); i++)
        free(doubles[i]);
    free(plane0);
    free(plane1);
}

static void linear_stored_weights_equal_reference(void **state)
{
    static const struct layer layers[] = {
        { AT_F32, 3, 63, 65 },    { AT_F32, 65, 576, 700 },  { AT_F16, 64, 130, 63 },
        { AT_F32, 65, 512, 70 },  { AT_BF16, 5, 577, 300 },  { AT_Q8_0, 64, 576, 700 },
        { AT_Q4_1, 7, 64, 200 },  { AT_Q4_0, 70, 160, 67 },  { AT_Q5_0, 17, 160, 70 },
        { AT_Q5_1, 5, 96, 71 },   { AT_Q2_K, 33, 512, 66 },  { AT_Q3_K, 6, 512, 70 },
        { AT_Q4_K, 65, 768, 70 }, { AT_Q5_K, 5, 512, 69 },   { AT_Q6_K, 6, 768, 130 },
        { AT_IQ4, 20, 96, 70 },   { AT_NF4, 5, 192, 70 },    { AT_FP4, 6, 64, 65 },
        { AT_INT8, 7, 96, 70 },   { AT_Q8_0, 66, 64, 4100 }, { AT_Q4_1, 5, 32, 4100 },
    };

    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        for (size_t i = 0; i < AT_COUNT(layers); i++) {
            const uint64_t row_bytes = at_tensor_bytes(1, layers[i].K);

            check_layer(&t, &layers[i], layers[i].N * row_bytes, true);
            check_layer(&t, &layers[i], 64 * row_bytes, false); /* panels of 64 rows */
        }
        gt_close(&t);
    }
}

static void check_row(struct gt *t, const struct layer *l, float alpha, bool accumulate)
{
    uint8_t *plane0, *plane1;
    float *W = make_weight(&plane0, &plane1, l), *x = gt_floats(l->K, 1), *y = gt_floats(l->N, 1);
    float *first = gt_floats(l->N, 1);
    double *W64 = gt_doubles(W, (size_t)l->N * l->K), *Wabs = absolute(W, (size_t)l->N * l->K);
    double *x64 = gt_doubles(x, l->K), *xabs = absolute(x, l->K);
    double *y64 = gt_doubles(y, l->N), *yscale = absolute(y, l->N);
    struct at_weight w;
    size_t b[4] = { 0 };

    gt_begin(t);
    plan_weight(t, b, l);
    b[2] = gt_plan_tensor(t, 1, l->K, 0);
    b[3] = gt_plan_tensor(t, 1, l->N, 0);
    gt_commit(t);
    w = write_weight(t, b, l, plane0, plane1);
    const struct at_tensor X = gt_tensor(t, b[2], 1, l->K, 0), Y = gt_tensor(t, b[3], 1, l->N, 0);

    OK(at_tensor_write(t->gpu, X, x));
    for (int i = 0; i < 2; i++) { /* the same bits twice */
        OK(at_tensor_write(t->gpu, Y, y));
        at_linear_row(t->stream, Y, X, w, alpha, accumulate);
        OK(at_stream_wait(t->stream));
        OK(at_tensor_read(t->gpu, i == 0 ? first : y, Y));
    }
    assert_memory_equal(first, y, l->N * sizeof *y);
    ref_matmul_nt(y64, x64, W64, 1, l->N, l->K, (double)alpha, accumulate);
    ref_matmul_nt(yscale, xabs, Wabs, 1, l->N, l->K, fabs((double)alpha), true);
    gt_require_close(t, at_quant_get(l->type)->name, y, y64, yscale, l->N, TOL_GEMM);
    gt_end(t);
    float *floats[] = { W, x, y, first };
    double *doubles[] = { W64, Wabs, x64, xabs, y64, yscale };
    for (size_t i = 0; i < AT_COUNT(floats); i++)
        free(floats[i]);
    for (size_t i = 0; i < AT_COUNT(doubles); i++)
        free(doubles[i]);
    free(plane0);
    free(plane1);
}

static void linear_one_row_equals_reference(void **state)
{
    static const struct layer layers[] = {
        { AT_F32, 1, 1, 1 },      { AT_F32, 1, 63, 65 },    { AT_F32, 1, 576, 700 },
        { AT_F16, 1, 130, 63 },   { AT_BF16, 1, 577, 300 }, { AT_Q8_0, 1, 576, 700 },
        { AT_Q4_0, 1, 160, 200 }, { AT_Q4_1, 1, 32, 3 },    { AT_Q4_1, 1, 1536, 577 },
        { AT_Q6_K, 1, 768, 130 }, { AT_Q5_0, 1, 160, 70 },  { AT_Q5_1, 1, 96, 70 },
        { AT_Q2_K, 1, 512, 70 },  { AT_Q3_K, 1, 512, 70 },  { AT_Q4_K, 1, 768, 70 },
        { AT_Q5_K, 1, 512, 70 },  { AT_IQ4, 1, 96, 70 },    { AT_NF4, 1, 192, 70 },
        { AT_FP4, 1, 64, 70 },    { AT_INT8, 1, 96, 70 },
    };

    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        for (size_t i = 0; i < AT_COUNT(layers); i++) {
            check_row(&t, &layers[i], 1, false);
            check_row(&t, &layers[i], -0.5f, true);
        }
        gt_close(&t);
    }
}

/* Rows of x in parts of `step` at a time. */
static void in_parts(struct gt *t, struct at_tensor y, struct at_tensor x, struct at_weight w,
                     const struct at_linear_scratch *scratch, const float *before, uint32_t step)
{
    OK(at_tensor_write(t->gpu, y, before));
    for (uint32_t m = 0; m < x.dim[0]; m += step) {
        const uint32_t n = x.dim[0] - m < step ? x.dim[0] - m : step;
        at_linear_fwd(t->stream, at_tensor_rows(y, m, n), at_tensor_rows(x, m, n), w, scratch,
                      true);
    }
    OK(at_stream_wait(t->stream));
}

static void check_parts(struct gt *t, const struct layer *l)
{
    static const uint32_t steps[] = { 16, 32, 48 };
    const size_t y_n = (size_t)l->T * l->N;
    uint8_t *planes[2];
    float *W = make_weight(&planes[0], &planes[1], l), *x = gt_floats((size_t)l->T * l->K, 1);
    float *before = gt_floats(y_n, 1), *whole = gt_floats(y_n, 1), *parts = gt_floats(y_n, 1);
    struct at_weight w;
    struct at_linear_scratch scratch = { 0 };
    size_t b[5] = { 0 };

    gt_begin(t);
    plan_weight(t, b, l);
    b[2] = gt_plan_tensor(t, l->T, l->K, 0);
    b[3] = gt_plan_tensor(t, l->T, l->N, 0);
    b[4] = gt_plan(t, at_tensor_apart_bytes(l->N, l->K));
    gt_commit(t);
    w = write_weight(t, b, l, planes[0], planes[1]);
    scratch.panel = gt_view(t, b[4]);
    const struct at_tensor X = gt_tensor(t, b[2], l->T, l->K, 0);
    const struct at_tensor Y = gt_tensor(t, b[3], l->T, l->N, 0);

    OK(at_tensor_write(t->gpu, X, x));
    in_parts(t, Y, X, w, &scratch, before, l->T);
    OK(at_tensor_read(t->gpu, whole, Y));
    for (size_t i = 0; i < AT_COUNT(steps); i++) {
        in_parts(t, Y, X, w, &scratch, before, steps[i]);
        OK(at_tensor_read(t->gpu, parts, Y));
        for (size_t k = 0; k < y_n; k++)
            if (whole[k] != parts[k])
                fail_msg("%s: %s %u x %u, %u rows at a time: [%zu] %.9g, all at once %.9g",
                         t->setting, at_quant_get(l->type)->name, l->N, l->K, steps[i], k,
                         (double)parts[k], (double)whole[k]);
    }
    gt_end(t);
    free(W);
    free(x);
    free(before);
    free(whole);
    free(parts);
    free(planes[0]);
    free(planes[1]);
}

/* 1, 4, 16, 32 and 48 of 65 rows: kernels for few rows and for many. K from 4096 on is summed in
 * blocks. */
static void linear_rows_have_the_same_bits_few_or_many(void **state)
{
    static const struct layer layers[] = {
        { AT_F32, 65, 577, 70 },  { AT_F32, 66, 4096, 6 },  { AT_F16, 65, 130, 63 },
        { AT_BF16, 65, 577, 70 }, { AT_Q8_0, 67, 576, 70 }, { AT_Q4_0, 65, 160, 200 },
        { AT_Q4_1, 65, 32, 3 },   { AT_Q4_1, 65, 4096, 6 }, { AT_Q6_K, 68, 768, 70 },
        { AT_Q5_0, 65, 160, 70 }, { AT_Q5_1, 65, 96, 70 },  { AT_Q2_K, 65, 512, 70 },
        { AT_Q3_K, 65, 512, 70 }, { AT_Q4_K, 71, 768, 70 }, { AT_Q5_K, 65, 512, 70 },
        { AT_IQ4, 65, 96, 70 },   { AT_NF4, 65, 192, 70 },  { AT_FP4, 65, 64, 70 },
        { AT_INT8, 65, 96, 70 },
    };

    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        const size_t n = setting == 0 ? AT_COUNT(layers) : 2; /* a pipeline takes time */

        gt_open(&t, setting);
        for (size_t i = 0; i < n; i++)
            check_parts(&t, &layers[i]);
        gt_close(&t);
    }
}

/* Weights that lie together, of values that any device reads: whole numbers, scale 1. */
static void write_weights(struct gt *t, const struct at_weight *w, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const size_t bytes = w[i].plane[0].bytes;
        int8_t *q = malloc(bytes);
        float *x = gt_floats(bytes / sizeof(float), 1);

        for (size_t k = 0; k < bytes; k++)
            q[k] = (int8_t)(gt_random() % 255);
        OK(at_gpu_write(t->gpu, w[i].plane[0], w[i].type == AT_F32 ? (void *)x : q, bytes));
        if (w[i].type == AT_Q8_0)
            at_stream_fill(t->stream, w[i].plane[1], 0x3c003c00);
        free(q);
        free(x);
    }
}

/* One product into columns of one tensor, and one for each weight. */
static void check_together(struct gt *t, enum at_quant_type type, uint32_t T)
{
    enum { PARTS = 3, K = 64, N = 80 };
    static const uint32_t rows[PARTS] = { 48, 16, 16 };
    struct at_weight w[PARTS], all;
    struct at_tensor x, wide, apart[PARTS], columns[PARTS], all_y;
    const struct at_weight *const largest[] = { &w[0] };
    struct at_linear_scratch scratch;
    float *values = gt_floats((size_t)T * K, 1), *got = gt_floats((size_t)T * N, 1);
    float *want = gt_floats((size_t)T * N, 1);
    struct at_pool *pool;

    OK(at_pool_create(&pool, t->gpu, "together"));
    for (uint32_t i = 0; i < PARTS; i++)
        w[i] = (struct at_weight){ .type = type, .rows = rows[i], .cols = K };
    at_weights_reserve(pool, w, PARTS, "weights");
    at_linear_scratch_reserve(pool, &scratch, largest, 1, T, false);
    at_tensor_reserve(pool, &x, T, K, "x");
    at_tensor_reserve(pool, &wide, T + 1, N, "together");
    for (uint32_t i = 0; i < PARTS; i++)
        at_tensor_reserve(pool, &apart[i], T, rows[i], "apart");
    OK(at_pool_commit(pool));
    OK(at_tensor_write(t->gpu, x, values));
    write_weights(t, w, PARTS);
    for (uint32_t i = 0, begin = 0; i < PARTS; begin += rows[i++])
        columns[i] = at_tensor_columns(wide, T, begin, rows[i]);

    assert_true(at_weights_join(&all, w, PARTS));
    assert_int_equal(all.rows, N);
    assert_true(at_tensor_join(&all_y, columns, PARTS));
    at_linear_fwd(t->stream, all_y, x, all, &scratch, false);
    for (uint32_t i = 0; i < PARTS; i++)
        at_linear_fwd(t->stream, apart[i], x, w[i], &scratch, false);
    OK(at_stream_wait(t->stream));
    for (uint32_t i = 0; i < PARTS; i++) {
        OK(at_tensor_read(t->gpu, got, columns[i]));
        OK(at_tensor_read(t->gpu, want, apart[i]));
        assert_memory_equal(got, want, (size_t)T * rows[i] * sizeof *got);
    }

    assert_false(at_tensor_join(&all_y, apart, PARTS));
    assert_false(at_weights_join(&all, (struct at_weight[]){ w[0], w[2] }, 2));
    w[1].type = AT_BF16;
    assert_false(at_weights_join(&all, w, PARTS));
    at_pool_destroy(&pool);
    free(values);
    free(got);
    free(want);
}

static void linear_weights_together_have_the_bits_of_each(void **state)
{
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    for (uint32_t T = 1; T <= 5 && at_gpu_get_info(t.gpu)->few_rows; T += 4) {
        check_together(&t, AT_F32, T);
        check_together(&t, AT_Q8_0, T);
    }
    gt_close(&t);
}

/* Tensors apart: an odd number of 64 bytes a row on processors, else as any; a copy has the same
 * rows. */
static void linear_operands_lie_apart_on_processors(void **state)
{
    enum { ROWS = 3, MOST = 2048 };
    static const uint32_t widths[] = { 1, 16, 17, 576, 1536, MOST };
    float *values = gt_floats((size_t)ROWS * MOST, 1), *got = gt_floats((size_t)ROWS * MOST, 1);
    struct at_tensor from[AT_COUNT(widths)], to[AT_COUNT(widths)];
    struct at_pool *pool;
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    OK(at_pool_create(&pool, t.gpu, "apart"));
    for (size_t i = 0; i < AT_COUNT(widths); i++) {
        at_tensor_reserve_apart(pool, &from[i], ROWS, widths[i], "from");
        at_tensor_reserve_apart(pool, &to[i], ROWS, widths[i], "to");
    }
    OK(at_pool_commit(pool));
    for (size_t i = 0; i < AT_COUNT(widths); i++) {
        assert_true(from[i].ld >= widths[i] && from[i].view.bytes >= 4ul * ROWS * from[i].ld);
        if (at_gpu_get_info(t.gpu)->type == AT_GPU_CPU)
            assert_int_equal(from[i].ld % 32, 16);
        else
            assert_int_equal(from[i].ld, at_tensor_ld(widths[i]));
        OK(at_tensor_write(t.gpu, from[i], values));
        at_tensor_copy(t.stream, to[i], from[i]);
        OK(at_stream_wait(t.stream));
        OK(at_tensor_read(t.gpu, got, to[i]));
        assert_memory_equal(got, values, (size_t)ROWS * widths[i] * sizeof *got);
    }
    at_pool_destroy(&pool);
    gt_close(&t);
    free(values);
    free(got);
}

static void linear_scratch_holds_the_largest_panel(void **state)
{
    struct at_weight w[3] = { { .type = AT_F32, .rows = 9000, .cols = 9000 },
                              { .type = AT_F16, .rows = 100, .cols = 30 },
                              { .type = AT_Q8_0, .rows = 40000, .cols = 1024 } };
    const struct at_weight *const all[] = { &w[0], &w[1], &w[2] };
    struct at_linear_scratch scratch;
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    gt_begin(&t);
    at_linear_scratch_reserve(t.pool, &scratch, all, 1, 64, false);
    assert_int_equal(at_pool_bytes(t.pool), 0);
    at_linear_scratch_reserve(t.pool, &scratch, all, 2, 64, false);
    assert_int_equal(at_pool_bytes(t.pool), 100 * 48 * 4);
    gt_begin(&t);
    at_linear_scratch_reserve(t.pool, &scratch, all, 3, 64, false);
    assert_int_equal(at_pool_bytes(t.pool), 16128 * 1040 * 4);
    gt_close(&t);
}

static void check_bias(struct gt *t, uint32_t T, uint32_t C)
{
    const size_t n = (size_t)T * C;
    float *y = gt_floats(n, 1), *b = gt_floats(C, 1), *db = gt_floats(C, 1);
    double *y64 = gt_doubles(y, n), *b64 = gt_doubles(b, C), *db64 = gt_doubles(db, C);
    size_t iy, ib, idb;

    gt_begin(t);
    iy = gt_plan_tensor(t, T, C, 4);
    ib = gt_plan(t, C * sizeof(float));
    idb = gt_plan(t, C * sizeof(float));
    gt_commit(t);
    const struct at_tensor Y = gt_tensor(t, iy, T, C, 4);

    OK(at_tensor_write(t->gpu, Y, y));
    OK(at_gpu_write(t->gpu, gt_view(t, ib), b, C * sizeof *b));
    OK(at_gpu_write(t->gpu, gt_view(t, idb), db, C * sizeof *db));
    at_bias_bwd(t->stream, gt_view(t, idb), Y);
    at_bias_fwd(t->stream, Y, gt_view(t, ib));
    OK(at_stream_wait(t->stream));
    ref_bias_bwd(db64, y64, T, C);
    ref_bias_fwd(y64, b64, T, C);
    OK(at_tensor_read(t->gpu, y, Y));
    OK(at_gpu_read(t->gpu, db, gt_view(t, idb), C * sizeof *db));
    gt_require_close(t, "y", y, y64, NULL, n, TOL_GEMM);
    gt_require_close(t, "db", db, db64, NULL, C, TOL_GEMM * (double)T);
    gt_end(t);
    free(y);
    free(b);
    free(db);
    free(y64);
    free(b64);
    free(db64);
}

static void bias_any_shape_equals_reference(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        check_bias(&t, 1, 1);
        check_bias(&t, 3, 63);
        check_bias(&t, 130, 577);
        check_bias(&t, 700, 576);
        gt_close(&t);
    }
}

/* ---- LoRA ---- */

enum { X, A, B, DY, Y, DX, DA, DB, Z, DZ, LORA_TENSORS };

/* A frozen adapter, after a backward pass into v and d: dx grows again, the gradients stay; without
 * a dx nothing changes. */
static void require_frozen(struct gt *t, const struct at_tensor v[], float *const f[],
                           double *const d[], const struct at_lora *fixed,
                           const struct ref_lora *ref)
{
    const size_t n_dx = ref->T * ref->K;
    const struct at_tensor none = { .dim = { v[DX].dim[0], v[DX].dim[1] } };
    double most = 1;

    at_lora_bwd(t->stream, v[DX], v[DZ], v[DY], v[X], v[Z], fixed);
    at_lora_bwd(t->stream, none, v[DZ], v[DY], v[X], v[Z], fixed);
    OK(at_stream_wait(t->stream));
    ref_lora_bwd(d[DX], d[DZ], d[DA], d[DB], d[DY], d[X], ref);
    for (size_t j = 0; j < n_dx; j++)
        most = fabs(d[DX][j]) > most ? fabs(d[DX][j]) : most;
    OK(at_tensor_read(t->gpu, f[DX], v[DX]));
    gt_require_close(t, "dx of a frozen adapter", f[DX], d[DX], NULL, n_dx, TOL_LINEAR * most);
    for (int i = DA; i <= DB; i++) {
        const size_t n = (size_t)v[i].dim[0] * v[i].dim[1];
        float *now = gt_floats(n, 1);

        OK(at_tensor_read(t->gpu, now, v[i]));
        assert_memory_equal(now, f[i], n * sizeof *now);
        free(now);
    }
}

static void check_lora(struct gt *t, uint32_t T, uint32_t K, uint32_t N, uint32_t r)
{
    const uint32_t dims[LORA_TENSORS][2] = {
        [X] = { T, K },  [A] = { r, K },  [B] = { N, r },  [DY] = { T, N }, [Y] = { T, N },
        [DX] = { T, K }, [DA] = { r, K }, [DB] = { N, r }, [Z] = { T, r },  [DZ] = { T, r }
    };
    float *f[LORA_TENSORS];
    double *d[LORA_TENSORS];
    size_t ids[LORA_TENSORS];
    struct at_tensor v[LORA_TENSORS];

    gt_begin(t);
    for (int i = 0; i < LORA_TENSORS; i++) {
        f[i] = gt_floats((size_t)dims[i][0] * dims[i][1], 1);
        d[i] = gt_doubles(f[i], (size_t)dims[i][0] * dims[i][1]);
        ids[i] = gt_plan_tensor(t, dims[i][0], dims[i][1], 0);
    }
    gt_commit(t);
    for (int i = 0; i < LORA_TENSORS; i++) {
        v[i] = gt_tensor(t, ids[i], dims[i][0], dims[i][1], 0);
        OK(at_tensor_write(t->gpu, v[i], f[i]));
    }
    const struct at_lora lora = { .A = v[A], .B = v[B], .dA = v[DA], .dB = v[DB], .scale = 0.5f };
    const struct at_lora fixed = { .A = v[A], .B = v[B], .scale = 0.5f };
    const struct ref_lora ref = {
        .T = T, .K = K, .N = N, .r = r, .A = d[A], .B = d[B], .scale = 0.5
    };

    if (T == 1)
        at_lora_row(t->stream, v[Y], v[Z], v[X], &lora);
    else
        at_lora_fwd(t->stream, v[Y], v[Z], v[X], &lora);
    at_lora_bwd(t->stream, v[DX], v[DZ], v[DY], v[X], v[Z], &lora);
    OK(at_stream_wait(t->stream));
    ref_lora_fwd(d[Y], d[Z], d[X], &ref);
    ref_lora_bwd(d[DX], d[DZ], d[DA], d[DB], d[DY], d[X], &ref);
    for (int i = Y; i < LORA_TENSORS; i++) {
        static const char *const names[] = {
            [Y] = "y", [DX] = "dx", [DA] = "dA", [DB] = "dB", [Z] = "z", [DZ] = "dz"
        };
        const size_t n = (size_t)dims[i][0] * dims[i][1];
        double most = 1;

        for (size_t j = 0; j < n; j++)
            most = fabs(d[i][j]) > most ? fabs(d[i][j]) : most;
        OK(at_tensor_read(t->gpu, f[i], v[i]));
        gt_require_close(t, names[i], f[i], d[i], NULL, n, TOL_LINEAR * most);
    }
    require_frozen(t, v, f, d, &fixed, &ref);
    gt_end(t);
    for (int i = 0; i < LORA_TENSORS; i++) {
        free(f[i]);
        free(d[i]);
    }
}

static void lora_forward_and_backward_equal_reference(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        check_lora(&t, 1, 3, 5, 1);
        check_lora(&t, 1, 96, 130, 16);
        check_lora(&t, 2, 3, 5, 1);
        check_lora(&t, 64, 130, 63, 8);
        check_lora(&t, 300, 96, 160, 16);
        gt_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_stored_weights_equal_reference),
        cmocka_unit_test(linear_one_row_equals_reference),
        cmocka_unit_test(linear_rows_have_the_same_bits_few_or_many),
        cmocka_unit_test(linear_weights_together_have_the_bits_of_each),
        cmocka_unit_test(linear_operands_lie_apart_on_processors),
        cmocka_unit_test(linear_scratch_holds_the_largest_panel),
        cmocka_unit_test(bias_any_shape_equals_reference),
        cmocka_unit_test(lora_forward_and_backward_equal_reference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
