#include "record.h"

#include "hash.h"

#include <stdio.h>
#include <string.h>

struct at_records {
    struct at_arena arena;
    const char *dir;
    struct at_log *metrics, *timing;
    struct at_log *events, *pairs; /* NULL: not wanted */
    uint64_t device_bytes;         /* of the plan, which a step never exceeds */
};

static AT_CHECKED path_in(struct at_records *r, char **out, const char *name)
{
    return at_path_join(&r->arena, out, r->dir, name);
}

/* ---- opening ---- */

/* Checkpoints that are there at once: those kept, and one that is being written. */
static uint64_t checkpoints(const struct at_run *run)
{
    const struct at_config *c = run->config;
    const bool by_epoch = strcmp(c->save_strategy, "epoch") == 0;
    const uint64_t every = by_epoch ? run->steps_per_epoch : c->save_steps;
    const uint64_t n = strcmp(c->save_strategy, "no") == 0 || run->total_steps == 0
                           ? 0
                           : (run->total_steps - 1) / every;

    return c->save_total_limit > 0 && n > c->save_total_limit ? c->save_total_limit + 1 : n;
}

/* Those that a run which goes on has written stay, or make room for others. */
static uint64_t bytes_to_write(const struct at_run *run, bool goes_on)
{
    const uint64_t state = at_params_count(&run->engine.params) * sizeof(float);
    const uint64_t arrays = run->config->load_best_model_at_end ? 5 : 4;

    return state * (1 + arrays * (goes_on ? 1 : checkpoints(run))) + run->total_steps * 1024 +
           (1 << 20);
}

AT_CHECKED at_records_look(enum at_left *out, const char *dir)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    cJSON *json = NULL;
    char *log = NULL, *record = NULL, *result = NULL;

    TRY(at_path_join(&arena, &log, dir, "metrics.jsonl"));
    TRY(at_path_join(&arena, &record, dir, "run.json"));
    TRY(at_path_join(&arena, &result, dir, "result.json"));
    *out = at_dir_is_empty(dir) ? AT_LEFT_NOTHING : AT_LEFT_OTHER;
    if (!at_path_exists(log))
        goto done;
    *out = AT_LEFT_KILLED;
    if (!at_path_exists(record) || !at_path_exists(result))
        goto done;
    TRY(at_json_load(&json, result));
    *out = cJSON_IsTrue(at_json_find(json, "complete")) ? AT_LEFT_FINISHED : AT_LEFT_STOPPED;
done:
    at_json_free(&json);
    at_arena_release(&arena);
    return st;
}

/* Whether the run may write into what is there. */
static AT_CHECKED check_folder(const struct at_config *c, bool has_checkpoint)
{
    enum at_status st = AT_OK;
    const char *dir = c->output_dir, *from = c->resume_from_checkpoint;
    enum at_left left = AT_LEFT_NOTHING;

    TRY(at_records_look(&left, dir));
    if (left == AT_LEFT_NOTHING)
        goto done;
    if (!from)
        FAIL(AT_CANNOT_WRITE,
             "output_dir %s exists and is not empty; nothing is overwritten: remove it, name "
             "another folder%s",
             dir,
             left == AT_LEFT_KILLED || left == AT_LEFT_STOPPED
                 ? ", or go on with its unfinished run: --resume_from_checkpoint true"
                 : "");
    if (left == AT_LEFT_FINISHED && strcmp(from, "true") == 0)
        FAIL(AT_CANNOT_WRITE, "output_dir %s holds a finished run: there is nothing to go on with",
             dir);
    if (!has_checkpoint && left != AT_LEFT_KILLED)
        FAIL(
            AT_CANNOT_WRITE,
            "output_dir %s holds no checkpoint to go on from; nothing is overwritten: remove it or "
            "name another folder",
            dir);
done:
    return st;
}

