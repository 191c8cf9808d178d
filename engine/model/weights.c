#include "weights_file.h"

#include <stdlib.h>
#include <string.h>

enum { DIGEST_PIECE_BYTES = 1 << 24 };

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool is_pickle_name(const char *name)
{
    return ends_with(name, ".bin") || ends_with(name, ".pt") || ends_with(name, ".pth") ||
           ends_with(name, ".ckpt") || ends_with(name, ".pkl");
}

static enum at_status refuse_pickle(const char *path)
{
    return at_fail(AT_DATA,
                   "%s: a pickle file; it is not read, since such files can run code. Convert the "
                   "model to safetensors (save_pretrained(..., safe_serialization=True))",
                   path);
}

/* ---- one lifetime ---- */

static AT_CHECKED create(struct at_weights **out, size_t n_shards)
{
    enum at_status st = AT_OK;
    struct at_weights *weights = NULL;

    *out = NULL;
    TRY(at_alloc(&weights, 1, sizeof *weights));
    TRY(at_alloc(&weights->arena, 1, sizeof *weights->arena));
    TRY(at_alloc(&weights->shards, n_shards, sizeof *weights->shards));
    *out = weights;
    weights = NULL;
done:
    at_weights_close(&weights);
    return st;
}

void at_weights_close(struct at_weights **weights)
{
    struct at_weights *w = *weights;

    if (!w)
        return;
    for (size_t i = 0; i < w->n_shards; i++)
        at_map_close(&w->shards[i].map);
    at_free(&w->shards);
    at_free(&w->sources);
    at_free(&w->by_name);
    at_free(&w->items);
    at_free(&w->items_by_key);
    at_json_free(&w->config);
    at_json_free(&w->metadata);
    at_free(&w->quantise.errors);
    at_free(&w->quantise.scales);
    if (w->arena)
        at_arena_release(w->arena);
    at_free(&w->arena);
    at_free(weights);
}

/* Maps the next shard; n_shards of create() is not exceeded. */
static AT_CHECKED add_shard(struct at_weights *weights, struct at_shard **out, const char *path)
{
    struct at_shard *shard = &weights->shards[weights->n_shards];
    enum at_status st = AT_OK;

    TRY(at_arena_strdup(weights->arena, &shard->path, path));
    TRY(at_map_open(&shard->map, path));
    at_map_in_runs(&shard->map);
    weights->n_shards++;
    *out = shard;
done:
    return st;
}

