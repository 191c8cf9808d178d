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

/* Linears i ... i + n - 1 of layer l, which read the same x, as a pass sees them. */
struct group {
    uint32_t l, i, n;
    enum at_pass pass;
};

/* What adapter a has of linear i of layer l in a tensor planned for z: columns behind those of the
 * linears that read the same, where it is wide enough for these. */
static struct at_tensor place_of(const struct at_decoder *d, const struct at_adapter *a,
                                 struct at_tensor planned, uint32_t l, uint32_t i, uint32_t T)
{
    const uint32_t *rank = &a->rank[l * AT_LINEARS];
    uint32_t begin = 0;

    if (!at_z_has_columns(d, planned))
        return part(planned, T, rank[i]);
    for (uint32_t k = at_linear_first(i); k < i; k++)
        begin += at_tensor_ld(rank[k]);
    return at_tensor_columns(planned, T, begin, rank[i]);
}

/* Saved or scratch z of an adapter: only a trainable adapter's z is needed again. */
static struct at_tensor z_of(const struct at_decoder *d, const struct at_adapter *adapter,
                             uint32_t l, uint32_t i, uint32_t T)
{
    const struct at_activations a = at_decoder_saved(d, l);
    const uint32_t at = d->z_beside ? at_linear_first(i) : i;

    return place_of(d, adapter, adapter->trainable ? a.z[at] : d->z_frozen, l, i, T);
}

