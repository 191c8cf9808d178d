/* links: base gpu ops */
/* What is timed as a device's peak computes all of its multiply-adds, and the table counts them. */
#include "gpu_test.h"

#include "peaks.h"
#include "tolerances.h"

enum { N = 1000, TURNS = 3 };

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

/* 3 chains, 16 multiply-adds a turn and element. */
static void peaks_are_counted(void **state)
{
    struct at_gpu *gpu = gt_open_device((struct at_gpu_params){ .profile = true });
    struct at_kernel_time *times = NULL;
    struct at_stream *stream = NULL;
    struct at_arena arena = { 0 };
    struct at_pool *pool = NULL;
    struct at_peaks peaks = { 0 };
    struct at_view y;
    size_t n = 0;

    (void)state;
    OK(at_pool_create(&pool, gpu, "test"));
    at_pool_reserve(pool, &y, N * sizeof(float), "y");
    OK(at_pool_commit(pool));
    OK(at_stream_create(&stream, gpu));
    at_peak_multiply(stream, y, N, TURNS, 1, 0);
    OK(at_stream_profile(stream, &arena, &times, &n));
    if (at_gpu_get_info(gpu)->timestamps) {
        assert_int_equal(n, 1);
        assert_true(times[0].flop == 2.0 * 3 * 16 * N * TURNS);
        assert_string_equal(times[0].shape, "n=1000");
    }
    OK(at_peaks_measure(&peaks, gpu));
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
        cmocka_unit_test(peaks_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
