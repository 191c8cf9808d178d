#include "run.h"

#include "config_paths.h"
#include "divide.h"
#include "hash.h"
#include "record.h"
#include "run_words.h"
#include "sources.h"
#include "stores.h"
#include "trained.h"

#include <string.h>

static const char *method_of(const cJSON *stage)
{
    const char *method = cJSON_GetStringValue(at_json_find(stage, "method"));

    return method ? method : "";
}

bool run_judges(const cJSON *stage)
{
    static const char *const methods[] = { "baseline", "compare", "eval", "report" };
    bool found = false;

    for (size_t i = 0; i < AT_COUNT(methods); i++)
        found = found || strcmp(method_of(stage), methods[i]) == 0;
    return found;
}

bool run_judges_before(const cJSON *stage)
{
    return strcmp(method_of(stage), "baseline") == 0;
}

/* ---- reading ---- */

/* What a flag names: nothing of the disk, a file that need not be there (it may be written), or a
 * file or model that is read. */
enum named { NAMES_NONE, NAMES_PATH, NAMES_SOURCE };

static enum named names_what(const char *flag)
{
    static const struct {
        const char *flag;
        enum named what;
    } names[] = { { "adapter", NAMES_SOURCE },      { "against", NAMES_SOURCE },
                  { "eval", NAMES_SOURCE },         { "few_shot", NAMES_SOURCE },
                  { "judge_model", NAMES_SOURCE },  { "log", NAMES_PATH },
                  { "output", NAMES_PATH },         { "replies", NAMES_PATH },
                  { "reward_model", NAMES_SOURCE }, { "rows", NAMES_SOURCE },
                  { "rules", NAMES_SOURCE },        { "tokens", NAMES_SOURCE } };

    for (size_t i = 0; i < AT_COUNT(names); i++)
        if (strcmp(names[i].flag, flag) == 0)
            return names[i].what;
    return NAMES_NONE;
}

/* A key of the stage as its command's flag; paths are taken from the pipeline's folder. */
static AT_CHECKED add_key(struct run_words *w, const cJSON *key)
{
    enum at_status st = AT_OK;
    struct pipeline *p = w->pipeline;
    char *dir = NULL, *path = NULL;
    const char *folder = NULL;

    if (strcmp(key->string, "eval_dataset") == 0)
        FAIL(AT_USAGE, "eval_dataset: a stage that judges has its file of pairs as rows");
    if (cJSON_IsNumber(key)) {
        TRY(at_arena_printf(&p->arena, &path, "%.15g", key->valuedouble));
        TRY(run_words_flag(w, key->string, path));
    } else if (!cJSON_IsString(key)) {
        FAIL(AT_USAGE, "%s: a text or a number is expected", key->string);
    } else if (run_names_stage(key->valuestring)) {
        TRY(run_names_folder(&folder, p, w->stage, key->string, key->valuestring));
        TRY(strcmp(key->string, "rows") == 0 ? run_words_add(w, folder)
                                             : run_words_flag(w, key->string, folder));
    } else if (names_what(key->string) != NAMES_NONE && !at_model_is_named(key->valuestring)) {
        TRY(at_path_dir(&p->arena, &dir, p->path));
        TRY(at_path_join(&p->arena, &path, strcmp(dir, ".") == 0 ? "" : dir, key->valuestring));
        TRY(strcmp(key->string, "rows") == 0 ? run_words_add(w, path)
                                             : run_words_flag(w, key->string, path));
    } else {
        TRY(run_words_flag(w, key->string, key->valuestring));
    }
done:
    return st;
}

static bool reads_replies(const cJSON *stage)
{
    const char *judge = cJSON_GetStringValue(at_json_find(stage, "judge"));

    return judge && strcmp(judge, "logp") != 0 && strcmp(judge, "rules") != 0;
}

/* How the model is loaded and rows are read. */
static AT_CHECKED pass_model(struct run_words *w, const struct at_config *c)
{
    static const enum at_key keys[] = { AT_KEY_bnb_4bit_quant_type,
                                        AT_KEY_bnb_4bit_use_double_quant,
                                        AT_KEY_chat_template_path,
                                        AT_KEY_device,
                                        AT_KEY_device_memory_limit,
                                        AT_KEY_eos_token,
                                        AT_KEY_kernels,
                                        AT_KEY_load_in_4bit,
                                        AT_KEY_load_in_8bit,
                                        AT_KEY_seed,
                                        AT_KEY_tokenizer };
    enum at_status st = AT_OK;

    if (c->model_name_or_path) /* else the check of that stage says so */
        TRY(run_words_flag(w, "model_name_or_path", c->model_name_or_path));
    for (size_t i = 0; i < AT_COUNT(keys); i++)
        TRY(run_words_key(w, c, keys[i]));
done:
    return st;
}

