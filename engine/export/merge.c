#include "merge.h"

#include "dora.h"

#include <math.h>
#include <string.h>

enum { PANEL = AT_DORA_PANEL, RAW_PIECE_BYTES = 1 << 24 };
static const double worth_telling = 0.9; /* of what the adapters change, if less is left */

/* ---- what is written ---- */

static bool is_adapted(const struct at_export *stack, uint32_t k)
{
    for (size_t i = 0; i < stack->n; i++)
        if (stack->stack[i]->rank[k] > 0)
            return true;
    return false;
}

/* Name of a role's tensor in the base. */
static AT_CHECKED name_of(struct at_merge *m, char **out, uint32_t role, uint32_t layer)
{
    const struct at_family *family = m->stack->config->family;

    return at_arena_printf(&m->arena, out,
                           m->gguf ? at_role_gguf_name(family, role) : at_role_name(family, role),
                           layer);
}

/* modules[i]: of tensor i of the base. */
static AT_CHECKED find_modules(struct at_merge *m, uint32_t *modules)
{
    enum at_status st = AT_OK;
    const struct at_adapter *first = m->stack->stack[0];
    const struct at_weights *base = m->params->base;
    const struct at_source *s = NULL;
    char *name = NULL;

    for (size_t i = 0; i < at_weights_count(base); i++)
        modules[i] = AT_NO_MODULE;
    for (uint32_t k = 0; k < first->n_modules; k++) {
        if (first->module[k] != k || !is_adapted(m->stack, k))
            continue;
        TRY(name_of(m, &name, AT_Q + k % AT_LINEARS, k / AT_LINEARS));
        s = at_weights_find(base, name);
        if (!s)
            FAIL(AT_DATA, "%s: tensor %s is missing", m->params->path, name);
        modules[s - at_weights_get(base, 0)] = k;
    }
done:
    return st;
}

/* Places and masks of old checkpoints: no weights, whatever type these are to have. */
static bool holds_integers(const struct at_source *s)
{
    return s->type == AT_QUANT_COUNT &&
           ((s->type_name[0] == 'I' && s->type_name[1] >= '0' && s->type_name[1] <= '9') ||
            s->type_name[0] == 'U' || strcmp(s->type_name, "BOOL") == 0);
}

static AT_CHECKED check_type(const struct at_merge *m, const struct at_merged_tensor *t,
                             const struct at_source *like)
{
    const struct at_format *f = t->format;
    const struct at_format *wanted = m->params->type;

    if (t->source->type == AT_QUANT_COUNT)
        return at_fail(AT_DATA,
                       "%s: tensor %s is %s, which is not read: take a base whose weights are of "
                       "another type",
                       t->source->file, t->name, t->source->type_name);
    if (!m->gguf && wanted && wanted->block_cols > 1)
        return at_fail(AT_USAGE,
                       "--type %s: a folder of safetensors holds f32, f16 or bf16; blocks of "
                       "quantised values are for GGUF files",
                       wanted->name);
    if (!f || !at_format_is_written(f))
        return at_fail(AT_USAGE,
                       "%s: tensor %s is %s, which is not written: choose the type of the "
                       "merged model's matrices with --type (bf16, f16, f32)",
                       like->file, t->name, like->type_name);
    return AT_OK;
}

/* The type that is asked for, as far as rows are whole blocks of it, or the base's own. */
static const struct at_format *wanted_format(const struct at_merge *m, const struct at_source *like,
                                             uint64_t cols)
{
    const struct at_format *wanted = m->params->type;

    if (!wanted)
        return like->format;
    return m->gguf ? at_format_for_rows(wanted, cols) : wanted;
}

/* `like`: whose type it has where none is asked for. */
static AT_CHECKED add(struct at_merge *m, const char *name, const struct at_source *source,
                      const struct at_source *like, uint32_t module)
{
    enum at_status st = AT_OK;
    struct at_merged_tensor *t = &m->tensors[m->n++];
    const bool matrix = source->n_dims == 2;
    const bool as_is = source == like && module == AT_NO_MODULE;

    *t =
        (struct at_merged_tensor){ .name = name, .source = source, .like = like, .module = module };
    t->format = matrix && !(as_is && holds_integers(like)) ? wanted_format(m, like, source->cols)
                                                           : like->format;
    if (as_is && (!matrix || t->format == like->format)) {
        if (source->repack && matrix) /* bitsandbytes: its scales lie elsewhere */
            TRY(check_type(m, t, like));
        t->format = NULL;
        t->n_bytes = source->n_bytes;
        goto done;
    }
    TRY(check_type(m, t, like));
    t->n_bytes = source->rows * (source->cols / t->format->block_cols) * t->format->block_bytes;
done:
    return st;
}

