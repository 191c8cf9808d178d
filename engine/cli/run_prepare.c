/* Stages before a training: what is wrong with the data (lint), held-out pairs as files (split),
 * memory and time of the trainings behind it (plan). */
#include "run.h"

#include "divide.h"
#include "record.h"
#include "run_words.h"
#include "trained.h"

#include <stdio.h>
#include <string.h>

bool run_prepare_find(enum run_prepares *out, const cJSON *stage)
{
    static const char *const methods[] = {
        [RUN_LINT] = "lint", [RUN_PLAN] = "plan", [RUN_SPLIT] = "split"
    };
    const char *method = cJSON_GetStringValue(at_json_find(stage, "method"));

    for (size_t i = 0; method && i < AT_COUNT(methods); i++)
        if (methods[i] && strcmp(methods[i], method) == 0) {
            *out = (enum run_prepares)i;
            return true;
        }
    return false;
}

/* ---- reading ---- */

/* Keys of rows, of the model that they are read for, and of how some are held out. */
static const enum at_key of_lint[] = { AT_KEY_train_dataset,      AT_KEY_eval_dataset,
                                       AT_KEY_model_name_or_path, AT_KEY_tokenizer,
                                       AT_KEY_chat_template_path, AT_KEY_system_prompt,
                                       AT_KEY_max_length,         AT_KEY_eos_token };
static const enum at_key of_split[] = { AT_KEY_train_dataset, AT_KEY_eval_split, AT_KEY_seed,
                                        AT_KEY_data_seed };
static const struct {
    const char *what;
    const enum at_key *keys;
    size_t n;
} kinds[] = {
    [RUN_LINT] = { "train_dataset, eval_dataset, strict and how rows are read", of_lint,
                   AT_COUNT(of_lint) },
    [RUN_PLAN] = { "nothing: it is about the stages behind it", NULL, 0 },
    [RUN_SPLIT] = { "train_dataset, eval_split, seed and data_seed", of_split, AT_COUNT(of_split) },
};

static bool takes_key(enum run_prepares prepares, const char *name)
{
    for (size_t i = 0; i < kinds[prepares].n; i++)
        if (strcmp(at_key_name(kinds[prepares].keys[i]), name) == 0)
            return true;
    return false;
}

static bool is_switch(const struct stage *s, const cJSON *key)
{
    return s->prepares == RUN_LINT && strcmp(key->string, "strict") == 0;
}

/* The stage's keys and those of the pipeline that it reads. */
static AT_CHECKED collect_keys(cJSON *out, struct pipeline *p, struct stage *s, const cJSON *stage)
{
    for (const cJSON *k = p->document->child; k; k = k->next)
        if (takes_key(s->prepares, k->string) && !at_json_find(stage, k->string))
            cJSON_AddItemToObject(out, k->string, cJSON_Duplicate(k, true));
    for (const cJSON *k = stage->child; k; k = k->next) {
        if (strcmp(k->string, "name") == 0 || strcmp(k->string, "method") == 0)
            continue;
        if (is_switch(s, k)) {
            if (!cJSON_IsBool(k))
                return at_fail(AT_USAGE, "strict: true or false expected");
            s->strict = cJSON_IsTrue(k);
        } else if (takes_key(s->prepares, k->string)) {
            cJSON_AddItemToObject(out, k->string, cJSON_Duplicate(k, true));
        } else {
            return at_fail(AT_USAGE, "%s is not read by a stage of method %s, which reads %s",
                           k->string, at_json_find(stage, "method")->valuestring,
                           kinds[s->prepares].what);
        }
    }
    return AT_OK;
}

/* `attune data lint`, or `attune data split`, with the stage's keys as flags. */
static AT_CHECKED read_command(struct pipeline *p, size_t i)
{
    enum at_status st = AT_OK;
    struct stage *s = &p->stages[i];
    struct run_words words = { .pipeline = p, .stage = i };

    TRY(run_words_add(&words, "attune"));
    TRY(run_words_add(&words, "data"));
    TRY(run_words_add(&words, s->prepares == RUN_LINT ? "lint" : "split"));
    for (size_t k = 0; k < kinds[s->prepares].n; k++)
        TRY(run_words_key(&words, &s->config, kinds[s->prepares].keys[k]));
    if (s->strict)
        TRY(run_words_flag(&words, "strict", NULL));
    if (s->prepares == RUN_SPLIT) {
        TRY(run_words_flag(&words, "output", s->output_dir));
        TRY(at_path_join(&p->arena, &s->split[0], s->output_dir, AT_SPLIT_TRAIN));
        TRY(at_path_join(&p->arena, &s->split[1], s->output_dir, AT_SPLIT_EVAL));
    }
    TRY(run_words_read(&s->judge, &words));
done:
    return st;
}