static const struct stage *first_trained(const struct pipeline *p)
{
    const struct stage *s = p->stages;

    while (!s->trains)
        s++;
    return s;
}

/* The pairs of a stage that trains later, and its system prompt and first training rows as what the
 * model alone may be given. */
static AT_CHECKED baseline_words(struct run_words *w, struct stage *s, const cJSON *stage)
{
    enum at_status st = AT_OK;
    struct pipeline *p = w->pipeline;
    const struct at_config *c = &s->of->config;
    const char *train = c->train_dataset.items[0];
    char *result = NULL;

    if (!at_json_find(stage, "target"))
        FAIL(AT_USAGE, "target is missing: the share of held-out pairs whose chosen reply should "
                       "be likelier, such as 0.9");
    if (c->eval_dataset.n == 0) {
        TRY(at_path_join(&p->arena, &s->split[0], s->output_dir, AT_SPLIT_TRAIN));
        TRY(at_path_join(&p->arena, &s->split[1], s->output_dir, AT_SPLIT_EVAL));
        train = s->split[0];
    }
    TRY(at_path_join(&p->arena, &result, s->output_dir, "eval.json"));
    TRY(run_words_add(w, "eval"));
    TRY(run_words_add(w, s->split[1] ? s->split[1] : c->eval_dataset.items[0]));
    TRY(pass_model(w, &first_trained(p)->config));
    TRY(run_words_flag(w, "max_length", "0")); /* examples make rows longer */
    TRY(run_words_flag(w, "output", result));
    if (!at_json_find(stage, "baseline_prompt") && c->system_prompt)
        TRY(run_words_flag(w, "baseline_prompt", c->system_prompt));
    if (!at_json_find(stage, "few_shot"))
        TRY(run_words_flag(w, "few_shot", train));
    if (!at_json_find(stage, "n_replies"))
        TRY(run_words_flag(w, "n_replies", "0"));
done:
    return st;
}

/* Of the stage that trained last; eval's result is where its report looks for it. */
static AT_CHECKED words_of_trained(struct run_words *w, const struct stage *s, const cJSON *stage)
{
    enum at_status st = AT_OK;
    const struct at_config *c = &s->of->config;
    char *path = NULL;

    TRY(run_words_add(w, method_of(stage)));
    if (strcmp(method_of(stage), "report") == 0)
        TRY(run_words_add(w, c->output_dir));
    else
        TRY(run_words_flag(w, "adapter", c->output_dir));
    if (strcmp(method_of(stage), "eval") == 0) {
        if (c->eval_dataset.n == 1)
            TRY(run_words_flag(w, "eval_dataset", c->eval_dataset.items[0]));
        TRY(pass_model(w, c));
        TRY(run_words_key(w, c, AT_KEY_max_length));
        TRY(run_words_key(w, c, AT_KEY_system_prompt));
        TRY(at_path_join(&w->pipeline->arena, &path, c->output_dir, "eval.json"));
        TRY(run_words_flag(w, "output", path));
    }
    if (strcmp(method_of(stage), "compare") == 0 && reads_replies(stage) &&
        !at_json_find(stage, "replies")) {
        TRY(at_path_join(&w->pipeline->arena, &path, s->output_dir, "compare.jsonl"));
        TRY(run_words_flag(w, "replies", path));
    }
done:
    return st;
}

static AT_CHECKED list_words(struct run_words *w, struct stage *s, const cJSON *stage,
                             const struct cli_args *args)
{
    enum at_status st = AT_OK;

    TRY(run_words_add(w, "attune"));
    TRY(s->before ? baseline_words(w, s, stage) : words_of_trained(w, s, stage));
    for (const cJSON *k = stage->child; k; k = k->next)
        if (strcmp(k->string, "name") != 0 && strcmp(k->string, "method") != 0)
            TRY(add_key(w, k));
    for (size_t i = 0; strcmp(method_of(stage), "compare") == 0 && i < args->n_keys; i++)
        if (strcmp(args->keys[i].key, "device") == 0)
            TRY(run_words_flag(w, "device", args->keys[i].value));
done:
    return st;
}

/* One file of held-out pairs, or a part of the training rows. */
static bool has_pairs_to_judge(const struct at_config *c)
{
    return c->eval_dataset.n == 1 || (c->eval_dataset.n == 0 && c->eval_split > 0);
}

