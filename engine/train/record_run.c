#include "record_parts.h"

#include "hash.h"

#include <string.h>

/* The rows of train_dataset. */
static const struct at_dataset *rows_read(const struct at_run *run)
{
    return run->data.was_split ? &run->data.all : &run->data.train;
}

/* kept: of those read. */
static void add_rows(cJSON *out, const char *name, const struct at_dataset *d, uint32_t kept)
{
    cJSON *rows = cJSON_AddObjectToObject(out, name);

    cJSON_AddNumberToObject(rows, "read", d->n_read);
    cJSON_AddNumberToObject(rows, "kept", kept);
    cJSON_AddNumberToObject(rows, "cut", d->n_cut);
    cJSON_AddNumberToObject(rows, "dropped", d->n_dropped);
    cJSON_AddNumberToObject(rows, "boundary_moved", d->n_boundary_moved);
    cJSON_AddStringToObject(rows, "digest", d->digest);
}

static AT_CHECKED add_digests(struct at_arena *arena, cJSON *digests, const struct at_run *run)
{
    enum at_status st = AT_OK;
    struct at_digest file;
    char hex[65], *path = NULL;

    if (run->bundle.weights) {
        TRY(at_weights_digest(run->bundle.weights, hex));
        cJSON_AddStringToObject(digests, "model", hex);
    }
    if (at_run_has_other_reference(run)) {
        TRY(at_weights_digest(run->reference.bundle.weights, hex));
        cJSON_AddStringToObject(digests, "reference_model", hex);
    }
    TRY(at_path_join(arena, &path, run->bundle.path, "config.json"));
    if (at_path_exists(path)) {
        TRY(at_hash_file(&file, path));
        cJSON_AddStringToObject(digests, "model_config", file.hex);
    }
    cJSON_AddStringToObject(digests, "tokenizer", at_tokenizer_digest(run->bundle.tokenizer));
    if (run->bundle.template_text)
        cJSON_AddStringToObject(
            digests, "chat_template",
            at_hash_bytes(run->bundle.template_text, strlen(run->bundle.template_text)).hex);
    if (run->config->adapter_name_or_path) {
        TRY(at_path_join(arena, &path, run->config->adapter_name_or_path,
                         "adapter_model.safetensors"));
        TRY(at_hash_file(&file, path));
        cJSON_AddStringToObject(digests, "parent_adapter", file.hex);
    }
    for (uint32_t k = 0; k < run->reward_models.n; k++) {
        const struct at_reward_model *m = &run->reward_models.items[k];
        TRY(at_path_join(arena, &path, "reward", m->name));
        cJSON_AddStringToObject(digests, path, m->digest);
    }
    for (size_t i = 0; i < run->config->loss_type.n; i++)
        if (run->config->losses[i]->file)
            cJSON_AddStringToObject(digests, run->config->losses[i]->file->name,
                                    run->config->losses[i]->file->digest.hex);
done:
    return st;
}

/* Keys that say where things lie, what is kept and what computes: results do not depend on them, or
 * digests stand for them. */
static bool is_identity(enum at_key key)
{
    switch (key) {
    case AT_KEY_adapter_name_or_path:
    case AT_KEY_chat_template_path:
    case AT_KEY_device:
    case AT_KEY_device_memory_limit:
    case AT_KEY_eval_dataset:
    case AT_KEY_gradient_checkpointing:
    case AT_KEY_kernels:
    case AT_KEY_loss_type: /* losses below */
    case AT_KEY_max_drift: /* ends a run and changes no step */
    case AT_KEY_model_name_or_path:
    case AT_KEY_output_dir:
    case AT_KEY_preset: /* its values are compared */
    case AT_KEY_profile:
    case AT_KEY_ref_model_name_or_path:
    case AT_KEY_regression_dataset:
    case AT_KEY_report_to:
    case AT_KEY_resume_from_checkpoint:
    case AT_KEY_reward_command_timeout:
    case AT_KEY_save_steps:
    case AT_KEY_save_strategy:
    case AT_KEY_save_total_limit:
    case AT_KEY_tokenizer:
    case AT_KEY_train_dataset:
        return false;
    default:
        return true;
    }
}

