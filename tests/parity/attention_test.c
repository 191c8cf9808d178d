/* links: base gpu ops */
/* labels: slow gpu */
/* Interval attention, forward and backward = the reference, for packed rows with shared prefixes,
 * padding and decoding; a row's bits do not depend on what shares its slab. */
#include "gpu_test.h"

#include "attention.h"
#include "kernels.h"
#include "ref_attention.h"
#include "tolerances.h"

/* ---- slabs ---- */

enum { MAX_TOKENS = 1152, MAX_PIECES = 16 };

/* Rows as a list of lengths: a prompt and its segments, 0 ends a row; negative: that many empty
 * tokens. */
struct slab {
    uint32_t T;
    int32_t intervals[MAX_TOKENS][4], query_end[MAX_TOKENS];
};

static void put_run(struct slab *slab, uint32_t n, int32_t prefix, int32_t prefix_end,
                    uint32_t query_end)
{
    const int32_t begin = (int32_t)slab->T;

    for (uint32_t i = 0; i < n; i++) {
        const int32_t reads[4] = { prefix, prefix_end, prefix_end == prefix ? prefix : begin,
                                   begin + (int32_t)i + 1 };

        AT_REQUIRE(slab->T < MAX_TOKENS);
        memcpy(slab->intervals[slab->T], reads, sizeof reads);
        slab->query_end[slab->T++] = (int32_t)query_end;
    }
}

static void make_slab(struct slab *slab, const int *lengths, size_t n)
{
    memset(slab, 0, sizeof *slab);
    for (size_t i = 0; i < n; i++) {
        const int32_t prefix = (int32_t)slab->T, prefix_end = prefix + lengths[i];
        uint32_t end = slab->T;

        if (lengths[i] <= 0) {
            slab->T += (uint32_t)-lengths[i];
            AT_REQUIRE(slab->T <= MAX_TOKENS);
            continue;
        }
        for (size_t k = i; k < n && lengths[k] > 0; k++)
            end += (uint32_t)lengths[k];
        put_run(slab, (uint32_t)lengths[i], prefix, prefix, end);
        while (i + 1 < n && lengths[i + 1] > 0) {
            const uint32_t segment = (uint32_t)lengths[++i];

            put_run(slab, segment, prefix, prefix_end, slab->T + segment);
        }
    }
}

/* ---- a case: host arrays, device tensors ---- */

enum { Q, K, V, DO, O, DQ, DK, DV, TENSORS };
static const char *const names[] = { "q", "k", "v", "do", "o", "dq", "dk", "dv" };

struct shape {
    uint32_t H, G, D, window;
    float cap;
};

/* One device a setting for all tests: making its pipelines is most of what they cost. */
static struct gt devices[GT_SETTINGS];

static int open_devices(void **state)
{
    (void)state;
    for (size_t i = 0; i < GT_SETTINGS; i++)
        gt_open(&devices[i], i);
    return 0;
}

static const char *variant_of(const struct gt *t, struct shape s)
{
    const struct at_work work = { 1, 1, 1, 4, { s.D, s.H / s.G, s.window > 0, s.cap > 0 } };

    return at_kernel_variant(t->gpu, AT_KERNEL_attention_fwd, work);
}

/* Matrix units multiply halves, all other kernels f32. */
static bool is_matrix(const struct gt *t, struct shape s)
{
    return strcmp(variant_of(t, s), "matrix") == 0;
}

static int close_devices(void **state)
{
    (void)state;
    if (is_matrix(&devices[0], (struct shape){ 1, 1, 64, 0, 0 }))
        printf("attention by matrix units\n");
    for (size_t i = 0; i < GT_SETTINGS; i++)
        gt_close(&devices[i]);
    return 0;
}

struct run {
    struct shape shape;
    uint32_t T, n_keys, dims[TENSORS][2];
    float *host[TENSORS], *lse;
    double *want[TENSORS], *want_lse;
    size_t ids[TENSORS], id_lse, id_intervals, id_ends, id_scratch;
    struct at_tensor tensor[TENSORS];
    struct at_attention attention;
};

