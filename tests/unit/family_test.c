/* links: base gpu ops model */
/* Families and their configurations: from config.json and from GGUF metadata; what is not computed
 * is refused by name. */
#include "model_files.h"

#include "model.h"

#define TMP BUILD_DIR "/test_tmp/family"
#define FILE_PATH TMP "/a.gguf"

static int make_folder(void **state)
{
    (void)state;
    return system("rm -rf '" TMP "' && mkdir -p '" TMP "'");
}

static void every_family_is_found_by_both_names(void **state)
{
    static const struct {
        const char *name, *gguf;
        uint32_t biases;
        bool permutes;
    } want[] = {
        { "falcon", "falcon", 0, false },      { "granite", "granite", 0, true },
        { "olmo2", "olmo2", 0, false },        { "phi3", "phi3", 0, false },
        { "stablelm", "stablelm", 0, false },  { "gemma2", "gemma2", 0, false },
        { "gemma3_text", "gemma3", 0, false }, { "llama", "llama", 0, true },
        { "mistral", "llama", 0, true },       { "qwen2", "qwen2", AT_SET_QKV, false },
        { "qwen3", "qwen3", 0, false },        { "smollm3", "smollm3", 0, true },
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(want); i++) {
        const struct at_family *family = at_family_find(want[i].name);

        assert_non_null(family);
        assert_ptr_equal(family, at_family_find_gguf(want[i].gguf, family->windows != 0));
        assert_string_equal(family->name, want[i].name);
        assert_int_equal(family->biases, want[i].biases);
        assert_int_equal(family->gguf_permutes_qk, want[i].permutes);
        assert_non_null(strstr(at_family_names(), want[i].name));
    }
    assert_null(at_family_find("gpt2"));
    assert_null(at_family_find_gguf("gpt2", false));
}

static void roles_and_linears_have_their_names(void **state)
{
    const struct at_family *llama = at_family_find("llama"), *phi3 = at_family_find("phi3");
    const struct at_family *falcon = at_family_find("falcon");

    (void)state;
    for (uint32_t role = 0; role < AT_ROLE_COUNT; role++) {
        const bool layered = role >= AT_ATTN_NORM && role != AT_FINAL_NORM_BIAS;

        assert_int_equal(strstr(at_role_name(llama, role), "%u") != NULL, layered);
        assert_int_equal(strstr(at_role_gguf_name(llama, role), "%u") != NULL, layered);
    }
    for (uint32_t i = 0; i < AT_LINEARS; i++) {
        const size_t n = strlen(at_linear_path(llama, i));

        assert_memory_equal(at_role_name(llama, AT_Q + i), at_linear_path(llama, i), n);
        assert_string_equal(at_role_name(llama, AT_Q + i) + n, ".weight");
        assert_string_equal(at_linear_path(llama, i) + n - strlen(at_linear_name(llama, i)),
                            at_linear_name(llama, i));
        assert_int_equal(at_linear_module(llama, i), i);
    }
    assert_string_equal(at_linear_name(llama, 3), "o_proj");
    assert_string_equal(at_role_gguf_name(llama, AT_DOWN), "blk.%u.ffn_down.weight");
    assert_string_equal(at_linear_name(phi3, 2), "qkv_proj");
    assert_int_equal(at_linear_module(phi3, 2), 0);
    assert_int_equal(at_linear_module(phi3, 3), 3);
    assert_int_equal(at_linear_module(phi3, 5), 4);
    assert_null(at_linear_path(falcon, 4));
    assert_null(at_role_name(falcon, AT_MLP_NORM));
    assert_true(at_family_saves_embedding(phi3) && !at_family_saves_embedding(falcon));
    assert_int_equal(at_linear_module(falcon, 5), 5);
    assert_string_equal(at_role_name(at_family_variant(falcon), AT_MLP_NORM),
                        "transformer.h.%u.ln_mlp.weight");
    assert_null(at_family_variant(at_family_variant(falcon)));
    assert_null(at_family_variant(llama));
}