/* loss_type without the folders of files, which may be read from elsewhere. */
static cJSON *losses(const struct at_config *c)
{
    cJSON *list = cJSON_CreateArray();

    for (size_t i = 0; i < c->loss_type.n; i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(c->losses[i]->file ? c->losses[i]->file->name
                                                                         : c->losses[i]->name));
    return list;
}

AT_CHECKED at_records_identity(cJSON **out, const struct at_run *run)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    const struct at_gpu_info *info = at_gpu_get_info(run->engine.gpu);
    cJSON *all = cJSON_CreateObject(), *part = NULL;

    *out = all;
    cJSON_AddStringToObject(all, "method", at_method_get(run->method)->name);
    part = cJSON_AddObjectToObject(all, "config");
    for (int k = 0; k < AT_KEY_COUNT; k++)
        if (is_identity((enum at_key)k) && at_key_read_by((enum at_key)k, run->method))
            cJSON_AddItemToObject(part, at_key_name((enum at_key)k),
                                  at_config_value(run->config, (enum at_key)k));
    cJSON_AddItemToObject(part, at_key_name(AT_KEY_loss_type), losses(run->config));
    part = cJSON_AddObjectToObject(all, "inputs");
    TRY(add_digests(&arena, part, run));
    cJSON_AddStringToObject(part, "train_dataset", rows_read(run)->digest);
    if (run->config->train_dataset.weights)
        cJSON_AddItemToObject(part, "train_dataset weights",
                              cJSON_CreateDoubleArray(run->config->train_dataset.weights,
                                                      (int)run->config->train_dataset.n));
    if (run->data.has_eval && !run->data.was_split)
        cJSON_AddStringToObject(part, "eval_dataset", run->data.eval.digest);
    if (run->online.reward_watch.held.n_rows > 0)
        cJSON_AddStringToObject(part, "eval_pairs", run->online.reward_watch.held.digest);
    if (run->data.regression.n_rows > 0)
        cJSON_AddStringToObject(part, "regression_dataset", run->data.regression.digest);
    part = cJSON_AddObjectToObject(all, "machine");
    cJSON_AddStringToObject(part, "name", info->name);
    cJSON_AddStringToObject(part, "driver", info->driver);
    cJSON_AddItemToObject(part, "kernels", at_engine_kernels(&run->engine));
done:
    at_arena_release(&arena);
    return st;
}

/* What became of the base that adapter_config.json names, where it was quantised at load. */
static void add_quantised(cJSON *out, const struct at_run *run)
{
    const struct at_quantise_report r = run->bundle.weights
                                            ? at_weights_quantise_report(run->bundle.weights)
                                            : (struct at_quantise_report){ .matrices = 0 };
    cJSON *part = NULL;

    if (r.matrices == 0)
        return;
    part = cJSON_AddObjectToObject(out, "quantised");
    cJSON_AddStringToObject(part, "type", r.type_name);
    cJSON_AddBoolToObject(part, "double", r.nested);
    cJSON_AddNumberToObject(part, "matrices", (double)r.matrices);
    cJSON_AddNumberToObject(part, "relative_error", r.error);
}

static void add_warnings(void *list, const char *kind, size_t n, const char *first)
{
    cJSON *entry = cJSON_CreateObject();

    cJSON_AddStringToObject(entry, "kind", kind);
    cJSON_AddNumberToObject(entry, "count", (double)n);
    cJSON_AddStringToObject(entry, "first", first);
    cJSON_AddItemToArray(list, entry);
}

