/* links: base gpu ops */
/* SwiGLU, add, mix and row movements = the reference over awkward shapes, twice with equal bits. */
#include "gpu_test.h"

#include "activation.h"
#include "ref_activation.h"
#include "tolerances.h"

/* ---- SwiGLU ---- */

enum { GATE, UP, DM, M, DGATE, DUP, TENSORS };
static const uint32_t extras[TENSORS] = {
    [GATE] = 4, [UP] = 0, [DM] = 8, [M] = 12, [DGATE] = 16, [DUP] = 20
};
static const char *const names[] = {
    [GATE] = "gate", [UP] = "up", [DM] = "dm", [M] = "m", [DGATE] = "dgate", [DUP] = "dup"
};

/* Gates of every size, where an exponential overflows or vanishes too. */
static void put_gates(float *gate, size_t n)
{
    static const float special[] = { 0, -0.0f, 1e4f, -1e4f, 87, -87, 88.5f, -88.5f, 104, -104, 20 };

    for (size_t i = 0; i < n; i++)
        gate[i] = i < AT_COUNT(special) ? special[i] : gate[i] * (i % 3 == 0 ? 1 : 12);
}

/* Writes the inputs, runs both passes, reads; in place dgate is gate and dup is up. */
static void run_swiglu(struct gt *t, const struct at_tensor v[], float *const in[], float *got[],
                       bool gelu, bool in_place)
{
    const int dgate = in_place ? GATE : DGATE, dup = in_place ? UP : DUP;

    for (int i = 0; i < TENSORS; i++)
        OK(at_tensor_write(t->gpu, v[i], in[i]));
    at_swiglu_fwd(t->stream, v[M], v[GATE], v[UP], gelu);
    at_swiglu_bwd(t->stream, v[dgate], v[dup], v[DM], v[GATE], v[UP], gelu);
    OK(at_stream_wait(t->stream));
    for (int i = 0; i < TENSORS; i++)
        gt_require_padding(t, names[i], v[i]);
    OK(at_tensor_read(t->gpu, got[M], v[M]));
    OK(at_tensor_read(t->gpu, got[DGATE], v[dgate]));
    OK(at_tensor_read(t->gpu, got[DUP], v[dup]));
}

static void check_swiglu(struct gt *t, uint32_t T, uint32_t F, bool gelu)
{
    const size_t n = (size_t)T * F;
    struct at_tensor v[TENSORS];
    float *in[TENSORS], *got[TENSORS], *again[TENSORS];
    double *want[TENSORS];
    size_t ids[TENSORS];

    gt_begin(t);
    for (int i = 0; i < TENSORS; i++) {
        ids[i] = gt_plan_tensor(t, T, F, extras[i]);
        in[i] = gt_floats(n, 1);
        got[i] = gt_floats(n, 1);
        again[i] = gt_floats(n, 1);
    }
    put_gates(in[GATE], n);
    gt_commit(t);
    for (int i = 0; i < TENSORS; i++) {
        v[i] = gt_tensor(t, ids[i], T, F, extras[i]);
        want[i] = gt_doubles(in[i], n);
    }
    run_swiglu(t, v, in, got, gelu, false);
    run_swiglu(t, v, in, again, gelu, true);
    (gelu ? ref_geglu_fwd : ref_swiglu_fwd)(want[M], want[GATE], want[UP], n);
    (gelu ? ref_geglu_bwd : ref_swiglu_bwd)(want[DGATE], want[DUP], want[DM], want[GATE], want[UP],
                                            n);
    gt_require_close(t, names[M], got[M], want[M], NULL, n, TOL_ROW);
    gt_require_close(t, names[DGATE], got[DGATE], want[DGATE], NULL, n, TOL_ROW);
    gt_require_close(t, names[DUP], got[DUP], want[DUP], NULL, n, TOL_ROW);
    for (int i = M; i < TENSORS; i++)
        assert_memory_equal(again[i], got[i], n * sizeof(float));
    gt_end(t);
    for (int i = 0; i < TENSORS; i++) {
        free(in[i]);
        free(got[i]);
        free(again[i]);
        free(want[i]);
    }
}