static void run_begin(struct run *r, struct shape shape, uint32_t T, uint32_t n_keys, float scale)
{
    const uint32_t HD = shape.H * shape.D, GD = shape.G * shape.D;
    const uint32_t dims[TENSORS][2] = { { T, HD }, { n_keys, GD }, { n_keys, GD }, { T, HD },
                                        { T, HD }, { T, HD },      { n_keys, GD }, { n_keys, GD } };

    *r = (struct run){ .shape = shape, .T = T, .n_keys = n_keys };
    memcpy(r->dims, dims, sizeof dims);
    for (int i = 0; i < TENSORS; i++) {
        const size_t n = (size_t)dims[i][0] * dims[i][1];

        r->host[i] = gt_floats(n, i == Q || i == K ? scale : 1);
        r->want[i] = gt_doubles(r->host[i], n);
    }
    r->lse = gt_floats((size_t)T * shape.H, 1);
    r->want_lse = gt_doubles(r->lse, (size_t)T * shape.H);
}

static void run_release(struct run *r)
{
    for (int i = 0; i < TENSORS; i++) {
        free(r->host[i]);
        free(r->want[i]);
    }
    free(r->lse);
    free(r->want_lse);
}

/* Device memory with the inputs; what is to be written holds NaN. */
static void run_upload(struct gt *t, struct run *r, const struct slab *slab)
{
    const struct shape s = r->shape;
    const uint32_t nan_word = 0x7fc00000u;

    gt_begin(t);
    for (int i = 0; i < TENSORS; i++)
        r->ids[i] = gt_plan_tensor(t, r->dims[i][0], r->dims[i][1], i % 3 == 0 ? 4 : 0);
    r->id_lse = gt_plan(t, (size_t)r->T * s.H * sizeof(float));
    r->id_intervals = gt_plan(t, sizeof(int32_t[4]) * r->T);
    r->id_ends = gt_plan(t, sizeof(int32_t) * r->T);
    r->id_scratch = gt_plan(t, at_attention_scratch_bytes(t->gpu, r->T, s.H, s.G, s.D));
    gt_commit(t);
    for (int i = 0; i < TENSORS; i++) {
        r->tensor[i] = gt_tensor(t, r->ids[i], r->dims[i][0], r->dims[i][1], i % 3 == 0 ? 4 : 0);
        OK(at_tensor_write(t->gpu, r->tensor[i], r->host[i]));
        if (i >= O)
            at_stream_fill(t->stream, r->tensor[i].view, nan_word);
    }
    OK(at_gpu_write(t->gpu, gt_view(t, r->id_intervals), slab->intervals,
                    sizeof(int32_t[4]) * r->T));
    OK(at_gpu_write(t->gpu, gt_view(t, r->id_ends), slab->query_end, sizeof(int32_t) * r->T));
    at_stream_fill(t->stream, gt_view(t, r->id_scratch), nan_word);
    at_stream_fill(t->stream, gt_view(t, r->id_lse), nan_word);
    r->attention = (struct at_attention){ .T = r->T,
                                          .n_keys = r->n_keys,
                                          .H = s.H,
                                          .G = s.G,
                                          .D = s.D,
                                          .scale = (float)(1 / sqrt(s.D)),
                                          .cap = s.cap,
                                          .window = s.window,
                                          .intervals = gt_view(t, r->id_intervals),
                                          .query_end = gt_view(t, r->id_ends) };
}

static void run_forward(struct gt *t, struct run *r)
{
    at_attention_fwd(t->stream, r->tensor[O], gt_view(t, r->id_lse), r->tensor[Q], r->tensor[K],
                     r->tensor[V], &r->attention);
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, r->host[O], r->tensor[O]));
    OK(at_gpu_read(t->gpu, r->lse, gt_view(t, r->id_lse), (size_t)r->T * r->shape.H * 4));
}

static void run_backward(struct gt *t, struct run *r)
{
    at_attention_bwd(t->stream, r->tensor[DQ], r->tensor[DK], r->tensor[DV], r->tensor[DO],
                     r->tensor[Q], r->tensor[K], r->tensor[V], r->tensor[O], gt_view(t, r->id_lse),
                     gt_view(t, r->id_scratch), &r->attention);
    OK(at_stream_wait(t->stream));
    for (int i = DQ; i <= DV; i++)
        OK(at_tensor_read(t->gpu, r->host[i], r->tensor[i]));
}

