/* links: base gpu ops model */
/* Models on a device: a folder and a GGUF file of the same model give the same weights (q and k
 * rows turned back), what a file lacks or has too much is named, full fine-tuning saves what it
 * holds. */
#include "gpu_test.h"

#include "model.h"
#include "model_files.h"

#define TMP BUILD_DIR "/test_tmp/model"
#define GGUF TMP "/m.gguf"

static const char config_text[] =
    "{\"model_type\":\"qwen2\",\"hidden_size\":12,\"intermediate_size\":20,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":8,\"num_hidden_layers\":2,"
    "\"vocab_size\":33,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":64}";
enum { C = 12, F = 20, H = 4, G = 2, D = 8, V = 33, L = 2, POSITIONS = 64 };

/* Sizes of a role; vectors are (1, n). */
static void shape_of(uint32_t role, uint32_t *rows, uint32_t *cols)
{
    static const uint32_t shape[AT_ROLE_COUNT][2] = {
        [AT_EMBED] = { V, C },      [AT_FINAL_NORM] = { 1, C }, [AT_HEAD] = { V, C },
        [AT_ATTN_NORM] = { 1, C },  [AT_MLP_NORM] = { 1, C },   [AT_Q] = { H * D, C },
        [AT_K] = { G * D, C },      [AT_V] = { G * D, C },      [AT_O] = { C, H * D },
        [AT_GATE] = { F, C },       [AT_UP] = { F, C },         [AT_DOWN] = { C, F },
        [AT_Q_BIAS] = { 1, H * D }, [AT_K_BIAS] = { 1, G * D }, [AT_V_BIAS] = { 1, G * D },
    };

    *rows = shape[role][0];
    *cols = shape[role][1];
}

/* Tensors of a model by place: layer * AT_ROLE_COUNT + role; NULL: not there. */
struct tensors {
    float *values[L * AT_ROLE_COUNT];
    bool biases;
};

static void make_tensors(struct tensors *t, bool head, bool biases)
{
    *t = (struct tensors){ .biases = biases };
    for (uint32_t l = 0; l < L; l++)
        for (uint32_t role = 0; role < AT_ROLE_COUNT; role++) {
            uint32_t rows, cols;

            shape_of(role, &rows, &cols);
            if ((role < AT_ATTN_NORM && l > 0) || (role == AT_HEAD && !head) ||
                (role >= AT_Q_BIAS && !biases) || role > AT_V_BIAS)
                continue;
            t->values[l * AT_ROLE_COUNT + role] = gt_floats((size_t)rows * cols, 1);
        }
}

static void free_tensors(struct tensors *t)
{
    for (size_t i = 0; i < L * AT_ROLE_COUNT; i++)
        free(t->values[i]);
}

/* A folder; one tensor may be left out, one may be added (its name, `extra`; as the embedding). */
static void write_folder(const struct tensors *t, const char *config, const char *without,
                         const char *extra, uint32_t extra_rows)
{
    struct at_save_tensor list[L * AT_ROLE_COUNT + 1];
    char names[L * AT_ROLE_COUNT][80];
    size_t n = 0;

    for (uint32_t i = 0; i < L * AT_ROLE_COUNT; i++) {
        const uint32_t role = i % AT_ROLE_COUNT;
        uint32_t rows, cols;

        shape_of(role, &rows, &cols);
        snprintf(names[i], sizeof names[i], at_role_name(at_family_find("qwen2"), role),
                 i / AT_ROLE_COUNT);
        if (!t->values[i] || (without && strcmp(names[i], without) == 0))
            continue;
        list[n++] = (struct at_save_tensor){ .name = names[i],
                                             .n_dims = rows > 1 ? 2 : 1,
                                             .dim = { rows > 1 ? rows : cols, cols },
                                             .values = t->values[i] };
    }
    if (extra)
        list[n++] = (struct at_save_tensor){
            .name = extra, .n_dims = 2, .dim = { extra_rows, C }, .values = t->values[AT_EMBED]
        };
    REQUIRE_OK(at_safetensors_write(TMP "/model.safetensors", list, n, NULL, 0));
    write_text(TMP "/config.json", config);
}

/* Row of Hugging Face's q or k that GGUF's row `row` holds: pairs lie side by side there. */
static uint32_t hf_row(uint32_t row)
{
    return row / D * D + row % 2 * (D / 2) + row % D / 2;
}

