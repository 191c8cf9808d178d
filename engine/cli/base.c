#include "base.h"

#include "adapter.h"

#include <string.h>

bool cli_is_gguf_name(const char *path)
{
    const size_t n = strlen(path);

    return n > 5 && strcmp(path + n - 5, ".gguf") == 0;
}

AT_CHECKED cli_base_recorded(struct cli_base *b, const char **out, const char *dir,
                             const char *file, const char *part, const char *key)
{
    enum at_status st = AT_OK;
    const cJSON *at = NULL;
    cJSON *json = NULL;
    char *path = NULL, *copy = NULL;

    TRY(at_path_join(&b->arena, &path, dir, file));
    if (!at_path_exists(path))
        goto done;
    TRY(at_json_load(&json, path));
    at = part ? at_json_find(json, part) : json;
    at = at ? at_json_find(at, key) : NULL;
    if (at && cJSON_IsObject(at))
        at = at_json_find(at, "value");
    if (!at || !cJSON_IsString(at))
        goto done;
    TRY(at_arena_strdup(&b->arena, &copy, at->valuestring));
    *out = copy;
done:
    at_json_free(&json);
    return st;
}

AT_CHECKED cli_base_open(struct cli_base *b, const struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct at_found_model found;
    const char *last = NULL;

    *b = (struct cli_base){ .dirs = args->positional, .n = args->n_positional };
    AT_REQUIRE(b->n > 0);
    for (size_t i = 0; i < b->n; i++)
        TRY(at_adapter_check_folder(b->dirs[i]));
    last = b->dirs[b->n - 1];
    b->model = cli_flag_text(args, "model_name_or_path");
    TRY(cli_base_recorded(b, &b->peft_name, last, "adapter_config.json", NULL,
                          "base_model_name_or_path"));
    if (!b->model)
        TRY(cli_base_recorded(b, &b->model, last, "run.json", "config", "model_name_or_path"));
    if (!b->model)
        b->model = b->peft_name;
    if (b->model)
        TRY(at_model_find(&found, &b->arena, b->model));
    if (!b->model || !at_path_exists(found.path))
        FAIL(AT_NOT_FOUND,
             "the base model %s%sis not here; name it with --model_name_or_path (a folder or a "
             "GGUF file)",
             b->model ? b->model : "", b->model ? " " : "");
    b->path = found.path;
    TRY(at_weights_open(&b->weights, b->path));
    TRY(at_model_config_read(&b->config, b->weights));
done:
    return st;
}

AT_CHECKED cli_check_bases(const char *const *dirs, size_t n, struct at_weights *weights)
{
    enum at_status st = AT_OK;

    for (size_t i = 0; i < n; i++)
        TRY(at_adapter_check_base(dirs[i], weights));
done:
    return st;
}

void cli_base_close(struct cli_base *b)
{
    at_weights_close(&b->weights);
    at_arena_release(&b->arena);
}
