/* GGUF: header and tensor table. Metadata lies in gguf_items.c. */
#include "weights_file.h"

#include <string.h>

enum { DEFAULT_ALIGNMENT = 32, MAX_TENSORS = 65536, MAX_ITEMS = 65536 };
/* As ggml: a tensor's name has at most 63 bytes. */
enum { MAX_NAME_BYTES = 63, MAX_DIMS = 4 };

AT_CHECKED at_gguf_take(uint64_t *out, const struct at_shard *shard, size_t *at, size_t n_bytes,
                        const char *what)
{
    *out = 0;
    if (shard->map.n - *at < n_bytes)
        return at_fail(AT_DATA,
                       "%s: the file ends at byte %zu, inside %s: its download or copy was "
                       "probably cut short; fetch it again",
                       shard->path, shard->map.n, what);
    memcpy(out, shard->map.data + *at, n_bytes); /* little-endian on both sides */
    *at += n_bytes;
    return AT_OK;
}

AT_CHECKED at_gguf_take_string(const uint8_t **out, uint64_t *n, const struct at_shard *shard,
                               size_t *at, const char *what)
{
    enum at_status st = AT_OK;

    TRY(at_gguf_take(n, shard, at, 8, what));
    if (*n > shard->map.n - *at)
        FAIL(AT_DATA, "%s: %s at byte %zu has a length of %llu, but %zu bytes are left",
             shard->path, what, *at - 8, (unsigned long long)*n, shard->map.n - *at);
    *out = shard->map.data + *at;
    *at += *n;
done:
    return st;
}

static AT_CHECKED parse_head(const struct at_shard *shard, size_t *at, uint64_t *n_tensors,
                             uint64_t *n_items)
{
    enum at_status st = AT_OK;
    uint64_t magic = 0, version = 0;

    TRY(at_gguf_take(&magic, shard, at, 4, "the magic"));
    if (magic != 0x46554747)
        FAIL(AT_DATA, "%s: does not start with \"GGUF\": not a GGUF file", shard->path);
    TRY(at_gguf_take(&version, shard, at, 4, "the version"));
    if (version == 0x02000000 || version == 0x03000000)
        FAIL(AT_DATA, "%s: a big-endian GGUF file; only little-endian ones are read", shard->path);
    if (version != 2 && version != 3)
        FAIL(AT_DATA, "%s: GGUF version %llu; versions 2 and 3 are read", shard->path,
             (unsigned long long)version);
    TRY(at_gguf_take(n_tensors, shard, at, 8, "the tensor count"));
    TRY(at_gguf_take(n_items, shard, at, 8, "the key count"));
    /* The smallest key takes 14 bytes, the smallest tensor entry 33. */
    if (*n_items > MAX_ITEMS || *n_items > (shard->map.n - *at) / 14)
        FAIL(AT_DATA, "%s: %llu metadata keys cannot fit in %zu bytes (limit %d)", shard->path,
             (unsigned long long)*n_items, shard->map.n - *at, MAX_ITEMS);
    if (*n_tensors > MAX_TENSORS || *n_tensors > (shard->map.n - *at) / 33)
        FAIL(AT_DATA, "%s: %llu tensors cannot fit in %zu bytes (limit %d)", shard->path,
             (unsigned long long)*n_tensors, shard->map.n - *at, MAX_TENSORS);
done:
    return st;
}

static AT_CHECKED parse_name(struct at_weights *weights, const struct at_shard *shard, size_t *at,
                             struct at_source *s)
{
    enum at_status st = AT_OK;
    const uint8_t *text = NULL;
    const size_t place = *at;
    uint64_t n = 0;
    char *name = NULL;

    TRY(at_gguf_take_string(&text, &n, shard, at, "a tensor name"));
    if (n == 0 || n > MAX_NAME_BYTES)
        FAIL(AT_DATA, "%s: tensor name at byte %zu has %llu bytes; 1 to %d are allowed",
             shard->path, place, (unsigned long long)n, MAX_NAME_BYTES);
    if (memchr(text, 0, n) || at_utf8_check((const char *)text, n) != n)
        FAIL(AT_DATA, "%s: tensor name at byte %zu is not UTF-8 text", shard->path, place);
    TRY(at_arena_strndup(weights->arena, &name, (const char *)text, n));
    s->name = name;
done:
    return st;
}

