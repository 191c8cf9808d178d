/* `attune run`: every stage's configuration, files, folder, rows and memory are checked before the
 * first stage is trained. */
#include "run.h"

#include "record.h"
#include "rollout.h"
#include "sources.h"
#include "trained.h"

#include <string.h>

/* ---- reading ---- */

static AT_CHECKED stage_method(enum at_method *out, const cJSON *stage, const char *path, size_t i)
{
    const cJSON *method = at_json_find(stage, "method");

    if (!cJSON_IsString(method) || !at_method_find(out, method->valuestring))
        return at_fail(
            AT_USAGE,
            "%s: stage %zu: method is missing: one of %s, or baseline, compare, eval, lint, "
            "plan, report or split",
            path, i + 1, at_key_range(AT_KEY_method));
    return AT_OK;
}

/* Shared keys that the stage's method does not read are for the other stages. */
static bool is_read_by(const char *name, enum at_method method)
{
    enum at_key key = AT_KEY_seed;
    const char *text = NULL;

    return at_key_classify(name, &key, &text) != AT_CLASS_ACTIVE || at_key_read_by(key, method);
}

/* The stage's keys over the shared ones; "name" is not a key of the table. */
static AT_CHECKED stage_document(cJSON **out, const struct pipeline *p, const cJSON *stage,
                                 enum at_method method)
{
    cJSON *merged = cJSON_CreateObject();

    for (const cJSON *k = p->document->child; k; k = k->next)
        if (strcmp(k->string, "stages") != 0 && strcmp(k->string, "output_dir") != 0 &&
            !at_json_find(stage, k->string) && is_read_by(k->string, method))
            cJSON_AddItemToObject(merged, k->string, cJSON_Duplicate(k, true));
    for (const cJSON *k = stage->child; k; k = k->next)
        if (strcmp(k->string, "name") != 0)
            cJSON_AddItemToObject(merged, k->string, cJSON_Duplicate(k, true));
    *out = merged;
    return at_json_find(stage, "output_dir")
               ? at_fail(AT_USAGE,
                         "%s: output_dir belongs to the pipeline; a stage writes to "
                         "output_dir/name",
                         p->path)
               : AT_OK;
}

static void add_flag(struct stage *s, const char *key, const char *value)
{
    s->flags[s->n_flags++] = (struct at_flag){ key, value };
}

static bool has_flag(const struct stage *s, const char *key)
{
    for (size_t i = 0; i < s->n_flags; i++)
        if (strcmp(s->flags[i].key, key) == 0)
            return true;
    return false;
}

/* Where the stage starts, unless it says so itself: at what the stage before writes. */
static void start_from(struct stage *s, const struct stage *before, bool has_model, bool has_start)
{
    if (!before->config.use_peft) {
        add_flag(s, "model_name_or_path", before->config.output_dir);
        return;
    }
    if (!has_model && before->config.model_name_or_path)
        add_flag(s, "model_name_or_path", before->config.model_name_or_path);
    add_flag(s, "adapter_name_or_path", before->config.output_dir);
    if (!has_start)
        add_flag(s, "adapter_start", "stack");
}

static bool gives_rewards(enum at_method method)
{
    return at_method_get(method)->value_head;
}