static void run_reference(struct run *r, const struct slab *slab, bool backward)
{
    const struct ref_attention ref = { .T = r->T,
                                       .n_keys = r->n_keys,
                                       .H = r->shape.H,
                                       .G = r->shape.G,
                                       .D = r->shape.D,
                                       .scale = (double)r->attention.scale,
                                       .cap = (double)r->shape.cap,
                                       .window = (int32_t)r->shape.window,
                                       .intervals = &slab->intervals[0][0] };

    ref_attention_fwd(r->want[O], r->want_lse, r->want[Q], r->want[K], r->want[V], &ref);
    if (backward)
        ref_attention_bwd(r->want[DQ], r->want[DK], r->want[DV], r->want[DO], r->want[Q],
                          r->want[K], r->want[V], &ref);
}

static double tolerance(const struct gt *t, const struct run *r, double f32)
{
    return is_matrix(t, r->shape) ? TOL_ATTENTION_HALVES : f32;
}

/* Within tol of the reference, relative to the tensor's largest value (at least 1). */
static void require_tensor(const struct gt *t, const struct run *r, int i, double f32)
{
    const size_t n = (size_t)r->dims[i][0] * r->dims[i][1];
    const double tol = tolerance(t, r, f32);
    double most = 1, *scale = malloc(n * sizeof *scale);
    char what[64];

    for (size_t j = 0; j < n; j++)
        most = fabs(r->want[i][j]) > most ? fabs(r->want[i][j]) : most;
    for (size_t j = 0; j < n; j++)
        scale[j] = most;
    snprintf(what, sizeof what, "%s (H %u, G %u, D %u, T %u)", names[i], r->shape.H, r->shape.G,
             r->shape.D, r->T);
    gt_require_close(t, what, r->host[i], r->want[i], scale, n, tol);
    free(scale);
}

/* The same, relative to the largest value of every KINDS-th row. */
enum { KINDS = 4 };
static void require_kinds(const struct gt *t, const struct run *r, int i, double f32)
{
    const uint32_t rows = r->dims[i][0], cols = r->dims[i][1];
    double most[KINDS] = { 0 }, *scale = malloc((size_t)rows * cols * sizeof *scale);

    assert_non_null(scale);
    for (size_t j = 0; j < (size_t)rows * cols; j++)
        most[j / cols % KINDS] = fmax(most[j / cols % KINDS], fabs(r->want[i][j]));
    for (size_t j = 0; j < (size_t)rows * cols; j++)
        scale[j] = most[j / cols % KINDS];
    gt_require_close(t, names[i], r->host[i], r->want[i], scale, (size_t)rows * cols,
                     tolerance(t, r, f32));
    free(scale);
}

static void require_forward(const struct gt *t, const struct run *r, double f32)
{
    require_tensor(t, r, O, f32);
    gt_require_close(t, "lse", r->lse, r->want_lse, NULL, (size_t)r->T * r->shape.H,
                     tolerance(t, r, f32));
}

/* ---- tests ---- */

/* With ATTUNE_TEST_FEW only what this device has kernels of its own for: the others are tested on
 * another one, and a CPU device compiles each for seconds. Those for matrix units take longest: one
 * shape of each kind there, small bindings with one of them. */
static bool is_tested(const struct gt *t, struct shape s)
{
    if (!getenv("ATTUNE_TEST_FEW"))
        return true;
    if (!is_matrix(t, s))
        return strcmp(variant_of(t, s), "baseline") != 0;
    if (s.D == 64 && s.H == 3 * s.G)
        return true;
    return t == &devices[0] &&
           ((s.D == 12 && s.cap <= 0) || s.D == 128 || (s.D == 16 && s.window > 0));
}

