#include "checkpoint.h"

#include "checkpoint_arrays.h"
#include "hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char prefix[] = "checkpoint-";

/* ---- scalars ---- */

enum kind { U64, F64, BOOL };
struct field {
    const char *name;
    enum kind kind;
    size_t offset;
};
#define FIELD(type, kind, member)                    \
    {                                                \
#member, kind, offsetof(struct type, member) \
    }

static const struct field state_fields[] = {
    FIELD(at_loop_state, F64, best_metric),
    FIELD(at_loop_state, U64, best_step),
    FIELD(at_loop_state, U64, cursor),
    FIELD(at_loop_state, F64, drawn_s),
    FIELD(at_loop_state, F64, drift),
    FIELD(at_loop_state, F64, elapsed_s),
    FIELD(at_loop_state, U64, epoch),
    FIELD(at_loop_state, U64, evaluated),
    FIELD(at_loop_state, F64, evaluated_s),
    FIELD(at_loop_state, BOOL, has_best),
    FIELD(at_loop_state, U64, logged),
    FIELD(at_loop_state, BOOL, moved_checked),
    FIELD(at_loop_state, F64, norm_sum),
    FIELD(at_loop_state, U64, num_tokens),
    FIELD(at_loop_state, F64, passed_metric),
    FIELD(at_loop_state, BOOL, passed_over),
    FIELD(at_loop_state, F64, plateau.best),
    FIELD(at_loop_state, U64, plateau.cooling),
    FIELD(at_loop_state, BOOL, plateau.has_best),
    FIELD(at_loop_state, F64, plateau.rate),
    FIELD(at_loop_state, U64, plateau.stale),
    FIELD(at_loop_state, U64, skipped),
    FIELD(at_loop_state, U64, skipped_in_row),
    FIELD(at_loop_state, U64, stale),
    FIELD(at_loop_state, U64, step),
    FIELD(at_loop_state, U64, step_rows),
    FIELD(at_loop_state, U64, step_tokens),
    FIELD(at_loop_state, F64, tally.entropy),
    FIELD(at_loop_state, F64, tally.groups),
    FIELD(at_loop_state, F64, tally.high),
    FIELD(at_loop_state, F64, tally.hits),
    FIELD(at_loop_state, F64, tally.log_odds),
    FIELD(at_loop_state, F64, tally.log_ratio),
    FIELD(at_loop_state, F64, tally.logit[0]),
    FIELD(at_loop_state, F64, tally.logit[1]),
    FIELD(at_loop_state, F64, tally.logp[0]),
    FIELD(at_loop_state, F64, tally.logp[1]),
    FIELD(at_loop_state, F64, tally.loss),
    FIELD(at_loop_state, F64, tally.low),
    FIELD(at_loop_state, F64, tally.mean_logp[0]),
    FIELD(at_loop_state, F64, tally.mean_logp[1]),
    FIELD(at_loop_state, F64, tally.mean_logp_wins),
    FIELD(at_loop_state, F64, tally.nll),
    FIELD(at_loop_state, F64, tally.nll_tokens),
    FIELD(at_loop_state, F64, tally.rows),
    FIELD(at_loop_state, F64, tally.score[0]),
    FIELD(at_loop_state, F64, tally.score[1]),
    FIELD(at_loop_state, F64, tally.tokens[0]),
    FIELD(at_loop_state, F64, tally.tokens[1]),
    FIELD(at_loop_state, F64, tally.wins),
    FIELD(at_loop_state, F64, tally.kl),
    FIELD(at_loop_state, F64, tally.labelled[0]),
    FIELD(at_loop_state, F64, tally.labelled[1]),
    FIELD(at_loop_state, U64, within),
};
static const struct field outcome_fields[] = {
    FIELD(at_outcome, F64, after.high),        FIELD(at_outcome, F64, after.low),
    FIELD(at_outcome, F64, after.n),           FIELD(at_outcome, F64, after.value),
    FIELD(at_outcome, F64, before.high),       FIELD(at_outcome, F64, before.low),
    FIELD(at_outcome, F64, before.n),          FIELD(at_outcome, F64, before.value),
    FIELD(at_outcome, F64, chosen_logp_after), FIELD(at_outcome, F64, chosen_logp_before),
    FIELD(at_outcome, F64, displaced_logp),    FIELD(at_outcome, U64, displaced_step),
    FIELD(at_outcome, F64, drift_after),       FIELD(at_outcome, F64, drift_before),
    FIELD(at_outcome, BOOL, has_drift),        FIELD(at_outcome, F64, eval_loss_after),
    FIELD(at_outcome, F64, eval_loss_before),  FIELD(at_outcome, U64, evaluated_step),
    FIELD(at_outcome, BOOL, has_eval),         FIELD(at_outcome, F64, loss_first),
    FIELD(at_outcome, F64, loss_last),         FIELD(at_outcome, F64, margin_after),
    FIELD(at_outcome, F64, margin_before),     FIELD(at_outcome, F64, reward_first),
    FIELD(at_outcome, F64, reward_last),
};
static const struct field engine_fields[] = {
    FIELD(at_engine, U64, head_rows),
    FIELD(at_engine, U64, ref_forward_tokens),
    FIELD(at_engine, U64, tokens_computed),
    FIELD(at_engine, U64, tokens_given),
};
static const struct field log_fields[] = {
    FIELD(at_log_bytes, U64, completions), FIELD(at_log_bytes, U64, events),
    FIELD(at_log_bytes, U64, metrics),     FIELD(at_log_bytes, U64, pairs),
    FIELD(at_log_bytes, U64, timing),
};