static AT_CHECKED read_stage(struct pipeline *p, const struct cli_args *args, size_t i)
{
    enum at_status st = AT_OK;
    const cJSON *stage = cJSON_GetArrayItem(at_json_find(p->document, "stages"), (int)i);
    struct stage *s = &p->stages[i];
    const struct stage *before = NULL; /* that trains */
    enum at_method method = AT_SFT;
    cJSON *document = NULL;
    char *output = NULL;

    if (!cJSON_IsObject(stage))
        FAIL(AT_USAGE, "%s: stage %zu: an object of keys is expected", p->path, i + 1);
    TRY(at_json_need_string(&s->name, stage, "name", p->path));
    if (!*s->name || strchr(s->name, '/') || s->name[0] == '.')
        FAIL(AT_USAGE, "%s: stage %zu: its name names its folder and may not be \"%s\"", p->path,
             i + 1, s->name);
    for (size_t k = 0; k < i; k++)
        if (strcmp(p->stages[k].name, s->name) == 0)
            FAIL(AT_USAGE, "%s: two stages are called %s", p->path, s->name);
    if (run_prepare_find(&s->prepares, stage)) {
        p->n_read++;
        TRY(run_prepare_read(p, args, i));
        goto done;
    }
    s->judges = run_judges(stage);
    s->before = run_judges_before(stage);
    if (s->judges) {
        if (!s->before)
            TRY(run_judge_read(p, args, i));
        p->n_read++;
        goto done;
    }
    s->trains = true;
    TRY(stage_method(&method, stage, p->path, i));
    TRY(stage_document(&document, p, stage, method));
    TRY(at_arena_alloc(&p->arena, &s->flags,
                       args->n_keys + (size_t)cJSON_GetArraySize(document) + 4, sizeof *s->flags));
    TRY(run_names_take(p, i, document));
    for (size_t k = 0; k < args->n_keys; k++)
        if (strcmp(args->keys[k].key, "output_dir") != 0 && is_read_by(args->keys[k].key, method))
            add_flag(s, args->keys[k].key, args->keys[k].value);
    for (size_t k = 0; k < i; k++)
        before = p->stages[k].trains ? &p->stages[k] : before;
    if (before && !at_json_find(stage, "model_name_or_path") &&
        !at_json_find(stage, "adapter_name_or_path")) {
        if (gives_rewards(before->config.run_method) && !gives_rewards(method))
            FAIL(AT_USAGE,
                 "it cannot start from the reward model of stage %s; name its "
                 "model_name_or_path or adapter_name_or_path",
                 before->name);
        start_from(s, before, at_json_find(document, "model_name_or_path"),
                   at_json_find(document, "adapter_start") || has_flag(s, "adapter_start"));
    }
    TRY(at_path_join(&p->arena, &output, p->output_dir, s->name));
    add_flag(s, "output_dir", output);
    TRY(at_config_read(&s->config, document, p->path, s->flags, s->n_flags, &method));
    p->n_read++;
done:
    if (st != AT_OK && s->name)
        at_context("stage %s", s->name);
    cJSON_Delete(document);
    return st;
}

static AT_CHECKED find_output(struct pipeline *p, const struct cli_args *args)
{
    enum at_status st = AT_OK;
    const char *name = NULL;
    char *dir = NULL, *joined = NULL;

    for (size_t k = 0; k < args->n_keys; k++)
        if (strcmp(args->keys[k].key, "output_dir") == 0)
            p->output_dir = args->keys[k].value;
    if (p->output_dir)
        goto done;
    TRY(at_json_get_string(&name, p->document, "output_dir", p->path));
    if (!name)
        FAIL(AT_USAGE, "output_dir is missing: the folder that holds the stages' folders");
    TRY(at_path_dir(&p->arena, &dir, p->path));
    TRY(at_path_join(&p->arena, &joined, strcmp(dir, ".") == 0 ? "" : dir, name));
    p->output_dir = joined;
done:
    return st;
}

static AT_CHECKED read_pipeline(struct pipeline *p, const struct cli_args *args)
{
    enum at_status st = AT_OK;
    const cJSON *stages = NULL;

    if (args->n_positional == 0)
        FAIL(AT_USAGE, "a pipeline file is missing; usage: attune run %s", args->command->usage);
    p->path = args->positional[0];
    TRY(at_json_load(&p->document, p->path));
    stages = at_json_find(p->document, "stages");
    if (!cJSON_IsArray(stages) || cJSON_GetArraySize(stages) == 0)
        FAIL(AT_USAGE, "%s: \"stages\" is missing: a list of objects with name and method",
             p->path);
    TRY(find_output(p, args));
    p->n = (size_t)cJSON_GetArraySize(stages);
    TRY(at_arena_alloc(&p->arena, &p->stages, p->n, sizeof *p->stages));
    for (size_t i = 0; i < p->n; i++)
        TRY(read_stage(p, args, i));
    for (size_t i = 0; i < p->n; i++)
        if (p->stages[i].before)
            TRY(run_judge_read(p, args, i));
done:
    return st;
}

