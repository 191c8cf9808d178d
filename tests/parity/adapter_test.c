/* links: base gpu ops model */
/* Adapters on a device: what is written is read back, a stack is one adapter with the same
 * products, nothing non-finite is written. */
#include "gpu_test.h"

#include "adapter.h"
#include "model_files.h"

#define TMP BUILD_DIR "/test_tmp/saved"

static const struct at_family family; /* names as Llama has them */
static const struct at_model_config model = {
    .family = &family, .C = 8, .H = 2, .G = 1, .D = 8, .F = 12, .V = 16, .L = 2
};
enum { N_MODULES = 2 * AT_LINEARS };

/* A trainable adapter with its arena; `dir` not NULL: loaded from there. */
struct fixture {
    struct at_params params;
    struct at_adapter adapter;
    struct at_pool *pool;
};

static void open_with(struct gt *t, struct fixture *f, const struct at_adapter_params *params)
{
    OK(at_pool_create(&f->pool, t->gpu, "adapter"));
    OK(at_params_init(&f->params, 1 << 20));
    OK(at_adapter_plan_fresh(&f->adapter, &model, params, &f->params));
    OK(at_params_plan(&f->params, f->pool, NULL));
    OK(at_pool_commit(f->pool));
    at_params_bind(&f->params);
    OK(at_adapter_upload(&f->adapter, &model, t->gpu, params->seed));
}

static void open_adapter(struct gt *t, struct fixture *f, const char *targets, uint32_t r,
                         double alpha, bool rslora, uint64_t seed)
{
    open_with(
        t, f,
        &(struct at_adapter_params){
            .r = r, .alpha = alpha, .rslora = rslora, .target_modules = targets, .seed = seed });
}

static void load_adapter(struct gt *t, struct fixture *f, const char *dir, bool trainable)
{
    OK(at_pool_create(&f->pool, t->gpu, "adapter"));
    OK(at_params_init(&f->params, 1 << 20));
    OK(at_adapter_plan_load(&f->adapter, &model, dir, trainable ? &f->params : NULL, f->pool));
    if (trainable)
        OK(at_params_plan(&f->params, f->pool, NULL));
    OK(at_pool_commit(f->pool));
    if (trainable)
        at_params_bind(&f->params);
    OK(at_adapter_upload(&f->adapter, &model, t->gpu, 0));
}

static void close_adapter(struct fixture *f)
{
    at_adapter_release(&f->adapter);
    at_params_release(&f->params);
    at_pool_destroy(&f->pool);
}

static float *read_tensor(struct gt *t, struct at_tensor tensor)
{
    float *values = gt_floats((size_t)tensor.dim[0] * tensor.dim[1], 1);

    OK(at_tensor_read(t->gpu, values, tensor));
    return values;
}

static void randomise_B(struct gt *t, struct at_adapter *adapter)
{
    for (size_t k = 0; k < N_MODULES; k++)
        if (adapter->rank[k] > 0) {
            const struct at_tensor B = adapter->lora[k].B;
            float *values = gt_floats((size_t)B.dim[0] * B.dim[1], 1);

            OK(at_tensor_write(t->gpu, B, values));
            free(values);
        }
}

/* scale * B A of module k, added to out (n_out, n_in) in double. */
static void add_product(struct gt *t, double *out, const struct at_adapter *adapter, size_t k)
{
    const struct at_lora *lora = &adapter->lora[k];
    const size_t r = adapter->rank[k], n_in = lora->A.dim[1], n_out = lora->B.dim[0];
    float *A, *B;

    if (r == 0)
        return;
    A = read_tensor(t, lora->A);
    B = read_tensor(t, lora->B);
    for (size_t i = 0; i < n_out; i++)
        for (size_t j = 0; j < n_in; j++)
            for (size_t q = 0; q < r; q++)
                out[i * n_in + j] +=
                    (double)lora->scale * (double)B[i * r + q] * (double)A[q * n_in + j];
    free(A);
    free(B);
}

