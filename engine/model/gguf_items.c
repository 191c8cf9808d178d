/* GGUF metadata: keys and typed values. */
#include "weights_file.h"

#include <stdlib.h>
#include <string.h>

/* The specification's limit on keys; alignments beyond a page or two serve nobody. */
enum { MAX_KEY_BYTES = 65535, MIN_ALIGNMENT = 8, MAX_ALIGNMENT = 65536 };

static const struct {
    const char *name;
    uint32_t bytes;
} kinds[] = {
    [AT_GGUF_U8] = { "uint8", 1 },      [AT_GGUF_I8] = { "int8", 1 },
    [AT_GGUF_U16] = { "uint16", 2 },    [AT_GGUF_I16] = { "int16", 2 },
    [AT_GGUF_U32] = { "uint32", 4 },    [AT_GGUF_I32] = { "int32", 4 },
    [AT_GGUF_F32] = { "float32", 4 },   [AT_GGUF_BOOL] = { "bool", 1 },
    [AT_GGUF_STRING] = { "string", 0 }, [AT_GGUF_ARRAY] = { "array", 0 },
    [AT_GGUF_U64] = { "uint64", 8 },    [AT_GGUF_I64] = { "int64", 8 },
    [AT_GGUF_F64] = { "float64", 8 },
};

/* ---- parsing ---- */

static AT_CHECKED check_bools(const struct at_shard *shard, const struct at_gguf_item *item)
{
    for (uint64_t i = 0; i < item->n; i++)
        if (item->value[i] > 1)
            return at_fail(AT_DATA, "%s: key %s: a bool is %u, expected 0 or 1", shard->path,
                           item->key, item->value[i]);
    return AT_OK;
}

static AT_CHECKED parse_array(const struct at_shard *shard, size_t *at, struct at_gguf_item *item)
{
    enum at_status st = AT_OK;
    uint64_t element = 0, least = 0;

    TRY(at_gguf_take(&element, shard, at, 4, "an array's type"));
    if (element >= AT_COUNT(kinds) || element == AT_GGUF_ARRAY)
        FAIL(AT_DATA, "%s: key %s: an array of type %llu is not read%s", shard->path, item->key,
             (unsigned long long)element, element == AT_GGUF_ARRAY ? " (nested arrays)" : "");
    item->element = (enum at_gguf_type)element;
    TRY(at_gguf_take(&item->n, shard, at, 8, "an array's length"));
    item->value = shard->map.data + *at;
    /* A string takes 8 bytes at least. */
    least = element == AT_GGUF_STRING ? 8 : kinds[element].bytes;
    if (item->n > (shard->map.n - *at) / least)
        FAIL(AT_DATA, "%s: key %s: %llu elements cannot fit in the %zu bytes left", shard->path,
             item->key, (unsigned long long)item->n, shard->map.n - *at);
    if (element != AT_GGUF_STRING) {
        *at += item->n * least;
        if (element == AT_GGUF_BOOL)
            TRY(check_bools(shard, item));
        goto done;
    }
    for (uint64_t i = 0; i < item->n; i++) {
        const uint8_t *text = NULL;
        uint64_t n = 0;
        TRY(at_gguf_take_string(&text, &n, shard, at, "an array's string"));
    }
done:
    return st;
}

static AT_CHECKED parse_value(const struct at_shard *shard, size_t *at, struct at_gguf_item *item)
{
    enum at_status st = AT_OK;
    uint64_t type = 0, ignored = 0;

    TRY(at_gguf_take(&type, shard, at, 4, "a value's type"));
    if (type >= AT_COUNT(kinds))
        FAIL(AT_DATA, "%s: key %s has unknown value type %lld", shard->path, item->key,
             (long long)(int32_t)type);
    item->type = (enum at_gguf_type)type;
    item->n = 1;
    item->value = shard->map.data + *at;
    if (type == AT_GGUF_ARRAY)
        TRY(parse_array(shard, at, item));
    else if (type == AT_GGUF_STRING)
        TRY(at_gguf_take_string(&item->value, &item->n, shard, at, item->key));
    else
        TRY(at_gguf_take(&ignored, shard, at, kinds[type].bytes, item->key));
    if (type == AT_GGUF_BOOL)
        TRY(check_bools(shard, item));
done:
    return st;
}

static AT_CHECKED parse_item(struct at_weights *weights, const struct at_shard *shard, size_t *at,
                             struct at_gguf_item *item)
{
    enum at_status st = AT_OK;
    const uint8_t *text = NULL;
    uint64_t n = 0;

