/* links: base gpu ops */
/* Gradient norm, clipping and AdamW over several steps = the reference; non-finite gradients leave
 * the parameters alone; arenas larger than a binding. */
#include "gpu_test.h"

#include "optimizer.h"
#include "ref_optimizer.h"
#include "tolerances.h"

enum { PARTS = 3, STEPS = 3 };
static const uint32_t sizes[PARTS] = { 3, 4097, 300001 };
static const float decays[PARTS] = { 0, 0.1f, 0.01f };
static const float rates[PARTS] = { 1, 0.25f, 3 };

struct arena {
    struct at_arena_part parts[PARTS];
    struct at_view norm, scratch;
    float *host[PARTS][4];  /* p, g, m, v as the device has them */
    double *want[PARTS][4]; /* as the reference has them */
};

static struct at_view *view_of(struct at_arena_part *part, int i)
{
    struct at_view *views[] = { &part->p, &part->g, &part->m, &part->v };

    return views[i];
}

static void open_arena(struct gt *t, struct arena *a)
{
    size_t ids[PARTS][4], norm, scratch;

    for (int k = 0; k < PARTS; k++)
        a->parts[k] =
            (struct at_arena_part){ .n = sizes[k], .weight_decay = decays[k], .rate = rates[k] };
    gt_begin(t);
    for (int k = 0; k < PARTS; k++)
        for (int i = 0; i < 4; i++)
            ids[k][i] = gt_plan(t, sizes[k] * sizeof(float));
    norm = gt_plan(t, 32);
    scratch = gt_plan(t, at_grad_norm_scratch_bytes(a->parts, PARTS));
    gt_commit(t);
    a->norm = gt_view(t, norm);
    a->scratch = gt_view(t, scratch);
    for (int k = 0; k < PARTS; k++)
        for (int i = 0; i < 4; i++) {
            const size_t n = sizes[k];

            a->host[k][i] = gt_floats(n, 1);
            for (size_t j = 0; j < n && i == 3; j++)
                a->host[k][i][j] = fabsf(a->host[k][i][j]);
            a->want[k][i] = gt_doubles(a->host[k][i], n);
            *view_of(&a->parts[k], i) = gt_view(t, ids[k][i]);
            OK(at_gpu_write(t->gpu, *view_of(&a->parts[k], i), a->host[k][i], n * sizeof(float)));
        }
}

static void close_arena(struct gt *t, struct arena *a)
{
    gt_end(t);
    for (int k = 0; k < PARTS; k++)
        for (int i = 0; i < 4; i++) {
            free(a->host[k][i]);
            free(a->want[k][i]);
        }
}

static void read_arena(struct gt *t, struct arena *a)
{
    for (int k = 0; k < PARTS; k++)
        for (int i = 0; i < 4; i++)
            OK(at_gpu_read(t->gpu, a->host[k][i], *view_of(&a->parts[k], i),
                           sizes[k] * sizeof(float)));
}

static void step(struct gt *t, struct arena *a, uint32_t number, float max_norm, float norm[8])
{
    const struct at_adamw params = {
        .learning_rate = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .step = number
    };

    at_grad_norm(t->stream, a->norm, a->scratch, a->parts, PARTS, max_norm);
    for (int k = 0; k < PARTS; k++)
        at_adamw_step(t->stream, &a->parts[k], a->norm, &params);
    OK(at_stream_wait(t->stream));
    OK(at_gpu_read(t->gpu, norm, a->norm, 8 * sizeof(float)));
}

static double ref_step(struct arena *a, uint32_t number, double max_norm)
{
    double norm = 0, clip;

    for (int k = 0; k < PARTS; k++)
        norm = hypot(norm, ref_norm(a->want[k][1], sizes[k]));
    clip = max_norm > 0 && max_norm < norm + 1e-6 ? max_norm / (norm + 1e-6) : 1;
    for (int k = 0; k < PARTS; k++) {
        const double lr = (double)0.01f * (double)rates[k];
        const struct ref_adamw params = {
            lr, (double)0.9f, (double)0.999f, (double)1e-8f, (double)decays[k], number
        };

        for (size_t j = 0; j < sizes[k]; j++)
            a->want[k][1][j] *= clip;
        ref_adamw_step(a->want[k][0], a->want[k][2], a->want[k][3], a->want[k][1], sizes[k],
                       &params);
    }
    return norm;
}

