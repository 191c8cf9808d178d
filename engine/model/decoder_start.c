/* What a decoder needs before its first pass beyond plan and upload: modules that train in full
 * beside an adapter, norms and magnitudes of DoRA. */
#include "adapter_file.h"
#include "decoder_parts.h"

void at_decoder_widest(const struct at_model_config *c, uint32_t *most_in, uint32_t *most_out)
{
    *most_in = *most_out = 0;
    for (uint32_t i = 0; i < AT_LINEARS; i++) {
        uint32_t in = 0, out = 0;
        at_linear_shape(c, i, &in, &out);
        *most_in = in > *most_in ? in : *most_in;
        *most_out = out > *most_out ? out : *most_out;
    }
}

static void plan_norms(struct at_lora *lora, const struct at_adapter *a,
                       const struct at_model_config *c, struct at_pool *pool)
{
    for (size_t k = 0; lora && k < a->n_modules; k++) {
        uint32_t in = 0, out = 0;
        at_linear_shape(c, (uint32_t)(k % AT_LINEARS), &in, &out);
        if (a->rank[k] > 0)
            at_pool_reserve(pool, &lora[k].norm, at_tensor_bytes(1, out), "DoRA");
    }
}

void at_decoder_plan_dora(struct at_decoder *d, struct at_pool *pool)
{
    const struct at_model_config *c = &d->model->config;
    struct at_adapter *a = d->n_stack > 0 ? d->stack[0] : NULL;
    uint32_t in = 0, out = 0;

    d->dora = a && a->dora;
    if (!d->dora)
        return;
    AT_REQUIRE(d->n_stack == 1); /* at_adapter_check_stack() */
    at_decoder_widest(c, &in, &out);
    at_tensor_reserve_apart(pool, &d->wide, d->capacity, out, "DoRA");
    at_pool_reserve(pool, &d->panel, at_tensor_bytes(AT_DORA_PANEL, in), "DoRA");
    plan_norms(a->lora, a, c, pool);
    plan_norms(a->reference, a, c, pool);
}

void at_decoder_upload_rows(struct at_stream *s, struct at_decoder *d, const int32_t *ids,
                            uint32_t T)
{
    at_model_embed_rows(d->embed_plane[0], d->embed_plane[1], d->model, ids, T);
    for (uint32_t i = 0; i < 2; i++) {
        const uint64_t row = at_quant_row_bytes(d->embed_rows.type, i, d->model->config.C);
        if (row > 0)
            at_stream_upload(s, d->embed_rows.plane[i], d->embed_plane[i], T * row);
    }
}

void at_decoder_norms(struct at_stream *s, struct at_decoder *d)
{
    const struct at_adapter *a = d->dora ? d->stack[0] : NULL;

    for (size_t k = 0; a && k < a->n_modules; k++)
        if (a->rank[k] > 0)
            at_dora_norm(s, &a->lora[k], d->model->layers[k / AT_LINEARS].linear[k % AT_LINEARS],
                         d->panel);
}

/* Norms, those of a reference that stays, and magnitudes of an adapter that has none yet. */
static void start_dora(struct at_stream *s, struct at_decoder *d)
{
    const struct at_adapter *a = d->dora ? d->stack[0] : NULL;

    at_decoder_norms(s, d);
    for (size_t k = 0; a && k < a->n_modules; k++) {
        const struct at_lora *lora = &a->lora[k];
        if (a->rank[k] > 0 && a->reference)
            at_dora_norm(s, &a->reference[k],
                         d->model->layers[k / AT_LINEARS].linear[k % AT_LINEARS], d->panel);
        if (a->rank[k] > 0 && !a->file)
            at_stream_copy(s, lora->m.view, lora->norm, lora->m.dim[1] * sizeof(float));
    }
}

AT_CHECKED at_decoder_start(struct at_stream *s, struct at_decoder *d)
{
    const struct at_model *model = d->model;
    const struct at_param *embed = model->saved[AT_SAVED_EMBED].param;
    enum at_status st = AT_OK;
    int32_t *ids = NULL;

    if (model->saved[AT_SAVED_HEAD].param)
        at_dequantise(s, model->saved[AT_SAVED_HEAD].param->p, model->head);
    TRY(at_alloc(&ids, d->capacity, sizeof *ids));
    for (uint32_t v = 0, n; embed && v < embed->rows; v += n) {
        n = embed->rows - v < d->capacity ? embed->rows - v : d->capacity;
        for (uint32_t i = 0; i < n; i++)
            ids[i] = (int32_t)(v + i);
        at_decoder_upload_rows(s, d, ids, n);
        at_dequantise(s, at_tensor_rows(embed->p, v, n), at_weight_rows(d->embed_rows, 0, n));
        TRY(at_stream_submit(s));
    }
    start_dora(s, d);
    TRY(at_stream_wait(s));
done:
    at_free(&ids);
    return st;
}
