#include "trained.h"

#include "cli.h"
#include "config_paths.h"
#include "record.h"
#include "sources.h"

#include <string.h>

/* ---- folders ---- */

static AT_CHECKED put_files(struct at_hash *hash, struct at_arena *arena,
                            const struct at_strings *files)
{
    enum at_status st = AT_OK;

    for (size_t i = 0; i < files->n; i++)
        TRY(cli_put_source(hash, arena, files->items[i]));
done:
    return st;
}

AT_CHECKED cli_trained_digest(struct at_digest *out, struct at_arena *arena,
                              const struct at_config *c, uint32_t version)
{
    static const char *const left_out[] = { "output_dir", "profile",       "resume_from_checkpoint",
                                            "save_steps", "save_strategy", "save_total_limit" };
    enum at_status st = AT_OK;
    const char *sources[CLI_SOURCES];
    cJSON *record = at_config_record(c);
    struct at_buf text = { 0 };
    struct at_hash hash;

    at_hash_init(&hash);
    for (size_t i = 0; i < AT_COUNT(left_out); i++)
        cJSON_DeleteItemFromObject(record, left_out[i]);
    if (version > CLI_TRAINED_BY_PATHS)
        TRY(at_config_hide_paths(record, c));
    at_json_write(&text, record);
    TRY(at_buf_status(&text));
    at_hash_put_text(&hash, text.data);
    TRY(put_files(&hash, arena, &c->train_dataset));
    if (c->rollouts)
        TRY(cli_put_source(&hash, arena, c->rollouts));
    TRY(put_files(&hash, arena, &c->eval_dataset));
    TRY(put_files(&hash, arena, &c->regression_dataset));
    TRY(cli_sources_of(sources, arena, c));
    for (size_t i = 0; i < CLI_SOURCES; i++)
        if (sources[i])
            TRY(cli_put_source(&hash, arena, sources[i]));
    *out = at_hash_end(&hash);
done:
    cJSON_Delete(record);
    at_buf_release(&text);
    return st;
}

static AT_CHECKED find_unfinished(struct at_config *c, const char *what)
{
    enum at_status st = AT_OK;
    enum at_left left = AT_LEFT_NOTHING;

    TRY(at_records_look(&left, c->output_dir));
    if (left != AT_LEFT_KILLED && left != AT_LEFT_STOPPED)
        FAIL(AT_CANNOT_WRITE,
             "%s holds another run or other files; nothing is overwritten: remove it to train %s",
             c->output_dir, what);
    if (!c->resume_from_checkpoint)
        c->resume_from_checkpoint = "true";
done:
    return st;
}

AT_CHECKED cli_trained_find(bool *finished, struct at_arena *arena, struct at_config *c,
                            const char *what, bool changed)
{
    enum at_status st = AT_OK;
    const char *dir = c->output_dir, *inputs = NULL;
    cJSON *record = NULL;
    struct at_digest digest = { .hex = "" };
    char *path = NULL;
    uint32_t version = CLI_TRAINED_BY_PATHS;

    *finished = false;
    if (at_dir_is_empty(dir)) {
        TRY(at_dir_check_writable(dir));
        goto done;
    }
    TRY(at_path_join(arena, &path, dir, "stage.json"));
    if (!at_path_exists(path)) {
        TRY(find_unfinished(c, what));
        goto done;
    }
    TRY(at_json_load(&record, path));
    TRY(at_json_need_string(&inputs, record, "inputs", path));
    TRY(at_json_get_u32(&version, record, "format_version", path));
    if (!changed)
        TRY(cli_trained_digest(&digest, arena, c, version));
    if (changed || strcmp(inputs, digest.hex) != 0)
        FAIL(AT_CANNOT_WRITE,
             "%s holds %s with other inputs (configuration, data, model or what it starts from); "
             "nothing is overwritten: remove it to train again",
             dir, what);
    *finished = true;
done:
    at_json_free(&record);
    return st;
}

