/* links: base gpu ops */
/* RMSNorm and LayerNorm forward, again and backward = the reference over awkward shapes, twice with
 * equal bits.
 */
#include "gpu_test.h"

#include "norm.h"
#include "ref_norm.h"
#include "tolerances.h"

enum { X, DY, DX, Y, AGAIN, TENSORS };
enum { W, DW, RSTD, VECTORS };
static const uint32_t extras[TENSORS] = { [X] = 4, [DY] = 8, [DX] = 12, [Y] = 0, [AGAIN] = 16 };
static const char *const names[] = {
    [X] = "x", [DY] = "dy", [DX] = "dx", [Y] = "y", [AGAIN] = "y again"
};
static const float eps = 1e-5f;

struct norm_case {
    uint32_t T, C;
    size_t n;
    struct at_tensor v[TENSORS];
    struct at_view views[VECTORS];
    float *f[TENSORS], *vectors[VECTORS]; /* as written at first; vectors end in NaN */
    float *got[TENSORS], *got_vectors[VECTORS];
};

static void open_case(struct gt *t, struct norm_case *k)
{
    const uint32_t counts[VECTORS] = { [W] = k->C, [DW] = k->C, [RSTD] = k->T };
    size_t tensors[TENSORS], vectors[VECTORS];

    k->n = (size_t)k->T * k->C;
    gt_begin(t);
    for (int i = 0; i < TENSORS; i++)
        tensors[i] = gt_plan_tensor(t, k->T, k->C, extras[i]);
    for (int i = 0; i < VECTORS; i++)
        vectors[i] = gt_plan(t, counts[i] * sizeof(float));
    gt_commit(t);
    for (int i = 0; i < TENSORS; i++) {
        k->v[i] = gt_tensor(t, tensors[i], k->T, k->C, extras[i]);
        k->f[i] = gt_floats(k->n, 1);
        k->got[i] = gt_floats(k->n, 1);
    }
    for (int i = 0; i < VECTORS; i++) {
        const size_t room = at_round_up(counts[i], 4);

        k->views[i] = gt_view(t, vectors[i]);
        k->vectors[i] = gt_floats(room, 1);
        k->got_vectors[i] = gt_floats(room, 1);
        for (size_t j = counts[i]; j < room; j++)
            k->vectors[i][j] = NAN; /* belongs to somebody else */
    }
}

static void close_case(struct gt *t, struct norm_case *k)
{
    gt_end(t);
    for (int i = 0; i < TENSORS; i++) {
        free(k->f[i]);
        free(k->got[i]);
    }
    for (int i = 0; i < VECTORS; i++) {
        free(k->vectors[i]);
        free(k->got_vectors[i]);
    }
}

/* Writes the inputs, runs all four operations, reads into got; `compare`: the bits are those that
 * got holds already. */
static void run_case(struct gt *t, struct norm_case *k, bool compare)
{
    float *again = gt_floats(k->n + k->C + 4 + k->T + 4, 1);

    for (int i = 0; i < TENSORS; i++)
        OK(at_tensor_write(t->gpu, k->v[i], k->f[i]));
    for (int i = 0; i < VECTORS; i++)
        OK(at_gpu_write(t->gpu, k->views[i], k->vectors[i], k->views[i].bytes));
    at_rmsnorm_fwd(t->stream, k->v[Y], k->views[RSTD], k->v[X], k->views[W], eps);
    at_rmsnorm_again(t->stream, k->v[AGAIN], k->v[X], k->views[W], k->views[RSTD]);
    at_rmsnorm_bwd(t->stream, k->v[DX], k->v[DY], k->v[X], k->views[W], k->views[RSTD]);
    at_rmsnorm_bwd_weight(t->stream, k->views[DW], k->v[DY], k->v[X], k->views[RSTD]);
    OK(at_stream_wait(t->stream));
    for (int i = 0; i < TENSORS; i++) {
        float *to = compare ? again : k->got[i];

        gt_require_padding(t, names[i], k->v[i]);
        OK(at_tensor_read(t->gpu, to, k->v[i]));
        if (memcmp(to, k->got[i], k->n * sizeof *to) != 0)
            fail_msg("%s: %s has other bits the second time", t->setting, names[i]);
    }
    for (int i = 0; i < VECTORS; i++) {
        float *to = compare ? again : k->got_vectors[i];

        OK(at_gpu_read(t->gpu, to, k->views[i], k->views[i].bytes));
        if (memcmp(to, k->got_vectors[i], k->views[i].bytes) != 0)
            fail_msg("%s: vector %d has other bits the second time", t->setting, i);
    }
    free(again);
}