static void require_equal(struct gt *t, struct at_tensor a, struct at_tensor b)
{
    float *x = read_tensor(t, a), *y = read_tensor(t, b);

    at_require_shape(a, b.dim[0], b.dim[1]);
    assert_memory_equal(x, y, (size_t)a.dim[0] * a.dim[1] * sizeof *x);
    free(x);
    free(y);
}

static int make_folder(void **state)
{
    (void)state;
    return system("rm -rf '" TMP "' && mkdir -p '" TMP "'");
}

static void fresh_adapter_is_uniform_and_zero(void **state)
{
    struct fixture f = { 0 }, again = { 0 }, other = { 0 };
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    open_adapter(&t, &f, "all-linear", 16, 32, false, 5);
    open_adapter(&t, &again, "q_proj", 16, 32, false, 5);
    open_adapter(&t, &other, "q_proj", 16, 32, false, 6);
    for (size_t k = 0; k < N_MODULES; k++) {
        const struct at_lora *lora = &f.adapter.lora[k];
        const double bound = 1 / sqrt(lora->A.dim[1]);
        const size_t n = (size_t)lora->A.dim[0] * lora->A.dim[1];
        float *A = read_tensor(&t, lora->A), *B = read_tensor(&t, lora->B);
        double sum = 0, square = 0, largest = 0;

        for (size_t i = 0; i < n; i++) {
            sum += (double)A[i];
            square += (double)A[i] * (double)A[i];
            largest = fmax(largest, fabs((double)A[i]));
        }
        assert_true(largest < bound && largest > 0.9 * bound);
        assert_true(fabs(sum / (double)n) < 4 * bound / sqrt(3.0 * (double)n));
        assert_true(fabs(square / (double)n / (bound * bound / 3) - 1) < 0.4);
        for (size_t i = 0; i < (size_t)lora->B.dim[0] * lora->B.dim[1]; i++)
            assert_true(B[i] == 0);
        free(A);
        free(B);
    }
    /* A module's start depends on seed, layer and module alone. */
    require_equal(&t, f.adapter.lora[AT_LINEARS].A, again.adapter.lora[AT_LINEARS].A);
    float *x = read_tensor(&t, f.adapter.lora[0].A), *y = read_tensor(&t, other.adapter.lora[0].A);
    float *z = read_tensor(&t, f.adapter.lora[AT_LINEARS].A);
    assert_memory_not_equal(x, y, 16 * 8 * sizeof *x);
    assert_memory_not_equal(x, z, 16 * 8 * sizeof *x);
    free(x);
    free(y);
    free(z);
    close_adapter(&f);
    close_adapter(&again);
    close_adapter(&other);
    gt_close(&t);
}

static void require_text(const char *part)
{
    struct at_buf text = { 0 };

    OK(at_file_read(&text, TMP "/adapter_config.json"));
    if (!strstr(text.data, part))
        fail_msg("adapter_config.json does not hold %s:\n%s", part, text.data);
    at_buf_release(&text);
}

/* Mean 0 and deviation 1 / rank, the module's own; 68.3 % within one deviation, as of no uniform
 * numbers (57.7 %). */
static void gaussian_adapter_has_deviation_of_one_over_its_rank(void **state)
{
    const struct at_adapter_params params = { .r = 512,
                                              .alpha = 1,
                                              .target_modules = "q_proj,down_proj",
                                              .rank_pattern = "{\"q_proj\":1024}",
                                              .gaussian = true };
    const struct at_adapter_record record = { 0 };
    struct fixture f = { 0 }, again = { 0 };
    const struct at_adapter *stack[] = { &f.adapter };
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    open_with(&t, &f, &params);
    for (size_t k = 0; k < N_MODULES; k++) {
        const struct at_lora *lora = &f.adapter.lora[k];
        const size_t n = f.adapter.rank[k] ? (size_t)lora->A.dim[0] * lora->A.dim[1] : 0;
        double sum = 0, square = 0, within = 0;
        float *A, *B;

        if (n == 0)
            continue;
        A = read_tensor(&t, lora->A);
        B = read_tensor(&t, lora->B);
        for (size_t i = 0; i < n; i++) {
            const double x = (double)A[i] * f.adapter.rank[k];
            sum += x;
            square += x * x;
            within += fabs(x) < 1;
        }
        assert_true(fabs(sum / (double)n) < 4 / sqrt((double)n));
        assert_true(fabs(square / (double)n - 1) < 4 * sqrt(2 / (double)n));
        assert_true(fabs(within / (double)n - 0.6827) < 4 * sqrt(0.2166 / (double)n));
        for (size_t i = 0; i < (size_t)lora->B.dim[0] * lora->B.dim[1]; i++)
            assert_true(B[i] == 0);
        free(A);
        free(B);
    }
    OK(at_adapter_save(TMP, t.gpu, &model, stack, 1, &record));
    require_text("\"init_lora_weights\": \"gaussian\"");
    load_adapter(&t, &again, TMP, true);
    assert_true(again.adapter.gaussian);
    close_adapter(&again);
    close_adapter(&f);
    gt_close(&t);
}