static void swiglu_any_shape_equals_reference(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        check_swiglu(&t, 1, 1, false);
        check_swiglu(&t, 3, 63, false);
        check_swiglu(&t, 5, 40, false);
        check_swiglu(&t, 3, 136, true);
        check_swiglu(&t, 300, 1537, false); /* longer than a binding of 1 MiB */
        check_swiglu(&t, 70000, 3, false);
        gt_close(&t);
    }
}

/* ---- add, mix ---- */

struct sum {
    size_t n;
    float *y, *x, *got;
    struct at_tensor Y, X;
};

static struct sum begin_sum(struct gt *t, uint32_t T, uint32_t C)
{
    const size_t n = (size_t)T * C;
    struct sum s = { .n = n, .y = gt_floats(n, 1), .x = gt_floats(n, 1), .got = gt_floats(n, 1) };
    size_t iy, ix;

    gt_begin(t);
    iy = gt_plan_tensor(t, T, C, 4);
    ix = gt_plan_tensor(t, T, C, 4);
    gt_commit(t);
    s.Y = gt_tensor(t, iy, T, C, 4);
    s.X = gt_tensor(t, ix, T, C, 4);
    OK(at_tensor_write(t->gpu, s.Y, s.y));
    OK(at_tensor_write(t->gpu, s.X, s.x));
    return s;
}

static void read_sum(struct gt *t, struct sum *s)
{
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, s->got, s->Y));
    gt_require_padding(t, "y", s->Y);
    gt_end(t);
}

static void end_sum(struct sum *s)
{
    free(s->y);
    free(s->x);
    free(s->got);
}

static void check_add(struct gt *t, uint32_t T, uint32_t C)
{
    struct sum s = begin_sum(t, T, C);

    at_add(t->stream, s.Y, s.X);
    read_sum(t, &s);
    for (size_t i = 0; i < s.n; i++)
        assert_true(s.got[i] == s.y[i] + s.x[i]);
    end_sum(&s);
}

static void check_mix(struct gt *t, uint32_t T, uint32_t C, float alpha)
{
    const double a = (double)alpha;
    struct sum s = begin_sum(t, T, C);

    at_mix(t->stream, s.Y, s.X, alpha);
    read_sum(t, &s);
    for (size_t i = 0; i < s.n; i++) {
        const double want = (1 - a) * (double)s.y[i] + a * (double)s.x[i];
        assert_true(fabs((double)s.got[i] - want) <= 2e-7);
    }
    end_sum(&s);
}

static void mix_any_shape_is_between(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        check_mix(&t, 1, 1, 0.25f);
        check_mix(&t, 5, 63, 1);
        check_mix(&t, 70000, 3, 0.6f);
        gt_close(&t);
    }
}

static void add_any_shape_is_exact(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        check_add(&t, 1, 1);
        check_add(&t, 5, 63);
        check_add(&t, 70000, 3);
        gt_close(&t);
    }
}

/* ---- rows ---- */

/* n counts that add up to `total`, as begins: about a third are empty. */
static int32_t *random_begins(uint32_t n, uint32_t total)
{
    int32_t *begin = calloc(n + 1ul, sizeof *begin);
    uint32_t left = total;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t count = gt_random() % 3 * (total / n + 1);

        count = i + 1 == n || count > left ? left : count;
        left -= count;
        begin[i + 1] = begin[i] + (int32_t)count;
    }
    return begin;
}

static struct at_view put_words(struct gt *t, size_t buffer, const void *words, size_t n)
{
    OK(at_gpu_write(t->gpu, gt_view(t, buffer), words, 4 * n));
    return gt_view(t, buffer);
}

