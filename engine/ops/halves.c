#include "halves.h"

#include "kernels.h"

/* Rows of A and B that are summed at a time for A^T B: the scratch stays that of a weight's size,
 * and C is read and written once for 4096 operations an element. */
enum { TN_ROWS = 2048 };

/* Halves (rows, cols) as pack_rows.comp writes them; bf16 have no exponents. */
struct packed {
    struct at_view view, exps;
    uint32_t rows, cols, ld;
};

static uint32_t half_ld(uint32_t cols)
{
    return (uint32_t)at_round_up(cols, 8);
}

static uint64_t half_bytes(uint32_t rows, uint32_t cols)
{
    return (uint64_t)rows * half_ld(cols) * 2;
}

static uint64_t exps_bytes(uint32_t rows)
{
    return at_round_up((uint64_t)rows * 4, 16);
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

void at_halves_add(struct at_halves_need *need, uint32_t a_rows, uint32_t rows, uint32_t cols)
{
    need->a = most(need->a, a_rows * most(half_bytes(1, rows), half_bytes(1, cols)));
    need->a_exp = most(need->a_exp, exps_bytes(a_rows));
    need->b = most(need->b, half_bytes(rows, cols));
    need->b_exp = most(need->b_exp, exps_bytes(rows));
}

void at_halves_add_tn(struct at_halves_need *need, uint32_t T, uint32_t rows, uint32_t cols)
{
    const uint32_t part = least(T, TN_ROWS);

    need->a = most(need->a, half_bytes(rows, part));
    need->a_exp = most(need->a_exp, exps_bytes(rows));
    need->b = most(need->b, half_bytes(part, cols));
    need->b_exp = most(need->b_exp, exps_bytes(part));
}

void at_halves_reserve(struct at_pool *pool, struct at_halves *halves,
                       const struct at_halves_need *need)
{
    *halves = (struct at_halves){ 0 };
    if (!at_gpu_get_info(at_pool_gpu(pool))->halves || need->a == 0)
        return;
    at_pool_reserve(pool, &halves->a, need->a, "halves");
    at_pool_reserve(pool, &halves->b, need->b, "halves of weights");
    if (at_gpu_get_info(at_pool_gpu(pool))->bf16)
        return;
    at_pool_reserve(pool, &halves->a_exp, need->a_exp, "halves");
    at_pool_reserve(pool, &halves->b_exp, need->b_exp, "halves of weights");
}

static bool takes_bf16(struct at_stream *s)
{
    return at_gpu_get_info(at_stream_gpu(s))->bf16;
}

/* Columns [col, col + cols) of x times 2^col_exp (none: 1), in the scratch `view`, `exps`. */
static struct packed pack(struct at_stream *s, struct at_tensor x, uint32_t col, uint32_t cols,
                          struct at_view col_exp, struct at_view view, struct at_view exps)
{
    struct packed out = {
        at_view_part(view, 0, half_bytes(x.dim[0], cols)), { 0 }, x.dim[0], cols, half_ld(cols)
    };
    const struct pack_rows_args args = {
        .rows = x.dim[0], .cols = cols, .ldx = x.ld, .x_col = col, .ldh = out.ld
    };
    struct at_work work = { args.rows, 1, 1, 0, { 0 } };

    if (takes_bf16(s)) {
        const struct pack_rows_bf16_bufs bufs = { out.view, at_tensor_view(x) };

        at_launch_pack_rows_bf16(s, &bufs, &args, work);
    } else {
        out.exps = at_view_part(exps, 0, exps_bytes(x.dim[0]));
        const struct pack_rows_bufs bufs = { out.view, at_tensor_view(x), out.exps, col_exp };

        work.spec[work.n_spec++] = col_exp.buffer != NULL;
        at_launch_pack_rows(s, &bufs, &args, work);
    }
    return out;
}

/* Columns [col, col + cols) of x times 2^row_exp, turned over, in the scratch of A. */
static struct packed pack_columns(struct at_stream *s, struct at_tensor x, uint32_t col,
                                  uint32_t cols, struct at_view row_exp,
                                  const struct at_halves *halves)
{
    struct packed out = { at_view_part(halves->a, 0, half_bytes(cols, x.dim[0])),
                          { 0 },
                          cols,
                          x.dim[0],
                          half_ld(x.dim[0]) };
    const struct pack_columns_args args = {
        .rows = x.dim[0], .cols = cols, .ldx = x.ld, .x_col = col, .ldh = out.ld
    };
    const struct at_work work = { cols, 1, 1, 0, { 0 } };

    if (takes_bf16(s)) {
        const struct pack_columns_bf16_bufs bufs = { out.view, at_tensor_view(x) };

        at_launch_pack_columns_bf16(s, &bufs, &args, work);
    } else {
        out.exps = at_view_part(halves->a_exp, 0, exps_bytes(cols));
        const struct pack_columns_bufs bufs = { out.view, at_tensor_view(x), out.exps, row_exp };

        at_launch_pack_columns(s, &bufs, &args, work);
    }
    return out;
}

/* gemm_matrix.comp's constants: the device's shape of matrices, the workgroup's size and what a
 * subgroup owns. That is 64 x 32 sums where its lanes have registers of their own; where matrices
 * have 8 rows, as Intel's, a subgroup has the registers of one thread (4 KiB for n = 8, 8 KiB for
 * n = 16) and owns half as many bytes of sums; and as little as possible where a CPU compiles it.
 */
static struct at_work product_work(struct at_stream *s, uint32_t M, uint32_t N)
{
    const struct at_gpu_info *info = at_gpu_get_info(at_stream_gpu(s));
    const struct at_matrix_shape m = info->bf16 ? info->matrix_bf16 : info->matrix;
    const bool cpu = info->type == AT_GPU_CPU;
    const uint32_t rows = cpu ? 2 * m.m : m.m == 8 ? 32 : 64;
    const uint32_t cols = cpu ? m.n : m.m == 8 ? 2 * m.n : 32;

    return (struct at_work){ M, N, 1, 7, { m.lanes, m.m, m.n, m.k, 8 * m.lanes, rows, cols } };
}

/* Rows that one binding holds in f32, `ld` apart, and in halves of `cols` columns. */
static uint32_t rows_held(struct at_stream *s, uint32_t rows, uint32_t ld, uint32_t cols)
{
    const uint64_t limit = at_gpu_get_info(at_stream_gpu(s))->max_range_bytes;
    const uint64_t fit = limit / most(half_bytes(1, cols), ld * sizeof(float)) / 64 * 64;

    AT_REQUIRE(fit > 0);
    return fit < rows ? (uint32_t)fit : rows;
}

static uint32_t part_rows(struct at_stream *s, struct at_tensor B)
{
    return rows_held(s, B.dim[0], B.ld, B.dim[1]);
}

/* Columns of C from c_col on (+)= a b^T with `nt`, b (N,K), or a b: b (K,N), the exponents of its
 * rows in a's columns. */
static void multiply(struct at_stream *s, bool nt, struct at_tensor C, uint32_t c_col,
                     struct packed a, struct packed b, bool accumulate)
{
    static const uint32_t kernels[2][2] = {
        { AT_KERNEL_gemm_half_nn, AT_KERNEL_gemm_half_nt },
        { AT_KERNEL_gemm_bf16_nn, AT_KERNEL_gemm_bf16_nt },
    };
    const struct at_view views[] = { a.view, b.view, at_tensor_view(C), a.exps, b.exps };
    const struct gemm_half_args args = { .M = C.dim[0],
                                         .N = nt ? b.rows : b.cols,
                                         .K = nt ? b.cols : b.rows,
                                         .lda = a.ld,
                                         .ldb = b.ld,
                                         .ldc = C.ld,
                                         .c_col = c_col,
                                         .accumulate = accumulate };

    at_stream_launch(s, kernels[takes_bf16(s)][nt], views, &args, sizeof args,
                     product_work(s, args.M, args.N));
}

void at_halves_nt(struct at_stream *s, struct at_tensor C, uint32_t c_col, struct at_tensor A,
                  struct at_tensor B, bool accumulate, const struct at_halves *halves)
{
    const uint32_t step = part_rows(s, B), K = A.dim[1];
    const struct at_view none = { 0 };
    const struct packed a = pack(s, A, 0, K, none, halves->a, halves->a_exp);

    AT_REQUIRE(B.dim[1] == K);
    for (uint32_t n = 0; n < B.dim[0]; n += step) {
        const uint32_t N = least(step, B.dim[0] - n);
        const struct packed b =
            pack(s, at_tensor_rows(B, n, N), 0, K, none, halves->b, halves->b_exp);

        multiply(s, true, C, c_col + n, a, b, accumulate);
    }
}

void at_halves_nn(struct at_stream *s, struct at_tensor C, struct at_tensor A, uint32_t a_col,
                  struct at_tensor B, bool accumulate, const struct at_halves *halves)
{
    const uint32_t step = part_rows(s, B), N = B.dim[1];
    const struct at_view none = { 0 };

    AT_REQUIRE(a_col + B.dim[0] <= A.dim[1] && C.dim[0] == A.dim[0] && C.dim[1] == N);
    for (uint32_t k = 0; k < B.dim[0]; k += step) {
        const uint32_t K = least(step, B.dim[0] - k);
        const struct packed b =
            pack(s, at_tensor_rows(B, k, K), 0, N, none, halves->b, halves->b_exp);
        /* a row of B is a step of the sum: its exponent goes into A's column */
        const struct packed a = pack(s, A, a_col + k, K, b.exps, halves->a, halves->a_exp);

        multiply(s, false, C, 0, a, b, accumulate || k > 0);
    }
}

void at_halves_tn(struct at_stream *s, struct at_tensor C, struct at_tensor A, struct at_tensor B,
                  const struct at_halves *halves)
{
    const uint32_t M = A.dim[1], N = B.dim[1], K = A.dim[0];
    const uint32_t held = least(at_tensor_part_rows(s, A), part_rows(s, B));
    const uint32_t part = least(held, TN_ROWS), panel = rows_held(s, M, C.ld, part);

    at_require_shape(C, M, N);
    at_require_shape(B, K, N);
    for (uint32_t k = 0; k < K; k += part) {
        const uint32_t n = least(part, K - k);
        const struct packed b =
            pack(s, at_tensor_rows(B, k, n), 0, N, (struct at_view){ 0 }, halves->b, halves->b_exp);

        for (uint32_t m = 0; m < M; m += panel) {
            const uint32_t rows = least(panel, M - m);
            const struct packed a =
                pack_columns(s, at_tensor_rows(A, k, n), m, rows, b.exps, halves);

            multiply(s, false, at_tensor_rows(C, m, rows), 0, a, b, true);
        }
    }
}
