/* Configurations of what is judged. */
#include "eval.h"

#include "adapter.h"
#include "cli.h"
#include "os.h"
#include "record.h"
#include "stores.h"

#include <string.h>

void eval_take_rows(struct at_config *c, const char *const *rows)
{
    c->run_method = AT_DPO;
    c->train_dataset = (struct at_strings){ .items = rows, .n = 1 };
    c->eval_dataset.n = 0;
    c->eval_split = 0;
    c->eval_strategy = "no";
    c->ref_model_name_or_path = NULL;
    c->use_peft = true;
    c->adapter_start = "continue";
}

/* Whether a value of run.json was given, and is not a default. */
static bool was_given(const cJSON *entry)
{
    const char *from = cJSON_GetStringValue(at_json_find(entry, "from"));

    return from && (strcmp(from, "file") == 0 || strcmp(from, "flag") == 0);
}

static bool gives(const struct at_flag *flags, size_t n, const char *key)
{
    size_t i = 0;

    while (i < n && strcmp(flags[i].key, key) != 0)
        i++;
    return i < n;
}

/* How the base's weights are held: one choice, of several keys. */
static bool is_of_loading(const char *key)
{
    return strncmp(key, "load_in_", 8) == 0 || strncmp(key, "bnb_4bit_", 9) == 0 ||
           strcmp(key, "use_bnb_nested_quant") == 0;
}

/* The model that the run in `dir` recorded is here. */
static AT_CHECKED check_model(const struct at_config *c, const char *dir)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    struct at_found_model found;
    const char *name = c->model_name_or_path;

    TRY(at_model_find(&found, &arena, name));
    if (!at_path_exists(found.path))
        FAIL(AT_NOT_FOUND,
             "%s was trained on the model %s, which is not here%s; name it with "
             "--model_name_or_path MODEL",
             dir, name, name[0] == '/' ? "" : " (a path that starts where the training did)");
done:
    at_arena_release(&arena);
    return st;
}

AT_CHECKED eval_config_of_run(struct at_config *out, const char *dir, const struct at_flag *flags,
                              size_t n_flags)
{
    static const char *const keys[] = { "bnb_4bit_quant_type", "bnb_4bit_use_double_quant",
                                        "chat_template_path",  "eos_token",
                                        "eval_dataset",        "load_in_4bit",
                                        "load_in_8bit",        "max_length",
                                        "model_name_or_path",  "preset",
                                        "system_prompt",       "tokenizer",
                                        "use_bnb_nested_quant" };
    enum at_status st = AT_OK;
    const enum at_method pairs = AT_DPO;
    const bool loads =
        gives(flags, n_flags, "load_in_4bit") || gives(flags, n_flags, "load_in_8bit");
    cJSON *run = NULL, *document = cJSON_CreateObject();
    struct at_arena arena = { 0 };
    struct at_buf taken = { 0 };
    char *path = NULL;

    TRY(at_adapter_check_folder(dir));
    TRY(at_path_join(&arena, &path, dir, "run.json"));
    if (at_path_exists(path))
        TRY(at_json_load(&run, path));
    for (size_t i = 0; i < AT_COUNT(keys); i++) {
        const cJSON *entry = at_json_find(at_json_find(run, "config"), keys[i]);
        if (!was_given(entry) || gives(flags, n_flags, keys[i]) ||
            (loads && is_of_loading(keys[i])))
            continue;
        cJSON_AddItemToObject(document, keys[i],
                              cJSON_Duplicate(at_json_find(entry, "value"), true));
        at_buf_printf(&taken, "%s%s", taken.n > 0 ? ", " : "", keys[i]);
    }
    TRY(at_buf_status(&taken));
    if (taken.n > 0)
        cli_note("settings   of %s: %s", path, taken.data);
    TRY(at_config_read(out, document, NULL, flags, n_flags, &pairs));
    if (!out->model_name_or_path)
        FAIL(AT_USAGE,
             "%s names no model; give the one that it was trained on: "
             "--model_name_or_path MODEL",
             path);
    if (out->origin[AT_KEY_model_name_or_path] != AT_FROM_FLAG)
        TRY(check_model(out, dir));
done:
    cJSON_Delete(document);
    at_json_free(&run);
    at_buf_release(&taken);
    at_arena_release(&arena);
    return st;
}

AT_CHECKED eval_rows_of_run(const char **out, struct at_arena *arena,
                            const struct at_config *config, const char *dir)
{
    enum at_status st = AT_OK;
    char *path = NULL;

    TRY(at_path_join(arena, &path, dir, AT_SPLIT_EVAL));
    if (config->eval_dataset.n > 1)
        FAIL(AT_USAGE, "the run had %zu files of held-out rows (eval_dataset): name one of them",
             config->eval_dataset.n);
    *out = config->eval_dataset.n == 1 ? config->eval_dataset.items[0] : path;
    if (!at_path_exists(*out))
        FAIL(AT_NOT_FOUND,
             "%s: no held-out pairs; a run with eval_split writes them there, or name a file of "
             "them",
             *out);
done:
    return st;
}
