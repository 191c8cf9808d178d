/* links: base gpu ops model */
/* Adapters without a device: which modules are selected, and which PEFT folders are refused. */
#include "model_files.h"

#include <math.h>

#include "adapter_file.h"

#define TMP BUILD_DIR "/test_tmp/adapter"
#define CONFIG TMP "/adapter_config.json"
#define TENSORS TMP "/adapter_model.safetensors"

static const struct at_family family; /* names as Llama has them */
static const struct at_model_config model = {
    .family = &family, .C = 8, .H = 2, .G = 1, .D = 4, .F = 12, .V = 16, .L = 2
};
enum { N_MODULES = 2 * AT_LINEARS, RANK = 3 };

static int make_folder(void **state)
{
    (void)state;
    return system("rm -rf '" TMP "' && mkdir -p '" TMP "'");
}

/* ---- selection ---- */

/* The modules of this text, as one letter each: q k v o g u d of layer 0, then of layer 1. */
static void check_selection(const char *target_modules, const char *want)
{
    static const char letters[] = "qkvogud";
    bool selected[N_MODULES];
    char got[N_MODULES + 1] = { 0 };

    memset(selected, 1, sizeof selected);
    REQUIRE_OK(at_adapter_select(selected, &model, target_modules));
    for (size_t i = 0; i < N_MODULES; i++)
        got[i] = selected[i] ? letters[i % AT_LINEARS] : '.';
    if (strcmp(got, want) != 0)
        fail_msg("%s selects %s, expected %s", target_modules, got, want);
}

static void modules_are_selected_as_peft_selects(void **state)
{
    (void)state;
    check_selection("all-linear", "qkvogudqkvogud");
    check_selection("q_proj", "q......q......");
    check_selection("q_proj,v_proj", "q.v....q.v....");
    check_selection(" v_proj , down_proj,, ", "..v...d..v...d");
    check_selection("self_attn.o_proj", "...o......o...");
    check_selection("layers.1.mlp.up_proj", "............u.");
    check_selection("model.layers.0.self_attn.k_proj", ".k............");
    check_selection(".*q_proj", "q......q......");
    check_selection(".*\\.(q|v)_proj", "q.v....q.v....");
    check_selection("model\\.layers\\.1\\.mlp\\..*", "...........gud");
    check_selection("(model.layers.0.mlp.gate_proj|model.layers.1.self_attn.q_proj)",
                    "....g..q......");
}

static void selections_of_nothing_are_refused(void **state)
{
    static const struct {
        const char *target_modules, *part;
    } cases[] = {
        { "c_attn", "\"c_attn\" is no linear layer of this model; there are q_proj, k_proj" },
        { "q_proj,c_attn", "\"c_attn\" is no linear layer" },
        { "proj", "\"proj\" is no linear layer" }, /* behind a dot or whole */
        { "lm_head", "\"lm_head\" is no linear layer" },
        { "", "selects nothing" },
        { ",", "selects nothing" },
        { "q_.*", "selects nothing" }, /* a full match, as Python's */
        { "model\\.layers\\.[01]\\.self", "selects nothing" },
        { "model.layers.[5-9].*", "selects nothing; there are" },
        { ".*", "also selects lm_head" },
        { ".*embed.*|.*q_proj", "also selects model.embed_tokens" },
        { "(", "is wrong at character 2" },
        { "((.|..)+)+[78]", "takes too long" },
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        bool selected[N_MODULES];

        if (at_adapter_select(selected, &model, cases[i].target_modules) != AT_USAGE)
            fail_msg("not refused: %s", cases[i].target_modules);
        require_message(cases[i].part);
    }
}

/* Ranks and alphas of layer 0, then of layer 1; a module without an adapter has neither. */
static void check_layout(const struct at_adapter_params *params, const char *want)
{
    struct at_buf got = { 0 };
    double alpha[N_MODULES];
    uint32_t rank[N_MODULES];

    REQUIRE_OK(at_adapter_layout(rank, alpha, &model, params));
    for (size_t k = 0; k < N_MODULES; k++)
        at_buf_printf(&got, rank[k] ? "%s%u/%g" : "%s.", k ? " " : "", rank[k], alpha[k]);
    if (strcmp(got.data, want) != 0)
        fail_msg("got %s, expected %s", got.data, want);
    at_buf_release(&got);
}

