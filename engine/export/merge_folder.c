/* Merged models as Hugging Face folders: the base's safetensors files one by one under their names,
 * its tokenizer, and its config.json with what the merge changes. */
#include "merge.h"

#include <string.h>

static const char *const text_files[] = {
    "added_tokens.json", "chat_template.jinja",     "generation_config.json",
    "merges.txt",        "special_tokens_map.json", "tokenizer.json",
    "tokenizer.model",   "tokenizer_config.json",   "vocab.json",
};

static const char templates[] = "additional_chat_templates"; /* a folder of them */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static enum at_status put(void *context, const void *bytes, uint64_t n)
{
    return at_safetensors_put(context, bytes, n);
}

/* The file that a tensor is written to: the one that holds it in the base; what the base does not
 * hold, the head of a tied model, goes to the last one. */
static const char *file_of(const struct at_merge *m, size_t i)
{
    const struct at_source *s = at_weights_find(m->params->base, m->tensors[i].name);

    if (!s)
        s = at_weights_find(m->params->base, m->tensors[i - 1].name);
    AT_REQUIRE(s);
    return base_name(s->file);
}

static AT_CHECKED write_shard(struct at_merge *m, const char *dir, const char *file)
{
    enum at_status st = AT_OK;
    struct at_safetensors_entry *entries = NULL;
    struct at_safetensors_writer *writer = NULL;
    char *path = NULL;
    size_t n = 0;

    TRY(at_arena_alloc(&m->arena, &entries, m->n, sizeof *entries));
    for (size_t i = 0; i < m->n; i++) {
        const struct at_merged_tensor *t = &m->tensors[i];
        if (strcmp(file_of(m, i), file) != 0)
            continue;
        entries[n] = (struct at_safetensors_entry){ .name = t->name,
                                                    .dtype = at_merged_type(t),
                                                    .n_dims = t->source->n_dims,
                                                    .n_bytes = t->n_bytes };
        memcpy(entries[n++].dim, t->source->dim, sizeof entries->dim);
    }
    TRY(at_path_join(&m->arena, &path, dir, file));
    TRY(at_safetensors_create(&writer, path, entries, n, NULL, 0));
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(file_of(m, i), file) == 0)
            TRY(at_merge_write(m, i, put, writer));
    TRY(at_safetensors_commit(writer));
done:
    at_safetensors_close(&writer);
    return st;
}

/* All files, and the index where there are several. */
static AT_CHECKED write_tensors(struct at_merge *m, const char *dir)
{
    enum at_status st = AT_OK;
    cJSON *index = cJSON_CreateObject();
    cJSON *sizes = cJSON_AddObjectToObject(index, "metadata");
    cJSON *map = cJSON_AddObjectToObject(index, "weight_map");
    char *path = NULL;
    double total = 0;
    bool several = false;

    for (size_t i = 0; i < m->n; i++) {
        const char *file = file_of(m, i);
        bool written = false;
        for (size_t k = 0; k < i && !written; k++)
            written = strcmp(file_of(m, k), file) == 0;
        if (!written)
            TRY(write_shard(m, dir, file));
        several = several || strcmp(file, file_of(m, 0)) != 0;
        cJSON_AddStringToObject(map, m->tensors[i].name, file);
        total += (double)m->tensors[i].n_bytes;
    }
    cJSON_AddNumberToObject(sizes, "total_size", total);
    if (several) {
        TRY(at_path_join(&m->arena, &path, dir, "model.safetensors.index.json"));
        TRY(at_json_save(path, index));
    }
done:
    cJSON_Delete(index);
    return st;
}

/* "float16", as config.json names it. */
static const char *torch_type(const struct at_format *format)
{
    return format->type == AT_F32 ? "float32" : format->type == AT_F16 ? "float16" : "bfloat16";
}

/* Numbers as they were written: transformers tells 4.0 from 4. */
static void keep_numbers(cJSON *json)
{
    for (cJSON *child = json->child; child; child = child->next) {
        if (cJSON_IsNumber(child) && child->valuestring)
            child->type = cJSON_Raw;
        keep_numbers(child);
    }
}

static AT_CHECKED write_config(struct at_merge *m, const char *dir)
{
    static const char *const keys[] = { "dtype", "torch_dtype" };
    enum at_status st = AT_OK;
    cJSON *config = cJSON_Duplicate(at_weights_config(m->params->base), true);
    char *path = NULL;

    for (size_t i = 0; m->params->type && i < AT_COUNT(keys); i++)
        if (at_json_find(config, keys[i]))
            cJSON_ReplaceItemInObjectCaseSensitive(config, keys[i],
                                                   cJSON_CreateString(torch_type(m->params->type)));
    if (m->params->type)
        cJSON_DeleteItemFromObjectCaseSensitive(config, "quantization_config");
    if (m->unties) {
        cJSON_DeleteItemFromObjectCaseSensitive(config, "tie_word_embeddings");
        cJSON_AddFalseToObject(config, "tie_word_embeddings");
    }
    keep_numbers(config);
    TRY(at_path_join(&m->arena, &path, dir, "config.json"));
    TRY(at_json_save(path, config));
done:
    cJSON_Delete(config);
    return st;
}

/* A file of folder `from`, where it has it. */
static AT_CHECKED copy_file(struct at_merge *m, const char *from, const char *to, const char *name)
{
    enum at_status st = AT_OK;
    struct at_map map = { .n = 0 };
    char *source = NULL, *target = NULL;

    TRY(at_path_join(&m->arena, &source, from, name));
    TRY(at_path_join(&m->arena, &target, to, name));
    if (!at_path_exists(source) || at_path_is_dir(source))
        goto done;
    TRY(at_map_open(&map, source));
    TRY(at_file_write_atomic(target, map.data, map.n));
done:
    at_map_close(&map);
    return st;
}

static AT_CHECKED copy_texts(struct at_merge *m, const char *dir)
{
    enum at_status st = AT_OK;
    char *from = NULL, *to = NULL, **names = NULL;
    size_t n = 0;

    for (size_t i = 0; i < AT_COUNT(text_files); i++)
        TRY(copy_file(m, m->params->path, dir, text_files[i]));
    TRY(at_path_join(&m->arena, &from, m->params->path, templates));
    TRY(at_path_join(&m->arena, &to, dir, templates));
    if (!at_path_is_dir(from))
        goto done;
    TRY(at_dir_create(to));
    TRY(at_dir_list(&m->arena, &names, &n, from));
    for (size_t i = 0; i < n; i++)
        TRY(copy_file(m, from, to, names[i]));
done:
    return st;
}

AT_CHECKED at_merge_folder(struct at_merge *m, const char *dir)
{
    enum at_status st = AT_OK;

    TRY(at_dir_create(dir));
    TRY(write_tensors(m, dir));
    TRY(copy_texts(m, dir));
    TRY(write_config(m, dir));
done:
    return st;
}
