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

static void put_entry(struct at_buf *header, const struct place *place, uint64_t *at)
{
    const struct at_save_tensor *t = place->tensor;

    at_buf_puts(header, ",");
    at_json_write_string(header, t->name, strlen(t->name));
    at_buf_puts(header, ":{\"dtype\":\"F32\",\"shape\":[");
    for (uint32_t k = 0; k < t->n_dims; k++)
        at_buf_printf(header, "%s%llu", k > 0 ? "," : "", (unsigned long long)t->dim[k]);
    at_buf_printf(header, "],\"data_offsets\":[%llu,", (unsigned long long)*at);
    *at += place->n * sizeof(float);
    at_buf_printf(header, "%llu]}", (unsigned long long)*at);
}

static AT_CHECKED make_header(struct at_buf *header, const struct place *places, size_t n,
                              const char *const (*metadata)[2], size_t n_metadata)
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
        put_entry(header, &places[i], &at);
    at_buf_puts(header, "}");
    while (header->n % 8 != 0 && !header->failed)
        at_buf_puts(header, " ");
    return at_buf_status(header);
}

AT_CHECKED at_safetensors_stream(const char *path, const struct at_save_tensor *tensors, size_t n,
                                 const char *const (*metadata)[2], size_t n_metadata,
                                 at_read_tensor *read, void *context)
{
    enum at_status st = AT_OK;
    struct at_buf header = { 0 };
    struct at_writer *writer = NULL;
    struct place *places = NULL;
    float *values = NULL;
    uint64_t header_bytes = 0;

    TRY(at_alloc(&places, n, sizeof *places));
    for (size_t i = 0; i < n; i++) {
        places[i] = (struct place){ .tensor = &tensors[i], .i = i, .n = 1 };
        for (uint32_t k = 0; k < tensors[i].n_dims; k++)
            places[i].n *= tensors[i].dim[k];
    }
    qsort(places, n, sizeof *places, by_name);
    TRY(make_header(&header, places, n, metadata, n_metadata));
    header_bytes = header.n;
    TRY(at_writer_open(&writer, path));
    TRY(at_writer_put(writer, &header_bytes, sizeof header_bytes));
    TRY(at_writer_put(writer, header.data, header.n));
    for (size_t i = 0; i < n; i++) {
        const float *from = places[i].tensor->values;
        if (!from) {
            AT_REQUIRE(read);
            TRY(at_alloc(&values, places[i].n, sizeof *values));
            TRY(read(context, places[i].i, values));
            from = values;
        }
        TRY(at_check_finite(places[i].tensor->name, from, places[i].n));
        TRY(at_writer_put(writer, from, places[i].n * sizeof *from));
        at_free(&values);
    }
    TRY(at_writer_commit(writer));
done:
    at_writer_close(&writer);
    at_buf_release(&header);
    at_free(&places);
    at_free(&values);
    return st;
}

AT_CHECKED at_safetensors_write(const char *path, const struct at_save_tensor *tensors, size_t n,
                                const char *const (*metadata)[2], size_t n_metadata)
{
    return at_safetensors_stream(path, tensors, n, metadata, n_metadata, NULL, NULL);
}
