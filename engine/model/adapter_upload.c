/* An adapter's values on the device: where they start, and a reference that changes. */
#include "activation.h"
#include "adapter_file.h"
#include "rng.h"

#include <math.h>
#include <string.h>

/* ---- upload ---- */

static void bind_params(struct at_adapter *adapter, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        struct at_lora *lora = &adapter->lora[k];
        if (!adapter->A[k])
            continue;
        lora->A = adapter->A[k]->p;
        lora->dA = adapter->A[k]->g;
        lora->B = adapter->B[k]->p;
        lora->dB = adapter->B[k]->g;
        if (adapter->m[k]) {
            lora->m = adapter->m[k]->p;
            lora->dm = adapter->m[k]->g;
        }
    }
}

static AT_CHECKED upload_fresh(struct at_gpu *gpu, const struct at_lora *lora,
                               const struct at_lora *copy, bool gaussian, uint64_t seed, uint32_t k,
                               bool part)
{
    struct at_rng rng = at_rng_make(seed, AT_RNG_INIT, k / AT_LINEARS, k % AT_LINEARS);
    const uint32_t r = lora->A.dim[0], in = lora->A.dim[1], out = lora->B.dim[0];
    const double bound = 1 / sqrt(in);
    enum at_status st = AT_OK;
    float *values = NULL;

    TRY(at_alloc(&values, (size_t)r * (in > out ? in : out), sizeof *values));
    TRY(at_tensor_write(gpu, lora->B, values));
    if (copy->B.view.buffer)
        TRY(at_tensor_write(gpu, copy->B, values));
    if (part)
        goto done; /* A is the module's */
    for (size_t i = 0; i < (size_t)r * in; i++)
        values[i] =
            (float)(gaussian ? at_rng_normal(&rng) / r : (2 * at_rng_uniform(&rng) - 1) * bound);
    TRY(at_tensor_write(gpu, lora->A, values));
    if (copy->A.view.buffer)
        TRY(at_tensor_write(gpu, copy->A, values));
done:
    at_free(&values);
    return st;
}

/* What a tensor of the file becomes: itself, or of linear k the rows of its module. */
static AT_CHECKED upload_source(struct at_gpu *gpu, struct at_tensor to, struct at_tensor copy,
                                const struct at_source *from, const struct at_model_config *model,
                                uint32_t k, char part)
{
    const uint32_t n = part == 'm' ? to.dim[1] : to.dim[0], width = part == 'm' ? 1 : to.dim[1];
    enum at_status st = AT_OK;
    float *all = NULL, *values = NULL;

    TRY(at_alloc(&all, from->rows * from->cols, sizeof *all));
    TRY(at_alloc(&values, (size_t)n * width, sizeof *values));
    TRY(at_source_floats(all, from));
    for (uint32_t row = 0; row < n; row++)
        memcpy(values + (size_t)row * width,
               all + (part == 'A' ? row : at_module_row(model, k % AT_LINEARS, row, false)) * width,
               width * sizeof *values);
    TRY(at_tensor_write(gpu, to, values));
    if (copy.view.buffer)
        TRY(at_tensor_write(gpu, copy, values));
done:
    at_free(&values);
    at_free(&all);
    return st;
}

static AT_CHECKED upload_file(const struct at_adapter *adapter, const struct at_model_config *model,
                              struct at_gpu *gpu, uint32_t k, const struct at_lora *copy)
{
    const struct at_lora *lora = &adapter->lora[k];
    const uint32_t module = adapter->module[k];
    const struct at_source *A = NULL, *B = NULL, *m = NULL;
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };

    TRY(at_adapter_find_tensor(&A, adapter, &arena, module, 'A'));
    TRY(at_adapter_find_tensor(&B, adapter, &arena, module, 'B'));
    if (k == module)
        TRY(upload_source(gpu, lora->A, copy->A, A, model, k, 'A'));
    TRY(upload_source(gpu, lora->B, copy->B, B, model, k, 'B'));
    if (!adapter->dora)
        goto done;
    TRY(at_adapter_find_tensor(&m, adapter, &arena, module, 'm'));
    TRY(upload_source(gpu, lora->m, copy->m, m, model, k, 'm'));
done:
    at_arena_release(&arena);
    return st;
}

AT_CHECKED at_adapter_upload(struct at_adapter *adapter, const struct at_model_config *model,
                             struct at_gpu *gpu, uint64_t seed)
{
    static const struct at_lora none;
    const size_t n = (size_t)model->L * AT_LINEARS;
    enum at_status st = AT_OK;

    bind_params(adapter, n);
    for (uint32_t k = 0; k < n; k++) {
        struct at_lora *lora = &adapter->lora[k];
        struct at_lora *copy = adapter->reference ? &adapter->reference[k] : NULL;
        if (adapter->rank[k] == 0)
            continue;
        lora->A = adapter->lora[adapter->module[k]].A;
        if (copy)
            copy->A = adapter->reference[adapter->module[k]].A;
        if (adapter->file)
            TRY(upload_file(adapter, model, gpu, k, copy ? copy : &none));
        else
            TRY(upload_fresh(gpu, lora, copy ? copy : &none, adapter->gaussian, seed, k,
                             k != adapter->module[k]));
    }
done:
    return st;
}

/* ---- a reference that changes ---- */

void at_adapter_mix_reference(struct at_stream *s, const struct at_adapter *a, float alpha)
{
    AT_REQUIRE(a->reference && !a->dora);
    for (size_t k = 0; k < a->n_modules; k++) {
        if (a->rank[k] == 0)
            continue;
        if (a->module[k] == k)
            at_mix(s, a->reference[k].A, a->lora[k].A, alpha);
        at_mix(s, a->reference[k].B, a->lora[k].B, alpha);
    }
}

static size_t tensor_values(struct at_tensor t)
{
    return (size_t)t.dim[0] * t.dim[1];
}

uint64_t at_adapter_reference_bytes(const struct at_adapter *a)
{
    uint64_t n = 0;

    for (size_t k = 0; a->reference && k < a->n_modules; k++)
        if (a->rank[k] > 0)
            n += (a->module[k] == k ? tensor_values(a->reference[k].A) : 0) +
                 tensor_values(a->reference[k].B);
    return n * sizeof(float);
}

AT_CHECKED at_adapter_reference_read(struct at_gpu *gpu, const struct at_adapter *a, float *values)
{
    enum at_status st = AT_OK;

    for (size_t k = 0; a->reference && k < a->n_modules; k++) {
        if (a->rank[k] == 0)
            continue;
        if (a->module[k] == k) {
            TRY(at_tensor_read(gpu, values, a->reference[k].A));
            values += tensor_values(a->reference[k].A);
        }
        TRY(at_tensor_read(gpu, values, a->reference[k].B));
        values += tensor_values(a->reference[k].B);
    }
done:
    return st;
}

AT_CHECKED at_adapter_reference_write(struct at_gpu *gpu, const struct at_adapter *a,
                                      const float *values)
{
    enum at_status st = AT_OK;

    for (size_t k = 0; a->reference && k < a->n_modules; k++) {
        if (a->rank[k] == 0)
            continue;
        if (a->module[k] == k) {
            TRY(at_tensor_write(gpu, a->reference[k].A, values));
            values += tensor_values(a->reference[k].A);
        }
        TRY(at_tensor_write(gpu, a->reference[k].B, values));
        values += tensor_values(a->reference[k].B);
    }
done:
    return st;
}
