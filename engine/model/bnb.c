/* Matrices of four bits as bitsandbytes writes them into safetensors: W.weight has the packed
 * codes, W.weight.absmax and .quant_map what they mean, W.weight.quant_state.bitsandbytes__<type> a
 * JSON text; with double quantisation absmax is codes, too (.nested_absmax, .nested_quant_map). */
#include "weights_file.h"

#include <math.h>
#include <string.h>

#include "codes.h"

#define BYTES_SUFFIX ".SCB"
enum { GROUP = 64, N_CODES = 16, N_NESTED_CODES = 256, MAX_STATE_BYTES = 1 << 16 };
/* Printed codes and those of old files differ in their last bits; the kernels have their own. */
static const float code_tolerance = 1e-4f;

static const struct kind {
    const char *suffix, *name;
    enum at_quant_type type;
    float codes[N_CODES];
} kinds[] = {
    { ".quant_state.bitsandbytes__fp4", "FP4", AT_FP4, { CODES_FP4 } },
    { ".quant_state.bitsandbytes__nf4", "NF4", AT_NF4, { CODES_NF4 } },
};

/* What a matrix consists of besides its codes; pointers into the map, of any alignment. */
struct at_bnb {
    const uint8_t *absmax; /* f32, or with `nested` codes of a byte */
    const uint8_t *nested; /* f32 */
    uint32_t block, nested_block;
    float nested_codes[N_NESTED_CODES], offset;
};

static float get_float(const uint8_t *floats, uint64_t i)
{
    float value = 0;

    memcpy(&value, floats + i * sizeof value, sizeof value);
    return value;
}

/* Two roundings with double quantisation, as bitsandbytes has them. */
static float scale_of(const struct at_bnb *b, uint64_t block)
{
    if (!b->nested)
        return get_float(b->absmax, block);
    return b->nested_codes[b->absmax[block]] * get_float(b->nested, block / b->nested_block) +
           b->offset;
}

/* In the file a byte's upper nibble comes first; blocks run through rows. */
static void repack_row(uint8_t *plane0, uint8_t *plane1, const struct at_source *s, uint64_t row)
{
    const struct at_bnb *b = s->context;
    const uint8_t *codes = s->data + row * s->row_bytes;

    for (uint64_t i = 0; i < s->row_bytes; i++)
        plane0[i] = (uint8_t)(codes[i] >> 4 | codes[i] << 4);
    for (uint64_t g = 0; g < s->cols / GROUP; g++) {
        const float scale = scale_of(b, (row * s->cols + g * GROUP) / b->block);
        memcpy(plane1 + g * sizeof scale, &scale, sizeof scale);
    }
}

/* ---- reading ---- */

/* The tensor `name` + `suffix` of n values, marked as part of another. */
static AT_CHECKED take_part(struct at_source **out, struct at_weights *weights,
                            struct at_arena *arena, const char *name, const char *suffix,
                            const char *type, uint64_t n)
{
    const struct at_source *found = NULL;
    enum at_status st = AT_OK;
    char *full = NULL;

    TRY(at_arena_printf(arena, &full, "%s%s", name, suffix));
    found = at_weights_find(weights, full);
    if (!found)
        FAIL(AT_DATA, "%s: tensor %s is missing, which tells what %s means", weights->config_path,
             full, name);
    if (strcmp(found->type_name, type) != 0 || found->rows * found->cols != n)
        FAIL(AT_DATA, "%s: tensor %s has %llu values of type %s; expected %llu of %s", found->file,
             full, (unsigned long long)(found->rows * found->cols), found->type_name,
             (unsigned long long)n, type);
    *out = &weights->sources[found - weights->sources];
    (*out)->is_part = true;
done:
    return st;
}

static AT_CHECKED check_codes(const struct at_source *map, const struct kind *kind)
{
    for (uint32_t i = 0; i < N_CODES; i++)
        if (!(fabsf(get_float(map->data, i) - kind->codes[i]) <= code_tolerance))
            return at_fail(AT_DATA, "%s: tensor %s: code %u is %g; %s has %g", map->file, map->name,
                           i, (double)get_float(map->data, i), kind->name, (double)kind->codes[i]);
    return AT_OK;
}