/* The stage that trained last, or with `before` the next that trains on pairs. */
static AT_CHECKED find_judged(struct pipeline *p, size_t i, const cJSON *stage)
{
    struct stage *s = &p->stages[i];

    for (size_t k = 0; !s->before && k < i; k++)
        if (p->stages[k].trains)
            s->of = &p->stages[k];
    for (size_t k = p->n; s->before && k-- > i + 1;)
        if (p->stages[k].trains &&
            at_method_get(p->stages[k].config.run_method)->rows == AT_ROWS_PAIR &&
            !at_method_get(p->stages[k].config.run_method)->draws)
            s->of = &p->stages[k];
    if (s->before && (!s->of || !has_pairs_to_judge(&s->of->config)))
        return at_fail(AT_USAGE, "it judges the model by the pairs that a later stage holds out; "
                                 "there is none with one file as eval_dataset, or with eval_split");
    if (!s->before && (!s->of || !s->of->config.use_peft))
        return at_fail(AT_USAGE, "it judges the adapter of a stage before it; there is none");
    if (s->before && s->of->config.train_dataset.n == 0)
        return at_fail(AT_USAGE,
                       "train_dataset of stage %s is missing: a JSONL file or a list of them",
                       s->of->name);
    if (strcmp(method_of(stage), "eval") == 0 && !at_json_find(stage, "rows") &&
        !has_pairs_to_judge(&s->of->config))
        return at_fail(AT_USAGE,
                       "stage %s has no single file of held-out pairs: name one here as rows",
                       s->of->name);
    return AT_OK;
}

AT_CHECKED run_judge_read(struct pipeline *p, const struct cli_args *args, size_t i)
{
    enum at_status st = AT_OK;
    const cJSON *stage = cJSON_GetArrayItem(at_json_find(p->document, "stages"), (int)i);
    struct stage *s = &p->stages[i];
    struct run_words words = { .pipeline = p, .stage = i };
    char *output = NULL;

    TRY(find_judged(p, i, stage));
    TRY(at_path_join(&p->arena, &output, p->output_dir, s->name));
    s->output_dir = output;
    TRY(list_words(&words, s, stage, args));
    TRY(run_words_read(&s->judge, &words));
done:
    if (st != AT_OK && s->before)
        at_context("stage %s", s->name);
    return st;
}

/* ---- what it depends on ---- */

/* It has a verdict, and a folder of its own. */
static bool decides(const struct stage *s)
{
    return strcmp(s->judge.command->name, "report") != 0;
}

/* Files that the stage itself makes. */
static bool is_split(const struct stage *s, const char *path)
{
    return s->split[0] && (strcmp(path, s->split[0]) == 0 || strcmp(path, s->split[1]) == 0);
}

static bool by_people(const struct stage *s)
{
    const char *judge = cli_flag_text(&s->judge, "judge");

    return judge && strcmp(judge, "people") == 0;
}

/* A key of a configuration as its command has it. What lies at a path counts by its bytes; where
 * runs are written does not. */
static AT_CHECKED put_key(struct at_hash *hash, struct at_arena *arena, const struct at_flag *f)
{
    enum at_status st = AT_OK;
    enum at_key key = AT_KEY_seed;
    const char *text = NULL;

    at_hash_put_text(hash, f->key);
    if (at_key_classify(f->key, &key, &text) != AT_CLASS_ACTIVE ||
        !at_config_is_path(key, f->value))
        at_hash_put_text(hash, f->value);
    else if (key != AT_KEY_output_dir && key != AT_KEY_resume_from_checkpoint)
        TRY(cli_put_source(hash, arena, f->value));
done:
    if (st != AT_OK)
        at_context("%s", f->key);
    return st;
}

