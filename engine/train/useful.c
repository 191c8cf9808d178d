#include "useful.h"

double at_useful_total(const struct at_useful *u)
{
    return u->base + u->adapters + u->attention + u->head;
}

/* Multiply-adds a token of an adapter's modules from linear layer `first` on; the linear layers of
 * a fused module have one A. */
static double adapter_weights(const struct at_model_config *c, const struct at_adapter *a,
                              size_t first)
{
    double weights = 0;
    uint32_t in = 0, out = 0;

    for (size_t k = first; k < a->n_modules; k++) {
        at_linear_shape(c, (uint32_t)(k % AT_LINEARS), &in, &out);
        weights += (double)a->rank[k] * ((a->module[k] == k ? (double)in : 0) + out);
    }
    return weights;
}

static double head_weights(const struct at_model_config *c)
{
    return (double)c->C * (c->value_head ? 1 : c->V);
}

/* Pairs that the layers from `first` on read for the first n tokens. */
static double layer_pairs(const struct at_decoder *d, const struct at_slab *slab, uint32_t n,
                          uint32_t first)
{
    const uint32_t L = d->model->config.L;
    double pairs = 0, same = 0;
    uint32_t window = 0;

    for (uint32_t l = first; l < L; l++) {
        const uint32_t w = at_decoder_window(d, l);
        if (l == first || w != window)
            same = at_slab_pairs(slab, n, w);
        window = w;
        pairs += same;
    }
    return pairs;
}

static bool computes(const struct at_adapter *a, enum at_pass pass)
{
    return pass != AT_PASS_REFERENCE || !a->trainable || a->reference;
}

void at_useful_forward(struct at_useful *sum, const struct at_decoder *d,
                       const struct at_slab *slab, enum at_pass pass)
{
    const struct at_model_config *c = &d->model->config;
    const double T = slab->n_tokens, R = slab->n_rows;

    sum->base += 2 * T * c->L * at_layer_weights(c);
    for (size_t i = 0; i < d->n_stack; i++)
        if (computes(d->stack[i], pass))
            sum->adapters += 2 * T * adapter_weights(c, d->stack[i], 0);
    sum->attention += 4.0 * c->H * c->D * layer_pairs(d, slab, slab->n_tokens, 0);
    sum->head += 2 * R * head_weights(c);
}

void at_useful_backward(struct at_useful *sum, const struct at_decoder *d,
                        const struct at_slab *slab)
{
    const struct at_model_config *c = &d->model->config;
    const double T = slab->n_own, R = slab->row_begin[slab->n_own];
    const uint32_t lowest = at_decoder_lowest(d);
    const bool whole = d->model->trainable;
    const double ends = at_model_trains_embedding(d->model)
                            ? 0
                            : (double)c->C * c->D * (c->H + 2.0 * c->G); /* q, k, v of `lowest` */
    const double layers = (c->L - lowest) * at_layer_weights(c);

    sum->base += 2 * T * ((whole ? 2 : 1) * layers - ends);
    for (size_t i = 0; i < d->n_stack; i++)
        sum->adapters += (d->stack[i]->trainable ? 4 : 2) * T *
                         adapter_weights(c, d->stack[i], (size_t)lowest * AT_LINEARS);
    sum->attention += 8.0 * c->H * c->D * layer_pairs(d, slab, slab->n_own, lowest);
    sum->head += (d->model->d_head.view.buffer || c->value_head ? 4 : 2) * R * head_weights(c);
}
