/* What a run has on the device: adapters, their learning rates, reference, sampler, reward models.
 */
#include "run_parts.h"

#include "drift.h"

#include <string.h>

/* Of rows that the run computes. */
struct lengths {
    uint32_t row, least_row; /* tokens of the longest and of the shortest (UINT32_MAX: of none) */
    uint32_t sequence;       /* of the longest prefix and one side */
};

static void measure(struct lengths *l, const struct at_run *run, const struct at_row *rows,
                    uint32_t n_rows)
{
    for (uint32_t i = 0; rows && i < n_rows; i++) {
        const uint32_t tokens = at_row_tokens(&rows[i]), sequence = at_row_sequence(&rows[i]);
        l->row = tokens > l->row ? tokens : l->row;
        l->least_row = tokens < l->least_row ? tokens : l->least_row;
        l->sequence = sequence > l->sequence ? sequence : l->sequence;
        at_run_passed(run, i);
    }
}

static struct lengths measure_all(const struct at_run *run)
{
    const struct at_run_data *d = &run->data;
    const struct at_reward_watch *watch = &run->online.reward_watch;
    struct lengths l = { .least_row = UINT32_MAX };

    measure(&l, run, d->train_packs.rows, d->train_packs.n_rows);
    measure(&l, run, d->eval_packs.rows, d->eval_packs.n_rows);
    measure(&l, run, d->regression.rows, d->regression.n_rows);
    measure(&l, run, watch->held.rows, watch->held.n_rows);
    measure(&l, run, d->train_kl, d->train.n_rows);
    measure(&l, run, d->eval_kl, d->eval.n_rows);
    return l;
}

/* Tokens of a slab that holds as many rows of any length as one of AT_CPU_SLAB tokens does at most;
 * 0 where there is none that is smaller, or rows share a slab otherwise. */
static uint32_t slab_of_rows(const struct at_run *run, const struct lengths *l)
{
    const bool alone = !run->online.is_on && run->data.samples.group == 0 && !run->data.train_kl;
    const uint64_t rows = l->least_row > 0 ? AT_CPU_SLAB / l->least_row : UINT32_MAX;

    return alone && rows > 0 && rows * l->row < AT_CPU_SLAB ? (uint32_t)(rows * l->row) : 0;
}

/* lora_target_modules as one string: a comma list of names, or what was given, or what PEFT adapts
 * in a model of this family. */
static AT_CHECKED target_modules(struct at_run *run, bool fresh, const char **out)
{
    enum at_status st = AT_OK;
    const struct at_strings *list = &run->config->lora_target_modules;
    const char *peft = run->bundle.config.family->peft_targets;
    struct at_buf text = { 0 };
    char *copy = NULL;

    *out = peft ? peft : "all-linear"; /* what an adapter that is there has in any case */
    if (list->n == 0 && fresh && !peft)
        FAIL(AT_USAGE,
             "lora_target_modules is not set, and PEFT has no modules of its own choice for %s "
             "models: name them, or all-linear",
             run->bundle.config.family->name);
    for (size_t i = 0; i < list->n; i++)
        at_buf_printf(&text, "%s%s", i ? "," : "", list->items[i]);
    TRY(at_buf_status(&text));
    if (list->n > 0) {
        TRY(at_arena_strdup(&run->arena, &copy, text.data));
        *out = copy;
    }
done:
    at_buf_release(&text);
    return st;
}

