/* links: base gpu ops */
/* The fused head = the definition with all logits in memory: vocabularies with tails and several
 * chunks, stored weights, ties, extreme logits, padded rows, NaN and infinity. */
#include "gpu_test.h"

#include "logprob.h"
#include "ref_head.h"
#include "tolerances.h"

struct head_case {
    enum at_quant_type type; /* f32 or bf16 */
    uint32_t R, C, V;
    float scale; /* of h */
    float cap;
};
struct head_arrays {
    float *h, *W, *stats, *lse, *log_p2, *u;
    int32_t *targets;
};

static void free_arrays(struct head_arrays *a)
{
    free(a->h);
    free(a->W);
    free(a->stats);
    free(a->lse);
    free(a->log_p2);
    free(a->u);
    free(a->targets);
}

static struct head_arrays make_arrays(const struct head_case *c)
{
    struct head_arrays a = {
        .h = gt_floats((size_t)c->R * c->C, c->scale),
        .W = gt_floats((size_t)c->V * c->C, 1),
        .stats = gt_floats(4 * (size_t)c->R, 1),
        .lse = gt_floats(c->R, 1),
        .log_p2 = gt_floats(c->R, 1),
        .u = gt_floats((size_t)c->R * c->C, 1),
        .targets = calloc(c->R, sizeof *a.targets),
    };

    for (size_t i = 0; c->type == AT_BF16 && i < (size_t)c->V * c->C; i++) {
        uint32_t bits;

        memcpy(&bits, &a.W[i], sizeof bits);
        bits &= 0xffff0000u;
        memcpy(&a.W[i], &bits, sizeof bits);
    }
    for (uint32_t i = 0; i < c->R; i++)
        a.targets[i] = i % 4 == 3 ? (int32_t)(c->V - 1) : (int32_t)(gt_random() % c->V);
    return a;
}

/* Buffers of one run on the device. */
struct device_head {
    struct at_tensor h, u, dW;
    struct at_view stats, lse, log_p2, targets, coef;
    struct at_weight w;
    struct at_head_scratch scratch;
};

static void write_weight(struct gt *t, struct at_weight w, const float *values)
{
    const size_t stride = at_quant_row_bytes(w.type, 0, w.cols), each = w.type == AT_F32 ? 4 : 2;
    uint8_t *plane = calloc(w.rows, stride);

    for (size_t r = 0; r < w.rows; r++)
        for (size_t c = 0; c < w.cols; c++) /* bf16: the upper half */
            memcpy(plane + r * stride + c * each,
                   (const uint8_t *)&values[r * w.cols + c] + (4 - each), each);
    OK(at_gpu_write(t->gpu, w.plane[0], plane, w.rows * stride));
    free(plane);
}

static void plan_head(struct gt *t, struct device_head *d, const struct head_case *c,
                      const struct head_arrays *a)
{
    size_t b[9];

    *d = (struct device_head){ .w = { .type = c->type, .rows = c->V, .cols = c->C } };
    gt_begin(t);
    b[0] = gt_plan_tensor(t, c->R, c->C, 4);
    b[1] = gt_plan_tensor(t, c->R, c->C, 0);
    b[2] = gt_plan_tensor(t, c->V, c->C, 0);
    b[3] = gt_plan(t, c->R * 16);
    b[4] = gt_plan(t, c->R * 4);
    b[5] = gt_plan(t, c->R * 4);
    b[6] = gt_plan(t, c->R * 4);
    b[8] = gt_plan(t, c->R * 4);
    b[7] = gt_plan(t, c->V * at_quant_row_bytes(c->type, 0, c->C));
    at_head_reserve(t->pool, &d->scratch, c->R, d->w, true);
    d->scratch.cap = c->cap;
    gt_commit(t);
    d->h = gt_tensor(t, b[0], c->R, c->C, 4);
    d->u = gt_tensor(t, b[1], c->R, c->C, 0);
    d->dW = gt_tensor(t, b[2], c->V, c->C, 0);
    d->stats = gt_view(t, b[3]);
    d->lse = gt_view(t, b[4]);
    d->targets = gt_view(t, b[5]);
    d->log_p2 = gt_view(t, b[8]);
    d->coef = gt_view(t, b[6]);
    d->w.plane[0] = gt_view(t, b[7]);
    OK(at_tensor_write(t->gpu, d->h, a->h));
    OK(at_gpu_write(t->gpu, d->targets, a->targets, c->R * sizeof *a->targets));
    write_weight(t, d->w, a->W);
}