static void check_steps(struct gt *t, float max_norm)
{
    struct arena a;
    float norm[8];

    open_arena(t, &a);
    for (uint32_t number = 1; number <= STEPS; number++) {
        const double want = ref_step(&a, number, (double)max_norm);

        step(t, &a, number, max_norm, norm);
        if (!(fabs((double)norm[0] - want) <= TOL_NORM * want))
            fail_msg("%s: norm: got %.9g, want %.9g", t->setting, (double)norm[0], want);
        assert_true(norm[2] == 1);
        read_arena(t, &a);
        for (int k = 0; k < PARTS; k++) {
            gt_require_close(t, "p", a.host[k][0], a.want[k][0], NULL, sizes[k],
                             TOL_ADAMW * number);
            gt_require_close(t, "m", a.host[k][2], a.want[k][2], NULL, sizes[k],
                             TOL_ADAMW * number);
            gt_require_close(t, "v", a.host[k][3], a.want[k][3], NULL, sizes[k],
                             TOL_ADAMW * number);
            for (size_t j = 0; j < sizes[k]; j++) {
                assert_true(a.host[k][1][j] == 0);
                a.host[k][1][j] = (float)(gt_random() % 2001) / 1000 - 1;
                a.want[k][1][j] = (double)a.host[k][1][j];
            }
            OK(at_gpu_write(t->gpu, a.parts[k].g, a.host[k][1], sizes[k] * sizeof(float)));
        }
    }
    close_arena(t, &a);
}

static void adamw_steps_equal_reference(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        check_steps(&t, 0);
        check_steps(&t, 1.5f);
        check_steps(&t, 1e6f);
        gt_close(&t);
    }
}

static void adamw_bad_gradient_only_zeroes_it(void **state)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    for (size_t i = 0; i < AT_COUNT(bad); i++) {
        struct arena a;
        float norm[8];

        open_arena(&t, &a);
        OK(at_gpu_write(t.gpu, a.parts[1].g, &bad[i], sizeof bad[i]));
        step(&t, &a, 1, 1, norm);
        assert_true(norm[2] == 0 && norm[1] == 1);
        read_arena(&t, &a);
        for (int k = 0; k < PARTS; k++)
            for (size_t j = 0; j < sizes[k]; j++) {
                assert_true((double)a.host[k][0][j] == a.want[k][0][j]);
                assert_true((double)a.host[k][2][j] == a.want[k][2][j]);
                assert_true((double)a.host[k][3][j] == a.want[k][3][j]);
                assert_true(a.host[k][1][j] == 0);
            }
        close_arena(&t, &a);
    }
    gt_close(&t);
}

/* From zero moments the first step moves a parameter by lr g / (|g| + eps), by hand. */
static void adamw_first_step_moves_by_the_learning_rate(void **state)
{
    static const float g[3] = { 0.5f, -1e-8f, 1e-8f };
    static const double moves[3] = { 0.01, -0.005, 0.005 }; /* eps is 1e-8 */
    struct arena a;
    float norm[8];
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    open_arena(&t, &a);
    OK(at_gpu_write(t.gpu, a.parts[0].g, g, sizeof g));
    at_stream_fill(t.stream, a.parts[0].m, 0);
    at_stream_fill(t.stream, a.parts[0].v, 0);
    step(&t, &a, 1, 0, norm);
    read_arena(&t, &a);
    for (size_t j = 0; j < sizes[0]; j++)
        if (!(fabs((double)a.host[0][0][j] - a.want[0][0][j] + moves[j]) < 1e-6))
            fail_msg("p[%zu] moved by %.9g, not %.9g", j, a.want[0][0][j] - (double)a.host[0][0][j],
                     moves[j]);
    close_arena(&t, &a);
    gt_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_steps_equal_reference),
        cmocka_unit_test(adamw_bad_gradient_only_zeroes_it),
        cmocka_unit_test(adamw_first_step_moves_by_the_learning_rate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
