/* links: base gpu ops model */
/* Host memory while weights go from a file to the device: bounded, whatever the file's size. The
 * model is of zeros in a sparse file, most of it a large vocabulary. */
#include "gpu_test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "model.h"
#include "model_files.h"

#define TMP BUILD_DIR "/test_tmp/load"

/* 25 MiB of embedding, which is the head too, and 3 x 12 MiB of MLP, all in halves. */
enum { VOCABULARY = 50 << 10, WIDTH = 256, WIDE = 24576, EXTRA_MIB = 32 };
static const char config[] =
    "{\"model_type\": \"llama\", \"hidden_size\": 256, \"num_attention_heads\": 4,"
    "\"num_key_value_heads\": 4, \"intermediate_size\": 24576, \"vocab_size\": 51200,"
    "\"num_hidden_layers\": 1, \"rms_norm_eps\": 1e-5, \"hidden_act\": \"silu\","
    "\"max_position_embeddings\": 64, \"tie_word_embeddings\": true}";

static uint64_t put_bf16(struct at_buf *header, uint64_t at, const char *name, uint64_t rows,
                         uint64_t cols)
{
    const uint64_t end = at + 2 * (rows > 0 ? rows : 1) * cols;

    at_buf_printf(header, "%s\"%s\": {\"dtype\": \"BF16\", \"shape\": [", at > 0 ? ", " : "{",
                  name);
    if (rows > 0)
        at_buf_printf(header, "%llu, ", (unsigned long long)rows);
    at_buf_printf(header, "%llu], \"data_offsets\": [%llu, %llu]}", (unsigned long long)cols,
                  (unsigned long long)at, (unsigned long long)end);
    return end;
}

static void write_model(void)
{
    static const struct {
        const char *name;
        uint64_t rows, cols;
    } tensors[] = {
        { "model.embed_tokens.weight", VOCABULARY, WIDTH },
        { "model.norm.weight", 0, WIDTH },
#define LAYER "model.layers.0."
        { LAYER "input_layernorm.weight", 0, WIDTH },
        { LAYER "post_attention_layernorm.weight", 0, WIDTH },
        { LAYER "self_attn.q_proj.weight", WIDTH, WIDTH },
        { LAYER "self_attn.k_proj.weight", WIDTH, WIDTH },
        { LAYER "self_attn.v_proj.weight", WIDTH, WIDTH },
        { LAYER "self_attn.o_proj.weight", WIDTH, WIDTH },
        { LAYER "mlp.gate_proj.weight", WIDE, WIDTH },
        { LAYER "mlp.up_proj.weight", WIDE, WIDTH },
        { LAYER "mlp.down_proj.weight", WIDTH, WIDE },
#undef LAYER
    };
    struct at_buf header = { 0 };
    uint64_t n = 0;

    for (size_t i = 0; i < AT_COUNT(tensors); i++)
        n = put_bf16(&header, n, tensors[i].name, tensors[i].rows, tensors[i].cols);
    at_buf_puts(&header, "}");
    OK(at_buf_status(&header));
    write_text(TMP "/config.json", config);
    write_safetensors(TMP "/model.safetensors", header.data, "", 0);
    assert_int_equal(truncate(TMP "/model.safetensors", (off_t)(8 + header.n + n)), 0);
    at_buf_release(&header);
}

/* The peak of this process's memory from here on. */
static void forget_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");

    assert_non_null(file);
    assert_true(fputs("5", file) >= 0 && fclose(file) == 0);
}

enum { PARTS = 2 };     /* a layer, and what is behind it */
static uint32_t loaded; /* as the sink was told */

static void count_parts(uint32_t done, uint32_t n)
{
    assert_int_equal(done, ++loaded);
    assert_int_equal(n, PARTS);
}

/* Loads it, trainable or with matrices of this type, and looks at the peak. */
static void load(bool trainable, enum at_quant_type type)
{
    struct at_gpu *gpu = gt_open_device((struct at_gpu_params){ 0 });
    struct at_model_config c;
    struct at_weights *weights = NULL;
    struct at_params params = { 0 };
    struct at_pool *pool = NULL;
    struct at_model model = { 0 };
    uint64_t before = 0, after = 0, device = 0;

    loaded = 0;
    forget_peak();
    before = at_memory_peak_bytes();
    OK(at_weights_open(&weights, TMP));
    at_weights_quantise(weights,
                        &(struct at_quantise_params){ .type = type, .nested = type == AT_NF4 });
    OK(at_model_config_read(&c, weights));
    OK(at_pool_create(&pool, gpu, "model"));
    if (trainable)
        OK(at_params_init(&params, at_gpu_get_info(gpu)->max_range_bytes));
    OK(at_model_plan(&model, &c, weights, pool, trainable ? &params : NULL, 64, NULL));
    if (trainable)
        OK(at_params_plan(&params, pool, NULL));
    OK(at_pool_commit(pool));
    if (trainable)
        at_params_bind(&params);
    OK(at_model_upload(&model, gpu, 0));
    assert_int_equal(loaded, PARTS);
    after = at_memory_peak_bytes();
    /* on a processor the device's memory is this process's */
    device = at_gpu_get_info(gpu)->host_memory_is_device_memory ? at_pool_bytes(pool) : 0;
    printf("%s: %.1f MiB of host memory, %.1f MiB of it the device's\n",
           trainable ? "trainable" : at_quant_get(type)->name, (double)(after - before) / 1048576,
           (double)device / 1048576);
    if (after - before > device + ((uint64_t)EXTRA_MIB << 20))
        fail_msg("%s: %llu bytes of host memory beside the device's %llu; at most %d MiB expected",
                 trainable ? "trainable" : at_quant_get(type)->name,
                 (unsigned long long)(after - before - device), (unsigned long long)device,
                 EXTRA_MIB);
    at_model_release(&model);
    at_params_release(&params);
    at_pool_destroy(&pool);
    at_weights_close(&weights);
    at_gpu_close(&gpu);
}

static void loading_takes_little_host_memory(void **state)
{
    (void)state;
    write_model();
    at_model_set_loading_sink(count_parts);
    load(false, AT_F32);
    load(false, AT_NF4);
    load(false, AT_INT8);
    load(true, AT_F32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loading_takes_little_host_memory),
    };

    (void)!mkdir(BUILD_DIR "/test_tmp", 0777);
    (void)!mkdir(TMP, 0777);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