/* lora_modules_to_save: what trains in full beside the adapter. */
static AT_CHECKED modules_to_save(const struct at_run *run, bool out[AT_SAVED_COUNT])
{
    const struct at_strings *list = &run->config->lora_modules_to_save;
    const bool rewards = at_method_get(run->method)->value_head;

    for (size_t i = 0; i < list->n; i++) {
        const enum at_saved module = at_saved_find(list->items[i]);
        const struct at_family *family = run->bundle.config.family;
        if (module == AT_SAVED_EMBED && !at_family_saves_embedding(family))
            return at_fail(AT_USAGE,
                           "lora_modules_to_save: this version does not train the embedding of %s "
                           "models beside an adapter",
                           family->name);
        if (module == AT_SAVED_HEAD && rewards)
            return at_fail(
                AT_USAGE,
                "lora_modules_to_save: a reward model has no %s; its value head is always "
                "trained and saved. embed_tokens can be named",
                list->items[i]);
        if (module == AT_SAVED_COUNT)
            return at_fail(
                AT_USAGE,
                "lora_modules_to_save: \"%s\" is not trained in full beside an adapter in "
                "this version; lm_head and embed_tokens are, and use_peft: false trains "
                "every weight",
                list->items[i]);
        out[module] = true;
    }
    return AT_OK;
}

static AT_CHECKED choose_adapters(struct at_run *run, struct at_engine_params *p)
{
    static const enum at_key of_adapters[] = { AT_KEY_adapter_start,
                                               AT_KEY_alpha_pattern,
                                               AT_KEY_base_model_name_or_path,
                                               AT_KEY_init_lora_weights,
                                               AT_KEY_layers_to_transform,
                                               AT_KEY_lora_alpha,
                                               AT_KEY_lora_dropout,
                                               AT_KEY_lora_modules_to_save,
                                               AT_KEY_lora_r,
                                               AT_KEY_lora_target_modules,
                                               AT_KEY_loraplus_lr_ratio,
                                               AT_KEY_rank_pattern,
                                               AT_KEY_use_dora,
                                               AT_KEY_use_rslora };
    enum at_status st = AT_OK;
    const struct at_config *c = run->config;
    const bool stack = strcmp(c->adapter_start, "stack") == 0;

    TRY(at_config_check_adapters(c));
    if (!c->use_peft) {
        if (run->bundle.weights && at_weights_is_gguf(run->bundle.weights))
            FAIL(AT_USAGE,
                 "use_peft: false trains every weight and needs a Hugging Face folder; "
                 "%s is a GGUF file",
                 run->bundle.path);
        for (size_t i = 0; i < AT_COUNT(of_adapters); i++)
            at_run_warn_ignored(c, of_adapters[i], "use_peft is false: all weights are trained");
        p->trainable = AT_TRAIN_FULL;
        goto done;
    }
    p->trainable = AT_TRAIN_FRESH;
    if (c->adapter_name_or_path && stack) {
        p->frozen_dirs = &c->adapter_name_or_path;
        p->n_frozen = 1;
    } else if (c->adapter_name_or_path) {
        p->trainable = AT_TRAIN_CONTINUE;
        p->continue_dir = c->adapter_name_or_path;
    } else if (stack) {
        at_run_warn_ignored(c, AT_KEY_adapter_start,
                            "there is no adapter_name_or_path to stack on");
    }
    p->lora = (struct at_adapter_params){ .r = c->lora_r,
                                          .alpha = c->lora_alpha,
                                          .rslora = c->use_rslora,
                                          .dora = c->use_dora,
                                          .layers = c->layers_to_transform.items,
                                          .n_layers = c->layers_to_transform.n,
                                          .rank_pattern = c->rank_pattern,
                                          .alpha_pattern = c->alpha_pattern,
                                          .gaussian = strcmp(c->init_lora_weights, "gaussian") == 0,
                                          .seed = c->seed };
    TRY(modules_to_save(run, p->lora.saved));
    TRY(target_modules(run, p->trainable == AT_TRAIN_FRESH, &p->lora.target_modules));
done:
    return st;
}

/* A continued adapter keeps its ranks, scales and modules: other values in the configuration are
 * told. */