static void check_gather(struct gt *t, uint32_t R, uint32_t V, uint32_t C)
{
    const size_t n = (size_t)R * C;
    float *x = gt_floats((size_t)V * C, 1), *out = gt_floats(n, 1);
    double *x64 = gt_doubles(x, (size_t)V * C), *want = gt_doubles(out, n);
    int32_t *index = malloc(R * sizeof *index);
    size_t ix, iout, iindex;

    for (uint32_t i = 0; i < R; i++)
        index[i] = (int32_t)(gt_random() % V);
    index[R - 1] = (int32_t)V - 1;
    gt_begin(t);
    ix = gt_plan_tensor(t, V, C, 4);
    iout = gt_plan_tensor(t, R, C, 8);
    iindex = gt_plan(t, R * sizeof *index);
    gt_commit(t);
    const struct at_tensor X = gt_tensor(t, ix, V, C, 4), OUT = gt_tensor(t, iout, R, C, 8);

    OK(at_tensor_write(t->gpu, X, x));
    at_gather_rows(t->stream, OUT, X, put_words(t, iindex, index, R));
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, out, OUT));
    ref_gather_rows(want, x64, index, R, C);
    for (size_t i = 0; i < n; i++)
        assert_true((double)out[i] == want[i]);
    gt_require_padding(t, "out", OUT);
    gt_end(t);
    free(x);
    free(out);
    free(x64);
    free(want);
    free(index);
}

static void check_scatter(struct gt *t, uint32_t T, uint32_t R, uint32_t C)
{
    const size_t n = (size_t)T * C, u_n = (size_t)R * C;
    float *dx = gt_floats(n, 1), *again = gt_floats(n, 1), *u = gt_floats(u_n, 1);
    float *coef = gt_floats(R, 1);
    double *want = gt_doubles(dx, n), *u64 = gt_doubles(u, u_n), *coef64 = gt_doubles(coef, R);
    int32_t *begin = random_begins(T, R);
    size_t idx, iu, icoef, ibegin;

    gt_begin(t);
    idx = gt_plan_tensor(t, T, C, 4);
    iu = gt_plan_tensor(t, R, C, 8);
    icoef = gt_plan(t, R * sizeof *coef);
    ibegin = gt_plan(t, (T + 1ul) * sizeof *begin);
    gt_commit(t);
    const struct at_tensor DX = gt_tensor(t, idx, T, C, 4), U = gt_tensor(t, iu, R, C, 8);
    const struct at_view COEF = put_words(t, icoef, coef, R);
    const struct at_view BEGIN = put_words(t, ibegin, begin, T + 1ul);

    OK(at_tensor_write(t->gpu, DX, dx));
    OK(at_tensor_write(t->gpu, U, u));
    at_scatter_rows(t->stream, DX, U, COEF, BEGIN);
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, dx, DX));
    at_scatter_rows(t->stream, DX, U, COEF, BEGIN);
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, again, DX));
    ref_scatter_rows(want, u64, coef64, begin, T, C);
    gt_require_close(t, "dx", dx, want, NULL, n, TOL_ROW);
    assert_memory_equal(again, dx, n * sizeof *dx);
    gt_require_padding(t, "dx", DX);
    gt_end(t);
    void *all[] = { dx, again, u, coef, want, u64, coef64, begin };
    for (size_t i = 0; i < AT_COUNT(all); i++)
        free(all[i]);
}

