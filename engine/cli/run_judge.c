#include "run.h"

#include "hash.h"
#include "sources.h"
#include "stores.h"

#include <string.h>

static const char *method_of(const cJSON *stage)
{
    const char *method = cJSON_GetStringValue(at_json_find(stage, "method"));

    return method ? method : "";
}

bool run_judges(const cJSON *stage)
{
    return strcmp(method_of(stage), "compare") == 0 || strcmp(method_of(stage), "report") == 0;
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
    } names[] = { { "against", NAMES_SOURCE },      { "eval", NAMES_SOURCE },
                  { "judge_model", NAMES_SOURCE },  { "log", NAMES_PATH },
                  { "output", NAMES_PATH },         { "replies", NAMES_PATH },
                  { "reward_model", NAMES_SOURCE }, { "rows", NAMES_SOURCE },
                  { "rules", NAMES_SOURCE },        { "tokens", NAMES_SOURCE } };

    for (size_t i = 0; i < AT_COUNT(names); i++)
        if (strcmp(names[i].flag, flag) == 0)
            return names[i].what;
    return NAMES_NONE;
}

struct words {
    struct pipeline *pipeline;
    size_t stage; /* whose they are */
    char *items[64];
    int n;
};

static AT_CHECKED add_word(struct words *w, const char *word)
{
    if (w->n == (int)AT_COUNT(w->items))
        return at_fail(AT_USAGE, "more keys than a stage that judges has");
    return at_arena_strdup(&w->pipeline->arena, &w->items[w->n++], word);
}

static AT_CHECKED put_flag(struct words *w, const char *key, const char *value)
{
    enum at_status st = AT_OK;
    char *flag = NULL;

    TRY(at_arena_printf(&w->pipeline->arena, &flag, "--%s", key));
    TRY(add_word(w, flag));
    if (value)
        TRY(add_word(w, value));
done:
    return st;
}

/* A key of the stage as its command's flag; paths are taken from the pipeline's folder. */
static AT_CHECKED add_key(struct words *w, const cJSON *key)
{
    enum at_status st = AT_OK;
    struct pipeline *p = w->pipeline;
    char *dir = NULL, *path = NULL;
    const char *folder = NULL;

    if (cJSON_IsNumber(key)) {
        TRY(at_arena_printf(&p->arena, &path, "%.15g", key->valuedouble));
        TRY(put_flag(w, key->string, path));
    } else if (!cJSON_IsString(key)) {
        FAIL(AT_USAGE, "%s: a text or a number is expected", key->string);
    } else if (run_names_stage(key->valuestring)) {
        TRY(run_names_folder(&folder, p, w->stage, key->valuestring));
        TRY(put_flag(w, key->string, folder));
    } else if (names_what(key->string) != NAMES_NONE && !at_model_is_named(key->valuestring)) {
        TRY(at_path_dir(&p->arena, &dir, p->path));
        TRY(at_path_join(&p->arena, &path, strcmp(dir, ".") == 0 ? "" : dir, key->valuestring));
        TRY(strcmp(key->string, "rows") == 0 ? add_word(w, path) : put_flag(w, key->string, path));
    } else {
        TRY(put_flag(w, key->string, key->valuestring));
    }
done:
    return st;
}

static bool reads_replies(const cJSON *stage)
{
    const char *judge = cJSON_GetStringValue(at_json_find(stage, "judge"));

    return judge && strcmp(judge, "logp") != 0 && strcmp(judge, "rules") != 0;
}

static AT_CHECKED list_words(struct words *w, const struct stage *s, const cJSON *stage,
                             const struct cli_args *args)
{
    enum at_status st = AT_OK;
    const bool compares = strcmp(method_of(stage), "compare") == 0;
    char *replies = NULL;

    TRY(add_word(w, "attune"));
    TRY(add_word(w, method_of(stage)));
    if (compares)
        TRY(put_flag(w, "adapter", s->of->config.output_dir));
    else
        TRY(add_word(w, s->of->config.output_dir));
    for (const cJSON *k = stage->child; k; k = k->next)
        if (strcmp(k->string, "name") != 0 && strcmp(k->string, "method") != 0)
            TRY(add_key(w, k));
    if (compares && reads_replies(stage) && !at_json_find(stage, "replies")) {
        TRY(at_path_join(&w->pipeline->arena, &replies, s->output_dir, "compare.jsonl"));
        TRY(put_flag(w, "replies", replies));
    }
    for (size_t i = 0; compares && i < args->n_keys; i++)
        if (strcmp(args->keys[i].key, "device") == 0)
            TRY(put_flag(w, "device", args->keys[i].value));
done:
    return st;
}

