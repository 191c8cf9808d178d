#include "adapter.h"

#include "adapter_file.h"
#include "weights_file.h"

#include <math.h>
#include <string.h>

/* Beyond any use; keeps products in range. */
enum { MAX_RANK = 65536 };

static size_t n_modules(const struct at_model_config *c)
{
    return (size_t)c->L * AT_LINEARS;
}

static AT_CHECKED init(struct at_adapter *out, const struct at_model_config *c)
{
    enum at_status st = AT_OK;
    const size_t n = n_modules(c);

    *out = (struct at_adapter){ .n_modules = n, .family = c->family };
    TRY(at_arena_alloc(&out->arena, &out->module, n, sizeof *out->module));
    TRY(at_arena_alloc(&out->arena, &out->lora, n, sizeof *out->lora));
    TRY(at_arena_alloc(&out->arena, &out->rank, n, sizeof *out->rank));
    TRY(at_arena_alloc(&out->arena, &out->alphas, n, sizeof *out->alphas));
    TRY(at_arena_alloc(&out->arena, &out->A, n, sizeof *out->A));
    TRY(at_arena_alloc(&out->arena, &out->B, n, sizeof *out->B));
    TRY(at_arena_alloc(&out->arena, &out->m, n, sizeof *out->m));
    for (uint32_t k = 0; k < n; k++)
        out->module[k] = k - k % AT_LINEARS + at_linear_module(c->family, k % AT_LINEARS);
done:
    return st;
}

/* Scales and the largest rank, from rank[] and alphas[]. */
static AT_CHECKED set_scales(struct at_adapter *adapter, const char *name)
{
    for (size_t k = 0; k < adapter->n_modules; k++) {
        const uint32_t r = adapter->rank[k];
        const double alpha = adapter->alphas[k];
        const float scale = r > 0 ? (float)(alpha / (adapter->rslora ? sqrt(r) : r)) : 0;
        if (!isfinite(scale))
            return at_fail(AT_DATA, "%s: lora_alpha is %g", name, alpha);
        adapter->lora[k].scale = scale;
        adapter->max_rank = r > adapter->max_rank ? r : adapter->max_rank;
    }
    return AT_OK;
}

/* Name of a parameter; a fused module has several B and magnitudes, each of its parts' rows. */
static AT_CHECKED name_param(char **out, struct at_adapter *adapter,
                             const struct at_model_config *c, uint32_t k, char part)
{
    enum at_status st = AT_OK;

    TRY(at_adapter_tensor_name(&adapter->arena, out, c->family, k / AT_LINEARS, k % AT_LINEARS,
                               part));
    if (k != adapter->module[k])
        TRY(at_arena_printf(&adapter->arena, out, "%s, part %u", *out, k - adapter->module[k] + 1));
done:
    return st;
}

static AT_CHECKED add_A(struct at_adapter *adapter, const struct at_model_config *c,
                        struct at_params *params, uint32_t k)
{
    enum at_status st = AT_OK;
    uint32_t in = 0, out = 0;
    char *name = NULL;

    at_linear_shape(c, k % AT_LINEARS, &in, &out);
    TRY(name_param(&name, adapter, c, k, 'A'));
    if (k == adapter->module[k])
        TRY(at_params_add(params, &adapter->A[k], name, adapter->rank[k], in, AT_PARAM_MATRIX));
    adapter->A[k] = adapter->A[adapter->module[k]];
done:
    return st;
}

static AT_CHECKED add_B(struct at_adapter *adapter, const struct at_model_config *c,
                        struct at_params *params, uint32_t k)
{
    enum at_status st = AT_OK;
    uint32_t in = 0, out = 0;
    char *name = NULL, *name_m = NULL;

    at_linear_shape(c, k % AT_LINEARS, &in, &out);
    TRY(name_param(&name, adapter, c, k, 'B'));
    TRY(at_params_add(params, &adapter->B[k], name, out, adapter->rank[k], AT_PARAM_LORA_B));
    if (!adapter->dora)
        goto done;
    TRY(name_param(&name_m, adapter, c, k, 'm'));
    TRY(at_params_add(params, &adapter->m[k], name_m, 1, out, AT_PARAM_LORA_B));
done:
    return st;
}