/* Sizes from dimensions (fastest first in the file) and type. */
static AT_CHECKED set_sizes(struct at_source *s, const uint64_t *ne)
{
    const uint64_t block_cols = s->format->block_cols;
    enum at_status st = AT_OK;
    size_t rows = 1, bytes = 0;

    for (uint32_t i = 0; i < s->n_dims; i++) {
        if (ne[i] == 0 || ne[i] > INT64_MAX)
            FAIL(AT_DATA, "%s: tensor %s: dimension %u is %lld", s->file, s->name, i,
                 (long long)ne[i]);
        s->dim[s->n_dims - 1 - i] = ne[i];
        if (i > 0 && !at_mul_ok(&rows, rows, ne[i]))
            FAIL(AT_DATA, "%s: tensor %s: the product of its dimensions overflows", s->file,
                 s->name);
    }
    s->cols = s->n_dims > 0 ? ne[0] : 1;
    s->rows = rows;
    if (s->cols % block_cols != 0)
        FAIL(AT_DATA, "%s: tensor %s: rows of %llu values are not whole blocks of %llu (%s)",
             s->file, s->name, (unsigned long long)s->cols, (unsigned long long)block_cols,
             s->type_name);
    if (!at_mul_ok(&bytes, s->cols / block_cols, s->format->block_bytes))
        FAIL(AT_DATA, "%s: tensor %s: its size overflows", s->file, s->name);
    s->row_bytes = bytes;
    if (!at_mul_ok(&bytes, bytes, rows))
        FAIL(AT_DATA, "%s: tensor %s: its size overflows", s->file, s->name);
    s->n_bytes = bytes;
done:
    return st;
}

/* An entry of the tensor table. *offset: within the data, not checked yet. */
static AT_CHECKED parse_tensor(struct at_weights *weights, const struct at_shard *shard, size_t *at,
                               struct at_source *s, uint64_t *offset)
{
    enum at_status st = AT_OK;
    uint64_t ne[MAX_DIMS] = { 1, 1, 1, 1 }, n_dims = 0, type = 0;

    *s = (struct at_source){ .file = shard->path, .map = &shard->map };
    TRY(parse_name(weights, shard, at, s));
    TRY(at_gguf_take(&n_dims, shard, at, 4, "a tensor's dimensions"));
    if (n_dims > MAX_DIMS)
        FAIL(AT_DATA, "%s: tensor %s has %llu dimensions; at most %d are allowed", shard->path,
             s->name, (unsigned long long)n_dims, MAX_DIMS);
    s->n_dims = (uint32_t)n_dims;
    for (uint32_t i = 0; i < s->n_dims; i++)
        TRY(at_gguf_take(&ne[i], shard, at, 8, "a tensor's dimensions"));
    TRY(at_gguf_take(&type, shard, at, 4, "a tensor's type"));
    s->format = at_format_find_gguf(type);
    if (!s->format)
        FAIL(AT_DATA, "%s: tensor %s: type %llu is unknown or was removed from the format",
             shard->path, s->name, (unsigned long long)type);
    s->type = s->format->type;
    s->type_name = s->format->name;
    TRY(set_sizes(s, ne));
    TRY(at_gguf_take(offset, shard, at, 8, "a tensor's offset"));
done:
    return st;
}

/* The data of a file, as its table describes them. */
struct table {
    uint64_t *offsets;   /* (tensors) within the data */
    size_t begin;        /* of the data in the file */
    uint64_t alignment;  /* of each tensor */
    size_t least, whole; /* bytes of the data without the last tensor's padding, and with it */
};

/* Data are in the order of the table, each padded to the alignment. */
static AT_CHECKED check_offsets(const struct at_weights *weights, const struct at_shard *shard,
                                struct table *t)
{
    enum at_status st = AT_OK;
    size_t end;

