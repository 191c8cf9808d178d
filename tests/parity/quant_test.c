/* links: base gpu ops */
/* at_dequantise = the values of gguf-py, bit for bit, through the planes of quant.h. */
#include "gpu_test.h"
#include <float.h>
#include <math.h>

#include "quant.h"
#include "ref_quant.h"

static uint8_t *random_blocks(const struct ref_quant *quant, size_t n)
{
    uint8_t *blocks = malloc(n * quant->block_bytes);

    assert_non_null(blocks);
    for (size_t i = 0; i < n * quant->block_bytes; i++)
        blocks[i] = (uint8_t)(gt_random() & 0xff);
    ref_quant_tame(quant, blocks, n);
    return blocks;
}

static enum at_quant_type type_of(const struct ref_quant *quant)
{
    int type = 0;

    while (type < AT_QUANT_COUNT &&
           strcmp(at_quant_get((enum at_quant_type)type)->name, quant->device) != 0)
        type++;
    assert_int_not_equal(type, AT_QUANT_COUNT);
    return (enum at_quant_type)type;
}

/* The bits. Vulkan lets a device give zero for a subnormal product, which SwiftShader does. */
static bool is_value(const struct gt *t, float got, float want)
{
    const bool flushes = !strstr(at_gpu_get_info(t->gpu)->name, "llvmpipe");

    return memcmp(&got, &want, sizeof got) == 0 ||
           (flushes && got == 0 && fabsf(want) < FLT_MIN && !signbit(got) == !signbit(want));
}

static void check(struct gt *t, const struct ref_quant *quant, uint32_t rows, uint32_t cols)
{
    const enum at_quant_type type = type_of(quant);
    const size_t n = (size_t)rows * cols;
    const size_t stride0 = at_quant_row_bytes(type, 0, cols);
    const size_t stride1 = at_quant_row_bytes(type, 1, cols);
    uint8_t *blocks = random_blocks(quant, n / quant->block_cols);
    uint8_t *plane0 = calloc(rows, stride0), *plane1 = calloc(rows, stride1 + 1);
    float *want = gt_floats(n, 1), *got = gt_floats(n, 1), *again = gt_floats(n, 1);
    struct at_weight w = { .type = type, .rows = rows, .cols = cols };
    const uint32_t begin = rows / 32 * 16; /* aligned on every device */
    struct at_tensor out;
    size_t p0, p1, o;

    ref_quant_values(want, quant, blocks, n);
    ref_quant_planes(plane0, stride0, plane1, stride1, quant, blocks, rows, cols);
    gt_begin(t);
    p0 = gt_plan(t, rows * stride0);
    p1 = stride1 > 0 ? gt_plan(t, rows * stride1) : p0;
    o = gt_plan_tensor(t, rows, cols, 4);
    gt_commit(t);
    out = gt_tensor(t, o, rows, cols, 4);
    w.plane[0] = gt_view(t, p0);
    OK(at_gpu_write(t->gpu, w.plane[0], plane0, rows * stride0));
    if (stride1 > 0) {
        w.plane[1] = gt_view(t, p1);
        OK(at_gpu_write(t->gpu, w.plane[1], plane1, rows * stride1));
    }
    at_dequantise(t->stream, out, w);
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, got, out));
    at_dequantise(t->stream, at_tensor_rows(out, begin, rows - begin),
                  at_weight_rows(w, begin, rows - begin));
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, again, out));
    for (size_t i = 0; i < n; i++)
        if (!is_value(t, got[i], want[i]))
            fail_msg("%s: %s (%u,%u)[%zu]: got %.9g, want %.9g", t->setting, quant->name, rows,
                     cols, i, (double)got[i], (double)want[i]);
    assert_memory_equal(got, again, n * sizeof *got);
    gt_end(t);
    free(blocks);
    free(plane0);
    free(plane1);
    free(want);
    free(got);
    free(again);
}

static void dequantise_every_type_equals_definition(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        for (size_t i = 0; i < ref_n_quants; i++) {
            const struct ref_quant *quant = &ref_quants[i];
            const uint32_t block = (uint32_t)quant->block_cols;

            check(&t, quant, 3, 3 * block);
            check(&t, quant, 65, block == 1 ? 577 : 768);
            if (i % GT_SETTINGS == setting) /* more than a binding of 1 MiB holds */
                check(&t, quant, 700, block == 1 ? 1000 : 1024);
        }
        /* more workgroups than many devices dispatch */
        check(&t, ref_quant_find("F16"), 65535 * 16 + 40, 1);
        gt_close(&t);
    }
}

/* Rows of whole KiB have a gap in a weight and none in a tensor. */
static void f32_weights_keep_their_bits(void **state)
{
    static const uint32_t widths[] = { 1, 63, 256, 1024, 1028 };
    enum { ROWS = 37, BEGIN = 16 };

    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        for (size_t i = 0; i < AT_COUNT(widths); i++) {
            const size_t width = widths[i], n = ROWS * width, rest = ROWS - BEGIN;
            float *want = gt_floats(n, 1), *got = gt_floats(n, 1);
            struct at_weight w;
            struct at_tensor x;

            gt_begin(&t);
            at_weight_reserve(t.pool, &w, AT_F32, ROWS, widths[i], "weight");
            at_tensor_reserve(t.pool, &x, ROWS, widths[i], "values");
            gt_commit(&t);
            assert_int_equal(at_weight_values(w).ld - x.ld, width % 256 == 0 ? 16 : 0);
            OK(at_tensor_write(t.gpu, at_weight_values(w), want));
            at_dequantise(t.stream, x, w);
            OK(at_stream_wait(t.stream));
            OK(at_tensor_read(t.gpu, got, x));
            assert_memory_equal(got, want, n * sizeof *got);
            at_dequantise(t.stream, at_tensor_rows(x, 0, rest), at_weight_rows(w, BEGIN, rest));
            OK(at_stream_wait(t.stream));
            OK(at_tensor_read(t.gpu, got, x));
            assert_memory_equal(got, want + BEGIN * width, rest * width * sizeof *got);
            gt_end(&t);
            free(want);
            free(got);
        }
        gt_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dequantise_every_type_equals_definition),
        cmocka_unit_test(f32_weights_keep_their_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