/* Magnitudes of the terms of dx and of dw. */
static void magnitudes(double *dx, double *dw, const struct norm_case *k, const double *rstd)
{
    const size_t C = k->C;

    for (size_t c = 0; c < C; c++)
        dw[c] = 1;
    for (size_t t = 0; t < k->T; t++) {
        const float *x = k->f[X] + t * C, *dy = k->f[DY] + t * C, *w = k->vectors[W];
        double mean = 0;

        for (size_t c = 0; c < C; c++)
            mean += fabs((double)w[c] * (double)dy[c] * (double)x[c]) / (double)C;
        for (size_t c = 0; c < C; c++) {
            const double first = fabs((double)w[c] * (double)dy[c]);
            const double second = fabs((double)x[c]) * rstd[t] * rstd[t] * mean;

            dx[t * C + c] = 1 + rstd[t] * (first + second);
            dw[c] += fabs((double)dy[c] * (double)x[c]) * rstd[t];
        }
    }
}

static void check_case(struct gt *t, uint32_t T, uint32_t C)
{
    struct norm_case k = { .T = T, .C = C };

    open_case(t, &k);
    run_case(t, &k, false);
    run_case(t, &k, true);
    double *x = gt_doubles(k.f[X], k.n), *y = gt_doubles(k.f[Y], k.n);
    double *dx = gt_doubles(k.f[DX], k.n), *dy = gt_doubles(k.f[DY], k.n);
    double *w = gt_doubles(k.vectors[W], C), *dw = gt_doubles(k.vectors[DW], C);
    double *rstd = gt_doubles(k.vectors[RSTD], T);
    double *dx_scale = gt_doubles(k.f[DX], k.n), *dw_scale = gt_doubles(k.vectors[DW], C);

    ref_rmsnorm_fwd(y, rstd, x, w, (double)eps, T, C);
    ref_rmsnorm_bwd(dx, dy, x, w, rstd, T, C);
    ref_rmsnorm_bwd_weight(dw, dy, x, rstd, T, C);
    magnitudes(dx_scale, dw_scale, &k, rstd);
    gt_require_close(t, "rstd", k.got_vectors[RSTD], rstd, NULL, T, TOL_ROW);
    gt_require_close(t, "y", k.got[Y], y, NULL, k.n, TOL_ROW);
    gt_require_close(t, "dx", k.got[DX], dx, dx_scale, k.n, TOL_ROW);
    gt_require_close(t, "dw", k.got_vectors[DW], dw, dw_scale, C, TOL_ROW);
    assert_memory_equal(k.got[AGAIN], k.got[Y], k.n * sizeof(float));
    for (uint32_t c = C; c < at_round_up(C, 4); c++)
        assert_true(isnan(k.got_vectors[DW][c]));
    for (uint32_t r = T; r < at_round_up(T, 4); r++)
        assert_true(isnan(k.got_vectors[RSTD][r]));
    close_case(t, &k);
    double *all[] = { x, y, dx, dy, w, dw, rstd, dx_scale, dw_scale };
    for (size_t i = 0; i < AT_COUNT(all); i++)
        free(all[i]);
}

static void rmsnorm_any_shape_equals_reference(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        check_case(&t, 1, 1);
        check_case(&t, 3, 63);
        check_case(&t, 17, 130);
        check_case(&t, 9, 40);
        check_case(&t, 5, 136);
        check_case(&t, 700,
                   576); /* longer than a binding of 1 MiB, blocks of 256 rows and a rest */
        check_case(&t, 70000, 3);
        gt_close(&t);
    }
}