static const double second_layer[] = { 1 };

static void layout_follows_layers_and_patterns_as_peft(void **state)
{
    struct at_adapter_params p = { .r = 4, .alpha = 8, .target_modules = "q_proj,down_proj" };

    (void)state;
    check_layout(&p, "4/8 . . . . . 4/8 4/8 . . . . . 4/8");
    p.layers = second_layer;
    p.n_layers = 1;
    check_layout(&p, ". . . . . . . 4/8 . . . . . 4/8");
    p.target_modules = "all-linear";
    p.rank_pattern = "{\"layers.1.mlp.down_proj\":6,\"(q|down)_proj\":2}";
    p.alpha_pattern = "{\"self_attn.*\":3,\"q_proj\":5,\"up_proj\":16}";
    check_layout(&p, ". . . . . . . 2/3 4/3 4/3 4/3 4/8 4/16 6/8");
    p.n_layers = 0; /* the first key that matches counts; a dot in front, or the whole path */
    p.target_modules = "q_proj";
    p.rank_pattern = "{\"model.layers.0.self_attn.q_proj\":3,\"q_proj\":2,\".*\":9}";
    p.alpha_pattern = "{\"_proj|1.self_attn.q_proj\":1}"; /* no dot in front of _proj */
    check_layout(&p, "3/8 . . . . . . 2/1 . . . . . .");
}

static void layouts_that_select_nothing_are_refused(void **state)
{
    static const double beyond[] = { 2 }, half[] = { 0.5 };
    static const struct {
        struct at_adapter_params p;
        const char *part;
    } cases[] = {
        { { .rank_pattern = "{\"q_porj\":2}" },
          "rank_pattern: \"q_porj\" matches no module that has an adapter; the nearest is q_proj" },
        { { .alpha_pattern = "{\"v_proj\":2,\"mlp.dwn_proj\":2}" }, "the nearest is down_proj" },
        { { .alpha_pattern = "{\"model.layers.1.self_atn.v_proj\":2}" },
          "the nearest is model.layers.1.self_attn.v_proj" },
        { { .rank_pattern = "{\"k_proj\":2}" }, "\"k_proj\" matches no module" },
        { { .rank_pattern = "{\"q_proj\":2.5}" }, "must have a whole number from 1 to 1024" },
        { { .rank_pattern = "{\"q_proj\":2000}" }, "must have a whole number from 1 to 1024" },
        { { .alpha_pattern = "{\"q_proj\":0}" }, "must have a number from" },
        { { .rank_pattern = "{\"q_proj)\":2}" }, "rank_pattern: the pattern" },
        { { .rank_pattern = "{\"((.|..)+)+[78]\":2}" }, "takes too long" },
        { { .layers = beyond, .n_layers = 1 }, "2 is no layer of this model, which has 0 to 1" },
        { { .layers = half, .n_layers = 1 }, "0.5 is no layer" },
        { { .layers = second_layer, .n_layers = 1, .target_modules = ".*q_proj" },
          "layers_to_transform needs target modules by name" },
        { { .layers = second_layer, .n_layers = 1, .target_modules = "layers.0.mlp.up_proj" },
          "selects nothing in the layers" },
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        struct at_adapter_params p = cases[i].p;
        double alpha[N_MODULES];
        uint32_t rank[N_MODULES];

        p.r = 4;
        p.alpha = 8;
        p.target_modules = p.target_modules ? p.target_modules : "q_proj,v_proj,down_proj";
        if (at_adapter_layout(rank, alpha, &model, &p) != AT_USAGE)
            fail_msg("not refused: expected \"%s\"", cases[i].part);
        require_message(cases[i].part);
    }
}