static void fields_write(cJSON *out, const char *name, const struct field *fields, size_t n,
                         const void *from)
{
    cJSON *object = cJSON_AddObjectToObject(out, name);

    for (size_t i = 0; i < n; i++) {
        const void *at = (const char *)from + fields[i].offset;
        if (fields[i].kind == BOOL)
            cJSON_AddBoolToObject(object, fields[i].name, *(const bool *)at);
        else
            cJSON_AddNumberToObject(object, fields[i].name,
                                    fields[i].kind == F64 ? *(const double *)at
                                                          : (double)*(const uint64_t *)at);
    }
}

static AT_CHECKED fields_read(void *to, const cJSON *from, const char *name,
                              const struct field *fields, size_t n)
{
    const cJSON *object = at_json_find(from, name);

    for (size_t i = 0; i < n; i++) {
        void *at = (char *)to + fields[i].offset;
        const cJSON *value = at_json_find(object, fields[i].name);
        const bool bad = fields[i].kind == F64 && cJSON_IsNull(value); /* was not finite */
        if (fields[i].kind == BOOL ? !cJSON_IsBool(value) : !bad && !cJSON_IsNumber(value))
            return at_fail(AT_DATA, "trainer_state.json: %s/%s is missing", name, fields[i].name);
        if (fields[i].kind == BOOL)
            *(bool *)at = cJSON_IsTrue(value);
        else if (fields[i].kind == F64)
            *(double *)at = bad ? NAN : value->valuedouble;
        else
            *(uint64_t *)at = (uint64_t)value->valuedouble;
    }
    return AT_OK;
}

/* ---- saving ---- */

static AT_CHECKED write_json(struct at_arena *arena, const char *dir, const char *name,
                             const cJSON *json)
{
    enum at_status st = AT_OK;
    char *path = NULL;

    TRY(at_path_join(arena, &path, dir, name));
    TRY(at_json_save(path, json));
done:
    return st;
}