/* A row's bits do not depend on what else is in the launch. */
static void rmsnorm_single_row_has_the_same_bits(void **state)
{
    enum { ROWS = 21, COLS = 99 };
    struct norm_case k = { .T = ROWS, .C = COLS };
    float row[COLS];
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    open_case(&t, &k);
    run_case(&t, &k, false);
    for (uint32_t r = 0; r < ROWS; r++) {
        const struct at_tensor x = at_tensor_rows(k.v[X], 0, 1), y = at_tensor_rows(k.v[Y], 0, 1);

        OK(at_tensor_write(t.gpu, x, k.f[X] + r * COLS));
        at_rmsnorm_fwd(t.stream, y, k.views[RSTD], x, k.views[W], eps);
        OK(at_stream_wait(t.stream));
        OK(at_tensor_read(t.gpu, row, y));
        assert_memory_equal(row, k.got[Y] + r * COLS, sizeof row);
    }
    close_case(&t, &k);
    gt_close(&t);
}

/* The lanes that store, and sums by shuffles or in shared memory, change no bit. */
static void rmsnorm_has_the_same_bits_with_each_kernel(void **state)
{
    enum { ROWS = 37, COLS = 130, WAYS = 3 };
    struct norm_case k[WAYS] = { 0 };
    struct gt t[WAYS];

    (void)state;
    for (size_t way = 0; way < WAYS; way++) {
        k[way] = (struct norm_case){ .T = ROWS, .C = COLS };
        gt_open(&t[way], way);
        open_case(&t[way], &k[way]);
        for (int i = 0; i < TENSORS; i++)
            memcpy(k[way].f[i], k[0].f[i], k[0].n * sizeof(float));
        for (int i = 0; i < VECTORS; i++)
            memcpy(k[way].vectors[i], k[0].vectors[i], (i == RSTD ? ROWS : COLS) * sizeof(float));
        run_case(&t[way], &k[way], false);
        run_case(&t[way], &k[way], true);
        assert_memory_equal(k[way].got[Y], k[0].got[Y], k[0].n * sizeof(float));
        assert_memory_equal(k[way].got[DX], k[0].got[DX], k[0].n * sizeof(float));
        assert_memory_equal(k[way].got_vectors[RSTD], k[0].got_vectors[RSTD], ROWS * sizeof(float));
    }
    for (size_t way = 0; way < WAYS; way++) {
        close_case(&t[way], &k[way]);
        gt_close(&t[way]);
    }
}

/* Weight gradients are sums over blocks of 256 rows in order, however the rows are handed over. */
static void rmsnorm_weight_gradient_by_blocks_has_the_same_bits(void **state)
{
    enum { ROWS = 600, COLS = 37, BLOCK = 256 };
    struct norm_case k = { .T = ROWS, .C = COLS };
    float dw[COLS];
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    open_case(&t, &k);
    run_case(&t, &k, false);
    OK(at_gpu_write(t.gpu, k.views[DW], k.vectors[DW], sizeof dw));
    for (uint32_t r = 0; r < ROWS; r += BLOCK) {
        const uint32_t n = ROWS - r < BLOCK ? ROWS - r : BLOCK;

        at_rmsnorm_bwd_weight(t.stream, k.views[DW], at_tensor_rows(k.v[DY], r, n),
                              at_tensor_rows(k.v[X], r, n),
                              at_view_part(k.views[RSTD], r * sizeof(float), n * sizeof(float)));
    }
    OK(at_stream_wait(t.stream));
    OK(at_gpu_read(t.gpu, dw, k.views[DW], sizeof dw));
    assert_memory_equal(dw, k.got_vectors[DW], sizeof dw);
    close_case(&t, &k);
    gt_close(&t);
}

/* ---- LayerNorm ---- */

enum { LX, LDY, LDX, LY, LAGAIN, LCENTRED, LSCRATCH, LTENSORS };
enum { LW, LB, LDW, LDB, LRSTD, LVECTORS };

