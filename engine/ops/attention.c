#include "attention.h"

#include "kernels.h"

#include <string.h>

/* The backward pass works on blocks of queries and keys, so that a block's scores (kept by the
 * kernels of CPU devices) stay small whatever the slab's size. Where none are kept a block has
 * LAUNCH_ROWS of both and all heads: a GPU wants many workgroups, a submission an end. Multiples of
 * 64 rows: parts of every view then begin at multiples of 256 bytes. */
enum { BLOCK_STEP = 64, BLOCK_QUERIES = 1024, BLOCK_KEYS = 512, LAUNCH_ROWS = 2048 };
static const uint64_t scores_most = 32u << 20;

struct block {
    uint32_t queries, keys, heads; /* at a time; heads: kv heads */
};

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint64_t row_bytes(struct at_tensor t)
{
    return t.ld * sizeof(float);
}

/* Columns of scores, (query, head) pairs: they lie in blocks of 4 a lane, of 4, 8 or 16 lanes
 * (attention_cpu_bwd_kv.comp). */
static uint64_t scores_columns(uint32_t queries, uint32_t R)
{
    return at_round_up((uint64_t)queries * R, 64);
}

static uint64_t scores_bytes(uint32_t queries, uint32_t keys, uint32_t R)
{
    return keys * scores_columns(queries, R) * sizeof(float);
}

/* dsum comes first in the scratch. */
static uint64_t dsum_bytes(uint32_t T, uint32_t H)
{
    return at_round_up((uint64_t)T * H * sizeof(float), 256);
}

/* Only the kernels of CPU devices keep scores. */
static bool keeps_scores(const struct at_gpu *gpu, uint32_t D, uint32_t R, bool window)
{
    const struct at_work work = { .spec = { D, R, window } };

    return strncmp(at_kernel_variant(gpu, AT_KERNEL_attention_bwd_kv, work), "cpu", 3) == 0;
}

uint64_t at_attention_scratch_bytes(const struct at_gpu *gpu, uint32_t T, uint32_t H, uint32_t G,
                                    uint32_t D)
{
    const uint32_t R = G > 0 ? H / G : 0;
    const uint64_t scores = G * scores_bytes(least(T, BLOCK_QUERIES), least(T, BLOCK_KEYS), R);

    if (G == 0 || !keeps_scores(gpu, D, R, false))
        return dsum_bytes(T, H);
    return dsum_bytes(T, H) + (scores < scores_most ? scores : scores_most);
}

double at_attention_pairs(const int32_t *intervals, uint32_t n, uint32_t window)
{
    double pairs = 0;

    for (uint32_t t = 0; t < n; t++) {
        const int32_t *reads = intervals + 4ul * t;
        uint32_t prefix = (uint32_t)(reads[1] - reads[0]), own = (uint32_t)(reads[3] - reads[2]);

        if (window > 0 && own >= window) {
            own = window;
            prefix = 0;
        } else if (window > 0 && own + prefix > window)
            prefix = window - own;
        pairs += own + prefix;
    }
    return pairs;
}

/* The part of so many pairs that is read. */
static float share_of(const struct at_attention *p, double all)
{
    return p->pairs > 0 ? (float)(p->pairs / all) : 0.5f;
}

/* ---- shapes ---- */

static void require_shapes(const struct at_attention *p, struct at_tensor q, struct at_tensor k,
                           struct at_tensor v)
{
    if (p->G == 0 || p->H % p->G != 0 || p->D == 0 || p->D % 4 != 0)
        AT_BUG("attention of %u heads, %u kv heads of width %u: heads must be a multiple of kv "
               "heads, the width one of 4",
               p->H, p->G, p->D);
    at_require_shape(q, p->T, p->H * p->D);
    at_require_shape(k, p->n_keys, p->G * p->D);
    at_require_shape(v, p->n_keys, p->G * p->D);
}

/* Per-row values: n rows of `bytes`, rounded up as views are. */
static struct at_view rows_view(struct at_view view, uint32_t begin, uint32_t n, uint64_t bytes)
{
    return at_view_part(view, begin * bytes, at_round_up(n * bytes, 16));
}

