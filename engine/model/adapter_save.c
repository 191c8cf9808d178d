/* PEFT files of a stack of adapters, and the check that an update moved every lora_B. */
#include "adapter_file.h"
#include "weights_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A tensor of the file: of module k 'A', 'B' or the magnitudes 'm', of the value head 'v', or saved
 * module k 's'. */
struct piece {
    uint32_t k;
    char part;
};

/* What is written: the stack's sizes, then its tensors, whose values come one tensor at a time. */
struct merged {
    struct at_gpu *gpu; /* NULL: values are those of the adapters' files */
    const struct at_model_config *model;
    const struct at_adapter *const *stack;
    size_t n_stack;
    uint32_t r; /* of modules whose adapters have none but their usual rank; so is alpha */
    double alpha;
    bool rslora;
    bool *used;            /* (L * AT_LINEARS): some adapter targets the module */
    double *rank, *alphas; /* (L * AT_LINEARS) */
    struct at_save_tensor *tensors;
    struct piece *pieces; /* of the tensors */
    size_t n_tensors;
    const struct at_value_head *value;
    const struct at_saved_module *saved; /* or NULL */
    struct at_arena arena;
};

/* ---- values ---- */

/* Rows that adapter a has in the written A of module k. */
static uint32_t rows_of(const struct at_adapter *a, uint32_t k)
{
    return a->rank[k] > 0 ? a->rank[k] : a->r;
}

/* Values of A ('A'), B or the magnitudes of module k of adapter a, which targets it. */
static AT_CHECKED read_part(struct at_gpu *gpu, float *out, const struct at_adapter *a, uint32_t k,
                            char part)
{
    const struct at_lora *lora = &a->lora[k];

    if (!gpu)
        return at_adapter_read_file(out, a, k, part);
    return at_tensor_read(gpu, out, part == 'A' ? lora->A : part == 'B' ? lora->B : lora->m);
}

/* A = [A1; A2; ...], rows of zeros for adapters that do not target module k. */
static AT_CHECKED merge_A(const struct merged *m, uint32_t k, float *out)
{
    enum at_status st = AT_OK;
    uint32_t at = 0, in = 0, width = 0;

    at_linear_shape(m->model, k % AT_LINEARS, &in, &width);
    for (size_t i = 0; i < m->n_stack; i++) {
        if (m->stack[i]->rank[k] > 0)
            TRY(read_part(m->gpu, out + (size_t)at * in, m->stack[i], k, 'A'));
        at += rows_of(m->stack[i], k);
    }
done:
    return st;
}

/* B = [s1 B1, s2 B2, ...] of linear k into the rows of its module; one adapter alone is written
 * unscaled, its alpha stands in the config. */
static AT_CHECKED merge_B(const struct merged *m, uint32_t k, float *out)
{
    enum at_status st = AT_OK;
    const uint32_t columns = (uint32_t)m->rank[k];
    float *values = NULL;
    uint32_t at = 0, in = 0, width = 0;

    at_linear_shape(m->model, k % AT_LINEARS, &in, &width);
    for (size_t i = 0; i < m->n_stack; i++) {
        const struct at_lora *lora = &m->stack[i]->lora[k];
        const uint32_t r = rows_of(m->stack[i], k);
        const float scale = m->n_stack > 1 ? lora->scale : 1;
        if (m->stack[i]->rank[k] > 0) {
            TRY(at_alloc(&values, (size_t)width * r, sizeof *values));
            TRY(read_part(m->gpu, values, m->stack[i], k, 'B'));
            for (uint32_t row = 0; row < width; row++) {
                float *to =
                    out + at_module_row(m->model, k % AT_LINEARS, row, false) * columns + at;
                for (uint32_t j = 0; j < r; j++)
                    to[j] = scale * values[(size_t)row * r + j];
            }
            at_free(&values);
        }
        at += r;
    }
done:
    at_free(&values);
    return st;
}

/* Magnitudes of linear k into the rows of its module, of an adapter with DoRA, which is alone. */
static AT_CHECKED place_magnitudes(const struct merged *m, uint32_t k, float *out)
{
    enum at_status st = AT_OK;
    float *values = NULL;
    uint32_t in = 0, n = 0;

    at_linear_shape(m->model, k % AT_LINEARS, &in, &n);
    TRY(at_alloc(&values, n, sizeof *values));
    TRY(read_part(m->gpu, values, m->stack[0], k, 'm'));
    for (uint32_t row = 0; row < n; row++)
        out[at_module_row(m->model, k % AT_LINEARS, row, false)] = values[row];
done:
    at_free(&values);
    return st;
}

