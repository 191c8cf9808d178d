#include "config_paths.h"

#include "chat.h"
#include "loss_file.h"
#include "os.h"
#include "reward.h"
#include "stores.h"

#include <string.h>

bool at_config_is_path(enum at_key key, const char *text)
{
    static const enum at_key paths[] = {
        AT_KEY_adapter_name_or_path,
        AT_KEY_chat_template_path,
        AT_KEY_eval_dataset,
        AT_KEY_model_name_or_path,
        AT_KEY_output_dir,
        AT_KEY_ref_model_name_or_path,
        AT_KEY_regression_dataset,
        AT_KEY_reward_funcs,
        AT_KEY_rollouts,
        AT_KEY_tokenizer,
        AT_KEY_train_dataset,
    };
    bool found = key == AT_KEY_resume_from_checkpoint && strcmp(text, "true") != 0;

    for (size_t i = 0; i < AT_COUNT(paths); i++)
        found = found || paths[i] == key;
    return found && !at_model_is_named(text) &&
           !(key == AT_KEY_chat_template_path && at_chat_template_is_name(text));
}

AT_CHECKED at_config_path(const char **out, struct at_arena *arena, enum at_key key,
                          const char *dir, const char *text)
{
    enum at_status st = AT_OK;
    char *copy = NULL;

    if (at_config_is_path(key, text) && dir && strcmp(dir, ".") != 0)
        TRY(at_path_join(arena, &copy, dir, text));
    else
        TRY(at_arena_strdup(arena, &copy, text));
    *out = copy;
done:
    return st;
}

/* ---- files with weights ---- */

static AT_CHECKED bad_file(enum at_key key, const char *what, const cJSON *found)
{
    char *text = cJSON_PrintUnformatted(found);
    const enum at_status st =
        at_fail(AT_USAGE, "%s: %s, found %s", at_key_name(key), what, text ? text : "?");

    cJSON_free(text);
    return st;
}

AT_CHECKED at_config_file(const char **path, double *weight, struct at_arena *arena,
                          enum at_key key, const char *dir, const cJSON *item)
{
    static const double MOST = 1000;
    enum at_status st = AT_OK;
    const cJSON *named = cJSON_IsObject(item) ? at_json_find(item, "path") : item;
    const cJSON *number = at_json_find(item, "weight");

    *weight = 1;
    if (cJSON_IsObject(item) && (key == AT_KEY_eval_dataset || key == AT_KEY_regression_dataset))
        return bad_file(key,
                        "a string or a list of strings expected; weights are of train_dataset "
                        "alone: an evaluation reads each row once",
                        item);
    if (cJSON_IsObject(item) && key != AT_KEY_train_dataset)
        return bad_file(key, "a string or a list of strings expected", item);
    for (const cJSON *k = cJSON_IsObject(item) ? item->child : NULL; k; k = k->next)
        if (strcmp(k->string, "path") != 0 && strcmp(k->string, "weight") != 0)
            return bad_file(key, "a file with a weight is {\"path\": ..., \"weight\": ...}", item);
    if (!cJSON_IsString(named))
        return bad_file(key,
                        key == AT_KEY_train_dataset
                            ? "a path, {\"path\", \"weight\"} or a list of these expected"
                            : "a string or a list of strings expected",
                        item);
    if (key == AT_KEY_train_dataset &&
        (named->valuestring[0] == '[' || named->valuestring[0] == '{'))
        return bad_file(key,
                        "this is no JSON: a path expected, or such as [\"a.jsonl\", {\"path\": "
                        "\"b.jsonl\", \"weight\": 2}]",
                        item);
    if (number &&
        (!cJSON_IsNumber(number) || !(number->valuedouble > 0) || !(number->valuedouble <= MOST)))
        return bad_file(key,
                        "a weight is how often an epoch sees the file's rows: a number above 0, up "
                        "to 1000",
                        item);
    if (number)
        *weight = number->valuedouble;
    TRY(at_config_path(path, arena, key, dir, named->valuestring));
done:
    return st;
}

cJSON *at_config_file_value(const char *path, double weight)
{
    cJSON *item = NULL;

    if (weight == 1)
        return cJSON_CreateString(path);
    item = cJSON_CreateObject();
    cJSON_AddStringToObject(item, "path", path);
    cJSON_AddNumberToObject(item, "weight", weight);
    return item;
}

/* ---- sources ---- */

