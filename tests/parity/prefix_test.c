/* Prompts computed once = prompts repeated before each side: log-probs of a pair on a tiny model
 * with three query heads a kv head, and the same when rows are packed behind each other. */
#include "gpu_test.h"

#include "engine.h"
#include "tolerances.h"

enum { N_ROWS = 5, MAX_PREFIX = 23, MAX_SEGMENT = 17 };

struct rows {
    struct at_row rows[N_ROWS];
    const struct at_row *pointers[N_ROWS];
    int32_t prefix[N_ROWS][MAX_PREFIX], ids[N_ROWS][2][MAX_SEGMENT];
    uint8_t targets[N_ROWS][2][MAX_SEGMENT];
};

/* Pairs of random ids; prompts and sides of several lengths, one prompt of a single token. */
static void make_rows(struct rows *r, uint32_t V)
{
    static const uint32_t n_prefix[N_ROWS] = { 23, 1, 16, 7, 11 };
    static const uint32_t n_segment[N_ROWS][2] = {
        { 17, 4 }, { 1, 9 }, { 16, 16 }, { 3, 2 }, { 12, 17 }
    };

    for (uint32_t i = 0; i < N_ROWS; i++) {
        struct at_row *row = &r->rows[i];

        for (uint32_t t = 0; t < n_prefix[i]; t++)
            r->prefix[i][t] = (int32_t)(gt_random() % V);
        *row = (struct at_row){ .index = i,
                                .prefix = r->prefix[i],
                                .n_prefix = n_prefix[i],
                                .n_prompt = n_prefix[i],
                                .n_segments = 2 };
        for (uint32_t k = 0; k < 2; k++) {
            const uint32_t n = n_segment[i][k];
            for (uint32_t t = 0; t < n; t++)
                r->ids[i][k][t] = (int32_t)(gt_random() % V);
            memset(r->targets[i][k], 1, n);
            row->segment[k] = (struct at_segment){ r->ids[i][k], r->targets[i][k], n, n, n };
        }
        r->pointers[i] = row;
    }
}

/* Sums of log-probs of the rows' sides from one slab. */
static void forward(struct at_engine *e, const struct at_row *const *rows, uint32_t n, bool shared,
                    float *logp)
{
    struct at_segment_result sums[2 * N_ROWS];
    struct at_slab *slab = &e->slab;
    const uint64_t bytes = 2ul * n * sizeof *sums;

    (shared ? at_slab_fill : at_slab_fill_unshared)(slab, rows, n);
    const struct at_batch b = at_engine_batch(slab);

    assert_int_equal(slab->n_segments, 2 * n);
    at_decoder_begin(e->stream, &e->decoder, &b);
    at_decoder_forward(e->stream, &e->decoder, &b, AT_PASS_POLICY_EVAL,
                       at_view_part(e->decoder.sums, 0, bytes));
    at_stream_download(e->stream, sums, e->decoder.sums, bytes);
    OK(at_stream_wait(e->stream));
    for (uint32_t s = 0; s < 2 * n; s++)
        logp[s] = sums[s].logp;
}

static void prompt_computed_once_equals_prompt_repeated(void **state)
{
    static const char *const models[] = { "tiny_llama", "tiny_qwen2" };

    (void)state;
    for (size_t m = 0; m < AT_COUNT(models); m++) {
        struct at_bundle_params params = { .path = NULL };
        struct at_engine_params plan = { .gpu = { .validate = true }, .capacity = 320 };
        struct at_bundle bundle;
        struct at_engine engine;
        struct rows rows;
        float once[2 * N_ROWS], repeated[2 * N_ROWS], alone[2 * N_ROWS];
        char path[512];

        snprintf(path, sizeof path, "%s/golden/models/%s", TEST_DIR, models[m]);
        params.path = path;
        at_gpu_close(&(struct at_gpu *){ gt_open_device(plan.gpu) }); /* or the test is skipped */
        OK(at_bundle_open(&bundle, &params));
        OK(at_engine_plan(&engine, &bundle, &plan));
        OK(at_engine_commit(&engine));
        make_rows(&rows, bundle.config.V);
        forward(&engine, rows.pointers, N_ROWS, true, once);
        forward(&engine, rows.pointers, N_ROWS, false, repeated);
        for (uint32_t i = 0; i < N_ROWS; i++)
            forward(&engine, &rows.pointers[i], 1, true, alone + 2 * i);
        assert_memory_equal(once, alone, sizeof once);
        for (uint32_t s = 0; s < 2 * N_ROWS; s++)
            if (!(fabsf(once[s] - repeated[s]) <= (float)TOL_PREFIX * fabsf(repeated[s])))
                fail_msg("%s: side %u: %.9g with a shared prompt, %.9g without", models[m], s,
                         (double)once[s], (double)repeated[s]);
        at_engine_close(&engine);
        at_bundle_close(&bundle);
    }
}