AT_CHECKED at_records_check_folder(const struct at_config *c)
{
    enum at_status st = AT_OK;

    TRY(check_folder(c, true)); /* whether there is a checkpoint is seen later */
    TRY(at_dir_check_writable(c->output_dir));
done:
    return st;
}

AT_CHECKED at_records_check(const struct at_run *run, bool has_checkpoint)
{
    enum at_status st = AT_OK;
    const char *dir = run->config->output_dir;
    const uint64_t need = bytes_to_write(run, has_checkpoint);
    uint64_t room = 0;

    if (!dir)
        FAIL(AT_USAGE, "output_dir is missing: the folder for the adapter and the metrics");
    TRY(check_folder(run->config, has_checkpoint));
    TRY(at_dir_create(dir));
    room = at_disk_free_bytes(dir);
    if (room > 0 && room < need)
        FAIL(AT_CANNOT_WRITE, "%s: the run writes about %llu MiB and %llu MiB are free", dir,
             (unsigned long long)need >> 20, (unsigned long long)room >> 20);
done:
    return st;
}

/* What the split by eval_split put where, as files to look at and to name in a later run. */
static AT_CHECKED write_split(struct at_records *r, const struct at_run *run)
{
    enum at_status st = AT_OK;
    const char *const *sources = run->config->train_dataset.items;
    char *path = NULL;

    if (!run->data.was_split)
        goto done;
    TRY(path_in(r, &path, AT_SPLIT_TRAIN));
    TRY(at_dataset_save(&run->data.train, sources, path));
    TRY(path_in(r, &path, AT_SPLIT_EVAL));
    TRY(at_dataset_save(&run->data.eval, sources, path));
done:
    return st;
}

/* Losses of files, as they were compiled. */
static AT_CHECKED write_losses(struct at_records *r, const struct at_config *c)
{
    enum at_status st = AT_OK;
    char *path = NULL;

    for (size_t i = 0; i < c->loss_type.n; i++) {
        const struct at_loss_file *file = c->losses[i]->file;
        if (!file)
            continue;
        TRY(path_in(r, &path, file->name));
        TRY(at_file_write_atomic(path, file->text, file->n_bytes));
    }
done:
    return st;
}

static bool reports_to(const struct at_config *c, const char *name)
{
    bool found = false;

    for (size_t i = 0; i < c->report_to.n; i++)
        found = found || strcmp(c->report_to.items[i], name) == 0;
    return found;
}

static AT_CHECKED put_events(struct at_records *r, const struct at_buf *records)
{
    enum at_status st = AT_OK;

    TRY(at_buf_status(records));
    TRY(at_log_put(r->events, records->data, records->n));
done:
    return st;
}

static AT_CHECKED open_events(struct at_records *r, uint64_t keep)
{
    enum at_status st = AT_OK;
    struct at_buf head = { 0 };
    char *path = NULL;

    TRY(path_in(r, &path, AT_EVENTS));
    TRY(at_log_open(&r->events, path, keep));
    if (keep == 0) {
        at_events_begin(&head, at_wall_s());
        TRY(put_events(r, &head));
    }
done:
    at_buf_release(&head);
    return st;
}

AT_CHECKED at_records_open(struct at_records **out, const struct at_run *run,
                           struct at_log_bytes keep)
{
    enum at_status st = AT_OK;
    struct at_records *r = NULL;
    char *path = NULL, *copy = NULL;

    *out = NULL;
    TRY(at_alloc(&r, 1, sizeof *r));
    TRY(at_arena_strdup(&r->arena, &copy, run->config->output_dir));
    r->dir = copy;
    r->device_bytes = at_engine_get_bytes(&run->engine).total;
    TRY(path_in(r, &path, "metrics.jsonl"));
    TRY(at_log_open(&r->metrics, path, keep.metrics));
    TRY(path_in(r, &path, "timing.jsonl"));
    TRY(at_log_open(&r->timing, path, keep.timing));
    if (reports_to(run->config, "tensorboard"))
        TRY(open_events(r, keep.events));
    if (at_method_get(run->method)->rows == AT_ROWS_PAIR && run->data.has_eval) {
        TRY(path_in(r, &path, "pairs.jsonl"));
        TRY(at_log_open(&r->pairs, path, keep.pairs));
    }
    TRY(write_split(r, run));
    TRY(write_losses(r, run->config));
    *out = r;
    r = NULL;
done:
    at_records_close(&r);
    return st;
}