/* Adds A, B and magnitudes of the modules with a rank to the arena of trainable parameters. A of a
 * layer come first: those that read the same x are then one matrix for decoder_linear.c, where
 * their bytes are multiples of 256, to which at_params rounds (inputs a multiple of 64, or r of
 * 16). */
static AT_CHECKED add_params(struct at_adapter *adapter, const struct at_model_config *c,
                             struct at_params *params)
{
    enum at_status st = AT_OK;

    adapter->trainable = true;
    for (uint32_t first = 0; first < n_modules(c); first += AT_LINEARS) {
        for (uint32_t k = first; k < first + AT_LINEARS; k++)
            if (adapter->rank[k] > 0)
                TRY(add_A(adapter, c, params, k));
        for (uint32_t k = first; k < first + AT_LINEARS; k++)
            if (adapter->rank[k] > 0)
                TRY(add_B(adapter, c, params, k));
    }
done:
    return st;
}

AT_CHECKED at_adapter_plan_fresh(struct at_adapter *out, const struct at_model_config *model,
                                 const struct at_adapter_params *params, struct at_params *arena)
{
    enum at_status st = AT_OK;

    TRY(init(out, model));
    out->r = params->r;
    out->alpha = params->alpha;
    out->rslora = params->rslora;
    out->gaussian = params->gaussian;
    out->dora = params->dora;
    out->zero = true;
    memcpy(out->trains_saved, params->saved, sizeof out->trains_saved);
    TRY(at_adapter_layout(out->rank, out->alphas, model, params));
    TRY(set_scales(out, "lora"));
    TRY(add_params(out, model, arena));
done:
    if (st != AT_OK)
        at_adapter_release(out);
    return st;
}

/* ---- loading ---- */

static AT_CHECKED refuse_filled(const cJSON *config, const char *key, const char *name)
{
    const cJSON *value = at_json_find(config, key);

    if (!value || cJSON_IsNull(value) || cJSON_IsFalse(value) ||
        ((cJSON_IsObject(value) || cJSON_IsArray(value)) && !value->child))
        return AT_OK;
    return at_fail(AT_DATA, "%s: %s is set, which this version does not compute", name, key);
}

/* Starts like PiSSA or LoftQ change the base's weights when PEFT loads the adapter. */
static AT_CHECKED check_init(bool *gaussian, const cJSON *config, const char *name)
{
    static const char *const plain[] = { "eva", "gaussian", "orthogonal" };
    const cJSON *init = at_json_find(config, "init_lora_weights");

    *gaussian = cJSON_IsString(init) && strcmp(init->valuestring, "gaussian") == 0;
    if (!cJSON_IsString(init))
        return AT_OK;
    for (size_t i = 0; i < AT_COUNT(plain); i++)
        if (strcmp(init->valuestring, plain[i]) == 0)
            return AT_OK;
    return at_fail(AT_DATA,
                   "%s: init_lora_weights is \"%.40s\": such an adapter belongs to a changed base; "
                   "convert it first (PEFT: save_pretrained(..., "
                   "path_initial_model_for_weight_conversion=...))",
                   name, init->valuestring);
}

/* modules_to_save: the embedding, the head and, with task_type SEQ_CLS, the value head, for which
 * PEFT saves both names that such heads have. */
static AT_CHECKED read_saved(struct at_adapter *out, const struct at_model_config *model,
                             const cJSON *config, const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *list = at_json_find(config, "modules_to_save");
    const char *task = "CAUSAL_LM";
    bool rewards = false;

    TRY(at_json_get_string(&task, config, "task_type", name));
    rewards = strcmp(task, "SEQ_CLS") == 0;
    if (rewards && !model->value_head)
        FAIL(AT_DATA,
             "%s: the adapter of a reward model (task_type SEQ_CLS); it has rewards and no "
             "language: use it with method reward",
             name);
    if (list && !cJSON_IsNull(list) && !cJSON_IsArray(list))
        FAIL(AT_DATA, "%s: modules_to_save must be a list of names", name);
    for (const cJSON *m = list ? list->child : NULL; m; m = m->next) {
        const char *module = cJSON_IsString(m) ? m->valuestring : "";
        const enum at_saved saved = at_saved_find(module);
        if (rewards && (strcmp(module, "score") == 0 || strcmp(module, "classifier") == 0))
            continue;
        if (saved == AT_SAVED_COUNT || (saved == AT_SAVED_HEAD && model->value_head))
            FAIL(AT_DATA,
                 "%s: modules_to_save holds \"%.40s\", which this version does not read; it reads "
                 "%s",
                 name, module,
                 model->value_head ? "score and embed_tokens" : "lm_head and embed_tokens");
        if (saved == AT_SAVED_EMBED && !at_family_saves_embedding(model->family))
            FAIL(AT_DATA,
                 "%s: modules_to_save holds \"%.40s\", which this version does not read for %s "
                 "models",
                 name, module, model->family->name);
        out->trains_saved[saved] = true;
    }
done:
    return st;
}

