/* Stages by their names: "stage:NAME" in a key of a stage is the folder of the stage NAME before
 * it, or what a split wrote for that key. */
#include "run.h"

#include "reward.h"
#include "sources.h"

#include <string.h>

static const char PREFIX[] = "stage:";
enum { PREFIX_LENGTH = sizeof PREFIX - 1 };

bool run_names_stage(const char *text)
{
    return text && strncmp(text, PREFIX, PREFIX_LENGTH) == 0;
}

/* Which of the two files of a split a key reads; -1: none. */
static int side_of(const char *key)
{
    static const struct {
        const char *key;
        int side;
    } rows[] = { { "eval_dataset", 1 }, { "few_shot", 0 }, { "regression_dataset", 1 },
                 { "rows", 1 },         { "tokens", 1 },   { "train_dataset", 0 } };

    for (size_t k = 0; k < AT_COUNT(rows); k++)
        if (strcmp(rows[k].key, key) == 0)
            return rows[k].side;
    return -1;
}

AT_CHECKED run_names_folder(const char **out, struct pipeline *p, size_t i, const char *key,
                            const char *text)
{
    enum at_status st = AT_OK;
    const char *name = text + PREFIX_LENGTH;
    char *path = NULL;

    for (size_t k = 0; k < i && !path; k++) {
        const int side = side_of(key);
        if (strcmp(p->stages[k].name, name) != 0)
            continue;
        if (p->stages[k].prepares == RUN_SPLIT && side < 0)
            FAIL(AT_USAGE, "%s: \"%.80s\" is rows; train_dataset and eval_dataset take them", key,
                 text);
        if (p->stages[k].prepares == RUN_SPLIT)
            path = p->stages[k].split[side];
        else
            TRY(at_path_join(&p->arena, &path, p->output_dir, name));
    }
    if (!path)
        FAIL(AT_USAGE, "\"%.80s\": no stage before this one is called %.60s", text, name);
    *out = path;
done:
    return st;
}

/* Puts folders in the place of names, in a value and in what it holds; *found: there were any. */
static AT_CHECKED put_folders(cJSON *value, struct pipeline *p, size_t i, const char *key,
                              bool *found)
{
    enum at_status st = AT_OK;
    const char *folder = NULL;

    for (cJSON *item = value->child; item; item = item->next)
        TRY(put_folders(item, p, i, key, found));
    if (!run_names_stage(cJSON_GetStringValue(value)))
        goto done;
    *found = true;
    TRY(run_names_folder(&folder, p, i, key, value->valuestring));
    if (!cJSON_SetValuestring(value, folder))
        FAIL(AT_MEMORY, "no memory for a path");
done:
    return st;
}

AT_CHECKED run_names_take(struct pipeline *p, size_t i, cJSON *document)
{
    enum at_status st = AT_OK;
    struct stage *s = &p->stages[i];
    char *text = NULL, *copy = NULL, *key = NULL;

    for (cJSON *item = document->child, *next = NULL; item; item = next) {
        bool found = false;
        next = item->next;
        TRY(put_folders(item, p, i, item->string, &found));
        if (!found)
            continue;
        text = cJSON_IsString(item) ? NULL : cJSON_PrintUnformatted(item);
        TRY(at_arena_strdup(&p->arena, &key, item->string));
        TRY(at_arena_strdup(&p->arena, &copy, text ? text : item->valuestring));
        s->flags[s->n_flags++] = (struct at_flag){ key, copy };
        cJSON_free(text);
        text = NULL;
        cJSON_DeleteItemFromObjectCaseSensitive(document, key);
    }
done:
    cJSON_free(text);
    return st;
}

/* ---- reward models ---- */

AT_CHECKED run_names_stand_in(const char **out, struct pipeline *p, const struct stage *s,
                              bool (*is_missing)(const struct pipeline *, const struct stage *,
                                                 const char *))
{
    enum at_status st = AT_OK;
    struct at_rewards *rewards = NULL;
    cJSON *list = cJSON_CreateArray();
    char *text = NULL, *copy = NULL;

    TRY(cli_rewards_open(&rewards, &s->config));
    for (uint32_t k = 0; rewards && k < at_rewards_count(rewards); k++) {
        cJSON *item = cJSON_CreateObject();
        const bool model = at_rewards_kind(rewards, k) == AT_REWARD_MODEL;
        cJSON_AddItemToArray(list, item);
        cJSON_AddStringToObject(item, "name", at_rewards_name(rewards, k));
        if (model && !is_missing(p, s, at_rewards_what(rewards, k)))
            cJSON_AddStringToObject(item, "model", at_rewards_what(rewards, k));
        else /* what it gives is not looked at */
            cJSON_AddNumberToObject(item, "max_words", 1);
    }
    text = cJSON_PrintUnformatted(list);
    TRY(at_arena_strdup(&p->arena, &copy, text ? text : "[]"));
    *out = copy;
done:
    cJSON_free(text);
    cJSON_Delete(list);
    at_rewards_close(&rewards);
    return st;
}
