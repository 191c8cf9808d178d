/* Every flag of every row of the family table, and every bias, window, cap, scale and turn that its
 * configuration gives it, switched off in turn: a log-prob of a row moves by more than 1e-2. A flag
 * of struct at_family that this test does not know fails it. Weights are drawn by their names. */
#include "gpu_test.h"

#include "engine.h"
#include "model_files.h"
#include "rng.h"

#include <stddef.h>

enum { N_TOKENS = 24, CAPACITY = 64, V = 61 };
static const double LEAST = 1e-2;

/* Flags that this test switches off in the family's row, sorted. */
#define FLAG(name)                              \
    {                                           \
#name, offsetof(struct at_family, name) \
    }
static const struct flag {
    const char *name;
    size_t at;
} flags[] = {
    FLAG(gelu),     FLAG(layer_norm), FLAG(local_rope), FLAG(no_pre_norms), FLAG(one_norm),
    FLAG(parallel), FLAG(post_norms), FLAG(qk_norm),    FLAG(qk_norm_wide), FLAG(ungated),
};
/* Those of files and configurations, and what holds them. */
static const struct {
    const char *name, *test;
} others[] = {
    { "embed_scaled", "here, as the configuration's embed_scale" },
    { "gguf_permutes_qk", "parity.model, and GGUF of every family in the peers group" },
    { "gguf_ties", "merged files of gemma2 in the peers group" },
    { "long_restarts", "golden.families, long_replies" },
    { "multipliers", "here, as the configuration's scales" },
    { "norm_offset", "golden.families (make_families.py: norm offset)" },
    { "qkv_by_group", "golden.families (make_families.py: groups)" },
};

/* Names for what a row does not have, so that it can be there when a flag is off. */
static const struct at_names extra[AT_ROLE_COUNT] = {
    [AT_ATTN_NORM] = { "extra.%u.attn_norm", "extra.%u.attn_norm", NULL },
    [AT_MLP_NORM] = { "extra.%u.mlp_norm", "extra.%u.mlp_norm", NULL },
    [AT_ATTN_NORM_BIAS] = { "extra.%u.attn_norm.bias", "extra.%u.attn_norm.bias", NULL },
    [AT_MLP_NORM_BIAS] = { "extra.%u.mlp_norm.bias", "extra.%u.mlp_norm.bias", NULL },
    [AT_GATE] = { "extra.%u.gate", "extra.%u.gate", "extra.%u.gate" },
};

struct lab {
    struct at_gpu *gpu;
    struct at_stream *stream;
    struct at_slab slab;
    int32_t ids[N_TOKENS];
    uint8_t targets[N_TOKENS];
};

/* ---- a model ---- */

static void write_param(struct lab *lab, const struct at_param *param)
{
    const size_t n = (size_t)param->rows * param->cols;
    const bool is_bias = strstr(param->name, "bias") != NULL, is_vector = param->rows == 1;
    const double width = is_vector ? 0.5 : param->cols == 48 && param->rows == V ? 0.7 : 0;
    float *values = malloc(n * sizeof *values);
    uint64_t seed = 14695981039346656037u;

    assert_non_null(values);
    for (const char *c = param->name; *c; c++)
        seed = (seed ^ (unsigned char)*c) * 1099511628211u;
    struct at_rng rng = at_rng_make(seed, AT_RNG_TEST, 0, 0);
    for (size_t i = 0; i < n; i++)
        values[i] =
            (float)((2 * at_rng_uniform(&rng) - 1) * (width > 0 ? width : 2.4 / sqrt(param->cols)) +
                    (is_vector && !is_bias ? 1 : 0));
    OK(at_tensor_write(lab->gpu, param->p, values));
    free(values);
}

/* The log-prob of the lab's row. */
static double logp(struct lab *lab, const struct at_model_config *config)
{
    const struct at_decoder_params decoder_params = { .capacity = CAPACITY,
                                                      .capacity_rows = CAPACITY,
                                                      .capacity_segments = CAPACITY };
    const struct at_batch batch = at_engine_batch(&lab->slab);
    struct at_segment_result sum;
    struct at_params params;
    struct at_pool *pool = NULL;
    struct at_model model;
    struct at_decoder decoder = { 0 };

    OK(at_pool_create(&pool, lab->gpu, "family"));
    OK(at_params_init(&params, at_gpu_get_info(lab->gpu)->max_range_bytes));
    OK(at_model_plan(&model, config, NULL, pool, &params, CAPACITY, NULL));
    OK(at_params_plan(&params, pool, NULL));
    OK(at_decoder_plan(&decoder, &model, NULL, 0, pool, &decoder_params));
    OK(at_pool_commit(pool));
    at_params_bind(&params);
    OK(at_model_upload(&model, lab->gpu, 1));
    for (size_t i = 0; i < params.n; i++)
        write_param(lab, params.items[i]);
    at_decoder_begin(lab->stream, &decoder, &batch);
    at_decoder_forward(lab->stream, &decoder, &batch, AT_PASS_POLICY_EVAL,
                       at_view_part(decoder.sums, 0, sizeof sum));
    at_stream_download(lab->stream, &sum, decoder.sums, sizeof sum);
    OK(at_stream_wait(lab->stream));
    at_decoder_release(&decoder);
    at_model_release(&model);
    at_params_release(&params);
    at_pool_destroy(&pool);
    return (double)sum.logp;
}