static int by_name(const void *a, const void *b)
{
    const struct at_source *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

/* The index by name; names are unique over all shards. */
static AT_CHECKED index_sources(struct at_weights *weights)
{
    const size_t n = weights->n_sources;
    enum at_status st = AT_OK;

    TRY(at_alloc(&weights->by_name, n, sizeof *weights->by_name));
    for (size_t i = 0; i < n; i++)
        weights->by_name[i] = &weights->sources[i];
    qsort(weights->by_name, n, sizeof *weights->by_name, by_name);
    for (size_t i = 1; i < n; i++)
        if (strcmp(weights->by_name[i - 1]->name, weights->by_name[i]->name) == 0)
            FAIL(AT_DATA, "%s: tensor %s stands twice%s%s", weights->by_name[i]->file,
                 weights->by_name[i]->name,
                 weights->by_name[i]->file == weights->by_name[i - 1]->file ? "" : ", also in ",
                 weights->by_name[i]->file == weights->by_name[i - 1]->file
                     ? ""
                     : weights->by_name[i - 1]->file);
done:
    return st;
}

/* ---- opening ---- */

typedef enum at_status parse_gguf(struct at_weights *weights, const struct at_shard *shard);

static AT_CHECKED open_gguf(struct at_weights **out, const char *path, parse_gguf *parse)
{
    enum at_status st = AT_OK;
    struct at_weights *weights = NULL;
    struct at_shard *shard = NULL;

    TRY(create(&weights, 1));
    TRY(add_shard(weights, &shard, path));
    TRY(parse(weights, shard));
    TRY(index_sources(weights));
    *out = weights;
    weights = NULL;
done:
    at_weights_close(&weights);
    return st;
}

AT_CHECKED at_weights_open_safetensors(struct at_weights **out, const char *path)
{
    enum at_status st = AT_OK;
    struct at_weights *weights = NULL;
    struct at_shard *shard = NULL;

    *out = NULL;
    TRY(create(&weights, 1));
    TRY(add_shard(weights, &shard, path));
    TRY(at_safetensors_parse(weights, shard));
    TRY(index_sources(weights));
    *out = weights;
    weights = NULL;
done:
    at_weights_close(&weights);
    return st;
}

/* A shard's name must be that of a file in the folder. */
static AT_CHECKED check_shard_name(const char *index_path, const char *tensor, const cJSON *name)
{
    if (!cJSON_IsString(name))
        return at_fail(AT_DATA, "%s: weight_map %.200s must be a file name", index_path, tensor);
    if (strpbrk(name->valuestring, "/\\:") || name->valuestring[0] == '.')
        return at_fail(AT_DATA,
                       "%s: weight_map %.200s: \"%.200s\" is not a file name in this folder",
                       index_path, tensor, name->valuestring);
    if (is_pickle_name(name->valuestring))
        return refuse_pickle(name->valuestring);
    if (!ends_with(name->valuestring, ".safetensors"))
        return at_fail(AT_DATA, "%s: weight_map %.200s: \"%.200s\" is not a .safetensors file",
                       index_path, tensor, name->valuestring);
    return AT_OK;
}

static bool lies_in(const char *path, const char *dir)
{
    const size_t n = strlen(dir);

    return strncmp(path, dir, n) == 0 && path[n] == '/';
}

/* A shard that is a link must stay in the model's folder; in Hugging Face's cache the files of
 * snapshots/<revision> are links to ../../blobs. */
static AT_CHECKED check_link(struct at_arena *arena, const char *dir, const char *path)
{
    enum at_status st = AT_OK;
    char *folder = NULL, *file = NULL, *parent = NULL, *blobs = NULL;

    TRY(at_path_real(arena, &folder, dir));
    TRY(at_path_real(arena, &file, path));
    if (lies_in(file, folder))
        goto done;
    TRY(at_path_dir(arena, &parent, folder));
    if (ends_with(parent, "/snapshots")) {
        TRY(at_path_dir(arena, &parent, parent));
        TRY(at_path_join(arena, &blobs, parent, "blobs"));
        if (lies_in(file, blobs))
            goto done;
    }
    FAIL(AT_DATA, "%s: a link out of the model's folder, to %s; put the file itself there", path,
         file);
done:
    return st;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Distinct file names of the map, sorted. */
static AT_CHECKED list_shards(const char ***out, size_t *out_n, const cJSON *map,
                              const char *index_path)
{
    enum at_status st = AT_OK;
    const size_t n = (size_t)cJSON_GetArraySize(map);
    const char **files = NULL;
    size_t distinct = 0, i = 0;

    *out = NULL;
    TRY(at_alloc(&files, n, sizeof *files));
    for (const cJSON *entry = map->child; entry; entry = entry->next) {
        TRY(check_shard_name(index_path, entry->string, entry));
        files[i++] = entry->valuestring;
    }
    qsort(files, n, sizeof *files, by_text);
    for (i = 0; i < n; i++)
        if (i == 0 || strcmp(files[i], files[distinct - 1]) != 0)
            files[distinct++] = files[i];
    *out = files;
    *out_n = distinct;
    files = NULL;
done:
    at_free(&files);
    return st;
}

/* Every tensor of the map is in the shard that the map says, and the shards hold no other. */
static AT_CHECKED check_index(const struct at_weights *weights, const cJSON *map,
                              const char *index_path)
{
    size_t n = 0;

    for (const cJSON *entry = map->child; entry; entry = entry->next, n++) {
        const struct at_source *source = at_weights_find(weights, entry->string);
        const char *slash = source ? strrchr(source->file, '/') : NULL;
        if (!source || strcmp(slash ? slash + 1 : source->file, entry->valuestring) != 0)
            return at_fail(AT_DATA, "%s: tensor %.200s is not in %s", index_path, entry->string,
                           entry->valuestring);
    }
    if (n != weights->n_sources)
        return at_fail(AT_DATA, "%s: weight_map names %zu tensors, the files hold %zu", index_path,
                       n, weights->n_sources);
    return AT_OK;
}

static AT_CHECKED open_sharded(struct at_weights **out, const char *dir, const char *index_path)
{
    enum at_status st = AT_OK;
    struct at_weights *weights = NULL;
    const char **files = NULL;
    cJSON *index = NULL;
    const cJSON *map = NULL;
    size_t n = 0;

    TRY(at_json_load(&index, index_path));
    map = at_json_find(index, "weight_map");
    if (!cJSON_IsObject(map) || !map->child)
        FAIL(AT_DATA, "%s: weight_map is missing or empty", index_path);
    TRY(list_shards(&files, &n, map, index_path));
    TRY(create(&weights, n));
    for (size_t i = 0; i < n; i++) {
        struct at_shard *shard = NULL;
        char *path = NULL;
        TRY(at_path_join(weights->arena, &path, dir, files[i]));
        TRY(check_link(weights->arena, dir, path));
        TRY(add_shard(weights, &shard, path));
        TRY(at_safetensors_parse(weights, shard));
    }
    TRY(index_sources(weights));
    TRY(check_index(weights, map, index_path));
    *out = weights;
    weights = NULL;
done:
    at_weights_close(&weights);
    at_free(&files);
    at_json_free(&index);
    return st;
}

/* A folder without safetensors: says what it has instead. */
static AT_CHECKED refuse_folder(struct at_arena *arena, const char *dir)
{
    enum at_status st = AT_OK;
    char **names = NULL;
    size_t n = 0;

    TRY(at_dir_list(arena, &names, &n, dir));
    for (size_t i = 0; i < n; i++) {
        char *path = NULL;
        TRY(at_path_join(arena, &path, dir, names[i]));
        if (ends_with(names[i], ".gguf"))
            FAIL(AT_NOT_FOUND, "%s: no model.safetensors; for the GGUF file give its path, %s", dir,
                 path);
        if (is_pickle_name(names[i]))
            TRY(refuse_pickle(path));
    }
    FAIL(AT_NOT_FOUND, "%s: neither model.safetensors nor model.safetensors.index.json", dir);
done:
    return st;
}

static AT_CHECKED open_folder(struct at_weights **out, const char *dir)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    struct at_weights *weights = NULL;
    char *file = NULL, *index = NULL, *config = NULL;

    TRY(at_path_join(&arena, &file, dir, "model.safetensors"));
    TRY(at_path_join(&arena, &index, dir, "model.safetensors.index.json"));
    TRY(at_path_join(&arena, &config, dir, "config.json"));
    if (at_path_exists(file)) {
        TRY(at_weights_open_safetensors(&weights, file));
    } else if (at_path_exists(index)) {
        TRY(open_sharded(&weights, dir, index));
    } else {
        st = refuse_folder(&arena, dir);
        goto done;
    }
    TRY(at_json_load_python(&weights->config, config));
    TRY(at_arena_strdup(weights->arena, &weights->config_path, config));
    TRY(at_bnb_attach(weights));
    *out = weights;
    weights = NULL;
done:
    at_weights_close(&weights);
    at_arena_release(&arena);
    return st;
}

static AT_CHECKED open_by(struct at_weights **out, const char *path, parse_gguf *parse)
{
    *out = NULL;
    if (at_path_is_dir(path))
        return open_folder(out, path);
    if (!at_path_exists(path))
        return at_fail(AT_NOT_FOUND, "%s: no such file or folder", path);
    if (is_pickle_name(path))
        return refuse_pickle(path);
    if (ends_with(path, ".safetensors"))
        return at_fail(AT_DATA, "%s: give the folder that holds it, with its config.json", path);
    return open_gguf(out, path, parse);
}

AT_CHECKED at_weights_open(struct at_weights **out, const char *path)
{
    return open_by(out, path, at_gguf_parse);
}

AT_CHECKED at_weights_open_header(struct at_weights **out, const char *path)
{
    return open_by(out, path, at_gguf_parse_header);
}

/* ---- looking ---- */

bool at_weights_is_gguf(const struct at_weights *weights)
{
    return weights->items != NULL;
}

bool at_weights_lack_data(const struct at_weights *weights)
{
    return weights->lacks_data;
}

size_t at_weights_count(const struct at_weights *weights)
{
    return weights->n_sources;
}

const struct at_source *at_weights_get(const struct at_weights *weights, size_t i)
{
    AT_REQUIRE(i < weights->n_sources);
    return &weights->sources[i];
}

const struct at_source *at_weights_find(const struct at_weights *weights, const char *name)
{
    size_t begin = 0, end = weights->n_sources;

    while (begin < end) {
        const size_t middle = begin + (end - begin) / 2;
        const int order = strcmp(weights->by_name[middle]->name, name);
        if (order == 0)
            return weights->by_name[middle];
        if (order < 0)
            begin = middle + 1;
        else
            end = middle;
    }
    return NULL;
}

const cJSON *at_weights_config(const struct at_weights *weights)
{
    return weights->config;
}

void at_weights_drop_pages(const struct at_weights *weights)
{
    for (size_t i = 0; i < weights->n_shards; i++)
        at_map_drop(&weights->shards[i].map, 0, weights->shards[i].map.n);
}

const char *at_weights_metadata(const struct at_weights *weights, const char *key)
{
    const cJSON *value = weights->metadata ? at_json_find(weights->metadata, key) : NULL;

    return value ? value->valuestring : NULL;
}

/* By name, so that the digest does not depend on the order of shards. */
AT_CHECKED at_weights_digest(struct at_weights *weights, char hex[65])
{
    struct at_hash hash;

    if (weights->digest.hex[0] == 0) {
        at_hash_init(&hash);
        for (size_t i = 0; i < weights->n_sources; i++) {
            const struct at_source *s = weights->by_name[i];
            at_hash_put_text(&hash, s->name);
            at_hash_put_text(&hash, s->type_name);
            at_hash_put(&hash, &s->n_dims, sizeof s->n_dims);
            at_hash_put(&hash, s->dim, s->n_dims * sizeof s->dim[0]);
            for (uint64_t at = 0; at < s->n_bytes; at += DIGEST_PIECE_BYTES) {
                const uint64_t left = s->n_bytes - at;
                const uint64_t n = left < DIGEST_PIECE_BYTES ? left : DIGEST_PIECE_BYTES;
                at_hash_put(&hash, s->data + at, n);
                at_map_drop(s->map, (size_t)(s->data - s->map->data) + at, n);
            }
        }
        weights->digest = at_hash_end(&hash);
    }
    memcpy(hex, weights->digest.hex, sizeof weights->digest.hex);
    return AT_OK;
}