/* rank[] and alphas[] of every module as the file gives them, targeted or not: that the tensors
 * say. */
static AT_CHECKED read_patterns(struct at_adapter *out, const struct at_model_config *model,
                                const cJSON *config, const char *name)
{
    const size_t n = out->n_modules;
    const struct at_pattern_params ranks = {
        .what = "rank_pattern", .least = 1, .most = MAX_RANK, .whole = true, .model = model
    };
    const struct at_pattern_params alphas = {
        .what = "alpha_pattern", .least = -1e30, .most = 1e30, .model = model
    };
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    double *values = NULL;
    bool *all = NULL;

    TRY(at_arena_alloc(&arena, &values, n, sizeof *values));
    TRY(at_arena_alloc(&arena, &all, n, sizeof *all));
    for (size_t k = 0; k < n; k++) {
        values[k] = out->r;
        out->alphas[k] = out->alpha;
        all[k] = true;
    }
    st = at_pattern_values(values, at_json_find(config, ranks.what), all, &ranks);
    if (st == AT_OK)
        st = at_pattern_values(out->alphas, at_json_find(config, alphas.what), all, &alphas);
    if (st == AT_USAGE)
        FAIL(AT_DATA, "%s: %s", name, at_message());
    for (size_t k = 0; k < n; k++)
        out->rank[k] = (uint32_t)values[k];
done:
    at_arena_release(&arena);
    return st;
}

/* adapter_config.json: everything that would change the computation is refused by name. */
static AT_CHECKED read_config(struct at_adapter *out, const struct at_model_config *model,
                              const cJSON *config, const char *name)
{
    static const char *const unknown[] = {
        "alora_invocation_tokens", "arrow_config",    "corda_config",      "eva_config",
        "fan_in_fan_out",          "kasa_config",     "layer_replication", "lora_bias",
        "lora_ga_config",          "megatron_config", "monteclora_config", "target_parameters",
        "trainable_token_indices", "use_bdlora",      "use_qalora",        "velora_config",
    };
    enum at_status st = AT_OK;
    const char *type = "", *bias = "none";

    out->r = 8;
    out->alpha = 8;
    if (!cJSON_IsObject(config))
        FAIL(AT_DATA, "%s: must be an object", name);
    TRY(at_json_need_string(&type, config, "peft_type", name));
    if (strcmp(type, "LORA") != 0)
        FAIL(AT_DATA, "%s: peft_type is \"%.40s\"; this version reads LORA only", name, type);
    TRY(at_json_get_string(&bias, config, "bias", name));
    if (strcmp(bias, "none") != 0)
        FAIL(AT_DATA, "%s: bias is \"%.40s\"; this version computes \"none\" only", name, bias);
    for (size_t i = 0; i < AT_COUNT(unknown); i++)
        TRY(refuse_filled(config, unknown[i], name));
    TRY(read_saved(out, model, config, name));
    for (uint32_t i = 0; i < AT_SAVED_COUNT; i++)
        if (out->trains_saved[i])
            TRY(refuse_filled(config, "ensure_weight_tying", name));
    TRY(check_init(&out->gaussian, config, name));
    TRY(at_json_get_u32(&out->r, config, "r", name));
    TRY(at_json_get_double(&out->alpha, config, "lora_alpha", name));
    TRY(at_json_get_bool(&out->rslora, config, "use_rslora", name));
    TRY(at_json_get_bool(&out->dora, config, "use_dora", name));
    if (out->r < 1 || out->r > MAX_RANK)
        FAIL(AT_DATA, "%s: r is %u; expected 1 to %d", name, out->r, MAX_RANK);
    TRY(read_patterns(out, model, config, name));
done:
    return st;
}