static void fresh_adapter_plans_its_parameters(void **state)
{
    const struct at_adapter_params params = {
        .r = 4, .alpha = 6, .rslora = true, .target_modules = "k_proj,down_proj"
    };
    struct at_adapter adapter;
    struct at_params arena;

    (void)state;
    REQUIRE_OK(at_params_init(&arena, 1 << 20));
    REQUIRE_OK(at_adapter_plan_fresh(&adapter, &model, &params, &arena));
    assert_true(adapter.trainable);
    assert_null(adapter.reference);
    assert_true(adapter.zero); /* also where sync_ref_model plans a copy of it */
    assert_int_equal(adapter.n_modules, N_MODULES);
    assert_int_equal(adapter.rank[0], 0);
    assert_int_equal(adapter.rank[1], 4);
    assert_true(adapter.lora[1].scale == 3);
    assert_int_equal(arena.n, 8);
    assert_string_equal(adapter.A[1]->name,
                        "base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight");
    assert_string_equal(adapter.B[13]->name,
                        "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight");
    assert_int_equal(adapter.A[13]->rows, 4);
    assert_int_equal(adapter.A[13]->cols, 12);
    assert_int_equal(adapter.B[13]->rows, 8);
    assert_int_equal(adapter.B[13]->cols, 4);
    assert_int_equal(at_params_count(&arena), 2 * (4 * (8 + 4) + 4 * (12 + 8)));
    at_adapter_release(&adapter);
    at_params_release(&arena);
}

/* ---- PEFT folders ---- */