/* A fused matrix's rows: side by side, or grouped by key-value head. */
static void rows_of_modules_are_found(void **state)
{
    struct at_model_config c = { .C = 40, .H = 4, .G = 2, .D = 8, .F = 20 };
    uint32_t in, out;

    (void)state;
    c.family = at_family_find("phi3");
    at_module_shape(&c, 1, &in, &out);
    assert_int_equal(in, 40);
    assert_int_equal(out, 32 + 16 + 16);
    assert_int_equal(at_module_row(&c, 0, 31, false), 31);
    assert_int_equal(at_module_row(&c, 1, 3, false), 32 + 3);
    assert_int_equal(at_module_row(&c, 2, 3, false), 48 + 3);
    assert_int_equal(at_module_row(&c, 5, 7, false), 20 + 7);
    assert_int_equal(at_module_row(&c, 6, 7, false), 7);
    c.family = at_family_find("falcon"); /* q0 q1 k v of each of two groups, 8 rows each */
    assert_int_equal(at_module_row(&c, 0, 8 + 1, false), 8 + 1);
    assert_int_equal(at_module_row(&c, 0, 16 + 1, false), 32 + 1);
    assert_int_equal(at_module_row(&c, 1, 2, false), 16 + 2);
    assert_int_equal(at_module_row(&c, 1, 8 + 2, false), 48 + 2);
    assert_int_equal(at_module_row(&c, 2, 8 + 2, false), 56 + 2);
    assert_int_equal(at_module_row(&c, 2, 8 + 2, true), 48 + 10);
    assert_int_equal(at_module_row(&c, 5, 7, false), 7);
}

/* ---- config.json ---- */

static const char sizes[] =
    "\"hidden_size\":48,\"intermediate_size\":100,\"num_attention_heads\":6,"
    "\"num_key_value_heads\":2,\"num_hidden_layers\":3,\"vocab_size\":77,\"rms_norm_eps\":1e-5";

/* `rest` follows "model_type" and the sizes; a key that is given again is left out of these. */
static enum at_status read_json(struct at_model_config *out, const char *type, const char *rest)
{
    struct at_buf text = { 0 };
    cJSON *config = NULL;
    enum at_status st;

    at_buf_printf(&text, "{\"model_type\":\"%s\",%s%s}", type, sizes, rest);
    REQUIRE_OK(at_json_parse(&config, text.data, text.n, "c.json", 1));
    st = at_model_config_from_json(out, config, "c.json");
    at_json_free(&config);
    at_buf_release(&text);
    return st;
}

static void llama_config_is_read(void **state)
{
    struct at_model_config c;

    (void)state;
    REQUIRE_OK(read_json(&c, "llama",
                         ",\"tie_word_embeddings\":true,\"hidden_act\":\"silu\","
                         "\"rope_theta\":500000.0,\"rope_scaling\":null,"
                         "\"max_position_embeddings\":99,\"mlp_bias\":false"));
    assert_string_equal(c.family->name, "llama");
    assert_int_equal(c.C, 48);
    assert_int_equal(c.F, 100);
    assert_int_equal(c.H, 6);
    assert_int_equal(c.G, 2);
    assert_int_equal(c.D, 8);
    assert_int_equal(c.L, 3);
    assert_int_equal(c.V, 77);
    assert_int_equal(c.max_positions, 99);
    assert_true(c.norm_eps == 1e-5f);
    assert_true(c.rope.theta == 500000);
    assert_true(c.tied);
    assert_int_equal(c.biases, 0);
    REQUIRE_OK(read_json(&c, "llama", ",\"head_dim\":16"));
    assert_int_equal(c.D, 16);
    assert_int_equal(c.max_positions, 2048);
    assert_true(c.rope.theta == 10000);
    assert_false(c.tied);
}

