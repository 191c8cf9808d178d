#include "weights_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

AT_CHECKED at_check_finite(const char *name, const float *values, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return at_fail(AT_NUMERIC, "tensor %s: value %llu is %s; nothing is written", name,
                           (unsigned long long)i, isnan(values[i]) ? "NaN" : "infinite");
    return AT_OK;
}

/* ---- a file in pieces ---- */

struct at_safetensors_writer {
    struct at_writer *file;
    const struct at_safetensors_entry *entries;
    size_t n, next;   /* the entry whose bytes are expected */
    uint64_t written; /* of it */
};

static void put_entry(struct at_buf *header, const struct at_safetensors_entry *e, uint64_t *at)
{
    at_buf_puts(header, ",");
    at_json_write_string(header, e->name, strlen(e->name));
    at_buf_printf(header, ":{\"dtype\":\"%s\",\"shape\":[", e->dtype);
    for (uint32_t k = 0; k < e->n_dims; k++)
        at_buf_printf(header, "%s%llu", k > 0 ? "," : "", (unsigned long long)e->dim[k]);
    at_buf_printf(header, "],\"data_offsets\":[%llu,", (unsigned long long)*at);
    *at += e->n_bytes;
    at_buf_printf(header, "%llu]}", (unsigned long long)*at);
}

static AT_CHECKED make_header(struct at_buf *header, const struct at_safetensors_entry *entries,
                              size_t n, const char *const (*metadata)[2], size_t n_metadata)
{
    uint64_t at = 0;

    at_buf_puts(header, "{\"__metadata__\":{\"format\":\"pt\"");
    for (size_t i = 0; i < n_metadata; i++) {
        at_buf_puts(header, ",");
        at_json_write_string(header, metadata[i][0], strlen(metadata[i][0]));
        at_buf_puts(header, ":");
        at_json_write_string(header, metadata[i][1], strlen(metadata[i][1]));
    }
    at_buf_puts(header, "}");
    for (size_t i = 0; i < n; i++)
        put_entry(header, &entries[i], &at);
    at_buf_puts(header, "}");
    while (header->n % 8 != 0 && !header->failed)
        at_buf_puts(header, " ");
    return at_buf_status(header);
}

AT_CHECKED at_safetensors_create(struct at_safetensors_writer **out, const char *path,
                                 const struct at_safetensors_entry *entries, size_t n,
                                 const char *const (*metadata)[2], size_t n_metadata)
{
    enum at_status st = AT_OK;
    struct at_safetensors_writer *w = NULL;
    struct at_buf header = { 0 };
    uint64_t header_bytes = 0;

    *out = NULL;
    TRY(at_alloc(&w, 1, sizeof *w));
    w->entries = entries;
    w->n = n;
    TRY(make_header(&header, entries, n, metadata, n_metadata));
    header_bytes = header.n;
    TRY(at_writer_open(&w->file, path));
    TRY(at_writer_put(w->file, &header_bytes, sizeof header_bytes));
    TRY(at_writer_put(w->file, header.data, header.n));
    *out = w;
    w = NULL;
done:
    at_buf_release(&header);
    at_safetensors_close(&w);
    return st;
}

/* Of tensors without values no byte comes. */
static void skip_empty(struct at_safetensors_writer *w)
{
    while (w->next < w->n && w->entries[w->next].n_bytes == 0)
        w->next++;
}

AT_CHECKED at_safetensors_put(struct at_safetensors_writer *w, const void *bytes, uint64_t n)
{
    const struct at_safetensors_entry *e = NULL;

    if (n == 0)
        return AT_OK;
    skip_empty(w);
    AT_REQUIRE(w->next < w->n && n <= w->entries[w->next].n_bytes - w->written);
    e = &w->entries[w->next];
    w->written += n;
    if (w->written == e->n_bytes) {
        w->next++;
        w->written = 0;
    }
    return at_writer_put(w->file, bytes, n);
}

AT_CHECKED at_safetensors_commit(struct at_safetensors_writer *w)
{
    skip_empty(w);
    AT_REQUIRE(w->next == w->n);
    return at_writer_commit(w->file);
}

void at_safetensors_close(struct at_safetensors_writer **writer)
{
    struct at_safetensors_writer *w = *writer;

    if (!w)
        return;
    at_writer_close(&w->file);
    at_free(writer);
}

/* ---- F32 tensors ---- */

/* A tensor and where the caller's array has it. */
struct place {
    const struct at_save_tensor *tensor;
    size_t i;
    uint64_t n;
};

static int by_name(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    return strcmp(x->tensor->name, y->tensor->name);
}

/* Sorted by name. */
static AT_CHECKED list_entries(struct place **places, struct at_safetensors_entry **entries,
                               const struct at_save_tensor *tensors, size_t n)
{
    enum at_status st = AT_OK;

    TRY(at_alloc(places, n, sizeof **places));
    TRY(at_alloc(entries, n, sizeof **entries));
    for (size_t i = 0; i < n; i++) {
        (*places)[i] = (struct place){ .tensor = &tensors[i], .i = i, .n = 1 };
        for (uint32_t k = 0; k < tensors[i].n_dims; k++)
            (*places)[i].n *= tensors[i].dim[k];
    }
    qsort(*places, n, sizeof **places, by_name);
    for (size_t i = 0; i < n; i++) {
        const struct at_save_tensor *t = (*places)[i].tensor;
        struct at_safetensors_entry *e = &(*entries)[i];
        *e = (struct at_safetensors_entry){ .name = t->name,
                                            .dtype = "F32",
                                            .n_dims = t->n_dims,
                                            .n_bytes = (*places)[i].n * sizeof(float) };
        memcpy(e->dim, t->dim, sizeof e->dim);
    }
done:
    return st;
}

AT_CHECKED at_safetensors_stream(const char *path, const struct at_save_tensor *tensors, size_t n,
                                 const char *const (*metadata)[2], size_t n_metadata,
                                 at_read_tensor *read, void *context)
{
    enum at_status st = AT_OK;
    struct at_safetensors_writer *writer = NULL;
    struct at_safetensors_entry *entries = NULL;
    struct place *places = NULL;
    float *values = NULL;

    TRY(list_entries(&places, &entries, tensors, n));
    TRY(at_safetensors_create(&writer, path, entries, n, metadata, n_metadata));
    for (size_t i = 0; i < n; i++) {
        const float *from = places[i].tensor->values;
        if (!from) {
            AT_REQUIRE(read);
            TRY(at_alloc(&values, places[i].n, sizeof *values));
            TRY(read(context, places[i].i, values));
            from = values;
        }
        TRY(at_check_finite(places[i].tensor->name, from, places[i].n));
        TRY(at_safetensors_put(writer, from, entries[i].n_bytes));
        at_free(&values);
    }
    TRY(at_safetensors_commit(writer));
done:
    at_safetensors_close(&writer);
    at_free(&places);
    at_free(&entries);
    at_free(&values);
    return st;
}

AT_CHECKED at_safetensors_write(const char *path, const struct at_save_tensor *tensors, size_t n,
                                const char *const (*metadata)[2], size_t n_metadata)
{
    return at_safetensors_stream(path, tensors, n, metadata, n_metadata, NULL, NULL);
}
