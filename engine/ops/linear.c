#include "linear.h"

#include "kernels.h"

/* Blocks of k: fixed, so that the order of a sum is a function of the shape. */
enum { K_SPLIT_FROM = 4096, K_SPLIT = 1024 };
enum { FEW_ROWS = 64, FEW_ROWS_F32 = 32 };     /* of x, at most: above, the kernels for many */
enum { NARROW_MOST = 32 };                     /* above, kernels with a wide tile waste less */
static const uint64_t panel_bytes = 64u << 20; /* of a dequantised weight */
static const double tn_flop = 3e10; /* of a launch, which a driver may stop after a while */

/* Rows of `row_bytes` that one binding holds: all, or a multiple of 16, so that parts begin at the
 * 256 bytes to which a device may align bindings. */
static uint32_t rows_in(uint64_t bytes, uint64_t row_bytes, uint32_t rows)
{
    const uint64_t n = bytes / row_bytes;

    if (n >= rows)
        return rows;
    if (n < 16)
        AT_BUG("a binding of %llu bytes holds fewer than 16 rows of %llu",
               (unsigned long long)bytes, (unsigned long long)row_bytes);
    return (uint32_t)(n >= 64 ? n / 64 * 64 : n / 16 * 16);
}

static uint64_t binding_bytes(struct at_stream *s)
{
    return at_gpu_get_info(at_stream_gpu(s))->max_range_bytes;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static bool empty(struct at_tensor t)
{
    return t.dim[0] == 0 || t.dim[1] == 0;
}

/* A product's work with its narrow side, if any: CPU devices have kernels for such, which give the
 * same bits. A function of the matrices that do not grow with the tokens. */
static struct at_work gemm_work(uint32_t M, uint32_t N, uint32_t side)
{
    return (struct at_work){ M, N, 1, 1, { side } };
}

static uint32_t columns_side(uint32_t N)
{
    return N <= NARROW_MOST ? GEMM_NARROW : GEMM_WIDE;
}

/* Whether kernels add a second product with the bits of one behind: those of CPU devices do, up to
 * where a sum is split. NULL: there is none. */
static bool may_ride(struct at_stream *s, const struct at_added *added)
{
    return added && at_gpu_get_info(at_stream_gpu(s))->few_rows && added->a.dim[1] < K_SPLIT_FROM;
}

/* Those of wide products, of N columns, alone. */
static bool adds(struct at_stream *s, uint32_t N, const struct at_added *added)
{
    return may_ride(s, added) && columns_side(N) == GEMM_WIDE;
}

/* `added` (or NULL) with rows [begin, begin + n) of its b. */
static const struct at_added *added_rows(struct at_added *out, const struct at_added *added,
                                         uint32_t begin, uint32_t n)
{
    if (!added)
        return NULL;
    *out = *added;
    out->b = at_tensor_rows(added->b, begin, n);
    return out;
}

static void add(struct gemm_args *args, const struct at_added *added)
{
    args->added_K = added->a.dim[1];
    args->added_lda = added->a.ld;
    args->added_ldb = added->b.ld;
    args->added_alpha = added->scale;
}

/* Columns [c_col, c_col + rows of B) of C; B in panels that a binding holds. added: NULL, or with a
 * row of b each of B. */
static void nt_columns(struct at_stream *s, struct at_tensor C, uint32_t c_col, struct at_tensor A,
                       struct at_tensor B, float alpha, bool accumulate,
                       const struct at_added *added)
{
    const uint32_t M = A.dim[0], N = B.dim[0], K = A.dim[1];
    const uint32_t block = K >= K_SPLIT_FROM ? K_SPLIT : K;
    const uint32_t panel = rows_in(binding_bytes(s), (uint64_t)B.ld * sizeof(float), N);
    const bool in_one = adds(s, N, added);

    for (uint32_t n = 0; n < N; n += panel) {
        const struct at_tensor part = at_tensor_rows(B, n, least(panel, N - n));
        struct gemm_nt_bufs bufs = { .a = at_tensor_view(A),
                                     .b = at_tensor_view(part),
                                     .c = at_tensor_view(C) };

        for (uint32_t k = 0; k < K; k += block) {
            struct gemm_args args = {
                .M = M,
                .N = part.dim[0],
                .K = least(block, K - k),
                .lda = A.ld,
                .ldb = B.ld,
                .ldc = C.ld,
                .a_col = k,
                .b_col = k,
                .c_col = c_col + n,
                .alpha = alpha,
                .accumulate = accumulate || k > 0,
            };

            if (in_one && k + block >= K) {
                bufs.added_a = at_tensor_view(added->a);
                bufs.added_b = at_tensor_view(at_tensor_rows(added->b, n, part.dim[0]));
                add(&args, added);
            }
            at_launch_gemm_nt(s, &bufs, &args, gemm_work(M, args.N, columns_side(N)));
        }
    }
    if (added && !in_one)
        nt_columns(s, C, c_col, added->a, added->b, added->scale, true, NULL);
}

/* C = A[:, a_col ... a_col + rows of B) B. */
static void nn_columns(struct at_stream *s, struct at_tensor C, struct at_tensor A, uint32_t a_col,
                       struct at_tensor B, float alpha, bool accumulate,
                       const struct at_added *added)
{
    const uint32_t M = A.dim[0], N = B.dim[1], K = B.dim[0];
    const uint32_t most = K >= K_SPLIT_FROM ? K_SPLIT : K;
    const uint32_t block = rows_in(binding_bytes(s), (uint64_t)B.ld * sizeof(float), most);
    const bool in_one = adds(s, N, added);

    for (uint32_t k = 0; k < K; k += block) {
        const struct at_tensor part = at_tensor_rows(B, k, least(block, K - k));
        struct gemm_nn_bufs bufs = { .a = at_tensor_view(A),
                                     .b = at_tensor_view(part),
                                     .c = at_tensor_view(C) };
        struct gemm_args args = {
            .M = M,
            .N = N,
            .K = part.dim[0],
            .lda = A.ld,
            .ldb = B.ld,
            .ldc = C.ld,
            .a_col = a_col + k,
            .alpha = alpha,
            .accumulate = accumulate || k > 0,
        };

        if (in_one && k + block >= K) {
            bufs.added_a = at_tensor_view(added->a);
            bufs.added_b = at_tensor_view(added->b);
            add(&args, added);
        }
        at_launch_gemm_nn(s, &bufs, &args, gemm_work(M, N, columns_side(N)));
    }
    if (added && !in_one)
        nn_columns(s, C, added->a, 0, added->b, added->scale, true, NULL);
}

void at_matmul_nt(struct at_stream *s, struct at_tensor C, struct at_tensor A, struct at_tensor B,
                  float alpha, bool accumulate)
{
    at_require_shape(C, A.dim[0], B.dim[0]);
    at_require_shape(B, B.dim[0], A.dim[1]);
    AT_REQUIRE(A.dim[1] > 0);
    if (!empty(C))
        nt_columns(s, C, 0, A, B, alpha, accumulate, NULL);
}

void at_matmul_nn(struct at_stream *s, struct at_tensor C, struct at_tensor A, struct at_tensor B,
                  float alpha, bool accumulate)
{
    at_require_shape(C, A.dim[0], B.dim[1]);
    at_require_shape(B, A.dim[1], B.dim[1]);
    AT_REQUIRE(A.dim[1] > 0);
    if (!empty(C))
        nn_columns(s, C, A, 0, B, alpha, accumulate, NULL);
}

/* Of k in a launch of TN at most: whole blocks. */
static uint32_t launch_rows(uint32_t M, uint32_t N)
{
    const double blocks = tn_flop / (2.0 * M * N * GEMM_TN_BLOCK);

    if (blocks > 1e6)
        return UINT32_MAX;
    return (blocks < 1 ? 1 : (uint32_t)blocks) * GEMM_TN_BLOCK;
}

void at_matmul_tn(struct at_stream *s, struct at_tensor C, struct at_tensor A, struct at_tensor B,
                  float alpha, bool accumulate)
{
    const uint32_t M = A.dim[1], N = B.dim[1], K = A.dim[0];
    const uint32_t rows_held = least(at_tensor_part_rows(s, A), at_tensor_part_rows(s, B));
    const uint32_t part = least(rows_held, launch_rows(M, N));
    const uint32_t side = M <= NARROW_MOST ? GEMM_SHORT : columns_side(N);
    uint32_t panel;

    at_require_shape(C, M, N);
    at_require_shape(B, K, N);
    AT_REQUIRE(K > 0);
    if (empty(C))
        return;
    panel = rows_in(binding_bytes(s), (uint64_t)C.ld * sizeof(float), M);
    for (uint32_t m = 0; m < M; m += panel) {
        const struct at_tensor rows = at_tensor_rows(C, m, least(panel, M - m));

        for (uint32_t k = 0; k < K; k += part) {
            const uint32_t n = least(part, K - k);
            const struct gemm_tn_bufs bufs = { .a = at_tensor_view(at_tensor_rows(A, k, n)),
                                               .b = at_tensor_view(at_tensor_rows(B, k, n)),
                                               .c = at_tensor_view(rows) };
            const struct gemm_args args = {
                .M = rows.dim[0],
                .N = N,
                .K = n,
                .lda = A.ld,
                .ldb = B.ld,
                .ldc = C.ld,
                .a_col = m,
                .alpha = alpha,
                .accumulate = accumulate || k > 0,
            };

            at_launch_gemm_tn(s, &bufs, &args, gemm_work(args.M, N, side));
        }
    }
}

/* ---- weights ---- */

void at_weight_nt(struct at_stream *s, struct at_tensor C, uint32_t c_col, struct at_tensor A,
                  struct at_tensor B, bool accumulate, const struct at_halves *halves)
{
    AT_REQUIRE(A.dim[1] == B.dim[1] && C.dim[0] == A.dim[0] && c_col + B.dim[0] <= C.dim[1]);
    if (halves->a.buffer)
        at_halves_nt(s, C, c_col, A, B, accumulate, halves);
    else
        nt_columns(s, C, c_col, A, B, 1, accumulate, NULL);
}

void at_weight_nn(struct at_stream *s, struct at_tensor C, struct at_tensor A, uint32_t a_col,
                  struct at_tensor B, bool accumulate, const struct at_halves *halves)
{
    AT_REQUIRE(a_col + B.dim[0] <= A.dim[1] && C.dim[0] == A.dim[0] && C.dim[1] == B.dim[1]);
    if (halves->a.buffer)
        at_halves_nn(s, C, A, a_col, B, accumulate, halves);
    else
        nn_columns(s, C, A, a_col, B, 1, accumulate, NULL);
}

void at_weight_tn(struct at_stream *s, struct at_tensor dW, struct at_tensor dy, struct at_tensor x,
                  const struct at_halves *halves)
{
    if (halves->a.buffer)
        at_halves_tn(s, dW, dy, x, halves);
    else
        at_matmul_tn(s, dW, dy, x, 1, true);
}

void at_linear_scratch_reserve(struct at_pool *pool, struct at_linear_scratch *scratch,
                               const struct at_weight *const *weights, size_t n, uint32_t T,
                               bool trainable)
{
    struct at_halves_need need = { 0 };
    uint64_t most = 0;

    for (size_t i = 0; i < n; i++) {
        const struct at_weight *w = weights[i];
        const uint64_t row_bytes = at_tensor_apart_bytes(1, w->cols);
        const uint32_t panel = rows_in(panel_bytes, row_bytes, w->rows);

        if (w->type != AT_F32 && panel * row_bytes > most)
            most = panel * row_bytes;
        at_halves_add(&need, T, w->type == AT_F32 ? w->rows : panel, w->cols);
        if (trainable)
            at_halves_add_tn(&need, T, w->rows, w->cols);
    }
    at_halves_reserve(pool, &scratch->halves, &need);
    scratch->panel = (struct at_view){ 0 };
    if (most > 0)
        at_pool_reserve(pool, &scratch->panel, most, "dequantised weights");
}

/* Rows of w that are worked on at a time: all of an f32 weight. */
static uint32_t panel_rows(struct at_weight w, const struct at_linear_scratch *scratch)
{
    if (w.type == AT_F32)
        return w.rows;
    return rows_in(least((uint32_t)panel_bytes, (uint32_t)scratch->panel.bytes),
                   at_tensor_apart_bytes(1, w.cols), w.rows);
}

/* Values of w, read in place or dequantised into the scratch. */
static struct at_tensor panel_values(struct at_stream *s, struct at_weight w,
                                     const struct at_linear_scratch *scratch)
{
    struct at_tensor values;

    if (w.type == AT_F32)
        return at_weight_values(w);
    values = at_tensor_make_apart(scratch->panel, w.rows, w.cols);
    at_dequantise(s, values, w);
    return values;
}

static void stored_product(struct at_stream *s, struct at_tensor y, struct at_tensor x,
                           struct at_weight w, float alpha, bool accumulate,
                           const struct at_added *added);
static bool stored_adds(struct at_stream *s, struct at_tensor y, struct at_tensor x,
                        enum at_quant_type type);
static void stored_nn(struct at_stream *s, struct at_tensor dx, struct at_tensor dy,
                      struct at_weight w, bool accumulate, const struct at_added *added);
static const uint32_t stored_nn_kernels[AT_QUANT_COUNT] = { AT_QUANT_KERNELS(gemm_nn) };

/* Rows of x, at most, of a product that reads weights as they are stored. Above, decoding a half
 * takes longer than reading it once more; of any type where a product's sums and what is decoded do
 * not fit in the vector registers, which are 16 where there are fewer than 16 lanes. */
static uint32_t most_rows(struct at_stream *s, enum at_quant_type type)
{
    const bool spills = at_gpu_get_info(at_stream_gpu(s))->subgroup < 16;

    return type == AT_F32 ? FEW_ROWS_F32 : type == AT_F16 || spills ? FEW_ROWS : UINT32_MAX;
}

/* Whether weights are read as they are stored: where that gives the same bits. */
static bool reads_stored(struct at_stream *s, uint32_t M, enum at_quant_type type,
                         const struct at_linear_scratch *scratch)
{
    return M <= most_rows(s, type) && !scratch->halves.a.buffer &&
           at_gpu_get_info(at_stream_gpu(s))->few_rows;
}

/* The same of a backward pass, whatever its rows: where gemm_nn_<type> has a variant, whose texels
 * are words. With fewer lanes sums leave no registers to decode in. */
static bool reads_stored_back(struct at_stream *s, enum at_quant_type type,
                              const struct at_linear_scratch *scratch)
{
    const struct at_gpu_info *info = at_gpu_get_info(at_stream_gpu(s));

    return stored_nn_kernels[type] != 0 && info->few_rows && info->subgroup >= 16 &&
           !scratch->halves.a.buffer &&
           info->max_texels >= info->max_range_bytes / sizeof(uint32_t);
}

void at_linear_fwd_and(struct at_stream *s, struct at_tensor y, struct at_tensor x,
                       struct at_weight w, const struct at_linear_scratch *scratch, bool accumulate,
                       const struct at_added *added)
{
    const uint32_t panel = panel_rows(w, scratch);
    const bool stored = reads_stored(s, x.dim[0], w.type, scratch);
    const bool rides =
        may_ride(s, added) && (stored ? stored_adds(s, y, x, w.type) : !scratch->halves.a.buffer);

    at_require_shape(x, y.dim[0], w.cols);
    at_require_shape(y, x.dim[0], w.rows);
    if (empty(y))
        return;
    if (stored)
        stored_product(s, y, x, w, 1, accumulate, rides ? added : NULL);
    for (uint32_t n = 0; !stored && n < w.rows; n += panel) {
        const struct at_weight part = at_weight_rows(w, n, least(panel, w.rows - n));
        const struct at_tensor values = panel_values(s, part, scratch);
        struct at_added its;

        if (rides)
            nt_columns(s, y, n, x, values, 1, accumulate, added_rows(&its, added, n, part.rows));
        else
            at_weight_nt(s, y, n, x, values, accumulate, &scratch->halves);
    }
    if (added && !rides)
        at_matmul_nt(s, y, added->a, added->b, added->scale, true);
}

void at_linear_fwd(struct at_stream *s, struct at_tensor y, struct at_tensor x, struct at_weight w,
                   const struct at_linear_scratch *scratch, bool accumulate)
{
    at_linear_fwd_and(s, y, x, w, scratch, accumulate, NULL);
}

void at_linear_bwd_and(struct at_stream *s, struct at_tensor dx, struct at_tensor dy,
                       struct at_weight w, const struct at_linear_scratch *scratch, bool accumulate,
                       const struct at_added *added)
{
    const bool stored = reads_stored_back(s, w.type, scratch);
    const uint32_t panel = stored ? w.rows : panel_rows(w, scratch);
    const bool rides = may_ride(s, added) && !scratch->halves.a.buffer;

    at_require_shape(dx, dy.dim[0], w.cols);
    at_require_shape(dy, dx.dim[0], w.rows);
    if (empty(dx))
        return;
    if (stored)
        stored_nn(s, dx, dy, w, accumulate, rides ? added : NULL);
    for (uint32_t n = 0; !stored && n < w.rows; n += panel) {
        const struct at_weight part = at_weight_rows(w, n, least(panel, w.rows - n));
        const struct at_tensor values = panel_values(s, part, scratch);

        if (rides && n + panel >= w.rows)
            nn_columns(s, dx, dy, n, values, 1, accumulate || n > 0, added);
        else
            at_weight_nn(s, dx, dy, n, values, accumulate || n > 0, &scratch->halves);
    }
    if (added && !rides)
        at_matmul_nn(s, dx, added->a, added->b, added->scale, true);
}

void at_linear_bwd(struct at_stream *s, struct at_tensor dx, struct at_tensor dy,
                   struct at_weight w, const struct at_linear_scratch *scratch, bool accumulate)
{
    at_linear_bwd_and(s, dx, dy, w, scratch, accumulate, NULL);
}

void at_linear_bwd_weight(struct at_stream *s, struct at_tensor dW, struct at_tensor dy,
                          struct at_tensor x, const struct at_linear_scratch *scratch)
{
    at_weight_tn(s, dW, dy, x, &scratch->halves);
}

/* ---- weights as they are stored ---- */

/* Rows of x in a tile of the kernel for CPU devices: one pipeline each. Values are decoded once a
 * tile; types of which no product of many rows reads what is stored have no larger tile. */
static uint32_t tile_rows(struct at_stream *s, enum at_quant_type type, uint32_t M)
{
    if (M <= 16 || most_rows(s, type) <= FEW_ROWS)
        return M == 1 ? 1 : M <= 4 ? 4 : M <= 8 ? 8 : 16;
    return M <= GEMV_MANY / 2 ? GEMV_MANY / 2 : GEMV_MANY;
}

/* Columns of a weight that are summed at a time: as by nt_columns() where the bits are its, too. */
static uint32_t block_columns(struct at_stream *s, uint32_t K)
{
    return K >= K_SPLIT_FROM && at_gpu_get_info(at_stream_gpu(s))->few_rows ? K_SPLIT : K;
}

static void launch_stored(struct at_stream *s, struct at_tensor y, uint32_t y_col,
                          struct at_tensor x, struct at_weight w, float alpha, bool accumulate,
                          const struct at_added *added)
{
    static const uint32_t kernels[AT_QUANT_COUNT] = { [AT_F32] = AT_KERNEL_gemv_f32,
                                                      AT_QUANT_KERNELS(gemv) };
    const bool scales = at_quant_get(w.type)->n_planes > 1;
    struct at_view views[6] = { at_tensor_view(y), w.plane[0], w.plane[1] };
    struct at_view *const inputs = views + (scales ? 3 : 2); /* x, then what is added */
    const uint32_t block = block_columns(s, w.cols);
    struct gemv_args args = {
        .M = x.dim[0],
        .N = w.rows,
        .ldx = x.ld,
        .ldy = y.ld,
        .y_col = y_col,
        .quants_stride = (uint32_t)at_weight_row_bytes(&w, 0) / 4,
        .scales_stride = (uint32_t)at_weight_row_bytes(&w, 1) / 4,
        .alpha = alpha,
    };

    inputs[0] = at_tensor_view(x);
    for (uint32_t k = 0; k < w.cols; k += block) {
        args.k_begin = k;
        args.k_end = k + least(block, w.cols - k);
        args.accumulate = accumulate || k > 0;
        if (added && args.k_end == w.cols) {
            inputs[1] = at_tensor_view(added->a);
            inputs[2] = at_tensor_view(added->b);
            args.added_K = added->a.dim[1];
            args.added_lda = added->a.ld;
            args.added_ldb = added->b.ld;
            args.added_alpha = added->scale;
        }
        at_stream_launch(
            s, kernels[w.type], views, &args, sizeof args,
            (struct at_work){ args.N, args.M, 1, 1, { tile_rows(s, w.type, args.M) } });
    }
}

/* Rows of x in a launch: what a binding holds of it and of y. */
static uint32_t stored_rows(struct at_stream *s, struct at_tensor y, struct at_tensor x)
{
    const uint32_t widest = y.ld > x.ld ? y.ld : x.ld;

    return rows_in(binding_bytes(s), (uint64_t)widest * sizeof(float), x.dim[0]);
}

/* Whether stored_product() adds another: the kernels for many rows do. */
static bool stored_adds(struct at_stream *s, struct at_tensor y, struct at_tensor x,
                        enum at_quant_type type)
{
    return stored_rows(s, y, x) == x.dim[0] && tile_rows(s, type, x.dim[0]) >= GEMV_MANY / 2;
}

/* y (+)= alpha x W^T in parts that bindings hold; added: NULL, or where stored_adds(). */
static void stored_product(struct at_stream *s, struct at_tensor y, struct at_tensor x,
                           struct at_weight w, float alpha, bool accumulate,
                           const struct at_added *added)
{
    const uint64_t quants = at_weight_row_bytes(&w, 0);
    const uint32_t M = x.dim[0], panel = rows_in(binding_bytes(s), quants, w.rows);
    const uint32_t tile = stored_rows(s, y, x);

    at_require_shape(x, M, w.cols);
    at_require_shape(y, M, w.rows);
    for (uint32_t n = 0; n < w.rows; n += panel)
        for (uint32_t m = 0; m < M; m += tile) {
            const uint32_t rows = least(tile, M - m);
            const struct at_weight part = at_weight_rows(w, n, least(panel, w.rows - n));
            struct at_added its;

            launch_stored(s, at_tensor_rows(y, m, rows), n, at_tensor_rows(x, m, rows), part, alpha,
                          accumulate, added_rows(&its, added, n, part.rows));
        }
}

/* dx (+)= dy W, added: NULL, or where may_ride(). Has the bits of nn_columns() and a copy of W,
 * where one panel and one binding hold that: the same blocks are summed. */
static void stored_nn(struct at_stream *s, struct at_tensor dx, struct at_tensor dy,
                      struct at_weight w, bool accumulate, const struct at_added *added)
{
    const bool scales = at_quant_get(w.type)->n_planes > 1;
    const uint32_t most = w.rows >= K_SPLIT_FROM ? K_SPLIT : w.rows;
    const uint32_t block = rows_in(binding_bytes(s), at_weight_row_bytes(&w, 0), most);

    for (uint32_t k = 0; k < w.rows; k += block) {
        const struct at_weight part = at_weight_rows(w, k, least(block, w.rows - k));
        struct at_view views[6] = { at_tensor_view(dx), part.plane[0], part.plane[1] };
        struct at_view *const inputs = views + (scales ? 3 : 2); /* dy, then what is added */
        struct gemm_stored_args args = {
            .M = dx.dim[0],
            .N = w.cols,
            .K = part.rows,
            .lda = dy.ld,
            .ldc = dx.ld,
            .a_col = k,
            .quants_stride = (uint32_t)at_weight_row_bytes(&w, 0) / 4,
            .scales_stride = (uint32_t)at_weight_row_bytes(&w, 1) / 4,
            .alpha = 1,
            .accumulate = accumulate || k > 0,
        };

        inputs[0] = at_tensor_view(dy);
        if (added && k + block >= w.rows) {
            inputs[1] = at_tensor_view(added->a);
            inputs[2] = at_tensor_view(added->b);
            args.added_K = added->a.dim[1];
            args.added_lda = added->a.ld;
            args.added_ldb = added->b.ld;
            args.added_alpha = added->scale;
        }
        at_stream_launch(s, stored_nn_kernels[w.type], views, &args, sizeof args,
                         (struct at_work){ .x = args.M, .y = args.N, .z = 1 });
    }
}

void at_linear_row(struct at_stream *s, struct at_tensor y, struct at_tensor x, struct at_weight w,
                   float alpha, bool accumulate)
{
    at_require_shape(x, 1, w.cols);
    if (!empty(y))
        stored_product(s, y, x, w, alpha, accumulate, NULL);
}

/* ---- bias ---- */

void at_bias_fwd(struct at_stream *s, struct at_tensor y, struct at_view b)
{
    const struct bias_fwd_bufs bufs = { .y = at_tensor_view(y), .b = b };
    const struct bias_args args = { .T = y.dim[0], .C = y.dim[1], .ld = y.ld };

    if (!empty(y))
        at_launch_bias_fwd(s, &bufs, &args, (struct at_work){ args.T, 1, 1, 0, { 0 } });
}

void at_bias_bwd(struct at_stream *s, struct at_view db, struct at_tensor dy)
{
    const uint32_t T = dy.dim[0];
    const uint32_t block = rows_in(binding_bytes(s), (uint64_t)dy.ld * sizeof(float), T);

    for (uint32_t t = 0; !empty(dy) && t < T; t += block) {
        const struct at_tensor rows = at_tensor_rows(dy, t, least(block, T - t));
        const struct bias_bwd_bufs bufs = { .db = db, .dy = at_tensor_view(rows) };
        const struct bias_args args = { .T = rows.dim[0], .C = dy.dim[1], .ld = dy.ld };

        at_launch_bias_bwd(s, &bufs, &args, (struct at_work){ args.C, 1, 1, 0, { 0 } });
    }
}

/* ---- LoRA ---- */

void at_lora_fwd(struct at_stream *s, struct at_tensor y, struct at_tensor z, struct at_tensor x,
                 const struct at_lora *lora)
{
    at_matmul_nt(s, z, x, lora->A, 1, false);
    at_matmul_nt(s, y, z, lora->B, lora->scale, true);
}

void at_lora_row(struct at_stream *s, struct at_tensor y, struct at_tensor z, struct at_tensor x,
                 const struct at_lora *lora)
{
    at_linear_row(s, z, x, at_weight_of_tensor(lora->A), 1, false);
    at_linear_row(s, y, z, at_weight_of_tensor(lora->B), lora->scale, true);
}

void at_lora_bwd(struct at_stream *s, struct at_tensor dx, struct at_tensor dz, struct at_tensor dy,
                 struct at_tensor x, struct at_tensor z, const struct at_lora *lora)
{
    at_matmul_nn(s, dz, dy, lora->B, lora->scale, false);
    if (lora->dB.view.buffer != NULL)
        at_matmul_tn(s, lora->dB, dy, z, lora->scale, true);
    if (lora->dA.view.buffer != NULL)
        at_matmul_tn(s, lora->dA, dz, x, 1, true);
    if (dx.view.buffer != NULL)
        at_matmul_nn(s, dx, dz, lora->A, 1, true);
}
