#include "tensorboard.h"

#include <math.h>
#include <string.h>

uint32_t at_crc32c(const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    uint32_t crc = ~0u;

    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

/* ---- numbers and fields ---- */

static void put_fixed(struct at_buf *out, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        const uint8_t byte = (uint8_t)(x >> 8 * i);
        at_buf_put(out, &byte, 1);
    }
}

static void put_varint(struct at_buf *out, uint64_t x)
{
    for (; x > 0x7f; x >>= 7)
        put_fixed(out, (x & 0x7f) | 0x80, 1);
    put_fixed(out, x, 1);
}

enum wire { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static void put_key(struct at_buf *out, uint32_t field, enum wire wire)
{
    put_varint(out, field << 3 | (uint32_t)wire);
}

static void put_bytes(struct at_buf *out, uint32_t field, const void *bytes, size_t n)
{
    put_key(out, field, BYTES);
    put_varint(out, n);
    at_buf_put(out, bytes, n);
}

static void put_double(struct at_buf *out, uint32_t field, double x)
{
    uint64_t bits = 0;

    memcpy(&bits, &x, sizeof bits);
    put_key(out, field, FIXED64);
    put_fixed(out, bits, 8);
}

static void put_float(struct at_buf *out, uint32_t field, float x)
{
    uint32_t bits = 0;

    memcpy(&bits, &x, sizeof bits);
    put_key(out, field, FIXED32);
    put_fixed(out, bits, 4);
}

/* ---- records ---- */

static void put_masked_crc(struct at_buf *out, const void *bytes, size_t n)
{
    const uint32_t crc = at_crc32c(bytes, n);

    put_fixed(out, (uint32_t)((crc >> 15 | crc << 17) + 0xa282ead8u), 4);
}

/* What a part lacks for want of memory, the whole lacks. */
static void end_part(struct at_buf *whole, struct at_buf *part)
{
    whole->failed = whole->failed || part->failed;
    at_buf_release(part);
}

static void put_record(struct at_buf *out, struct at_buf *event)
{
    struct at_buf length = { 0 };

    put_fixed(&length, event->n, 8);
    at_buf_put(out, length.data, length.n);
    put_masked_crc(out, length.data, length.n);
    at_buf_put(out, event->data, event->n);
    put_masked_crc(out, event->data, event->n);
    end_part(out, &length);
    end_part(out, event);
}

void at_events_begin(struct at_buf *out, double wall_s)
{
    static const char version[] = "brain.Event:2";
    struct at_buf event = { 0 };

    put_double(&event, 1, wall_s);
    put_bytes(&event, 3, version, strlen(version));
    put_record(out, &event);
}

static void put_tag(struct at_buf *value, const char *name)
{
    const bool eval = strncmp(name, "eval_", 5) == 0;
    struct at_buf tag = { 0 };

    at_buf_printf(&tag, "%s/%s", eval ? "eval" : "train", eval ? name + 5 : name);
    put_bytes(value, 1, tag.data, tag.n);
    end_part(value, &tag);
}

static void put_scalar(struct at_buf *summary, const char *name, double x)
{
    struct at_buf value = { 0 };

    put_tag(&value, name);
    put_float(&value, 2, (float)x);
    put_bytes(summary, 1, value.data, value.n);
    end_part(summary, &value);
}

static void put_summary(struct at_buf *out, uint64_t step, double wall_s, struct at_buf *summary)
{
    struct at_buf event = { 0 };

    put_double(&event, 1, wall_s);
    put_key(&event, 2, VARINT);
    put_varint(&event, step);
    put_bytes(&event, 5, summary->data, summary->n);
    end_part(&event, summary);
    put_record(out, &event);
}

void at_events_line(struct at_buf *out, const cJSON *line, double wall_s)
{
    const cJSON *step = at_json_find(line, "step");
    struct at_buf summary = { 0 };

    for (const cJSON *item = line->child; item; item = item->next)
        if (cJSON_IsNumber(item) && item != step && strcmp(item->string, "n") != 0)
            put_scalar(&summary, item->string, item->valuedouble);
    put_summary(out, (uint64_t)step->valuedouble, wall_s, &summary);
}

/* ---- histograms ---- */

enum { BUCKETS = 30 };

struct spread {
    double min, max, n, sum, squares;
};

static struct spread spread_of(const struct at_histogram *h)
{
    struct spread s = { INFINITY, -INFINITY, 0, 0, 0 };

    for (size_t i = 0; i < h->n; i++) {
        const double x = h->values[i];
        if (!isfinite(x))
            continue;
        s.min = fmin(s.min, x);
        s.max = fmax(s.max, x);
        s.n++;
        s.sum += x;
        s.squares += x * x;
    }
    return s;
}

static void put_doubles(struct at_buf *out, uint32_t field, const double *x, size_t n)
{
    put_key(out, field, BYTES);
    put_varint(out, n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = 0;
        memcpy(&bits, &x[i], sizeof bits);
        put_fixed(out, bits, 8);
    }
}

static void put_buckets(struct at_buf *out, const struct at_histogram *h, const struct spread *s)
{
    const size_t n = s->max > s->min ? BUCKETS : 1;
    const double width = (s->max - s->min) / (double)n;
    double limit[BUCKETS] = { 0 }, count[BUCKETS] = { 0 };

    for (size_t k = 0; k + 1 < n; k++)
        limit[k] = s->min + width * (double)(k + 1);
    limit[n - 1] = s->max;
    for (size_t i = 0; i < h->n; i++) {
        size_t k = 0;
        if (!isfinite(h->values[i]))
            continue;
        while (k + 1 < n && h->values[i] > limit[k])
            k++;
        count[k]++;
    }
    put_doubles(out, 6, limit, n);
    put_doubles(out, 7, count, n);
}

static void put_histogram(struct at_buf *summary, const struct at_histogram *h)
{
    const struct spread s = spread_of(h);
    struct at_buf value = { 0 }, histo = { 0 };

    if (s.n == 0)
        return;
    put_double(&histo, 1, s.min);
    put_double(&histo, 2, s.max);
    put_double(&histo, 3, s.n);
    put_double(&histo, 4, s.sum);
    put_double(&histo, 5, s.squares);
    put_buckets(&histo, h, &s);
    put_tag(&value, h->name);
    put_bytes(&value, 5, histo.data, histo.n);
    put_bytes(summary, 1, value.data, value.n);
    end_part(summary, &histo);
    end_part(summary, &value);
}

void at_events_histograms(struct at_buf *out, uint64_t step, const struct at_histogram *list,
                          size_t n, double wall_s)
{
    struct at_buf summary = { 0 };

    for (size_t i = 0; i < n; i++)
        put_histogram(&summary, &list[i]);
    put_summary(out, step, wall_s, &summary);
}