/* `version`: of the stage.json that it is compared with, or CLI_TRAINED_VERSION. */
static AT_CHECKED digest_of(struct pipeline *p, const struct stage *s, struct at_digest *out,
                            uint32_t version)
{
    enum at_status st = AT_OK;
    const char *model = s->before ? first_trained(p)->config.model_name_or_path : NULL;
    struct at_hash hash;

    at_hash_init(&hash);
    if (s->before && model)
        TRY(cli_put_source(&hash, &p->arena, model));
    else if (!s->before)
        TRY(cli_put_source(&hash, &p->arena, s->of->config.output_dir));
    if (s->split[0]) {
        char *rule = NULL;
        TRY(at_arena_printf(&p->arena, &rule, "%.17g %llu", s->of->config.eval_split,
                            (unsigned long long)at_run_data_seed(&s->of->config)));
        at_hash_put_text(&hash, rule);
    }
    for (size_t i = 0; s->split[0] && i < s->of->config.train_dataset.n; i++)
        TRY(cli_put_source(&hash, &p->arena, s->of->config.train_dataset.items[i]));
    for (size_t i = 0; i < s->of->config.eval_dataset.n; i++)
        TRY(cli_put_source(&hash, &p->arena, s->of->config.eval_dataset.items[i]));
    for (size_t i = 0; i < s->judge.n_positional; i++)
        if (!is_split(s, s->judge.positional[i]))
            TRY(cli_put_source(&hash, &p->arena, s->judge.positional[i]));
    for (size_t i = 0; i < s->judge.n_own; i++) {
        const struct at_flag *f = &s->judge.own[i];
        at_hash_put_text(&hash, f->key);
        if (is_split(s, f->value))
            continue;
        if (names_what(f->key) == NAMES_SOURCE)
            TRY(cli_put_source(&hash, &p->arena, f->value));
        else if (names_what(f->key) == NAMES_NONE)
            at_hash_put_text(&hash, f->value);
    }
    for (size_t i = 0; i < s->judge.n_keys; i++) {
        const struct at_flag *f = &s->judge.keys[i];
        if (version > CLI_TRAINED_BY_PATHS) {
            TRY(put_key(&hash, &p->arena, f));
            continue;
        }
        at_hash_put_text(&hash, f->key);
        at_hash_put_text(&hash, f->value);
    }
    *out = at_hash_end(&hash);
done:
    return st;
}

/* A stage before this one has it as its folder. */
static bool will_be_there(const struct pipeline *p, const struct stage *s, const char *path)
{
    for (const struct stage *k = p->stages; k < s; k++)
        if (k->trains && strcmp(k->config.output_dir, path) == 0)
            return true;
    return false;
}

static bool sources_are_there(const struct stage *s)
{
    for (size_t i = 0; i < s->judge.n_own; i++)
        if (names_what(s->judge.own[i].key) == NAMES_SOURCE &&
            !at_model_is_named(s->judge.own[i].value) && !at_path_exists(s->judge.own[i].value))
            return false;
    return true;
}

static AT_CHECKED check_sources(struct pipeline *p, const struct stage *s)
{
    enum at_status st = AT_OK;
    struct at_found_model found;

    for (size_t i = 0; i < s->judge.n_own; i++) {
        const struct at_flag *f = &s->judge.own[i];
        if (names_what(f->key) != NAMES_SOURCE || is_split(s, f->value) ||
            run_split_of(p, s, f->value) || will_be_there(p, s, f->value))
            continue;
        TRY(at_model_find(&found, &p->arena, f->value));
        if (!at_path_exists(found.path))
            FAIL(AT_NOT_FOUND, "%s: no such file or folder (%s)", f->value, f->key);
    }
    for (size_t i = 0; decides(s) && i < s->judge.n_positional; i++)
        if (!is_split(s, s->judge.positional[i]) && !run_split_of(p, s, s->judge.positional[i]) &&
            !at_path_exists(s->judge.positional[i]))
            FAIL(AT_NOT_FOUND, "%s: no such file (rows)", s->judge.positional[i]);
done:
    return st;
}

static AT_CHECKED record_path(struct pipeline *p, const struct stage *s, char **out)
{
    return at_path_join(&p->arena, out, s->output_dir, "stage.json");
}

/* A split that it reads is yet to be made. */
static bool waits_for_split(const struct pipeline *p, const struct stage *s)
{
    bool waits = false;

    for (size_t i = 0; i < s->judge.n_positional; i++)
        waits = waits || run_split_of(p, s, s->judge.positional[i]);
    for (size_t i = 0; i < s->judge.n_own; i++)
        waits = waits || run_split_of(p, s, s->judge.own[i].value);
    return waits;
}

