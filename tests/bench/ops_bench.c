/* links: base gpu ops */
/* Speed of the matrix products, of dequantisation, of the head, of attention and of row operations:
 * best of several rounds, by wall and by processor time (the machine may be shared).
 * Usage: bench_ops [rounds [gemm|quant|decode|head|attention|rows]]. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "activation.h"
#include "attention.h"
#include "linear.h"
#include "logprob.h"
#include "norm.h"

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
static struct at_weight weight;

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
    at_tensor_reserve_apart(b->pool, &A, form == 2 ? K : M, form == 2 ? M : K, "A");
    at_tensor_reserve_apart(b->pool, &C, M, N, "C");
    if (form == 2)
        at_tensor_reserve_apart(b->pool, &B, K, N, "B");
    else
        at_weight_reserve(b->pool, &weight, AT_F32, form == 1 ? N : K, form == 1 ? K : N, "B");
    need(at_pool_commit(b->pool));
    if (form != 2)
        B = at_weight_values(weight);
    fill(b, A.view);
    fill(b, B.view);
    snprintf(what, sizeof what, "%s %u x %u x %u", names[form], M, N, K);
    measure(b, what, 2.0 * M * N * K, ops[form]);
}

/* ---- dequantisation ---- */

static struct at_tensor values;

static void dequantise(struct bench *b)
{
    at_dequantise(b->stream, values, weight);
}

static void one_row(struct bench *b)
{
    at_linear_row(b->stream, C, A, weight, 1, false);
}

/* A layer of a slab: what a quantised matrix costs over an f32 one. */
static struct at_linear_scratch panel;
static struct at_tensor slab_x, slab_y;

static void slab(struct bench *b)
{
    at_linear_fwd(b->stream, slab_y, slab_x, weight, &panel, false);
}

static void slab_back(struct bench *b)
{
    at_linear_bwd(b->stream, slab_x, slab_y, weight, &panel, false);
}

/* slab_x (M,K), slab_y (M,N) and a weight. */
static void make_slab(struct bench *b, enum at_quant_type type, uint32_t M, uint32_t N, uint32_t K)
{
    const struct at_weight *weights[] = { &weight };

    begin(b);
    at_weight_reserve(b->pool, &weight, type, N, K, "weight");
    at_linear_scratch_reserve(b->pool, &panel, weights, 1, M, false);
    at_tensor_reserve_apart(b->pool, &slab_x, M, K, "x");
    at_tensor_reserve_apart(b->pool, &slab_y, M, N, "y");
    need(at_pool_commit(b->pool));
    fill(b, slab_x.view);
    fill(b, slab_y.view);
    for (uint32_t i = 0; i < at_quant_get(type)->n_planes; i++)
        fill(b, weight.plane[i]); /* what is found there may be slow to multiply */
}

static void whole_slab(struct bench *b, enum at_quant_type type, uint32_t M, const char *name,
                       void (*op)(struct bench *))
{
    const uint32_t N = 1536, K = 768;
    char what[64];

    make_slab(b, type, M, N, K);
    snprintf(what, sizeof what, "  %u rows%s %s", M, name, at_quant_get(type)->name);
    measure(b, what, 2.0 * M * N * K, op);
}

/* A product of decoding: few rows and a weight of SmolLM2-135M, whose last one is the head. */
static void few_rows(struct bench *b, enum at_quant_type type, uint32_t M, uint32_t N, uint32_t K)
{
    char what[64];

    make_slab(b, type, M, N, K);
    snprintf(what, sizeof what, "%s %u x %u x %u", at_quant_get(type)->name, M, N, K);
    A = slab_x;
    C = slab_y;
    measure(b, what, 2.0 * M * N * K, M == 1 ? one_row : slab);
}

