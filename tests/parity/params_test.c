/* links: base gpu ops model */
/* Trainable parameters: where they lie, a step over all parts against the reference, reading and
 * writing for checkpoints. */
#include "gpu_test.h"

#include "params.h"
#include "ref_optimizer.h"
#include "tolerances.h"

enum { N = 5, PART_BYTES = 4096 + 255 }; /* rounded down to 4096 */
static const struct {
    const char *name;
    uint32_t rows, cols;
    enum at_param_group group;
} items[N] = {
    { "norm", 1, 30, AT_PARAM_VECTOR }, { "a", 10, 33, AT_PARAM_MATRIX },
    { "b", 5, 64, AT_PARAM_LORA_B },    { "bias", 1, 7, AT_PARAM_VECTOR },
    { "c", 32, 32, AT_PARAM_MATRIX },
};
static const struct at_param_rates alike[AT_PARAM_GROUPS] = {
    [AT_PARAM_VECTOR] = { 0, 1 }, [AT_PARAM_MATRIX] = { 0.1f, 1 }, [AT_PARAM_LORA_B] = { 0.1f, 1 }
};
static const struct at_param_rates apart[AT_PARAM_GROUPS] = {
    [AT_PARAM_VECTOR] = { 0, 2 }, [AT_PARAM_MATRIX] = { 0.1f, 1 }, [AT_PARAM_LORA_B] = { 0.2f, 8 }
};

struct fixture {
    struct at_params params;
    struct at_param *item[N];
};

static void open_params(struct gt *t, struct fixture *f, const struct at_param_rates *rates)
{
    gt_begin(t);
    OK(at_params_init(&f->params, PART_BYTES));
    for (size_t i = 0; i < N; i++)
        OK(at_params_add(&f->params, &f->item[i], items[i].name, items[i].rows, items[i].cols,
                         items[i].group));
    OK(at_params_plan(&f->params, t->pool, rates));
    gt_commit(t);
    at_params_bind(&f->params);
}

static void parts_hold_matrices_first_and_no_item_twice(void **state)
{
    struct fixture f;
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    open_params(&t, &f, alike);
    /* a (1440 bytes) and b (1280); c (4096); then the vectors */
    assert_int_equal(f.params.n_parts, 3);
    assert_int_equal(f.params.parts[0].n, (1536 + 1280) / 4);
    assert_int_equal(f.params.parts[1].n, 1024);
    assert_int_equal(f.params.parts[2].n, 512 / 4);
    assert_true(f.params.parts[0].weight_decay == 0.1f && f.params.parts[1].weight_decay == 0.1f);
    assert_true(f.params.parts[2].weight_decay == 0);
    assert_int_equal(f.item[1]->part, 0);
    assert_int_equal(f.item[2]->offset, 1536);
    assert_int_equal(f.item[4]->part, 1);
    assert_int_equal(f.item[3]->part, 2);
    assert_int_equal(f.item[3]->offset, 256);
    assert_int_equal(at_params_count(&f.params), 30 + 330 + 320 + 7 + 1024);
    assert_int_equal(at_params_bytes(&f.params), 1536 + 1280 + 4096 + 512);
    for (size_t i = 0; i < N; i++) {
        const struct at_arena_part *part = &f.params.parts[f.item[i]->part];

        assert_string_equal(f.item[i]->name, items[i].name);
        at_require_shape(f.item[i]->p, items[i].rows, items[i].cols);
        assert_ptr_equal(f.item[i]->p.view.buffer, part->p.buffer);
        assert_int_equal(f.item[i]->p.view.offset, part->p.offset + f.item[i]->offset);
        assert_int_equal(f.item[i]->g.view.offset, part->g.offset + f.item[i]->offset);
    }
    at_params_release(&f.params);
    gt_close(&t);
}

static void item_larger_than_a_part_is_refused_by_name(void **state)
{
    struct at_params params;
    struct at_param *item;
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    gt_begin(&t);
    OK(at_params_init(&params, PART_BYTES));
    OK(at_params_add(&params, &item, "too.large", 33, 32, AT_PARAM_MATRIX));
    assert_int_equal(at_params_plan(&params, t.pool, alike), AT_DEVICE_MEMORY);
    assert_non_null(strstr(at_message(), "too.large: a trainable tensor of 4352 bytes"));
    assert_non_null(strstr(at_message(), "(4096 bytes)"));
    at_params_release(&params);
    gt_close(&t);
}