static AT_CHECKED read_nested(struct at_bnb *b, struct at_weights *weights, struct at_arena *arena,
                              const char *name, const cJSON *state, uint64_t n_blocks)
{
    enum at_status st = AT_OK;
    struct at_source *part = NULL;
    double offset = 0;

    TRY(at_json_need_u32(&b->nested_block, state, "nested_blocksize", name));
    TRY(at_json_get_double(&offset, state, "nested_offset", name));
    if (b->nested_block == 0)
        FAIL(AT_DATA, "%s: nested_blocksize is 0", name);
    b->offset = (float)offset;
    TRY(take_part(&part, weights, arena, name, ".nested_quant_map", "F32", N_NESTED_CODES));
    memcpy(b->nested_codes, part->data, sizeof b->nested_codes);
    TRY(take_part(&part, weights, arena, name, ".nested_absmax", "F32",
                  at_div_up(n_blocks, b->nested_block)));
    b->nested = part->data;
    TRY(take_part(&part, weights, arena, name, ".absmax", "U8", n_blocks));
    b->absmax = part->data;
done:
    return st;
}

/* Shape and blocks from the JSON text; the matrix in its codes' tensor becomes one of `kind`. */
static AT_CHECKED read_matrix(struct at_source *s, struct at_weights *weights,
                              struct at_arena *arena, const struct kind *kind, const cJSON *state)
{
    const cJSON *shape = at_json_find(state, "shape");
    enum at_status st = AT_OK;
    struct at_bnb *b = NULL;
    struct at_source *part = NULL;
    double dim[2] = { 0 };

    if (s->repack || s->is_part)
        FAIL(AT_DATA, "%s: tensor %s has two quant_states", s->file, s->name);
    TRY(at_arena_alloc(weights->arena, &b, 1, sizeof *b));
    TRY(at_json_need_u32(&b->block, state, "blocksize", s->name));
    for (int i = 0; i < 2 && cJSON_IsArray(shape) && cJSON_GetArraySize(shape) == 2; i++)
        dim[i] = cJSON_IsNumber(cJSON_GetArrayItem(shape, i))
                     ? cJSON_GetArrayItem(shape, i)->valuedouble
                     : 0;
    if (!(dim[0] >= 1 && dim[0] <= UINT32_MAX && dim[1] >= 1 && dim[1] <= UINT32_MAX) ||
        dim[0] != floor(dim[0]) || dim[1] != floor(dim[1]))
        FAIL(AT_DATA, "%s: tensor %s: the shape in its quant_state must be two whole numbers",
             s->file, s->name);
    s->rows = (uint64_t)dim[0];
    s->cols = (uint64_t)dim[1];
    if (s->cols % GROUP != 0 || b->block == 0 || b->block % GROUP != 0)
        FAIL(AT_DATA,
             "%s: tensor %s has rows of %llu values in blocks of %u; both must be multiples of %d",
             s->file, s->name, (unsigned long long)s->cols, b->block, GROUP);
    if (s->n_bytes / (s->cols / 2) != s->rows || s->n_bytes % (s->cols / 2) != 0)
        FAIL(AT_DATA, "%s: tensor %s has %llu bytes; %llu x %llu values of 4 bits need %llu",
             s->file, s->name, (unsigned long long)s->n_bytes, (unsigned long long)s->rows,
             (unsigned long long)s->cols, (unsigned long long)(s->rows * s->cols / 2));
    TRY(take_part(&part, weights, arena, s->name, ".quant_map", "F32", N_CODES));
    TRY(check_codes(part, kind));
    if (at_json_find(state, "nested_blocksize")) {
        TRY(read_nested(b, weights, arena, s->name, state, at_div_up(s->rows * s->cols, b->block)));
    } else {
        TRY(take_part(&part, weights, arena, s->name, ".absmax", "F32",
                      at_div_up(s->rows * s->cols, b->block)));
        b->absmax = part->data;
    }
    s->type = kind->type;
    s->type_name = kind->name;
    s->format = NULL;
    s->n_dims = 2;
    s->dim[0] = s->rows;
    s->dim[1] = s->cols;
    s->row_bytes = s->cols / 2;
    s->repack = repack_row;
    s->context = b;
done:
    return st;
}