/* As transformers has them: which linears of which families, under which key. */
static void biases_are_those_of_the_keys(void **state)
{
    static const char attention[] = ",\"attention_bias\":true", mlp[] = ",\"mlp_bias\":true";
    static const char qkv[] = ",\"use_qkv_bias\":true";
    static const struct {
        const char *name, *key;
        uint32_t want; /* 0: refused */
    } cases[] = {
        { "gemma2", attention, AT_SET_ATTENTION },
        { "gemma2", mlp, 0 },
        { "gemma3_text", attention, AT_SET_ATTENTION },
        { "granite", attention, AT_SET_ATTENTION },
        { "granite", mlp, AT_SET_MLP },
        { "llama", attention, AT_SET_ATTENTION },
        { "llama", mlp, AT_SET_MLP },
        { "mistral", attention, 0 },
        { "olmo2", attention, AT_SET_ATTENTION },
        { "qwen2", attention, AT_SET_QKV },
        { "qwen2", mlp, 0 },
        { "qwen3", attention, AT_SET_ATTENTION },
        { "smollm3", attention, AT_SET_ATTENTION },
        { "smollm3", mlp, AT_SET_MLP },
        { "stablelm", qkv, AT_SET_QKV },
    };
    struct at_model_config c;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        if (cases[i].want == 0) {
            assert_int_equal(read_json(&c, cases[i].name, cases[i].key), AT_DATA);
            require_message("is true, which this version does not compute for");
            continue;
        }
        REQUIRE_OK(read_json(&c, cases[i].name, cases[i].key));
        assert_int_equal(c.biases, cases[i].want);
    }
}

static void qwen2_config_is_read(void **state)
{
    struct at_model_config c;

    (void)state;
    REQUIRE_OK(
        read_json(&c, "qwen2",
                  ",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":1e6},"
                  "\"use_sliding_window\":false,\"sliding_window\":4096,"
                  "\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\"]"));
    assert_string_equal(c.family->name, "qwen2");
    assert_int_equal(c.biases, AT_SET_QKV);
    assert_true(c.rope.theta == 1e6);
}

/* Which layers have windows and turn, what a silent config.json means. */
static void layers_and_defaults_of_families_are_read(void **state)
{
    struct at_model_config c;

    (void)state;
    REQUIRE_OK(read_json(&c, "mistral", ""));
    assert_int_equal(at_layer_window(&c, 2), 4096);
    REQUIRE_OK(read_json(&c, "mistral", ",\"sliding_window\":null"));
    assert_int_equal(at_layer_window(&c, 0), 0);
    REQUIRE_OK(read_json(&c, "mistral", ",\"use_sliding_window\":false"));
    assert_int_equal(at_layer_window(&c, 0), 4096); /* transformers reads it for Qwen and SmolLM3 */
    REQUIRE_OK(read_json(&c, "gemma2", ""));
    assert_int_equal(c.D, 256);
    assert_true(c.tied && c.attention_cap == 50 && c.final_cap == 30);
    assert_true(c.attention_scale == 1.0f / 16);
    assert_int_equal(at_layer_window(&c, 0), 4096);
    assert_int_equal(at_layer_window(&c, 1), 0);
    REQUIRE_OK(read_json(&c, "gemma3_text", ",\"final_logit_softcapping\":null"));
    assert_true(c.final_cap == 0 && c.rope.theta == 1e6 && c.local_rope.theta == 10000);
    assert_int_equal(at_layer_window(&c, 2), 4096);
    REQUIRE_OK(read_json(&c, "smollm3", ",\"no_rope_layers\":[0,1,1]"));
    assert_false(at_layer_turns(&c, 0));
    assert_true(at_layer_turns(&c, 1) && c.tied);
    REQUIRE_OK(read_json(&c, "smollm3", ",\"no_rope_layer_interval\":2"));
    assert_true(at_layer_turns(&c, 0) && !at_layer_turns(&c, 1) && at_layer_turns(&c, 2));
    REQUIRE_OK(read_json(&c, "qwen3", ""));
    assert_int_equal(c.D, 128);
    assert_int_equal(at_layer_window(&c, 2), 0);
    REQUIRE_OK(read_json(&c, "llama",
                         ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2},"
                         "\"max_position_embeddings\":99"));
    assert_int_equal(at_model_long_from(&c, 99), 0);
    assert_int_equal(at_model_long_from(&c, 100), 99);
    assert_true(at_model_long_each(&c) && at_model_made_for(&c) == 0);
    REQUIRE_OK(read_json(&c, "gemma3_text",
                         ",\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\"},"
                         "\"sliding_attention\":{\"rope_type\":\"dynamic\",\"factor\":2}},"
                         "\"max_position_embeddings\":99,\"attention_dropout\":0.25"));
    assert_true(c.attention_dropout == 0.25);
    assert_int_equal(at_model_long_from(&c, 99), 0); /* of either kind of layer */
    assert_int_equal(at_model_long_from(&c, 100), 99);
    assert_true(at_model_long_each(&c) && at_model_made_for(&c) == 99);
    assert_int_equal(read_json(&c, "mixtral", ""), AT_DATA);
    require_message("The nearest is mistral, from which it differs by a mixture of experts");
}

