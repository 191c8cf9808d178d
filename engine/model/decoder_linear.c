/* Linear layers of a decoder with their adapters. */
#include "decoder_parts.h"

/* What a pass sees of adapter a on linear i of layer l: its LoRA, or NULL when it is skipped. */
static const struct at_lora *lora_of(const struct at_adapter *a, uint32_t l, uint32_t i,
                                     enum at_pass pass)
{
    const uint32_t at = l * AT_LINEARS + i;

    if (a->rank[at] == 0)
        return NULL;
    if (pass == AT_PASS_REFERENCE && a->trainable)
        return a->reference ? &a->reference[at] : NULL;
    return &a->lora[at];
}

/* Scratch or saved z of an adapter: only a trainable adapter's z is needed again. */
static struct at_tensor z_of(const struct at_decoder *d, const struct at_activations *a,
                             const struct at_adapter *adapter, uint32_t i, uint32_t T,
                             uint32_t rank)
{
    return part(adapter->trainable ? a->z[i] : d->z_frozen, T, rank);
}

/* Whether x of this adapter is dropped: not that of frozen ones, and in training passes alone. */
static bool drops(const struct at_decoder *d, const struct at_adapter *adapter, enum at_pass pass)
{
    return d->dropout.p > 0 && adapter->trainable && pass == AT_PASS_POLICY_TRAIN;
}

/* Number of the module that linear i of layer l is a part of: what its dropout is drawn by. */
static uint32_t module_of(const struct at_decoder *d, uint32_t l, uint32_t i)
{
    return l * AT_LINEARS + at_linear_module(d->model->config.family, i);
}

/* Linear i of layer l under DoRA, as a pass sees it. */
static struct at_dora_linear dora_of(const struct at_decoder *d, uint32_t l, uint32_t i, uint32_t T,
                                     enum at_pass pass)
{
    const struct at_adapter *a = d->stack[0];
    const struct at_weight w = d->model->layers[l].linear[i];
    const uint32_t rank = a->rank[l * AT_LINEARS + i];
    const bool dropped = drops(d, a, pass);
    const struct at_activations saved = at_decoder_saved(d, l);

    return (struct at_dora_linear){
        .w = w,
        .scratch = &d->linear,
        .lora = lora_of(a, l, i, pass),
        .u = part(d->wide, T, w.rows),
        .z = z_of(d, &saved, a, i, T, rank),
        .dz = d->trains ? part(d->dz, T, rank) : d->dz,
        .dropped = dropped ? part(d->dropped, T, w.cols) : d->dropped,
        .dropout = dropped ? &d->dropout : NULL,
        .module = module_of(d, l, i),
    };
}

static bool has_dora(const struct at_decoder *d, uint32_t l, uint32_t i)
{
    return d->dora && d->stack[0]->rank[l * AT_LINEARS + i] > 0;
}

/* Decoding: slabs have more. */
static bool is_one_row(struct at_tensor x)
{
    return x.dim[0] == 1;
}

static void product_fwd(struct at_stream *s, const struct at_decoder *d, struct at_tensor y,
                        struct at_tensor x, struct at_weight w, bool accumulate)
{
    if (is_one_row(x))
        at_linear_row(s, y, x, w, 1, accumulate);
    else
        at_linear_fwd(s, y, x, w, &d->linear, accumulate);
}

/* The adapter whose product with linear i rides in the weight's: the first, which may not drop. Or
 * d->n_stack. */
static size_t rider_of(const struct at_decoder *d, uint32_t l, uint32_t i, enum at_pass pass)
{
    for (size_t k = 0; !has_dora(d, l, i) && k < d->n_stack; k++)
        if (lora_of(d->stack[k], l, i, pass))
            return drops(d, d->stack[k], pass) ? d->n_stack : k;
    return d->n_stack;
}

/* What is added to the product with the weight: bias, adapters from `first` on. */
static void extras_fwd(struct at_stream *s, struct at_decoder *d, struct at_tensor y,
                       struct at_tensor x, uint32_t l, uint32_t i, enum at_pass pass, size_t first)
{
    const struct at_layer *layer = &d->model->layers[l];
    const struct at_activations a = at_decoder_saved(d, l);

    if (layer->bias[i].buffer)
        at_bias_fwd(s, y, layer->bias[i]);
    for (size_t k = first; !has_dora(d, l, i) && k < d->n_stack; k++) {
        const struct at_lora *lora = lora_of(d->stack[k], l, i, pass);
        struct at_tensor z;
        if (!lora)
            continue;
        z = z_of(d, &a, d->stack[k], i, x.dim[0], lora->A.dim[0]);
        if (is_one_row(x))
            at_lora_row(s, y, z, x, lora);
        else if (drops(d, d->stack[k], pass))
            at_lora_dropout_fwd(s, y, z, x, part(d->dropped, x.dim[0], x.dim[1]), lora, &d->dropout,
                                module_of(d, l, i));
        else
            at_lora_fwd(s, y, z, x, lora);
    }
}

