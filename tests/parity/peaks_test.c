/* links: base gpu ops */
/* What is timed as a device's peak computes all of its multiply-adds, and the table counts them. */
#include "gpu_test.h"

#include "peaks.h"
#include "tolerances.h"

enum { N = 1000, TURNS = 3, LARGEST = 8 * 64 * 32 }; /* matrices of a workgroup */

static void multiply_adds_are_computed(void **state)
{
    const float factor = 0.75f, offset = 0.5f;
    float got[N], again[N];
    double want[N];
    struct gt t;

    (void)state;
    for (int i = 0; i < N; i++) {
        want[i] = 0;
        for (int chain = 0; chain < 3; chain++) {
            double x = i % 64 / 64.0 + chain;
            for (int k = 0; k < 16 * TURNS; k++)
                x = factor * x + offset;
            want[i] += x;
        }
    }
    for (size_t s = 0; s < GT_SETTINGS; s++) {
        size_t y;

        gt_open(&t, s);
        gt_begin(&t);
        y = gt_plan(&t, sizeof got);
        gt_commit(&t);
        at_peak_multiply(t.stream, gt_view(&t, y), N, TURNS, factor, offset);
        OK(at_stream_wait(t.stream));
        OK(at_gpu_read(t.gpu, got, gt_view(&t, y), sizeof got));
        at_peak_multiply(t.stream, gt_view(&t, y), N, TURNS, factor, offset);
        OK(at_stream_wait(t.stream));
        OK(at_gpu_read(t.gpu, again, gt_view(&t, y), sizeof again));
        gt_require_close(&t, "y", got, want, NULL, N, TOL_ROW);
        assert_memory_equal(got, again, sizeof got);
        gt_end(&t);
        gt_close(&t);
    }
}

/* Steps of TK / 4 times powers of two, which f32 adds without rounding; with factor -1 every second
 * one takes back what the one before gave (on CPU devices: EACH). */
static void check_matrix(struct gt *t, float factor)
{
    const struct at_matrix_shape m = at_gpu_get_info(t->gpu)->matrix;
    const uint32_t n = 3 * 8 * m.m * m.n; /* of workgroups */
    const float want = 4 * 0.5f + 6 + (factor > 0 ? 60 * TURNS * (float)m.k : 0);
    float *got = malloc(n * sizeof *got);
    size_t y;

    assert_non_null(got);
    gt_begin(t);
    y = gt_plan(t, n * sizeof *got);
    gt_commit(t);
    at_peak_matrix(t->stream, gt_view(t, y), n, TURNS, factor, 0.5f);
    OK(at_stream_wait(t->stream));
    OK(at_gpu_read(t->gpu, got, gt_view(t, y), n * sizeof *got));
    for (uint32_t i = 0; i < n; i++)
        if (got[i] != want)
            fail_msg("%u x %u x %u: y[%u] is %g, not %g", m.m, m.n, m.k, i, (double)got[i],
                     (double)want);
    gt_end(t);
    free(got);
}

static void matrix_products_are_computed(void **state)
{
    const struct at_matrix_shape *m;
    struct gt t;

    (void)state;
    for (size_t i = 0; i <= GT_SHAPES; i++) {
        if (i == GT_SHAPES)
            gt_open(&t, 0);
        else if (!gt_open_shape(&t, i))
            continue;
        m = &at_gpu_get_info(t.gpu)->matrix;
        if (at_peak_has_matrix(t.gpu)) {
            check_matrix(&t, 1);
            if (at_gpu_get_info(t.gpu)->type == AT_GPU_CPU)
                check_matrix(&t, -1);
            printf("peak by matrix units of %u x %u x %u\n", m->m, m->n, m->k);
        }
        gt_close(&t);
    }
}

/* 3 chains, 16 multiply-adds a turn and element; 4 of TK in matrices. */
static void peaks_are_counted(void **state)
{
    struct at_gpu *gpu = gt_open_device((struct at_gpu_params){ .profile = true });
    struct at_kernel_time *times = NULL;
    struct at_stream *stream = NULL;
    struct at_arena arena = { 0 };
    struct at_pool *pool = NULL;
    struct at_peaks peaks = { 0 };
    struct at_view y;
    struct at_rate rate = { 0, 0 };
    size_t n = 0;

    (void)state;
    OK(at_pool_create(&pool, gpu, "test"));
    at_pool_reserve(pool, &y, LARGEST * sizeof(float), "y");
    OK(at_pool_commit(pool));
    OK(at_stream_create(&stream, gpu));
    at_peak_multiply(stream, y, N, TURNS, 1, 0);
    OK(at_stream_profile(stream, &arena, &times, &n));
    if (at_gpu_get_info(gpu)->timestamps) {
        assert_int_equal(n, 1);
        assert_true(times[0].flop == 2.0 * 3 * 16 * N * TURNS);
        assert_string_equal(times[0].shape, "n=1000");
    }
    if (at_peak_has_matrix(gpu) && at_gpu_get_info(gpu)->timestamps) {
        const struct at_matrix_shape m = at_gpu_get_info(gpu)->matrix;

        at_peak_matrix(stream, y, 8 * m.m * m.n, TURNS, 1, 0);
        OK(at_stream_profile(stream, &arena, &times, &n));
        assert_int_equal(n, 1);
        assert_string_equal(times[0].variant, "matrix");
        assert_true(times[0].flop == 2.0 * 4 * 16 * m.k * TURNS * 8 * m.m * m.n);
    }
    OK(at_peaks_measure(&peaks, gpu));
    assert_true(at_peak_has_matrix(gpu)
                    ? peaks.matrix_flop_per_s > 1e8 && peaks.matrix_flop_per_s < 1e17
                    : peaks.matrix_flop_per_s == 0);
    OK(at_product_rate(&rate, gpu, 128, 192, 64));
    assert_true(rate.least > 1e8 && rate.least <= rate.best && rate.best < 1e16);
    assert_true(peaks.flop_per_s > 1e8 && peaks.flop_per_s < 1e16);
    assert_true(peaks.byte_per_s > 1e8 && peaks.byte_per_s < 1e14);
    at_arena_release(&arena);
    at_stream_destroy(&stream);
    at_pool_destroy(&pool);
    at_gpu_close(&gpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(multiply_adds_are_computed),
        cmocka_unit_test(matrix_products_are_computed),
        cmocka_unit_test(peaks_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