/* Keys are those of transformers' default configurations. */
static void unknown_families_name_the_nearest_and_the_keys(void **state)
{
    static const struct {
        const char *name, *rest, *part;
    } cases[] = {
        { "falcon_h1",
          ",\"mamba_chunk_size\":256,\"mamba_conv_bias\":true,\"mamba_proj_bias\":false",
          "stablelm. The nearest is falcon; keys that no known family has: mamba_chunk_size, "
          "mamba_conv_bias" },
        { "qwen2_moe", ",\"decoder_sparse_step\":1,\"num_experts\":60,\"norm_topk_prob\":null",
          "The nearest is qwen2; keys that no known family has: decoder_sparse_step, num_experts. "
          "A "
          "mixture of experts is not computed" },
        { "gemma3n_text", ",\"altup_num_inputs\":4",
          "The nearest is gemma3_text, from which it differs by per-layer embeddings and AltUp; "
          "keys "
          "that no known family has: altup_num_inputs" },
        { "olmo3", "",
          "The nearest is olmo2; its configuration has no key that no known family has" },
        { "olmo3", ",\"hidden_act\":\"gelu\"",
          "; as olmo2 it is refused for a value: hidden_act is \"gelu\"; this version computes" },
        { "olmo3", ",\"rope_scaling\":{\"rope_type\":\"spiral\"}",
          "; as olmo2 it is refused for a value: rope_scaling has kind \"spiral\"" },
        { "granitemoe", ",\"num_local_experts\":8",
          "The nearest is granite; keys that no known family has: num_local_experts. A mixture" },
        { "xyz", "", "The nearest is llama; its" }, /* by rms_norm_eps */
        { "xyz",
          ",\"a1\":1,\"a2\":1,\"a3\":1,\"a4\":1,\"a5\":1,\"a6\":1,\"a7\":1,\"a8\":1,\"a9\":1",
          "a7, a8 and 1 more" },
    };
    struct at_model_config c;
    struct at_buf out = { 0 };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        assert_int_equal(read_json(&c, cases[i].name, cases[i].rest), AT_DATA);
        require_message(cases[i].part);
    }
    at_family_describe(&out, "xyz", (const char *const[]){ "layer_norm_epsilon" }, 1);
    assert_non_null(strstr(out.data, "The nearest is falcon"));
    at_buf_clear(&out);
    at_family_describe(&out, "xyz", NULL, 0);
    assert_int_equal(out.n, 0);
    at_buf_release(&out);
}

/* Of layer 0 and outside of layers; biases and norms that a family may have are its own. */
static void unknown_families_name_tensors_that_the_nearest_has_not(void **state)
{
    static const char *const tensors[] = {
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.1.self_attn.k_norm.weight",
        "model.layers.0.input_layernorm.bias",
        "model.norm.weight",
        "lm_head.weight",
    };
    static const char *const gguf[] = { "token_embd.weight", "blk.0.attn_q.weight",
                                        "blk.0.attn_sinks.weight", "blk.10.ssm_a" };
    struct at_buf out = { 0 };

    (void)state;
    at_family_describe_tensors(&out, at_family_find("llama"), tensors, AT_COUNT(tensors), false);
    assert_string_equal(out.data,
                        "; tensors that llama has not: model.layers.0.self_attn.q_norm.weight, "
                        "model.layers.0.input_layernorm.bias");
    at_buf_clear(&out);
    at_family_describe_tensors(&out, at_family_find("qwen3"), tensors, 5, false);
    assert_int_equal(out.n, 0);
    at_family_describe_tensors(&out, at_family_find("stablelm"), tensors, 2, false);
    assert_int_equal(out.n, 0);
    at_family_describe_tensors(&out, at_family_find("llama"), gguf, AT_COUNT(gguf), true);
    assert_string_equal(out.data, "; tensors that llama has not: blk.0.attn_sinks.weight");
    at_buf_clear(&out);
    at_family_describe_tensors(&out, at_family_find("falcon"),
                               (const char *const[]){ "transformer.h.0.ln_mlp.weight" }, 1, false);
    assert_int_equal(out.n, 0);
    at_buf_release(&out);
}