    *item = (struct at_gguf_item){ .at = *at };
    TRY(at_gguf_take_string(&text, &n, shard, at, "a key"));
    if (n == 0 || n > MAX_KEY_BYTES)
        FAIL(AT_DATA, "%s: key at byte %zu has %llu bytes; 1 to %d are allowed", shard->path,
             item->at, (unsigned long long)n, MAX_KEY_BYTES);
    if (memchr(text, 0, n) || at_utf8_check((const char *)text, n) != n)
        FAIL(AT_DATA, "%s: key at byte %zu is not UTF-8 text", shard->path, item->at);
    TRY(at_arena_strndup(weights->arena, &item->key, (const char *)text, n));
    TRY(parse_value(shard, at, item));
    item->end = *at;
done:
    return st;
}

static int by_key(const void *a, const void *b)
{
    const struct at_gguf_item *const *x = a, *const *y = b;

    return strcmp((*x)->key, (*y)->key);
}

static const struct at_gguf_item *find(const struct at_weights *weights, const char *key)
{
    size_t begin = 0, end = weights->n_items;

    while (begin < end) {
        const size_t middle = begin + (end - begin) / 2;
        const int order = strcmp(weights->items_by_key[middle]->key, key);
        if (order == 0)
            return weights->items_by_key[middle];
        if (order < 0)
            begin = middle + 1;
        else
            end = middle;
    }
    return NULL;
}

static AT_CHECKED read_alignment(const struct at_weights *weights, const struct at_shard *shard,
                                 uint32_t *alignment)
{
    const struct at_gguf_item *item = find(weights, "general.alignment");

    if (!item)
        return AT_OK;
    if (item->type != AT_GGUF_U32)
        return at_fail(AT_DATA, "%s: general.alignment is a %s; it must be a uint32", shard->path,
                       kinds[item->type].name);
    memcpy(alignment, item->value, 4);
    if (*alignment < MIN_ALIGNMENT || *alignment > MAX_ALIGNMENT ||
        (*alignment & (*alignment - 1)) != 0)
        return at_fail(AT_DATA,
                       "%s: general.alignment is %u; it must be a power of two from %d to %d",
                       shard->path, *alignment, MIN_ALIGNMENT, MAX_ALIGNMENT);
    return AT_OK;
}

AT_CHECKED at_gguf_parse_items(struct at_weights *weights, const struct at_shard *shard, size_t *at,
                               uint64_t n, uint32_t *alignment)
{
    enum at_status st = AT_OK;

    TRY(at_alloc(&weights->items, n, sizeof *weights->items));
    TRY(at_alloc(&weights->items_by_key, n, sizeof *weights->items_by_key));
    for (size_t i = 0; i < n; i++) {
        TRY(parse_item(weights, shard, at, &weights->items[i]));
        weights->items_by_key[i] = &weights->items[i];
    }
    weights->n_items = n;
    qsort(weights->items_by_key, n, sizeof *weights->items_by_key, by_key);
    for (size_t i = 1; i < n; i++) {
        const struct at_gguf_item *a = weights->items_by_key[i - 1], *b = weights->items_by_key[i];
        if (strcmp(a->key, b->key) == 0)
            FAIL(AT_DATA, "%s: key %s stands twice, at bytes %zu and %zu", shard->path, a->key,
                 a->at < b->at ? a->at : b->at, a->at < b->at ? b->at : a->at);
    }
    TRY(read_alignment(weights, shard, alignment));
done:
    return st;
}

/* ---- getters ---- */

static AT_CHECKED wrong_type(const struct at_weights *weights, const struct at_gguf_item *item,
                             const char *expected)
{
    if (item->type == AT_GGUF_ARRAY)
        return at_fail(AT_DATA, "%s: key %s is an array of %s; expected %s",
                       weights->shards[0].path, item->key, kinds[item->element].name, expected);
    return at_fail(AT_DATA, "%s: key %s is a %s; expected %s", weights->shards[0].path, item->key,
                   kinds[item->type].name, expected);
}

AT_CHECKED at_gguf_get_u32(uint32_t *out, const struct at_weights *weights, const char *key)
{
    const struct at_gguf_item *item = find(weights, key);
    uint64_t value = 0;

    if (!item)
        return AT_OK;
    switch (item->type) {
    case AT_GGUF_U8:
    case AT_GGUF_U16:
    case AT_GGUF_U32:
    case AT_GGUF_U64:
    case AT_GGUF_I8:
    case AT_GGUF_I16:
    case AT_GGUF_I32:
    case AT_GGUF_I64:
        break;
    default:
        return wrong_type(weights, item, "a whole number");
    }
    const uint32_t bytes = kinds[item->type].bytes;
    const bool is_signed = item->type == AT_GGUF_I8 || item->type == AT_GGUF_I16 ||
                           item->type == AT_GGUF_I32 || item->type == AT_GGUF_I64;
    memcpy(&value, item->value, bytes);
    if ((is_signed && item->value[bytes - 1] > 127) || value > UINT32_MAX)
        return at_fail(AT_DATA, "%s: key %s is out of range (0 to %u)", weights->shards[0].path,
                       item->key, UINT32_MAX);
    *out = (uint32_t)value;
    return AT_OK;
}