AT_CHECKED run_prepare_read(struct pipeline *p, const struct cli_args *args, size_t i)
{
    enum at_status st = AT_OK;
    const cJSON *stage = cJSON_GetArrayItem(at_json_find(p->document, "stages"), (int)i);
    struct stage *s = &p->stages[i];
    const enum at_method pairs = AT_DPO; /* lint takes each line as what it is */
    cJSON *document = cJSON_CreateObject();
    char *output = NULL;

    TRY(at_path_join(&p->arena, &output, p->output_dir, s->name));
    s->output_dir = output;
    TRY(collect_keys(document, p, s, stage));
    TRY(at_arena_alloc(&p->arena, &s->flags,
                       args->n_keys + (size_t)cJSON_GetArraySize(document) + 1, sizeof *s->flags));
    TRY(run_names_take(p, i, document));
    for (size_t k = 0; k < args->n_keys; k++)
        if (takes_key(s->prepares, args->keys[k].key))
            s->flags[s->n_flags++] = args->keys[k];
    TRY(at_config_read(&s->config, document, p->path, s->flags, s->n_flags, &pairs));
    if (s->prepares == RUN_PLAN)
        goto done;
    if (s->config.train_dataset.n == 0)
        FAIL(AT_USAGE, "train_dataset is missing: the file of rows to %s, or a list of them",
             s->prepares == RUN_LINT ? "look at" : "divide");
    TRY(read_command(p, i));
done:
    cJSON_Delete(document);
    return st;
}

/* ---- files that a split has yet to write ---- */

const struct stage *run_split_of(const struct pipeline *p, const struct stage *s, const char *path)
{
    for (const struct stage *k = p->stages; path && k < s; k++)
        if (k->prepares == RUN_SPLIT && !k->finished &&
            (strcmp(k->split[0], path) == 0 || strcmp(k->split[1], path) == 0))
            return k;
    return NULL;
}

/* A list with the rows that are divided in the place of such files. */
static AT_CHECKED without_splits(struct at_strings *list, struct pipeline *p, const struct stage *s)
{
    enum at_status st = AT_OK;
    const char **items = NULL;
    double *weights = NULL;
    size_t n = 0, capacity = list->n;

    for (size_t i = 0; i < list->n; i++) {
        const struct stage *split = run_split_of(p, s, list->items[i]);
        capacity += split ? split->config.train_dataset.n : 0;
    }
    TRY(at_arena_alloc(&p->arena, &items, capacity, sizeof *items));
    TRY(at_arena_alloc(&p->arena, &weights, capacity, sizeof *weights));
    for (size_t i = 0; i < list->n; i++) {
        const struct stage *split = run_split_of(p, s, list->items[i]);
        const struct at_strings *from = split ? &split->config.train_dataset : NULL;
        for (size_t k = 0; k < (from ? from->n : 1); k++) {
            items[n] = from ? from->items[k] : list->items[i];
            weights[n++] = list->weights ? list->weights[i] : 1;
        }
    }
    *list = (struct at_strings){ items, n, list->weights ? weights : NULL };
done:
    return st;
}

AT_CHECKED run_split_stand_in(struct at_config *c, struct pipeline *p, const struct stage *s)
{
    enum at_status st = AT_OK;

    TRY(without_splits(&c->train_dataset, p, s));
    TRY(without_splits(&c->eval_dataset, p, s));
    TRY(without_splits(&c->regression_dataset, p, s));
done:
    return st;
}

/* ---- what it depends on ---- */

/* Of a plan: the configurations behind it as they are planned, whether they have been trained or
 * not. */
static AT_CHECKED digest_of(struct at_digest *out, struct pipeline *p, const struct stage *s,
                            uint32_t version)
{
    enum at_status st = AT_OK;
    struct at_config c;
    struct at_hash hash;

    if (s->prepares != RUN_PLAN) {
        c = s->config;
        if (s->prepares == RUN_SPLIT)
            c.train_dataset.weights = NULL; /* the files have each row once */
        TRY(run_split_stand_in(&c, p, s));
        TRY(cli_trained_digest(out, &p->arena, &c, version));
        goto done;
    }
    at_hash_init(&hash);
    for (const struct stage *k = s + 1; k < p->stages + p->n; k++) {
        if (!k->trains)
            continue;
        TRY(run_stand_in(&c, p, k, true));
        TRY(cli_trained_digest(out, &p->arena, &c, version));
        at_hash_put_text(&hash, out->hex);
    }
    *out = at_hash_end(&hash);
done:
    return st;
}

static AT_CHECKED check_files(const struct pipeline *p, const struct stage *s)
{
    const struct at_strings *lists[] = { &s->config.train_dataset, &s->config.eval_dataset };

    for (size_t k = 0; k < AT_COUNT(lists); k++)
        for (size_t i = 0; i < lists[k]->n; i++)
            if (!run_split_of(p, s, lists[k]->items[i]) && !at_path_exists(lists[k]->items[i]))
                return at_fail(AT_NOT_FOUND, "%s: no such file", lists[k]->items[i]);
    return AT_OK;
}