/* x: queries or keys; y: kv heads, in parts where they serve many query heads; z: columns. The
 * last constants are lib/attention_matrix.glsl's: the device's shape and a workgroup's size. */
static struct at_work work_of(struct at_stream *s, const struct at_attention *p, uint32_t x,
                              uint32_t kv_heads)
{
    const struct at_matrix_shape m = at_gpu_get_info(at_stream_gpu(s))->matrix;
    const uint32_t subgroups = m.m > 0 ? 2 * 32 / m.m : 0;

    return (struct at_work){ x,
                             kv_heads,
                             p->D,
                             9,
                             { p->D, p->H / p->G, p->window > 0, p->cap > 0, m.lanes, m.m, m.n, m.k,
                               subgroups * m.lanes } };
}

/* ---- forward ---- */

/* Whether a tile of several positions would visit more segments than its rows save: each is read
 * with all rows of the tile. */
static bool mostly_alone(struct at_stream *s, const struct at_attention *p)
{
    return at_gpu_get_info(at_stream_gpu(s))->few_rows && p->n_alone >= p->T / 4 + 1;
}

void at_attention_fwd(struct at_stream *s, struct at_tensor o, struct at_view lse,
                      struct at_tensor q, struct at_tensor k, struct at_tensor v,
                      const struct at_attention *p)
{
    const struct attention_fwd_args args = { .T = p->T,
                                             .n_keys = p->n_keys,
                                             .H = p->H,
                                             .G = p->G,
                                             .ldq = q.ld,
                                             .ldk = k.ld,
                                             .ldv = v.ld,
                                             .ldo = o.ld,
                                             .window = p->window,
                                             .scale = p->scale,
                                             .cap = p->cap,
                                             .share = share_of(p, (double)p->T * p->n_keys) };

    require_shapes(p, q, k, v);
    at_require_shape(o, p->T, p->H * p->D);
    if (p->T == 0)
        return;
    const struct attention_fwd_bufs bufs = { .o = at_tensor_view(o),
                                             .lse = rows_view(lse, 0, p->T, p->H * sizeof(float)),
                                             .q = at_tensor_view(q),
                                             .k = at_tensor_view(k),
                                             .v = at_tensor_view(v),
                                             .intervals = rows_view(p->intervals, 0, p->T, 16) };

    struct at_work work = work_of(s, p, p->T, p->G * ATTENTION_PARTS(p->H / p->G));
    if (mostly_alone(s, p))
        work.spec[work.n_spec++] = 1;
    at_launch_attention_fwd(s, &bufs, &args, work);
}

/* ---- backward ---- */

struct backward {
    const struct at_attention *p;
    struct at_tensor dq, dk, dv, d_o, q, k, v;
    struct at_view lse, dsum, scores; /* scores: no buffer where they are not kept */
    struct block block;
    float share; /* of the pairs of all blocks, those that are read */
};

/* Rows of which a binding holds the widest of n tensors: all, or a multiple of BLOCK_STEP. */
static uint32_t rows_in(uint64_t limit, const struct at_tensor *tensors, size_t n, uint32_t rows)
{
    uint64_t widest = 1;

    for (size_t i = 0; i < n; i++)
        widest = row_bytes(tensors[i]) > widest ? row_bytes(tensors[i]) : widest;
    if (limit / widest >= rows)
        return rows;
    if (limit / widest < BLOCK_STEP)
        AT_BUG("attention: a binding of %llu bytes holds fewer than %d rows of %llu",
               (unsigned long long)limit, BLOCK_STEP, (unsigned long long)widest);
    return (uint32_t)(limit / widest / BLOCK_STEP * BLOCK_STEP);
}

static uint32_t half_block(uint32_t rows)
{
    return (uint32_t)at_round_up(rows / 2, BLOCK_STEP);
}

