/* links: base gpu ops */
/* Speed of the matrix products, of dequantisation and of the head: best of several rounds, by wall
 * and by processor time (the machine may be shared). Usage: bench_ops [rounds [gemm|quant|head]].
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "linear.h"
#include "logprob.h"

struct bench {
    struct at_gpu *gpu;
    struct at_pool *pool;
    struct at_stream *stream;
    int rounds;
};

static void need(enum at_status st)
{
    if (st != AT_OK) {
        fprintf(stderr, "%s\n", at_message());
        exit(1);
    }
}

static double wall_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           ((double)u.ru_utime.tv_usec + (double)u.ru_stime.tv_usec) * 1e-6;
}

/* Runs `op` in rounds of about 2 GFLOP and prints the best; the first run, with compilation, apart.
 */
static void measure(struct bench *b, const char *what, double flop, void (*op)(struct bench *))
{
    const int calls = flop > 1e9 ? 1 : (int)(1e9 / flop) + 1;
    double wall = 1e30, cpu = 1e30, first = wall_s();

    op(b);
    need(at_stream_wait(b->stream));
    first = wall_s() - first;
    for (int i = 0; i < b->rounds; i++) {
        const double w = wall_s(), c = cpu_s();

        for (int k = 0; k < calls; k++)
            op(b);
        need(at_stream_wait(b->stream));
        wall = wall_s() - w < wall ? wall_s() - w : wall;
        cpu = cpu_s() - c < cpu ? cpu_s() - c : cpu;
    }
    printf("%-28s first %6.3f s  %8.3f ms  %6.1f GFLOP/s wall  %6.1f by processor time / 2\n", what,
           first, wall / calls * 1e3, flop * calls / wall * 1e-9, 2 * flop * calls / cpu * 1e-9);
}

static void fill(struct bench *b, struct at_view view)
{
    const size_t n = view.bytes / sizeof(float);
    float *x = malloc(view.bytes);

    for (size_t i = 0; i < n; i++)
        x[i] = (float)((i * 2654435761u >> 8) % 2001) / 1000 - 1;
    need(at_gpu_write(b->gpu, view, x, view.bytes));
    free(x);
}

static void begin(struct bench *b)
{
    at_pool_destroy(&b->pool);
    need(at_pool_create(&b->pool, b->gpu, "bench"));
}

/* ---- matrix products ---- */

static struct at_tensor A, B, C;

static void nt(struct bench *b)
{
    at_matmul_nt(b->stream, C, A, B, 1, false);
}
static void nn(struct bench *b)
{
    at_matmul_nn(b->stream, C, A, B, 1, false);
}
static void tn(struct bench *b)
{
    at_matmul_tn(b->stream, C, A, B, 1, false);
}

static void product(struct bench *b, int form, uint32_t M, uint32_t N, uint32_t K)
{
    void (*const ops[])(struct bench *) = { nn, nt, tn };
    static const char *const names[] = { "nn", "nt", "tn" };
    char what[64];

    begin(b);
    at_tensor_reserve(b->pool, &A, form == 2 ? K : M, form == 2 ? M : K, "A");
    at_tensor_reserve(b->pool, &B, form == 1 ? N : K, form == 1 ? K : N, "B");
    at_tensor_reserve(b->pool, &C, M, N, "C");
    need(at_pool_commit(b->pool));
    fill(b, A.view);
    fill(b, B.view);
    snprintf(what, sizeof what, "%s %u x %u x %u", names[form], M, N, K);
    measure(b, what, 2.0 * M * N * K, ops[form]);
}

/* ---- dequantisation ---- */

static struct at_weight weight;
static struct at_tensor values;

static void dequantise(struct bench *b)
{
    at_dequantise(b->stream, values, weight);
}

static void dequantisation(struct bench *b, enum at_quant_type type)
{
    const uint32_t rows = 1536, cols = 768;
    char what[64];

    begin(b);
    at_weight_reserve(b->pool, &weight, type, rows, cols, "weight");
    at_tensor_reserve(b->pool, &values, rows, cols, "values");
    need(at_pool_commit(b->pool));
    snprintf(what, sizeof what, "dequantise %s (weights)", at_quant_get(type)->name);
    measure(b, what, (double)rows * cols, dequantise);
}

/* ---- head ---- */

static struct at_weight head;
static struct at_head_scratch scratch;
static struct at_tensor h, u;
static struct at_view stats, lse, targets;

static void head_u(struct bench *b)
{
    at_head_fwd(b->stream, stats, lse, u, h, targets, head, &scratch);
}
static void head_reference(struct bench *b)
{
    at_head_fwd(b->stream, stats, lse, (struct at_tensor){ 0 }, h, targets, head, &scratch);
}

static void whole_head(struct bench *b, enum at_quant_type type)
{
    const uint32_t R = 512, V = 49152, width = 576;
    const double flop = 2.0 * R * V * width;
    char what[64];

    begin(b);
    at_weight_reserve(b->pool, &head, type, V, width, "head");
    at_tensor_reserve(b->pool, &h, R, width, "h");
    at_tensor_reserve(b->pool, &u, R, width, "u");
    at_pool_reserve(b->pool, &stats, R * 16, "stats");
    at_pool_reserve(b->pool, &lse, R * 4, "lse");
    at_pool_reserve(b->pool, &targets, R * 4, "targets");
    at_head_reserve(b->pool, &scratch, R, head);
    need(at_pool_commit(b->pool));
    fill(b, h.view);
    if (type == AT_F32)
        fill(b, head.plane[0]);
    snprintf(what, sizeof what, "head %s 512 x 49152 x 576", at_quant_get(type)->name);
    measure(b, what, 2 * flop, head_u);
    snprintf(what, sizeof what, "  without u");
    measure(b, what, flop, head_reference);
}

int main(int argc, char **argv)
{
    struct bench b = { .rounds = argc > 1 ? atoi(argv[1]) : 5 };
    const struct at_gpu_params params = { .device = getenv("ATTUNE_DEVICE") };

    const char *only = argc > 2 ? argv[2] : NULL;

    need(at_gpu_open(&b.gpu, &params));
    need(at_stream_create(&b.stream, b.gpu));
    printf("%s\n", at_gpu_get_info(b.gpu)->name);
    if (!only || strcmp(only, "gemm") == 0) {
        product(&b, 1, 512, 1536, 576);
        product(&b, 0, 512, 1536, 576);
        product(&b, 0, 512, 576, 1536);
        product(&b, 2, 256, 576, 576);
        product(&b, 1, 512, 16, 576);
        product(&b, 2, 16, 576, 512);
        product(&b, 2, 576, 16, 512);
        product(&b, 0, 512, 576, 16);
    }
    for (int type = AT_F16; type < AT_QUANT_COUNT; type++)
        if (!only || strcmp(only, "quant") == 0)
            dequantisation(&b, (enum at_quant_type)type);
    if (!only || strcmp(only, "head") == 0) {
        whole_head(&b, AT_F32);
        whole_head(&b, AT_Q8_0);
    }
    at_stream_destroy(&b.stream);
    at_pool_destroy(&b.pool);
    at_gpu_close(&b.gpu);
    return 0;
}