/* ---- a family's configuration ---- */

static void put_bias_keys(struct at_buf *out, const struct at_family *f)
{
    if (f->bias_keys.attention_bias)
        at_buf_puts(out, ",\"attention_bias\":true");
    if (f->bias_keys.mlp_bias)
        at_buf_puts(out, ",\"mlp_bias\":true");
    if (f->bias_keys.use_qkv_bias)
        at_buf_puts(out, ",\"use_qkv_bias\":true");
}

/* All that the family can have. */
static void read_config(struct at_model_config *out, const struct at_family *f, bool second)
{
    struct at_buf text = { 0 };
    cJSON *json = NULL;

    at_buf_printf(&text,
                  "{\"model_type\":\"%s\",\"hidden_size\":48,\"num_attention_heads\":6,"
                  "\"num_key_value_heads\":2,\"head_dim\":8,\"intermediate_size\":28,"
                  "\"ffn_hidden_size\":28,\"vocab_size\":%d,\"num_hidden_layers\":3,"
                  "\"max_position_embeddings\":256,\"tie_word_embeddings\":false,"
                  "\"%s\":1e-5,\"rope_theta\":100.0",
                  f->name, V, f->eps_key ? f->eps_key : "rms_norm_eps");
    if (at_family_variant(f) || second)
        at_buf_printf(&text,
                      ",\"multi_query\":%s,\"num_kv_heads\":2,\"new_decoder_architecture\":%s",
                      second ? "false" : "true", second ? "true" : "false");
    if (f->windows != AT_WINDOWS_NONE)
        at_buf_puts(&text, ",\"sliding_window\":6,\"use_sliding_window\":true,"
                           "\"max_window_layers\":1,\"rope_local_base_freq\":10.0");
    if (f->no_rope_interval > 0)
        at_buf_puts(&text, ",\"no_rope_layer_interval\":2");
    if (f->defaults.partial > 0)
        at_buf_puts(&text, ",\"partial_rotary_factor\":0.5");
    if (f->defaults.attention_cap > 0)
        at_buf_puts(&text, ",\"attn_logit_softcapping\":1.5,\"final_logit_softcapping\":4.0");
    if (f->defaults.query_scalar > 0)
        at_buf_puts(&text, ",\"query_pre_attn_scalar\":30");
    if (f->multipliers)
        at_buf_puts(&text, ",\"embedding_multiplier\":1.7,\"attention_multiplier\":0.2,"
                           "\"residual_multiplier\":0.6,\"logits_scaling\":1.4");
    put_bias_keys(&text, f);
    at_buf_puts(&text, "}");
    OK(at_buf_status(&text));
    OK(at_json_parse(&json, text.data, text.n, f->name, 1));
    OK(at_model_config_from_json(out, json, f->name));
    assert_ptr_equal(out->family, f);
    at_json_free(&json);
    at_buf_release(&text);
}

/* ---- switches of a configuration: each is off, or false where the family has none ---- */

static bool without_windows(struct at_model_config *c, uint32_t i)
{
    (void)i;
    if (c->window == 0 || (!c->windowed[0] && c->L < 64))
        return false;
    memset(c->windowed, 0, sizeof c->windowed);
    return true;
}

static bool without_unturned(struct at_model_config *c, uint32_t i)
{
    (void)i;
    if (!c->unturned[0])
        return false;
    memset(c->unturned, 0, sizeof c->unturned);
    return true;
}

static bool without_bias(struct at_model_config *c, uint32_t i)
{
    const bool has = c->biases >> i & 1;

    c->biases &= ~(1u << i);
    return has;
}

static bool without_scale(struct at_model_config *c, uint32_t i)
{
    const struct {
        float *at, off;
    } scales[] = {
        { &c->attention_scale, 1 / sqrtf((float)c->D) },
        { &c->attention_cap, 0 },
        { &c->final_cap, 0 },
        { &c->embed_scale, 1 },
        { &c->residual_scale, 1 },
        { &c->logit_scale, 1 },
    };
    const bool has = fabsf(*scales[i].at - scales[i].off) > 1e-6f;

    *scales[i].at = scales[i].off;
    return has;
}

static bool without_part(struct at_model_config *c, uint32_t i)
{
    const bool has = c->rotary < c->D;

    (void)i;
    c->rotary = c->D;
    return has;
}

static bool without_head(struct at_model_config *c, uint32_t i)
{
    (void)i;
    c->tied = true;
    return true;
}

