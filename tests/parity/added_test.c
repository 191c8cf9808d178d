/* links: base gpu ops */
/* A linear layer to whose product another is added has the bits of the two in turn, and is a launch
 * less where the device has kernels for it: whatever the weight's type, with few rows and many,
 * sums in blocks of k, and dequantised panels. */
#include "gpu_test.h"

#include "linear.h"

struct layer {
    enum at_quant_type type;
    uint32_t T, K, N, r;
};

struct tensors {
    struct at_weight w;
    struct at_linear_scratch scratch;
    struct at_tensor x, y, z, B, dy, dx, dz, A;
};

/* Values that any device reads: halves of small whole numbers, scale 1. */
static void write_weight(struct gt *t, const struct at_weight *w)
{
    const size_t bytes = w->plane[0].bytes;
    float *values = gt_floats(bytes / 4 + 1, 1);
    int8_t *out = (int8_t *)values;

    for (size_t k = 0; w->type == AT_Q8_0 && k < bytes; k++)
        out[k] = (int8_t)(gt_random() % 255);
    for (size_t k = 0; w->type != AT_Q8_0 && w->type != AT_F32 && k < bytes / 2; k++) {
        const uint16_t half = (uint16_t)(0x3c00 + (gt_random() & 0x83ff)); /* +-1 to 2 or less */
        memcpy(out + 2 * k, &half, sizeof half);
    }
    OK(at_gpu_write(t->gpu, w->plane[0], values, bytes));
    if (w->type == AT_Q8_0)
        at_stream_fill(t->stream, w->plane[1], 0x3c003c00);
    free(values);
}

static void write_random(struct gt *t, struct at_tensor tensor)
{
    float *values = gt_floats((size_t)tensor.dim[0] * tensor.dim[1], 1);

    OK(at_tensor_write(t->gpu, tensor, values));
    free(values);
}

static void plan(struct gt *t, struct tensors *v, const struct layer *l)
{
    const struct at_weight *const all[] = { &v->w };
    struct at_tensor *const tensors[] = {
        &v->x, &v->y, &v->z, &v->B, &v->dy, &v->dx, &v->dz, &v->A
    };
    const uint32_t dims[][2] = { { l->T, l->K }, { l->T, l->N }, { l->T, l->r }, { l->N, l->r },
                                 { l->T, l->N }, { l->T, l->K }, { l->T, l->r }, { l->r, l->K } };

    *v = (struct tensors){ .w = { .type = l->type, .rows = l->N, .cols = l->K } };
    gt_begin(t);
    at_weights_reserve(t->pool, &v->w, 1, "weight");
    at_linear_scratch_reserve(t->pool, &v->scratch, all, 1, l->T, false);
    for (size_t i = 0; i < AT_COUNT(tensors); i++)
        at_tensor_reserve(t->pool, tensors[i], dims[i][0], dims[i][1], "tensor");
    gt_commit(t);
    write_weight(t, &v->w);
    for (size_t i = 0; i < AT_COUNT(tensors); i++)
        write_random(t, *tensors[i]);
    if (v->scratch.panel.buffer && l->N > 64) /* panels of 64 rows */
        v->scratch.panel = at_view_part(v->scratch.panel, 0, at_tensor_apart_bytes(64, l->K));
}

static uint64_t launches(struct gt *t)
{
    uint64_t n, submissions;

    OK(at_stream_wait(t->stream));
    at_stream_counts(t->stream, &n, &submissions);
    return n;
}

/* Forward or backward, in one or in turn; the launches it took. */
static uint64_t compute(struct gt *t, const struct tensors *v, bool forward, bool in_one,
                        bool accumulate)
{
    const struct at_added added =
        forward ? (struct at_added){ v->z, v->B, 0.5f } : (struct at_added){ v->dz, v->A, 0.5f };
    const uint64_t before = launches(t);

    if (forward && in_one)
        at_linear_fwd_and(t->stream, v->y, v->x, v->w, &v->scratch, accumulate, &added);
    else if (forward)
        at_linear_fwd(t->stream, v->y, v->x, v->w, &v->scratch, accumulate);
    else if (in_one)
        at_linear_bwd_and(t->stream, v->dx, v->dy, v->w, &v->scratch, accumulate, &added);
    else
        at_linear_bwd(t->stream, v->dx, v->dy, v->w, &v->scratch, accumulate);
    if (forward && !in_one)
        at_matmul_nt(t->stream, v->y, added.a, added.b, added.scale, true);
    else if (!in_one)
        at_matmul_nn(t->stream, v->dx, added.a, added.b, added.scale, true);
    return launches(t) - before;
}

static void check(struct gt *t, const struct layer *l, bool forward, bool accumulate)
{
    const size_t n = (size_t)l->T * (forward ? l->N : l->K);
    float *start = gt_floats(n, 1), *got = gt_floats(n, 1), *want = gt_floats(n, 1);
    const struct at_gpu_info *info = at_gpu_get_info(t->gpu);
    struct tensors v;
    uint64_t in_one, in_turn;

    plan(t, &v, l);
    const struct at_tensor out = forward ? v.y : v.dx;

    OK(at_tensor_write(t->gpu, out, start));
    in_turn = compute(t, &v, forward, false, accumulate);
    OK(at_tensor_read(t->gpu, want, out));
    OK(at_tensor_write(t->gpu, out, start));
    in_one = compute(t, &v, forward, true, accumulate);
    OK(at_tensor_read(t->gpu, got, out));
    for (size_t i = 0; i < n; i++)
        // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-*): bits are meant
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("%s: %s %u x %u x %u, rank %u, %s: [%zu] %.9g in one, %.9g in turn",
                     t->setting, at_quant_get(l->type)->name, l->T, l->N, l->K, l->r,
                     forward ? "forward" : "backward", i, (double)got[i], (double)want[i]);
    if (info->few_rows && l->T > 64 && l->r == 16 && out.dim[1] > 32 &&
        at_tensor_view(v.y).bytes <= info->max_range_bytes)
        assert_int_equal(in_one, in_turn - 1);
    gt_end(t);
    free(start);
    free(got);
    free(want);
}

static void linear_with_a_product_added_has_the_bits_of_both(void **state)
{
    static const struct layer layers[] = {
        { AT_F32, 70, 96, 70, 16 },    { AT_F32, 20, 130, 63, 6 },   { AT_F32, 65, 4100, 36, 3 },
        { AT_BF16, 130, 96, 100, 16 }, { AT_F16, 70, 160, 130, 8 },  { AT_Q8_0, 70, 96, 170, 16 },
        { AT_Q8_0, 12, 96, 70, 16 },   { AT_Q8_0, 100, 64, 30, 16 }, { AT_Q8_0, 70, 96, 70, 4100 },
        { AT_Q8_0, 70, 96, 4160, 16 },
    };

    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        for (size_t i = 0; i < AT_COUNT(layers); i++) {
            check(&t, &layers[i], true, i % 2 == 0);
            check(&t, &layers[i], false, i % 2 != 0);
        }
        gt_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_with_a_product_added_has_the_bits_of_both),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