static void written_adapter_is_read_back(void **state)
{
    const struct at_adapter_record record = { .base_model = "base \"x\"", .dropout = 0.05 };
    struct fixture f = { 0 }, frozen = { 0 }, trained = { 0 };
    const struct at_adapter *stack[] = { &f.adapter };
    struct at_buf names = { 0 };
    cJSON *config = NULL;
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    open_adapter(&t, &f, "v_proj,down_proj", 3, 6, true, 1);
    randomise_B(&t, &f.adapter);
    OK(at_adapter_save(TMP, t.gpu, &model, stack, 1, &record));
    load_adapter(&t, &frozen, TMP, false);
    load_adapter(&t, &trained, TMP, true);
    OK(at_adapter_check_moved(&names, t.gpu, &trained.adapter)); /* B is not zero, but as it was */
    assert_non_null(strstr(names.data, "layers.1.mlp.down_proj.lora_B.weight"));
    randomise_B(&t, &trained.adapter);
    OK(at_adapter_check_moved(&names, t.gpu, &trained.adapter));
    assert_string_equal(names.data, "");
    at_buf_release(&names);
    close_adapter(&trained);
    load_adapter(&t, &trained, TMP, true);
    assert_false(frozen.adapter.trainable);
    assert_null(frozen.adapter.reference);
    assert_true(trained.adapter.trainable);
    assert_non_null(trained.adapter.reference);
    for (size_t k = 0; k < N_MODULES; k++) {
        assert_int_equal(frozen.adapter.rank[k], f.adapter.rank[k]);
        if (f.adapter.rank[k] == 0)
            continue;
        assert_true(frozen.adapter.lora[k].scale == f.adapter.lora[k].scale);
        assert_true(trained.adapter.reference[k].scale == f.adapter.lora[k].scale);
        require_equal(&t, frozen.adapter.lora[k].A, f.adapter.lora[k].A);
        require_equal(&t, frozen.adapter.lora[k].B, f.adapter.lora[k].B);
        require_equal(&t, trained.adapter.lora[k].B, f.adapter.lora[k].B);
        require_equal(&t, trained.adapter.reference[k].A, f.adapter.lora[k].A);
        require_equal(&t, trained.adapter.reference[k].B, f.adapter.lora[k].B);
        assert_null(frozen.adapter.lora[k].dA.view.buffer);
        assert_null(trained.adapter.reference[k].dB.view.buffer);
        assert_non_null(trained.adapter.lora[k].dA.view.buffer);
    }
    OK(at_json_load(&config, TMP "/adapter_config.json"));
    assert_string_equal(at_json_find(config, "base_model_name_or_path")->valuestring, "base \"x\"");
    assert_true(at_json_find(config, "lora_alpha")->valuedouble == 6);
    assert_true(at_json_find(config, "lora_dropout")->valuedouble == 0.05);
    assert_true(cJSON_IsTrue(at_json_find(config, "use_rslora")));
    assert_int_equal(cJSON_GetArraySize(at_json_find(config, "target_modules")), 2);
    at_json_free(&config);
    close_adapter(&f);
    close_adapter(&frozen);
    close_adapter(&trained);
    gt_close(&t);
}