#define Q0 "base_model.model.model.layers.0.self_attn.q_proj.lora_"
static const float values[3 * 8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, zeros[8 * 3];
static const char good_config[] = "\"r\":3,\"lora_alpha\":6";

/* A folder with the given tensors; the config holds "peft_type" and this text. */
static void write_adapter(const char *config, const struct at_save_tensor *tensors, size_t n)
{
    struct at_buf text = { 0 };

    at_buf_printf(&text, "{\"peft_type\":\"LORA\",%s}", config);
    write_file(CONFIG, text.data, text.n);
    at_buf_release(&text);
    REQUIRE_OK(at_safetensors_write(TENSORS, tensors, n, NULL, 0));
}

static const struct at_save_tensor good_tensors[] = {
    { .name = Q0 "A.weight", .n_dims = 2, .dim = { RANK, 8 }, .values = values },
    { .name = Q0 "B.weight", .n_dims = 2, .dim = { 8, RANK }, .values = zeros },
};

static enum at_status load(struct at_adapter *adapter, struct at_params *arena)
{
    REQUIRE_OK(at_params_init(arena, 1 << 20));
    return at_adapter_plan_load(adapter, &model, TMP, arena, NULL);
}

/* Refused, with nothing planned: no parameter was added. */
static void refuse(enum at_status want, const char *part)
{
    struct at_adapter adapter;
    struct at_params arena;

    if (load(&adapter, &arena) != want)
        fail_msg("not refused: expected \"%s\"", part);
    require_message(part);
    require_message(TMP);
    assert_int_equal(arena.n, 0);
    assert_null(adapter.lora); /* callers release an adapter only after success */
    at_params_release(&arena);
}

static void folder_is_read(void **state)
{
    struct at_adapter adapter;
    struct at_params arena;

    (void)state;
    write_adapter(good_config, good_tensors, 2);
    REQUIRE_OK(load(&adapter, &arena));
    assert_int_equal(adapter.r, RANK);
    assert_true(adapter.alpha == 6);
    assert_false(adapter.rslora);
    assert_int_equal(adapter.rank[0], RANK);
    assert_int_equal(adapter.rank[1], 0);
    assert_true(adapter.lora[0].scale == 2);
    assert_null(adapter.reference); /* B is zero: the reference pass skips it */
    assert_true(adapter.zero);
    assert_int_equal(arena.n, 2);
    at_adapter_release(&adapter);
    at_params_release(&arena);
    write_adapter("\"r\":3,\"lora_alpha\":6,\"use_rslora\":true", good_tensors, 2);
    REQUIRE_OK(load(&adapter, &arena));
    assert_true(adapter.rslora);
    assert_true(adapter.lora[0].scale == (float)(6 / sqrt(3)));
    at_adapter_release(&adapter);
    at_params_release(&arena);
    write_adapter("\"r\":8,\"lora_alpha\":6,\"rank_pattern\":{\"q_proj\":3,\"nosuch\":5},"
                  "\"alpha_pattern\":{\"layers.0.*\":12,\"q_proj\":1}",
                  good_tensors, 2);
    REQUIRE_OK(load(&adapter, &arena));
    assert_int_equal(adapter.r, 8);
    assert_int_equal(adapter.rank[0], RANK);
    assert_int_equal(adapter.max_rank, RANK);
    assert_int_equal(adapter.rank[1], 0);
    assert_true(adapter.alpha == 6 && adapter.alphas[0] == 12);
    assert_true(adapter.lora[0].scale == 4);
    at_adapter_release(&adapter);
    at_params_release(&arena);
}

/* The gap warnings that loading the two tensors of layer 0's q_proj gives under this config. */
static size_t gaps(const char *more)
{
    const size_t before = at_warn_count("adapter_gap");
    struct at_adapter adapter;
    struct at_params arena;
    char text[200];

    snprintf(text, sizeof text, "%s,%s", good_config, more);
    write_adapter(text, good_tensors, 2);
    REQUIRE_OK(load(&adapter, &arena));
    at_adapter_release(&adapter);
    at_params_release(&arena);
    return at_warn_count("adapter_gap") - before;
}

static char gap[300];

static void keep_gap(const char *kind, const char *text)
{
    snprintf(gap, sizeof gap, "%s: %s", kind, text);
}

static void missing_targets_are_warned_of(void **state)
{
    (void)state;
    assert_int_equal(gaps("\"target_modules\":null"), 0);
    assert_int_equal(gaps("\"target_modules\":[\"layers.0.self_attn.q_proj\"]"), 0);
    assert_int_equal(gaps("\"target_modules\":\".*layers.0.*q_proj\""), 0);
    assert_int_equal(gaps("\"target_modules\":[\"q_proj\"],\"layers_to_transform\":[0]"), 0);
    assert_int_equal(gaps("\"target_modules\":[\"c_attn\"]"), 0);
    assert_int_equal(gaps("\"target_modules\":\"all-linear\""), 1);
    at_warn_set_sink(keep_gap);
    assert_int_equal(gaps("\"target_modules\":[\"q_proj\",\"up_proj\"]"), 1);
    at_warn_set_sink(NULL);
    assert_non_null(strstr(gap, "adapter_gap: " CONFIG ": target_modules selects "
                                "model.layers.0.mlp.up_proj"));
    assert_non_null(strstr(gap, "such modules: 3."));
}

static void harmless_configs_are_read(void **state)
{
    static const char *const texts[] = {
        "\"use_dora\":false,\"modules_to_save\":null,\"rank_pattern\":{},\"bias\":\"none\"",
        "\"init_lora_weights\":true,\"loftq_config\":{},\"qalora_group_size\":16",
        "\"init_lora_weights\":\"gaussian\",\"layers_to_transform\":[0],\"lora_dropout\":0.1",
        "\"ensure_weight_tying\":false,\"auto_mapping\":null,\"peft_version\":\"0.21.2\",\"target_"
        "modules\":[\"q_proj\"]",
        "\"trainable_token_indices\":null,\"megatron_core\":\"megatron.core\"",
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(texts); i++) {
        struct at_adapter adapter;
        struct at_params arena;
        char text[300];

        snprintf(text, sizeof text, "%s,%s", good_config, texts[i]);
        write_adapter(text, good_tensors, 2);
        REQUIRE_OK(load(&adapter, &arena));
        at_adapter_release(&adapter);
        at_params_release(&arena);
    }
}

static void configs_that_change_the_computation_are_refused(void **state)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        { "\"use_dora\":true", "use_dora is set and tensor " Q0 "magnitude_vector is missing" },
        { "\"modules_to_save\":[\"norm\"]", "holds \"norm\", which this version does not read" },
        { "\"modules_to_save\":\"lm_head\"", "modules_to_save must be a list" },
        { "\"modules_to_save\":[\"lm_head\"]", "lm_head.weight is missing" },
        { "\"modules_to_save\":[\"embed_tokens\"],\"ensure_weight_tying\":true",
          "ensure_weight_tying is set" },
        { "\"bias\":\"all\"", "bias is \"all\"" },
        { "\"lora_bias\":true", "lora_bias is set" },
        { "\"rank_pattern\":{\"q_proj\":4}", "3 x 8; expected 4 x 8" },
        { "\"rank_pattern\":{\"q_proj\":0}", "rank_pattern: \"q_proj\" must have a whole number" },
        { "\"rank_pattern\":{\"(\":3}", "rank_pattern: the pattern" },
        { "\"alpha_pattern\":{\"q_proj\":\"4\"}", "alpha_pattern: \"q_proj\" must have a number" },
        { "\"alpha_pattern\":[4]", "alpha_pattern: must be an object" },
        { "\"fan_in_fan_out\":true", "fan_in_fan_out is set" },
        { "\"layer_replication\":[[0,2]]", "layer_replication is set" },
        { "\"target_parameters\":[\"w\"]", "target_parameters is set" },
        { "\"trainable_token_indices\":[1]", "trainable_token_indices is set" },
        { "\"alora_invocation_tokens\":[1,2]", "alora_invocation_tokens is set" },
        { "\"use_qalora\":true", "use_qalora is set" },
        { "\"init_lora_weights\":\"pissa\"", "init_lora_weights is \"pissa\"" },
        { "\"init_lora_weights\":\"loftq\"", "a changed base" },
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        char text[200];

        snprintf(text, sizeof text, "%s,%s", good_config, cases[i].text);
        write_adapter(text, good_tensors, 2);
        refuse(AT_DATA, cases[i].part);
    }
    write_adapter("\"r\":0", good_tensors, 2);
    refuse(AT_DATA, "r is 0; expected 1 to 65536");
    write_adapter("\"r\":70000", good_tensors, 2);
    refuse(AT_DATA, "r is 70000");
    write_adapter("\"r\":3,\"lora_alpha\":1e300", good_tensors, 2);
    refuse(AT_DATA, "lora_alpha is 1e+300");
    write_adapter("\"r\":\"3\"", good_tensors, 2);
    refuse(AT_DATA, "r");
    write_text(CONFIG, "[]");
    refuse(AT_DATA, "must be an object");
    write_text(CONFIG, "{\"r\":3}");
    refuse(AT_DATA, "peft_type");
    write_text(CONFIG, "{\"peft_type\":\"IA3\"}");
    refuse(AT_DATA, "peft_type is \"IA3\"");
}