/* Values of every item on the device: p and g random, m and v zero. */
static void fill(struct gt *t, struct fixture *f, float **p, float **g)
{
    for (size_t i = 0; i < N; i++) {
        const size_t n = (size_t)items[i].rows * items[i].cols;

        p[i] = gt_floats(n, 1);
        g[i] = gt_floats(n, 1);
        OK(at_tensor_write(t->gpu, f->item[i]->p, p[i]));
        OK(at_tensor_write(t->gpu, f->item[i]->g, g[i]));
    }
}

static void check_step(const struct at_param_rates *rates)
{
    const struct at_adamw adamw = {
        .learning_rate = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .step = 1
    };
    float *p[N], *g[N], norm[8];
    struct fixture f;
    double sum = 0;
    struct gt t;

    gt_open(&t, 0);
    open_params(&t, &f, rates);
    fill(&t, &f, p, g);
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < (size_t)items[i].rows * items[i].cols; k++)
            sum += (double)g[i][k] * (double)g[i][k];
    at_params_step(t.stream, &f.params, &adamw, 0.5f, norm);
    OK(at_stream_wait(t.stream));
    assert_true(fabs((double)norm[0] - sqrt(sum)) < TOL_NORM * sqrt(sum));
    for (size_t i = 0; i < N; i++) {
        const size_t n = (size_t)items[i].rows * items[i].cols;
        const struct at_param_rates *r = &rates[items[i].group];
        const struct ref_adamw params = { (double)0.01f * (double)r->rate,
                                          (double)0.9f,
                                          (double)0.999f,
                                          (double)1e-8f,
                                          (double)r->weight_decay,
                                          1 };
        double *want = gt_doubles(p[i], n), *grad = gt_doubles(g[i], n);
        double *m = calloc(n, sizeof *m), *v = calloc(n, sizeof *v);

        for (size_t k = 0; k < n; k++)
            grad[k] *= 0.5 / (sqrt(sum) + 1e-6);
        ref_adamw_step(want, m, v, grad, n, &params);
        OK(at_tensor_read(t.gpu, p[i], f.item[i]->p));
        gt_require_close(&t, items[i].name, p[i], want, NULL, n, TOL_ADAMW);
        OK(at_tensor_read(t.gpu, g[i], f.item[i]->g));
        for (size_t k = 0; k < n; k++)
            assert_true(g[i][k] == 0);
        free(want);
        free(grad);
        free(m);
        free(v);
        free(p[i]);
        free(g[i]);
    }
    at_params_release(&f.params);
    gt_close(&t);
}

static void step_equals_the_reference(void **state)
{
    (void)state;
    check_step(alike);
    check_step(apart);
}

static void lora_B_of_other_rates_has_parts_of_its_own(void **state)
{
    struct fixture f;
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    open_params(&t, &f, apart);
    /* a (1440 bytes), c (4096), b (1280), the vectors */
    assert_int_equal(f.params.n_parts, 4);
    assert_int_equal(f.item[2]->part, 2);
    assert_int_equal(f.params.parts[2].n, 1280 / 4);
    assert_true(f.params.parts[2].rate == 8 && f.params.parts[2].weight_decay == 0.2f);
    assert_true(f.params.parts[1].rate == 1 && f.params.parts[3].rate == 2);
    at_params_release(&f.params);
    gt_close(&t);
}

static void written_state_is_read_back(void **state)
{
    struct fixture f;
    struct gt t;
    float *in[3], *out[3], *p;
    size_t n;

    (void)state;
    gt_open(&t, 0);
    open_params(&t, &f, alike);
    n = at_params_bytes(&f.params) / sizeof(float);
    for (int i = 0; i < 3; i++) {
        in[i] = gt_floats(n, 1);
        out[i] = gt_floats(n, 1);
    }
    OK(at_params_write(t.gpu, &f.params, in[0], in[1], in[2]));
    OK(at_params_read(t.gpu, &f.params, out[0], out[1], out[2]));
    for (int i = 0; i < 3; i++)
        assert_memory_equal(in[i], out[i], n * sizeof(float));
    p = gt_floats(1024, 1); /* c is the second part, dense */
    OK(at_tensor_read(t.gpu, p, f.item[4]->p));
    assert_memory_equal(p, in[0] + (1536 + 1280) / 4, 4096);
    for (int i = 0; i < 3; i++) {
        free(in[i]);
        free(out[i]);
    }
    free(p);
    at_params_release(&f.params);
    gt_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_hold_matrices_first_and_no_item_twice),
        cmocka_unit_test(item_larger_than_a_part_is_refused_by_name),
        cmocka_unit_test(lora_B_of_other_rates_has_parts_of_its_own),
        cmocka_unit_test(step_equals_the_reference),
        cmocka_unit_test(written_state_is_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