static AT_CHECKED write_state(struct at_arena *arena, const char *dir, const struct at_loop *l,
                              const struct at_outcome *outcome)
{
    enum at_status st = AT_OK;
    cJSON *out = cJSON_CreateObject();
    struct at_loop_state state = l->state;
    struct at_log_bytes logs;

    state.elapsed_s = at_now_s() - l->start_s;
    TRY(at_records_sync(l->records, &logs));
    cJSON_AddNumberToObject(out, "format_version", AT_CHECKPOINT_VERSION);
    fields_write(out, "state", state_fields, AT_COUNT(state_fields), &state);
    fields_write(out, "outcome", outcome_fields, AT_COUNT(outcome_fields), outcome);
    fields_write(out, "passed", outcome_fields, AT_COUNT(outcome_fields), &l->passed);
    fields_write(out, "engine", engine_fields, AT_COUNT(engine_fields), &l->run->engine);
    fields_write(out, "logs", log_fields, AT_COUNT(log_fields), &logs);
    TRY(write_json(arena, dir, "trainer_state.json", out));
done:
    cJSON_Delete(out);
    return st;
}

static AT_CHECKED write_manifest(struct at_arena *arena, const char *dir, const struct at_loop *l)
{
    enum at_status st = AT_OK;
    cJSON *out = cJSON_CreateObject(), *files = NULL, *identity = NULL;
    char **names = NULL, *path = NULL;
    size_t n = 0;

    cJSON_AddNumberToObject(out, "format_version", AT_CHECKPOINT_VERSION);
    cJSON_AddNumberToObject(out, "step", (double)l->state.step);
    TRY(at_records_identity(&identity, l->run));
    cJSON_AddItemToObject(out, "run", identity);
    files = cJSON_AddObjectToObject(out, "files");
    TRY(at_dir_list(arena, &names, &n, dir));
    for (size_t i = 0; i < n; i++) {
        struct at_digest digest;
        TRY(at_path_join(arena, &path, dir, names[i]));
        TRY(at_hash_file(&digest, path));
        cJSON_AddStringToObject(files, names[i], digest.hex);
    }
    TRY(write_json(arena, dir, "manifest.json", out));
done:
    cJSON_Delete(out);
    return st;
}

static int compare_steps(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Steps of the whole checkpoints in a folder, ascending, in `arena`. */
static AT_CHECKED list_steps(struct at_arena *arena, uint64_t **out, size_t *n, const char *dir)
{
    enum at_status st = AT_OK;
    char **names = NULL;
    size_t n_names = 0;

    *n = 0;
    if (!at_path_is_dir(dir))
        goto done;
    TRY(at_dir_list(arena, &names, &n_names, dir));
    TRY(at_arena_alloc(arena, out, n_names + 1, sizeof **out));
    for (size_t i = 0; i < n_names; i++) {
        char *end = NULL;
        if (strncmp(names[i], prefix, sizeof prefix - 1) != 0)
            continue;
        const uint64_t step = strtoull(names[i] + sizeof prefix - 1, &end, 10);
        if (*end == 0 && step > 0)
            (*out)[(*n)++] = step;
    }
    if (*n > 0)
        qsort(*out, *n, sizeof **out, compare_steps);
done:
    return st;
}

static AT_CHECKED path_of(struct at_arena *arena, char **out, const char *dir, uint64_t step,
                          const char *end)
{
    return at_arena_printf(arena, out, "%s/%s%llu%s", dir, prefix, (unsigned long long)step, end);
}

/* Under a name that says that it is not whole first, so that a crash leaves nothing half removed.
 */
static AT_CHECKED remove_checkpoint(struct at_arena *arena, const char *dir, uint64_t step)
{
    enum at_status st = AT_OK;
    char *path = NULL, *partial = NULL;

    TRY(path_of(arena, &path, dir, step, ""));
    TRY(path_of(arena, &partial, dir, step, ".partial"));
    TRY(at_dir_remove(partial));
    if (!at_path_exists(path))
        goto done;
    TRY(at_dir_rename(path, partial));
    TRY(at_dir_remove(partial));
done:
    return st;
}

static AT_CHECKED remove_oldest(struct at_arena *arena, const struct at_config *c)
{
    enum at_status st = AT_OK;
    uint64_t *steps = NULL;
    size_t n = 0;

    if (c->save_total_limit == 0)
        goto done;
    TRY(list_steps(arena, &steps, &n, c->output_dir));
    for (size_t i = 0; i + c->save_total_limit < n; i++)
        TRY(remove_checkpoint(arena, c->output_dir, steps[i]));
done:
    return st;
}

/* Removes what a failed save left, whose status and message stay. */
static enum at_status give_room_back(struct at_arena *arena, const char *partial, enum at_status st)
{
    char *why = NULL;

    if (at_arena_strdup(arena, &why, at_message()) != AT_OK || !partial)
        return st;
    if (at_dir_remove(partial) != AT_OK)
        return at_fail(st, "%s (and %s could not be removed)", why, partial);
    return at_fail(st, "%s", why);
}

AT_CHECKED at_checkpoint_save(struct at_loop *l, const struct at_outcome *outcome)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { .spills = true };
    char *partial = NULL, *path = NULL, *file = NULL;

    TRY(remove_checkpoint(&arena, l->config->output_dir, l->state.step));
    TRY(path_of(&arena, &path, l->config->output_dir, l->state.step, ""));
    TRY(path_of(&arena, &partial, l->config->output_dir, l->state.step, ".partial"));
    TRY(at_dir_create(partial));
    TRY(at_records_weights(l->records, l->run, partial));
    TRY(at_path_join(&arena, &file, partial, "optimizer.bin"));
    TRY(at_checkpoint_arrays_write(&arena, file, l));
    TRY(write_state(&arena, partial, l, outcome));
    TRY(write_manifest(&arena, partial, l));
    TRY(at_dir_rename(partial, path));
    l->saved = l->state.step;
    TRY(remove_oldest(&arena, l->config));
done:
    if (st != AT_OK) {
        at_context("checkpoint of step %llu", (unsigned long long)l->state.step);
        st = give_room_back(&arena, partial, st);
    }
    at_arena_release(&arena);
    return st;
}