/* Two adapters, one with rsLoRA, over different modules; alone a module may have either or both. */
static void stack_is_written_as_one_adapter_with_the_sum_of_products(void **state)
{
    const struct at_adapter_record record = { 0 };
    struct fixture a = { 0 }, b = { 0 }, one = { 0 };
    const struct at_adapter *stack[] = { &a.adapter, &b.adapter };
    cJSON *config = NULL;
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    open_adapter(&t, &a, "q_proj,gate_proj", 3, 7, true, 1);
    open_adapter(&t, &b, "model\\.layers\\.1\\..*(q|o)_proj", 4, 6, false, 2);
    randomise_B(&t, &a.adapter);
    randomise_B(&t, &b.adapter);
    OK(at_adapter_save(TMP, t.gpu, &model, stack, 2, &record));
    load_adapter(&t, &one, TMP, false);
    assert_int_equal(one.adapter.r, 7);
    for (size_t k = 0; k < N_MODULES; k++) {
        const bool used = a.adapter.rank[k] > 0 || b.adapter.rank[k] > 0;
        size_t n;

        assert_int_equal(one.adapter.rank[k], used ? 7 : 0);
        if (!used)
            continue;
        assert_true(one.adapter.lora[k].scale == 1);
        n = (size_t)one.adapter.lora[k].A.dim[1] * one.adapter.lora[k].B.dim[0];
        double *want = calloc(n, sizeof *want), *got = calloc(n, sizeof *got);
        add_product(&t, want, &a.adapter, k);
        add_product(&t, want, &b.adapter, k);
        add_product(&t, got, &one.adapter, k);
        for (size_t i = 0; i < n; i++)
            if (!(fabs(got[i] - want[i]) <= 1e-6 * (1 + fabs(want[i])))) /* scaled once in f32 */
                fail_msg("module %zu [%zu]: got %.9g, want %.9g", k, i, got[i], want[i]);
        free(want);
        free(got);
    }
    OK(at_json_load(&config, TMP "/adapter_config.json"));
    assert_true(cJSON_IsNull(at_json_find(config, "base_model_name_or_path")));
    assert_int_equal(cJSON_GetArraySize(at_json_find(config, "target_modules")), 5);
    assert_string_equal(at_json_find(config, "target_modules")->child->valuestring,
                        "model.layers.0.mlp.gate_proj"); /* layers differ: full paths, sorted */
    at_json_free(&config);
    close_adapter(&a);
    close_adapter(&b);
    close_adapter(&one);
    gt_close(&t);
}

/* Ranks and alphas of a's module k, as an adapter that was read back has them. */
static void require_like(struct gt *t, const struct at_adapter *got, const struct at_adapter *a)
{
    for (size_t k = 0; k < N_MODULES; k++) {
        assert_int_equal(got->rank[k], a->rank[k]);
        if (a->rank[k] == 0)
            continue;
        assert_true(got->lora[k].scale == a->lora[k].scale);
        require_equal(t, got->lora[k].A, a->lora[k].A);
        require_equal(t, got->lora[k].B, a->lora[k].B);
    }
}

