/* LoRA adapters as llama.cpp reads them (its convert_lora_to_gguf.py, llama-adapter.cpp). */
#include "export.h"
#include "gguf_write.h"

#include <math.h>

struct adapter_file {
    const struct at_export *stack;
    float alpha;     /* the file's */
    uint32_t *ranks; /* (modules), of the whole stack; 0: not adapted */
    struct at_gguf_tensor *tensors;
    size_t n_tensors;
    struct at_arena arena;
};

static AT_CHECKED check(const struct at_export *stack)
{
    for (size_t i = 0; i < stack->n; i++) {
        const struct at_adapter *a = stack->stack[i];
        if (a->dora)
            return at_fail(AT_USAGE,
                           "adapter %zu has magnitudes of DoRA (use_dora), which GGUF adapters "
                           "cannot hold; export it as a PEFT folder, or merge it into the base "
                           "(attune merge)",
                           i + 1);
        for (uint32_t k = 0; k < AT_SAVED_COUNT; k++)
            if (a->saved[k])
                return at_fail(AT_USAGE,
                               "adapter %zu holds %s as a whole (modules_to_save), which GGUF "
                               "adapters cannot hold; export it as a PEFT folder, or merge it "
                               "into the base (attune merge)",
                               i + 1, at_saved_name(k));
    }
    return AT_OK;
}

/* One adapter keeps its own alpha, with rsLoRA times the square root of its rank; a stack's is its
 * rank, which scales by 1. So is that of an alpha of 0, which llama.cpp reads as no scale at all.
 */
static float alpha_of(const struct at_export *stack)
{
    const struct at_adapter *a = stack->stack[0];
    const float alpha = (float)(a->alpha * (a->rslora ? sqrt(a->r) : 1));
    uint32_t rank = 0;

    if (stack->n == 1 && alpha != 0)
        return alpha;
    for (size_t i = 0; i < stack->n; i++)
        rank += stack->stack[i]->r;
    return (float)rank;
}

static AT_CHECKED plan(struct adapter_file *f)
{
    enum at_status st = AT_OK;
    const size_t n = f->stack->stack[0]->n_modules;
    const struct at_family *family = f->stack->config->family;

    for (uint32_t i = 0; i < AT_LINEARS; i++)
        if (at_linear_module(family, i) != i)
            FAIL(AT_DATA,
                 "adapters of %s, whose layers share matrices, are not exported as GGUF; their "
                 "PEFT folder is what training wrote",
                 family->name);
    TRY(at_arena_alloc(&f->arena, &f->ranks, n, sizeof *f->ranks));
    TRY(at_arena_alloc(&f->arena, &f->tensors, 2 * n, sizeof *f->tensors));
    for (uint32_t k = 0; k < n; k++) {
        uint32_t in = 0, out = 0;
        char *name = NULL, *a = NULL, *b = NULL;
        for (size_t i = 0; i < f->stack->n; i++)
            f->ranks[k] += f->stack->stack[i]->rank[k];
        if (f->ranks[k] == 0)
            continue;
        at_linear_shape(f->stack->config, k % AT_LINEARS, &in, &out);
        TRY(at_arena_printf(&f->arena, &name, at_role_gguf_name(family, AT_Q + k % AT_LINEARS),
                            k / AT_LINEARS));
        TRY(at_arena_printf(&f->arena, &a, "%s.lora_a", name));
        TRY(at_arena_printf(&f->arena, &b, "%s.lora_b", name));
        f->tensors[f->n_tensors++] = (struct at_gguf_tensor){
            a, 2, { f->ranks[k], in }, AT_GGML_F32, 4ull * f->ranks[k] * in
        };
        f->tensors[f->n_tensors++] = (struct at_gguf_tensor){
            b, 2, { out, f->ranks[k] }, AT_GGML_F32, 4ull * out * f->ranks[k]
        };
    }
done:
    return st;
}