static void decoding(struct bench *b)
{
    static const enum at_quant_type types[] = { AT_Q4_1, AT_Q8_0 };
    static const uint32_t shapes[][2] = {
        { 576, 576 }, { 1536, 576 }, { 576, 1536 }, { 49152, 576 }
    };
    static const uint32_t rows[] = { 1, 2, 4, 8, 16, 32, 64 };

    for (size_t t = 0; t < AT_COUNT(types); t++)
        for (size_t n = 0; n < AT_COUNT(shapes); n++)
            for (size_t m = 0; m < AT_COUNT(rows); m++)
                few_rows(b, types[t], rows[m], shapes[n][0], shapes[n][1]);
}

static void dequantisation(struct bench *b, enum at_quant_type type)
{
    const uint32_t rows = 1536, cols = 768;
    char what[64];

    begin(b);
    at_weight_reserve(b->pool, &weight, type, rows, cols, "weight");
    at_tensor_reserve(b->pool, &values, rows, cols, "values");
    at_tensor_reserve(b->pool, &A, 1, cols, "A");
    at_tensor_reserve(b->pool, &C, 1, rows, "C");
    need(at_pool_commit(b->pool));
    snprintf(what, sizeof what, "dequantise %s (weights)", at_quant_get(type)->name);
    measure(b, what, (double)rows * cols, dequantise);
    measure(b, "  one row (weights)", (double)rows * cols, one_row);
}

/* ---- head ---- */

static struct at_weight head;
static struct at_head_scratch scratch;
static struct at_tensor h, u;
static struct at_view stats, lse, log_p2, targets;

static void head_u(struct bench *b)
{
    at_head_fwd(b->stream, stats, lse, log_p2, u, h, targets, head, &scratch);
}
static void head_reference(struct bench *b)
{
    at_head_fwd(b->stream, stats, lse, log_p2, (struct at_tensor){ 0 }, h, targets, head, &scratch);
}

static void whole_head(struct bench *b, enum at_quant_type type)
{
    const uint32_t R = 512, V = 49152, width = 576;
    const double flop = 2.0 * R * V * width;
    char what[64];

    begin(b);
    at_weight_reserve(b->pool, &head, type, V, width, "head");
    at_tensor_reserve_apart(b->pool, &h, R, width, "h");
    at_tensor_reserve_apart(b->pool, &u, R, width, "u");
    at_pool_reserve(b->pool, &stats, R * 16, "stats");
    at_pool_reserve(b->pool, &lse, R * 4, "lse");
    at_pool_reserve(b->pool, &log_p2, R * 4, "log_p2");
    at_pool_reserve(b->pool, &targets, R * 4, "targets");
    at_head_reserve(b->pool, &scratch, R, head, false);
    need(at_pool_commit(b->pool));
    fill(b, h.view);
    if (type == AT_F32)
        fill(b, head.plane[0]);
    snprintf(what, sizeof what, "head %s 512 x 49152 x 576", at_quant_get(type)->name);
    measure(b, what, 2 * flop, head_u);
    snprintf(what, sizeof what, "  without u");
    measure(b, what, flop, head_reference);
}

/* ---- attention ---- */

static struct at_attention attention;
static struct at_tensor q, k, v, o, d_o, dq, dk, dv;
static struct at_view att_lse, att_scratch;

static void attention_fwd(struct bench *b)
{
    at_attention_fwd(b->stream, o, att_lse, q, k, v, &attention);
}
static void attention_bwd(struct bench *b)
{
    at_attention_bwd(b->stream, dq, dk, dv, d_o, q, k, v, o, att_lse, att_scratch, &attention);
}

/* Rows of a prompt and two segments behind each other as far as they fit, then empty tokens;
 * returns the number of (query, key) pairs. */