/* Keys are names where layers agree, else paths; alone, and under a second adapter. */
static void patterns_are_written_and_read_back(void **state)
{
    const struct at_adapter_params params = {
        .r = 4,
        .alpha = 6,
        .rslora = true,
        .target_modules = "q_proj,v_proj,down_proj",
        .rank_pattern = "{\"q_proj\":2,\"layers.1.mlp.down_proj\":3}",
        .alpha_pattern = "{\"layers.0.*\":5,\"down_proj\":7}",
    };
    const struct at_adapter_record record = { 0 };
    struct fixture a = { 0 }, b = { 0 }, one = { 0 };
    const struct at_adapter *stack[] = { &a.adapter, &b.adapter };
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    open_with(&t, &a, &params);
    open_adapter(&t, &b, "q_proj", 1, 3, false, 2);
    randomise_B(&t, &a.adapter);
    randomise_B(&t, &b.adapter);
    OK(at_adapter_save(TMP, t.gpu, &model, stack, 1, &record));
    require_text("\"alpha_pattern\": {\n    \"model.layers.0.self_attn.q_proj\": 5,\n"
                 "    \"model.layers.0.self_attn.v_proj\": 5,\n"
                 "    \"model.layers.0.mlp.down_proj\": 5,\n"
                 "    \"model.layers.1.mlp.down_proj\": 7\n  },");
    require_text("\"rank_pattern\": {\n    \"q_proj\": 2,\n"
                 "    \"model.layers.1.mlp.down_proj\": 3\n  },");
    load_adapter(&t, &one, TMP, true);
    require_like(&t, &one.adapter, &a.adapter);
    close_adapter(&one);
    OK(at_adapter_save(TMP, t.gpu, &model, stack, 2, &record));
    load_adapter(&t, &one, TMP, false);
    assert_int_equal(one.adapter.rank[0], 3);
    assert_int_equal(one.adapter.rank[AT_LINEARS + 6], 4);
    for (size_t k = 0; k < N_MODULES; k++) {
        double want[12 * 16] = { 0 }, got[12 * 16] = { 0 };

        if (one.adapter.rank[k] == 0)
            continue;
        assert_true(one.adapter.lora[k].scale == 1);
        add_product(&t, want, &a.adapter, k);
        add_product(&t, want, &b.adapter, k);
        add_product(&t, got, &one.adapter, k);
        for (size_t i = 0; i < AT_COUNT(want); i++)
            if (!(fabs(got[i] - want[i]) <= 1e-6 * (1 + fabs(want[i])))) /* scaled once in f32 */
                fail_msg("module %zu [%zu]: got %.9g, want %.9g", k, i, got[i], want[i]);
    }
    close_adapter(&a);
    close_adapter(&b);
    close_adapter(&one);
    gt_close(&t);
}

static void non_finite_adapter_is_not_written_and_named(void **state)
{
    const struct at_adapter_record record = { 0 };
    struct fixture f = { 0 };
    const struct at_adapter *stack[] = { &f.adapter };
    float bad[8 * 2] = { 0, 0, 0, NAN };
    struct at_buf names = { 0 };
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    open_adapter(&t, &f, "down_proj", 2, 4, false, 1);
    randomise_B(&t, &f.adapter);
    OK(at_adapter_check_moved(&names, t.gpu, &f.adapter));
    assert_string_equal(names.data, "");
    OK(at_tensor_write(t.gpu, f.adapter.lora[6].B, bad));
    OK(at_adapter_check_moved(&names, t.gpu, &f.adapter));
    assert_string_equal(names.data, "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight");
    assert_int_equal(at_adapter_save(TMP "/out", t.gpu, &model, stack, 1, &record), AT_NUMERIC);
    assert_non_null(strstr(at_message(), "layers.0.mlp.down_proj.lora_B.weight: value 3 is NaN"));
    assert_true(at_dir_is_empty(TMP "/out"));
    memset(bad, 0, sizeof bad);
    OK(at_tensor_write(t.gpu, f.adapter.lora[13].B, bad));
    OK(at_adapter_check_moved(&names, t.gpu, &f.adapter));
    assert_non_null(strstr(names.data, "layers.0.mlp.down_proj.lora_B.weight, base_model"));
    assert_non_null(strstr(names.data, "layers.1.mlp.down_proj.lora_B.weight"));
    at_buf_release(&names);
    close_adapter(&f);
    gt_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(fresh_adapter_is_uniform_and_zero, make_folder),
        cmocka_unit_test_setup(gaussian_adapter_has_deviation_of_one_over_its_rank, make_folder),
        cmocka_unit_test_setup(written_adapter_is_read_back, make_folder),
        cmocka_unit_test_setup(stack_is_written_as_one_adapter_with_the_sum_of_products,
                               make_folder),
        cmocka_unit_test_setup(patterns_are_written_and_read_back, make_folder),
        cmocka_unit_test_setup(non_finite_adapter_is_not_written_and_named, make_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