struct test_case {
    struct shape shape;
    int lengths[MAX_PIECES];
    size_t n;
};
/* clang-format off */
static const struct test_case cases[] = {
    { { 1, 1, 4, 0, 0 }, { 1 }, 1 },
    { { 6, 3, 12, 0, 0 }, { 5, 3, 1, 0, 2, 0, 33, 31, 40, -7 }, 10 },        /* R 2, D no multiple of 8 */
    { { 9, 3, 64, 0, 0 }, { 100, 60, 60, 0, 100, 60, 60, -72 }, 8 },         /* q above 1 MiB */
    { { 8, 1, 32, 0, 0 }, { 3, 0, 1, 1, 1, 0, -5, 70, 9, -3, 17, -31 }, 12 }, /* R 8, gaps */
    { { 2, 2, 64, 0, 0 }, { 30, 11, 7 }, 3 },                                /* R 1, two whole tiles of keys */
    { { 10, 2, 40, 0, 0 }, { 25, 0, 24, 23 }, 4 },                           /* R 5, D no multiple of 16 */
    { { 4, 4, 128, 0, 0 }, { 7, 8, 9, 0, 64, -40 }, 6 },
    { { 4, 2, 80, 0, 0 }, { 40, 17, 23, -5 }, 4 },                           /* D no multiple of 32 */
    { { 14, 2, 64, 0, 0 }, { 90, 23, 31, -1 }, 4 },                          /* R 7 */
    { { 40, 1, 36, 0, 0 }, { 20, 9, 14 }, 3 },                               /* R 40: heads in parts */
    { { 2, 1, 160, 0, 0 }, { 33, 20, 20, -2 }, 4 },                          /* D in slices */
    { { 2, 1, 32, 0, 0 }, { 1100, -20 }, 2 },                                /* blocks of queries, keys */
    { { 4, 1, 16, 0, 0 }, { 600, 300, 131, 0, 60, -40 }, 6 },                /* a prefix over blocks */
    { { 6, 2, 16, 0, 1.5f }, { 40, 33, 20, -3 }, 4 },                  /* soft-capped scores */
    { { 4, 2, 12, 0, 0.5f }, { 40, 33, 20, -3 }, 4 },
    { { 6, 2, 8, 7, 0 }, { 40, 33, 20, 0, 50, -1 }, 6 },               /* windows */
    { { 2, 1, 16, 100, 1 }, { 600, 300, 31, 0, 150, -7 }, 6 },         /* ... over blocks */
};
/* clang-format on */

static void check_case(struct gt *t, const struct test_case *c, bool backward)
{
    struct slab slab;
    struct run r;

    make_slab(&slab, c->lengths, c->n);
    run_begin(&r, c->shape, slab.T, slab.T, 2);
    run_upload(t, &r, &slab);
    run_reference(&r, &slab, backward);
    run_forward(t, &r);
    require_forward(t, &r, TOL_ATTENTION);
    if (backward) {
        run_backward(t, &r);
        for (int i = DQ; i <= DV; i++)
            require_tensor(t, &r, i, TOL_ATTENTION_GRAD);
    }
    gt_end(t);
    run_release(&r);
}

static void attention_any_shape_equals_reference(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        for (size_t i = 0; i < AT_COUNT(cases); i++)
            if (is_tested(&devices[setting], cases[i].shape))
                check_case(&devices[setting], &cases[i], true);
    }
}

/* o and lse have the same bits with a tile of its own for each row. */
static void check_alone(struct gt *t, struct run *r)
{
    const size_t n = (size_t)r->dims[O][0] * r->dims[O][1], n_lse = (size_t)r->T * r->shape.H;
    float *o = malloc(n * sizeof *o), *lse = malloc(n_lse * sizeof *lse);

    memcpy(o, r->host[O], n * sizeof *o);
    memcpy(lse, r->lse, n_lse * sizeof *lse);
    r->attention.n_alone = r->T;
    run_forward(t, r);
    assert_memory_equal(r->host[O], o, n * sizeof *o);
    assert_memory_equal(r->lse, lse, n_lse * sizeof *lse);
    free(o);
    free(lse);
}

