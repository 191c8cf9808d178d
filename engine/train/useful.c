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

/* Multiply-adds of the base over T tokens, of which S go through the last layer behind attention.
 */
static double base_products(const struct at_model_config *c, uint32_t layers, double T, double S)
{
    return T * layers * at_layer_weights(c) - (T - S) * at_layer_weights_behind(c);
}

/* The same of an adapter from linear layer `first` on. */
static double adapter_products(const struct at_model_config *c, const struct at_adapter *a,
                               size_t first, double T, double S)
{
    const size_t behind = (size_t)(c->L - 1) * AT_LINEARS + (AT_O - AT_Q);

    return T * adapter_weights(c, a, first) - (T - S) * adapter_weights(c, a, behind);
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
            same = at_attention_pairs(&slab->intervals[0].prefix_begin, n, w);
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
    const double S = at_slab_sources(slab, slab->n_tokens);

    sum->base += 2 * base_products(c, c->L, T, S);
    for (size_t i = 0; i < d->n_stack; i++)
        if (computes(d->stack[i], pass))
            sum->adapters += 2 * adapter_products(c, d->stack[i], 0, T, S);
    sum->attention += 4.0 * c->H * c->D * layer_pairs(d, slab, slab->n_tokens, 0);
    sum->head += 2 * R * head_weights(c);
}

void at_useful_backward(struct at_useful *sum, const struct at_decoder *d,
                        const struct at_slab *slab)
{
    const struct at_model_config *c = &d->model->config;
    const double T = slab->n_own, R = slab->row_begin[slab->n_own];
    const double S = at_slab_sources(slab, slab->n_own);
    const uint32_t lowest = at_decoder_lowest(d);
    const bool whole = d->model->trainable;
    const double ends = at_model_trains_embedding(d->model)
                            ? 0
                            : (double)c->C * c->D * (c->H + 2.0 * c->G); /* q, k, v of `lowest` */

    sum->base += 2 * ((whole ? 2 : 1) * base_products(c, c->L - lowest, T, S) - T * ends);
    for (size_t i = 0; i < d->n_stack; i++)
        sum->adapters += (d->stack[i]->trainable ? 4 : 2) *
                         adapter_products(c, d->stack[i], (size_t)lowest * AT_LINEARS, T, S);
    sum->attention += 8.0 * c->H * c->D * layer_pairs(d, slab, slab->n_own, lowest);
    sum->head += (d->model->d_head.view.buffer || c->value_head ? 4 : 2) * R * head_weights(c);
}