static void run_head(struct gt *t, struct device_head *d, bool with_u, struct head_arrays *a)
{
    at_head_fwd(t->stream, d->stats, d->lse, d->log_p2, with_u ? d->u : (struct at_tensor){ 0 },
                d->h, d->targets, d->w, &d->scratch);
    OK(at_stream_wait(t->stream));
    OK(at_gpu_read(t->gpu, a->stats, d->stats, d->h.dim[0] * 4 * sizeof(float)));
    OK(at_gpu_read(t->gpu, a->lse, d->lse, d->h.dim[0] * sizeof(float)));
    OK(at_gpu_read(t->gpu, a->log_p2, d->log_p2, d->h.dim[0] * sizeof(float)));
    if (with_u)
        OK(at_tensor_read(t->gpu, a->u, d->u));
}

static void check_head(struct gt *t, const struct head_case *c)
{
    const size_t n_h = (size_t)c->R * c->C, n_w = (size_t)c->V * c->C;
    struct head_arrays a = make_arrays(c), b = make_arrays(c);
    struct device_head d;

    free(b.targets);
    b.targets = NULL;
    plan_head(t, &d, c, &a);
    run_head(t, &d, false, &b);
    run_head(t, &d, true, &a);
    assert_memory_equal(a.stats, b.stats, c->R * 4 * sizeof(float)); /* with and without u */
    run_head(t, &d, true, &b);
    assert_memory_equal(a.u, b.u, n_h * sizeof(float));
    assert_memory_equal(a.lse, b.lse, c->R * sizeof(float));
    assert_memory_equal(a.log_p2, b.log_p2, c->R * sizeof(float));

    double *h = gt_doubles(a.h, n_h), *W = gt_doubles(a.W, n_w), *u = gt_doubles(a.u, n_h);
    double *stats = gt_doubles(a.stats, 4 * c->R), *lse = gt_doubles(a.lse, c->R),
           *log_p2 = gt_doubles(a.log_p2, c->R);
    float *coef = gt_floats(c->R, 1), *dW = gt_floats(n_w, 1);
    double *coef64 = gt_doubles(coef, c->R), *dW64 = gt_doubles(dW, n_w);
    const struct ref_head ref = {
        .R = c->R, .C = c->C, .V = c->V, .h = h, .W = W, .targets = a.targets, .cap = (double)c->cap
    };

    const double grow = c->scale > 4 ? (double)c->scale / 4 : 1; /* rounding of larger logits */

    ref_head_fwd(stats, lse, u, &ref);
    gt_require_close(t, "stats", a.stats, stats, NULL, 4 * c->R, TOL_HEAD * grow);
    gt_require_close(t, "lse", a.lse, lse, NULL, c->R, TOL_HEAD);
    ref_head_log_p2(log_p2, &ref);
    gt_require_close(t, "log_p2", a.log_p2, log_p2, NULL, c->R, TOL_HEAD * grow);
    gt_require_close(t, "u", a.u, u, NULL, n_h, TOL_HEAD_GRAD * grow);
    OK(at_tensor_write(t->gpu, d.dW, dW));
    OK(at_gpu_write(t->gpu, d.coef, coef, c->R * sizeof *coef));
    at_head_bwd_weight(t->stream, d.dW, d.h, d.targets, d.lse, d.coef, d.w, &d.scratch);
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, dW, d.dW));
    ref_head_bwd_weight(dW64, coef64, &ref);
    gt_require_close(t, "dW", dW, dW64, NULL, n_w, TOL_HEAD_GRAD * grow * (double)c->scale);
    gt_end(t);
    double *doubles[] = { h, W, u, stats, lse, log_p2, coef64, dW64 };
    for (size_t i = 0; i < AT_COUNT(doubles); i++)
        free(doubles[i]);
    free(coef);
    free(dW);
    free_arrays(&a);
    free_arrays(&b);
}

static void head_any_shape_equals_reference(void **state)
{
    static const struct head_case cases[] = {
        { AT_F32, 1, 4, 3, 1, 0 },       { AT_F32, 3, 63, 65, 1, 0 },
        { AT_F32, 64, 130, 1000, 1, 0 }, { AT_F32, 65, 64, 4097, 1, 0 },
        { AT_BF16, 7, 64, 8300, 1, 0 },  { AT_BF16, 64, 130, 576, 2, 0 },
        { AT_F32, 6, 64, 9000, 40, 0 }, /* logits to several hundred */
        { AT_F32, 7, 63, 65, 2, 3 },     { AT_BF16, 7, 64, 4200, 2, 4 },
    };

    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        for (size_t i = 0; i < AT_COUNT(cases); i++)
            check_head(&t, &cases[i]);
        gt_close(&t);
    }
}

