/* links: base gpu ops */
/* Rotary embedding forward and backward, of queries and of keys (there may be none) = the reference
 * over awkward shapes, twice with equal bits. */
#include "gpu_test.h"

#include "attention.h"
#include "ref_rope.h"
#include "tolerances.h"

struct rope_case {
    uint32_t T, heads, D, n_positions, W; /* W: what is turned of a head; 0: all of it */
    uint32_t G;                           /* heads of the keys */
};

static float *make_table(uint32_t n_positions, uint32_t D)
{
    float *table = gt_floats((size_t)n_positions * D, 1);

    for (uint32_t p = 0; p < n_positions; p++)
        for (uint32_t i = 0; i < D / 2; i++) {
            const double angle = p * pow(10000, -2.0 * i / D);

            table[p * D + i] = (float)cos(angle);
            table[p * D + D / 2 + i] = (float)sin(angle);
        }
    return table;
}

static void check_rope(struct gt *t, const struct rope_case *k, bool backward)
{
    const uint32_t T = k->T, D = k->D, C = k->heads * D, W = k->W > 0 ? k->W : D;
    const uint32_t GD = k->G * D;
    const size_t n_q = (size_t)T * C, n = n_q + (size_t)T * GD;
    const size_t table_n = (size_t)k->n_positions * W;
    float *x = gt_floats(n, 1), *got = gt_floats(n, 1), *again = gt_floats(n, 1); /* q, then k */
    float *table = make_table(k->n_positions, W);
    double *want = gt_doubles(x, n), *table64 = gt_doubles(table, table_n);
    int32_t *positions = malloc(T * sizeof *positions);
    size_t iq, ik = 0, ipositions, itable;
    struct at_tensor K = { .ld = 0 };

    for (uint32_t r = 0; r < T; r++)
        positions[r] = (int32_t)(gt_random() % k->n_positions);
    positions[T - 1] = (int32_t)k->n_positions - 1;
    gt_begin(t);
    iq = gt_plan_tensor(t, T, C, 12);
    if (GD > 0)
        ik = gt_plan_tensor(t, T, GD, 4);
    ipositions = gt_plan(t, T * sizeof *positions);
    itable = gt_plan_tensor(t, k->n_positions, W, 4);
    gt_commit(t);
    const struct at_tensor Q = gt_tensor(t, iq, T, C, 12);
    const struct at_tensor TABLE = gt_tensor(t, itable, k->n_positions, W, 4);

    if (GD > 0)
        K = gt_tensor(t, ik, T, GD, 4);
    OK(at_gpu_write(t->gpu, gt_view(t, ipositions), positions, T * sizeof *positions));
    OK(at_tensor_write(t->gpu, TABLE, table));
    for (int run = 0; run < 2; run++) {
        float *out = run == 0 ? got : again;

        OK(at_tensor_write(t->gpu, Q, x));
        if (GD > 0)
            OK(at_tensor_write(t->gpu, K, x + n_q));
        at_rope(t->stream, Q, K, gt_view(t, ipositions), TABLE, D, backward);
        OK(at_stream_wait(t->stream));
        OK(at_tensor_read(t->gpu, out, Q));
        if (GD > 0)
            OK(at_tensor_read(t->gpu, out + n_q, K));
    }
    ref_rope(want, positions, table64, T, k->heads, D, W, backward);
    ref_rope(want + n_q, positions, table64, T, k->G, D, W, backward);
    gt_require_close(t, backward ? "turned back" : "turned", got, want, NULL, n, TOL_ROW);
    assert_memory_equal(again, got, n * sizeof *got);
    gt_require_padding(t, "q", Q);
    if (GD > 0)
        gt_require_padding(t, "k", K);
    gt_end(t);
    free(x);
    free(got);
    free(again);
    free(table);
    free(want);
    free(table64);
    free(positions);
}

static void rope_any_shape_equals_reference(void **state)
{
    static const struct rope_case cases[] = {
        { .T = 1, .heads = 1, .D = 8, .n_positions = 1 },
        { .T = 3, .heads = 2, .D = 24, .n_positions = 7, .G = 1 },
        { .T = 65, .heads = 3, .D = 12, .n_positions = 40, .G = 3 }, /* halves within a vec4 */
        { .T = 5, .heads = 1, .D = 4, .n_positions = 9 },
        { .T = 9, .heads = 4, .D = 32, .n_positions = 20, .W = 24, .G = 2 },
        { .T = 7, .heads = 3, .D = 40, .n_positions = 20, .W = 32, .G = 1 },
        { .T = 9, .heads = 3, .D = 12, .n_positions = 20, .W = 6 },
        { .T = 500, .heads = 9, .D = 64, .n_positions = 5000, .G = 3 }, /* beyond 1 MiB */
        { .T = 70000, .heads = 1, .D = 8, .n_positions = 300 },
    };

    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        for (size_t i = 0; i < AT_COUNT(cases); i++) {
            check_rope(&t, &cases[i], false);
            check_rope(&t, &cases[i], true);
        }
        gt_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(rope_any_shape_equals_reference) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