    for (size_t i = 0; i < weights->n_sources; i++) {
        const struct at_source *s = &weights->sources[i];
        if (t->offsets[i] != t->whole)
            FAIL(AT_DATA,
                 "%s: tensor %s: offset %llu, expected %zu (tensors follow each other, aligned to "
                 "%llu bytes)",
                 s->file, s->name, (unsigned long long)t->offsets[i], t->whole,
                 (unsigned long long)t->alignment);
        if (!at_add_ok(&t->least, t->whole, s->n_bytes) ||
            !at_add_ok(&t->whole, t->least, t->alignment - 1))
            FAIL(AT_DATA, "%s: tensor %s: its end overflows", s->file, s->name);
        t->whole = t->whole / t->alignment * t->alignment;
    }
    if (!at_add_ok(&end, t->begin, t->whole))
        FAIL(AT_DATA, "%s: the end of its data overflows", shard->path);
done:
    return st;
}

static AT_CHECKED parse_table(struct at_weights *weights, const struct at_shard *shard,
                              struct table *out)
{
    enum at_status st = AT_OK;
    uint64_t n_tensors = 0, n_items = 0;
    uint32_t alignment = DEFAULT_ALIGNMENT;
    size_t at = 0;

    TRY(parse_head(shard, &at, &n_tensors, &n_items));
    TRY(at_gguf_parse_items(weights, shard, &at, n_items, &alignment));
    TRY(at_alloc(&weights->sources, n_tensors, sizeof *weights->sources));
    TRY(at_alloc(&out->offsets, n_tensors, sizeof *out->offsets));
    for (size_t i = 0; i < n_tensors; i++) {
        TRY(parse_tensor(weights, shard, &at, &weights->sources[i], &out->offsets[i]));
        weights->n_sources = i + 1;
    }
    out->alignment = alignment;
    out->begin = at_round_up(at, alignment);
    TRY(check_offsets(weights, shard, out));
done:
    return st;
}

static size_t data_bytes(const struct at_shard *shard, const struct table *t)
{
    return t->begin <= shard->map.n ? shard->map.n - t->begin : 0;
}

static void place_tensors(const struct at_weights *weights, const struct at_shard *shard,
                          const struct table *t)
{
    for (size_t i = 0; i < weights->n_sources; i++)
        weights->sources[i].data = shard->map.data + t->begin + t->offsets[i];
}

/* Names the first tensor that does not lie in the file. Padding is there, or the last one's is
 * missing altogether. */
static AT_CHECKED check_data(const struct at_weights *weights, const struct at_shard *shard,
                             const struct table *t)
{
    const size_t found = data_bytes(shard, t);

    for (size_t i = 0; i < weights->n_sources; i++) {
        const struct at_source *s = &weights->sources[i];
        const bool last = i + 1 == weights->n_sources;
        const size_t end = !last ? t->offsets[i + 1] : found == t->least ? found : t->whole;
        if (end > found)
            return at_fail(
                AT_DATA,
                "%s: tensor %s: needs bytes up to %zu of the data, but there are %zu: the file has "
                "%zu bytes and needs %zu, its download or copy was probably cut short; fetch it "
                "again",
                s->file, s->name, end, found, shard->map.n,
                t->begin + (found < t->least ? t->least : t->whole));
    }
    return AT_OK;
}

AT_CHECKED at_gguf_parse(struct at_weights *weights, const struct at_shard *shard)
{
    enum at_status st = AT_OK;
    struct table table = { .least = 0 };

    TRY(parse_table(weights, shard, &table));
    TRY(check_data(weights, shard, &table));
    place_tensors(weights, shard, &table);
done:
    at_free(&table.offsets);
    return st;
}

AT_CHECKED at_gguf_parse_header(struct at_weights *weights, const struct at_shard *shard)
{
    enum at_status st = AT_OK;
    struct table table = { .least = 0 };

    TRY(parse_table(weights, shard, &table));
    weights->lacks_data = data_bytes(shard, &table) < table.least;
    if (weights->lacks_data)
        goto done;
    TRY(check_data(weights, shard, &table));
    place_tensors(weights, shard, &table);
done:
    at_free(&table.offsets);
    return st;
}