/* The path of a reward model, of an item that is one or has one. */
static AT_CHECKED resolve_source(struct at_arena *arena, enum at_key key, const char *dir,
                                 cJSON *item)
{
    enum at_status st = AT_OK;
    cJSON *path = cJSON_IsString(item) ? item : cJSON_GetObjectItemCaseSensitive(item, "model");
    const char *text = cJSON_GetStringValue(path), *found = NULL;

    if (!text || (path == item && at_reward_is_rule(text)))
        goto done;
    TRY(at_config_path(&found, arena, key, dir, text));
    if (!cJSON_SetValuestring(path, found))
        FAIL(AT_MEMORY, "no memory for a path");
done:
    return st;
}

AT_CHECKED at_config_sources(const char **out, struct at_arena *arena, enum at_key key,
                             const char *dir, const cJSON *value)
{
    enum at_status st = AT_OK;
    cJSON *list = cJSON_IsArray(value) ? cJSON_Duplicate(value, true) : cJSON_CreateArray();
    char *found = cJSON_PrintUnformatted(value), *text = NULL, *copy = NULL;

    if (!cJSON_IsArray(value))
        cJSON_AddItemToArray(list, cJSON_Duplicate(value, true));
    for (cJSON *item = list ? list->child : NULL; item; item = item->next) {
        if (!cJSON_IsString(item) && !cJSON_IsObject(item))
            FAIL(AT_USAGE, "%s: a text, an object or a list of them expected, found %s",
                 at_key_name(key), found ? found : "?");
        TRY(resolve_source(arena, key, dir, item));
    }
    text = cJSON_PrintUnformatted(list);
    if (!text)
        FAIL(AT_MEMORY, "no memory for %s", at_key_name(key));
    TRY(at_arena_strdup(arena, &copy, text));
    *out = copy;
done:
    cJSON_free(text);
    cJSON_free(found);
    cJSON_Delete(list);
    return st;
}

/* ---- without places ---- */

/* The end of a path without the folders before it. */
static const char *last_part(char *path)
{
    size_t n = strlen(path);
    const char *slash = NULL;

    while (n > 1 && path[n - 1] == '/')
        path[--n] = 0;
    slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The folder of a reward model names it, where it has no other name. */
static AT_CHECKED shorten_source(struct at_arena *arena, cJSON *item)
{
    enum at_status st = AT_OK;
    cJSON *path = cJSON_IsString(item) ? item : cJSON_GetObjectItemCaseSensitive(item, "model");
    const char *text = cJSON_GetStringValue(path);
    char *copy = NULL;

    if (!text || (path == item && at_reward_is_rule(text)))
        goto done;
    TRY(at_arena_strdup(arena, &copy, text));
    if (!cJSON_SetValuestring(path, last_part(copy)))
        FAIL(AT_MEMORY, "no memory for a path");
done:
    return st;
}

/* A text, or an item {"path", "weight"}, that is a path. */
static AT_CHECKED hide_path(enum at_key key, cJSON *item)
{
    cJSON *path = cJSON_IsObject(item) ? cJSON_GetObjectItemCaseSensitive(item, "path") : item;
    const char *text = cJSON_GetStringValue(path);

    if (text && at_config_is_path(key, text) && !cJSON_SetValuestring(path, ""))
        return at_fail(AT_MEMORY, "no memory for a path");
    return AT_OK;
}

AT_CHECKED at_config_hide_paths(cJSON *record, const struct at_config *c)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    cJSON *entry = NULL, *item = NULL;
    size_t i = 0;

    cJSON_ArrayForEach(entry, record)
    {
        cJSON *value = cJSON_GetObjectItemCaseSensitive(entry, "value");
        enum at_key key = AT_KEY_seed;
        const char *text = NULL;
        if (at_key_classify(entry->string, &key, &text) != AT_CLASS_ACTIVE)
            continue;
        if (cJSON_IsString(value))
            TRY(hide_path(key, value));
        if (!cJSON_IsArray(value))
            continue;
        cJSON_ArrayForEach(item, value)
            TRY(key == AT_KEY_reward_funcs ? shorten_source(&arena, item) : hide_path(key, item));
    }
    entry = cJSON_GetObjectItemCaseSensitive(record, at_key_name(AT_KEY_loss_type));
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(entry, "value"))
    {
        const struct at_loss_file *file = c->losses[i++]->file;
        if (file && !cJSON_SetValuestring(item, file->digest.hex))
            FAIL(AT_MEMORY, "no memory for a digest");
    }
done:
    at_arena_release(&arena);
    return st;
}