static AT_CHECKED put_A(struct at_gguf_writer *w, const struct adapter_file *f, uint32_t k,
                        uint32_t in)
{
    enum at_status st = AT_OK;
    float *values = NULL;

    for (size_t i = 0; i < f->stack->n; i++) {
        const struct at_adapter *a = f->stack->stack[i];
        const size_t n = (size_t)a->rank[k] * in;
        if (n == 0)
            continue;
        TRY(at_alloc(&values, n, sizeof *values));
        TRY(at_adapter_read_file(values, a, k, 'A'));
        TRY(at_gguf_put(w, values, n * sizeof *values));
        at_free(&values);
    }
done:
    at_free(&values);
    return st;
}

/* What of the scale of adapter a in module k alpha / rank does not say; exactly 1 where that is but
 * a rounding. */
static float rest_of_scale(const struct adapter_file *f, const struct at_adapter *a, uint32_t k)
{
    const double rest = a->lora[k].scale / ((double)f->alpha / f->ranks[k]);

    return fabs(rest - 1) < 1e-6 ? 1 : (float)rest;
}

/* B = [s1 B1, s2 B2, ...], its rows as the base's file has them. */
static AT_CHECKED put_B(struct at_gguf_writer *w, const struct adapter_file *f, uint32_t k,
                        uint32_t out)
{
    enum at_status st = AT_OK;
    const struct at_model_config *c = f->stack->config;
    const uint32_t R = f->ranks[k];
    float *values = NULL, *all = NULL;
    uint32_t at = 0;

    TRY(at_alloc(&all, (size_t)out * R, sizeof *all));
    for (size_t i = 0; i < f->stack->n; i++) {
        const struct at_adapter *a = f->stack->stack[i];
        const uint32_t r = a->rank[k];
        const float rest = rest_of_scale(f, a, k);
        if (r == 0)
            continue;
        TRY(at_alloc(&values, (size_t)out * r, sizeof *values));
        TRY(at_adapter_read_file(values, a, k, 'B'));
        for (uint32_t row = 0; row < out; row++) {
            const uint64_t to = at_file_row(c, AT_Q + k % AT_LINEARS, row, true);
            for (uint32_t j = 0; j < r; j++)
                all[to * R + at + j] = rest * values[(size_t)row * r + j];
        }
        at_free(&values);
        at += r;
    }
    TRY(at_gguf_put(w, all, 4ull * out * R));
done:
    at_free(&values);
    at_free(&all);
    return st;
}

AT_CHECKED at_export_gguf(const struct at_export *stack, const char *path)
{
    struct adapter_file f = { .stack = stack };
    enum at_status st = AT_OK;
    struct at_gguf_pairs pairs = { .n = 0 };
    struct at_gguf_writer *writer = NULL;

    TRY(check(stack));
    f.alpha = alpha_of(stack);
    TRY(plan(&f));
    at_gguf_put_text(&pairs, "general.type", "adapter");
    at_gguf_put_text(&pairs, "general.architecture", stack->config->family->gguf);
    at_gguf_put_u32(&pairs, "general.file_type", AT_GGML_F32);
    at_gguf_put_text(&pairs, "adapter.type", "lora");
    at_gguf_put_f32(&pairs, "adapter.lora.alpha", f.alpha);
    TRY(at_gguf_create(&writer, path, &pairs, f.tensors, f.n_tensors));
    for (uint32_t k = 0; k < stack->stack[0]->n_modules; k++) {
        uint32_t in = 0, out = 0;
        if (f.ranks[k] == 0)
            continue;
        at_linear_shape(stack->config, k % AT_LINEARS, &in, &out);
        TRY(put_A(writer, &f, k, in));
        TRY(put_B(writer, &f, k, out));
    }
    TRY(at_gguf_commit(writer));
done:
    at_gguf_close(&writer);
    at_buf_release(&pairs.bytes);
    at_arena_release(&f.arena);
    return st;
}