static void write_gguf(const struct tensors *t, const char *architecture, bool turned)
{
    struct at_buf file = { 0 };
    uint32_t n = 0;
    uint64_t at = 0;
    char name[80];

    for (size_t i = 0; i < L * AT_ROLE_COUNT; i++)
        n += t->values[i] != NULL;
    put_head(&file, 3, n, 9);
    put_key_string(&file, "general.architecture", architecture);
    for (int i = 0; i < 7; i++) {
        static const struct {
            const char *key;
            uint32_t value;
        } keys[] = { { "embedding_length", C },       { "block_count", L },
                     { "context_length", POSITIONS }, { "feed_forward_length", F },
                     { "attention.head_count", H },   { "attention.head_count_kv", G },
                     { "attention.key_length", D } };

        snprintf(name, sizeof name, "%s.%s", architecture, keys[i].key);
        put_key_u32(&file, name, keys[i].value);
    }
    snprintf(name, sizeof name, "%s.attention.layer_norm_rms_epsilon", architecture);
    put_key_float(&file, name, 1e-5f);
    for (uint32_t i = 0; i < L * AT_ROLE_COUNT; i++) {
        uint32_t rows, cols;

        shape_of(i % AT_ROLE_COUNT, &rows, &cols);
        snprintf(name, sizeof name, at_role_gguf_name(at_family_find("qwen2"), i % AT_ROLE_COUNT),
                 i / AT_ROLE_COUNT);
        if (!t->values[i])
            continue;
        put_tensor(&file, name, rows > 1 ? 2 : 1, (uint64_t[]){ cols, rows }, 0, at);
        at = at_round_up(at + (uint64_t)rows * cols * 4, 32);
    }
    put_padding(&file, 32);
    for (uint32_t i = 0; i < L * AT_ROLE_COUNT; i++) {
        const uint32_t role = i % AT_ROLE_COUNT;
        const bool rotary = role == AT_Q || role == AT_K || role == AT_Q_BIAS || role == AT_K_BIAS;
        uint32_t rows, cols;

        shape_of(role, &rows, &cols);
        for (uint32_t k = 0; t->values[i] && k < (rows > 1 ? rows : cols); k++) {
            const uint32_t from = turned && rotary ? hf_row(k) : k, width = rows > 1 ? cols : 1;

            at_buf_put(&file, t->values[i] + (size_t)from * width, width * sizeof(float));
        }
        put_padding(&file, 32);
    }
    write_file(GGUF, file.data, file.n);
    at_buf_release(&file);
}

/* ---- a loaded model ---- */

struct loaded {
    struct at_weights *weights;
    struct at_model model;
    struct at_params params;
    struct at_pool *pool;
};

/* GGUF's order of rows and biases, which no known family has together. */
static bool use_both;
static const struct at_family both = {
    .name = "both", .gguf = "both", .biases = AT_SET_QKV, .gguf_permutes_qk = true
};

/* Up to the plan; `train`: full fine-tuning. */
static enum at_status plan(struct gt *t, struct loaded *m, const char *path, bool train)
{
    struct at_model_config config;

    *m = (struct loaded){ 0 };
    REQUIRE_OK(at_weights_open(&m->weights, path));
    REQUIRE_OK(at_model_config_read(&config, m->weights));
    if (use_both)
        config.family = &both;
    REQUIRE_OK(at_pool_create(&m->pool, t->gpu, "model"));
    REQUIRE_OK(at_params_init(&m->params, 1 << 20));
    return at_model_plan(&m->model, &config, m->weights, m->pool, train ? &m->params : NULL,
                         POSITIONS, NULL);
}

static void finish(struct gt *t, struct loaded *m)
{
    if (m->model.trainable)
        REQUIRE_OK(at_params_plan(&m->params, m->pool, NULL));
    REQUIRE_OK(at_pool_commit(m->pool));
    if (m->model.trainable)
        at_params_bind(&m->params);
    REQUIRE_OK(at_model_upload(&m->model, t->gpu, 7));
}

static void close_model(struct loaded *m)
{
    at_model_release(&m->model);
    at_params_release(&m->params);
    at_pool_destroy(&m->pool);
    at_weights_close(&m->weights);
}

static void require_matrix(struct gt *t, struct at_weight weight, const float *want)
{
    const struct at_tensor tensor = at_weight_values(weight);
    float *got = gt_floats((size_t)weight.rows * weight.cols, 1);

    assert_int_equal(weight.type, AT_F32);
    REQUIRE_OK(at_tensor_read(t->gpu, got, tensor));
    assert_memory_equal(got, want, (size_t)weight.rows * weight.cols * sizeof *got);
    free(got);
}