/* Queries of several sequences, one or more each, over a cache of keys with a shared prompt. */
static void attention_decoding_equals_reference(void **state)
{
    static const int32_t reads[][4] = { { 0, 90, 90, 101 },  { 0, 90, 120, 121 }, { 0, 0, 0, 0 },
                                        { 0, 90, 130, 171 }, { 0, 90, 130, 172 }, { 0, 0, 0, 200 },
                                        { 0, 90, 172, 173 } };
    static const struct shape shapes[] = {
        { 9, 3, 64, 0, 0 }, { 2, 1, 8, 0, 0 }, { 5, 5, 32, 0, 0 }, { 4, 2, 8, 50, 2 }
    };

    (void)state;
    for (size_t setting = 0; setting < 2; setting++) {
        struct gt *t = &devices[setting];

        for (size_t i = 0; i < AT_COUNT(shapes); i++)
            for (uint32_t T = 1; T <= AT_COUNT(reads) && is_tested(t, shapes[i]); T += 3) {
                struct slab slab = { .T = T };
                struct run r;

                memcpy(slab.intervals, reads, sizeof reads);
                run_begin(&r, shapes[i], T, 200, 2);
                run_upload(t, &r, &slab);
                run_reference(&r, &slab, false);
                run_forward(t, &r);
                require_forward(t, &r, TOL_ATTENTION);
                check_alone(t, &r);
                gt_end(t);
                run_release(&r);
            }
    }
}

/* The same row behind `before` other tokens: o and lse to the bit. */
static void check_packed(struct gt *t, struct shape shape, int before, float *first, size_t n)
{
    const int alone[] = { 37, 20, 33 }, packed[] = { before, 0, 37, 20, 33, 0, 5, 6 };
    const uint32_t rows = 37 + 20 + 33, HD = shape.H * shape.D, GD = shape.G * shape.D;
    const size_t skip = (size_t)before;
    static uint64_t fixed;
    struct slab slab;
    struct run r;

    make_slab(&slab, before ? packed : alone, before ? AT_COUNT(packed) : AT_COUNT(alone));
    run_begin(&r, shape, slab.T, slab.T, 2);
    fixed = 1;
    for (size_t i = 0; i < (size_t)rows * HD; i++) /* the row itself is the same every time */
        for (int tensor = Q; tensor <= V; tensor++)
            if (tensor == Q || i < (size_t)rows * GD) {
                fixed = fixed * 6364136223846793005u + 1442695040888963407u;
                r.host[tensor][skip * (tensor == Q ? HD : GD) + i] =
                    (float)(fixed >> 40) / 8388608.0f - 1.0f;
            }
    run_upload(t, &r, &slab);
    run_forward(t, &r);
    if (before == 0) {
        memcpy(first, r.host[O], (size_t)rows * HD * sizeof(float));
        memcpy(first + (size_t)rows * HD, r.lse, (size_t)rows * shape.H * sizeof(float));
    } else if (memcmp(first, r.host[O] + skip * HD, (size_t)rows * HD * sizeof(float)) != 0 ||
               memcmp(first + (size_t)rows * HD, r.lse + skip * shape.H,
                      (n - (size_t)rows * HD) * sizeof(float)) != 0)
        fail_msg("%s: H %u G %u D %u: a row's bits change behind %d tokens", t->setting, shape.H,
                 shape.G, shape.D, before);
    gt_end(t);
    run_release(&r);
}

static void attention_row_has_the_same_bits_in_any_slab(void **state)
{
    static const struct shape shapes[] = {
        { 9, 3, 64, 0, 0 }, { 2, 2, 32, 0, 0 }, { 7, 1, 20, 0, 0 }, { 4, 2, 16, 9, 3 }
    };
    static const int before[] = { 0, 1, 3, 10, 31, 32, 33, 64, 201 };

    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        for (size_t i = 0; i < AT_COUNT(shapes); i++) {
            const size_t n = (size_t)90 * shapes[i].H * (shapes[i].D + 1);
            float *first = malloc(n * sizeof *first);

            for (size_t k = 0; k < AT_COUNT(before) && is_tested(&devices[setting], shapes[i]); k++)
                check_packed(&devices[setting], shapes[i], before[k], first, n);
            free(first);
        }
    }
}