AT_CHECKED cli_trained_mark(struct at_arena *arena, const struct at_config *config,
                            const char *name, const struct at_digest *inputs, const char *ended)
{
    enum at_status st = AT_OK;
    cJSON *record = cJSON_CreateObject();
    char *path = NULL;

    cJSON_AddNumberToObject(record, "format_version", CLI_TRAINED_VERSION);
    cJSON_AddStringToObject(record, "stage", name);
    cJSON_AddStringToObject(record, "inputs", inputs->hex);
    if (ended)
        cJSON_AddStringToObject(record, "ended", ended);
    TRY(at_path_join(arena, &path, config->output_dir, "stage.json"));
    TRY(at_json_save(path, record));
done:
    cJSON_Delete(record);
    return st;
}

static AT_CHECKED read_share(struct at_share *out, const cJSON *change, const char *name,
                             const char *path)
{
    enum at_status st = AT_OK;
    const cJSON *share = at_json_find(change, name);
    double *const to[] = { &out->value, &out->low, &out->high, &out->n };
    static const char *const names[] = { "value", "low", "high", "n" };

    for (size_t i = 0; i < AT_COUNT(to); i++) {
        const cJSON *number = at_json_find(share, names[i]);
        if (!cJSON_IsNumber(number))
            FAIL(AT_DATA, "%s: %s.%s is missing; remove the folder to train again", path, name,
                 names[i]);
        *to[i] = number->valuedouble;
    }
done:
    return st;
}

AT_CHECKED cli_trained_read(struct at_outcome *out, const char **ended, struct at_arena *arena,
                            const struct at_config *config)
{
    enum at_status st = AT_OK;
    cJSON *result = NULL, *stage = NULL;
    const cJSON *shares = NULL, *drift = NULL;
    const char *text = NULL;
    char *path = NULL, *copy = NULL;
    uint32_t step = 0;

    *out = (struct at_outcome){ .has_eval = true, .has_pairs = true };
    *ended = NULL;
    TRY(at_path_join(arena, &path, config->output_dir, "stage.json"));
    TRY(at_json_load(&stage, path));
    TRY(at_json_get_string(&text, stage, "ended", path));
    if (text) {
        TRY(at_arena_strdup(arena, &copy, text));
        *ended = copy;
    }
    TRY(at_path_join(arena, &path, config->output_dir, "result.json"));
    TRY(at_json_load(&result, path));
    shares = at_json_find(result, "eval_logps/accuracies");
    out->has_rewards = shares == NULL;
    if (!shares)
        shares = at_json_find(result, "eval_accuracy");
    TRY(read_share(&out->before, shares, "before", path));
    TRY(read_share(&out->after, shares, "after", path));
    TRY(at_json_need_u32(&step, result, "best_step", path));
    out->best_step = step;
    drift = at_json_find(at_json_find(result, "eval_drift/kl"), "after");
    out->has_drift = cJSON_IsNumber(drift);
    out->drift_after = out->has_drift ? drift->valuedouble : 0;
done:
    at_json_free(&result);
    at_json_free(&stage);
    return st;
}

/* ---- one load ---- */

AT_CHECKED cli_trainer_use(struct cli_trainer *t, const struct at_config *config)
{
    enum at_status st = AT_OK;
    const struct at_events events = { .progress = cli_progress };
    const bool first = !t->run.config;

    if (!first && !at_run_has_other_reference(&t->run) && !t->run.online.is_on) {
        TRY(at_run_again(&t->run, config));
        goto done;
    }
    at_run_close(&t->run);
    TRY(at_run_open(&t->run, config, &events));
    t->run.shared = &t->shared;
    if (!t->run.data.has_eval || at_method_get(t->run.method)->rows != AT_ROWS_PAIR)
        FAIL(AT_USAGE, "there is nothing to rank or pool by: it needs held-out pairs, of "
                       "eval_dataset, eval_split or cross_validation, and a method of pairs");
    if (first)
        cli_describe_run(&t->run);
done:
    return st;
}

void cli_trainer_close(struct cli_trainer *t)
{
    at_shared_reference_release(&t->shared);
    at_run_close(&t->run);
}
