/* links: base gpu ops */
/* The value head forward and backward = the reference over awkward shapes, twice with equal bits;
 * dh by the scatter that the decoder uses. */
#include "gpu_test.h"

#include "activation.h"
#include "ref_value.h"
#include "tolerances.h"
#include "value.h"

enum { H, U, DH, W, DW, STATS, COEF, BEGIN, BUFFERS };

struct value_case {
    uint32_t R, C;
    size_t n;
    size_t ids[BUFFERS];
    struct at_tensor h, u, dh, w, dw;
    float *f_h, *f_w, *f_dw, *f_coef;
    int32_t *begin;
};

static void open_case(struct gt *t, struct value_case *k)
{
    const uint32_t R = k->R, C = k->C;

    k->n = (size_t)R * C;
    gt_begin(t);
    k->ids[H] = gt_plan_tensor(t, R, C, 4);
    k->ids[U] = gt_plan_tensor(t, R, C, 8);
    k->ids[DH] = gt_plan_tensor(t, R, C, 0);
    k->ids[W] = gt_plan_tensor(t, 1, C, 0);
    k->ids[DW] = gt_plan_tensor(t, 1, C, 0);
    k->ids[STATS] = gt_plan(t, 16ul * R);
    k->ids[COEF] = gt_plan(t, 4ul * R);
    k->ids[BEGIN] = gt_plan(t, 4ul * (R + 1));
    gt_commit(t);
    k->h = gt_tensor(t, k->ids[H], R, C, 4);
    k->u = gt_tensor(t, k->ids[U], R, C, 8);
    k->dh = gt_tensor(t, k->ids[DH], R, C, 0);
    k->w = gt_tensor(t, k->ids[W], 1, C, 0);
    k->dw = gt_tensor(t, k->ids[DW], 1, C, 0);
    k->f_h = gt_floats(k->n, 1);
    k->f_w = gt_floats(C, 1);
    k->f_dw = gt_floats(C, 1);
    k->f_coef = gt_floats(R, 1);
    k->begin = calloc(R + 1, sizeof *k->begin);
    for (uint32_t r = 0; r <= R; r++)
        k->begin[r] = (int32_t)r;
}

static void close_case(struct gt *t, struct value_case *k)
{
    gt_end(t);
    free(k->f_h);
    free(k->f_w);
    free(k->f_dw);
    free(k->f_coef);
    free(k->begin);
}

struct got {
    float *stats, *u, *dh, *dw;
};

static struct got run_case(struct gt *t, struct value_case *k)
{
    struct got g = { gt_floats(4ul * k->R, 1), gt_floats(k->n, 1), gt_floats(k->n, 1),
                     gt_floats(k->C, 1) };
    const struct at_view stats = gt_view(t, k->ids[STATS]), coef = gt_view(t, k->ids[COEF]);

    OK(at_tensor_write(t->gpu, k->h, k->f_h));
    OK(at_tensor_write(t->gpu, k->w, k->f_w));
    OK(at_tensor_write(t->gpu, k->dw, k->f_dw));
    OK(at_gpu_write(t->gpu, coef, k->f_coef, 4ul * k->R));
    OK(at_gpu_write(t->gpu, gt_view(t, k->ids[BEGIN]), k->begin, 4ul * (k->R + 1)));
    at_value_fwd(t->stream, stats, k->u, k->h, k->w);
    at_scatter_rows(t->stream, k->dh, k->u, coef, gt_view(t, k->ids[BEGIN]));
    at_value_bwd(t->stream, k->dw, k->h, coef);
    OK(at_stream_wait(t->stream));
    OK(at_gpu_read(t->gpu, g.stats, stats, 16ul * k->R));
    OK(at_tensor_read(t->gpu, g.u, k->u));
    OK(at_tensor_read(t->gpu, g.dh, k->dh));
    OK(at_tensor_read(t->gpu, g.dw, k->dw));
    return g;
}

static void release(struct got *g)
{
    free(g->stats);
    free(g->u);
    free(g->dh);
    free(g->dw);
}

static double *doubles(const float *x, size_t n)
{
    double *out = calloc(n + 1, sizeof *out);

    for (size_t i = 0; i < n; i++)
        out[i] = (double)x[i];
    return out;
}

static void check_case(struct gt *t, struct value_case *k)
{
    const size_t R = k->R, C = k->C;
    double *h = doubles(k->f_h, k->n), *w = doubles(k->f_w, C), *dw = doubles(k->f_dw, C);
    double *coef = doubles(k->f_coef, R), *values = calloc(R + 1, sizeof *values);
    double *u = calloc(k->n + 1, sizeof *u), *dh = calloc(k->n + 1, sizeof *dh);
    double *stats = calloc(4 * R + 1, sizeof *stats);
    struct got first = run_case(t, k), again;

    ref_value_fwd(values, u, h, w, R, C);
    ref_value_bwd(dw, dh, coef, h, w, R, C);
    for (size_t r = 0; r < R; r++)
        stats[4 * r] = values[r];
    gt_require_close(t, "stats", first.stats, stats, NULL, 4 * R, TOL_LINEAR);
    gt_require_close(t, "u", first.u, u, NULL, k->n, 0);
    gt_require_close(t, "dh", first.dh, dh, NULL, k->n, TOL_LINEAR);
    gt_require_close(t, "dw", first.dw, dw, NULL, C, TOL_LINEAR);
    again = run_case(t, k);
    assert_memory_equal(first.stats, again.stats, 16 * R);
    assert_memory_equal(first.dw, again.dw, 4 * C);
    /* without gradient rows the values have the same bits */
    at_value_fwd(t->stream, gt_view(t, k->ids[STATS]), (struct at_tensor){ .dim = { 0, 0 } }, k->h,
                 k->w);
    OK(at_stream_wait(t->stream));
    OK(at_gpu_read(t->gpu, again.stats, gt_view(t, k->ids[STATS]), 16 * R));
    assert_memory_equal(first.stats, again.stats, 16 * R);
    release(&first);
    release(&again);
    free(h);
    free(w);
    free(dw);
    free(coef);
    free(values);
    free(u);
    free(dh);
    free(stats);
}

static void value_head_equals_reference(void **state)
{
    static const uint32_t shapes[][2] = { { 1, 1 },    { 64, 63 },    { 3, 64 },
                                          { 64, 576 }, { 1024, 300 }, { 70000, 4 } };

    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        for (size_t i = 0; i < AT_COUNT(shapes); i++) {
            struct value_case k = { .R = shapes[i][0], .C = shapes[i][1] };

            open_case(&t, &k);
            check_case(&t, &k);
            close_case(&t, &k);
        }
        gt_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(value_head_equals_reference) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