void at_records_close(struct at_records **records)
{
    struct at_records *r = *records;

    if (!r)
        return;
    at_log_close(&r->events);
    at_log_close(&r->metrics);
    at_log_close(&r->timing);
    at_log_close(&r->pairs);
    at_arena_release(&r->arena);
    at_free(records);
}

AT_CHECKED at_records_sync(struct at_records *r, struct at_log_bytes *out)
{
    enum at_status st = AT_OK;

    *out = (struct at_log_bytes){ 0 };
    if (r->events)
        TRY(at_log_sync(r->events, &out->events));
    TRY(at_log_sync(r->metrics, &out->metrics));
    TRY(at_log_sync(r->timing, &out->timing));
    if (r->pairs)
        TRY(at_log_sync(r->pairs, &out->pairs));
done:
    return st;
}

/* ---- lines ---- */

cJSON *at_records_line(uint64_t step, double epoch)
{
    cJSON *line = cJSON_CreateObject();

    cJSON_AddNumberToObject(line, "step", (double)step);
    cJSON_AddNumberToObject(line, "epoch", epoch);
    return line;
}

static AT_CHECKED write_line(struct at_log *log, const cJSON *line)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };

    at_json_write(&text, line);
    TRY(at_buf_status(&text));
    TRY(at_log_line(log, text.data, text.n));
done:
    at_buf_release(&text);
    return st;
}

AT_CHECKED at_records_metrics(struct at_records *r, const cJSON *line)
{
    enum at_status st = AT_OK;
    struct at_buf events = { 0 };

    TRY(write_line(r->metrics, line));
    if (r->events) {
        at_events_line(&events, line, at_wall_s());
        TRY(put_events(r, &events));
    }
done:
    at_buf_release(&events);
    return st;
}

bool at_records_has_events(const struct at_records *r)
{
    return r->events != NULL;
}

AT_CHECKED at_records_histograms(struct at_records *r, uint64_t step,
                                 const struct at_histogram *list, size_t n)
{
    enum at_status st = AT_OK;
    struct at_buf events = { 0 };

    at_events_histograms(&events, step, list, n, at_wall_s());
    TRY(put_events(r, &events));
done:
    at_buf_release(&events);
    return st;
}

AT_CHECKED at_records_timing(struct at_records *r, uint64_t step, double step_s, uint64_t tokens,
                             uint32_t rows, double eta_s)
{
    enum at_status st = AT_OK;
    cJSON *line = cJSON_CreateObject();

    cJSON_AddNumberToObject(line, "step", (double)step);
    cJSON_AddNumberToObject(line, "step_time_s", step_s);
    cJSON_AddNumberToObject(line, "tokens_per_s", (double)tokens / step_s);
    cJSON_AddNumberToObject(line, "pairs_per_s", rows / step_s);
    cJSON_AddNumberToObject(line, "eta_s", eta_s);
    cJSON_AddNumberToObject(line, "device_bytes", (double)r->device_bytes);
    TRY(write_line(r->timing, line));
done:
    cJSON_Delete(line);
    return st;
}

static cJSON *pair_line(uint64_t step, const struct at_row *row, const struct at_row_result *r,
                        enum at_method method, double beta)
{
    cJSON *line = cJSON_CreateObject();

