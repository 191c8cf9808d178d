/* Linear layers that read the same x: z = x A^T and dA = dz^T x by one product where the lora_A lie
 * together have the bits of one product a layer, as devices have it that bind views at multiples of
 * more than four columns; with a frozen adapter below, modules without an adapter and several
 * ranks.
 */
#include "gpu_test.h"

#include "engine.h"
#include "model_files.h"

#define TMP BUILD_DIR "/test_tmp/together"

enum { N_ROWS = 3, PREFIX = 19, SEGMENT = 23 };

struct rows {
    struct at_row rows[N_ROWS];
    const struct at_row *pointers[N_ROWS];
    int32_t prefix[N_ROWS][PREFIX], ids[N_ROWS][2][SEGMENT];
    uint8_t targets[SEGMENT];
};

static void make_rows(struct rows *r, uint32_t V)
{
    memset(r->targets, 1, sizeof r->targets);
    for (uint32_t i = 0; i < N_ROWS; i++) {
        r->rows[i] = (struct at_row){ .index = i,
                                      .prefix = r->prefix[i],
                                      .n_prefix = PREFIX,
                                      .n_prompt = PREFIX,
                                      .n_segments = 2 };
        for (uint32_t t = 0; t < PREFIX; t++)
            r->prefix[i][t] = (int32_t)(gt_random() % V);
        for (uint32_t k = 0; k < 2; k++) {
            const uint32_t n = SEGMENT - 3 * i - k;
            for (uint32_t t = 0; t < n; t++)
                r->ids[i][k][t] = (int32_t)(gt_random() % V);
            r->rows[i].segment[k] = (struct at_segment){ r->ids[i][k], r->targets, n, n, n };
        }
        r->pointers[i] = &r->rows[i];
    }
}

/* Values of all trainable tensors, of which lora_B would else be 0. */
static void move(struct at_engine *e)
{
    const size_t n = at_params_bytes(&e->params) / sizeof(float);
    float *p = malloc(n * sizeof *p), *zeros = calloc(n, sizeof *zeros);

    for (size_t i = 0; i < n; i++) /* the same in every engine */
        p[i] = (float)((i * 2654435761u >> 8) % 2001) / 8000 - 0.125f;
    OK(at_params_write(e->gpu, &e->params, p, zeros, zeros));
    free(p);
    free(zeros);
}

struct outcome {
    struct at_row_result results[N_ROWS];
    float *gradients;
    size_t n;
    uint64_t launches;
    bool columns; /* the device binds views at any four columns */
};

static void train(struct outcome *out, struct at_bundle *bundle,
                  const struct at_engine_params *params, const struct rows *rows)
{
    static const struct at_loss_term sigmoid = { "sigmoid", 1, NULL };
    const struct at_compute what = { .train = true,
                                     .policy = true,
                                     .reference = true,
                                     .losses = &sigmoid,
                                     .n_losses = 1,
                                     .kind = AT_LOSS_PAIR,
                                     .loss_params = { .beta = 0.1f },
                                     .weight = 1.0f / N_ROWS };
    struct at_engine e;
    uint64_t submissions, before;
    size_t at = 0;

    OK(at_engine_plan(&e, bundle, params));
    OK(at_engine_commit(&e));
    move(&e);
    for (uint32_t i = 0; i < N_ROWS; i++)
        out->results[i] = (struct at_row_result){ .n_segments = 2 };
    at_stream_counts(e.stream, &before, &submissions);
    OK(at_engine_rows(&e, rows->pointers, out->results, N_ROWS, &what));
    OK(at_engine_finish(&e));
    at_stream_counts(e.stream, &out->launches, &submissions);
    out->launches -= before;
    out->columns = at_gpu_get_info(e.gpu)->view_alignment <= AT_COLUMNS_ALIGNMENT;
    out->n = at_params_bytes(&e.params) / sizeof(float);
    out->gradients = malloc(out->n * sizeof(float));
    for (size_t i = 0; i < e.params.n_parts; i++) {
        const struct at_arena_part *part = &e.params.parts[i];
        OK(at_gpu_read(e.gpu, out->gradients + at, part->g, part->n * sizeof(float)));
        at += part->n;
    }
    assert_int_equal(at_gpu_validation_errors(e.gpu), 0);
    at_engine_close(&e);
}

/* Saves a fresh adapter that was moved. */
static void write_adapter(struct at_bundle *bundle, const char *targets)
{
    struct at_engine_params params = {
        .trainable = AT_TRAIN_FRESH,
        .capacity = 64,
        .longest_row = 64,
        .lora = { .r = 16, .alpha = 8, .target_modules = targets, .seed = 3 }
    };
    const struct at_adapter_record record = { .base_model = NULL };
    struct at_engine e;

    OK(at_engine_plan(&e, bundle, &params));
    OK(at_engine_commit(&e));
    move(&e);
    OK(at_adapter_save(TMP, e.gpu, &bundle->config, (const struct at_adapter *const *)e.stack, 1,
                       &record));
    at_engine_close(&e);
}

