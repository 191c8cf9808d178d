#include "weights_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The format's own limit on the header (safetensors, MAX_HEADER_SIZE). A header of 65,536 tensors
 * has about 9 elements (commas, brackets) a tensor; more would only make a tree many times larger
 * than the file. */
enum { MAX_HEADER_BYTES = 100000000, MAX_ELEMENTS = 600000 };

static const struct {
    const char *name;
    uint32_t bytes;
    enum at_quant_type type;
} dtypes[] = {
    { "BF16", 2, AT_BF16 },
    { "BOOL", 1, AT_QUANT_COUNT },
    { "C64", 8, AT_QUANT_COUNT },
    { "F16", 2, AT_F16 },
    { "F32", 4, AT_F32 },
    { "F64", 8, AT_QUANT_COUNT },
    { "F8_E4M3", 1, AT_QUANT_COUNT },
    { "F8_E5M2", 1, AT_QUANT_COUNT },
    { "F8_E8M0", 1, AT_QUANT_COUNT },
    { "I16", 2, AT_QUANT_COUNT },
    { "I32", 4, AT_QUANT_COUNT },
    { "I64", 8, AT_QUANT_COUNT },
    { "I8", 1, AT_QUANT_COUNT },
    { "U16", 2, AT_QUANT_COUNT },
    { "U32", 4, AT_QUANT_COUNT },
    { "U64", 8, AT_QUANT_COUNT },
    { "U8", 1, AT_QUANT_COUNT },
};

/* A zip (PyTorch's files since 1.6) or a bare pickle. A header of 128 bytes begins as a pickle of
 * protocol 0 does, so only a file that is no safetensors file is asked. */
static bool looks_like_pickle(const struct at_map *map)
{
    return map->n >= 4 &&
           (memcmp(map->data, "PK\3\4", 4) == 0 || (map->data[0] == 0x80 && map->data[1] < 6));
}

static bool is_safetensors(const struct at_map *map, uint64_t header_bytes)
{
    return map->n > 8 && header_bytes >= 2 && header_bytes <= map->n - 8 && map->data[8] == '{';
}

/* The text of the header; its length is checked before anything is read. */
static AT_CHECKED find_header(const char **text, size_t *n, const struct at_shard *shard)
{
    const struct at_map *map = &shard->map;
    enum at_status st = AT_OK;
    uint64_t bytes = 0;

    memcpy(&bytes, map->data, map->n < 8 ? map->n : 8);
    if (!is_safetensors(map, bytes) && looks_like_pickle(map))
        FAIL(AT_DATA,
             "%s: this is a pickle or zip file under another name; it is not read, since such "
             "files can run code. Convert it with a trusted tool (save_pretrained(..., "
             "safe_serialization=True))",
             shard->path);
    if (map->n >= 4 && memcmp(map->data, "GGUF", 4) == 0)
        FAIL(AT_DATA, "%s: this is a GGUF file; give it a name that ends in .gguf", shard->path);
    if (map->n < 8)
        FAIL(AT_DATA, "%s: %zu bytes; a safetensors file has 8 at least", shard->path, map->n);
    if (bytes > MAX_HEADER_BYTES)
        FAIL(AT_DATA, "%s: header of %llu bytes; the format allows %d", shard->path,
             (unsigned long long)bytes, MAX_HEADER_BYTES);
    if (bytes > map->n - 8)
        FAIL(AT_DATA, "%s: header of %llu bytes, but the file has %zu (cut short?)", shard->path,
             (unsigned long long)bytes, map->n);
    if (!is_safetensors(map, bytes))
        FAIL(AT_DATA, "%s: the header does not start with '{': not a safetensors file",
             shard->path);
    *text = (const char *)map->data + 8;
    *n = bytes;
done:
    return st;
}