    cJSON_AddNumberToObject(line, "step", (double)step);
    cJSON_AddNumberToObject(line, "row", row->index);
    cJSON_AddNumberToObject(line, "file", row->file);
    cJSON_AddNumberToObject(line, "line", row->line);
    at_metric_add(line, "", "margin",
                  beta * ((double)r->pair.score_chosen - r->pair.score_rejected));
    if (at_method_get(method)->reference) {
        at_metric_add(line, "", "chosen_logratio", r->pair.score_chosen);
        at_metric_add(line, "", "rejected_logratio", r->pair.score_rejected);
    }
    if (at_method_get(method)->value_head) {
        at_metric_add(line, "", "chosen_reward", r->policy[0].logp);
        at_metric_add(line, "", "rejected_reward", r->policy[1].logp);
        return line;
    }
    at_metric_add(line, "", "chosen_logp", r->policy[0].raw_logp);
    at_metric_add(line, "", "rejected_logp", r->policy[1].raw_logp);
    cJSON_AddNumberToObject(line, "chosen_tokens", r->policy[0].n);
    cJSON_AddNumberToObject(line, "rejected_tokens", r->policy[1].n);
    return line;
}

AT_CHECKED at_records_pairs(struct at_records *r, uint64_t step, const struct at_dataset *data,
                            const struct at_row_result *results, enum at_method method, double beta)
{
    enum at_status st = AT_OK;
    cJSON *line = NULL;

    for (uint32_t i = 0; i < data->n_rows; i++) {
        line = pair_line(step, &data->rows[i], &results[i], method, beta);
        TRY(write_line(r->pairs, line));
        cJSON_Delete(line);
        line = NULL;
    }
done:
    cJSON_Delete(line);
    return st;
}

/* ---- what stays ---- */

static AT_CHECKED write_json(struct at_records *r, const char *name, const cJSON *json)
{
    enum at_status st = AT_OK;
    char *path = NULL;

    TRY(path_in(r, &path, name));
    TRY(at_json_save(path, json));
done:
    return st;
}

/* "better" when after's interval lies above before's value, "worse" when below, else open. A run
 * that was stopped may have written a state that was never evaluated, or the one that went too far.
 */
static const char *verdict(const struct at_outcome *o)
{
    if (o->too_far && o->best_step == o->steps)
        return "over budget";
    if (o->evaluated_step != o->best_step)
        return "not judged";
    if (!o->has_eval || !o->has_pairs)
        return o->has_eval ? (o->eval_loss_after < o->eval_loss_before ? "better" : "worse")
                           : "not judged";
    if (o->after.low > o->before.value)
        return "better";
    return o->after.high < o->before.value ? "worse" : "not enough evidence";
}

static void add_change(cJSON *out, const char *name, double before, double after)
{
    cJSON *change = cJSON_AddObjectToObject(out, name);

    at_metric_add(change, "", "before", before);
    at_metric_add(change, "", "after", after);
}

static void add_shares(cJSON *out, const char *name, struct at_share before, struct at_share after)
{
    cJSON *change = cJSON_AddObjectToObject(out, name);

    cJSON_AddItemToObject(change, "before", at_share_json(before));
    cJSON_AddItemToObject(change, "after", at_share_json(after));
}

cJSON *at_records_alarms(const struct at_outcome *o)
{
    cJSON *alarms = cJSON_CreateArray();
    char text[160];

    if (o->skipped > 0)
        cJSON_AddItemToArray(alarms, cJSON_CreateString("steps were skipped: values were not "
                                                        "finite"));
    if (o->too_far)
        cJSON_AddItemToArray(alarms,
                             cJSON_CreateString("the policy went further from its reference "
                                                "than max_drift"));
    if (o->displaced_step > 0) {
        snprintf(text, sizeof text,
                 "chosen log-probs of the held-out rows fell from %.2f to %.2f at step %llu "
                 "(likelihood displacement)",
                 o->chosen_logp_before, o->displaced_logp, (unsigned long long)o->displaced_step);
        cJSON_AddItemToArray(alarms, cJSON_CreateString(text));
    }
    return alarms;
}