/* Kernels are chosen by the window: hidden states of a row that it does not cut have the same bits
 * beside rows that it cuts. */
static void rows_with_windows_do_not_depend_on_their_slab(void **state)
{
    enum { SHORT = 1, STATES = 10, C = 36 };
    struct at_bundle_params params = { .path = TEST_DIR "/golden/models/tiny_llama" };
    struct at_engine_params plan = { .gpu = { .validate = true },
                                     .capacity = 320,
                                     .trainable = AT_TRAIN_FULL,
                                     .from_scratch = true,
                                     .seed = 1 };
    const struct at_row *order[2];
    float sums[4], hidden[2][STATES * C];
    struct at_bundle bundle;
    struct at_engine engine;
    struct rows rows;

    (void)state;
    at_gpu_close(&(struct at_gpu *){ gt_open_device(plan.gpu) });
    OK(at_bundle_open(&bundle, &params));
    bundle.config.family = at_family_find("mistral");
    bundle.config.D = 16; /* of which there are kernels without windows alone */
    bundle.config.window = 12;
    at_layers_default(&bundle.config, 0, 0, 0);
    OK(at_engine_plan(&engine, &bundle, &plan));
    OK(at_engine_commit(&engine));
    make_rows(&rows, bundle.config.V);
    order[0] = rows.pointers[SHORT];
    order[1] = rows.pointers[0];
    for (uint32_t n = 1; n <= 2; n++) {
        forward(&engine, order, n, true, sums);
        OK(at_tensor_read(engine.gpu, hidden[n - 1],
                          at_tensor_rows(engine.decoder.rows, 0, STATES)));
    }
    assert_memory_equal(hidden[0], hidden[1], sizeof *hidden);
    at_engine_close(&engine);
    at_bundle_close(&bundle);
}

/* What the last layer saves behind attention is of the sources alone, that of the layer before of
 * all tokens. */
static void last_layer_goes_over_sources_alone(void **state)
{
    enum { T = 48 };
    struct at_bundle_params params = { .path = TEST_DIR "/golden/models/tiny_llama" };
    struct at_engine_params plan = { .gpu = { .validate = true },
                                     .capacity = 320,
                                     .trainable = AT_TRAIN_FULL,
                                     .from_scratch = true,
                                     .seed = 1 };
    struct at_bundle bundle;
    struct at_engine e;
    struct rows rows;

    (void)state;
    at_gpu_close(&(struct at_gpu *){ gt_open_device(plan.gpu) });
    OK(at_bundle_open(&bundle, &params));
    OK(at_engine_plan(&e, &bundle, &plan));
    OK(at_engine_commit(&e));
    make_rows(&rows, bundle.config.V);
    at_slab_fill(&e.slab, rows.pointers, 1);
    assert_int_equal(e.slab.T, T);
    assert_int_equal(e.slab.S, 32);
    const struct at_batch b = at_engine_batch(&e.slab);
    for (uint32_t l = bundle.config.L - 2; l < bundle.config.L; l++) {
        struct at_tensor gate = at_tensor_rows(e.decoder.layers[l].gate, 0, T);
        float *values = calloc(T, gate.dim[1] * sizeof *values);

        assert_non_null(values);
        OK(at_tensor_write(e.gpu, gate, values));
        at_decoder_begin(e.stream, &e.decoder, &b);
        at_decoder_forward(e.stream, &e.decoder, &b, AT_PASS_POLICY_TRAIN, e.decoder.sums);
        OK(at_stream_wait(e.stream));
        OK(at_tensor_read(e.gpu, values, gate));
        for (uint32_t t = 0; t < T; t++) {
            const bool computed = l + 1 < bundle.config.L || t < e.slab.S;
            if ((values[(size_t)t * gate.dim[1]] != 0) != computed)
                fail_msg("layer %u: row %u was %scomputed", l, t, computed ? "not " : "");
        }
        free(values);
    }
    at_engine_close(&e);
    at_bundle_close(&bundle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(last_layer_goes_over_sources_alone),
        cmocka_unit_test(prompt_computed_once_equals_prompt_repeated),
        cmocka_unit_test(rows_with_windows_do_not_depend_on_their_slab),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