static AT_CHECKED list_tensors(struct at_merge *m)
{
    enum at_status st = AT_OK;
    const struct at_weights *base = m->params->base;
    const size_t n = at_weights_count(base);
    const struct at_source *saved[AT_SAVED_COUNT] = { NULL }, *score = NULL;
    char *names[AT_SAVED_COUNT] = { NULL };
    bool has_head = false, changes = false;
    uint32_t *modules = NULL;

    TRY(at_arena_alloc(&m->arena, &modules, n, sizeof *modules));
    TRY(at_arena_alloc(&m->arena, &m->tensors, n + 1, sizeof *m->tensors));
    TRY(find_modules(m, modules));
    TRY(name_of(m, &names[AT_SAVED_EMBED], AT_EMBED, 0));
    TRY(name_of(m, &names[AT_SAVED_HEAD], AT_HEAD, 0));
    at_adapter_top(saved, &score, m->stack->stack, m->stack->n);
    for (size_t i = 0; i < n; i++) {
        const struct at_source *s = at_weights_get(base, i), *from = s;
        if (s->is_part)
            continue;
        for (uint32_t k = 0; k < AT_SAVED_COUNT; k++)
            if (strcmp(s->name, names[k]) == 0 && saved[k])
                from = saved[k];
        has_head = has_head || strcmp(s->name, names[AT_SAVED_HEAD]) == 0;
        TRY(add(m, s->name, from, s, modules[i]));
    }
    for (uint32_t k = 0; k < AT_SAVED_COUNT; k++)
        changes = changes || saved[k];
    m->unties = m->stack->config->tied && changes;
    if (m->unties && m->gguf && m->stack->config->family->gguf_ties)
        FAIL(
            AT_USAGE,
            "an adapter holds head or embedding as a whole (modules_to_save), which are one matrix "
            "in %s models; llama.cpp reads no head beside the embedding: merge it into the model's "
            "folder",
            m->stack->config->family->name);
    if (m->unties && !has_head) {
        const struct at_source *embed = at_weights_find(base, names[AT_SAVED_EMBED]);
        AT_REQUIRE(embed);
        TRY(add(m, names[AT_SAVED_HEAD], saved[AT_SAVED_HEAD] ? saved[AT_SAVED_HEAD] : embed, embed,
                AT_NO_MODULE));
    }
done:
    return st;
}

static void warn_of_fallbacks(const struct at_merge *m)
{
    const struct at_format *wanted = m->params->type;
    const struct at_merged_tensor *example = NULL;
    size_t matrices = 0, others = 0;

    for (size_t i = 0; wanted && i < m->n; i++) {
        const struct at_merged_tensor *t = &m->tensors[i];
        const bool matrix = t->source->n_dims == 2;
        matrices += matrix;
        if (!matrix || t->source->cols % wanted->block_cols == 0)
            continue;
        others++;
        example = t;
    }
    if (example)
        at_warn("merge_fallback",
                "%zu of %zu matrices have rows that are not whole blocks of %u values, as %s needs "
                "them: they are written as llama.cpp does it, %s (rows of %llu) as %s",
                others, matrices, wanted->block_cols, wanted->name, example->name,
                (unsigned long long)example->source->cols, at_merged_type(example));
}

AT_CHECKED at_merge_plan(struct at_merge *out, const struct at_export *stack,
                         const struct at_merge_params *params)
{
    enum at_status st = AT_OK;

    *out = (struct at_merge){ .stack = stack,
                              .params = params,
                              .gguf = at_weights_is_gguf(params->base) };
    TRY(at_arena_alloc(&out->arena, &out->sums, 1, sizeof *out->sums));
    TRY(list_tensors(out));
    warn_of_fallbacks(out);
    TRY(at_stream_create(&out->stream, params->gpu));
done:
    if (st != AT_OK)
        at_merge_release(out);
    return st;
}

void at_merge_release(struct at_merge *m)
{
    at_stream_destroy(&m->stream);
    at_arena_release(&m->arena);
}

const char *at_merged_type(const struct at_merged_tensor *t)
{
    return t->format ? t->format->name : t->source->type_name;
}

/* ---- a matrix ---- */

/* One adapter's part of a module, its rows in the order of PEFT's files. */
struct part {
    struct at_lora lora;
    float *B, *m;
};
/* A matrix on its way: a panel of rows on the device and on the host. */
struct matrix {
    const struct at_merge *merge;
    const struct at_merged_tensor *tensor;
    struct at_pool *pool;
    struct at_weight raw, saved; /* of the base (where it is read), and what takes its place */
    struct at_tensor values;
    struct at_code_places places; /* where codes are rounded by chance */
    struct part *parts;           /* (stack->n) */
    uint64_t *rows; /* (source->rows) PEFT's row that is a row of the file; NULL: itself */
    float *gathered, *base, *out;
    uint8_t *bytes;
    struct at_arena arena;
};