/* `state`: the tensor with the JSON text, whose name ends with the kind's suffix. */
static AT_CHECKED read_state(struct at_weights *weights, struct at_source *state,
                             const struct kind *kind)
{
    const size_t n = strlen(state->name) - strlen(kind->suffix);
    const struct at_source *codes = NULL;
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    cJSON *json = NULL;
    char *name = NULL;

    TRY(at_arena_strndup(&arena, &name, state->name, n));
    codes = at_weights_find(weights, name);
    if (!codes)
        FAIL(AT_DATA, "%s: tensor %s is missing, which %s tells about", state->file, name,
             state->name);
    if (state->n_bytes > MAX_STATE_BYTES)
        FAIL(AT_DATA, "%s: tensor %s has %llu bytes; a JSON text of at most %d is expected",
             state->file, state->name, (unsigned long long)state->n_bytes, MAX_STATE_BYTES);
    TRY(at_json_parse(&json, (const char *)state->data, state->n_bytes, state->name, 1));
    TRY(read_matrix(&weights->sources[codes - weights->sources], weights, &arena, kind, json));
    state->is_part = true;
done:
    at_json_free(&json);
    at_arena_release(&arena);
    return st;
}

/* ---- matrices of 8 bits ---- */

/* A row's bytes, and its largest magnitude. */
static void repack_bytes(uint8_t *plane0, uint8_t *plane1, const struct at_source *s, uint64_t row)
{
    const struct at_source *largest = s->context;

    memcpy(plane0, s->data + row * s->row_bytes, s->row_bytes);
    memcpy(plane1, largest->data + row * sizeof(float), sizeof(float));
}

/* `scales`: the tensor NAME.SCB, beside NAME.weight and, in files of today, NAME.weight_format. */
static AT_CHECKED read_bytes(struct at_weights *weights, struct at_source *scales)
{
    const struct at_source *found = NULL, *format = NULL;
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    struct at_source *s = NULL, *part = NULL;
    char *name = NULL, *full = NULL;

    TRY(at_arena_strndup(&arena, &name, scales->name, strlen(scales->name) - strlen(BYTES_SUFFIX)));
    TRY(at_arena_printf(&arena, &full, "%s.weight", name));
    found = at_weights_find(weights, full);
    if (!found)
        FAIL(AT_DATA, "%s: tensor %s is missing, whose scales are in %s", scales->file, full,
             scales->name);
    s = &weights->sources[found - weights->sources];
    if (strcmp(s->type_name, "I8") != 0 || s->n_dims != 2 ||
        s->cols % at_quant_get(AT_INT8)->block_cols != 0)
        FAIL(AT_DATA,
             "%s: tensor %s has type %s and rows of %llu values; beside %s a matrix of I8 is "
             "expected, its rows multiples of %u",
             s->file, s->name, s->type_name, (unsigned long long)s->cols, scales->name,
             at_quant_get(AT_INT8)->block_cols);
    TRY(take_part(&part, weights, &arena, name, BYTES_SUFFIX, "F32", s->rows));
    TRY(at_arena_printf(&arena, &full, "%s.weight_format", name));
    format = at_weights_find(weights, full);
    if (format) {
        struct at_source *mark = NULL;
        TRY(take_part(&mark, weights, &arena, name, ".weight_format", "U8", 1));
        if (format->data[0] != 0)
            FAIL(AT_DATA, "%s: tensor %s is %u; only 0, rows as they are, is read", format->file,
                 format->name, format->data[0]);
    }
    s->type = AT_INT8;
    s->type_name = "INT8";
    s->format = NULL;
    s->repack = repack_bytes;
    s->context = part;
done:
    at_arena_release(&arena);
    return st;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);

    return n > m && strcmp(text + n - m, end) == 0;
}

AT_CHECKED at_bnb_attach(struct at_weights *weights)
{
    const cJSON *quantised = at_json_find(weights->config, "quantization_config");
    const cJSON *method = quantised ? at_json_find(quantised, "quant_method") : NULL;
    enum at_status st = AT_OK;
    size_t n_found = 0;

    for (size_t i = 0; i < weights->n_sources; i++) {
        if (ends_with(weights->sources[i].name, BYTES_SUFFIX)) {
            TRY(read_bytes(weights, &weights->sources[i]));
            n_found++;
        }
        for (size_t k = 0; k < AT_COUNT(kinds); k++)
            if (ends_with(weights->sources[i].name, kinds[k].suffix)) {
                TRY(read_state(weights, &weights->sources[i], &kinds[k]));
                n_found++;
            }
    }
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what fails never returns AT_OK */
    if (n_found == 0 && cJSON_IsString(method) && strcmp(method->valuestring, "bitsandbytes") == 0)
        FAIL(AT_DATA,
             "%s: quantization_config names bitsandbytes, but no tensor has a quant_state of 4 "
             "bits or an SCB of 8; give the model's plain weights, with load_in_8bit or "
             "load_in_4bit",
             weights->config_path);
done:
    return st;
}