/* Every second row of W has rows of dx. */
static void check_embed(struct gt *t, uint32_t V, uint32_t T, uint32_t C)
{
    const uint32_t n_ids = (V + 1) / 2;
    const size_t n = (size_t)V * C, x_n = (size_t)T * C;
    float *W = gt_floats(n, 1), *got = gt_floats(n, 1), *again = gt_floats(n, 1);
    float *dx = gt_floats(x_n, 1);
    double *want = gt_doubles(W, n), *dx64 = gt_doubles(dx, x_n);
    double *most = gt_doubles(W, n); /* sums of magnitudes: what rounding errors are relative to */
    int32_t *begin = random_begins(n_ids, T), *ids = malloc(n_ids * sizeof *ids);
    int32_t *order = malloc(T * sizeof *order);
    size_t iW, idx, iids, ibegin, iorder;

    for (uint32_t j = 0; j < n_ids; j++)
        ids[j] = (int32_t)(2 * (n_ids - 1 - j));
    for (uint32_t i = 0; i < T; i++) /* ascending within an id, mixed among ids */
        order[i] = (int32_t)((i + T / 2) % T);
    gt_begin(t);
    iW = gt_plan_tensor(t, V, C, 4);
    idx = gt_plan_tensor(t, T, C, 8);
    iids = gt_plan(t, n_ids * sizeof *ids);
    ibegin = gt_plan(t, (n_ids + 1ul) * sizeof *begin);
    iorder = gt_plan(t, T * sizeof *order);
    gt_commit(t);
    const struct at_tensor DW = gt_tensor(t, iW, V, C, 4), DX = gt_tensor(t, idx, T, C, 8);
    const struct at_view IDS = put_words(t, iids, ids, n_ids);
    const struct at_view BEGIN = put_words(t, ibegin, begin, n_ids + 1ul);
    const struct at_view ORDER = put_words(t, iorder, order, T);

    OK(at_tensor_write(t->gpu, DX, dx));
    for (int run = 0; run < 2; run++) {
        OK(at_tensor_write(t->gpu, DW, W));
        at_embed_bwd(t->stream, DW, DX, IDS, BEGIN, ORDER, n_ids);
        OK(at_stream_wait(t->stream));
        OK(at_tensor_read(t->gpu, run == 0 ? got : again, DW));
    }
    ref_embed_bwd(want, dx64, ids, begin, order, n_ids, C);
    for (size_t i = 0; i < n; i++)
        most[i] = fabs(most[i]);
    for (size_t i = 0; i < x_n; i++)
        dx64[i] = fabs(dx64[i]);
    ref_embed_bwd(most, dx64, ids, begin, order, n_ids, C);
    gt_require_close(t, "dW", got, want, most, n, TOL_ROW / 4);
    assert_memory_equal(again, got, n * sizeof *got);
    gt_require_padding(t, "dW", DW);
    gt_end(t);
    void *all[] = { W, got, again, dx, want, most, dx64, begin, ids, order };
    for (size_t i = 0; i < AT_COUNT(all); i++)
        free(all[i]);
}

static void rows_any_shape_equal_reference(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        check_gather(&t, 1, 1, 1);
        check_gather(&t, 7, 900, 577); /* the source in parts of 256 rows */
        check_gather(&t, 70000, 11, 3);
        check_scatter(&t, 1, 1, 1);
        check_scatter(&t, 600, 700, 577);
        check_scatter(&t, 70000, 90, 3);
        check_embed(&t, 1, 1, 1);
        check_embed(&t, 900, 700, 577);
        check_embed(&t, 4, 3000, 3);
        gt_close(&t);
    }
}

static void geglu_any_shape_equals_reference(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        check_swiglu(&t, 3, 63, true);
        check_swiglu(&t, 300, 130, true);
        gt_close(&t);
    }
}