/* A reward model's folder: with the model of one, and only then; a language model's the other way
 * round. */
static void heads_and_models_belong_together(void **state)
{
    static const char reward[] = "\"r\":3,\"lora_alpha\":6,\"task_type\":\"SEQ_CLS\",\"modules_to_"
                                 "save\":[\"classifier\",\"score\"]";
    struct at_model_config with_head = model;
    struct at_save_tensor t[3] = {
        good_tensors[0],
        good_tensors[1],
        { .name = AT_ADAPTER_SCORE, .n_dims = 2, .dim = { 1, 8 }, .values = values }
    };
    struct at_adapter adapter;
    struct at_params arena;

    (void)state;
    with_head.value_head = true;
    write_adapter(reward, t, 3);
    refuse(AT_DATA, "the adapter of a reward model");
    REQUIRE_OK(at_params_init(&arena, 1 << 20));
    REQUIRE_OK(at_adapter_plan_load(&adapter, &with_head, TMP, &arena, NULL));
    assert_non_null(adapter.score);
    at_adapter_release(&adapter);
    at_params_release(&arena);
    write_adapter(good_config, t, 3); /* as a language model's it has a tensor too many */
    refuse(AT_DATA, AT_ADAPTER_SCORE " belongs to no linear layer");
    write_adapter(reward, t, 2);
    REQUIRE_OK(at_params_init(&arena, 1 << 20));
    assert_int_equal(at_adapter_plan_load(&adapter, &with_head, TMP, &arena, NULL), AT_DATA);
    require_message("holds no " AT_ADAPTER_SCORE);
    at_params_release(&arena);
    write_adapter("\"r\":3,\"task_type\":\"SEQ_CLS\",\"modules_to_save\":[\"score\",\"lm_head\"]",
                  t, 3);
    REQUIRE_OK(at_params_init(&arena, 1 << 20));
    assert_int_equal(at_adapter_plan_load(&adapter, &with_head, TMP, &arena, NULL), AT_DATA);
    require_message("modules_to_save holds \"lm_head\"");
    at_params_release(&arena);
}

