/* Dropout in a whole model: a row's log-probs have the same bits alone and in a full slab, only
 * training passes drop, and the gradient is that of the loss with the mask held. Neither
 * log-probs nor gradients depend on how many rows a slab is filled up to. */
#include "gpu_test.h"

#include "engine.h"

enum { N_ROWS = 6, LENGTH = 19 };

struct fixture {
    struct at_bundle bundle;
    struct at_engine engine;
    struct at_row rows[N_ROWS];
    const struct at_row *pointers[N_ROWS];
    int32_t ids[N_ROWS][LENGTH];
    uint8_t targets[N_ROWS][LENGTH];
    struct at_row_result results[N_ROWS];
};

/* The adapter of a golden run whose B is random, and rows of several lengths. */
static void open_fixture(struct fixture *f, float dropout)
{
    const struct at_bundle_params params = { .path = TEST_DIR "/golden/models/tiny_llama" };
    const struct at_engine_params plan = { .gpu = { .validate = true },
                                           .trainable = AT_TRAIN_CONTINUE,
                                           .continue_dir =
                                               TEST_DIR "/golden/dpo_continued/init_adapter",
                                           .dropout = dropout,
                                           .capacity = 128 };

    at_gpu_close(&(struct at_gpu *){ gt_open_device(plan.gpu) }); /* or the test is skipped */
    OK(at_bundle_open(&f->bundle, &params));
    OK(at_engine_plan(&f->engine, &f->bundle, &plan));
    OK(at_engine_commit(&f->engine));
    for (uint32_t i = 0; i < N_ROWS; i++) {
        const uint32_t n = LENGTH - 3 * i % 5;

        for (uint32_t t = 0; t < n; t++) {
            f->ids[i][t] = (int32_t)(gt_random() % f->bundle.config.V);
            f->targets[i][t] = t > 0;
        }
        f->rows[i] = (struct at_row){ .index = 10 + i,
                                      .n_segments = 1,
                                      .segment = { { f->ids[i], f->targets[i], n, n - 1 } } };
        f->pointers[i] = &f->rows[i];
    }
}

static void close_fixture(struct fixture *f)
{
    at_engine_close(&f->engine);
    at_bundle_close(&f->bundle);
}

/* Cross-entropy of rows [begin, begin + n). */
static double compute(struct fixture *f, uint32_t begin, uint32_t n, bool train, uint32_t key)
{
    static const struct at_loss_term nll = { .name = "nll", .weight = 1 };
    const struct at_compute what = { .train = train,
                                     .policy = true,
                                     .losses = &nll,
                                     .n_losses = 1,
                                     .kind = AT_LOSS_TOKEN,
                                     .dropout_key = { key, 0 },
                                     .weight = 1 };
    double loss = 0;

    for (uint32_t i = 0; i < n; i++)
        f->results[begin + i].n_segments = 1;
    OK(at_engine_rows(&f->engine, f->pointers + begin, f->results + begin, n, &what));
    OK(at_engine_finish(&f->engine));
    for (uint32_t i = 0; i < n; i++)
        loss += (double)f->results[begin + i].pair.loss;
    return loss;
}

static void keep(float *out, const struct fixture *f)
{
    for (uint32_t i = 0; i < N_ROWS; i++)
        out[i] = f->results[i].policy[0].logp;
}

static void mask_does_not_depend_on_packing(void **state)
{
    float together[N_ROWS], alone[N_ROWS], other[N_ROWS], evaluated[N_ROWS], plain[N_ROWS];
    struct fixture f = { 0 }, without = { 0 };

    (void)state;
    open_fixture(&f, 0.25f);
    compute(&f, 0, N_ROWS, true, 1);
    keep(together, &f);
    for (uint32_t i = N_ROWS; i-- > 0;)
        compute(&f, i, 1, true, 1);
    keep(alone, &f);
    assert_memory_equal(together, alone, sizeof alone);
    compute(&f, 0, N_ROWS, true, 2);
    keep(other, &f);
    compute(&f, 0, N_ROWS, false, 1);
    keep(evaluated, &f);
    open_fixture(&without, 0);
    memcpy(without.ids, f.ids, sizeof f.ids);
    compute(&without, 0, N_ROWS, true, 1);
    keep(plain, &without);
    assert_memory_equal(evaluated, plain, sizeof plain);
    for (uint32_t i = 0; i < N_ROWS; i++)
        assert_true(together[i] != other[i] && together[i] != plain[i]);
    close_fixture(&f);
    close_fixture(&without);
}

/* Whether a parameter takes part in direction `which`: all; lora_A; layer 0, whose gradient came
 * through the adapters above it. */
static bool takes_part(const struct at_param *p, int which)
{
    return which == 0 ||
           (which == 1 ? strstr(p->name, "lora_A") : strstr(p->name, "layers.0.")) != NULL;
}