static void attention_run_twice_has_the_same_bits(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++)
        for (size_t c = 2; c < 4; c++) {
            float *first[TENSORS];
            struct slab slab;
            struct run r;
            struct gt *t = &devices[setting];

            if (!is_tested(t, cases[c].shape))
                continue;
            make_slab(&slab, cases[c].lengths, cases[c].n);
            run_begin(&r, cases[c].shape, slab.T, slab.T, 2);
            for (int again = 0; again < 2; again++) {
                run_upload(t, &r, &slab);
                run_forward(t, &r);
                run_backward(t, &r);
                for (int i = O; i < TENSORS; i++) {
                    const size_t bytes = (size_t)r.dims[i][0] * r.dims[i][1] * sizeof(float);

                    if (again) {
                        assert_memory_equal(first[i], r.host[i], bytes);
                        free(first[i]);
                        continue;
                    }
                    first[i] = malloc(bytes);
                    memcpy(first[i], r.host[i], bytes);
                }
            }
            gt_end(t);
            run_release(&r);
        }
}

/* Behind the tensors lie NaNs, in one setting within reach of the kernels' texel views: no bit of a
 * result changes for it. */
static void attention_what_lies_behind_tensors_changes_no_bit(void **state)
{
    static const size_t settings[] = { 0, 2 };
    static const int lengths[] = { 7, 0, 505 };
    float *first[TENSORS + 1];
    struct slab slab;
    struct run r;

    (void)state;
    assert_true(gt_settings[settings[0]].params.texels_behind_bytes > 0);
    assert_true(gt_settings[settings[1]].params.texels_behind_bytes == 0);
    make_slab(&slab, lengths, AT_COUNT(lengths));
    run_begin(&r, (struct shape){ 3, 3, 64, 0, 0 }, slab.T, slab.T, 2);
    for (size_t k = 0; k < AT_COUNT(settings); k++) {
        struct gt *t = &devices[settings[k]];

        run_upload(t, &r, &slab);
        run_forward(t, &r);
        run_backward(t, &r);
        for (int i = O; i <= TENSORS; i++) {
            const float *x = i < TENSORS ? r.host[i] : r.lse;
            const size_t n = i < TENSORS ? (size_t)r.dims[i][0] * r.dims[i][1] : r.T * 3;

            if (k == 0) {
                first[i] = malloc(n * sizeof *x);
                memcpy(first[i], x, n * sizeof *x);
                continue;
            }
            if (memcmp(first[i], x, n * sizeof *x) != 0)
                fail_msg("%s: other bits with NaNs behind the tensors",
                         i < TENSORS ? names[i] : "lse");
            free(first[i]);
        }
        gt_end(t);
    }
    run_release(&r);
}

/* Scores of halves are rounded by more than 1, so that p may be any other: o lies within v all the
 * same, and nothing overflows. */
static void require_finite(const struct gt *t, const struct run *r, double most)
{
    double *scale = malloc((size_t)r->T * r->shape.H * sizeof *scale);

    assert_non_null(scale);
    for (size_t i = 0; i < (size_t)r->T * r->shape.H; i++)
        scale[i] = most;
    gt_require_close(t, "lse", r->lse, r->want_lse, scale, (size_t)r->T * r->shape.H,
                     TOL_ATTENTION_HALVES);
    free(scale);
    for (int i = O; i <= DV; i++)
        for (size_t k = 0; k < (size_t)r->dims[i][0] * r->dims[i][1]; k++)
            if (!isfinite(r->host[i][k]) || (i == O && fabsf(r->host[i][k]) > 1.001f))
                fail_msg("%s: %s[%zu] is %g", t->setting, names[i], k, (double)r->host[i][k]);
}

