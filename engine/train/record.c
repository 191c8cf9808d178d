#include "record_parts.h"

#include <stdio.h>
#include <string.h>

AT_CHECKED at_records_path(struct at_records *r, char **out, const char *name)
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

    if (at_path_exists(dir) && !at_path_is_dir(dir))
        FAIL(AT_CANNOT_WRITE, "output_dir %s is a file, not a folder; name another", dir);
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
    TRY(at_records_path(r, &path, AT_SPLIT_TRAIN));
    TRY(at_dataset_save(&run->data.train, sources, path));
    TRY(at_records_path(r, &path, AT_SPLIT_EVAL));
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
        TRY(at_records_path(r, &path, file->name));
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

    TRY(at_records_path(r, &path, AT_EVENTS));
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
    TRY(at_records_path(r, &path, "metrics.jsonl"));
    TRY(at_log_open(&r->metrics, path, keep.metrics));
    TRY(at_records_path(r, &path, "timing.jsonl"));
    TRY(at_log_open(&r->timing, path, keep.timing));
    if (reports_to(run->config, "tensorboard"))
        TRY(open_events(r, keep.events));
    if (run->data.has_eval) {
        const bool pairs = at_method_get(run->method)->rows == AT_ROWS_PAIR;
        TRY(at_records_path(r, &path, pairs ? "pairs.jsonl" : "rows.jsonl"));
        TRY(at_log_open(&r->pairs, path, keep.pairs));
    }
    if (at_online_draws(&run->online) && run->config->log_completions) {
        TRY(at_records_path(r, &path, "completions.jsonl"));
        TRY(at_log_open(&r->completions, path, keep.completions));
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
    at_log_close(&r->completions);
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
    if (r->completions)
        TRY(at_log_sync(r->completions, &out->completions));
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

AT_CHECKED at_records_write_line(struct at_log *log, const cJSON *line)
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

    TRY(at_records_write_line(r->metrics, line));
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

/* tokens_per_s are of the training alone. */
static void add_split(cJSON *line, const struct at_step_timing *t)
{
    cJSON_AddNumberToObject(line, "sampling_s", t->sampling_s);
    cJSON_AddNumberToObject(line, "scoring_s", t->scoring_s);
    cJSON_AddNumberToObject(line, "training_s", t->step_s - t->sampling_s - t->scoring_s);
    if (t->sampling_s > 0)
        cJSON_AddNumberToObject(line, "sampling_tokens_per_s",
                                (double)t->n_sampled / t->sampling_s);
}

AT_CHECKED at_records_timing(struct at_records *r, const struct at_step_timing *t)
{
    enum at_status st = AT_OK;
    cJSON *line = cJSON_CreateObject();

    cJSON_AddNumberToObject(line, "step", (double)t->step);
    cJSON_AddNumberToObject(line, "step_time_s", t->step_s);
    if (t->samples)
        add_split(line, t);
    cJSON_AddNumberToObject(line, "tokens_per_s",
                            (double)t->tokens / (t->step_s - t->sampling_s - t->scoring_s));
    cJSON_AddNumberToObject(line, "pairs_per_s", t->rows / t->step_s);
    cJSON_AddNumberToObject(line, "eta_s", t->eta_s);
    cJSON_AddNumberToObject(line, "device_bytes", (double)r->device_bytes);
    TRY(at_records_write_line(r->timing, line));
done:
    cJSON_Delete(line);
    return st;
}

AT_CHECKED at_records_completions(struct at_records *r, const cJSON *line)
{
    return at_records_write_line(r->completions, line);
}

/* ---- what stays ---- */

AT_CHECKED at_records_write_json(struct at_records *r, const char *name, const cJSON *json)
{
    enum at_status st = AT_OK;
    char *path = NULL;

    TRY(at_records_path(r, &path, name));
    TRY(at_json_save(path, json));
done:
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
        TRY(at_records_path(r, &to, "chat_template.jinja"));
        TRY(at_file_write_atomic(to, run->bundle.template_text, strlen(run->bundle.template_text)));
    }
    for (size_t i = 0; run->bundle.tokenizer_dir && i < AT_COUNT(names); i++) {
        TRY(at_path_join(&r->arena, &from, run->bundle.tokenizer_dir, names[i]));
        TRY(at_records_path(r, &to, names[i]));
        if (!at_path_exists(from) || at_path_exists(to))
            continue;
        TRY(at_map_open(&map, from));
        TRY(at_file_write_atomic(to, map.data, map.n));
        at_map_close(&map);
    }
    TRY(at_records_path(r, &to, "chat_template.jinja"));
    if (run->bundle.tools_text && at_path_exists(to)) { /* else it is in tokenizer_config.json */
        TRY(at_records_path(r, &to, "additional_chat_templates"));
        TRY(at_dir_create(to));
        TRY(at_path_join(&r->arena, &from, to, AT_CHAT_TOOLS ".jinja"));
        TRY(at_file_write_atomic(from, run->bundle.tools_text, strlen(run->bundle.tools_text)));
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

/* What adapter_config.json names as the base: a model of the hub by its name there. */
static const char *base_name(const struct at_run *run)
{
    const struct at_config *c = run->config;

    if (c->base_model_name_or_path)
        return c->base_model_name_or_path;
    return run->bundle.hub_name ? run->bundle.hub_name : c->model_name_or_path;
}

AT_CHECKED at_records_weights(struct at_records *r, struct at_run *run, const char *dir)
{
    enum at_status st = AT_OK;
    struct at_adapter_record record = {
        .base_model = base_name(run),
        .revision = run->config->base_model_name_or_path ? NULL : run->bundle.revision,
        .dropout = run->config->lora_dropout,
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
    TRY(at_records_write_result(r, o));
    TRY(at_records_write_run(r, run));
done:
    return st;
}