/* Whether adapters change it: otherwise it is only written in another type. */
static bool is_changed(const struct at_merged_tensor *t)
{
    return t->module != AT_NO_MODULE || t->source != t->like;
}

/* Whether there are values of the base to compare with; those that an adapter replaces may be of a
 * type that is not read. */
static bool has_base(const struct at_merged_tensor *t)
{
    return t->like->type != AT_QUANT_COUNT;
}

/* Whether it keeps the blocks that the base has, with other codes. */
static bool keeps_blocks(const struct at_merged_tensor *t)
{
    return is_changed(t) && t->format == t->like->format && t->format->block_cols > 1;
}

/* The module's linears lie in the file's rows by turns, and q and k of some families turned. */
static AT_CHECKED order_rows(struct matrix *x)
{
    enum at_status st = AT_OK;
    const struct at_model_config *c = x->merge->stack->config;
    const uint32_t k = x->tensor->module, first = k % AT_LINEARS;
    uint32_t in = 0, out = 0;

    TRY(at_arena_alloc(&x->arena, &x->rows, x->tensor->source->rows, sizeof *x->rows));
    for (uint32_t i = first; i < AT_LINEARS; i++) {
        if (!at_linear_path(c->family, i) || at_linear_module(c->family, i) != first)
            continue;
        at_linear_shape(c, i, &in, &out);
        for (uint32_t row = 0; row < out; row++) {
            const uint64_t to = at_file_row(c, AT_Q + i, row, x->merge->gguf);
            AT_REQUIRE(to < x->tensor->source->rows);
            x->rows[to] = at_module_row(c, i, row, false);
        }
    }
done:
    return st;
}

static AT_CHECKED read_parts(struct matrix *x)
{
    enum at_status st = AT_OK;
    const struct at_export *stack = x->merge->stack;
    const uint32_t k = x->tensor->module;
    const uint64_t rows = x->tensor->source->rows;
    uint32_t most = 1;

    for (size_t i = 0; i < stack->n; i++) {
        const struct at_adapter *a = stack->stack[i];
        struct part *p = &x->parts[i];
        const uint32_t r = a->rank[k];
        if (r == 0)
            continue;
        most = r > most ? r : most;
        TRY(at_arena_alloc(&x->arena, &p->B, rows * r, sizeof *p->B));
        TRY(at_adapter_read_module(p->B, a, k, 'B'));
        if (a->dora) {
            TRY(at_arena_alloc(&x->arena, &p->m, rows, sizeof *p->m));
            TRY(at_adapter_read_module(p->m, a, k, 'm'));
        }
    }
    TRY(at_arena_alloc(&x->arena, &x->gathered, (size_t)PANEL * most, sizeof *x->gathered));
done:
    return st;
}

static void reserve(struct matrix *x)
{
    const struct at_merged_tensor *t = x->tensor;
    const struct at_export *stack = x->merge->stack;
    const uint32_t k = t->module, cols = (uint32_t)t->like->cols;

    if (has_base(t))
        at_weight_reserve(x->pool, &x->raw, t->like->type, PANEL, cols, "panel");
    if (t->source != t->like)
        at_weight_reserve(x->pool, &x->saved, t->source->type, PANEL, cols, "panel");
    at_tensor_reserve(x->pool, &x->values, PANEL, cols, "panel");
    for (size_t i = 0; k != AT_NO_MODULE && i < stack->n; i++) {
        struct at_lora *lora = &x->parts[i].lora;
        const uint32_t r = stack->stack[i]->rank[k];
        if (r == 0)
            continue;
        lora->scale = stack->stack[i]->lora[k].scale;
        at_tensor_reserve(x->pool, &lora->A, r, cols, "adapter");
        at_tensor_reserve(x->pool, &lora->B, PANEL, r, "adapter");
        if (!stack->stack[i]->dora)
            continue;
        at_tensor_reserve(x->pool, &lora->m, 1, PANEL, "adapter");
        at_pool_reserve(x->pool, &lora->norm, PANEL * sizeof(float), "adapter");
    }
}