/* A function of the shapes, the device's limit and the scratch, which fix the order of sums. */
static struct block choose_block(struct at_stream *s, const struct backward *b)
{
    const uint64_t limit = at_gpu_get_info(at_stream_gpu(s))->max_range_bytes;
    const uint64_t scores = b->scores.bytes < limit ? b->scores.bytes : limit;
    const struct at_tensor by_query[] = { b->q, b->d_o, b->dq };
    const struct at_tensor by_key[] = { b->k, b->v, b->dk, b->dv };
    const uint32_t T = b->p->T, R = b->p->H / b->p->G;
    const bool kept = b->scores.buffer != NULL;
    struct block block = {
        .queries = rows_in(limit, by_query, AT_COUNT(by_query),
                           least(T, kept ? BLOCK_QUERIES : LAUNCH_ROWS)),
        .keys = rows_in(limit, by_key, AT_COUNT(by_key), least(T, kept ? BLOCK_KEYS : LAUNCH_ROWS)),
        .heads = b->p->G,
    };

    if (!kept)
        return block;
    while (scores_bytes(block.queries, block.keys, R) > scores && block.keys > BLOCK_STEP)
        block.keys = half_block(block.keys);
    while (scores_bytes(block.queries, block.keys, R) > scores && block.queries > BLOCK_STEP)
        block.queries = half_block(block.queries);
    AT_REQUIRE(scores_bytes(block.queries, block.keys, R) <= scores);
    block.heads =
        least(block.heads, (uint32_t)(scores / scores_bytes(block.queries, block.keys, R)));
    return block;
}

static void launch_sums(struct at_stream *s, const struct backward *b, struct at_tensor o)
{
    const struct attention_sum_args args = {
        .T = b->p->T, .H = b->p->H, .ldo = o.ld, .lddo = b->d_o.ld
    };
    const struct attention_bwd_sum_bufs bufs = { .dsum = b->dsum,
                                                 .o = at_tensor_view(o),
                                                 .d_o = at_tensor_view(b->d_o) };

    at_launch_attention_bwd_sum(s, &bufs, &args, (struct at_work){ args.T, 1, 1, 1, { b->p->D } });
}

/* ds of all kv heads that a launch works on, where scores are kept. */
static struct at_view scores_view(const struct backward *b, uint32_t n_t, uint32_t n_keys)
{
    if (!b->scores.buffer)
        return b->scores;
    return at_view_part(b->scores, 0,
                        b->block.heads * scores_bytes(n_t, n_keys, b->p->H / b->p->G));
}

/* Queries [t0, t0 + n_t), keys [key0, key0 + n_keys): the gradients that they give each other. */
static void launch_block(struct at_stream *s, const struct backward *b, uint32_t t0, uint32_t n_t,
                         uint32_t key0, uint32_t n_keys)
{
    const struct at_attention *p = b->p;
    const uint64_t row = p->H * sizeof(float);
    const struct at_view q = at_tensor_view(at_tensor_rows(b->q, t0, n_t));
    const struct at_view k = at_tensor_view(at_tensor_rows(b->k, key0, n_keys));
    const struct at_view v = at_tensor_view(at_tensor_rows(b->v, key0, n_keys));
    const struct at_view d_o = at_tensor_view(at_tensor_rows(b->d_o, t0, n_t));
    const struct at_view lse = rows_view(b->lse, t0, n_t, row);
    const struct at_view dsum = rows_view(b->dsum, t0, n_t, row);
    const struct at_view ds = scores_view(b, n_t, n_keys);
    const struct attention_bwd_kv_bufs by_key = {
        .dk = at_tensor_view(at_tensor_rows(b->dk, key0, n_keys)),
        .dv = at_tensor_view(at_tensor_rows(b->dv, key0, n_keys)),
        .query_end = rows_view(p->query_end, key0, n_keys, sizeof(int32_t)),
        .intervals = rows_view(p->intervals, t0, n_t, sizeof(int32_t[4])),
        .q = q,
        .k = k,
        .v = v,
        .d_o = d_o,
        .lse = lse,
        .dsum = dsum,
        .ds = ds,
    };
    const struct attention_bwd_q_bufs by_query = {
        .dq = at_tensor_view(at_tensor_rows(b->dq, t0, n_t)),
        .intervals = rows_view(p->intervals, t0, n_t, sizeof(int32_t[4])),
        .q = q,
        .k = k,
        .v = v,
        .d_o = d_o,
        .lse = lse,
        .dsum = dsum,
        .ds = ds,
    };
    struct attention_bwd_args args = {
        .n_t = n_t,
        .n_keys = n_keys,
        .t0 = t0,
        .key0 = key0,
        .H = p->H,
        .G = p->G,
        .ldq = b->q.ld,
        .ldk = b->k.ld,
        .ldv = b->v.ld,
        .lddo = b->d_o.ld,
        .lddq = b->dq.ld,
        .lddk = b->dk.ld,
        .lddv = b->dv.ld,
        .ldds = (uint32_t)scores_columns(n_t, p->H / p->G),
        .window = p->window,
        .scale = p->scale,
        .cap = p->cap,
        .share = b->share,
    };

    for (args.g0 = 0; args.g0 < p->G; args.g0 += b->block.heads) {
        const uint32_t heads = least(b->block.heads, p->G - args.g0);

        args.accumulate = t0 > key0; /* the first block of queries begins at key0 */
        at_launch_attention_bwd_kv(s, &by_key, &args, work_of(s, p, n_keys, heads));
        args.accumulate = key0 > 0;
        at_launch_attention_bwd_q(s, &by_query, &args,
                                  work_of(s, p, n_t, heads * ATTENTION_PARTS(p->H / p->G)));
    }
}