/* Rows around 3, whose mean has to go before their squares are summed. */
static void check_layernorm(struct gt *t, uint32_t T, uint32_t C)
{
    const size_t n = (size_t)T * C;
    size_t tensors[LTENSORS], vectors[LVECTORS];
    struct at_tensor v[LTENSORS];
    struct at_view views[LVECTORS];
    float *f[LTENSORS], *g[LVECTORS];
    double *want[LTENSORS], *want_vectors[LVECTORS];

    gt_begin(t);
    for (uint32_t i = 0; i < LTENSORS; i++)
        tensors[i] = gt_plan_tensor(t, T, C, 4 * i);
    for (uint32_t i = 0; i < LVECTORS; i++)
        vectors[i] = gt_plan(t, (i == LRSTD ? T : C) * sizeof(float));
    gt_commit(t);
    for (uint32_t i = 0; i < LTENSORS; i++) {
        v[i] = gt_tensor(t, tensors[i], T, C, 4 * i);
        f[i] = gt_floats(n, 1);
        for (size_t k = 0; i == LX && k < n; k++)
            f[i][k] += 3;
        OK(at_tensor_write(t->gpu, v[i], f[i]));
        want[i] = gt_doubles(f[i], n);
    }
    for (uint32_t i = 0; i < LVECTORS; i++) {
        const uint32_t count = i == LRSTD ? T : C;
        views[i] = gt_view(t, vectors[i]);
        g[i] = gt_floats(at_round_up(count, 4), 1);
        OK(at_gpu_write(t->gpu, views[i], g[i], views[i].bytes));
        want_vectors[i] = gt_doubles(g[i], count);
    }
    at_layernorm_fwd(t->stream, v[LY], views[LRSTD], v[LX], views[LW], views[LB], eps, v[LCENTRED]);
    at_layernorm_again(t->stream, v[LAGAIN], v[LX], views[LW], views[LB], views[LRSTD],
                       v[LCENTRED]);
    at_layernorm_bwd(t->stream, v[LDX], v[LDY], v[LX], views[LW], views[LRSTD], v[LCENTRED],
                     v[LSCRATCH]);
    at_layernorm_bwd_weight(t->stream, views[LDW], views[LDB], v[LDY], v[LX], views[LRSTD],
                            v[LCENTRED]);
    OK(at_stream_wait(t->stream));
    ref_layernorm_fwd(want[LY], want_vectors[LRSTD], want[LX], want_vectors[LW], want_vectors[LB],
                      (double)eps, T, C);
    ref_layernorm_bwd(want[LDX], want_vectors[LDW], want_vectors[LDB], want[LDY], want[LX],
                      want_vectors[LW], want_vectors[LRSTD], T, C);
    for (uint32_t i = 0; i < LTENSORS; i++) {
        gt_require_padding(t, "tensor", v[i]);
        OK(at_tensor_read(t->gpu, f[i], v[i]));
    }
    for (uint32_t i = 0; i < LVECTORS; i++)
        OK(at_gpu_read(t->gpu, g[i], views[i], views[i].bytes));
    gt_require_close(t, "y", f[LY], want[LY], NULL, n, 4 * TOL_ROW);
    gt_require_close(t, "dx", f[LDX], want[LDX], NULL, n, 8 * TOL_ROW);
    gt_require_close(t, "rstd", g[LRSTD], want_vectors[LRSTD], NULL, T, 4 * TOL_ROW);
    gt_require_close(t, "dw", g[LDW], want_vectors[LDW], NULL, C, 8 * TOL_ROW);
    gt_require_close(t, "db", g[LDB], want_vectors[LDB], NULL, C, 8 * TOL_ROW);
    assert_memory_equal(f[LAGAIN], f[LY], n * sizeof(float));
    gt_end(t);
    for (uint32_t i = 0; i < LTENSORS; i++) {
        free(f[i]);
        free(want[i]);
    }
    for (uint32_t i = 0; i < LVECTORS; i++) {
        free(g[i]);
        free(want_vectors[i]);
    }
}

static void layernorm_any_shape_equals_reference(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        check_layernorm(&t, 3, 63);
        check_layernorm(&t, 17, 130);
        check_layernorm(&t, 600, 576); /* longer than a binding of 1 MiB */
        gt_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rmsnorm_any_shape_equals_reference),
        cmocka_unit_test(rmsnorm_single_row_has_the_same_bits),
        cmocka_unit_test(rmsnorm_has_the_same_bits_with_each_kernel),
        cmocka_unit_test(rmsnorm_weight_gradient_by_blocks_has_the_same_bits),
        cmocka_unit_test(layernorm_any_shape_equals_reference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