static AT_CHECKED write_A(struct matrix *x)
{
    enum at_status st = AT_OK;
    const struct at_export *stack = x->merge->stack;
    float *values = NULL;

    for (size_t i = 0; i < stack->n; i++) {
        const struct at_tensor A = x->parts[i].lora.A;
        if (!x->parts[i].B)
            continue;
        TRY(at_alloc(&values, (size_t)A.dim[0] * A.dim[1], sizeof *values));
        TRY(at_adapter_read_module(values, stack->stack[i], x->tensor->module, 'A'));
        TRY(at_tensor_write(x->merge->params->gpu, A, values));
        at_free(&values);
    }
done:
    at_free(&values);
    return st;
}

static AT_CHECKED open_matrix(struct matrix *x)
{
    enum at_status st = AT_OK;
    const struct at_source *s = x->tensor->source;
    const struct at_format *f = x->tensor->format;

    AT_REQUIRE(s->rows == x->tensor->like->rows && s->cols == x->tensor->like->cols);
    if (keeps_blocks(x->tensor))
        at_code_places_find(&x->places, f);
    TRY(at_arena_alloc(&x->arena, &x->parts, x->merge->stack->n, sizeof *x->parts));
    TRY(at_arena_alloc(&x->arena, &x->base, PANEL * s->cols, sizeof *x->base));
    TRY(at_arena_alloc(&x->arena, &x->out, PANEL * s->cols, sizeof *x->out));
    TRY(at_arena_alloc(&x->arena, &x->bytes, PANEL * (s->cols / f->block_cols), f->block_bytes));
    if (x->tensor->module != AT_NO_MODULE) {
        TRY(order_rows(x));
        TRY(read_parts(x));
    }
    TRY(at_pool_create(&x->pool, x->merge->params->gpu, "merge"));
    reserve(x);
    TRY(at_pool_commit(x->pool));
    if (x->tensor->module != AT_NO_MODULE)
        TRY(write_A(x));
done:
    return st;
}

/* What a panel's rows have of an array of rows in PEFT's order. */
static const float *gather(struct matrix *x, const float *from, uint32_t width, uint64_t begin,
                           uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        memcpy(x->gathered + (size_t)i * width, from + x->rows[begin + i] * width,
               width * sizeof *from);
    return x->gathered;
}

static AT_CHECKED merge_part(struct matrix *x, struct part *p, struct at_tensor values,
                             uint64_t begin, uint32_t n)
{
    enum at_status st = AT_OK;
    struct at_gpu *gpu = x->merge->params->gpu;
    struct at_lora lora = p->lora;

    lora.B = at_tensor_rows(p->lora.B, 0, n);
    TRY(at_tensor_write(gpu, lora.B, gather(x, p->B, lora.B.dim[1], begin, n)));
    if (!p->m) {
        at_matmul_nn(x->merge->stream, values, lora.B, lora.A, lora.scale, true);
        goto done;
    }
    lora.m = at_tensor_make(p->lora.m.view, 1, n);
    TRY(at_tensor_write(gpu, lora.m, gather(x, p->m, 1, begin, n)));
    at_dora_merge(x->merge->stream, values, &lora);
done:
    return st;
}

static uint64_t from_row(const void *context, uint64_t i)
{
    return *(const uint64_t *)context + i;
}

/* Rows of a source as values on the device. */
static AT_CHECKED read_rows(struct matrix *x, struct at_tensor values, struct at_weight raw,
                            const struct at_source *source, uint64_t begin)
{
    enum at_status st = AT_OK;
    struct at_gpu *gpu = x->merge->params->gpu;

    TRY(at_weight_upload(gpu, raw, source, from_row, &begin));
    TRY(at_stream_wait(at_gpu_transfer(gpu)));
    at_dequantise(x->merge->stream, values, raw);
    TRY(at_stream_wait(x->merge->stream));
done:
    return st;
}

static AT_CHECKED merge_panel(struct matrix *x, uint64_t begin, uint32_t n)
{
    enum at_status st = AT_OK;
    struct at_gpu *gpu = x->merge->params->gpu;
    const struct at_merged_tensor *t = x->tensor;
    const struct at_tensor values = at_tensor_rows(x->values, 0, n);

    if (has_base(t)) {
        TRY(read_rows(x, values, at_weight_rows(x->raw, 0, n), t->like, begin));
        TRY(at_tensor_read(gpu, x->base, values));
    }
    if (t->source != t->like)
        TRY(read_rows(x, values, at_weight_rows(x->saved, 0, n), t->source, begin));
    for (size_t i = 0; i < x->merge->stack->n; i++)
        if (x->parts[i].B)
            TRY(merge_part(x, &x->parts[i], values, begin, n));
    TRY(at_stream_wait(x->merge->stream));
    TRY(at_tensor_read(gpu, x->out, values));
done:
    return st;
}