static void one_product_has_the_bits_of_several(void **state)
{
    /* below: targets of a frozen adapter; saves: launches of the step that are not needed together.
     * A forward pass over the two layers saves 6 for each adapter, the backward pass 6. */
    static const struct {
        const char *model, *targets, *rank_pattern, *below;
        uint32_t r, saves;
        float dropout;
        enum at_recompute recompute;
        bool continues;
        uint64_t max_range_bytes;
    } cases[] = {
        { "tiny_llama", "all-linear", NULL, NULL, 16, 12, 0, AT_RECOMPUTE_NONE, false, 0 },
        { "tiny_llama", "all-linear", NULL, NULL, 16, 12, 0, AT_RECOMPUTE_NONE, false, 1040 << 10 },
        { "tiny_llama", "all-linear", NULL, NULL, 16, 14, 0, AT_RECOMPUTE_MLP, false, 0 },
        { "tiny_llama", "all-linear", NULL, NULL, 16, 18, 0, AT_RECOMPUTE_LAYER, false, 0 },
        { "tiny_llama", "all-linear", NULL, NULL, 16, 0, 0.25f, AT_RECOMPUTE_NONE, false, 0 },
        { "tiny_llama", "all-linear", NULL, NULL, 16, 18, 0, AT_RECOMPUTE_NONE, true, 0 },
        { "tiny_llama", "q_proj,v_proj", NULL, NULL, 16, 4, 0, AT_RECOMPUTE_NONE, false, 0 },
        { "tiny_llama", "all-linear", NULL, NULL, 6, 0, 0, AT_RECOMPUTE_NONE, false, 0 },
        { "tiny_llama", "all-linear", "{\"v_proj\": 6, \"up_proj\": 6}", NULL, 16, 12, 0,
          AT_RECOMPUTE_NONE, false, 0 },
        { "tiny_llama", "all-linear", "{\"k_proj\": 32, \"up_proj\": 64}", "all-linear", 16, 24, 0,
          AT_RECOMPUTE_NONE, false, 0 },
        { "tiny_llama", "all-linear", NULL, "q_proj", 16, 8, 0, AT_RECOMPUTE_NONE, false, 0 },
        { "tiny_qwen2", "all-linear", NULL, NULL, 16, 12, 0, AT_RECOMPUTE_NONE, false, 0 },
    };
    const char *below[] = { TMP };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        struct at_bundle_params from = { .path = NULL };
        struct at_engine_params params = {
            .gpu = { .validate = true, .max_range_bytes = cases[i].max_range_bytes },
            .trainable = cases[i].continues ? AT_TRAIN_CONTINUE : AT_TRAIN_FRESH,
            .continue_dir = cases[i].continues ? TMP : NULL,
            .capacity = 320,
            .longest_row = 64,
            .lora = { .r = cases[i].r,
                      .alpha = 32,
                      .target_modules = cases[i].targets,
                      .rank_pattern = cases[i].rank_pattern,
                      .seed = 5 },
            .frozen_dirs = below,
            .n_frozen = cases[i].below != NULL,
            .recompute = cases[i].recompute,
            .dropout = cases[i].dropout
        };
        struct outcome together, apart;
        struct at_bundle bundle;
        struct rows rows;
        char path[512];
        uint64_t saves;

        snprintf(path, sizeof path, "%s/golden/models/%s", TEST_DIR, cases[i].model);
        from.path = path;
        at_gpu_close(&(struct at_gpu *){ gt_open_device(params.gpu) }); /* or it is skipped */
        OK(at_bundle_open(&bundle, &from));
        make_rows(&rows, bundle.config.V);
        if (cases[i].below || cases[i].continues)
            write_adapter(&bundle, cases[i].below ? cases[i].below : cases[i].targets);
        train(&together, &bundle, &params, &rows);
        params.gpu.view_alignment = 256;
        train(&apart, &bundle, &params, &rows);
        saves = together.columns ? cases[i].saves : 0;
        if (together.n != apart.n ||
            memcmp(together.gradients, apart.gradients, apart.n * sizeof(float)) != 0)
            fail_msg("case %zu: gradients have other bits", i);
        assert_memory_equal(together.results, apart.results, sizeof apart.results);
        if (apart.launches - together.launches != saves)
            fail_msg("case %zu: %llu launches together, %llu apart, %llu fewer expected", i,
                     (unsigned long long)together.launches, (unsigned long long)apart.launches,
                     (unsigned long long)saves);
        free(together.gradients);
        free(apart.gradients);
        at_bundle_close(&bundle);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_product_has_the_bits_of_several),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