/* Equal rows of W in two chunks: the lowest id is the arg-max. */
static void head_ties_lowest_id_wins(void **state)
{
    static const struct head_case c = { AT_F32, 4, 8, 5000, 1, 0 };

    (void)state;
    for (size_t setting = 0; setting < 2; setting++) {
        struct head_arrays a = make_arrays(&c);
        struct device_head d;
        struct gt t;

        for (size_t i = 0; i < 4 * 8; i++)
            a.h[i] = 1;
        for (size_t v = 0; v < 5000; v++)
            for (size_t i = 0; i < 8; i++)
                a.W[v * 8 + i] = v == 77 || v == 78 || v == 300 || v == 4500 ? 1 : 0.5f;
        a.targets[0] = 77;
        a.targets[1] = 78;
        a.targets[2] = 300;
        a.targets[3] = 4500;
        gt_open(&t, setting);
        plan_head(&t, &d, &c, &a);
        run_head(&t, &d, false, &a);
        for (size_t i = 0; i < 4; i++)
            assert_true(a.stats[4 * i + 2] == (i == 0 ? 1.0f : 0.0f));
        gt_end(&t);
        gt_close(&t);
        free_arrays(&a);
    }
}

/* The lanes that store, and sums by shuffles or in shared memory, change no bit: logits have the
 * same ones with each kernel where they are multiples of 1/64. */
static void head_has_the_same_bits_with_each_kernel(void **state)
{
    enum { WAYS = 3 };
    static const struct head_case c = { AT_F32, 5, 8, 5000, 1, 0 };
    struct head_arrays a[WAYS];

    (void)state;
    for (size_t way = 0; way < WAYS; way++) {
        struct device_head d;
        struct gt t;

        a[way] = make_arrays(&c);
        for (size_t i = 0; i < (size_t)c.R * c.C; i++)
            a[way].h[i] = (float)(i * 7 % 5) - 2;
        for (size_t i = 0; i < (size_t)c.V * c.C; i++)
            a[way].W[i] = ((float)(i * 11 % 31) - 15) / 64;
        memcpy(a[way].targets, a[0].targets, c.R * sizeof a[0].targets[0]);
        gt_open(&t, way);
        plan_head(&t, &d, &c, &a[way]);
        run_head(&t, &d, true, &a[way]);
        assert_memory_equal(a[way].stats, a[0].stats, 4 * c.R * sizeof(float));
        assert_memory_equal(a[way].lse, a[0].lse, c.R * sizeof(float));
        assert_memory_equal(a[way].log_p2, a[0].log_p2, c.R * sizeof(float));
        assert_memory_equal(a[way].u, a[0].u, c.R * c.C * sizeof(float)); /* divided by the sum */
        gt_end(&t);
        gt_close(&t);
    }
    for (size_t way = 0; way < WAYS; way++)
        free_arrays(&a[way]);
}

/* What enters as NaN or infinity leaves as NaN in its row, and in no other. */
static void head_bad_values_come_out_as_nan(void **state)
{
    static const struct head_case c = { AT_F32, 8, 8, 5000, 1, 0 };

    (void)state;
    for (size_t setting = 0; setting < 2; setting++) {
        struct head_arrays a = make_arrays(&c);
        struct device_head d;
        struct gt t;

        a.h[8 * 1 + 3] = NAN;
        a.h[8 * 3 + 5] = INFINITY;
        a.h[8 * 5 + 0] = -INFINITY;
        a.h[8 * 6 + 0] = 3e38f; /* overflows in the product */
        a.W[0] = 4;
        gt_open(&t, setting);
        plan_head(&t, &d, &c, &a);
        run_head(&t, &d, true, &a);
        for (size_t i = 0; i < c.R; i++) {
            const bool bad = i == 1 || i == 3 || i == 5 || i == 6;

            for (size_t j = 0; j < 4; j++)
                if (j != 2 && !isnan(a.stats[4 * i + j]) == bad)
                    fail_msg("%s: stats[%zu][%zu] = %g", t.setting, i, j,
                             (double)a.stats[4 * i + j]);
            assert_true(!isnan(a.lse[i]) != bad);
            assert_true(!isnan(a.log_p2[i]) != bad);
            for (size_t j = 0; j < c.C; j++)
                assert_true(!isnan(a.u[8 * i + j]) != bad);
        }
        gt_end(&t);
        gt_close(&t);
        free_arrays(&a);
    }
}

/* The states of the reference: those of the policy, most of them moved. */
static float *moved_states(const struct head_case *c, const float *h)
{
    float *out = gt_floats((size_t)c->R * c->C, 0.1f);

    for (size_t i = 0; i < (size_t)c->R * c->C; i++)
        out[i] = i < c->C ? h[i] : h[i] + out[i];
    return out;
}