static const struct {
    const char *name;
    uint32_t n;
    bool (*off)(struct at_model_config *c, uint32_t i);
} switches[] = {
    { "bias", AT_LINEARS, without_bias },       { "head of its own", 1, without_head },
    { "partial turn", 1, without_part },        { "scale or cap", 6, without_scale },
    { "layers unturned", 1, without_unturned }, { "windows", 1, without_windows },
};

/* ---- tests ---- */

static uint32_t require_moved(struct lab *lab, double base, const struct at_model_config *c,
                              const char *family, const char *what, uint32_t i)
{
    const double moved = fabs(logp(lab, c) - base);

    if (!(moved > LEAST))
        fail_msg("%s: without %s %u the log-prob moves by %.3g", family, what, i, moved);
    return 1;
}

/* The row with a flag off, and names for what is then there. */
static bool switch_off(struct at_family *out, struct at_names *names, const struct at_family *f,
                       const struct flag *flag)
{
    bool *on = (bool *)(void *)((char *)out + flag->at);

    *out = *f;
    if (!*on)
        return false;
    *on = false;
    for (uint32_t role = 0; role < AT_ROLE_COUNT; role++) {
        const bool given = f->names && f->names[role].hf;
        names[role] = given ? f->names[role] : (struct at_names){ NULL, NULL, NULL };
        if (given && !f->names[role].hf[0] && extra[role].hf)
            names[role] = extra[role];
    }
    out->names = names;
    return true;
}

static uint32_t check_family(struct lab *lab, const struct at_family *f, bool second)
{
    static struct at_model_config whole, c;
    struct at_names names[AT_ROLE_COUNT];
    struct at_family changed;
    uint32_t n = 0;

    read_config(&whole, f, second);
    const double base = logp(lab, &whole);
    assert_true(base == logp(lab, &whole));
    for (size_t k = 0; k < AT_COUNT(flags); k++) {
        if (!switch_off(&changed, names, f, &flags[k]))
            continue;
        c = whole;
        c.family = &changed;
        n += require_moved(lab, base, &c, f->name, flags[k].name, 0);
    }
    for (size_t k = 0; k < AT_COUNT(switches); k++)
        for (uint32_t i = 0; i < switches[k].n; i++) {
            c = whole;
            if (switches[k].off(&c, i))
                n += require_moved(lab, base, &c, f->name, switches[k].name, i);
        }
    return n;
}

static void every_flag_of_every_family_moves_a_log_prob(void **state)
{
    struct lab lab = { .gpu = gt_open_device((struct at_gpu_params){ .validate = true }) };
    const struct at_row row = {
        .n_segments = 1, .segment = { { lab.ids, lab.targets, N_TOKENS, N_TOKENS - 1, N_TOKENS } }
    };
    uint32_t n = 0;

    (void)state;
    for (uint32_t t = 0; t < N_TOKENS; t++) {
        lab.ids[t] = (int32_t)(gt_random() % V);
        lab.targets[t] = t > 0;
    }
    OK(at_stream_create(&lab.stream, lab.gpu));
    OK(at_slab_init(&lab.slab, CAPACITY));
    at_slab_fill(&lab.slab, &(const struct at_row *){ &row }, 1);
    for (size_t i = 0; at_family_get(i); i++) {
        const struct at_family *f = at_family_get(i), *before = i > 0 ? at_family_get(i - 1) : NULL;
        const uint32_t own = check_family(&lab, f, before && strcmp(before->name, f->name) == 0);
        printf("%s: %u switches\n", f->name, own);
        n += own;
    }
    assert_true(n > 60);
    at_slab_release(&lab.slab);
    at_stream_destroy(&lab.stream);
    at_gpu_close(&lab.gpu);
}

/* Every line "    bool NAME;" of the struct is one of those above. */
static void every_flag_of_the_table_is_known(void **state)
{
    struct at_buf text = { 0 };
    uint32_t n = 0;

    (void)state;
    OK(at_file_read(&text, SOURCE_DIR "/engine/model/family.h"));
    const char *end = strstr(text.data, "struct at_family_defaults");
    assert_non_null(end);
    for (const char *at = text.data; (at = strstr(at, "\n    bool ")) && at < end; n++) {
        char name[64];
        bool known = false;
        at += strlen("\n    bool ");
        assert_int_equal(sscanf(at, "%63[a-z_]", name), 1);
        for (size_t i = 0; i < AT_COUNT(flags); i++)
            known = known || strcmp(flags[i].name, name) == 0;
        for (size_t i = 0; i < AT_COUNT(others); i++)
            known = known || strcmp(others[i].name, name) == 0;
        if (!known)
            fail_msg("struct at_family has the flag %s, which no test switches off", name);
    }
    assert_int_equal(n, AT_COUNT(flags) + AT_COUNT(others));
    at_buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flag_of_the_table_is_known),
        cmocka_unit_test(every_flag_of_every_family_moves_a_log_prob),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