/* B ('B') or the magnitudes ('m') of all linears of module k. */
static AT_CHECKED read_linears(const struct merged *m, struct piece piece, float *out)
{
    const uint32_t first = piece.k - piece.k % AT_LINEARS;
    enum at_status st = AT_OK;

    for (uint32_t i = piece.k; i < first + AT_LINEARS; i++) {
        if (m->stack[0]->module[i] != piece.k || !m->used[i])
            continue;
        if (piece.part == 'B')
            TRY(merge_B(m, i, out));
        else
            TRY(place_magnitudes(m, i, out));
    }
done:
    return st;
}

/* An at_read_tensor: `out` is zeros. */
static AT_CHECKED read_piece(void *merged, size_t i, float *out)
{
    const struct merged *m = merged;
    const struct piece piece = m->pieces[i];

    switch (piece.part) {
    case 'A':
        return merge_A(m, piece.k, out);
    case 'v':
        return at_tensor_read(m->gpu, out, m->value->w);
    case 's':
        if (m->saved[piece.k].param)
            return at_tensor_read(m->gpu, out, m->saved[piece.k].param->p);
        return at_source_floats(out, m->saved[piece.k].source);
    default:
        return read_linears(m, piece, out);
    }
}

/* ---- what is written ---- */

static void add(struct merged *m, struct piece piece, struct at_save_tensor tensor)
{
    m->pieces[m->n_tensors] = piece;
    m->tensors[m->n_tensors++] = tensor;
}

static AT_CHECKED add_module(struct merged *m, uint32_t k)
{
    enum at_status st = AT_OK;
    const char parts[] = { 'A', 'B', 'm' };
    const uint32_t r = (uint32_t)m->rank[k];
    uint32_t in = 0, out = 0;

    at_module_shape(m->model, k % AT_LINEARS, &in, &out);
    AT_REQUIRE(!m->stack[0]->dora || m->n_stack == 1);
    for (size_t i = 0; i < (m->stack[0]->dora ? 3u : 2u); i++) {
        struct at_save_tensor t = { .n_dims = 2, .dim = { r, in } };
        char *name = NULL;
        if (parts[i] == 'B')
            t = (struct at_save_tensor){ .n_dims = 2, .dim = { out, r } };
        if (parts[i] == 'm')
            t = (struct at_save_tensor){ .n_dims = 1, .dim = { out } };
        TRY(at_adapter_tensor_name(&m->arena, &name, m->model->family, k / AT_LINEARS,
                                   k % AT_LINEARS, parts[i]));
        t.name = name;
        add(m, (struct piece){ k, parts[i] }, t);
    }
done:
    return st;
}

static bool is_saved(const struct merged *m, uint32_t module)
{
    return m->saved && (m->saved[module].param || m->saved[module].source);
}

static AT_CHECKED merge(struct merged *m)
{
    const size_t n = (size_t)m->model->L * AT_LINEARS, most = 3 * n + 1 + AT_SAVED_COUNT;
    enum at_status st = AT_OK;

    TRY(at_arena_alloc(&m->arena, &m->used, n, sizeof *m->used));
    TRY(at_arena_alloc(&m->arena, &m->rank, n, sizeof *m->rank));
    TRY(at_arena_alloc(&m->arena, &m->alphas, n, sizeof *m->alphas));
    TRY(at_arena_alloc(&m->arena, &m->tensors, most, sizeof *m->tensors));
    TRY(at_arena_alloc(&m->arena, &m->pieces, most, sizeof *m->pieces));
    m->alpha = m->stack[0]->alpha;
    m->rslora = m->stack[0]->rslora;
    for (size_t i = 0; i < m->n_stack; i++) {
        m->r += m->stack[i]->r;
        for (uint32_t k = 0; k < n; k++) {
            m->used[k] = m->used[k] || m->stack[i]->rank[k] > 0;
            m->rank[k] += rows_of(m->stack[i], k);
            m->alphas[k] = m->n_stack > 1 ? m->rank[k] : m->stack[i]->alphas[k];
        }
    }
    if (m->n_stack > 1) {
        m->alpha = m->r;
        m->rslora = false;
    }
    for (uint32_t k = 0; k < n; k++)
        if (m->used[k] && m->stack[0]->module[k] == k)
            TRY(add_module(m, k));
    if (m->value)
        add(m, (struct piece){ 0, 'v' },
            (struct at_save_tensor){
                .name = AT_ADAPTER_SCORE, .n_dims = 2, .dim = { 1, m->model->C } });
    /* modules trained in full, and those that a frozen adapter has put in the base's place */
    for (uint32_t i = 0; i < AT_SAVED_COUNT; i++)
        if (is_saved(m, i))
            add(m, (struct piece){ i, 's' },
                (struct at_save_tensor){
                    .name = at_saved_tensor(i), .n_dims = 2, .dim = { m->model->V, m->model->C } });
done:
    return st;
}

