/* A model whose matrices are larger than what a device binds, and of which nothing is trained: its
 * replies and log-probs are those of a device that binds all of them. */
#include "gpu_test.h"

#include "engine.h"
#include "generate.h"
#include "model_files.h"

#define TMP BUILD_DIR "/test_tmp/bindings"

/* In f32: embedding and head 5 MiB each, 3 matrices of the MLP of 1.5 MiB. */
enum { VOCABULARY = 10240, WIDTH = 128, WIDE = 3072, PROMPT = 9, NEW = 7, RANGE = 1040 << 10 };
enum { PAIR = 2 * NEW };
static const char config[] =
    "{\"model_type\": \"llama\", \"hidden_size\": 128, \"num_attention_heads\": 4,"
    "\"num_key_value_heads\": 2, \"intermediate_size\": 3072, \"vocab_size\": 10240,"
    "\"num_hidden_layers\": 1, \"rms_norm_eps\": 1e-5, \"hidden_act\": \"silu\","
    "\"max_position_embeddings\": 64, \"tie_word_embeddings\": false}";

static void write_model(void)
{
#define LAYER "model.layers.0."
    static struct at_save_tensor tensors[] = {
        { "model.embed_tokens.weight", 2, { VOCABULARY, WIDTH }, NULL },
        { "lm_head.weight", 2, { VOCABULARY, WIDTH }, NULL },
        { "model.norm.weight", 1, { WIDTH }, NULL },
        { LAYER "input_layernorm.weight", 1, { WIDTH }, NULL },
        { LAYER "post_attention_layernorm.weight", 1, { WIDTH }, NULL },
        { LAYER "self_attn.q_proj.weight", 2, { WIDTH, WIDTH }, NULL },
        { LAYER "self_attn.k_proj.weight", 2, { WIDTH / 2, WIDTH }, NULL },
        { LAYER "self_attn.v_proj.weight", 2, { WIDTH / 2, WIDTH }, NULL },
        { LAYER "self_attn.o_proj.weight", 2, { WIDTH, WIDTH }, NULL },
        { LAYER "mlp.gate_proj.weight", 2, { WIDE, WIDTH }, NULL },
        { LAYER "mlp.up_proj.weight", 2, { WIDE, WIDTH }, NULL },
        { LAYER "mlp.down_proj.weight", 2, { WIDTH, WIDE }, NULL },
    };
#undef LAYER
    static float values[VOCABULARY * WIDTH];

    for (size_t i = 0; i < AT_COUNT(values); i++)
        values[i] = ((float)(gt_random() % 2048) - 1024) / 4096;
    for (size_t i = 0; i < AT_COUNT(tensors); i++) /* each from another place */
        tensors[i].values = values + (tensors[i].dim[0] == VOCABULARY ? 0 : 64 * i);
    tensors[1].values = values;
    OK(at_dir_create(TMP));
    write_text(TMP "/config.json", config);
    OK(at_safetensors_write(TMP "/model.safetensors", tensors, AT_COUNT(tensors), NULL, 0));
}

struct answers {
    int32_t ids[2][NEW];
    float logps[2][NEW];
    struct at_segment_result sums[2];
};

static enum at_status take(void *context, const struct at_reply *reply)
{
    struct answers *a = context;

    assert_int_equal(reply->n, NEW);
    memcpy(a->ids[reply->sample], reply->ids, reply->n * sizeof *reply->ids);
    memcpy(a->logps[reply->sample], reply->logps, reply->n * sizeof *reply->logps);
    return AT_OK;
}

static void generate(struct answers *out, struct at_bundle *bundle, struct at_gpu_params gpu,
                     const struct at_prompt_ids *prompt)
{
    const struct at_generator_params params = { .gpu = gpu,
                                                .adapter_scale = 1,
                                                .sampler = { .n_sequences = 2,
                                                             .n_samples = 2,
                                                             .n_positions = PROMPT + NEW,
                                                             .n_prompt = PROMPT,
                                                             .n_new = NEW } };
    const struct at_generation what = { .prompts = prompt,
                                        .n_prompts = 1,
                                        .n_samples = 2,
                                        .max_new_tokens = NEW,
                                        .sampling = { .temperature = 1, .top_p = 1, .seed = 3 },
                                        .reply = take,
                                        .context = out };
    struct at_generator *generator = NULL;

    OK(at_generator_open(&generator, bundle->weights, &bundle->config, &params));
    if (gpu.max_range_bytes > 0)
        assert_int_equal(at_generator_get_info(generator)->max_range_bytes, RANGE);
    OK(at_generate(generator, &what));
    at_generator_close(&generator);
}

/* Log-probs of the two replies, as score and eval compute them. */
static void score(struct answers *out, struct at_bundle *bundle, struct at_gpu_params gpu,
                  const struct at_prompt_ids *prompt)
{
    const struct at_engine_params plan = { .gpu = gpu,
                                           .capacity = 64,
                                           .longest_row = PROMPT + PAIR };
    const struct at_compute what = { .policy = true };
    struct at_row_result result = { .n_segments = 2 };
    struct at_row row = {
        .prefix = prompt->ids, .n_prefix = PROMPT, .n_prompt = PROMPT, .n_segments = 2
    };
    const struct at_row *rows[] = { &row };
    uint8_t targets[NEW];
    struct at_engine engine;

    memset(targets, 1, sizeof targets);
    for (uint32_t k = 0; k < 2; k++)
        row.segment[k] = (struct at_segment){ out->ids[k], targets, NEW, NEW, NEW };
    OK(at_engine_plan(&engine, bundle, &plan));
    OK(at_engine_commit(&engine));
    OK(at_engine_rows(&engine, rows, &result, 1, &what));
    OK(at_engine_finish(&engine));
    memcpy(out->sums, result.policy, sizeof out->sums);
    at_engine_close(&engine);
}

static void small_bindings_change_no_bit(void **state)
{
    static const struct at_gpu_params gpus[] = {
        { .validate = true },
        { .validate = true, .max_range_bytes = RANGE },
        { .validate = true, .max_range_bytes = RANGE, .no_push_descriptors = true },
    };
    struct answers answers[AT_COUNT(gpus)];
    struct at_bundle bundle = { .path = TMP };
    int32_t ids[PROMPT];
    const struct at_prompt_ids prompt = { ids, PROMPT };
    double sum = 0;

    (void)state;
    at_gpu_close(&(struct at_gpu *){ gt_open_device(gpus[0]) }); /* or the test is skipped */
    write_model();
    for (uint32_t i = 0; i < PROMPT; i++)
        ids[i] = (int32_t)(gt_random() % VOCABULARY);
    OK(at_weights_open(&bundle.weights, TMP));
    OK(at_model_config_read(&bundle.config, bundle.weights));
    memset(answers, 0, sizeof answers);
    for (size_t i = 0; i < AT_COUNT(gpus); i++) {
        generate(&answers[i], &bundle, gpus[i], &prompt);
        score(&answers[i], &bundle, gpus[i], &prompt);
        assert_memory_equal(&answers[i], &answers[0], sizeof answers[i]);
    }
    for (uint32_t i = 0; i < NEW; i++)
        sum += (double)answers[0].logps[0][i];
    assert_true(sum < -NEW && fabs(sum - (double)answers[0].sums[0].logp) < 1e-4 * NEW);
    assert_memory_not_equal(answers[0].ids[0], answers[0].ids[1], sizeof answers[0].ids[0]);
    at_weights_close(&bundle.weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_bindings_change_no_bit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