static void json_that_is_not_computed_is_refused_by_name(void **state)
{
    static const struct {
        const char *rest, *part;
    } cases[] = {
        { ",\"hidden_act\":\"gelu\"", "hidden_act is \"gelu\"; this version computes \"silu\"" },
        { ",\"use_qkv_bias\":true", "use_qkv_bias is true, which" },
        { ",\"use_sliding_window\":true", "use_sliding_window is true" },
        { ",\"layer_types\":[\"full_attention\",\"full_attention\",\"sliding_attention\"]",
          "layer_types holds \"sliding_attention\"" },
        { ",\"layer_types\":[\"full_attention\"]", "layer_types must be an array of 3 entries" },
        { ",\"layer_types\":[\"a\",\"b\",\"c\"]", "layer_types holds \"a\"" },
        { ",\"rope_scaling\":{\"type\":\"linear\"}", "rope_scaling: factor is 0" },
        { ",\"rope_scaling\":{\"type\":\"proportional\",\"factor\":2}",
          "rope_scaling has kind \"proportional\"" },
        { ",\"rope_scaling\":{\"type\":\"longrope\",\"factor\":2}",
          "short_factor must be a list of at most 512 numbers" },
        { ",\"rope_scaling\":{\"type\":\"longrope\",\"factor\":2,\"short_factor\":[1,0]}",
          "value 1 of short_factor must be a number above 0" },
        { ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}", "low_freq_factor is 0" },
        { ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
          "\"high_freq_factor\":1}",
          "high_freq_factor is 1; expected more than low_freq_factor, 4" },
        { ",\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":0.5}", "factor is 0.5" },
        { ",\"rope_scaling\":[1]", "rope_scaling must be an object" },
        { ",\"rope_parameters\":{\"partial_rotary_factor\":0.5}", "partial_rotary_factor is 0.5" },
        { ",\"partial_rotary_factor\":0.5", "partial_rotary_factor is 0.5" },
        { ",\"quantization_config\":{\"quant_method\":\"gptq\"}", "quantization_config" },
        { ",\"head_dim\":7", "head width 7 is not a multiple of 4" },
        { ",\"head_dim\":0", "head width is 0" },
        { ",\"head_dim\":4096", "head width is 4096; expected 1 to 1024" },
        { ",\"rope_theta\":0", "rope_theta is 0" },
        { ",\"max_position_embeddings\":0", "number of positions is 0" },
        { ",\"max_position_embeddings\":\"x\"", "max_position_embeddings" },
    };
    struct at_model_config c;
    cJSON *config = NULL;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        if (read_json(&c, "llama", cases[i].rest) != AT_DATA)
            fail_msg("not refused: %s", cases[i].rest);
        require_message(cases[i].part);
        require_message("c.json");
    }
    assert_int_equal(read_json(&c, "gpt2", ""), AT_DATA);
    require_message(
        "model_type \"gpt2\" is not known; known: falcon, gemma2, gemma3_text, granite");
    assert_int_equal(read_json(&c, "gemma3_text", ",\"sliding_window\":null"), AT_DATA);
    require_message("sliding_window is missing or 0");
    assert_int_equal(read_json(&c, "gemma3_text", ",\"attn_logit_softcapping\":50"), AT_DATA);
    require_message("attn_logit_softcapping is 50, which transformers does not apply to gemma3");
    assert_int_equal(read_json(&c, "smollm3", ",\"no_rope_layer_interval\":0"), AT_DATA);
    require_message("no_rope_layer_interval is 0");
    assert_int_equal(read_json(&c, "qwen2", ",\"attention_bias\":false"), AT_DATA);
    require_message("attention_bias is false");
    REQUIRE_OK(at_json_parse(&config, "[]", 2, "c.json", 1));
    assert_int_equal(at_model_config_from_json(&c, config, "c.json"), AT_DATA);
    at_json_free(&config);
    REQUIRE_OK(at_json_parse(&config, "{}", 2, "c.json", 1));
    assert_int_equal(at_model_config_from_json(&c, config, "c.json"), AT_DATA);
    require_message("model_type");
    at_json_free(&config);
}