/* A tensor's entry takes at least 50 bytes of text and has few elements. */
static AT_CHECKED check_density(const struct at_shard *shard, const char *text, size_t n)
{
    size_t elements = 0;

    for (size_t i = 0; i < n; i++)
        elements += text[i] == ',' || text[i] == '[' || text[i] == '{';
    if (elements > n / 4 + 64 || elements > MAX_ELEMENTS)
        return at_fail(AT_DATA, "%s: the header has %zu elements in %zu bytes: not tensor entries",
                       shard->path, elements, n);
    return AT_OK;
}

static bool get_u64(uint64_t *out, const cJSON *item)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) ||
        item->valuedouble > 9007199254740992.0 || item->valuedouble != floor(item->valuedouble))
        return false;
    *out = (uint64_t)item->valuedouble;
    return true;
}

static AT_CHECKED parse_shape(struct at_source *s, const cJSON *shape, uint32_t element_bytes)
{
    enum at_status st = AT_OK;
    size_t n = 1;

    if (!cJSON_IsArray(shape) || cJSON_GetArraySize(shape) > (int)AT_COUNT(s->dim))
        FAIL(AT_DATA, "%s: tensor %s: shape must be an array of at most %zu numbers", s->file,
             s->name, AT_COUNT(s->dim));
    for (const cJSON *d = shape->child; d; d = d->next) {
        uint64_t dim = 0;
        if (!get_u64(&dim, d))
            FAIL(AT_DATA, "%s: tensor %s: shape holds something that is not a whole number",
                 s->file, s->name);
        s->dim[s->n_dims++] = dim;
        if (!at_mul_ok(&n, n, dim))
            FAIL(AT_DATA, "%s: tensor %s: the shape's product overflows", s->file, s->name);
    }
    s->cols = s->n_dims > 0 ? s->dim[s->n_dims - 1] : 1;
    s->rows = s->cols > 0 ? n / s->cols : 0;
    if (!at_mul_ok(&n, n, element_bytes))
        FAIL(AT_DATA, "%s: tensor %s: the shape's product overflows", s->file, s->name);
    s->n_bytes = n;
    s->row_bytes = s->cols * element_bytes;
done:
    return st;
}

/* `begin` of the tensor in the buffer is left in *out_begin. */
static AT_CHECKED parse_tensor(struct at_source *s, const cJSON *entry, uint64_t buffer_bytes,
                               const uint8_t *buffer)
{
    const cJSON *offsets = at_json_find(entry, "data_offsets");
    const cJSON *dtype = at_json_find(entry, "dtype");
    enum at_status st = AT_OK;
    uint64_t begin = 0, end = 0;
    uint32_t element_bytes = 0;

    if (!cJSON_IsString(dtype))
        FAIL(AT_DATA, "%s: tensor %s: dtype is missing", s->file, s->name);
    for (size_t i = 0; i < AT_COUNT(dtypes); i++)
        if (strcmp(dtypes[i].name, dtype->valuestring) == 0) {
            s->type = dtypes[i].type;
            s->format = s->type != AT_QUANT_COUNT ? at_format_find(dtypes[i].name) : NULL;
            s->type_name = dtypes[i].name;
            element_bytes = dtypes[i].bytes;
        }
    if (element_bytes == 0)
        FAIL(AT_DATA, "%s: tensor %s: unknown dtype %.40s", s->file, s->name, dtype->valuestring);
    TRY(parse_shape(s, at_json_find(entry, "shape"), element_bytes));
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !get_u64(&begin, offsets->child) || !get_u64(&end, offsets->child->next))
        FAIL(AT_DATA, "%s: tensor %s: data_offsets must be two whole numbers", s->file, s->name);
    if (begin > end || end > buffer_bytes)
        FAIL(AT_DATA, "%s: tensor %s: data_offsets [%llu, %llu], but the data has %llu bytes%s",
             s->file, s->name, (unsigned long long)begin, (unsigned long long)end,
             (unsigned long long)buffer_bytes, begin > end ? "" : " (cut short?)");
    if (end - begin != s->n_bytes)
        FAIL(AT_DATA, "%s: tensor %s: data_offsets span %llu bytes, shape and dtype need %llu",
             s->file, s->name, (unsigned long long)(end - begin), (unsigned long long)s->n_bytes);
    s->data = buffer + begin;