static AT_CHECKED check_type(const struct at_source *s)
{
    if (s->type != AT_F32 && s->type != AT_F16 && s->type != AT_BF16)
        return at_fail(AT_DATA, "%s: tensor %s is %s; adapters must be F32, F16 or BF16", s->file,
                       s->name, s->type_name);
    return AT_OK;
}

static AT_CHECKED check_tensor(const struct at_source *s, uint32_t rows, uint32_t cols)
{
    if (s->n_dims != 2 || s->rows != rows || s->cols != cols)
        return at_fail(AT_DATA, "%s: tensor %s has %u dimensions of %llu x %llu; expected %u x %u",
                       s->file, s->name, s->n_dims, (unsigned long long)s->rows,
                       (unsigned long long)s->cols, rows, cols);
    return check_type(s);
}

AT_CHECKED at_adapter_find_tensor(const struct at_source **out, const struct at_adapter *adapter,
                                  struct at_arena *arena, uint32_t k, char part)
{
    enum at_status st = AT_OK;
    char *name = NULL;

    TRY(at_adapter_tensor_name(arena, &name, adapter->family, k / AT_LINEARS, k % AT_LINEARS,
                               part));
    *out = at_weights_find(adapter->file, name);
done:
    return st;
}

AT_CHECKED at_adapter_read_module(float *out, const struct at_adapter *adapter, uint32_t k,
                                  char part)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    const struct at_source *source = NULL;

    TRY(at_adapter_find_tensor(&source, adapter, &arena, k, part));
    AT_REQUIRE(source && adapter->module[k] == k);
    TRY(at_source_floats(out, source));
done:
    at_arena_release(&arena);
    return st;
}

AT_CHECKED at_adapter_read_file(float *out, const struct at_adapter *adapter, uint32_t k, char part)
{
    for (uint32_t i = k - k % AT_LINEARS; i < k - k % AT_LINEARS + AT_LINEARS; i++)
        if (i != k && adapter->module[i] == adapter->module[k])
            return at_fail(AT_DATA,
                           "%s: the matrix of %s in layer %u belongs to several layers at once; "
                           "such an adapter is exported merged alone (attune merge)",
                           adapter->file->shards[0].path,
                           at_linear_name(adapter->family, k % AT_LINEARS), k / AT_LINEARS);
    return at_adapter_read_module(out, adapter, k, part);
}

/* Finite? All zero (then *zero stays as it is)? */
static AT_CHECKED scan(const struct at_source *s, bool *zero)
{
    enum at_status st = AT_OK;
    const uint64_t n = s->rows * s->cols;
    float *values = NULL;

    TRY(at_alloc(&values, n, sizeof *values));
    TRY(at_source_floats(values, s));
    for (uint64_t i = 0; i < n; i++) {
        if (!isfinite(values[i]))
            FAIL(AT_DATA, "%s: tensor %s: value %llu is not finite", s->file, s->name,
                 (unsigned long long)i);
        *zero = *zero && values[i] == 0;
    }
done:
    at_free(&values);
    return st;
}

/* The magnitudes of module k, which has A and B. */
static AT_CHECKED check_magnitude(const struct at_adapter *a, struct at_arena *arena, uint32_t k,
                                  uint32_t width, bool *known)
{
    const struct at_source *m = NULL;
    enum at_status st = AT_OK;
    bool ignored = true;
    char *name = NULL;

    if (!a->dora)
        goto done;
    TRY(at_adapter_tensor_name(arena, &name, a->family, k / AT_LINEARS, k % AT_LINEARS, 'm'));
    TRY(at_adapter_find_tensor(&m, a, arena, k, 'm'));
    if (!m)
        FAIL(AT_DATA, "%s: use_dora is set and tensor %s is missing", a->file->shards[0].path,
             name);
    if (m->n_dims != 1 || m->cols != width)
        FAIL(AT_DATA, "%s: tensor %s has %u dimensions of %llu x %llu; expected 1 of %u", m->file,
             m->name, m->n_dims, (unsigned long long)m->rows, (unsigned long long)m->cols, width);
    TRY(check_type(m));
    TRY(scan(m, &ignored));
    known[m - a->file->sources] = true;
done:
    return st;
}