AT_CHECKED run_judge_read(struct pipeline *p, const struct cli_args *args, size_t i)
{
    enum at_status st = AT_OK;
    const cJSON *stage = cJSON_GetArrayItem(at_json_find(p->document, "stages"), (int)i);
    struct stage *s = &p->stages[i];
    struct words words = { .pipeline = p, .stage = i };
    const struct cli_command *command = NULL;
    char *output = NULL;
    int used = 0;

    for (size_t k = 0; k < i; k++)
        if (!p->stages[k].of)
            s->of = &p->stages[k];
    if (!s->of || !s->of->config.use_peft)
        FAIL(AT_USAGE, "it judges the adapter of a stage before it; there is none");
    TRY(at_path_join(&p->arena, &output, p->output_dir, s->name));
    s->output_dir = output;
    TRY(list_words(&words, s, stage, args));
    TRY(cli_command_find(&command, words.n, words.items, &used));
    TRY(cli_args_read(&s->judge, command, words.n - 1 - used, words.items + 1 + used));
done:
    return st;
}

/* ---- what it depends on ---- */

static bool compares(const struct stage *s)
{
    return strcmp(s->judge.command->name, "compare") == 0;
}

static bool by_people(const struct stage *s)
{
    const char *judge = cli_flag_text(&s->judge, "judge");

    return judge && strcmp(judge, "people") == 0;
}

static AT_CHECKED digest_of(struct pipeline *p, const struct stage *s, struct at_digest *out)
{
    enum at_status st = AT_OK;
    struct at_hash hash;

    at_hash_init(&hash);
    TRY(cli_put_source(&hash, &p->arena, s->of->config.output_dir));
    for (size_t i = 0; i < s->of->config.eval_dataset.n; i++)
        TRY(cli_put_source(&hash, &p->arena, s->of->config.eval_dataset.items[i]));
    for (size_t i = 0; i < s->judge.n_positional; i++)
        TRY(cli_put_source(&hash, &p->arena, s->judge.positional[i]));
    for (size_t i = 0; i < s->judge.n_own; i++) {
        const struct at_flag *f = &s->judge.own[i];
        at_hash_put_text(&hash, f->key);
        if (names_what(f->key) == NAMES_SOURCE)
            TRY(cli_put_source(&hash, &p->arena, f->value));
        else if (names_what(f->key) == NAMES_NONE && strcmp(f->key, "adapter") != 0)
            at_hash_put_text(&hash, f->value);
    }
    for (size_t i = 0; i < s->judge.n_keys; i++) {
        at_hash_put_text(&hash, s->judge.keys[i].key);
        at_hash_put_text(&hash, s->judge.keys[i].value);
    }
    *out = at_hash_end(&hash);
done:
    return st;
}

/* A stage before this one has it as its folder. */
static bool will_be_there(const struct pipeline *p, const struct stage *s, const char *path)
{
    for (const struct stage *k = p->stages; k < s; k++)
        if (!k->of && strcmp(k->config.output_dir, path) == 0)
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
        if (names_what(f->key) != NAMES_SOURCE || will_be_there(p, s, f->value))
            continue;
        TRY(at_model_find(&found, &p->arena, f->value));
        if (!at_path_exists(found.path))
            FAIL(AT_NOT_FOUND, "%s: no such file or folder (%s)", f->value, f->key);
    }
    for (size_t i = 0; compares(s) && i < s->judge.n_positional; i++)
        if (!at_path_exists(s->judge.positional[i]))
            FAIL(AT_NOT_FOUND, "%s: no such file (rows)", s->judge.positional[i]);
done:
    return st;
}

static AT_CHECKED record_path(struct pipeline *p, const struct stage *s, char **out)
{
    return at_path_join(&p->arena, out, s->output_dir, "stage.json");
}

AT_CHECKED run_judge_check(struct pipeline *p, struct stage *s)
{
    enum at_status st = AT_OK;
    cJSON *record = NULL;
    struct at_digest digest = { .hex = "" };
    const char *inputs = NULL, *said = NULL;
    char *path = NULL, *copy = NULL;
    uint32_t verdict = 0;

    TRY(check_sources(p, s));
    TRY(record_path(p, s, &path));
    if (!compares(s) || !at_path_exists(path))
        goto done;
    TRY(at_json_load(&record, path));
    TRY(at_json_need_string(&inputs, record, "inputs", path));
    if (s->of->finished && sources_are_there(s))
        TRY(digest_of(p, s, &digest));
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

    cJSON_AddNumberToObject(json, "format_version", 1);
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

AT_CHECKED run_judge(struct pipeline *p, struct stage *s)
{
    enum at_status st = AT_OK;
    struct at_digest inputs;
    char *said = NULL;

    if (!compares(s))
        return s->judge.command->run(&s->judge);
    TRY(at_dir_create(s->output_dir));
    TRY(digest_of(p, s, &inputs));
    TRY(record(p, s, &inputs, NULL));
    st = s->judge.command->run(&s->judge);
    if (st != AT_OK && st != AT_OVER_BUDGET && st != AT_NO_EVIDENCE)
        goto done;
    s->verdict = st;
    TRY(at_arena_strdup(&p->arena, &said, st == AT_OK ? "better" : at_message()));
    s->said = said;
    if (s->verdict != AT_OK)
        cli_note("verdict    %s", said);
    if (!by_people(s)) /* who may go on deciding */
        TRY(record(p, s, &inputs, said));
done:
    return st;
}