/* Moves the parameters by `step` along their gradients g, in the direction's part. */
static void move(struct fixture *f, float *const *p, float *const *g, int which, double step)
{
    for (size_t i = 0; i < f->engine.params.n; i++) {
        const struct at_param *item = f->engine.params.items[i];
        const size_t n = (size_t)item->rows * item->cols;
        float *moved = calloc(n, sizeof *moved);

        for (size_t k = 0; k < n; k++)
            moved[k] = p[i][k] + (takes_part(item, which) ? (float)(step * (double)g[i][k]) : 0);
        OK(at_tensor_write(f->engine.gpu, item->p, moved));
        free(moved);
    }
}

/* Along the gradient the loss rises by its norm. In f32 the loss of 100 tokens is good to 1e-5 of
 * itself, its difference over the step to 1e-3. */
static void gradient_is_that_of_the_loss_with_the_mask_held(void **state)
{
    struct fixture f = { 0 };
    float *p[64], *g[64];

    (void)state;
    open_fixture(&f, 0.25f);
    assert_true(f.engine.params.n <= AT_COUNT(p));
    compute(&f, 0, N_ROWS, true, 1);
    for (size_t i = 0; i < f.engine.params.n; i++) {
        const struct at_param *item = f.engine.params.items[i];

        p[i] = gt_floats((size_t)item->rows * item->cols, 1);
        g[i] = gt_floats((size_t)item->rows * item->cols, 1);
        OK(at_tensor_read(f.engine.gpu, p[i], item->p));
        OK(at_tensor_read(f.engine.gpu, g[i], item->g));
    }
    for (int which = 0; which < 3; which++) {
        double square = 0, step, rise;

        for (size_t i = 0; i < f.engine.params.n; i++) {
            const struct at_param *item = f.engine.params.items[i];
            for (size_t k = 0; k < (size_t)item->rows * item->cols && takes_part(item, which); k++)
                square += (double)g[i][k] * (double)g[i][k];
        }
        step = 0.02 / sqrt(square);
        move(&f, p, g, which, step);
        rise = compute(&f, 0, N_ROWS, true, 1);
        move(&f, p, g, which, -step);
        rise = (rise - compute(&f, 0, N_ROWS, true, 1)) / (2 * step);
        if (!(fabs(rise / square - 1) < 5e-3))
            fail_msg("direction %d: the loss rises by %.6g, the gradient says %.6g", which, rise,
                     square);
    }
    for (size_t i = 0; i < f.engine.params.n; i++) {
        free(p[i]);
        free(g[i]);
    }
    close_fixture(&f);
}

static void require_gradients(struct fixture *f, struct fixture *other)
{
    for (size_t i = 0; i < f->engine.params.n; i++) {
        const struct at_param *item = f->engine.params.items[i];
        const size_t n = (size_t)item->rows * item->cols;
        float *g[2] = { gt_floats(n, 1), gt_floats(n, 1) };

        OK(at_tensor_read(f->engine.gpu, g[0], item->g));
        OK(at_tensor_read(other->engine.gpu, g[1], other->engine.params.items[i]->g));
        for (size_t k = 0; k < n; k++)
            if (g[0][k] != g[1][k]) /* not of their bits: a sum of nothing may be -0 */
                fail_msg("%s: %.9g, else %.9g", item->name, (double)g[0][k], (double)g[1][k]);
        free(g[0]);
        free(g[1]);
    }
}

static void padding_changes_no_bit(void **state)
{
    static const uint32_t n_rows[] = { 1, 2, N_ROWS };
    struct fixture f = { 0 }, wide = { 0 };
    float few[N_ROWS], many[N_ROWS];

    (void)state;
    open_fixture(&f, 0.25f);
    open_fixture(&wide, 0.25f);
    memcpy(wide.ids, f.ids, sizeof f.ids);
    wide.engine.slab.granule = 64;
    for (size_t i = 0; i < AT_COUNT(n_rows); i++) {
        assert_true(compute(&f, 0, n_rows[i], true, 1) == compute(&wide, 0, n_rows[i], true, 1));
        assert_int_equal(wide.engine.slab.T, at_round_up(f.engine.slab.n_tokens, 64));
        assert_int_not_equal(f.engine.slab.T, wide.engine.slab.T);
        assert_int_not_equal(f.engine.slab.R, wide.engine.slab.R);
        keep(few, &f);
        keep(many, &wide);
        assert_memory_equal(few, many, sizeof few);
        require_gradients(&f, &wide);
    }
    close_fixture(&f);
    close_fixture(&wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(padding_changes_no_bit),
        cmocka_unit_test(mask_does_not_depend_on_packing),
        cmocka_unit_test(gradient_is_that_of_the_loss_with_the_mask_held),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