/* A and B of module k: both or neither (rank[k] becomes 0), of the right shape. *zero: B is exactly
 * zero. */
static AT_CHECKED check_module(struct at_adapter *out, const struct at_model_config *model,
                               struct at_arena *arena, uint32_t k, bool *known, bool *zero)
{
    const struct at_source *A = NULL, *B = NULL;
    enum at_status st = AT_OK;
    uint32_t in = 0, width = 0;
    bool ignored = true;

    if (k != out->module[k] || !at_linear_path(model->family, k % AT_LINEARS)) {
        out->rank[k] =
            at_linear_path(model->family, k % AT_LINEARS) ? out->rank[out->module[k]] : 0;
        goto done;
    }
    TRY(at_adapter_find_tensor(&A, out, arena, k, 'A'));
    TRY(at_adapter_find_tensor(&B, out, arena, k, 'B'));
    if (!A && !B) {
        out->rank[k] = 0;
        goto done;
    }
    if (!A || !B)
        FAIL(AT_DATA, "%s: tensor %s has no partner lora_%c", (A ? A : B)->file, (A ? A : B)->name,
             A ? 'B' : 'A');
    at_module_shape(model, k % AT_LINEARS, &in, &width);
    TRY(check_tensor(A, out->rank[k], in));
    TRY(check_tensor(B, width, out->rank[k]));
    TRY(scan(A, &ignored));
    TRY(scan(B, zero));
    TRY(check_magnitude(out, arena, k, width, known));
    known[A - out->file->sources] = known[B - out->file->sources] = true;
done:
    return st;
}

/* The tensors of modules_to_save. */
static AT_CHECKED find_saved(struct at_adapter *out, const struct at_model_config *model,
                             bool *known)
{
    enum at_status st = AT_OK;
    bool ignored = true;

    for (uint32_t i = 0; i < AT_SAVED_COUNT; i++) {
        const struct at_source *s = at_weights_find(out->file, at_saved_tensor(i));
        if (!out->trains_saved[i])
            continue;
        if (!s)
            FAIL(AT_DATA, "%s: modules_to_save names %s, whose tensor %s is missing",
                 out->file->shards[0].path, at_saved_name(i), at_saved_tensor(i));
        TRY(check_tensor(s, model->V, model->C));
        TRY(scan(s, &ignored));
        known[s - out->file->sources] = true;
        out->saved[i] = s;
    }
done:
    return st;
}

/* Pairs, shapes, ranks, nothing left over. *zero: every B is exactly zero. */
static AT_CHECKED check_tensors(struct at_adapter *out, const struct at_model_config *model,
                                bool *zero)
{
    const size_t n = at_weights_count(out->file);
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    bool *known = NULL;

    *zero = true;
    TRY(at_arena_alloc(&arena, &known, n, sizeof *known));
    for (uint32_t k = 0; k < n_modules(model); k++)
        TRY(check_module(out, model, &arena, k, known, zero));
    TRY(find_saved(out, model, known));
    out->score = model->value_head ? at_weights_find(out->file, AT_ADAPTER_SCORE) : NULL;
    if (out->score)
        known[out->score - out->file->sources] = true;
    for (size_t i = 0; i < n; i++)
        if (!known[i])
            FAIL(AT_DATA,
                 "%s: tensor %s belongs to no linear layer of this model and to no module of "
                 "modules_to_save",
                 out->file->shards[0].path, at_weights_get(out->file, i)->name);
    if (n == 0)
        FAIL(AT_DATA, "%s: holds no tensor", out->file->shards[0].path);
done:
    at_arena_release(&arena);
    return st;
}

/* The target_modules of the file as at_adapter_select() takes them; NULL: it gives none, or only
 * for some layers. */