/* ---- what a stage depends on ---- */

static bool is_trained_now(const struct pipeline *p, const struct stage *s, const char *path)
{
    for (const struct stage *k = p->stages; path && k < s; k++)
        if (!k->finished && k->trains && strcmp(k->config.output_dir, path) == 0)
            return true;
    return false;
}

/* Whether the stage starts from what this call has yet to make. */
static AT_CHECKED waits(bool *out, struct pipeline *p, const struct stage *s)
{
    enum at_status st = AT_OK;
    const char *sources[CLI_SOURCES];
    const struct at_strings *rows[] = { &s->config.train_dataset, &s->config.eval_dataset,
                                        &s->config.regression_dataset };

    *out = false;
    for (size_t k = 0; k < AT_COUNT(rows); k++)
        for (size_t i = 0; i < rows[k]->n; i++)
            *out = *out || run_split_of(p, s, rows[k]->items[i]);
    TRY(cli_sources_of(sources, &p->arena, &s->config));
    for (size_t i = 0; i < CLI_SOURCES; i++)
        *out = *out || is_trained_now(p, s, sources[i]);
done:
    return st;
}

/* ---- before the first stage ---- */

static AT_CHECKED check_paths(const struct pipeline *p, const struct stage *s,
                              const struct at_strings *paths, const char *key)
{
    for (size_t i = 0; i < paths->n; i++)
        if (!run_split_of(p, s, paths->items[i]) && !at_path_exists(paths->items[i]))
            return at_fail(AT_NOT_FOUND, "%s: no such file (%s)", paths->items[i], key);
    return AT_OK;
}

/* What would end the stage although it can be known before any stage is trained. */
static AT_CHECKED check_inputs(const struct pipeline *p, const struct stage *s)
{
    enum at_status st = AT_OK;
    const struct at_config *c = &s->config;
    const char *sources[CLI_SOURCES];
    const struct at_strings rollouts = { .items = &c->rollouts, .n = c->rollouts != NULL };
    struct at_arena arena = { 0 };
    struct at_found_model found;

    TRY(at_config_check_adapters(c));
    if (c->cross_validation > 0)
        FAIL(AT_USAGE,
             "cross_validation leaves several adapters and none to go on from; give it "
             "to `attune %s` by itself",
             at_method_get(c->run_method)->name);
    if (!c->model_name_or_path)
        FAIL(AT_USAGE, "model_name_or_path is missing: a Hugging Face folder or a GGUF file");
    TRY(at_rollout_check(c));
    if (c->train_dataset.n == 0 && !c->rollouts)
        FAIL(AT_USAGE, "train_dataset is missing: a JSONL file or a list of them");
    TRY(check_paths(p, s, &c->train_dataset, "train_dataset"));
    TRY(check_paths(p, s, &rollouts, "rollouts"));
    TRY(check_paths(p, s, &c->eval_dataset, "eval_dataset"));
    TRY(check_paths(p, s, &c->regression_dataset, "regression_dataset"));
    TRY(cli_sources_of(sources, &arena, c));
    for (size_t i = 0; i < CLI_SOURCES; i++) {
        if (!sources[i] || is_trained_now(p, s, sources[i]))
            continue;
        TRY(at_model_find(&found, &arena, sources[i]));
        if (!at_path_exists(found.path))
            FAIL(AT_NOT_FOUND, "%s: no such file or folder", sources[i]);
    }
done:
    at_arena_release(&arena);
    return st;
}