static void require_vector(struct gt *t, struct at_view view, const float *want, uint32_t n)
{
    float got[64];

    REQUIRE_OK(at_gpu_read(t->gpu, got, view, n * sizeof *got));
    assert_memory_equal(got, want, n * sizeof *got);
}

/* The device holds these tensors. */
static void require_tensors(struct gt *t, const struct at_model *m, const struct tensors *want)
{
    const float *head = want->values[want->values[AT_HEAD] ? AT_HEAD : AT_EMBED];

    require_matrix(t, m->head, head);
    require_vector(t, m->final_norm, want->values[AT_FINAL_NORM], C);
    for (uint32_t l = 0; l < L; l++) {
        float *const *values = want->values + l * AT_ROLE_COUNT;

        for (uint32_t i = 0; i < AT_LINEARS; i++)
            require_matrix(t, m->layers[l].linear[i], values[AT_Q + i]);
        require_vector(t, m->layers[l].attn_norm, values[AT_ATTN_NORM], C);
        require_vector(t, m->layers[l].mlp_norm, values[AT_MLP_NORM], C);
        for (uint32_t i = 0; i < 3 && want->biases; i++)
            require_vector(t, m->layers[l].bias[i], values[AT_Q_BIAS + i], i == 0 ? H * D : G * D);
    }
}

static void require_rope(struct gt *t, const struct at_model *m)
{
    float *table = gt_floats(POSITIONS * D, 1);

    REQUIRE_OK(at_tensor_read(t->gpu, table, m->rope));
    for (uint32_t p = 0; p < POSITIONS; p++)
        for (uint32_t i = 0; i < D / 2; i++) {
            const double angle = p / pow(10000, 2.0 * i / D);

            assert_true(fabs((double)table[p * D + i] - cos(angle)) < 1e-7);
            assert_true(fabs((double)table[p * D + D / 2 + i] - sin(angle)) < 1e-7);
        }
    free(table);
}

static void require_embedding_rows(const struct at_model *m, const float *embedding)
{
    const int32_t ids[] = { 32, 0, 7, 7 };
    float rows[4 * C];

    at_model_embed_rows((uint8_t *)rows, NULL, m, ids, 4);
    for (int i = 0; i < 4; i++)
        assert_memory_equal(rows + (size_t)i * C, embedding + (size_t)ids[i] * C, C * sizeof *rows);
}

static int make_folder(void **state)
{
    (void)state;
    return system("rm -rf '" TMP "' && mkdir -p '" TMP "'");
}

static void folder_and_gguf_give_the_same_weights(void **state)
{
    struct tensors want;
    struct loaded m;
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    for (int kind = 0; kind < 4; kind++) { /* qwen2 with biases, llama without; a head or tied */
        const bool qwen = kind < 2, head = kind % 2 == 0;
        struct at_buf config = { 0 };

        make_tensors(&want, head, qwen);
        at_buf_printf(&config, "{\"tie_word_embeddings\":%s,\"model_type\":\"%s\"%s",
                      head ? "false" : "true", qwen ? "qwen2" : "llama",
                      config_text + strlen("{\"model_type\":\"qwen2\""));
        write_folder(&want, config.data, NULL, NULL, 0);
        at_buf_release(&config);
        REQUIRE_OK(plan(&t, &m, TMP, false));
        finish(&t, &m);
        require_tensors(&t, &m.model, &want);
        require_rope(&t, &m.model);
        require_embedding_rows(&m.model, want.values[AT_EMBED]);
        close_model(&m);
        write_gguf(&want, qwen ? "qwen2" : "llama", !qwen);
        REQUIRE_OK(plan(&t, &m, GGUF, false));
        finish(&t, &m);
        require_tensors(&t, &m.model, &want);
        require_embedding_rows(&m.model, want.values[AT_EMBED]);
        close_model(&m);
        /* trainable: the same values, with gradients */
        REQUIRE_OK(plan(&t, &m, GGUF, true));
        finish(&t, &m);
        require_tensors(&t, &m.model, &want);
        assert_int_equal(m.model.d_head.view.offset == m.model.d_embed.view.offset &&
                             m.model.d_head.view.buffer == m.model.d_embed.view.buffer,
                         !head);
        assert_non_null(m.model.grads[1].linear[6].view.buffer);
        close_model(&m);
        free_tensors(&want);
    }
    gt_close(&t);
}

static void biases_are_turned_with_their_rows(void **state)
{
    struct tensors want;
    struct loaded m;
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    make_tensors(&want, true, true);
    write_gguf(&want, "qwen2", true);
    use_both = true;
    for (int train = 0; train < 2; train++) {
        REQUIRE_OK(plan(&t, &m, GGUF, train));
        finish(&t, &m);
        require_tensors(&t, &m.model, &want);
        close_model(&m);
    }
    use_both = false;
    free_tensors(&want);
    gt_close(&t);
}