/* One of the sizes with another value. */
static void sizes_out_of_range_are_refused(void **state)
{
    static const struct {
        const char *key, *value, *part;
    } cases[] = {
        { "\"hidden_size\":48", "\"hidden_size\":0", "hidden size is 0" },
        { "\"hidden_size\":48", "\"hidden_size\":2000000", "hidden size is 2000000" },
        { "\"hidden_size\":48", "\"hidden_size\":-1", "hidden_size" },
        { "\"hidden_size\":48", "\"hidden_size\":4294967296", "hidden_size" },
        { "\"intermediate_size\":100", "\"intermediate_size\":0", "feed-forward size is 0" },
        { "\"vocab_size\":77", "\"vocab_size\":16777217", "vocabulary size is 16777217" },
        { "\"num_hidden_layers\":3", "\"num_hidden_layers\":5000", "number of layers is 5000" },
        { "\"num_attention_heads\":6", "\"num_attention_heads\":0", "attention heads is 0" },
        { "\"num_key_value_heads\":2", "\"num_key_value_heads\":4", "not a multiple of 4" },
        { "\"num_key_value_heads\":2", "\"num_key_value_heads\":12", "key-value heads is 12" },
        { "\"num_key_value_heads\":2", "\"num_key_value_heads\":0", "key-value heads is 0" },
        { "\"num_hidden_layers\":3,", "", "num_hidden_layers" },
        { "\"rms_norm_eps\":1e-5", "\"rms_norm_eps\":0", "rms_norm_eps is 0" },
        { "\"rms_norm_eps\":1e-5", "\"rms_norm_eps\":1", "rms_norm_eps is 1" },
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        const char *at = strstr(sizes, cases[i].key);
        struct at_buf text = { 0 };
        struct at_model_config c;
        cJSON *config = NULL;

        assert_non_null(at);
        at_buf_printf(&text, "{\"model_type\":\"llama\",%.*s%s%s}", (int)(at - sizes), sizes,
                      cases[i].value, at + strlen(cases[i].key));
        REQUIRE_OK(at_json_parse(&config, text.data, text.n, "c.json", 1));
        if (at_model_config_from_json(&c, config, "c.json") != AT_DATA)
            fail_msg("not refused: %s", cases[i].value);
        require_message(cases[i].part);
        at_json_free(&config);
        at_buf_release(&text);
    }
}

/* ---- GGUF ---- */

struct change { /* of the file: a key more, a key left out, an output head */
    const char *key, *text, *without;
    uint32_t u32, type; /* of the key: 4 u32, 6 f32 (of u32), 7 bool, 8 text */
    bool head, yarn;    /* yarn: scaled so, by 1 */
};