/* ---- going on ---- */

struct at_checkpoint {
    struct at_arena arena;
    const char *path;
    cJSON *manifest, *state;
    struct at_log_bytes logs;
};

static AT_CHECKED load_json(struct at_checkpoint *c, cJSON **out, const char *name)
{
    enum at_status st = AT_OK;
    uint32_t version = 0;
    char *path = NULL;

    TRY(at_path_join(&c->arena, &path, c->path, name));
    TRY(at_json_load(out, path));
    TRY(at_json_need_u32(&version, *out, "format_version", path));
    if (version != AT_CHECKPOINT_VERSION)
        FAIL(AT_DATA, "%s: format version %u, this program reads %d", path, version,
             AT_CHECKPOINT_VERSION);
done:
    return st;
}

static AT_CHECKED check_files(struct at_checkpoint *c)
{
    enum at_status st = AT_OK;
    const cJSON *files = at_json_find(c->manifest, "files");
    char *path = NULL;

    if (!at_json_find(files, "optimizer.bin") || !at_json_find(files, "trainer_state.json"))
        FAIL(AT_DATA, "%s/manifest.json: the list of files is not whole", c->path);
    for (const cJSON *f = files->child; f; f = f->next) {
        struct at_digest digest;
        TRY(at_path_join(&c->arena, &path, c->path, f->string));
        if (!at_path_exists(path))
            FAIL(AT_INTEGRITY, "%s is missing", path);
        TRY(at_hash_file(&digest, path));
        if (!cJSON_IsString(f) || strcmp(digest.hex, f->valuestring) != 0)
            FAIL(AT_INTEGRITY,
                 "%s is not the file that was written; name an older checkpoint with "
                 "resume_from_checkpoint",
                 path);
    }
done:
    return st;
}

