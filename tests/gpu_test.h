/* Shared by tests that launch kernels: devices in the settings that matter, guarded device memory,
 * printed seeds. A case runs on every setting; without a device the test is skipped (125). */
#ifndef GPU_TEST_H
#define GPU_TEST_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
/* cmocka wants its includes before it */
#include <cmocka.h>

#include "gpu.h"
#include "tensor.h"

#define OK(call)                                     \
    do {                                             \
        if ((call) != AT_OK)                         \
            fail_msg("%s: %s", #call, at_message()); \
    } while (0)

/* GT_GUARD: as floats and halves NaN, as integers -1. */
enum { GT_GUARD_BYTES = 4096, GT_GUARD = 0xff, GT_MAX_BUFFERS = 32 };

/* Device memory between two guard bands. */
struct gt_buffer {
    struct at_view whole, view;
    size_t bytes;
};
struct gt {
    const char *setting;
    struct at_gpu *gpu;
    struct at_pool *pool;
    struct at_stream *stream;
    struct gt_buffer buffers[GT_MAX_BUFFERS];
    size_t n_buffers;
};

struct gt_setting {
    const char *name;
    struct at_gpu_params params;
};
static const struct gt_setting gt_settings[] = {
    /* Texel views that end with the guard bands: what lies behind a tensor reaches no result. */
    { "variants",
      { .validate = true,
        .texels_behind_bytes = GT_GUARD_BYTES,
        .stores = AT_STORES_LOWER_LANES,
        .vector_registers = 32 } },
    { "baseline", { .baseline_only = true } },
    { "variants, bindings of 1,040 KiB",
      { .max_range_bytes = 1040 << 10, .stores = AT_STORES_ALL_LANES, .vector_registers = 16 } },
    { "baseline, bindings of 1,040 KiB", { .baseline_only = true, .max_range_bytes = 1040 << 10 } },
};
enum { GT_SETTINGS = sizeof gt_settings / sizeof gt_settings[0] };

/* Shapes of matrix units (m, n, k): Intel's Xe-HPG and Xe2, AMD's and NVIDIA's. A CPU device with
 * units computes any of them, whichever it reports: at_gpu_params.matrix. */
static const struct at_matrix_shape gt_shapes[] = { { 0, 8, 8, 16 },
                                                    { 0, 8, 16, 16 },
                                                    { 0, 16, 16, 16 } };
enum { GT_SHAPES = sizeof gt_shapes / sizeof gt_shapes[0] };

/* Opens the device named by ATTUNE_DEVICE (default: the first); ATTUNE_KERNELS=baseline leaves the
 * variants out. Without any device the test is skipped (125), in CI it fails. */
static inline struct at_gpu *gt_open_device(struct at_gpu_params params)
{
    const char *kernels = getenv("ATTUNE_KERNELS");
    struct at_arena arena = { 0 };
    struct at_gpu_info *infos;
    struct at_gpu *gpu;
    size_t n;

    if (at_gpu_list(&arena, &infos, &n) != AT_OK) {
        printf("skipped: no Vulkan device: %s\n", at_message());
        exit(getenv("CI") ? 1 : 125);
    }
    at_arena_release(&arena);
    params.device = getenv("ATTUNE_DEVICE");
    params.baseline_only |= kernels && strcmp(kernels, "baseline") == 0;
    OK(at_gpu_open(&gpu, &params));
    return gpu;
}

static inline void gt_open(struct gt *t, size_t setting)
{
    *t = (struct gt){ .setting = gt_settings[setting].name };
    t->gpu = gt_open_device(gt_settings[setting].params);
    OK(at_stream_create(&t->stream, t->gpu));
}

/* The device with matrix units of gt_shapes[i], in halves; false where it cannot have them. */
static inline bool gt_open_shape(struct gt *t, size_t i)
{
    const struct at_matrix_shape want = gt_shapes[i], *has;

    *t = (struct gt){ .setting = "matrix units of another shape" };
    t->gpu = gt_open_device((struct at_gpu_params){ .halves = true, .matrix = want });
    has = &at_gpu_get_info(t->gpu)->matrix;
    if (has->lanes == 0 || has->m != want.m || has->n != want.n || has->k != want.k) {
        at_gpu_close(&t->gpu);
        return false;
    }
    OK(at_stream_create(&t->stream, t->gpu));
    return true;
}

static inline void gt_close(struct gt *t)
{
    at_stream_destroy(&t->stream);
    at_pool_destroy(&t->pool);
    if (at_gpu_validation_errors(t->gpu) != 0)
        fail_msg("%s: validation errors", t->setting);
    at_gpu_close(&t->gpu);
}

/* A case: gt_begin(), gt_plan() for its buffers, gt_commit(), work, gt_end() (checks the guards).
 */
static inline void gt_begin(struct gt *t)
{
    at_pool_destroy(&t->pool);
    OK(at_pool_create(&t->pool, t->gpu, "test"));
    t->n_buffers = 0;
}

/* Number of the buffer, for gt_view(). */
static inline size_t gt_plan(struct gt *t, size_t bytes)
{
    struct gt_buffer *b = &t->buffers[t->n_buffers];

    AT_REQUIRE(t->n_buffers < GT_MAX_BUFFERS);
    b->bytes = at_round_up(bytes, 16);
    at_pool_reserve(t->pool, &b->whole, b->bytes + 2 * GT_GUARD_BYTES, "test");
    return t->n_buffers++;
}

static inline void gt_commit(struct gt *t)
{
    uint8_t guard[GT_GUARD_BYTES];

    memset(guard, GT_GUARD, sizeof guard);
    OK(at_pool_commit(t->pool));
    for (size_t i = 0; i < t->n_buffers; i++) {
        struct gt_buffer *b = &t->buffers[i];

        b->view = at_view_part(b->whole, GT_GUARD_BYTES, b->bytes);
        OK(at_gpu_write(t->gpu, at_view_part(b->whole, 0, sizeof guard), guard, sizeof guard));
        OK(at_gpu_write(t->gpu, at_view_part(b->whole, GT_GUARD_BYTES + b->bytes, sizeof guard),
                        guard, sizeof guard));
    }
}

static inline struct at_view gt_view(const struct gt *t, size_t buffer)
{
    return t->buffers[buffer].view;
}

/* Elements from row to row of a tensor over a buffer: `extra` (a multiple of 4) of padding beyond
 * the smallest; in the first setting, for widths that are multiples of 8, up to the next such
 * multiple: there lanes may store by pairs (shaders/lib/store.glsl). */
static inline uint32_t gt_ld(const struct gt *t, uint32_t cols, uint32_t extra)
{
    const bool pairs = t->setting == gt_settings[0].name && cols % 8 == 0;

    return at_tensor_ld(cols) + (pairs ? (extra + 7) / 8 * 8 : extra);
}

static inline size_t gt_plan_tensor(struct gt *t, uint32_t rows, uint32_t cols, uint32_t extra)
{
    return gt_plan(t, (size_t)rows * gt_ld(t, cols, extra) * sizeof(float));
}

static inline struct at_tensor gt_tensor(const struct gt *t, size_t buffer, uint32_t rows,
                                         uint32_t cols, uint32_t extra)
{
    return (struct at_tensor){ .view = gt_view(t, buffer),
                               .dim = { rows, cols },
                               .ld = gt_ld(t, cols, extra) };
}

static inline void gt_end(struct gt *t)
{
    uint8_t guard[GT_GUARD_BYTES];

    OK(at_stream_wait(t->stream));
    for (size_t i = 0; i < t->n_buffers; i++)
        for (int side = 0; side < 2; side++) {
            const struct gt_buffer *b = &t->buffers[i];
            const uint64_t begin = side == 0 ? 0 : GT_GUARD_BYTES + b->bytes;

            OK(at_gpu_read(t->gpu, guard, at_view_part(b->whole, begin, sizeof guard),
                           sizeof guard));
            for (size_t j = 0; j < sizeof guard; j++)
                if (guard[j] != GT_GUARD)
                    fail_msg("%s: buffer %zu: byte %zu of guard %d was written", t->setting, i, j,
                             side);
        }
}

/* ---- host arrays ---- */

static inline uint64_t gt_seed(void)
{
    static uint64_t seed;

    if (seed == 0) {
        const char *text = getenv("ATTUNE_TEST_SEED");

        seed = text ? strtoull(text, NULL, 10) : 1;
        printf("seed %llu (ATTUNE_TEST_SEED)\n", (unsigned long long)seed);
    }
    return seed;
}

static inline uint32_t gt_random(void)
{
    static uint64_t state;

    if (state == 0)
        state = gt_seed();
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

/* Uniform in (-scale, scale); free() it. */
static inline float *gt_floats(size_t n, float scale)
{
    float *x = malloc((n + 1) * sizeof *x);

    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = ((float)(gt_random() >> 8) / 8388608.0f - 1.0f) * scale;
    return x;
}

static inline double *gt_doubles(const float *x, size_t n)
{
    double *y = malloc((n + 1) * sizeof *y);

    assert_non_null(y);
    for (size_t i = 0; i < n; i++)
        y[i] = (double)x[i];
    return y;
}

/* What lies between the columns and the leading dimension is zero. */
static inline void gt_require_padding(const struct gt *t, const char *what, struct at_tensor tensor)
{
    const size_t n = (size_t)tensor.dim[0] * tensor.ld;
    float *x = malloc((n + 1) * sizeof *x);

    assert_non_null(x);
    OK(at_gpu_read(t->gpu, x, tensor.view, n * sizeof *x));
    for (size_t i = 0; i < n; i++)
        if (i % tensor.ld >= tensor.dim[1] && x[i] != 0)
            fail_msg("%s: %s: element %zu of row %zu is %.9g, not 0", t->setting, what,
                     i % tensor.ld, i / tensor.ld, (double)x[i]);
    free(x);
}

/* got within tol * scale[i] of want; scale NULL: tol * (1 + |want|). NaN never passes. */
static inline void gt_require_close(const struct gt *t, const char *what, const float *got,
                                    const double *want, const double *scale, size_t n, double tol)
{
    for (size_t i = 0; i < n; i++) {
        const double allowed = tol * (scale ? scale[i] : 1 + fabs(want[i]));

        if (!(fabs((double)got[i] - want[i]) <= allowed))
            fail_msg("%s: %s[%zu]: got %.9g, want %.9g, tolerance %.2g", t ? t->setting : "", what,
                     i, (double)got[i], want[i], allowed);
    }
}

#endif