/* ---- adapter_config.json ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Short names when each kind of layer is targeted everywhere or nowhere; else every full path. */
static AT_CHECKED list_targets(struct merged *m, const char ***out, size_t *n)
{
    const size_t n_modules = (size_t)m->model->L * AT_LINEARS;
    enum at_status st = AT_OK;
    bool uniform = true;

    *n = 0;
    TRY(at_arena_alloc(&m->arena, out, n_modules, sizeof **out));
    for (size_t k = 0; k < n_modules; k++)
        uniform = uniform && m->used[k] == m->used[k % AT_LINEARS];
    for (uint32_t k = 0; k < (uniform ? AT_LINEARS : n_modules); k++) {
        char *path = NULL;
        if (!m->used[k] || m->stack[0]->module[k] != k)
            continue;
        TRY(at_adapter_path(&m->arena, &path, m->model->family, k));
        (*out)[(*n)++] = uniform ? at_linear_name(m->model->family, k) : path;
    }
    qsort(*out, *n, sizeof **out, by_text);
done:
    return st;
}

static void put_text(struct at_buf *out, const char *key, const char *text)
{
    at_buf_printf(out, "  \"%s\": ", key);
    if (text)
        at_json_write_string(out, text, strlen(text));
    else
        at_buf_puts(out, "null");
    at_buf_puts(out, ",\n");
}

static void put_double(struct at_buf *out, const char *key, double x)
{
    at_buf_printf(out, "  \"%s\": ", key);
    at_json_write_double(out, x);
    at_buf_puts(out, ",\n");
}

/* Whether every written module of this kind has the same value, *out. */
static bool same_in_layers(double *out, const struct merged *m, const double *values, uint32_t kind)
{
    bool found = false;

    for (size_t k = kind; k < (size_t)m->model->L * AT_LINEARS; k += AT_LINEARS) {
        if (!m->used[k])
            continue;
        if (found && values[k] != *out)
            return false;
        *out = values[k];
        found = true;
    }
    return true;
}

/* {"path": value, ...} of the written modules whose value is not `usual`: names where all layers
 * agree, else full paths. No module matches two keys: PEFT takes the first that matches and sorts
 * keys when it saves. */
static AT_CHECKED put_pattern(struct at_buf *out, struct merged *m, const char *key,
                              const double *values, double usual)
{
    enum at_status st = AT_OK;
    size_t n = 0;

    at_buf_printf(out, "  \"%s\": {", key);
    for (uint32_t kind = 0; kind < AT_LINEARS; kind++) {
        double value = usual;
        const bool same = same_in_layers(&value, m, values, kind);
        if (m->stack[0]->module[kind] != kind)
            continue;
        if (same && value != usual) {
            at_buf_printf(out, "%s\n    \"%s\": ", n++ ? "," : "",
                          at_linear_name(m->model->family, kind));
            at_json_write_double(out, value);
        }
        for (uint32_t l = 0; l < m->model->L && !same; l++) {
            const size_t k = (size_t)l * AT_LINEARS + kind;
            char *path = NULL;
            if (!m->used[k] || values[k] == usual)
                continue;
            TRY(at_adapter_path(&m->arena, &path, m->model->family, (uint32_t)k));
            at_buf_printf(out, "%s\n    \"%s\": ", n++ ? "," : "", path);
            at_json_write_double(out, values[k]);
        }
    }
    at_buf_puts(out, n ? "\n  },\n" : "},\n");
done:
    return st;
}

static void put_saved(struct at_buf *out, const struct merged *m)
{
    const struct {
        const char *name;
        bool is_there;
    } names[] = { { "classifier", m->value },
                  { at_saved_name(AT_SAVED_EMBED), is_saved(m, AT_SAVED_EMBED) },
                  { at_saved_name(AT_SAVED_HEAD), is_saved(m, AT_SAVED_HEAD) },
                  { "score", m->value } };
    size_t n = 0;

    at_buf_puts(out, "  \"modules_to_save\": ");
    for (size_t i = 0; i < AT_COUNT(names); i++)
        if (names[i].is_there)
            at_buf_printf(out, "%s\n    \"%s\"", n++ ? "," : "[", names[i].name);
    at_buf_puts(out, n ? "\n  ],\n" : "null,\n");
}