/* Of steps up to `most`. */
static AT_CHECKED newest(struct at_arena *arena, const char **out, const char *dir, uint64_t most)
{
    enum at_status st = AT_OK;
    uint64_t *steps = NULL;
    size_t n = 0;
    char *path = NULL;

    *out = NULL;
    TRY(list_steps(arena, &steps, &n, dir));
    while (n > 0 && steps[n - 1] > most)
        n--;
    if (n == 0)
        goto done;
    TRY(path_of(arena, &path, dir, steps[n - 1], ""));
    *out = path;
done:
    return st;
}

/* The first entry of `had` that `has` lacks or has otherwise, or NULL. */
static const char *first_change(const cJSON *had, const cJSON *has)
{
    for (const cJSON *item = had ? had->child : NULL; item; item = item->next)
        if (!cJSON_Compare(item, at_json_find(has, item->string), true))
            return item->string;
    return NULL;
}

static AT_CHECKED check_identity(const struct at_checkpoint *c, const struct at_run *run)
{
    enum at_status st = AT_OK;
    const cJSON *had = at_json_find(c->manifest, "run"), *config = at_json_find(had, "config");
    cJSON *has = NULL;
    char *before = NULL;
    const char *name = NULL;

    TRY(at_records_identity(&has, run));
    if (!cJSON_Compare(at_json_find(had, "method"), at_json_find(has, "method"), true))
        FAIL(AT_USAGE, "%s was made by another method than %s", c->path,
             at_method_get(run->method)->name);
    name = first_change(config, at_json_find(has, "config"));
    if (name) {
        before = cJSON_PrintUnformatted(at_json_find(config, name));
        FAIL(AT_USAGE,
             "%s was made with %s %s; a run that goes on keeps its configuration (start a new one "
             "in "
             "another output_dir to change it)",
             c->path, name, before ? before : "another value");
    }
    name = first_change(at_json_find(had, "inputs"), at_json_find(has, "inputs"));
    if (!name)
        name = first_change(at_json_find(has, "inputs"), at_json_find(had, "inputs"));
    if (name)
        FAIL(AT_INTEGRITY,
             "%s was made with another %s, or without; a run can only go on with the same", c->path,
             name);
    if (first_change(at_json_find(had, "machine"), at_json_find(has, "machine")))
        at_warn("machine",
                "%s was made on another device or with other kernels: the run goes on, but not to "
                "the same bits",
                c->path);
done:
    cJSON_free(before);
    cJSON_Delete(has);
    return st;
}

/* Logs are cut to where the checkpoint was, so it must be one of this folder's run. */
static AT_CHECKED check_place(struct at_checkpoint *c, const char *output_dir)
{
    enum at_status st = AT_OK;
    char *path = NULL, *parent = NULL, *dir = NULL;

    TRY(at_path_real(&c->arena, &path, c->path));
    TRY(at_path_dir(&c->arena, &parent, path));
    TRY(at_path_real(&c->arena, &dir, output_dir));
    if (strcmp(parent, dir) != 0)
        FAIL(AT_USAGE,
             "resume_from_checkpoint: %s is not in output_dir %s; to start a new run from its "
             "adapter use adapter_name_or_path",
             c->path, output_dir);
done:
    return st;
}

static AT_CHECKED read_checkpoint(struct at_checkpoint *c)
{
    enum at_status st = AT_OK;

    TRY(load_json(c, &c->manifest, "manifest.json"));
    TRY(check_files(c));
    TRY(load_json(c, &c->state, "trainer_state.json"));
    TRY(fields_read(&c->logs, c->state, "logs", log_fields, AT_COUNT(log_fields)));
done:
    return st;
}

AT_CHECKED at_checkpoint_newest(struct at_checkpoint **out, const struct at_run *run, uint64_t most)
{
    enum at_status st = AT_OK;
    struct at_checkpoint *c = NULL;

    *out = NULL;
    TRY(at_alloc(&c, 1, sizeof *c));
    TRY(newest(&c->arena, &c->path, run->config->output_dir, most));
    if (!c->path)
        goto done;
    TRY(read_checkpoint(c));
    *out = c;
    c = NULL;
done:
    at_checkpoint_close(&c);
    return st;
}