AT_CHECKED run_judge_check(struct pipeline *p, struct stage *s)
{
    enum at_status st = AT_OK;
    cJSON *record = NULL;
    struct at_digest digest = { .hex = "" };
    const char *inputs = NULL, *said = NULL;
    char *path = NULL, *copy = NULL;
    uint32_t verdict = 0, version = CLI_TRAINED_BY_PATHS;

    TRY(check_sources(p, s));
    TRY(record_path(p, s, &path));
    if (!decides(s) || !at_path_exists(path))
        goto done;
    TRY(at_json_load(&record, path));
    TRY(at_json_need_string(&inputs, record, "inputs", path));
    TRY(at_json_get_u32(&version, record, "format_version", path));
    if (!waits_for_split(p, s) && (s->before || (s->of->finished && sources_are_there(s))))
        TRY(digest_of(p, s, &digest, version));
    if (strcmp(inputs, digest.hex) != 0)
        FAIL(AT_CANNOT_WRITE,
             "%s holds stage %s with other inputs (the adapter that it judged, its keys or files); "
             "nothing is overwritten: remove it to judge again",
             s->output_dir, s->name);
    TRY(at_json_get_string(&said, record, "said", path));
    if (!said)
        goto done; /* it was interrupted, and goes on with the replies that it has */
    TRY(at_json_need_u32(&verdict, record, "exit_code", path));
    s->verdict = verdict == 1 ? AT_OVER_BUDGET : verdict == 3 ? AT_NO_EVIDENCE : AT_OK;
    TRY(at_arena_strdup(&p->arena, &copy, said));
    s->said = copy;
    s->finished = true;
done:
    at_json_free(&record);
    return st;
}

/* ---- running ---- */

/* said NULL: it has begun. */
static AT_CHECKED record(struct pipeline *p, const struct stage *s, const struct at_digest *inputs,
                         const char *said)
{
    enum at_status st = AT_OK;
    cJSON *json = cJSON_CreateObject();
    char *path = NULL;

    cJSON_AddNumberToObject(json, "format_version", CLI_TRAINED_VERSION);
    cJSON_AddStringToObject(json, "stage", s->name);
    cJSON_AddStringToObject(json, "inputs", inputs->hex);
    if (said) {
        cJSON_AddNumberToObject(json, "exit_code", at_exit_code(s->verdict));
        cJSON_AddStringToObject(json, "said", said);
    }
    TRY(record_path(p, s, &path));
    TRY(at_json_save(path, json));
done:
    cJSON_Delete(json);
    return st;
}

static AT_CHECKED split_rows(const struct stage *s)
{
    const struct at_config *c = &s->of->config;
    const struct at_divide_params params = { .from = c->train_dataset.items,
                                             .n_from = c->train_dataset.n,
                                             .fraction = c->eval_split,
                                             .seed = at_run_data_seed(c),
                                             .train = s->split[0],
                                             .held = s->split[1] };
    struct at_divide_counts counts;

    return s->split[0] ? at_divide(&counts, &params) : AT_OK;
}

/* "base with the prompt meets the target without training", or that nothing does. */
static AT_CHECKED say_baseline(struct pipeline *p, const struct stage *s, char **said)
{
    enum at_status st = AT_OK;
    cJSON *result = NULL;
    const cJSON *state = NULL;
    const char *met = NULL;

    TRY(at_json_load(&result, cli_flag_text(&s->judge, "output")));
    cJSON_ArrayForEach(state, at_json_find(result, "states"))
    {
        if (!met && cJSON_IsTrue(at_json_find(state, "meets_target")))
            met = cJSON_GetStringValue(at_json_find(state, "name"));
    }
    if (met)
        TRY(at_arena_printf(&p->arena, said, "%s meets the target without training", met));
    else
        TRY(at_arena_strdup(&p->arena, said, "prompting alone does not meet the target"));
done:
    at_json_free(&result);
    return st;
}

AT_CHECKED run_judge(struct pipeline *p, struct stage *s)
{
    enum at_status st = AT_OK;
    struct at_digest inputs;
    char *said = NULL;

    if (!decides(s))
        return s->judge.command->run(&s->judge);
    TRY(at_dir_create(s->output_dir));
    TRY(digest_of(p, s, &inputs, CLI_TRAINED_VERSION));
    TRY(split_rows(s));
    TRY(record(p, s, &inputs, NULL));
    st = s->judge.command->run(&s->judge);
    if (st != AT_OK && st != AT_OVER_BUDGET && st != AT_NO_EVIDENCE)
        goto done;
    s->verdict = s->before ? AT_OK : st; /* a baseline is no verdict on a training */
    if (s->before)
        TRY(say_baseline(p, s, &said));
    else
        TRY(at_arena_strdup(&p->arena, &said, st == AT_OK ? "better" : at_message()));
    s->said = said;
    if (s->verdict != AT_OK || s->before)
        cli_note("%s %s", s->before ? "baseline  " : "verdict   ", said);
    if (!by_people(s)) /* who may go on deciding */
        TRY(record(p, s, &inputs, said));
done:
    return st;
}