static AT_CHECKED read_targets(struct at_arena *arena, const char **out, const cJSON *config)
{
    const cJSON *targets = at_json_find(config, "target_modules");
    const cJSON *layers = at_json_find(config, "layers_to_transform");
    const cJSON *excluded = at_json_find(config, "exclude_modules");
    enum at_status st = AT_OK;
    char *list = NULL;

    *out = NULL;
    if ((layers && !cJSON_IsNull(layers)) || (excluded && !cJSON_IsNull(excluded)))
        goto done;
    if (cJSON_IsString(targets))
        *out = targets->valuestring;
    if (!cJSON_IsArray(targets))
        goto done;
    for (const cJSON *item = targets->child; item; item = item->next) {
        if (!cJSON_IsString(item))
            goto done;
        TRY(at_arena_printf(arena, &list, "%s%s%s", list ? list : "", list ? "," : "",
                            item->valuestring));
    }
    *out = list;
done:
    return st;
}

/* Warns when the config names modules whose tensors the file lacks. Target modules that this
 * version cannot select say nothing: their tensors, if there are any, were refused by name. */
static AT_CHECKED warn_of_gaps(const struct at_adapter *adapter, const struct at_model_config *c,
                               const cJSON *config, const char *name)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    const char *targets = NULL;
    char *first = NULL;
    bool *selected = NULL;
    size_t n = 0;

    TRY(read_targets(&arena, &targets, config));
    if (!targets)
        goto done;
    TRY(at_arena_alloc(&arena, &selected, n_modules(c), sizeof *selected));
    st = at_adapter_select(selected, c, targets);
    if (st == AT_USAGE)
        st = AT_OK;
    else if (st == AT_OK)
        for (size_t k = n_modules(c); k-- > 0;)
            if (selected[k] && adapter->rank[k] == 0 && adapter->module[k] == k) {
                n++;
                TRY(at_adapter_path(&arena, &first, c->family, (uint32_t)k));
            }
    if (n > 0)
        at_warn("adapter_gap",
                "%s: target_modules selects %s, which the adapter holds no tensors for; such "
                "modules: %zu. They stay as the base model has them",
                name, first, n);
done:
    at_arena_release(&arena);
    return st;
}

static void reserve_frozen(struct at_lora *lora, const struct at_adapter *adapter,
                           const struct at_model_config *model, struct at_pool *frozen,
                           const char *what)
{
    uint32_t in = 0, out = 0;

    for (uint32_t k = 0; frozen && k < n_modules(model); k++) /* as add_params() lays them out */
        if (adapter->rank[k] > 0 && adapter->module[k] == k) {
            at_linear_shape(model, k % AT_LINEARS, &in, &out);
            at_tensor_reserve(frozen, &lora[k].A, adapter->rank[k], in, what);
        }
    for (uint32_t k = 0; frozen && k < n_modules(model); k++) {
        if (adapter->rank[k] == 0)
            continue;
        at_linear_shape(model, k % AT_LINEARS, &in, &out);
        at_tensor_reserve(frozen, &lora[k].B, out, adapter->rank[k], what);
        if (adapter->dora)
            at_tensor_reserve(frozen, &lora[k].m, 1, out, what);
        lora[k].scale = adapter->lora[k].scale;
    }
}

AT_CHECKED at_adapter_plan_reference(struct at_adapter *a, const struct at_model_config *model,
                                     struct at_pool *frozen)
{
    enum at_status st = AT_OK;

    if (a->reference)
        goto done;
    TRY(at_arena_alloc(&a->arena, &a->reference, n_modules(model), sizeof *a->reference));
    reserve_frozen(a->reference, a, model, frozen, "reference adapter");
done:
    return st;
}

static AT_CHECKED open_file(struct at_adapter *out, const char *dir)
{
    enum at_status st = AT_OK;
    char *path = NULL, *pickle = NULL;

    TRY(at_path_join(&out->arena, &path, dir, "adapter_model.safetensors"));
    TRY(at_path_join(&out->arena, &pickle, dir, "adapter_model.bin"));
    if (!at_path_exists(path) && at_path_exists(pickle))
        FAIL(AT_DATA,
             "%s: a pickle file; it is not read, since such files can run code. Save the adapter "
             "with "
             "safe_serialization=True",
             pickle);
    TRY(at_weights_open_safetensors(&out->file, path));
done:
    return st;
}