/* GELU by erf and its gradient, in place too. */
static void check_gelu(struct gt *t, uint32_t T, uint32_t F)
{
    const size_t n = (size_t)T * F;
    float *x = gt_floats(n, 1), *dy = gt_floats(n, 1), *got = gt_floats(n, 1),
          *again = gt_floats(n, 1);
    double *x64, *dy64 = gt_doubles(dy, n), *want = gt_doubles(got, n);
    size_t ids[3];

    put_gates(x, n);
    x64 = gt_doubles(x, n);
    gt_begin(t);
    for (uint32_t i = 0; i < 3; i++)
        ids[i] = gt_plan_tensor(t, T, F, 4 * i);
    gt_commit(t);
    const struct at_tensor X = gt_tensor(t, ids[0], T, F, 0), DY = gt_tensor(t, ids[1], T, F, 4);
    const struct at_tensor OUT = gt_tensor(t, ids[2], T, F, 8);

    OK(at_tensor_write(t->gpu, X, x));
    OK(at_tensor_write(t->gpu, DY, dy));
    at_gelu_fwd(t->stream, OUT, X);
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, got, OUT));
    gt_require_padding(t, "y", OUT);
    ref_gelu_fwd(want, x64, n);
    gt_require_close(t, "gelu", got, want, NULL, n, TOL_ROW);
    at_gelu_bwd(t->stream, OUT, DY, X);
    at_gelu_bwd(t->stream, X, DY, X);
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, got, OUT));
    OK(at_tensor_read(t->gpu, again, X));
    gt_require_padding(t, "dx", X);
    ref_gelu_bwd(want, dy64, x64, n);
    gt_require_close(t, "gelu's gradient", got, want, NULL, n, TOL_ROW);
    assert_memory_equal(again, got, n * sizeof *got);
    gt_end(t);
    void *all[] = { x, dy, got, again, x64, dy64, want };
    for (size_t i = 0; i < AT_COUNT(all); i++)
        free(all[i]);
}

static void gelu_any_shape_equals_reference(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        check_gelu(&t, 3, 63);
        check_gelu(&t, 300, 1537);
        gt_close(&t);
    }
}

/* y times a factor; y = cap tanh(y / cap), far out too, and with all its digits near 0. */
static void scaled_and_capped_values_are_close(void **state)
{
    enum { ROWS = 5, COLS = 70 };

    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        float *x = gt_floats(ROWS * COLS, 12), *got = gt_floats(ROWS * COLS, 1);
        double *want = gt_doubles(x, ROWS * COLS);
        struct gt t;
        size_t id;

        x[3] = 1e4f;
        x[4] = -1e4f;
        for (uint32_t i = 0; i < COLS; i++) /* a row from 1e-6 to 1 */
            x[COLS + i] = (i % 2 ? -1.0f : 1.0f) * powf(10, -6.0f * (float)i / (COLS - 1));
        gt_open(&t, setting);
        gt_begin(&t);
        id = gt_plan_tensor(&t, ROWS, COLS, 4);
        gt_commit(&t);
        const struct at_tensor Y = gt_tensor(&t, id, ROWS, COLS, 4);

        OK(at_tensor_write(t.gpu, Y, x));
        at_scale(t.stream, Y, 0.75f);
        at_softcap(t.stream, Y, 3);
        OK(at_stream_wait(t.stream));
        OK(at_tensor_read(t.gpu, got, Y));
        for (size_t i = 0; i < ROWS * COLS; i++)
            want[i] = 3 * tanh(0.75 * (double)x[i] / 3);
        gt_require_close(&t, "capped", got, want, NULL, ROWS * COLS, TOL_ROW);
        for (size_t i = COLS; i < 2ul * COLS; i++)
            if (!(fabs((double)got[i] - want[i]) <= 1e-6 * fabs(want[i])))
                fail_msg("capped near 0: %.9g, expected %.9g", (double)got[i], want[i]);
        gt_require_padding(&t, "capped", Y);
        gt_end(&t);
        gt_close(&t);
        free(x);
        free(got);
        free(want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(swiglu_any_shape_equals_reference),
        cmocka_unit_test(add_any_shape_is_exact),
        cmocka_unit_test(mix_any_shape_is_between),
        cmocka_unit_test(rows_any_shape_equal_reference),
        cmocka_unit_test(geglu_any_shape_equals_reference),
        cmocka_unit_test(gelu_any_shape_equals_reference),
        cmocka_unit_test(scaled_and_capped_values_are_close),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