static bool plans_nothing(const struct pipeline *p, const struct stage *s)
{
    bool any = s->prepares != RUN_PLAN;

    for (const struct stage *k = s + 1; k < p->stages + p->n; k++)
        any = any || k->trains;
    return !any;
}

AT_CHECKED run_prepare_check(struct pipeline *p, struct stage *s)
{
    enum at_status st = AT_OK;
    cJSON *record = NULL;
    struct at_digest digest;
    const char *inputs = NULL, *ended = NULL;
    char *path = NULL;
    uint32_t version = CLI_TRAINED_BY_PATHS;

    if (plans_nothing(p, s))
        FAIL(AT_USAGE, "there is nothing to plan: no stage behind it trains");
    TRY(check_files(p, s));
    TRY(at_path_join(&p->arena, &path, s->output_dir, "stage.json"));
    if (s->prepares == RUN_SPLIT && !at_dir_is_empty(s->output_dir) && !at_path_exists(path))
        FAIL(AT_CANNOT_WRITE,
             "%s holds other files; nothing is overwritten: remove it to split again",
             s->output_dir);
    TRY(at_dir_check_writable(s->output_dir));
    if (!at_path_exists(path))
        goto done;
    TRY(at_json_load(&record, path));
    TRY(at_json_need_string(&inputs, record, "inputs", path));
    TRY(at_json_get_string(&ended, record, "ended", path));
    if (ended) /* a split that was interrupted, or of rows that were bad then, is made again */
        goto done;
    TRY(at_json_get_u32(&version, record, "format_version", path));
    TRY(digest_of(&digest, p, s, version));
    s->finished = strcmp(inputs, digest.hex) == 0;
    if (s->prepares == RUN_SPLIT && !s->finished)
        FAIL(AT_CANNOT_WRITE,
             "%s holds a split of other rows, or by another eval_split or seed; nothing is "
             "overwritten: remove it to split again",
             s->output_dir);
    for (size_t i = 0; s->prepares == RUN_SPLIT && i < 2; i++)
        if (!at_path_exists(s->split[i]))
            FAIL(AT_CANNOT_WRITE, "%s is gone; remove %s to split again", s->split[i],
                 s->output_dir);
done:
    at_json_free(&record);
    return st;
}

/* ---- running ---- */

/* Each training behind the stage; the first that does not fit is the error. */
static AT_CHECKED plan_stages(struct pipeline *p, const struct stage *s)
{
    enum at_status st = AT_OK;
    struct at_config c;
    struct at_run run = { .config = NULL };

    for (const struct stage *k = s + 1; k < p->stages + p->n; k++) {
        if (!k->trains || k->finished)
            continue;
        TRY(run_stand_in(&c, p, k, false));
        if (c.init_from_scratch && !k->config.init_from_scratch) {
            cli_note("plan     %s: its model is made by a stage before it, and planned then",
                     k->name);
            continue;
        }
        printf("plan     %s\n", k->name);
        TRY(at_run_open(&run, &c, NULL));
        st = cli_plan_print(&run, false);
        if (st != AT_OK)
            at_context("of stage %s", k->name);
        TRY(st);
        at_run_close(&run);
    }
done:
    at_run_close(&run);
    return st;
}

/* The folder is a split's from here on: what an interrupted one has left there is made again. */
static AT_CHECKED begin_split(struct pipeline *p, const struct stage *s,
                              const struct at_digest *inputs)
{
    enum at_status st = AT_OK;
    const struct at_config to = { .output_dir = s->output_dir };

    TRY(at_dir_create(s->output_dir));
    TRY(cli_trained_mark(&p->arena, &to, s->name, inputs, "it was interrupted"));
    for (size_t i = 0; i < 2; i++)
        TRY(at_file_remove(s->split[i]));
done:
    return st;
}

AT_CHECKED run_prepare(struct pipeline *p, struct stage *s)
{
    enum at_status st = AT_OK;
    struct at_digest inputs;
    struct at_config to = { .output_dir = s->output_dir };

    TRY(digest_of(&inputs, p, s, CLI_TRAINED_VERSION)); /* files may change while it goes on */
    if (s->prepares == RUN_SPLIT)
        TRY(begin_split(p, s, &inputs));
    TRY(s->prepares == RUN_PLAN ? plan_stages(p, s) : s->judge.command->run(&s->judge));
    TRY(at_dir_create(s->output_dir));
    TRY(cli_trained_mark(&p->arena, &to, s->name, &inputs, NULL));
    s->finished = true;
done:
    if (st != AT_OK)
        at_context("stage %s", s->name);
    return st;
}