static AT_CHECKED warn_continued(struct at_run *run, const struct at_adapter_params *lora)
{
    static const char why[] = "the adapter that is trained further has another value and keeps it";
    enum at_status st = AT_OK;
    const struct at_config *c = run->config;
    const struct at_adapter *a = &run->engine.adapters[0];
    uint32_t *rank = NULL;
    double *alpha = NULL;
    bool modules = true, ranks = true, alphas = true;

    at_run_warn_ignored(c, AT_KEY_init_lora_weights,
                        "the adapter that is trained further has its weights");
    if (lora->r != a->r)
        at_run_warn_ignored(c, AT_KEY_lora_r, why);
    if (lora->alpha != a->alpha)
        at_run_warn_ignored(c, AT_KEY_lora_alpha, why);
    if (lora->rslora != a->rslora)
        at_run_warn_ignored(c, AT_KEY_use_rslora, why);
    if (lora->dora != a->dora)
        at_run_warn_ignored(c, AT_KEY_use_dora, why);
    if (memcmp(lora->saved, a->trains_saved, sizeof lora->saved) != 0)
        at_run_warn_ignored(c, AT_KEY_lora_modules_to_save, why);
    TRY(at_arena_alloc(&run->arena, &rank, a->n_modules, sizeof *rank));
    TRY(at_arena_alloc(&run->arena, &alpha, a->n_modules, sizeof *alpha));
    st = at_adapter_layout(rank, alpha, &run->bundle.config, lora);
    if (st != AT_OK && st != AT_USAGE)
        goto done;
    modules = ranks = alphas = st == AT_OK;
    st = AT_OK;
    for (size_t k = 0; k < a->n_modules; k++) {
        modules = modules && (rank[k] > 0) == (a->rank[k] > 0);
        ranks = ranks && (rank[k] == 0 || a->rank[k] == 0 || rank[k] == a->rank[k]);
        alphas = alphas && (rank[k] == 0 || a->rank[k] == 0 || alpha[k] == a->alphas[k]);
    }
    if (!modules) {
        at_run_warn_ignored(c, AT_KEY_layers_to_transform, why);
        at_run_warn_ignored(c, AT_KEY_lora_target_modules, why);
    }
    if (!ranks)
        at_run_warn_ignored(c, AT_KEY_rank_pattern, why);
    if (!alphas)
        at_run_warn_ignored(c, AT_KEY_alpha_pattern, why);
done:
    return st;
}

/* Share that training drops. */
static float dropout_of(const struct at_config *c)
{
    if (!c->use_peft)
        return 0;
    if (!at_key_read_by(AT_KEY_disable_dropout, c->run_method) || !c->disable_dropout)
        return (float)c->lora_dropout;
    if (c->lora_dropout > 0)
        at_run_warn_ignored(c, AT_KEY_lora_dropout, "disable_dropout is true; set it to false");
    return 0;
}

/* gradient_checkpointing; TRL's false is "none". */
static void choose_recompute(struct at_engine_params *p, const struct at_config *c)
{
    const char *word = c->gradient_checkpointing;

    p->recompute_if_short = strcmp(word, "auto") == 0;
    if (strcmp(word, "true") == 0)
        p->recompute = AT_RECOMPUTE_LAYER;
    for (enum at_recompute r = AT_RECOMPUTE_NONE; r <= AT_RECOMPUTE_GROUP; r++)
        if (strcmp(word, at_recompute_name(r)) == 0)
            p->recompute = r;
}

/* LoRA+ (Hayou et al. 2024, arXiv 2402.12354) in PEFT's groups: lora_B and vectors learn faster. */
static void choose_rates(struct at_param_rates *out, const struct at_config *c)
{
    const float decay = (float)c->weight_decay;
    const float ratio =
        c->use_peft && c->is_set[AT_KEY_loraplus_lr_ratio] ? (float)c->loraplus_lr_ratio : 1;

    out[AT_PARAM_VECTOR] = (struct at_param_rates){ .weight_decay = 0, .rate = ratio };
    out[AT_PARAM_MATRIX] = (struct at_param_rates){ .weight_decay = decay, .rate = 1 };
    out[AT_PARAM_LORA_B] = (struct at_param_rates){ .weight_decay = decay, .rate = ratio };
}