AT_CHECKED at_gguf_get_double(double *out, const struct at_weights *weights, const char *key)
{
    const struct at_gguf_item *item = find(weights, key);
    float value = 0;

    if (!item)
        return AT_OK;
    if (item->type == AT_GGUF_F64) {
        memcpy(out, item->value, sizeof *out);
        return AT_OK;
    }
    if (item->type != AT_GGUF_F32)
        return wrong_type(weights, item, "a float");
    memcpy(&value, item->value, sizeof value);
    *out = (double)value;
    return AT_OK;
}

AT_CHECKED at_gguf_get_bool(bool *out, const struct at_weights *weights, const char *key)
{
    const struct at_gguf_item *item = find(weights, key);

    if (!item)
        return AT_OK;
    if (item->type != AT_GGUF_BOOL)
        return wrong_type(weights, item, "a bool");
    *out = item->value[0] != 0;
    return AT_OK;
}

AT_CHECKED at_gguf_get_string(const char **out, const struct at_weights *weights, const char *key)
{
    const struct at_gguf_item *item = find(weights, key);
    enum at_status st = AT_OK;
    char *copy = NULL;

    if (!item)
        return AT_OK;
    if (item->type != AT_GGUF_STRING)
        return wrong_type(weights, item, "a string");
    if (memchr(item->value, 0, item->n))
        FAIL(AT_DATA, "%s: key %s holds a NUL byte", weights->shards[0].path, key);
    TRY(at_arena_strndup(weights->arena, &copy, (const char *)item->value, item->n));
    *out = copy;
done:
    return st;
}

AT_CHECKED at_gguf_get_strings(const char *const **out, const size_t **lengths, size_t *n,
                               const struct at_weights *weights, const char *key)
{
    const struct at_gguf_item *item = find(weights, key);
    enum at_status st = AT_OK;
    const char **texts = NULL;
    size_t *sizes = NULL, at = 0;

    if (!item)
        return AT_OK;
    if (item->type != AT_GGUF_ARRAY || item->element != AT_GGUF_STRING)
        return wrong_type(weights, item, "an array of strings");
    at = (size_t)(item->value - weights->shards[0].map.data);
    TRY(at_arena_alloc(weights->arena, &texts, item->n + 1, sizeof *texts));
    TRY(at_arena_alloc(weights->arena, &sizes, item->n + 1, sizeof *sizes));
    for (size_t i = 0; i < item->n; i++) {
        const uint8_t *text = NULL;
        uint64_t bytes = 0;
        char *copy = NULL;
        TRY(at_gguf_take_string(&text, &bytes, &weights->shards[0], &at, key));
        TRY(at_arena_strndup(weights->arena, &copy, (const char *)text, bytes));
        texts[i] = copy;
        sizes[i] = bytes;
    }
    *out = texts;
    *lengths = sizes;
    *n = item->n;
done:
    return st;
}

/* An array of elements of four bytes. */
static AT_CHECKED get_words(void *out_pointer, size_t *n, const struct at_weights *weights,
                            const char *key, enum at_gguf_type element, const char *expected)
{
    const struct at_gguf_item *item = find(weights, key);
    enum at_status st = AT_OK;
    uint32_t *values = NULL;

    if (!item)
        return AT_OK;
    if (item->type != AT_GGUF_ARRAY || item->element != element)
        return wrong_type(weights, item, expected);
    TRY(at_arena_alloc(weights->arena, &values, item->n + 1, sizeof *values));
    memcpy(values, item->value, item->n * sizeof *values);
    memcpy(out_pointer, &values, sizeof values);
    *n = item->n;
done:
    return st;
}

AT_CHECKED at_gguf_get_i32s(const int32_t **out, size_t *n, const struct at_weights *weights,
                            const char *key)
{
    return get_words(out, n, weights, key, AT_GGUF_I32, "an array of int32");
}

AT_CHECKED at_gguf_get_f32s(const float **out, size_t *n, const struct at_weights *weights,
                            const char *key)
{
    return get_words(out, n, weights, key, AT_GGUF_F32, "an array of float32");
}

bool at_gguf_has(const struct at_weights *weights, const char *key)
{
    return find(weights, key) != NULL;
}

size_t at_gguf_count(const struct at_weights *weights)
{
    return weights->n_items;
}

const char *at_gguf_key(const struct at_weights *weights, size_t i)
{
    AT_REQUIRE(i < weights->n_items);
    return weights->items[i].key;
}

const uint8_t *at_gguf_pair(const struct at_weights *weights, size_t i, uint64_t *n_bytes)
{
    AT_REQUIRE(i < weights->n_items);
    *n_bytes = weights->items[i].end - weights->items[i].at;
    return weights->shards[0].map.data + weights->items[i].at;
}
