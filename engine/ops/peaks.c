#include "peaks.h"

#include "kernels.h"
#include "linear.h"
#include "os.h"

#include <string.h>

/* VALUES / 4 invocations: 8192 subgroups of 32, several for every scheduler of the largest devices.
 */
enum { ROUNDS = 5, VALUES = 1 << 20 };
static const double round_s = 0.05;
/* Multiply-adds of a product: 50 ms of a fast processor, some of a fast card. */
static const uint64_t most_cpu = (uint64_t)1 << 32, most_gpu = (uint64_t)1 << 36;
static const uint64_t largest = (uint64_t)128 << 20; /* bytes of a buffer that is copied */

void at_peak_multiply(struct at_stream *s, struct at_view y, uint32_t n, uint32_t turns,
                      float factor, float offset)
{
    const struct peak_multiply_bufs bufs = { y };
    const struct peak_multiply_args args = { n, turns, factor, offset };

    at_launch_peak_multiply(s, &bufs, &args, (struct at_work){ .x = n, .y = 1, .z = 1 });
}

static struct at_work matrix_work(const struct at_gpu *gpu, uint32_t n)
{
    const struct at_gpu_info *info = at_gpu_get_info(gpu);
    const struct at_matrix_shape m = info->matrix;

    return (struct at_work){
        n, 1, 1, 6, { m.lanes, m.m, m.n, m.k, 8 * m.lanes, info->type == AT_GPU_CPU }
    };
}

bool at_peak_has_matrix(const struct at_gpu *gpu)
{
    return strcmp(at_kernel_variant(gpu, AT_KERNEL_peak_multiply, matrix_work(gpu, 1)), "matrix") ==
           0;
}

void at_peak_matrix(struct at_stream *s, struct at_view y, uint32_t n, uint32_t turns, float factor,
                    float offset)
{
    const struct peak_multiply_bufs bufs = { y };
    const struct peak_multiply_args args = { n, turns, factor, offset };

    AT_REQUIRE(at_peak_has_matrix(at_stream_gpu(s)));
    at_launch_peak_multiply(s, &bufs, &args, matrix_work(at_stream_gpu(s), n));
}

struct trial {
    struct at_stream *stream;
    struct at_view values, from, to;
    struct at_tensor x, w, y;
    struct at_halves halves;
};

/* Queue a round of `size`: turns of multiply-adds, copies or products. */
static void multiply(struct trial *t, uint32_t size)
{
    at_peak_multiply(t->stream, t->values, VALUES, size, 0.999f, 0.001f);
}

static void multiply_matrices(struct trial *t, uint32_t size)
{
    at_peak_matrix(t->stream, t->values, VALUES, size, 1, 0);
}

static void copy(struct trial *t, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        at_stream_copy(t->stream, t->to, t->from, t->from.bytes);
}

static void product(struct trial *t, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        if (t->halves.a.buffer)
            at_halves_nt(t->stream, t->y, 0, t->x, t->w, false, &t->halves);
        else
            at_matmul_nt(t->stream, t->y, t->x, t->w, 1, false);
}

typedef void round_fn(struct trial *t, uint32_t size);

static AT_CHECKED time_round(double *out_s, struct trial *t, round_fn *round, uint32_t size)
{
    const double begin = at_now_s();
    enum at_status st;

    round(t, size);
    TRY(at_stream_wait(t->stream));
    *out_s = at_now_s() - begin;
done:
    return st;
}

/* Units of size a second in ROUNDS of at least round_s; the first round compiles. */
static AT_CHECKED measure(struct at_rate *out, struct trial *t, round_fn *round)
{
    enum at_status st;
    uint32_t size = 1;
    double time_s = 0;

    *out = (struct at_rate){ 0, 0 };
    TRY(time_round(&time_s, t, round, size));
    do {
        TRY(time_round(&time_s, t, round, size));
        size *= 2;
    } while (time_s < round_s / 2 && size < UINT32_MAX / 4);
    for (int i = 0; i < ROUNDS; i++) {
        TRY(time_round(&time_s, t, round, size));
        if (out->best < size / time_s)
            out->best = size / time_s;
        if (i == 0 || out->least > size / time_s)
            out->least = size / time_s;
    }
done:
    return st;
}

static AT_CHECKED best(double *out, struct trial *t, round_fn *round)
{
    struct at_rate rate;
    const enum at_status st = measure(&rate, t, round);

    *out = rate.best;
    return st;
}

AT_CHECKED at_peaks_measure(struct at_peaks *out, struct at_gpu *gpu)
{
    const uint64_t room = at_gpu_get_info(gpu)->memory_bytes / 16;
    const uint64_t bytes = room < largest ? at_round_up(room, 256) : largest;
    struct at_pool *pool = NULL;
    struct trial t = { 0 };
    enum at_status st;

    TRY(at_pool_create(&pool, gpu, "measuring the device"));
    at_pool_reserve(pool, &t.values, VALUES * sizeof(float), "values");
    at_pool_reserve(pool, &t.from, bytes, "copied");
    at_pool_reserve(pool, &t.to, bytes, "copy");
    TRY(at_pool_commit(pool));
    TRY(at_stream_create(&t.stream, gpu));
    TRY(best(&out->flop_per_s, &t, multiply));
    TRY(best(&out->byte_per_s, &t, copy));
    out->matrix_flop_per_s = 0;
    if (at_peak_has_matrix(gpu))
        TRY(best(&out->matrix_flop_per_s, &t, multiply_matrices));
    out->flop_per_s *= 96.0 * VALUES; /* of a turn: kernels.def */
    out->matrix_flop_per_s *= 128.0 * VALUES * at_gpu_get_info(gpu)->matrix.k;
    out->byte_per_s *= 2.0 * (double)bytes;
done:
    at_stream_destroy(&t.stream);
    at_pool_destroy(&pool);
    return st;
}

AT_CHECKED at_product_rate(struct at_rate *out, struct at_gpu *gpu, uint32_t T, uint32_t rows,
                           uint32_t cols)
{
    const bool cpu = at_gpu_get_info(gpu)->type == AT_GPU_CPU;
    const uint32_t most_T = cpu ? 1024 : 4096;
    const uint64_t fit = at_round_up((cpu ? most_cpu : most_gpu) / ((uint64_t)most_T * cols), 64);
    struct at_halves_need need = { 0 };
    struct at_pool *pool = NULL;
    struct trial t = { 0 };
    enum at_status st;

    T = T < most_T ? T : most_T;
    rows = rows < fit ? rows : (uint32_t)fit;
    TRY(at_pool_create(&pool, gpu, "measuring products"));
    at_tensor_reserve_apart(pool, &t.x, T, cols, "x");
    at_tensor_reserve_apart(pool, &t.w, rows, cols, "w");
    at_tensor_reserve_apart(pool, &t.y, T, rows, "y");
    at_halves_add(&need, T, rows, cols);
    at_halves_reserve(pool, &t.halves, &need);
    TRY(at_pool_commit(pool));
    TRY(at_stream_create(&t.stream, gpu));
    TRY(measure(out, &t, product));
    out->best *= 2.0 * T * rows * cols;
    out->least *= 2.0 * T * rows * cols;
done:
    at_stream_destroy(&t.stream);
    at_pool_destroy(&pool);
    return st;
}