static enum at_status read_gguf(struct at_model_config *out, const char *architecture,
                                const struct change *change)
{
    static const struct {
        const char *key;
        uint32_t value;
    } keys[] = {
        { "embedding_length", 48 },       { "block_count", 3 },
        { "context_length", 99 },         { "feed_forward_length", 100 },
        { "attention.head_count", 6 },    { "rope.dimension_count", 8 },
        { "attention.head_count_kv", 2 },
    };
    static const uint64_t ne[] = { 48, 77 };
    const uint32_t n_keys = (uint32_t)AT_COUNT(keys) + 3 + (change->key != NULL) -
                            (change->without != NULL) + change->yarn;
    struct at_weights *weights = NULL;
    struct at_buf file = { 0 };
    enum at_status st;
    char name[80];

    put_head(&file, 3, change->head ? 2 : 1, n_keys);
    put_key_string(&file, "general.architecture", architecture);
    for (size_t i = 0; i < AT_COUNT(keys); i++) {
        snprintf(name, sizeof name, "%s.%s", architecture, keys[i].key);
        if (!change->without || strcmp(change->without, name) != 0)
            put_key_u32(&file, name, keys[i].value);
    }
    snprintf(name, sizeof name, "%s.attention.layer_norm_rms_epsilon", architecture);
    put_key_float(&file, name, 1e-5f);
    snprintf(name, sizeof name, "%s.rope.freq_base", architecture);
    put_key_float(&file, name, 100000);
    snprintf(name, sizeof name, "%s.rope.scaling.type", architecture);
    if (change->yarn)
        put_key_string(&file, name, "yarn");
    if (change->key && change->type == 8)
        put_key_string(&file, change->key, change->text);
    else if (change->key && change->type == 7)
        put_key_bool(&file, change->key, (uint8_t)change->u32);
    else if (change->key && change->type == 6)
        put_key_float(&file, change->key, (float)change->u32);
    else if (change->key)
        put_key_u32(&file, change->key, change->u32);
    put_tensor(&file, "token_embd.weight", 2, ne, 1, 0);
    if (change->head)
        put_tensor(&file, "output.weight", 2, ne, 1, 48 * 77 * 2);
    put_padding(&file, 32);
    for (size_t i = 0; i < 2u * 48 * 77 * 2; i++)
        at_buf_put(&file, "", 1);
    write_file(FILE_PATH, file.data, file.n);
    at_buf_release(&file);
    REQUIRE_OK(at_weights_open(&weights, FILE_PATH));
    st = at_model_config_read(out, weights);
    at_weights_close(&weights);
    return st;
}

static void gguf_config_is_read(void **state)
{
    struct at_model_config c;

    (void)state;
    REQUIRE_OK(read_gguf(&c, "llama", &(struct change){ 0 }));
    assert_string_equal(c.family->name, "llama");
    assert_int_equal(c.C, 48);
    assert_int_equal(c.F, 100);
    assert_int_equal(c.H, 6);
    assert_int_equal(c.G, 2);
    assert_int_equal(c.D, 8);
    assert_int_equal(c.L, 3);
    assert_int_equal(c.V, 77);
    assert_int_equal(c.max_positions, 99);
    assert_true(c.norm_eps == 1e-5f);
    assert_true(c.rope.theta == 100000);
    assert_true(c.tied);
    assert_int_equal(c.biases, 0);
    REQUIRE_OK(read_gguf(&c, "qwen2", &(struct change){ .head = true }));
    assert_false(c.tied);
    assert_int_equal(c.biases, AT_SET_QKV);
    REQUIRE_OK(
        read_gguf(&c, "llama", &(struct change){ .without = "llama.attention.head_count_kv" }));
    assert_int_equal(c.G, 6);
}

/* What llama.cpp takes where a key is absent, and factors of angles. */
static void gguf_defaults_are_those_of_llama_cpp(void **state)
{
    struct at_model_config c;

    (void)state;
    REQUIRE_OK(read_gguf(&c, "gemma2", &(struct change){ 0 }));
    assert_int_equal(at_layer_window(&c, 0), 4096);
    assert_int_equal(at_layer_window(&c, 1), 0);
    REQUIRE_OK(read_gguf(&c, "gemma2",
                         &(struct change){ .key = "gemma2.attention.sliding_window", .u32 = 9 }));
    assert_int_equal(at_layer_window(&c, 0), 9);
    REQUIRE_OK(read_gguf(&c, "llama", &(struct change){ .yarn = true }));
    assert_true(c.rope.attention_factor == 1);
    REQUIRE_OK(read_gguf(
        &c, "llama",
        &(struct change){
            .yarn = true, .key = "llama.rope.scaling.yarn_attn_factor", .type = 6, .u32 = 3 }));
    assert_true(c.rope.attention_factor == 3);
    REQUIRE_OK(read_gguf(
        &c, "llama",
        &(struct change){
            .yarn = true, .key = "llama.rope.scaling.yarn_ext_factor", .type = 6, .u32 = 1 }));
}