done:
    return st;
}

static int by_place(const void *a, const void *b)
{
    const struct at_source *x = a, *y = b;

    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return x->n_bytes < y->n_bytes ? -1 : x->n_bytes > y->n_bytes;
}

/* Tensors (sorted by place) must tile the buffer: no overlap, hole or trailing bytes. One without
 * bytes lies where another begins or at the end. */
static AT_CHECKED check_tiling(const struct at_shard *shard, const struct at_source *sources,
                               size_t n, const uint8_t *buffer)
{
    const uint8_t *at = buffer, *end = shard->map.data + shard->map.n;

    for (size_t i = 0; i < n; i++) {
        if (sources[i].data != at)
            return at_fail(AT_DATA, "%s: tensor %s begins at byte %zu of the data; %s %zu",
                           shard->path, sources[i].name, (size_t)(sources[i].data - buffer),
                           sources[i].data < at ? "it overlaps the one before, which ends at"
                                                : "there is a hole from",
                           (size_t)(at - buffer));
        at += sources[i].n_bytes;
    }
    if (at != end)
        return at_fail(AT_DATA, "%s: %zu bytes follow the last tensor", shard->path,
                       (size_t)(end - at));
    return AT_OK;
}

static AT_CHECKED check_metadata(const struct at_shard *shard, const cJSON *metadata)
{
    if (!cJSON_IsObject(metadata))
        return at_fail(AT_DATA, "%s: __metadata__ must be an object", shard->path);
    for (const cJSON *pair = metadata->child; pair; pair = pair->next)
        if (!cJSON_IsString(pair))
            return at_fail(AT_DATA, "%s: __metadata__ %.80s must be a string", shard->path,
                           pair->string);
    return AT_OK;
}

static AT_CHECKED parse_entries(struct at_weights *weights, const struct at_shard *shard,
                                const cJSON *header, const uint8_t *buffer)
{
    const uint64_t buffer_bytes = (uint64_t)(shard->map.data + shard->map.n - buffer);
    const size_t first = weights->n_sources, n = (size_t)cJSON_GetArraySize(header);
    enum at_status st = AT_OK;

    TRY(at_realloc(&weights->sources, first, first + n + 1, sizeof *weights->sources));
    for (const cJSON *entry = header->child; entry; entry = entry->next) {
        struct at_source s = { .file = shard->path, .map = &shard->map, .type = AT_QUANT_COUNT };
        char *name = NULL;
        if (strcmp(entry->string, "__metadata__") == 0) {
            TRY(check_metadata(shard, entry));
            continue;
        }
        if (entry->string[0] == 0 || !cJSON_IsObject(entry))
            FAIL(AT_DATA, "%s: tensor \"%.80s\": needs a name and an object", shard->path,
                 entry->string);
        TRY(at_arena_strdup(weights->arena, &name, entry->string));
        s.name = name;
        TRY(parse_tensor(&s, entry, buffer_bytes, buffer));
        weights->sources[weights->n_sources++] = s;
    }
    qsort(weights->sources + first, weights->n_sources - first, sizeof *weights->sources, by_place);
    TRY(check_tiling(shard, weights->sources + first, weights->n_sources - first, buffer));
done:
    return st;
}

AT_CHECKED at_safetensors_parse(struct at_weights *weights, const struct at_shard *shard)
{
    enum at_status st = AT_OK;
    cJSON *header = NULL;
    const char *text = NULL;
    size_t n = 0;

    TRY(find_header(&text, &n, shard));
    TRY(check_density(shard, text, n));
    TRY(at_json_parse(&header, text, n, shard->path, 1));
    if (!cJSON_IsObject(header))
        FAIL(AT_DATA, "%s: the header is not an object", shard->path);
    TRY(parse_entries(weights, shard, header, (const uint8_t *)text + n));
    if (!weights->metadata)
        weights->metadata = cJSON_DetachItemFromObjectCaseSensitive(header, "__metadata__");
done:
    at_json_free(&header);
    return st;
}