/* Another model, or the state that an adapter which is only scored was trained from. */
static AT_CHECKED plan_reference(struct at_run *run, const struct at_engine_params *p)
{
    enum at_status st = AT_OK;
    const struct at_config *c = run->config;
    struct at_quantise_params quantise = at_run_quantise_params(c);
    struct at_reference_source source = { .model = c->ref_model_name_or_path,
                                          .header_only = run->purpose == AT_TO_PLAN };

    quantise.if_plain = true; /* of a reference, which the user may have quantised otherwise */
    if (!source.model && run->purpose == AT_TO_SCORE && p->trainable == AT_TRAIN_CONTINUE &&
        at_method_get(run->method)->reference)
        TRY(at_reference_of_adapter(&source, &run->arena, c->adapter_name_or_path,
                                    c->model_name_or_path, c->tokenizer));
    if (source.model)
        TRY(at_reference_plan(&run->reference, &source, &quantise, run->bundle.tokenizer, p));
done:
    return st;
}

/* Device and memory for the rows that are there. */
AT_CHECKED at_run_plan_engine(struct at_run *run)
{
    enum at_status st = AT_OK;
    const struct at_config *c = run->config;
    const bool judges = run->purpose == AT_TO_JUDGE && c->adapter_name_or_path;
    const struct lengths lengths = measure_all(run);
    struct at_param_rates rates[AT_PARAM_GROUPS];
    struct at_engine_params p = { .capacity = c->max_tokens_per_slab,
                                  .seed = c->seed,
                                  .from_scratch = c->init_from_scratch,
                                  .value_head = at_method_get(c->run_method)->value_head,
                                  .rates = rates,
                                  .bare_reference = judges,
                                  .drift = judges,
                                  .syncs_reference = c->sync_ref_model,
                                  .longest_row = lengths.row,
                                  .longest_sequence = lengths.sequence,
                                  .cpu_slab = slab_of_rows(run, &lengths),
                                  .dropout = dropout_of(c) };

    if (at_run_trains(run))
        p.drift = at_drift_is_wanted(c) &&
                  (run->data.has_eval ||
                   (at_method_get(run->method)->draws && c->is_set[AT_KEY_max_drift]));
    p.gpu = (struct at_gpu_params){ .device = c->device,
                                    .baseline_only = strcmp(c->kernels, "baseline") == 0,
                                    .profile = c->profile,
                                    .memory_limit_bytes = (uint64_t)c->device_memory_limit };
    if (run->purpose == AT_TO_PLAN)
        p.gpu.memory_bytes = (uint64_t)c->device_memory_limit;
    p.elsewhere = run->bundle.weights && at_weights_lack_data(run->bundle.weights);
    at_bundle_check_length(&run->bundle, p.longest_sequence);
    p.n_positions = p.longest_row;
    if (!run->online.is_on) /* reward models want room for rows of their own */
        p.step_tokens = (uint64_t)run->window * p.longest_row * (run->data.train_kl ? 2 : 1);
    p.long_from = at_model_long_from(&run->bundle.config, p.longest_row);
    p.long_each = at_model_long_each(&run->bundle.config);
    TRY(choose_adapters(run, &p));
    choose_rates(rates, c);
    choose_recompute(&p, c);
    if (at_method_get(run->method)->rows == AT_ROWS_SAMPLE)
        p.temperature = (float)c->temperature;
    TRY(plan_reference(run, &p));
    TRY(at_engine_plan(&run->engine, &run->bundle, &p));
    if (at_online_draws(&run->online)) {
        const struct at_sampler_params sampler = at_online_sampler(&run->online);
        const struct at_reward_models_params rewards = {
            .policy = &run->engine,
            .rows = at_run_dataset_params(run, AT_PACKING_NONE),
            .gpu = p.gpu,
            .header_only = run->purpose == AT_TO_PLAN
        };
        TRY(at_reward_models_plan(&run->reward_models, run->online.rewards, &rewards));
        TRY(at_engine_plan_sampler(&run->engine, &sampler));
    }
    if (at_run_trains(run))
        TRY(at_drift_check_planned(run));
    if (p.trainable == AT_TRAIN_CONTINUE && run->purpose != AT_TO_JUDGE)
        TRY(warn_continued(run, &p.lora));
done:
    return st;
}