/* Its gradient; a frozen adapter's is used at once, in scratch of its own. */
static struct at_tensor dz_of(const struct at_decoder *d, const struct at_adapter *adapter,
                              uint32_t l, uint32_t i, uint32_t T)
{
    return place_of(d, adapter, adapter->trainable ? d->dz : d->z_frozen, l, i, T);
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

/* The dropout of its input: slabs go through the last layer behind attention by their sources. */
static struct at_dropout dropout_of(const struct at_decoder *d, uint32_t l, uint32_t i)
{
    struct at_dropout dropout = d->dropout;

    if (i >= LIN_O && l + 1 == d->model->config.L)
        dropout.tokens = d->source_names;
    return dropout;
}

/* Linear i of layer l under DoRA, as a pass sees it. */
static struct at_dora_linear dora_of(const struct at_decoder *d, uint32_t l, uint32_t i, uint32_t T,
                                     enum at_pass pass, const struct at_dropout *dropout)
{
    const struct at_adapter *a = d->stack[0];
    const struct at_weight w = d->model->layers[l].linear[i];
    const bool dropped = drops(d, a, pass);

    return (struct at_dora_linear){
        .w = w,
        .scratch = &d->linear,
        .lora = lora_of(a, l, i, pass),
        .u = part(d->wide, T, w.rows),
        .z = z_of(d, a, l, i, T),
        .dz = d->trains ? dz_of(d, a, l, i, T) : d->dz,
        .dropped = dropped ? part(d->dropped, T, w.cols) : d->dropped,
        .dropout = dropped ? dropout : NULL,
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

/* The same of a forward pass, where a bias comes between weight and adapter. */
static size_t rider_fwd(const struct at_decoder *d, const struct group *g, uint32_t k,
                        struct at_tensor x)
{
    const uint32_t i = g->i + k;

    return d->model->layers[g->l].bias[i].buffer || is_one_row(x) ? d->n_stack
                                                                  : rider_of(d, g->l, i, g->pass);
}

/* ---- forward ---- */

/* z = x A^T of the group's linears that adapter k is on, by one product: false where A or z do not
 * lie together, and nothing is done. */
static bool inner_fwd(struct at_stream *s, const struct at_decoder *d, struct at_tensor x,
                      const struct group *g, size_t k)
{
    const struct at_adapter *a = d->stack[k];
    struct at_tensor A[MOST_TOGETHER], z[MOST_TOGETHER], all_A, all_z;
    uint32_t n = 0;

    for (uint32_t i = g->i; i < g->i + g->n; i++) {
        const struct at_lora *lora = lora_of(a, g->l, i, g->pass);
        if (!lora)
            continue;
        A[n] = lora->A;
        z[n++] = z_of(d, a, g->l, i, x.dim[0]);
    }
    if (n < 2 || is_one_row(x) || drops(d, a, g->pass) || !at_tensor_stack(&all_A, A, n) ||
        !at_tensor_join(&all_z, z, n))
        return false;
    at_matmul_nt(s, all_z, x, all_A, 1, false);
    return true;
}

/* The adapter that rides in every weight of the group where one rides, or d->n_stack. */
static size_t common_rider(const struct at_decoder *d, const struct group *g, struct at_tensor x)
{
    size_t found = d->n_stack;

    for (uint32_t i = 0; i < g->n; i++) {
        const size_t k = rider_fwd(d, g, i, x);
        if (k < d->n_stack && found < d->n_stack && k != found)
            return d->n_stack;
        found = k < found ? k : found;
    }
    return found;
}

/* y (+)= x W^T of linear i, and what rides in it, whose z may be there. */
static void weight_fwd(struct at_stream *s, struct at_decoder *d, struct at_tensor y,
                       struct at_tensor x, const struct group *g, uint32_t i, size_t rider,
                       bool has_z, bool accumulate)
{
    const struct at_weight w = d->model->layers[g->l].linear[i];

    if (has_dora(d, g->l, i)) {
        const struct at_dropout dropout = dropout_of(d, g->l, i);
        const struct at_dora_linear linear = dora_of(d, g->l, i, x.dim[0], g->pass, &dropout);
        at_dora_fwd(s, y, x, &linear, accumulate);
    } else if (rider < d->n_stack) {
        const struct at_lora *lora = lora_of(d->stack[rider], g->l, i, g->pass);
        const struct at_tensor z = z_of(d, d->stack[rider], g->l, i, x.dim[0]);
        if (!has_z)
            at_matmul_nt(s, z, x, lora->A, 1, false);
        at_linear_fwd_and(s, y, x, w, &d->linear, accumulate,
                          &(struct at_added){ z, lora->B, lora->scale });
    } else {
        product_fwd(s, d, y, x, w, accumulate);
    }
}

/* y += the part of adapter k, of linear i; z may be there. */
static void adapter_fwd(struct at_stream *s, struct at_decoder *d, struct at_tensor y,
                        struct at_tensor x, const struct group *g, uint32_t i, size_t k, bool has_z)
{
    const struct at_lora *lora = lora_of(d->stack[k], g->l, i, g->pass);
    const struct at_dropout dropout = dropout_of(d, g->l, i);
    struct at_tensor z;

    if (!lora)
        return;
    z = z_of(d, d->stack[k], g->l, i, x.dim[0]);
    if (is_one_row(x))
        at_lora_row(s, y, z, x, lora);
    else if (drops(d, d->stack[k], g->pass))
        at_lora_dropout_fwd(s, y, z, x, part(d->dropped, x.dim[0], x.dim[1]), lora, &dropout,
                            module_of(d, g->l, i));
    else if (has_z)
        at_matmul_nt(s, y, z, lora->B, lora->scale, true);
    else
        at_lora_fwd(s, y, z, x, lora);
}

/* The group's weights with what rides in them, then biases, then the other adapters, each with all
 * of the group: scratch for z is one adapter's at a time. */
static void group_fwd(struct at_stream *s, struct at_decoder *d, const struct at_tensor *y,
                      struct at_tensor x, const struct group *g, bool accumulate)
{
    const struct at_layer *layer = &d->model->layers[g->l];
    const size_t rider = common_rider(d, g, x);
    size_t next[MOST_TOGETHER]; /* the adapter that comes next to a linear */
    struct at_tensor all_y;
    struct at_weight all;
    bool together = /* scratch for halves is that of single weights */
        g->n > 1 && !accumulate && !d->linear.halves.a.buffer &&
        at_weights_join(&all, layer->linear + g->i, g->n) && at_tensor_join(&all_y, y, g->n);

    AT_REQUIRE(g->n <= MOST_TOGETHER);
    for (uint32_t i = 0; i < g->n; i++)
        together = together && !has_dora(d, g->l, g->i + i);
    if (together)
        product_fwd(s, d, all_y, x, all, false);
    const bool has_z = !together && rider < d->n_stack && inner_fwd(s, d, x, g, rider);
    for (uint32_t i = 0; i < g->n; i++) {
        const size_t own = together ? d->n_stack : rider_fwd(d, g, i, x);
        if (!together)
            weight_fwd(s, d, y[i], x, g, g->i + i, own, has_z, accumulate);
        next[i] = own < d->n_stack ? own + 1 : has_dora(d, g->l, g->i + i) ? d->n_stack : 0;
        if (layer->bias[g->i + i].buffer)
            at_bias_fwd(s, y[i], layer->bias[g->i + i]);
    }
    for (size_t k = 0; k < d->n_stack; k++) {
        bool comes = false, its_z = false;
        for (uint32_t i = 0; i < g->n; i++)
            comes = comes || (next[i] <= k && lora_of(d->stack[k], g->l, g->i + i, g->pass));
        its_z = comes && inner_fwd(s, d, x, g, k);
        for (uint32_t i = 0; i < g->n; i++)
            if (next[i] <= k)
                adapter_fwd(s, d, y[i], x, g, g->i + i, k, its_z);
    }
}

void at_decoder_linear_fwd(struct at_stream *s, struct at_decoder *d, struct at_tensor y,
                           struct at_tensor x, uint32_t l, uint32_t i, enum at_pass pass,
                           bool accumulate)
{
    group_fwd(s, d, &y, x, &(struct group){ l, i, 1, pass }, accumulate);
}

void at_decoder_linears_fwd(struct at_stream *s, struct at_decoder *d, const struct at_tensor *y,
                            uint32_t n, struct at_tensor x, uint32_t l, uint32_t i,
                            enum at_pass pass)
{
    group_fwd(s, d, y, x, &(struct group){ l, i, n, pass }, false);
}

/* ---- backward ---- */

/* Whether dA = dz^T x of the trainable adapter, for the group's linears that it is on, is one
 * product behind all of them: with dA and dz of that. */
static bool gathers(const struct at_decoder *d, const struct group *g, uint32_t T,
                    struct at_tensor *all_dA, struct at_tensor *all_dz)
{
    const struct at_adapter *a = d->n_stack > 0 ? d->stack[d->n_stack - 1] : NULL;
    struct at_tensor dA[MOST_TOGETHER], dz[MOST_TOGETHER];
    uint32_t n = 0;

    AT_REQUIRE(g->n <= MOST_TOGETHER);
    if (!a || !a->trainable || a->dora || drops(d, a, g->pass))
        return false;
    for (uint32_t i = g->i; i < g->i + g->n; i++) {
        const struct at_lora *lora = lora_of(a, g->l, i, g->pass);
        if (!lora)
            continue;
        dA[n] = lora->dA;
        dz[n++] = dz_of(d, a, g->l, i, T);
    }
    return n > 1 && at_tensor_stack(all_dA, dA, n) && at_tensor_join(all_dz, dz, n);
}

/* Linear i; gathered: dA of the trainable adapter is computed behind. */
static void linear_bwd(struct at_stream *s, struct at_decoder *d, struct at_tensor dx,
                       struct at_tensor dy, struct at_tensor x, const struct group *g, uint32_t i,
                       bool accumulate, bool gathered)
{
    const struct at_model *model = d->model;
    const uint32_t l = g->l, T = x.dim[0];
    const struct at_dropout dropout = dropout_of(d, l, i);

    if (has_dora(d, l, i)) {
        const struct at_dora_linear linear = dora_of(d, l, i, T, g->pass, &dropout);
        at_dora_bwd(s, dx, dy, x, &linear, accumulate);
        return;
    }
    const size_t rider = dx.view.buffer ? rider_of(d, l, i, g->pass) : d->n_stack;
    if (dx.view.buffer && rider == d->n_stack)
        at_linear_bwd(s, dx, dy, model->layers[l].linear[i], &d->linear, accumulate);
    if (model->trainable) {
        at_linear_bwd_weight(s, model->grads[l].linear[i], dy, x, &d->linear);
        if (model->grads[l].bias[i].buffer)
            at_bias_bwd(s, model->grads[l].bias[i], dy);
    }
    for (size_t k = 0; k < d->n_stack; k++) {
        const struct at_adapter *a = d->stack[k];
        const struct at_lora *its = lora_of(a, l, i, g->pass);
        if (!its || (!dx.view.buffer && !a->trainable))
            continue;
        const struct at_tensor dz = dz_of(d, a, l, i, T), z = z_of(d, a, l, i, T);
        struct at_lora lora = *its;
        if (gathered && a->trainable)
            lora.dA.view.buffer = NULL;
        if (k == rider) {
            const struct at_tensor apart = { .dim = { T, x.dim[1] } };
            at_lora_bwd(s, apart, dz, dy, x, z, &lora);
            at_linear_bwd_and(s, dx, dy, model->layers[l].linear[i], &d->linear, accumulate,
                              &(struct at_added){ dz, lora.A, 1 });
        } else if (drops(d, a, g->pass))
            at_lora_dropout_bwd(s, dx, dz, dy, x, z, part(d->dropped, T, x.dim[1]), &lora, &dropout,
                                module_of(d, l, i));
        else
            at_lora_bwd(s, dx, dz, dy, x, z, &lora);
    }
}

void at_decoder_linears_bwd(struct at_stream *s, struct at_decoder *d, struct at_tensor dx,
                            const struct at_tensor *dy, uint32_t n, struct at_tensor x, uint32_t l,
                            uint32_t i, bool accumulate)
{
    const struct group g = { l, i, n, AT_PASS_POLICY_TRAIN };
    struct at_tensor all_dA, all_dz;
    const bool gathered = gathers(d, &g, x.dim[0], &all_dA, &all_dz);

    for (uint32_t k = 0; k < n; k++)
        linear_bwd(s, d, dx, dy[k], x, &g, i + k, accumulate || k > 0, gathered);
    if (gathered)
        at_matmul_tn(s, all_dA, all_dz, x, 1, true);
}

void at_decoder_linear_bwd(struct at_stream *s, struct at_decoder *d, struct at_tensor dx,
                           struct at_tensor dy, struct at_tensor x, uint32_t l, uint32_t i,
                           bool accumulate)
{
    at_decoder_linears_bwd(s, d, dx, &dy, 1, x, l, i, accumulate);
}