/* How much of the merge the type of the file rounds away. */
static void count_rounding(const struct matrix *x, uint64_t n)
{
    struct at_merge_sums *sums = x->merge->sums;
    const struct at_format *f = x->tensor->format;

    if (!is_changed(x->tensor))
        return;
    sums->quantised = sums->quantised || f->block_cols > 1;
    if (!has_base(x->tensor))
        return;
    sums->lost += at_format_rounding(f, x->bytes, x->out, n);
    sums->moved += at_format_rounding(f, x->bytes, x->base, n);
    for (uint64_t i = 0; i < n; i++) {
        const double d = (double)x->out[i] - (double)x->base[i];
        sums->change += d * d;
    }
}

/* A panel in the type of the file. What lies on the grid of the base's own blocks keeps their
 * scales, and is rounded by chance: to nearest, most of an adapter would go back to where it came
 * from. */
static AT_CHECKED encode_panel(struct matrix *x, uint64_t begin, uint64_t n)
{
    const struct at_merged_tensor *t = x->tensor;
    const struct at_source *s = t->like;
    const uint32_t number = AT_NO_MODULE - (uint32_t)(t - x->merge->tensors); /* of no module */
    const struct at_chance chance = { .seed = t->module != AT_NO_MODULE ? t->module : number,
                                      .first = begin * s->cols };

    if (!keeps_blocks(t))
        return at_format_encode(x->bytes, t->format, x->out, n, t->name);
    memcpy(x->bytes, s->data + begin * s->row_bytes, n / s->cols * s->row_bytes);
    return at_format_recode(x->bytes, t->format, x->out, n, t->name, &x->places, &chance);
}

static AT_CHECKED write_matrix(const struct at_merge *m, const struct at_merged_tensor *t,
                               at_put_bytes *put, void *context)
{
    enum at_status st = AT_OK;
    struct matrix x = { .merge = m, .tensor = t };
    const struct at_source *s = t->source;
    const struct at_format *f = t->format;

    TRY(open_matrix(&x));
    for (uint64_t begin = 0; begin < s->rows; begin += PANEL) {
        const uint32_t n = s->rows - begin < PANEL ? (uint32_t)(s->rows - begin) : PANEL;
        if (at_signal_status() != AT_OK)
            FAIL(at_signal_status(), "stopped by a signal at tensor %s", t->name);
        TRY(merge_panel(&x, begin, n));
        TRY(encode_panel(&x, begin, n * s->cols));
        count_rounding(&x, n * s->cols);
        TRY(put(context, x.bytes, n * (s->cols / f->block_cols) * f->block_bytes));
    }
done:
    at_pool_destroy(&x.pool);
    at_arena_release(&x.arena);
    return st;
}

AT_CHECKED at_merge_write(const struct at_merge *m, size_t i, at_put_bytes *put, void *context)
{
    enum at_status st = AT_OK;
    const struct at_merged_tensor *t = &m->tensors[i];
    const struct at_source *s = t->source;

    if (t->format)
        return write_matrix(m, t, put, context);
    for (uint64_t at = 0; at < s->n_bytes; at += RAW_PIECE_BYTES) {
        const uint64_t left = s->n_bytes - at, n = left < RAW_PIECE_BYTES ? left : RAW_PIECE_BYTES;
        TRY(put(context, s->data + at, n));
        at_map_drop(s->map, (size_t)(s->data - s->map->data) + at, n);
    }
done:
    return st;
}

/* ---- the model ---- */

/* What lies on a type's grid and moves by less than half a step of it does not move at all. What is
 * left: written less base, along merged less base. Noise beside it is the type's own. */
static void warn_of_rounding(const struct at_merge *m)
{
    const struct at_merge_sums *s = m->sums;
    const double left = s->change > 0 ? 0.5 + (s->moved - s->lost) / (2 * s->change) : 1;

    if (left < worth_telling)
        at_warn("merge_rounding",
                "rounding to the file's type leaves %.0f %% of what the adapters change in the "
                "weights, for a step of the type is not small beside the change: --type %s keeps "
                "it",
                100 * fmax(left, 0), m->gguf ? "f16" : "f32");
}

AT_CHECKED at_export_merged(bool *quantised, const struct at_export *stack,
                            const struct at_merge_params *params, const char *path)
{
    enum at_status st = AT_OK;
    struct at_merge m;

    *quantised = false;
    TRY(at_merge_plan(&m, stack, params));
    st = m.gguf ? at_merge_gguf(&m, path) : at_merge_folder(&m, path);
    if (st == AT_OK)
        warn_of_rounding(&m);
    *quantised = m.sums->quantised;
    at_merge_release(&m);
done:
    return st;
}