static void refuse(struct gt *t, const char *path, bool train, const char *part)
{
    struct loaded m;

    if (plan(t, &m, path, train) != AT_DATA)
        fail_msg("not refused: expected \"%s\"", part);
    require_message(part);
    require_message(TMP);
    close_model(&m);
}

static void missing_and_left_over_tensors_are_named(void **state)
{
    static const char tied[] = "{\"tie_word_embeddings\":true,";
    struct at_buf tied_config = { 0 };
    struct tensors want, no_head;
    struct loaded m;
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    make_tensors(&want, true, true);
    no_head = want;
    no_head.values[AT_HEAD] = NULL;
    at_buf_printf(&tied_config, "%s%s", tied, config_text + 1);
    write_folder(&want, config_text, "model.layers.1.mlp.up_proj.weight", NULL, 0);
    refuse(&t, TMP, false, "tensor model.layers.1.mlp.up_proj.weight is missing");
    write_folder(&want, config_text, "model.layers.0.self_attn.v_proj.bias", NULL, 0);
    refuse(&t, TMP, false, "model.layers.0.self_attn.v_proj.bias is missing");
    write_folder(&want, config_text, NULL, "model.layers.2.mlp.up_proj.weight", 5);
    refuse(&t, TMP, false, "model.layers.2.mlp.up_proj.weight is not part of a qwen2 model with 2");
    write_folder(&want, config_text, "model.embed_tokens.weight", "model.embed_tokens.weight", 32);
    refuse(&t, TMP, false,
           "model.embed_tokens.weight has 2 dimensions of 32 x 12; expected 33 x 12");
    write_folder(&want, config_text, "model.norm.weight", "model.norm.weight", 1);
    refuse(&t, TMP, false, "model.norm.weight has 2 dimensions of 1 x 12; expected 1 of 12");
    /* harmless: the table of old checkpoints; a tied model's head when it is the embedding */
    write_folder(&want, config_text, NULL, "model.layers.0.self_attn.rotary_emb.inv_freq", 1);
    REQUIRE_OK(plan(&t, &m, TMP, false));
    close_model(&m);
    write_folder(&no_head, tied_config.data, NULL, "lm_head.weight", V);
    REQUIRE_OK(plan(&t, &m, TMP, false));
    close_model(&m);
    write_folder(&want, tied_config.data, NULL, NULL, 0);
    refuse(&t, TMP, false, "lm_head.weight is not part of a qwen2 model");
    at_buf_release(&tied_config);
    free_tensors(&want);
    gt_close(&t);
}

