/* Plain matrices to 4 or 8 bits while they are uploaded, with the codes, thresholds and roundings
 * of bitsandbytes: blocks of 64 values of a codebook (QLoRA, Dettmers et al. 2023, arXiv
 * 2305.14314), or rows of bytes (LLM.int8, Dettmers et al. 2022, arXiv 2208.07339). */
#include "weights_file.h"

#include <math.h>
#include <string.h>

#include "codes.h"

enum { GROUP = 64, NESTED_GROUP = 256, ROWS_A_TASK = 16, NESTED_BITS = 7 };
static const float least_absmax = 1e-38f, int8_step = 1.0f / 127;

static const struct kind {
    const char *name;
    enum at_quant_type type;
    float codes[16];
    uint8_t order[16]; /* codes by value */
} kinds[] = {
    { "NF4", AT_NF4, { CODES_NF4 }, { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 } },
    { "FP4", AT_FP4, { CODES_FP4 }, { 11, 10, 13, 12, 15, 14, 9, 8, 0, 1, 6, 7, 4, 5, 2, 3 } },
    { "INT8", AT_INT8, { 0 }, { 0 } },
};

/* A plain matrix that is quantised row by row. */
struct twin {
    const struct at_source *plain;
    const struct kind *kind;
    struct at_quantise *quantise;
    bool counted; /* in the report: a fused matrix is uploaded in parts */
};

static float nearest_half(float x)
{
    return at_widen_half(at_narrow_half(x));
}

/* Values [begin, begin + n) of a plain matrix. */
static void plain_values(float *out, const struct at_source *plain, uint64_t begin, uint64_t n)
{
    struct at_source part = *plain;

    part.rows = 1;
    part.cols = n;
    part.data += begin * (plain->row_bytes / plain->cols);
    AT_REQUIRE(at_source_floats(out, &part) == AT_OK);
}

static float largest(const float *x, uint64_t n)
{
    float most = 0;

    for (uint64_t i = 0; i < n; i++)
        most = fabsf(x[i]) > most || isnan(x[i]) ? fabsf(x[i]) : most;
    return most;
}

static uint32_t code_of(const struct kind *kind, float x)
{
    uint32_t i = 0;

    while (i < 15 && x > (kind->codes[kind->order[i]] + kind->codes[kind->order[i + 1]]) / 2)
        i++;
    return kind->order[i];
}

static void repack_codes(uint8_t *plane0, uint8_t *plane1, const struct at_source *s, uint64_t row)
{
    const struct twin *t = s->context;
    const struct at_quantise *q = t->quantise;
    double error = 0, total = 0;

    for (uint64_t g = 0; g < s->cols / GROUP; g++) {
        const uint64_t block = row * (s->cols / GROUP) + g;
        float x[GROUP], scale = 0, inverse = 0;
        plain_values(x, t->plain, block * GROUP, GROUP);
        scale = largest(x, GROUP);
        inverse = 1 / fmaxf(scale, least_absmax);
        scale = q->scales ? q->scales[block] : scale;
        memcpy(plane1 + g * sizeof scale, &scale, sizeof scale);
        for (uint32_t i = 0; i < GROUP; i++) {
            const uint32_t code = code_of(t->kind, x[i] * inverse);
            const double d = (double)(t->kind->codes[code] * scale) - (double)x[i];
            plane0[g * GROUP / 2 + i / 2] |= (uint8_t)(code << 4 * (i % 2));
            error += d * d;
            total += (double)x[i] * (double)x[i];
        }
    }
    q->errors[2 * row] = error;
    q->errors[2 * row + 1] = total;
}

/* bitsandbytes rounds the weights to f16 first. */
static void repack_bytes(uint8_t *plane0, uint8_t *plane1, const struct at_source *s, uint64_t row)
{
    const struct twin *t = s->context;
    float x[GROUP], most = 0, inverse = 0;
    double error = 0, total = 0;

    for (uint64_t c = 0; c < s->cols; c += GROUP) {
        plain_values(x, t->plain, row * s->cols + c, GROUP);
        most = fmaxf(most, largest(x, GROUP));
    }
    most = nearest_half(most);
    inverse = most > 0 ? 127 / most : 0;
    memcpy(plane1, &most, sizeof most);
    for (uint64_t c = 0; c < s->cols; c += GROUP) {
        plain_values(x, t->plain, row * s->cols + c, GROUP);
        for (uint32_t i = 0; i < GROUP; i++) {
            const float q = nearbyintf(nearest_half(x[i]) * inverse);
            const double d = (double)(q * most * int8_step) - (double)x[i];
            plane0[c + i] = (uint8_t)(isfinite(q) ? (int)q : 0);
            error += d * d;
            total += (double)x[i] * (double)x[i];
        }
    }
    t->quantise->errors[2 * row] = error;
    t->quantise->errors[2 * row + 1] = total;
}

/* ---- double quantisation ---- */

/* Boundary k of n equal parts of 0.1 to 1, as torch.linspace() rounds it: from the nearer end. */
static float boundary(uint32_t k, uint32_t n)
{
    const float step = (1 - 0.1f) / (float)n;

    return k < (n + 1) / 2 ? 0.1f + step * (float)k : 1 - step * (float)(n - k);
}

/* Signed "dynamic map" of 8 bits: for each decade 10^(i - 6) the middles of 2^i equal parts of 0.1
 * to 1, and their negatives; 0 and 1. Sorted. */
static void nested_codes(float codes[256])
{
    uint32_t n = 128; /* where positive ones start */

    codes[127] = 0;
    for (uint32_t i = 0; i < NESTED_BITS; i++)
        for (uint32_t k = 0; k < 1u << i; k++) {
            const float middle = (boundary(k, 1u << i) + boundary(k + 1, 1u << i)) / 2;
            const float code = (float)pow(10, (double)i - (NESTED_BITS - 1)) * middle;
            codes[254 - n] = -code;
            codes[n++] = code;
        }
    codes[n] = 1;
}