static double write_slab(struct bench *b, uint32_t T, uint32_t prompt, uint32_t segment)
{
    int32_t *intervals = calloc(T, 16), *ends = calloc(T, 4);
    double pairs = 0;

    for (uint32_t row = 0; row + prompt + 2 * segment <= T; row += prompt + 2 * segment)
        for (uint32_t i = 0; i < prompt + 2 * segment; i++) {
            const bool in_prompt = i < prompt;
            const uint32_t begin =
                in_prompt ? 0 : prompt + (i - prompt) / (segment + !segment) * segment;
            const uint32_t reads[4] = { row, row + (in_prompt ? 0 : prompt), row + begin,
                                        row + i + 1 };

            memcpy(intervals + 4 * (row + i), reads, sizeof reads);
            ends[row + i] = (int32_t)(row + (in_prompt ? prompt + 2 * segment : begin + segment));
            pairs += i + 1 - begin + (in_prompt ? 0 : prompt);
        }
    need(at_gpu_write(b->gpu, attention.intervals, intervals, 16ul * T));
    need(at_gpu_write(b->gpu, attention.query_end, ends, 4ul * T));
    free(intervals);
    free(ends);
    return pairs;
}

static void whole_attention(struct bench *b, uint32_t H, uint32_t G, uint32_t D, uint32_t T,
                            uint32_t prompt, uint32_t segment)
{
    struct at_tensor *const by_query[] = { &q, &o, &d_o, &dq }, *const by_key[] = { &k, &v, &dk,
                                                                                    &dv };
    struct at_tensor *const inputs[] = { &q, &k, &v, &d_o };
    char what[64];
    double pairs;

    begin(b);
    attention =
        (struct at_attention){ .T = T, .n_keys = T, .H = H, .G = G, .D = D, .scale = 0.125f };
    for (int i = 0; i < 4; i++) {
        at_tensor_reserve_apart(b->pool, by_query[i], T, H * D, "queries");
        at_tensor_reserve_apart(b->pool, by_key[i], T, G * D, "keys");
    }
    at_pool_reserve(b->pool, &att_lse, 4ul * T * H, "lse");
    at_pool_reserve(b->pool, &att_scratch, at_attention_scratch_bytes(b->gpu, T, H, G, D),
                    "scratch");
    at_pool_reserve(b->pool, &attention.intervals, 16ul * T, "intervals");
    at_pool_reserve(b->pool, &attention.query_end, 4ul * T, "query_end");
    need(at_pool_commit(b->pool));
    for (int i = 0; i < 4; i++)
        fill(b, inputs[i]->view);
    pairs = write_slab(b, T, prompt, segment) * H * D;
    snprintf(what, sizeof what, "attention %u/%u/%u %u of %u+%u+%u", H, G, D, T, prompt, segment,
             segment);
    measure(b, what, 4 * pairs, attention_fwd);
    measure(b, "  backward", 10 * pairs, attention_bwd);
}

/* ---- row operations of one decoder layer: C 576, F 1536, 9 and 3 heads of 64, 512 rows ---- */

enum { ROWS = 512, WIDTH = 576, HEAD_WIDTH = 64, FEED = 1536 };
static struct at_tensor x, dx, dy, gate, up, m, table;
static struct at_view w, dw, rstd, positions;

static void norm_fwd(struct bench *b)
{
    at_rmsnorm_fwd(b->stream, dy, rstd, x, w, 1e-5f);
}
static void norm_again(struct bench *b)
{
    at_rmsnorm_again(b->stream, dy, x, w, rstd);
}
static void norm_bwd(struct bench *b)
{
    at_rmsnorm_bwd(b->stream, dx, dy, x, w, rstd);
}
static void norm_bwd_weight(struct bench *b)
{
    at_rmsnorm_bwd_weight(b->stream, dw, dy, x, rstd);
}
static void swiglu_fwd(struct bench *b)
{
    at_swiglu_fwd(b->stream, m, gate, up, false);
}
static void swiglu_bwd(struct bench *b)
{
    at_swiglu_bwd(b->stream, gate, up, m, gate, up, false);
}
static void turn(struct bench *b)
{
    at_rope(b->stream, x, (struct at_tensor){ .ld = 0 }, positions, table, HEAD_WIDTH, false);
}
static void turn_back(struct bench *b)
{
    at_rope(b->stream, x, (struct at_tensor){ .ld = 0 }, positions, table, HEAD_WIDTH, true);
}