AT_CHECKED at_checkpoint_find(struct at_checkpoint **out, const struct at_run *run)
{
    enum at_status st = AT_OK;
    const struct at_config *config = run->config;
    const char *from = config->resume_from_checkpoint;
    struct at_checkpoint *c = NULL;
    char *copy = NULL;

    *out = NULL;
    if (!from || !config->output_dir)
        goto done;
    TRY(at_alloc(&c, 1, sizeof *c));
    TRY(at_arena_strdup(&c->arena, &copy, from));
    c->path = copy;
    if (strcmp(from, "true") == 0)
        TRY(newest(&c->arena, &c->path, config->output_dir, UINT64_MAX));
    if (!c->path)
        goto done;
    if (!at_path_is_dir(c->path))
        FAIL(AT_NOT_FOUND, "resume_from_checkpoint: there is no folder %s", c->path);
    TRY(check_place(c, config->output_dir));
    TRY(read_checkpoint(c));
    TRY(check_identity(c, run));
    *out = c;
    c = NULL;
done:
    at_checkpoint_close(&c);
    return st;
}

void at_checkpoint_close(struct at_checkpoint **checkpoint)
{
    struct at_checkpoint *c = *checkpoint;

    if (!c)
        return;
    at_json_free(&c->manifest);
    at_json_free(&c->state);
    at_arena_release(&c->arena);
    at_free(checkpoint);
}

const char *at_checkpoint_path(const struct at_checkpoint *checkpoint)
{
    return checkpoint->path;
}

struct at_log_bytes at_checkpoint_logs(const struct at_checkpoint *checkpoint)
{
    return checkpoint->logs;
}

AT_CHECKED at_checkpoint_clear(const struct at_run *run, const struct at_checkpoint *c)
{
    enum at_status st = AT_OK;
    const char *dir = run->config->output_dir;
    struct at_arena arena = { 0 };
    const cJSON *step = c ? at_json_find(c->manifest, "step") : NULL;
    uint64_t *steps = NULL;
    char **names = NULL, *path = NULL;
    size_t n = 0;

    TRY(list_steps(&arena, &steps, &n, dir));
    for (size_t i = 0; c && i < n; i++)
        if ((double)steps[i] > (cJSON_IsNumber(step) ? step->valuedouble : 0))
            TRY(remove_checkpoint(&arena, dir, steps[i]));
    TRY(at_dir_list(&arena, &names, &n, dir));
    for (size_t i = 0; i < n; i++) {
        const char *end = strrchr(names[i], '.');
        if (strncmp(names[i], prefix, sizeof prefix - 1) != 0 || !end ||
            strcmp(end, ".partial") != 0)
            continue;
        TRY(at_path_join(&arena, &path, dir, names[i]));
        TRY(at_dir_remove(path));
    }
done:
    at_arena_release(&arena);
    return st;
}

AT_CHECKED at_checkpoint_restore(struct at_loop *l, struct at_outcome *outcome,
                                 const struct at_checkpoint *c)
{
    enum at_status st = AT_OK;
    struct at_engine *e = &l->run->engine;
    struct at_arena arena = { 0 };
    char *path = NULL;

    TRY(fields_read(&l->state, c->state, "state", state_fields, AT_COUNT(state_fields)));
    TRY(fields_read(outcome, c->state, "outcome", outcome_fields, AT_COUNT(outcome_fields)));
    l->passed = *outcome;
    TRY(fields_read(&l->passed, c->state, "passed", outcome_fields, AT_COUNT(outcome_fields)));
    TRY(fields_read(e, c->state, "engine", engine_fields, AT_COUNT(engine_fields)));
    TRY(at_path_join(&arena, &path, c->path, "optimizer.bin"));
    TRY(at_checkpoint_arrays_read(&arena, l, path));
    l->start_s = at_now_s() - l->state.elapsed_s;
    l->saved = l->state.step;
done:
    at_arena_release(&arena);
    return st;
}