/* One layer's worth of a llama whose matrices have this GGUF type, its norms that one. */
static void write_typed_gguf(uint32_t type, uint32_t row_bytes, uint32_t norm_type)
{
    static const struct {
        const char *name;
        bool matrix;
    } names[] = { { "token_embd.weight", true },       { "output_norm.weight", false },
                  { "blk.0.attn_norm.weight", false }, { "blk.0.ffn_norm.weight", false },
                  { "blk.0.attn_q.weight", true },     { "blk.0.attn_k.weight", true },
                  { "blk.0.attn_v.weight", true },     { "blk.0.attn_output.weight", true },
                  { "blk.0.ffn_gate.weight", true },   { "blk.0.ffn_up.weight", true },
                  { "blk.0.ffn_down.weight", true } };
    static const char *const keys[] = { "embedding_length", "block_count", "context_length",
                                        "feed_forward_length", "attention.head_count" };
    static const uint32_t values[] = { 256, 1, POSITIONS, 256, 4 };
    const uint64_t ne[] = { 256, 256 }, matrix_bytes = 256u * row_bytes;
    struct at_buf file = { 0 };
    uint64_t at = 0;

    put_head(&file, 3, AT_COUNT(names), 7);
    put_key_string(&file, "general.architecture", "llama");
    for (size_t i = 0; i < AT_COUNT(keys); i++) {
        char key[80];

        snprintf(key, sizeof key, "llama.%s", keys[i]);
        put_key_u32(&file, key, values[i]);
    }
    put_key_float(&file, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    for (size_t i = 0; i < AT_COUNT(names); i++) {
        put_tensor(&file, names[i].name, names[i].matrix ? 2 : 1, ne,
                   names[i].matrix ? type : norm_type, at);
        at = at_round_up(at + (names[i].matrix ? matrix_bytes : norm_type == 8 ? 272 : 1024), 32);
    }
    put_padding(&file, 32);
    while (at-- > 0)
        at_buf_put(&file, "", 1);
    write_file(GGUF, file.data, file.n);
    at_buf_release(&file);
}

static void types_that_cannot_be_used_are_named(void **state)
{
    struct loaded m;
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    write_typed_gguf(8, 272, 0);
    REQUIRE_OK(plan(&t, &m, GGUF, false));
    assert_int_equal(m.model.layers[0].linear[0].type, AT_Q8_0);
    assert_int_equal(m.model.head.type, AT_Q8_0);
    close_model(&m);
    refuse(&t, GGUF, true, "is Q8_0; full fine-tuning needs F32, F16 or BF16");
    write_typed_gguf(16, 66, 0);
    refuse(&t, GGUF, false, "token_embd.weight is IQ2_XXS");
    write_typed_gguf(8, 272, 8);
    refuse(&t, GGUF, false, "output_norm.weight is Q8_0; norms and biases must be");
    gt_close(&t);
}

static void random_start_is_saved_and_loaded(void **state)
{
    struct loaded m = { 0 }, again;
    struct at_model_config config;
    cJSON *json = NULL;
    float *first, *second;
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    REQUIRE_OK(at_json_parse(&json, config_text, strlen(config_text), "c.json", 1));
    REQUIRE_OK(at_model_config_from_json(&config, json, "c.json"));
    at_json_free(&json);
    REQUIRE_OK(at_pool_create(&m.pool, t.gpu, "model"));
    REQUIRE_OK(at_params_init(&m.params, 1 << 20));
    REQUIRE_OK(at_model_plan(&m.model, &config, NULL, m.pool, &m.params, POSITIONS, NULL));
    finish(&t, &m);
    REQUIRE_OK(at_model_save(TMP, t.gpu, &m.model, config_text));
    REQUIRE_OK(plan(&t, &again, TMP, true));
    finish(&t, &again);
    assert_int_equal(again.params.n, m.params.n);
    for (size_t i = 0; i < m.params.n; i++) {
        const struct at_param *a = m.params.items[i], *b = again.params.items[i];
        const size_t n = (size_t)a->rows * a->cols;
        double square = 0;

        first = gt_floats(n, 1);
        second = gt_floats(n, 1);
        REQUIRE_OK(at_tensor_read(t.gpu, first, a->p));
        REQUIRE_OK(at_tensor_read(t.gpu, second, b->p));
        assert_memory_equal(first, second, n * sizeof *first);
        for (size_t k = 0; k < n; k++)
            square += (double)first[k] * (double)first[k] / (double)n;
        if (strstr(a->name, "norm"))
            assert_true(square == 1);
        else if (strstr(a->name, "bias"))
            assert_true(square == 0);
        else
            assert_true(sqrt(square) > 0.015 && sqrt(square) < 0.025);
        assert_int_equal(a->group == AT_PARAM_VECTOR,
                         strstr(a->name, "norm") || strstr(a->name, "bias"));
        free(first);
        free(second);
    }
    close_model(&again);
    first = gt_floats(F * C, 1);
    second = gt_floats(F * C, 1);
    for (int i = 0; i < 2; i++) { /* no two tensors start alike: up and gate, layers 0 and 1 */
        const size_t place = (size_t)(i == 0 ? 0 : AT_ROLE_COUNT) + (i == 0 ? AT_UP : AT_GATE);

        REQUIRE_OK(at_tensor_read(t.gpu, first, m.model.params[AT_GATE]->p));
        REQUIRE_OK(at_tensor_read(t.gpu, second, m.model.params[place]->p));
        assert_memory_not_equal(first, second, F * C * sizeof *first);
    }
    free(first);
    free(second);
    REQUIRE_OK(at_tensor_write(t.gpu, m.model.embed, (float[V * C]){ [5] = NAN }));
    assert_int_equal(at_model_save(TMP "/new", t.gpu, &m.model, config_text), AT_NUMERIC);
    require_message("model.embed_tokens.weight: value 5 is NaN");
    assert_true(at_dir_is_empty(TMP "/new"));
    close_model(&m);
    gt_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(folder_and_gguf_give_the_same_weights, make_folder),
        cmocka_unit_test_setup(biases_are_turned_with_their_rows, make_folder),
        cmocka_unit_test_setup(missing_and_left_over_tensors_are_named, make_folder),
        cmocka_unit_test_setup(types_that_cannot_be_used_are_named, make_folder),
        cmocka_unit_test_setup(random_start_is_saved_and_loaded, make_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