/* The figures are bytes that must move, at least. */
static void row_operations(struct bench *b)
{
    struct at_tensor *const wide[] = { &x, &dx, &dy }, *const feed[] = { &gate, &up, &m };
    const double row = ROWS * WIDTH * sizeof(float), mlp = ROWS * FEED * sizeof(float);

    begin(b);
    for (int i = 0; i < 3; i++) {
        at_tensor_reserve_apart(b->pool, wide[i], ROWS, WIDTH, "rows");
        at_tensor_reserve_apart(b->pool, feed[i], ROWS, FEED, "feed-forward rows");
    }
    at_tensor_reserve(b->pool, &table, ROWS, HEAD_WIDTH, "rotary table");
    at_pool_reserve(b->pool, &w, WIDTH * 4, "w");
    at_pool_reserve(b->pool, &dw, WIDTH * 4, "dw");
    at_pool_reserve(b->pool, &rstd, ROWS * 4, "rstd");
    at_pool_reserve(b->pool, &positions, ROWS * 4, "positions");
    need(at_pool_commit(b->pool));
    for (int i = 0; i < 3; i++) {
        fill(b, wide[i]->view);
        fill(b, feed[i]->view);
    }
    fill(b, w);
    fill(b, table.view);
    measure(b, "rmsnorm (bytes)", 2 * row, norm_fwd);
    measure(b, "rmsnorm again (bytes)", 2 * row, norm_again);
    measure(b, "rmsnorm backward (bytes)", 4 * row, norm_bwd);
    measure(b, "rmsnorm weight (bytes)", 2 * row, norm_bwd_weight);
    measure(b, "swiglu (bytes)", 3 * mlp, swiglu_fwd);
    measure(b, "swiglu backward (bytes)", 6 * mlp, swiglu_bwd);
    measure(b, "rope (bytes)", 2 * row, turn);
    measure(b, "rope backward (bytes)", 2 * row, turn_back);
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
        /* weights of SmolLM2-135M, a chunk of its head, and one of a larger model */
        static const uint32_t weights[][2] = { { 192, 576 },  { 576, 576 },  { 576, 1536 },
                                               { 1536, 576 }, { 4096, 576 }, { 4096, 2048 } };

        for (size_t i = 0; i < AT_COUNT(weights); i++) {
            product(&b, 1, 512, weights[i][0], weights[i][1]);
            product(&b, 0, 512, weights[i][1], weights[i][0]);
            product(&b, 2, weights[i][0], weights[i][1], 512);
        }
        product(&b, 1, 512, 16, 576);
        product(&b, 0, 512, 16, 576);
        product(&b, 2, 16, 576, 512);
        product(&b, 2, 576, 16, 512);
        product(&b, 0, 512, 576, 16);
    }
    for (int type = AT_F32; type < AT_QUANT_COUNT && (!only || strcmp(only, "quant") == 0);
         type++) {
        dequantisation(&b, (enum at_quant_type)type);
        whole_slab(&b, (enum at_quant_type)type, 256, "", slab);
        whole_slab(&b, (enum at_quant_type)type, 256, " back", slab_back);
        whole_slab(&b, (enum at_quant_type)type, 4, "", slab);
        whole_slab(&b, (enum at_quant_type)type, 32, "", slab);
    }
    if (!only || strcmp(only, "decode") == 0)
        decoding(&b);
    if (!only || strcmp(only, "head") == 0) {
        whole_head(&b, AT_F32);
        whole_head(&b, AT_Q8_0);
    }
    if (!only || strcmp(only, "attention") == 0) {
        product(&b, 1, 512, 576, 576);
        whole_attention(&b, 9, 3, 64, 434, 93, 62);
        whole_attention(&b, 9, 3, 64, 512, 512, 0);
        product(&b, 1, 512, 576, 576);
    }
    if (!only || strcmp(only, "rows") == 0)
        row_operations(&b);
    at_stream_destroy(&b.stream);
    at_pool_destroy(&b.pool);
    at_gpu_close(&b.gpu);
    return 0;
}
