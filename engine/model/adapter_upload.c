/* An adapter's values on the device: where they start, and a reference that changes. */
#include "activation.h"
#include "adapter_file.h"
#include "rng.h"

#include <math.h>

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
                               const struct at_lora *copy, bool gaussian, uint64_t seed, uint32_t k)
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

static AT_CHECKED upload_source(struct at_gpu *gpu, struct at_tensor to, struct at_tensor copy,
                                const struct at_source *from)
{
    enum at_status st = AT_OK;
    float *values = NULL;

    TRY(at_alloc(&values, from->rows * from->cols, sizeof *values));
    TRY(at_source_floats(values, from));
    TRY(at_tensor_write(gpu, to, values));
    if (copy.view.buffer)
        TRY(at_tensor_write(gpu, copy, values));
done:
    at_free(&values);
    return st;
}

AT_CHECKED at_adapter_upload(struct at_adapter *adapter, const struct at_model_config *model,
                             struct at_gpu *gpu, uint64_t seed)
{
    static const struct at_lora none;
    const size_t n = (size_t)model->L * AT_LINEARS;
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };

    bind_params(adapter, n);
    for (uint32_t k = 0; k < n; k++) {
        const struct at_lora *lora = &adapter->lora[k];
        const struct at_lora *copy = adapter->reference ? &adapter->reference[k] : &none;
        const struct at_source *A = NULL, *B = NULL, *m = NULL;
        if (adapter->rank[k] == 0)
            continue;
        if (!adapter->file) {
            TRY(upload_fresh(gpu, lora, copy, adapter->gaussian, seed, k));
            continue;
        }
        TRY(at_adapter_find_tensor(&A, adapter, &arena, k, 'A'));
        TRY(at_adapter_find_tensor(&B, adapter, &arena, k, 'B'));
        TRY(upload_source(gpu, lora->A, copy->A, A));
        TRY(upload_source(gpu, lora->B, copy->B, B));
        if (!adapter->dora)
            continue;
        TRY(at_adapter_find_tensor(&m, adapter, &arena, k, 'm'));
        TRY(upload_source(gpu, lora->m, copy->m, m));
    }
done:
    at_arena_release(&arena);
    return st;
}

/* ---- a reference that changes ---- */

void at_adapter_mix_reference(struct at_stream *s, const struct at_adapter *a, float alpha)
{
    AT_REQUIRE(a->reference && !a->dora);
    for (size_t k = 0; k < a->n_modules; k++) {
        if (a->rank[k] == 0)
            continue;
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
            n += tensor_values(a->reference[k].A) + tensor_values(a->reference[k].B);
    return n * sizeof(float);
}

AT_CHECKED at_adapter_reference_read(struct at_gpu *gpu, const struct at_adapter *a, float *values)
{
    enum at_status st = AT_OK;

    for (size_t k = 0; a->reference && k < a->n_modules; k++) {
        if (a->rank[k] == 0)
            continue;
        TRY(at_tensor_read(gpu, values, a->reference[k].A));
        values += tensor_values(a->reference[k].A);
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
        TRY(at_tensor_write(gpu, a->reference[k].A, values));
        values += tensor_values(a->reference[k].A);
        TRY(at_tensor_write(gpu, a->reference[k].B, values));
        values += tensor_values(a->reference[k].B);
    }
done:
    return st;
}