static void gguf_that_is_not_computed_is_refused_by_name(void **state)
{
    static const struct {
        struct change change;
        const char *part;
    } cases[] = {
        { { .key = "llama.rope.scaling.type", .type = 8, .text = "longrope" },
          "llama.rope.scaling.type is \"longrope\"" },
        { { .key = "llama.rope.scaling.factor", .type = 6, .u32 = 4 }, "scaling.factor is 4" },
        { { .key = "llama.rope.scaling.yarn_attn_factor", .type = 6, .u32 = 4 }, "multiply to 4" },
        { { .key = "llama.rope.scaling.yarn_ext_factor", .type = 6, .u32 = 1 },
          "yarn_ext_factor is 1; this version computes 0 only" },
        { { .yarn = true, .key = "llama.rope.scaling.yarn_ext_factor", .type = 6 },
          "yarn_ext_factor is 0; this version computes 1 only" },
        { { .key = "llama.attn_logit_softcapping", .type = 6, .u32 = 50 },
          "attn_logit_softcapping is 50" },
        { { .key = "llama.rope.freq_base_swa", .type = 6 }, "freq_base_swa is 0; expected 1" },
        { { .key = "llama.attention.causal", .type = 7 }, "attention.causal is false" },
        { { .key = "llama.attention.value_length", .u32 = 16 }, "value_length is 16" },
        { { .key = "llama.attention.key_length", .u32 = 16 }, "dimension_count is 8" },
        { { .key = "llama.expert_count", .u32 = 8 }, "llama.expert_count is 8" },
        { { .key = "split.count", .u32 = 2 }, "one of 2 parts of a model" },
        { { .without = "llama.block_count" }, "key llama.block_count is missing" },
        { { .without = "llama.context_length" }, "key llama.context_length is missing" },
    };
    struct at_model_config c;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        if (read_gguf(&c, "llama", &cases[i].change) != AT_DATA)
            fail_msg("not refused: %s", cases[i].part);
        require_message(cases[i].part);
        require_message(FILE_PATH);
    }
    assert_int_equal(
        read_gguf(&c, "qwen2moe", &(struct change){ .key = "qwen2moe.expert_count", .type = 4 }),
        AT_DATA);
    require_message("The nearest is qwen2; keys that no known family has: expert_count. A mixture");
    assert_int_equal(read_gguf(&c, "gpt2", &(struct change){ 0 }), AT_DATA);
    require_message(
        "general.architecture \"gpt2\" is not known; known: falcon, gemma2, gemma3_text, granite");
    REQUIRE_OK(
        read_gguf(&c, "llama",
                  &(struct change){ .key = "llama.rope.scaling.type", .type = 8, .text = "none" }));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_family_is_found_by_both_names, make_folder),
        cmocka_unit_test_setup(roles_and_linears_have_their_names, make_folder),
        cmocka_unit_test_setup(rows_of_modules_are_found, make_folder),
        cmocka_unit_test_setup(llama_config_is_read, make_folder),
        cmocka_unit_test(unknown_families_name_the_nearest_and_the_keys),
        cmocka_unit_test(unknown_families_name_tensors_that_the_nearest_has_not),
        cmocka_unit_test(biases_are_those_of_the_keys),
        cmocka_unit_test_setup(qwen2_config_is_read, make_folder),
        cmocka_unit_test_setup(layers_and_defaults_of_families_are_read, make_folder),
        cmocka_unit_test_setup(json_that_is_not_computed_is_refused_by_name, make_folder),
        cmocka_unit_test_setup(sizes_out_of_range_are_refused, make_folder),
        cmocka_unit_test_setup(gguf_config_is_read, make_folder),
        cmocka_unit_test_setup(gguf_defaults_are_those_of_llama_cpp, make_folder),
        cmocka_unit_test_setup(gguf_that_is_not_computed_is_refused_by_name, make_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