static void attention_large_scores_stay_finite(void **state)
{
    static const struct shape shapes[] = { { 3, 1, 64, 0, 0 }, { 2, 2, 8, 0, 0 } };
    static const int lengths[] = { 40, 30, 50, -8 };

    (void)state;
    for (size_t setting = 0; setting < 2; setting++) {
        struct gt *t = &devices[setting];

        for (size_t c = 0; c < AT_COUNT(shapes) && is_tested(t, shapes[c]); c++) {
            struct slab slab;
            struct run r;
            double most = 0;

            make_slab(&slab, lengths, AT_COUNT(lengths));
            run_begin(&r, shapes[c], slab.T, slab.T, 120); /* scores of about 1e4 */
            run_upload(t, &r, &slab);
            run_reference(&r, &slab, true);
            run_forward(t, &r);
            for (size_t i = 0; i < (size_t)r.T * shapes[c].H; i++)
                most = fabs(r.want_lse[i]) > most ? fabs(r.want_lse[i]) : most;
            assert_true(most > 5e3);
            run_backward(t, &r);
            if (is_matrix(t, r.shape)) {
                require_finite(t, &r, most);
            } else {
                require_forward(t, &r, TOL_ATTENTION_LARGE);
                for (int i = DQ; i <= DV; i++)
                    require_tensor(t, &r, i, TOL_ATTENTION_LARGE);
            }
            gt_end(t);
            run_release(&r);
        }
    }
}

/* Tokens as far apart as activations of 1e5 and gradients of 1e-7: each output within its tolerance
 * of the largest value of its own kind, so that a small row is not lost beside a large one. */
static void attention_unlike_rows_keep_their_precision(void **state)
{
    static const float factors[TENSORS][KINDS] = { [Q] = { 1e5f, 1, 1e-3f, 1e2f },
                                                   [K] = { 1e-5f, 1e-5f, 1e-5f, 1e-5f },
                                                   [V] = { 1e5f, 1e5f, 1e5f, 1e5f },
                                                   [DO] = { 1e-7f, 1, 1e-4f, 1e-2f } };
    static const struct shape shape = { 6, 2, 64, 0, 0 };
    static const int lengths[] = { 70, 40, 33, -1 };

    (void)state;
    for (size_t setting = 0; setting < 2; setting++) {
        struct gt *t = &devices[setting];
        struct slab slab;
        struct run r;

        if (!is_tested(t, shape))
            continue;
        make_slab(&slab, lengths, AT_COUNT(lengths));
        run_begin(&r, shape, slab.T, slab.T, 1);
        for (int i = Q; i <= DO; i++)
            for (uint32_t k = 0; k < r.dims[i][0] * r.dims[i][1]; k++) {
                r.host[i][k] *= factors[i][k / r.dims[i][1] % KINDS];
                r.want[i][k] = (double)r.host[i][k];
            }
        run_upload(t, &r, &slab);
        run_reference(&r, &slab, true);
        run_forward(t, &r);
        run_backward(t, &r);
        require_kinds(t, &r, O, TOL_ATTENTION);
        require_kinds(t, &r, DQ, TOL_ATTENTION_GRAD);
        require_kinds(t, &r, DK, TOL_ATTENTION_GRAD);
        require_kinds(t, &r, DV, TOL_ATTENTION_GRAD);
        gt_end(t);
        run_release(&r);
    }
}

/* Tiles of every shape that a vendor reports: least heads, common ones, and the widest, whose
 * gradients have fewer columns at a time. */
static void attention_other_matrix_shapes_equal_reference(void **state)
{
    static const size_t tested[] = { 1, 2, 4 };

    (void)state;
    for (size_t k = 0; k < GT_SHAPES; k++) {
        struct gt t;

        if (!gt_open_shape(&t, k))
            continue;
        if (is_matrix(&t, cases[tested[0]].shape)) {
            for (size_t i = 0; i < AT_COUNT(tested); i++)
                check_case(&t, &cases[tested[i]], true);
            printf("attention by matrix units of %u x %u x %u\n", gt_shapes[k].m, gt_shapes[k].n,
                   gt_shapes[k].k);
        }
        gt_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_any_shape_equals_reference),
        cmocka_unit_test(attention_decoding_equals_reference),
        cmocka_unit_test(attention_row_has_the_same_bits_in_any_slab),
        cmocka_unit_test(attention_run_twice_has_the_same_bits),
        cmocka_unit_test(attention_what_lies_behind_tensors_changes_no_bit),
        cmocka_unit_test(attention_large_scores_stay_finite),
        cmocka_unit_test(attention_unlike_rows_keep_their_precision),
        cmocka_unit_test(attention_other_matrix_shapes_equal_reference),
    };

    return cmocka_run_group_tests(tests, open_devices, close_devices);
}