void at_decoder_linear_fwd(struct at_stream *s, struct at_decoder *d, struct at_tensor y,
                           struct at_tensor x, uint32_t l, uint32_t i, enum at_pass pass,
                           bool accumulate)
{
    const struct at_layer *layer = &d->model->layers[l];
    const size_t k = rider_of(d, l, i, pass);
    const bool rides = k < d->n_stack && !layer->bias[i].buffer && !is_one_row(x);

    if (has_dora(d, l, i)) {
        const struct at_dora_linear linear = dora_of(d, l, i, x.dim[0], pass);
        at_dora_fwd(s, y, x, &linear, accumulate);
    } else if (rides) {
        const struct at_lora *lora = lora_of(d->stack[k], l, i, pass);
        const struct at_activations a = at_decoder_saved(d, l);
        const struct at_tensor z = z_of(d, &a, d->stack[k], i, x.dim[0], lora->A.dim[0]);
        at_matmul_nt(s, z, x, lora->A, 1, false);
        at_linear_fwd_and(s, y, x, layer->linear[i], &d->linear, accumulate,
                          &(struct at_added){ z, lora->B, lora->scale });
    } else {
        product_fwd(s, d, y, x, layer->linear[i], accumulate);
    }
    extras_fwd(s, d, y, x, l, i, pass, rides ? k + 1 : 0);
}

void at_decoder_linears_fwd(struct at_stream *s, struct at_decoder *d, const struct at_tensor *y,
                            uint32_t n, struct at_tensor x, uint32_t l, uint32_t i,
                            enum at_pass pass)
{
    struct at_tensor all_y;
    struct at_weight all;
    bool together = /* scratch for halves is that of single weights */
        !d->linear.halves.a.buffer && at_weights_join(&all, d->model->layers[l].linear + i, n) &&
        at_tensor_join(&all_y, y, n);

    for (uint32_t k = 0; k < n; k++)
        together = together && !has_dora(d, l, i + k);
    if (together)
        product_fwd(s, d, all_y, x, all, false);
    for (uint32_t k = 0; k < n; k++)
        if (together)
            extras_fwd(s, d, y[k], x, l, i + k, pass, 0);
        else
            at_decoder_linear_fwd(s, d, y[k], x, l, i + k, pass, false);
}

void at_decoder_linear_bwd(struct at_stream *s, struct at_decoder *d, struct at_tensor dx,
                           struct at_tensor dy, struct at_tensor x, uint32_t l, uint32_t i,
                           bool accumulate)
{
    const struct at_model *model = d->model;
    const struct at_activations a = at_decoder_saved(d, l);

    if (has_dora(d, l, i)) {
        const struct at_dora_linear linear = dora_of(d, l, i, x.dim[0], AT_PASS_POLICY_TRAIN);
        at_dora_bwd(s, dx, dy, x, &linear, accumulate);
        return;
    }
    const size_t rider = dx.view.buffer ? rider_of(d, l, i, AT_PASS_POLICY_TRAIN) : d->n_stack;
    if (dx.view.buffer && rider == d->n_stack)
        at_linear_bwd(s, dx, dy, model->layers[l].linear[i], &d->linear, accumulate);
    if (model->trainable) {
        at_linear_bwd_weight(s, model->grads[l].linear[i], dy, x, &d->linear);
        if (model->grads[l].bias[i].buffer)
            at_bias_bwd(s, model->grads[l].bias[i], dy);
    }
    for (size_t k = 0; k < d->n_stack; k++) {
        const struct at_lora *lora = lora_of(d->stack[k], l, i, AT_PASS_POLICY_TRAIN);
        if (!lora || (!dx.view.buffer && !d->stack[k]->trainable))
            continue;
        const uint32_t T = x.dim[0], rank = lora->A.dim[0];
        const struct at_tensor dz = part(d->dz, T, rank);
        const struct at_tensor z = z_of(d, &a, d->stack[k], i, T, rank);
        if (k == rider) {
            const struct at_tensor apart = { .dim = { T, x.dim[1] } };
            at_lora_bwd(s, apart, dz, dy, x, z, lora);
            at_linear_bwd_and(s, dx, dy, model->layers[l].linear[i], &d->linear, accumulate,
                              &(struct at_added){ dz, lora->A, 1 });
        } else if (drops(d, d->stack[k], AT_PASS_POLICY_TRAIN))
            at_lora_dropout_bwd(s, dx, dz, dy, x, z, part(d->dropped, T, x.dim[1]), lora,
                                &d->dropout, module_of(d, l, i));
        else
            at_lora_bwd(s, dx, dz, dy, x, z, lora);
    }
}