static AT_CHECKED check_stage(struct pipeline *p, struct stage *s)
{
    enum at_status st = AT_OK;
    bool changed = false;
    char *what = NULL;

    if (!s->trains) {
        TRY(s->judges ? run_judge_check(p, s) : run_prepare_check(p, s));
        goto done;
    }
    TRY(check_inputs(p, s));
    TRY(at_arena_printf(&p->arena, &what, "stage %s", s->name));
    TRY(waits(&changed, p, s));
    TRY(cli_trained_find(&s->finished, &p->arena, &s->config, what, changed));
done:
    if (st != AT_OK)
        at_context("stage %s", s->name);
    return st;
}

static bool is_trained_before(const struct pipeline *p, const struct stage *s, const char *path)
{
    for (const struct stage *k = p->stages; path && k < s; k++)
        if (k->trains && strcmp(k->config.output_dir, path) == 0)
            return true;
    return false;
}

static bool is_output(const struct stage *s, const char *path)
{
    return path && s->trains && strcmp(s->config.output_dir, path) == 0;
}

/* Adapters by none, models and tokenizers by theirs, reward models by rules, sides of a split by
 * what is divided. */
AT_CHECKED run_stand_in(struct at_config *out, struct pipeline *p, const struct stage *s, bool all)
{
    enum at_status st = AT_OK;
    struct at_config c = s->config;

    TRY(run_split_stand_in(&c, p, s));
    if (c.reward_funcs)
        TRY(run_names_stand_in(&c.reward_funcs, p, s, all ? is_trained_before : is_trained_now));
    for (const struct stage *k = s; k-- > p->stages;) {
        const struct at_config *from = &k->config;
        if ((k->finished && !all) || !k->trains)
            continue;
        if (is_output(k, c.adapter_name_or_path)) {
            c.adapter_name_or_path = NULL;
            c.adapter_start = "continue";
        }
        if (is_output(k, c.tokenizer))
            c.tokenizer = from->tokenizer ? from->tokenizer : from->model_name_or_path;
        if (is_output(k, c.ref_model_name_or_path))
            c.ref_model_name_or_path = from->model_name_or_path;
        if (!is_output(k, c.model_name_or_path))
            continue;
        c.model_name_or_path = from->model_name_or_path;
        c.init_from_scratch = c.init_from_scratch || from->init_from_scratch;
        if (!c.tokenizer)
            c.tokenizer = from->tokenizer;
        if (!c.chat_template_path)
            c.chat_template_path = from->chat_template_path;
    }
    *out = c;
done:
    return st;
}

/* Reads the stage's rows and plans its memory, as it will itself. Of a model that an earlier stage
 * makes from nothing there are no weights to plan with. */
static AT_CHECKED check_rows(struct pipeline *p, const struct stage *s)
{
    enum at_status st = AT_OK;
    struct at_config c = { .file = NULL };
    struct at_run run = { .config = NULL };

    if (s->finished || !s->trains)
        goto done;
    TRY(run_stand_in(&c, p, s, false));
    if (c.init_from_scratch && !s->config.init_from_scratch) {
        TRY(at_run_open_rows(&run, &c, NULL));
        goto done;
    }
    TRY(at_run_open(&run, &c, NULL));
    TRY(at_engine_check_room(&run.engine));
done:
    if (st != AT_OK)
        at_context("stage %s", s->name);
    at_run_close(&run);
    return st;
}

/* ---- the command ---- */

/* What the stage names as the next command, which its stage.json keeps for later calls. Its paths
 * are true as long as the folders are named alike. */