AT_CHECKED at_records_write_run(struct at_records *r, const struct at_run *run)
{
    enum at_status st = AT_OK;
    const struct at_engine *e = &run->engine;
    const struct at_gpu_info *info = at_gpu_get_info(e->gpu);
    const struct at_engine_bytes bytes = at_engine_get_bytes(e);
    cJSON *out = cJSON_CreateObject(), *part = NULL;

    cJSON_AddNumberToObject(out, "format_version", 1);
    cJSON_AddStringToObject(out, "attune", ATTUNE_VERSION);
    cJSON_AddStringToObject(out, "method", at_method_get(run->method)->name);
    cJSON_AddItemToObject(out, "config", at_config_record(run->config));
    part = cJSON_AddObjectToObject(out, "found");
    cJSON_AddStringToObject(part, "model_name_or_path", run->bundle.path);
    if (run->config->ref_model_name_or_path)
        cJSON_AddStringToObject(part, "ref_model_name_or_path", run->reference.bundle.path);
    part = cJSON_AddObjectToObject(out, "device");
    cJSON_AddStringToObject(part, "name", info->name);
    cJSON_AddStringToObject(part, "driver", info->driver);
    cJSON_AddItemToObject(out, "kernels", at_engine_kernels(e));
    part = cJSON_AddObjectToObject(out, "data");
    add_rows(part, "train", rows_read(run), /* drawn samples are no rows that were read */
             at_online_draws(&run->online) ? run->online.prompts.n : rows_read(run)->n_rows);
    if (run->data.has_eval && !run->data.was_split)
        add_rows(part, "eval", &run->data.eval, run->data.eval.n_rows);
    if (run->data.regression.n_rows > 0)
        add_rows(part, "regression", &run->data.regression, run->data.regression.n_rows);
    if (run->online.reward_watch.held.n_rows > 0)
        add_rows(part, "eval_pairs", &run->online.reward_watch.held,
                 run->online.reward_watch.held.n_rows);
    cJSON_AddNumberToObject(part, "train_rows",
                            run->online.is_on ? run->online.prompts.n : run->data.train.n_rows);
    cJSON_AddNumberToObject(part, "eval_rows", run->data.eval.n_rows);
    part = cJSON_AddObjectToObject(out, "digests");
    TRY(add_digests(&r->arena, part, run));
    add_quantised(out, run);
    part = cJSON_AddObjectToObject(out, "device_bytes");
    cJSON_AddNumberToObject(part, "frozen", (double)bytes.frozen);
    cJSON_AddNumberToObject(part, "state", (double)bytes.state);
    cJSON_AddNumberToObject(part, "slab", (double)bytes.slab);
    if (at_online_draws(&run->online))
        cJSON_AddNumberToObject(part, "sampler", (double)bytes.sampler);
    if (run->reward_models.n > 0)
        cJSON_AddNumberToObject(part, "reward_models", (double)bytes.beside);
    cJSON_AddNumberToObject(out, "host_peak_bytes", (double)at_memory_peak_bytes());
    cJSON_AddNumberToObject(out, "pipelines", at_gpu_pipelines(e->gpu));
    cJSON_AddNumberToObject(out, "trainable_values", (double)at_params_count(&e->params));
    cJSON_AddNumberToObject(out, "tokens_given", (double)e->tokens_given);
    cJSON_AddNumberToObject(out, "tokens_computed", (double)e->tokens_computed);
    cJSON_AddNumberToObject(out, "head_rows", (double)e->head_rows);
    cJSON_AddNumberToObject(out, "padding_tokens", (double)e->padding_tokens);
    cJSON_AddNumberToObject(out, "padding_rows", (double)e->padding_rows);
    cJSON_AddNumberToObject(out, "ref_forward_tokens", (double)e->ref_forward_tokens);
    cJSON_AddNumberToObject(out, "warnings", (double)at_warn_count(NULL));
    at_warn_each(add_warnings, cJSON_AddArrayToObject(out, "warning_kinds"));
    TRY(at_records_write_json(r, "run.json", out));
done:
    cJSON_Delete(out);
    return st;
}