AT_CHECKED at_adapter_check_folder(const char *dir)
{
    static const char *const files[] = { "adapter_config.json", "model.safetensors",
                                         "model.safetensors.index.json" };
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    bool has[AT_COUNT(files)] = { false };

    if (!at_path_is_dir(dir))
        FAIL(AT_NOT_FOUND, "%s %s: the folder of a training's adapter is expected", dir,
             at_path_exists(dir) ? "is no folder" : "does not exist");
    for (size_t i = 0; i < AT_COUNT(files); i++) {
        char *path = NULL;
        TRY(at_path_join(&arena, &path, dir, files[i]));
        has[i] = at_path_exists(path);
    }
    if (!has[0] && (has[1] || has[2]))
        FAIL(AT_NOT_FOUND,
             "%s is a whole model and no adapter: nothing is to be merged or exported, and "
             "--model_name_or_path %s is how other commands take it",
             dir, dir);
    if (!has[0])
        FAIL(AT_NOT_FOUND,
             "%s holds no adapter_config.json: the folder of a training's adapter is expected",
             dir);
done:
    at_arena_release(&arena);
    return st;
}

AT_CHECKED at_adapter_plan_load(struct at_adapter *out, const struct at_model_config *model,
                                const char *dir, struct at_params *arena, struct at_pool *frozen)
{
    enum at_status st = AT_OK;
    cJSON *config = NULL;
    char *path = NULL;

    TRY(init(out, model));
    TRY(at_adapter_check_folder(dir));
    TRY(at_path_join(&out->arena, &path, dir, "adapter_config.json"));
    TRY(at_json_load_python(&config, path));
    TRY(read_config(out, model, config, path));
    TRY(open_file(out, dir));
    TRY(check_tensors(out, model, &out->zero));
    out->zero = out->zero && !out->dora; /* its magnitudes may not be the norms */
    TRY(set_scales(out, path));
    TRY(warn_of_gaps(out, model, config, path));
    if (!arena) {
        memset(out->trains_saved, 0, sizeof out->trains_saved);
        reserve_frozen(out->lora, out, model, frozen, "adapter");
        goto done;
    }
    if (model->value_head && !out->score)
        FAIL(AT_DATA,
             "%s: holds no %s: it is not the adapter of a reward model; adapter_start stack puts "
             "one on top of it",
             out->file->shards[0].path, AT_ADAPTER_SCORE);
    TRY(add_params(out, model, arena));
    if (!out->zero)
        TRY(at_adapter_plan_reference(out, model, frozen));
done:
    at_json_free(&config);
    if (st != AT_OK)
        at_adapter_release(out);
    return st;
}

AT_CHECKED at_adapter_check_stack(const struct at_adapter *const *stack, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (stack[i]->dora && n > 1)
            return at_fail(
                AT_USAGE, "an adapter with DoRA cannot be stacked with another one: its magnitudes "
                          "scale whole rows of the weights, which no concatenation along the rank "
                          "gives; train it further (adapter_start continue), or merge it into the "
                          "base first (attune merge)");
    return AT_OK;
}

AT_CHECKED at_adapter_check_scale(const struct at_adapter *a, size_t i, double scale)
{
    bool whole = false;

    for (uint32_t k = 0; k < AT_SAVED_COUNT; k++)
        whole = whole || a->saved[k];
    if (scale != 1 && (a->dora || whole))
        return at_fail(AT_USAGE,
                       "adapter_scale is %g and adapter %zu has %s, which no scale weakens: leave "
                       "adapter_scale out",
                       scale, i + 1,
                       a->dora ? "magnitudes of DoRA (use_dora)"
                               : "modules that were trained in full (modules_to_save)");
    return AT_OK;
}

void at_adapter_top(const struct at_source *saved[AT_SAVED_COUNT], const struct at_source **score,
                    const struct at_adapter *const *stack, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < AT_SAVED_COUNT; k++)
            saved[k] = stack[i]->saved[k] ? stack[i]->saved[k] : saved[k];
        *score = stack[i]->score ? stack[i]->score : *score;
    }
}

void at_adapter_release(struct at_adapter *adapter)
{
    at_weights_close(&adapter->file);
    at_arena_release(&adapter->arena);
    *adapter = (struct at_adapter){ 0 };
}

AT_CHECKED at_adapter_set_scale(struct at_adapter *a, double factor)
{
    enum at_status st;

    TRY(set_scales(a, "adapter"));
    for (size_t k = 0; k < a->n_modules; k++)
        a->lora[k].scale = (float)(a->lora[k].scale * factor);
done:
    return st;
}