static void magnitudes_of_dora_are_read(void **state)
{
    struct at_save_tensor t[] = {
        good_tensors[0],
        good_tensors[1],
        { .name = Q0 "magnitude_vector", .n_dims = 1, .dim = { 8 }, .values = values },
    };
    static const char config[] = "\"r\":3,\"lora_alpha\":6,\"use_dora\":true";
    const struct at_adapter *stack[2];
    struct at_adapter adapter;
    struct at_params arena;

    (void)state;
    write_adapter(config, t, 3);
    REQUIRE_OK(at_params_init(&arena, 1 << 20));
    REQUIRE_OK(at_adapter_plan_fresh(
        &adapter, &model,
        &(struct at_adapter_params){ .r = 2, .alpha = 2, .dora = true, .target_modules = "q_proj" },
        &arena));
    assert_int_equal(arena.n, 6); /* A, B, m of two layers */
    assert_string_equal(adapter.m[0]->name, t[2].name);
    assert_int_equal(adapter.m[0]->cols, 8);
    stack[0] = stack[1] = &adapter;
    REQUIRE_OK(at_adapter_check_stack(stack, 1));
    assert_int_equal(at_adapter_check_stack(stack, 2), AT_USAGE);
    require_message("an adapter with DoRA cannot be stacked");
    at_adapter_release(&adapter);
    at_params_release(&arena);
    write_adapter(good_config, t, 3);
    refuse(AT_DATA, Q0 "magnitude_vector belongs to no linear layer");
    t[2].dim[0] = 7;
    write_adapter(config, t, 3);
    refuse(AT_DATA, "magnitude_vector has 1 dimensions of 1 x 7; expected 1 of 8");
}

/* Head and embedding of an adapter's file, and what a frozen one leaves to train. */
static void saved_modules_are_read(void **state)
{
    static const float table[16 * 8] = { 1 };
    struct at_save_tensor t[] = {
        good_tensors[0],
        good_tensors[1],
        { .name = "base_model.model.lm_head.weight",
          .n_dims = 2,
          .dim = { 16, 8 },
          .values = table },
        { .name = "base_model.model.model.embed_tokens.weight",
          .n_dims = 2,
          .dim = { 16, 8 },
          .values = table },
    };
    static const char both[] =
        "\"r\":3,\"lora_alpha\":6,\"modules_to_save\":[\"model.embed_tokens\",\"lm_head\"]";
    const struct at_source *top[AT_SAVED_COUNT] = { NULL }, *score = NULL;
    const struct at_adapter *stack[2];
    struct at_adapter adapter, plain;
    struct at_params arena;

    (void)state;
    write_adapter(both, t, 4);
    REQUIRE_OK(load(&adapter, &arena));
    assert_true(adapter.trains_saved[AT_SAVED_EMBED] && adapter.trains_saved[AT_SAVED_HEAD]);
    assert_string_equal(adapter.saved[AT_SAVED_HEAD]->name, t[2].name);
    assert_string_equal(adapter.saved[AT_SAVED_EMBED]->name, t[3].name);
    write_adapter(good_config, t, 2);
    REQUIRE_OK(at_adapter_plan_load(&plain, &model, TMP, &arena, NULL));
    assert_false(plain.trains_saved[AT_SAVED_EMBED] || plain.trains_saved[AT_SAVED_HEAD]);
    stack[0] = &adapter;
    stack[1] = &plain;
    at_adapter_top(top, &score, stack, 2);
    assert_ptr_equal(top[AT_SAVED_HEAD], adapter.saved[AT_SAVED_HEAD]);
    assert_ptr_equal(top[AT_SAVED_EMBED], adapter.saved[AT_SAVED_EMBED]);
    at_adapter_release(&plain);
    at_adapter_release(&adapter);
    at_params_release(&arena);
    t[3].dim[0] = 8;
    t[3].dim[1] = 16;
    write_adapter(both, t, 4);
    refuse(AT_DATA, "embed_tokens.weight has 2 dimensions of 8 x 16; expected 16 x 8");
    write_adapter(good_config, t, 3);
    refuse(AT_DATA, "lm_head.weight belongs to no linear layer");
}

