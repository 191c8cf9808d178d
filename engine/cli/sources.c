#include "sources.h"

#include "chat.h"
#include "os.h"
#include "stores.h"

#include <string.h>

static AT_CHECKED put_file(struct at_hash *hash, const char *path)
{
    enum at_status st = AT_OK;
    struct at_digest digest;

    TRY(at_hash_file(&digest, path));
    at_hash_put_text(hash, digest.hex);
done:
    return st;
}

/* A folder's files that a run reads: of its model, adapter and tokenizer. */
static bool is_source(const char *name)
{
    static const char *const names[] = {
        "adapter_config.json",          "chat_template.jinja",     "config.json",
        "model.safetensors.index.json", "special_tokens_map.json", "tokenizer.json",
        "tokenizer_config.json"
    };
    static const char weights[] = ".safetensors";
    const size_t n = strlen(name), end = sizeof weights - 1;

    for (size_t i = 0; i < AT_COUNT(names); i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return n > end && strcmp(name + n - end, weights) == 0;
}

/* Read where there is no tokenizer.json. */
static bool is_vocabulary(const char *name)
{
    return strcmp(name, "merges.txt") == 0 || strcmp(name, "vocab.json") == 0;
}

static bool is_template(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot && strcmp(dot, ".jinja") == 0;
}

/* Names and bytes of the files in a folder that `is_read`, in order of their names. */
static AT_CHECKED put_folder(struct at_hash *hash, struct at_arena *arena, const char *folder,
                             bool (*is_read)(const char *name))
{
    enum at_status st = AT_OK;
    char **names = NULL, *file = NULL;
    size_t n = 0;

    TRY(at_dir_list(arena, &names, &n, folder));
    for (size_t i = 0; i < n; i++) {
        if (!is_read(names[i]))
            continue;
        at_hash_put_text(hash, names[i]);
        TRY(at_path_join(arena, &file, folder, names[i]));
        TRY(put_file(hash, file));
    }
done:
    return st;
}

AT_CHECKED cli_put_source(struct at_hash *hash, struct at_arena *arena, const char *named)
{
    enum at_status st = AT_OK;
    struct at_found_model found;
    const char *path = NULL;
    char *more = NULL;

    TRY(at_model_find(&found, arena, named));
    path = found.path;
    if (!at_path_is_dir(path)) {
        TRY(put_file(hash, path));
        goto done;
    }
    TRY(put_folder(hash, arena, path, is_source));
    TRY(at_path_join(arena, &more, path, "tokenizer.json"));
    if (!at_path_exists(more))
        TRY(put_folder(hash, arena, path, is_vocabulary));
    TRY(at_path_join(arena, &more, path, "additional_chat_templates"));
    if (at_path_is_dir(more))
        TRY(put_folder(hash, arena, more, is_template));
done:
    return st;
}

AT_CHECKED cli_rewards_open(struct at_rewards **out, const struct at_config *c)
{
    *out = NULL;
    if (!at_key_read_by(AT_KEY_reward_funcs, c->run_method) || !c->reward_funcs)
        return AT_OK;
    return at_rewards_open(out, &(struct at_rewards_params){ .funcs = c->reward_funcs });
}

AT_CHECKED cli_sources_of(const char *out[CLI_SOURCES], struct at_arena *arena,
                          const struct at_config *c)
{
    enum at_status st = AT_OK;
    struct at_rewards *rewards = NULL;
    uint32_t n = 5;

    memset(out, 0, CLI_SOURCES * sizeof *out);
    out[0] = c->model_name_or_path;
    out[1] = c->adapter_name_or_path;
    out[2] = c->tokenizer;
    out[3] = c->chat_template_path && at_chat_template_is_name(c->chat_template_path)
                 ? NULL
                 : c->chat_template_path;
    out[4] = c->ref_model_name_or_path;
    TRY(cli_rewards_open(&rewards, c));
    for (uint32_t k = 0; rewards && k < at_rewards_count(rewards); k++) {
        char *path = NULL;
        if (at_rewards_kind(rewards, k) != AT_REWARD_MODEL)
            continue;
        TRY(at_arena_strdup(arena, &path, at_rewards_what(rewards, k)));
        out[n++] = path;
    }
done:
    at_rewards_close(&rewards);
    return st;
}