static AT_CHECKED write_result(struct at_records *r, const struct at_outcome *o)
{
    enum at_status st = AT_OK;
    cJSON *out = cJSON_CreateObject();

    cJSON_AddNumberToObject(out, "format_version", 1);
    cJSON_AddNumberToObject(out, "steps", (double)o->steps);
    cJSON_AddNumberToObject(out, "best_step", (double)o->best_step);
    cJSON_AddBoolToObject(out, "complete", o->complete);
    cJSON_AddBoolToObject(out, "stopped_early", o->stopped_early);
    cJSON_AddNumberToObject(out, "skipped_steps", (double)o->skipped);
    at_metric_add(out, "", "loss_first", o->loss_first);
    at_metric_add(out, "", "loss_last", o->loss_last);
    if (o->has_eval)
        add_change(out, "eval_loss", o->eval_loss_before, o->eval_loss_after);
    cJSON_AddItemToObject(out, "alarms", at_records_alarms(o));
    if (o->has_drift)
        add_change(out, "eval_drift/kl", o->drift_before, o->drift_after);
    if (o->has_eval && o->has_rewards) {
        add_shares(out, "eval_accuracy", o->before, o->after);
        add_change(out, "eval_margin", o->margin_before, o->margin_after);
    } else if (o->has_eval && o->has_pairs) {
        add_shares(out, "eval_logps/accuracies", o->before, o->after);
        add_change(out, "eval_logps/chosen", o->chosen_logp_before, o->chosen_logp_after);
    }
    cJSON_AddStringToObject(out, "verdict", verdict(o));
    TRY(write_json(r, "result.json", out));
done:
    cJSON_Delete(out);
    return st;
}

/* The rows of train_dataset. */
static const struct at_dataset *rows_read(const struct at_run *run)
{
    return run->data.was_split ? &run->data.all : &run->data.train;
}

static void add_rows(cJSON *out, const char *name, const struct at_dataset *d)
{
    cJSON *rows = cJSON_AddObjectToObject(out, name);

    cJSON_AddNumberToObject(rows, "read", d->n_read);
    cJSON_AddNumberToObject(rows, "kept", d->n_rows);
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
    if (run->data.has_eval && !run->data.was_split)
        cJSON_AddStringToObject(part, "eval_dataset", run->data.eval.digest);
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

static AT_CHECKED write_run(struct at_records *r, const struct at_run *run)
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
    part = cJSON_AddObjectToObject(out, "device");
    cJSON_AddStringToObject(part, "name", info->name);
    cJSON_AddStringToObject(part, "driver", info->driver);
    cJSON_AddItemToObject(out, "kernels", at_engine_kernels(e));
    part = cJSON_AddObjectToObject(out, "data");
    add_rows(part, "train", rows_read(run));
    if (run->data.has_eval && !run->data.was_split)
        add_rows(part, "eval", &run->data.eval);
    if (run->data.regression.n_rows > 0)
        add_rows(part, "regression", &run->data.regression);
    cJSON_AddNumberToObject(part, "train_rows", run->data.train.n_rows);
    cJSON_AddNumberToObject(part, "eval_rows", run->data.eval.n_rows);
    part = cJSON_AddObjectToObject(out, "digests");
    TRY(add_digests(&r->arena, part, run));
    add_quantised(out, run);
    part = cJSON_AddObjectToObject(out, "device_bytes");
    cJSON_AddNumberToObject(part, "frozen", (double)bytes.frozen);
    cJSON_AddNumberToObject(part, "state", (double)bytes.state);
    cJSON_AddNumberToObject(part, "slab", (double)bytes.slab);
    cJSON_AddNumberToObject(out, "host_peak_bytes", (double)at_memory_peak_bytes());
    cJSON_AddNumberToObject(out, "trainable_values", (double)at_params_count(&e->params));
    cJSON_AddNumberToObject(out, "tokens_given", (double)e->tokens_given);
    cJSON_AddNumberToObject(out, "tokens_computed", (double)e->tokens_computed);
    cJSON_AddNumberToObject(out, "head_rows", (double)e->head_rows);
    cJSON_AddNumberToObject(out, "ref_forward_tokens", (double)e->ref_forward_tokens);
    cJSON_AddNumberToObject(out, "warnings", (double)at_warn_count(NULL));
    TRY(write_json(r, "run.json", out));
done:
    cJSON_Delete(out);
    return st;
}