/* Two outputs are a classifier's. */
static void heads_have_one_output(void **state)
{
    const struct at_source two = {
        .name = "score.weight", .file = "m", .n_dims = 2, .rows = 2, .cols = 8
    };
    struct at_value_head head;
    struct at_params arena;

    (void)state;
    REQUIRE_OK(at_params_init(&arena, 1 << 20));
    assert_int_equal(at_value_head_plan(&head, 8, 0.02, &arena, &two), AT_DATA);
    require_message("a reward model has one output: 1 x 8");
    assert_int_equal(arena.n, 0);
    at_params_release(&arena);
}

static void reward_config_is_as_transformers_writes_it(void **state)
{
    static const char language[] =
        "{\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2\",\"vocab_size\":7}";
    struct at_buf out = { 0 }, again = { 0 }, bare = { 0 };

    (void)state;
    REQUIRE_OK(at_value_head_config(&out, language, "config.json", 7));
    assert_non_null(strstr(out.data, "\"Qwen2ForSequenceClassification\""));
    assert_null(strstr(out.data, "CausalLM"));
    assert_non_null(strstr(out.data, "\"id2label\": {\n    \"0\": \"LABEL_0\""));
    assert_non_null(strstr(out.data, "\"LABEL_0\": 0"));
    assert_non_null(strstr(out.data, "\"vocab_size\": 7"));
    assert_non_null(strstr(out.data, "\"pad_token_id\": 7"));
    REQUIRE_OK(at_value_head_config(&again, out.data, "config.json", 9));
    assert_string_equal(again.data, out.data);
    REQUIRE_OK(at_value_head_config(&bare, "{\"model_type\":\"llama\"}", "config.json", -1));
    assert_non_null(strstr(bare.data, "\"LlamaForSequenceClassification\""));
    assert_null(strstr(bare.data, "pad_token_id"));
    at_buf_release(&out);
    at_buf_release(&again);
    at_buf_release(&bare);
}