/* As PEFT writes it: keys sorted, two spaces. */
static AT_CHECKED make_config(struct at_buf *out, struct merged *m,
                              const struct at_adapter_record *record)
{
    enum at_status st = AT_OK;
    const char **targets = NULL;
    size_t n = 0;

    TRY(list_targets(m, &targets, &n));
    at_buf_puts(out, "{\n");
    TRY(put_pattern(out, m, "alpha_pattern", m->alphas, m->alpha));
    put_text(out, "base_model_name_or_path", record->base_model);
    at_buf_puts(out, "  \"bias\": \"none\",\n  \"fan_in_fan_out\": false,\n"
                     "  \"inference_mode\": true,\n");
    at_buf_printf(out, "  \"init_lora_weights\": %s,\n",
                  m->n_stack == 1 && m->stack[0]->gaussian ? "\"gaussian\"" : "true");
    at_buf_puts(out, "  \"layers_pattern\": null,\n  \"layers_to_transform\": null,\n");
    put_double(out, "lora_alpha", m->alpha);
    put_double(out, "lora_dropout", record->dropout);
    put_saved(out, m);
    at_buf_printf(out, "  \"peft_type\": \"LORA\",\n  \"r\": %u,\n", m->r);
    TRY(put_pattern(out, m, "rank_pattern", m->rank, m->r));
    if (record->revision)
        put_text(out, "revision", record->revision);
    else
        at_buf_puts(out, "  \"revision\": null,\n");
    at_buf_puts(out, "  \"target_modules\": [");
    for (size_t i = 0; i < n; i++)
        at_buf_printf(out, "%s\n    \"%s\"", i > 0 ? "," : "", targets[i]);
    at_buf_printf(out,
                  "\n  ],\n  \"task_type\": \"%s\",\n  \"use_dora\": %s,\n"
                  "  \"use_rslora\": %s\n}\n",
                  m->value ? "SEQ_CLS" : "CAUSAL_LM", m->stack[0]->dora ? "true" : "false",
                  m->rslora ? "true" : "false");
    TRY(at_buf_status(out));
done:
    return st;
}

AT_CHECKED at_adapter_save(const char *dir, struct at_gpu *gpu, const struct at_model_config *model,
                           const struct at_adapter *const *stack, size_t n,
                           const struct at_adapter_record *record)
{
    struct merged m = { .gpu = gpu,
                        .model = model,
                        .stack = stack,
                        .n_stack = n,
                        .value = record->value,
                        .saved = record->saved };
    enum at_status st = AT_OK;
    struct at_buf config = { 0 };
    char *path = NULL;

    AT_REQUIRE(n > 0);
    TRY(merge(&m));
    TRY(make_config(&config, &m, record));
    TRY(at_dir_create(dir));
    TRY(at_path_join(&m.arena, &path, dir, "adapter_model.safetensors"));
    TRY(at_safetensors_stream(path, m.tensors, m.n_tensors, NULL, 0, read_piece, &m));
    TRY(at_path_join(&m.arena, &path, dir, "adapter_config.json"));
    TRY(at_file_write_atomic(path, config.data, config.n));
done:
    at_buf_release(&config);
    at_arena_release(&m.arena);
    return st;
}

/* ---- after an update ---- */

AT_CHECKED at_adapter_check_moved(struct at_buf *out, struct at_gpu *gpu,
                                  const struct at_adapter *adapter)
{
    enum at_status st = AT_OK;
    float *values = NULL, *start = NULL;

    AT_REQUIRE(adapter->trainable);
    at_buf_clear(out);
    at_buf_puts(out, "");
    for (size_t k = 0; k < adapter->n_modules; k++) {
        const struct at_param *B = adapter->B[k];
        const size_t n = B ? (size_t)B->rows * B->cols : 0;
        bool moved = false, finite = true;
        if (!B)
            continue;
        TRY(at_alloc(&values, n, sizeof *values));
        TRY(at_alloc(&start, n, sizeof *start)); /* zeros for a fresh adapter */
        TRY(at_tensor_read(gpu, values, B->p));
        if (adapter->reference)
            TRY(at_tensor_read(gpu, start, adapter->reference[k].B));
        for (size_t i = 0; i < n; i++) {
            moved = moved || values[i] != start[i];
            finite = finite && isfinite(values[i]);
        }
        if (!moved || !finite)
            at_buf_printf(out, "%s%s", out->n > 0 ? ", " : "", B->name);
        at_free(&values);
        at_free(&start);
    }
    TRY(at_buf_status(out));
done:
    at_free(&values);
    at_free(&start);
    return st;
}