static float nested_code(const float codes[256], float x)
{
    uint32_t low = 0, high = 255; /* the first whose middle to the next is not below x */

    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (x > (codes[middle] + codes[middle + 1]) / 2)
            low = middle + 1;
        else
            high = middle;
    }
    return codes[low];
}

/* Scales as they come back from bytes. */
static void nest(float *scales, uint64_t n)
{
    float codes[256], offset = 0;
    double sum = 0;

    nested_codes(codes);
    for (uint64_t i = 0; i < n; i++)
        sum += (double)scales[i];
    offset = (float)(sum / (double)n);
    for (uint64_t i = 0; i < n; i++)
        scales[i] -= offset;
    for (uint64_t begin = 0; begin < n; begin += NESTED_GROUP) {
        const uint64_t end = begin + NESTED_GROUP < n ? begin + NESTED_GROUP : n;
        const float most = largest(scales + begin, end - begin);
        const float inverse = 1 / fmaxf(most, least_absmax);
        for (uint64_t i = begin; i < end; i++)
            scales[i] = nested_code(codes, scales[i] * inverse) * most + offset;
    }
}

static void scales_task(void *context, size_t task)
{
    const struct twin *t = context;
    const uint64_t per_row = t->plain->cols / GROUP;
    const uint64_t end = (task + 1) * ROWS_A_TASK * per_row, n = t->plain->rows * per_row;
    float x[GROUP];

    for (uint64_t i = task * ROWS_A_TASK * per_row; i < end && i < n; i++) {
        plain_values(x, t->plain, i * GROUP, GROUP);
        t->quantise->scales[i] = largest(x, GROUP);
    }
}

/* ---- one matrix after the other ---- */

static struct twin *twin_of(const struct at_source *s)
{
    return s->repack == repack_codes || s->repack == repack_bytes ? (struct twin *)s->context
                                                                  : NULL;
}

AT_CHECKED at_quantise_begin(const struct at_source *source)
{
    struct twin *t = twin_of(source);
    struct at_quantise *q = t ? t->quantise : NULL;
    enum at_status st = AT_OK;

    if (!t)
        return AT_OK;
    TRY(at_alloc(&q->errors, source->rows, 2 * sizeof *q->errors));
    if (q->params.nested) {
        TRY(at_alloc(&q->scales, source->rows * (source->cols / GROUP), sizeof *q->scales));
        at_parallel_for(at_div_up(source->rows, ROWS_A_TASK), scales_task, t);
        nest(q->scales, source->rows * (source->cols / GROUP));
    }
done:
    return st;
}

AT_CHECKED at_quantise_end(const struct at_source *source)
{
    struct twin *t = twin_of(source);
    struct at_quantise *q = t ? t->quantise : NULL;
    enum at_status st = AT_OK;
    double error = 0, total = 0;

    if (!t)
        return AT_OK;
    for (uint64_t row = 0; row < source->rows; row++) {
        error += q->errors[2 * row];
        total += q->errors[2 * row + 1];
    }
    if (!isfinite(error))
        FAIL(AT_NUMERIC,
             "%s: tensor %s holds values that are not finite or, with load_in_8bit, beyond f16",
             source->file, source->name);
    q->error += error;
    q->total += total;
    q->report.type_name = t->kind->name;
    q->report.nested = q->params.nested;
    q->report.matrices += !t->counted;
    t->counted = true;
    q->report.error = q->total > 0 ? sqrt(q->error / q->total) : 0;
done:
    at_free(&q->errors);
    at_free(&q->scales);
    return st;
}

void at_weights_quantise(struct at_weights *weights, const struct at_quantise_params *params)
{
    AT_REQUIRE(!params->nested || params->type != AT_INT8);
    weights->quantise = (struct at_quantise){ .params = *params };
}

struct at_quantise_report at_weights_quantise_report(const struct at_weights *weights)
{
    return weights->quantise.report;
}

AT_CHECKED at_weights_linear(const struct at_source **out, struct at_weights *weights,
                             const struct at_source *source)
{
    enum at_status st = AT_OK;
    struct at_source *s = NULL;
    struct twin *t = NULL;
    const struct kind *kind = kinds;

    *out = source;
    if (weights->quantise.params.type == AT_F32)
        return AT_OK;
    const bool plain = source->type == AT_F32 || source->type == AT_F16 || source->type == AT_BF16;
    if (!plain && weights->quantise.params.if_plain)
        return AT_OK;
    if (!plain)
        FAIL(AT_USAGE,
             "%s: tensor %s is %s: the model is quantised already; remove load_in_4bit or "
             "load_in_8bit, or set it to false",
             source->file, source->name, source->type_name);
    if (source->cols % GROUP != 0)
        FAIL(AT_DATA,
             "%s: tensor %s has rows of %llu values; load_in_4bit and load_in_8bit need multiples "
             "of %d",
             source->file, source->name, (unsigned long long)source->cols, GROUP);
    while (kind->type != weights->quantise.params.type)
        kind++;
    TRY(at_arena_alloc(weights->arena, &s, 1, sizeof *s));
    TRY(at_arena_alloc(weights->arena, &t, 1, sizeof *t));
    *t = (struct twin){ .plain = source, .kind = kind, .quantise = &weights->quantise };
    *s = *source;
    s->type = kind->type;
    s->type_name = kind->name;
    s->format = NULL;
    s->repack = kind->type == AT_INT8 ? repack_bytes : repack_codes;
    s->context = t;
    *out = s;
done:
    return st;
}