static void wrong_tensors_are_refused(void **state)
{
    const float nan[36] = { 0, 0, 0, 0, 0, NAN };
    struct at_save_tensor t[3] = { good_tensors[0], good_tensors[1] };

    (void)state;
    write_adapter("\"r\":4", good_tensors, 2);
    refuse(AT_DATA, "has 2 dimensions of 3 x 8; expected 4 x 8");
    t[0].dim[1] = 4;
    write_adapter(good_config, t, 2);
    refuse(AT_DATA, Q0 "A.weight has 2 dimensions of 3 x 4; expected 3 x 8");
    t[0] = good_tensors[0];
    t[1].dim[0] = 3;
    t[1].dim[1] = 8;
    write_adapter(good_config, t, 2);
    refuse(AT_DATA, Q0 "B.weight has 2 dimensions of 3 x 8; expected 8 x 3");
    t[1] = good_tensors[1];
    t[0].n_dims = 3;
    t[0].dim[1] = 1;
    t[0].dim[2] = 8;
    write_adapter(good_config, t, 2);
    refuse(AT_DATA, "has 3 dimensions");
    write_adapter(good_config, good_tensors, 1);
    refuse(AT_DATA, Q0 "A.weight has no partner lora_B");
    write_adapter(good_config, good_tensors + 1, 1);
    refuse(AT_DATA, Q0 "B.weight has no partner lora_A");
    t[0] = good_tensors[0];
    t[2] = (struct at_save_tensor){ .name = "base_model.model.lm_head.lora_A.weight",
                                    .n_dims = 1,
                                    .dim = { 1 },
                                    .values = values };
    write_adapter(good_config, t, 3);
    refuse(AT_DATA, "lm_head.lora_A.weight belongs to no linear layer");
    t[2].name = "base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight";
    write_adapter(good_config, t, 3);
    refuse(AT_DATA, "layers.2.self_attn.q_proj.lora_A.weight belongs to no");
    t[2].name = Q0 "magnitude_vector";
    write_adapter(good_config, t, 3);
    refuse(AT_DATA, "lora_magnitude_vector belongs to no");
    write_adapter(good_config, t, 0);
    refuse(AT_DATA, "holds no tensor");
    t[0].values = nan;
    assert_int_equal(at_safetensors_write(TENSORS, t, 2, NULL, 0), AT_NUMERIC);
    write_safetensors(TENSORS,
                      "{\"" Q0 "A.weight\":{\"dtype\":\"F32\",\"shape\":[3,8],"
                      "\"data_offsets\":[0,96]},\"" Q0 "B.weight\":{\"dtype\":\"F16\","
                      "\"shape\":[8,3],\"data_offsets\":[96,144]}}",
                      nan, 144);
    refuse(AT_DATA, "A.weight: value 5 is not finite");
    write_safetensors(TENSORS,
                      "{\"" Q0 "A.weight\":{\"dtype\":\"I32\",\"shape\":[3,8],"
                      "\"data_offsets\":[0,96]},\"" Q0 "B.weight\":{\"dtype\":\"I32\","
                      "\"shape\":[8,3],\"data_offsets\":[96,192]}}",
                      (float[48]){ 0 }, 192);
    refuse(AT_DATA, "is I32; adapters must be F32, F16 or BF16");
}

static void missing_and_pickle_files_are_refused(void **state)
{
    (void)state;
    refuse(AT_NOT_FOUND, "adapter_config.json");
    write_text(CONFIG, "{\"peft_type\":\"LORA\"}");
    refuse(AT_NOT_FOUND, "adapter_model.safetensors");
    write_text(TMP "/adapter_model.bin", "\x80\2.");
    refuse(AT_DATA, "adapter_model.bin: a pickle file");
    write_text(TENSORS, "PK\3\4 a zip under another name");
    refuse(AT_DATA, "pickle or zip");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(modules_are_selected_as_peft_selects, make_folder),
        cmocka_unit_test_setup(selections_of_nothing_are_refused, make_folder),
        cmocka_unit_test_setup(layout_follows_layers_and_patterns_as_peft, make_folder),
        cmocka_unit_test_setup(layouts_that_select_nothing_are_refused, make_folder),
        cmocka_unit_test_setup(fresh_adapter_plans_its_parameters, make_folder),
        cmocka_unit_test_setup(folder_is_read, make_folder),
        cmocka_unit_test_setup(harmless_configs_are_read, make_folder),
        cmocka_unit_test_setup(missing_targets_are_warned_of, make_folder),
        cmocka_unit_test_setup(configs_that_change_the_computation_are_refused, make_folder),
        cmocka_unit_test_setup(heads_and_models_belong_together, make_folder),
        cmocka_unit_test_setup(magnitudes_of_dora_are_read, make_folder),
        cmocka_unit_test_setup(saved_modules_are_read, make_folder),
        cmocka_unit_test_setup(heads_have_one_output, make_folder),
        cmocka_unit_test_setup(reward_config_is_as_transformers_writes_it, make_folder),
        cmocka_unit_test_setup(wrong_tensors_are_refused, make_folder),
        cmocka_unit_test_setup(missing_and_pickle_files_are_refused, make_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