static AT_CHECKED take_next(struct pipeline *p, const struct stage *s, bool finished)
{
    enum at_status st = AT_OK;
    const char *line = cli_next_held(), *output_dir = NULL;
    char *path = NULL, *copy = NULL;
    cJSON *record = NULL;

    TRY(at_path_join(&p->arena, &path, s->trains ? s->config.output_dir : s->output_dir,
                     "stage.json"));
    if (!at_path_exists(path)) /* of a report, which is made again */
        goto keep;
    TRY(at_json_load(&record, path));
    if (finished) {
        TRY(at_json_get_string(&line, record, "next", path));
        TRY(at_json_get_string(&output_dir, record, "output_dir", path));
        line = output_dir && strcmp(output_dir, p->output_dir) == 0 ? line : NULL;
    } else if (line) {
        cJSON_AddStringToObject(record, "output_dir", p->output_dir);
        cJSON_AddStringToObject(record, "next", line);
        TRY(at_json_save(path, record));
    }
keep:
    if (line) {
        TRY(at_arena_strdup(&p->arena, &copy, line));
        p->next = copy;
    }
done:
    at_json_free(&record);
    return st;
}

static AT_CHECKED run_stage(struct pipeline *p, size_t i, bool dry_run)
{
    enum at_status st = AT_OK;
    struct stage *s = &p->stages[i];
    const bool finished = s->finished;
    struct at_digest inputs;
    struct at_outcome outcome;

    cli_note("stage    %zu of %zu: %s (%s) -> %s%s", i + 1, p->n, s->name,
             s->prepares == RUN_PLAN ? "plan"
             : s->trains             ? at_method_get(s->config.run_method)->name
                                     : s->judge.command->name,
             s->trains ? s->config.output_dir : s->output_dir,
             s->finished ? ": finished earlier, skipped" : "");
    if (s->finished && s->said && s->before)
        cli_note("baseline   %s", s->said);
    if (dry_run)
        goto done;
    cli_next_hold();
    if (!finished && s->trains) {
        TRY(cli_trained_digest(&inputs, &p->arena, &s->config, CLI_TRAINED_VERSION));
        TRY(cli_train(&s->config, &outcome));
        TRY(cli_trained_mark(&p->arena, &s->config, s->name, &inputs, NULL));
    } else if (!finished) {
        TRY(s->judges ? run_judge(p, s) : run_prepare(p, s));
    }
    TRY(take_next(p, s, finished));
done:
    return st;
}

static bool looks_at_files(const struct stage *s)
{
    return s->prepares == RUN_LINT || s->prepares == RUN_SPLIT;
}

enum at_status cli_run(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct pipeline p = { .n = 0 };
    const bool dry_run = cli_flag_on(args, "dry_run");
    struct at_buf line = { 0 };
    size_t first = 0;

    cli_next_hold();
    TRY(read_pipeline(&p, args));
    for (size_t i = 0; i < p.n; i++)
        TRY(check_stage(&p, &p.stages[i]));
    /* What only looks at files comes before the rows of the others are read. */
    for (; !dry_run && first < p.n && looks_at_files(&p.stages[first]); first++)
        TRY(run_stage(&p, first, dry_run));
    at_warn_mute(!dry_run); /* stages that are trained warn then */
    for (size_t i = 0; i < p.n; i++)
        TRY(check_rows(&p, &p.stages[i]));
    at_warn_mute(false);
    for (size_t i = first; i < p.n; i++)
        TRY(run_stage(&p, i, dry_run));
    for (size_t i = 0; i < p.n && !dry_run; i++)
        if (p.stages[i].verdict != AT_OK)
            FAIL(p.stages[i].verdict, "stage %s: %s", p.stages[i].name, p.stages[i].said);
    if (dry_run) {
        at_buf_puts(&line, "next     attune run ");
        cli_path_put(&line, p.path);
        cli_keys_text(&line, args, NULL, 0);
        TRY(at_buf_status(&line));
        cli_next_line(line.data);
    } else if (p.next) {
        cli_next_line(p.next);
    }
done:
    at_buf_release(&line);
    cli_next_tell(st == AT_OK);
    at_warn_mute(false);
    for (size_t i = 0; i < p.n_read; i++) {
        at_config_release(&p.stages[i].config);
        cli_args_release(&p.stages[i].judge);
    }
    at_json_free(&p.document);
    at_arena_release(&p.arena);
    return st;
}