static void check_kl(struct gt *t, const struct head_case *c)
{
    const size_t n_h = (size_t)c->R * c->C;
    struct head_arrays a = make_arrays(c);
    float *moved = moved_states(c, a.h), *kl = gt_floats(4 * (size_t)c->R, 1);
    double *h = gt_doubles(a.h, n_h), *W = gt_doubles(a.W, (size_t)c->V * c->C),
           *ref_h = gt_doubles(moved, n_h), *want = calloc(c->R, 4 * sizeof *want);
    double *each = calloc(c->R, sizeof *each);
    const struct ref_head ref = { c->R, c->C, c->V, h, W, a.targets, 0 };
    struct at_tensor ref_rows, stats, out;
    struct at_pool *pool;
    struct device_head d;

    plan_head(t, &d, c, &a);
    OK(at_pool_create(&pool, t->gpu, "kl"));
    at_tensor_reserve(pool, &ref_rows, c->R, c->C, "kl");
    at_tensor_reserve(pool, &stats, c->R, 4, "kl");
    at_tensor_reserve(pool, &out, c->R, 4, "kl");
    OK(at_pool_commit(pool));
    OK(at_tensor_write(t->gpu, ref_rows, moved));
    at_head_fwd(t->stream, stats.view, d.lse, d.log_p2, (struct at_tensor){ 0 }, ref_rows,
                d.targets, d.w, &d.scratch);
    at_head_fwd(t->stream, d.stats, d.lse, d.log_p2, d.u, d.h, d.targets, d.w, &d.scratch);
    at_head_kl(t->stream, out.view, d.stats, stats.view, d.u, d.h, ref_rows);
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, kl, out));
    ref_head_kl(each, ref_h, &ref);
    for (size_t i = 0; i < c->R; i++)
        want[4 * i] = each[i];
    assert_true(kl[0] == 0); /* equal states */
    gt_require_close(t, "kl", kl, want, NULL, 4 * (size_t)c->R, TOL_HEAD_KL);
    gt_end(t);
    at_pool_destroy(&pool);
    double *doubles[] = { h, W, ref_h, want, each };
    for (size_t i = 0; i < AT_COUNT(doubles); i++)
        free(doubles[i]);
    free(moved);
    free(kl);
    free_arrays(&a);
}

static void head_kl_equals_the_definition(void **state)
{
    static const struct head_case cases[] = { { AT_F32, 1, 4, 3, 1, 0 },
                                              { AT_F32, 3, 63, 65, 1, 0 },
                                              { AT_F32, 65, 64, 4097, 1, 0 },
                                              { AT_BF16, 64, 130, 576, 2, 0 } };

    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        for (size_t i = 0; i < AT_COUNT(cases); i++)
            check_kl(&t, &cases[i]);
        gt_close(&t);
    }
}

static void head_logits_equal_the_product(void **state)
{
    static const struct head_case c = { AT_BF16, 3, 130, 4999, 1, 0 };

    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct head_arrays a = make_arrays(&c);
        const size_t n = (size_t)c.R * c.V;
        float *logits = gt_floats(n, 1);
        struct at_tensor out;
        struct device_head d;
        struct at_pool *pool;
        struct gt t;

        gt_open(&t, setting);
        plan_head(&t, &d, &c, &a);
        OK(at_pool_create(&pool, t.gpu, "logits"));
        at_tensor_reserve(pool, &out, c.R, c.V, "logits");
        OK(at_pool_commit(pool));
        at_head_logits(t.stream, out, d.h, d.w, &d.scratch);
        OK(at_stream_wait(t.stream));
        OK(at_tensor_read(t.gpu, logits, out));
        for (size_t i = 0; i < n; i++) {
            double z = 0;

            for (size_t k = 0; k < c.C; k++)
                z += (double)a.h[i / c.V * c.C + k] * (double)a.W[i % c.V * c.C + k];
            if (!(fabs(z - (double)logits[i]) <= TOL_HEAD * (1 + fabs(z))))
                fail_msg("%s: logits[%zu]: got %g, want %g", t.setting, i, (double)logits[i], z);
        }
        gt_end(&t);
        at_pool_destroy(&pool);
        gt_close(&t);
        free(logits);
        free_arrays(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(head_any_shape_equals_reference),
        cmocka_unit_test(head_has_the_same_bits_with_each_kernel),
        cmocka_unit_test(head_ties_lowest_id_wins),
        cmocka_unit_test(head_bad_values_come_out_as_nan),
        cmocka_unit_test(head_kl_equals_the_definition),
        cmocka_unit_test(head_logits_equal_the_product),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