/* Files of the tokenizer that a Hugging Face folder has, as they are, and the chat template where
 * no such file has it. The tokenizer of a GGUF file stays there. */
static AT_CHECKED copy_tokenizer(struct at_records *r, const struct at_run *run)
{
    static const char *const names[] = { "tokenizer.json", "tokenizer_config.json",
                                         "special_tokens_map.json", "chat_template.jinja" };
    enum at_status st = AT_OK;
    struct at_map map = { .n = 0 };
    char *from = NULL, *to = NULL;

    if (run->bundle.template_text &&
        (run->config->chat_template_path || !run->bundle.tokenizer_dir)) {
        TRY(path_in(r, &to, "chat_template.jinja"));
        TRY(at_file_write_atomic(to, run->bundle.template_text, strlen(run->bundle.template_text)));
    }
    for (size_t i = 0; run->bundle.tokenizer_dir && i < AT_COUNT(names); i++) {
        TRY(at_path_join(&r->arena, &from, run->bundle.tokenizer_dir, names[i]));
        TRY(path_in(r, &to, names[i]));
        if (!at_path_exists(from) || at_path_exists(to))
            continue;
        TRY(at_map_open(&map, from));
        TRY(at_file_write_atomic(to, map.data, map.n));
        at_map_close(&map);
    }
done:
    at_map_close(&map);
    return st;
}

static AT_CHECKED write_model(struct at_records *r, const struct at_run *run, const char *dir)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 }, reward = { 0 };
    const bool value_head = run->engine.model.config.value_head;
    const int32_t pad = at_tokenizer_pad(run->bundle.tokenizer);
    char *path = NULL;

    TRY(at_path_join(&r->arena, &path, run->bundle.path, "config.json"));
    TRY(at_file_read(&text, path));
    if (value_head)
        TRY(at_value_head_config(&reward, text.data, path,
                                 pad >= 0 ? pad : at_tokenizer_eos(run->bundle.tokenizer)));
    TRY(at_model_save(dir, run->engine.gpu, &run->engine.model,
                      value_head ? reward.data : text.data));
done:
    at_buf_release(&text);
    at_buf_release(&reward);
    return st;
}

AT_CHECKED at_records_weights(struct at_records *r, struct at_run *run, const char *dir)
{
    enum at_status st = AT_OK;
    const struct at_config *c = run->config;
    struct at_adapter_record record = {
        .base_model =
            c->base_model_name_or_path ? c->base_model_name_or_path : c->model_name_or_path,
        .dropout = c->lora_dropout,
        .value = run->engine.model.config.value_head ? &run->engine.model.value : NULL,
        .saved = run->engine.model.saved
    };

    if (run->engine.model.trainable)
        TRY(write_model(r, run, dir));
    else
        TRY(at_adapter_save(dir, run->engine.gpu, &run->bundle.config,
                            (const struct at_adapter *const *)run->engine.stack,
                            run->engine.n_adapters, &record));
done:
    return st;
}

AT_CHECKED at_records_finish(struct at_records *r, struct at_run *run, const struct at_outcome *o)
{
    enum at_status st = AT_OK;

    TRY(at_records_weights(r, run, r->dir));
    TRY(copy_tokenizer(r, run));
    TRY(write_result(r, o));
    TRY(write_run(r, run));
done:
    return st;
}