/* Queries of the block that begins with query t0. */
static uint32_t block_queries(const struct backward *b, uint32_t t0)
{
    return least(b->block.queries - t0 % b->block.queries, b->p->T - t0);
}

/* Pairs of a query and a key in all blocks. */
static double block_pairs(const struct backward *b)
{
    const uint32_t T = b->p->T;
    double pairs = 0;

    for (uint32_t key0 = 0; key0 < T; key0 += b->block.keys)
        for (uint32_t t0 = key0; t0 < T; t0 += block_queries(b, t0))
            pairs += (double)block_queries(b, t0) * least(b->block.keys, T - key0);
    return pairs;
}

void at_attention_bwd(struct at_stream *s, struct at_tensor dq, struct at_tensor dk,
                      struct at_tensor dv, struct at_tensor d_o, struct at_tensor q,
                      struct at_tensor k, struct at_tensor v, struct at_tensor o,
                      struct at_view lse, struct at_view scratch, const struct at_attention *p)
{
    const uint64_t sums = dsum_bytes(p->T, p->H);
    const struct at_gpu *gpu = at_stream_gpu(s);
    const uint64_t bytes = at_attention_scratch_bytes(gpu, p->T, p->H, p->G, p->D);
    struct backward b = {
        .p = p, .dq = dq, .dk = dk, .dv = dv, .d_o = d_o, .q = q, .k = k, .v = v, .lse = lse
    };

    require_shapes(p, q, k, v);
    require_shapes(p, dq, dk, dv);
    require_shapes(p, d_o, k, v);
    require_shapes(p, o, k, v);
    AT_REQUIRE(p->n_keys == p->T);
    if (p->T == 0)
        return;
    b.dsum = rows_view(scratch, 0, p->T, p->H * sizeof(float));
    if (bytes > sums && keeps_scores(gpu, p->D, p->H / p->G, p->window > 0))
        b.scores = at_view_part(scratch, sums, bytes - sums);
    b.block = choose_block(s, &b);
    b.share = share_of(p, block_pairs(&b));
    launch_sums(s, &b, o);
    for (uint32_t key0 = 0; key0 < p->T; key0 += b.block.keys)
        for (uint32_t t0 = key0, n_t; t0 < p->T; t0 += n_t) { /* queries read no later key */
            n_t = block_queries(&b, t0);
            launch_block(s, &b, t0, n_t, key0, least(b.block.keys, p->T - key0));
        }
}
