/* The backward pass of a decoder, and what it computes again. */
#include "activation.h"
#include "decoder_parts.h"
#include "norm.h"
#include "value.h"

static const struct at_layer_grads none; /* of a frozen layer */

/* The gradient of what attention or the MLP gives from that of the layer's output, dx: dx itself,
 * or into dh (scratch) where the family norms or scales it. */
static struct at_tensor output_bwd(struct at_stream *s, struct at_decoder *d, struct at_tensor dx,
                                   struct at_tensor y, struct at_view rstd, struct at_view norm,
                                   struct at_view dnorm)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_tensor dh = part(d->dh, dx.dim[0], dx.dim[1]);

    if (c->residual_scale != 1) {
        at_tensor_copy(s, dh, dx);
        at_scale(s, dh, c->residual_scale);
        return dh;
    }
    if (!c->family->post_norms)
        return dx;
    rstd = words(rstd, dx.dim[0]);
    if (d->model->trainable)
        at_rmsnorm_bwd_weight(s, dnorm, dx, y, rstd);
    at_stream_fill(s, at_tensor_view(dh), 0);
    at_rmsnorm_bwd(s, dh, dx, y, norm, rstd);
    return dh;
}

/* What the first matrices of attention or the MLP read, again; the counterpart of
 * read_residual(). */
static struct at_tensor read_again(struct at_stream *s, const struct at_decoder *d,
                                   struct at_view rstd, struct at_tensor x, struct at_view norm,
                                   struct at_view bias)
{
    const struct at_tensor h = part(d->h, x.dim[0], x.dim[1]);

    if (d->model->config.family->no_pre_norms)
        return x;
    at_decoder_norm_again(s, d, h, x, norm, bias, words(rstd, x.dim[0]));
    return h;
}

/* The gradient of a head norm's input into `out`. */
static void head_norm_bwd(struct at_stream *s, struct at_decoder *d, struct at_tensor out,
                          struct at_tensor dy, struct at_tensor raw, struct at_view rstd,
                          struct at_view norm, struct at_view dnorm)
{
    const struct at_tensor rows = at_decoder_heads(d, raw);
    const struct at_view saved = words(rstd, rows.dim[0]);

    if (d->model->trainable)
        at_rmsnorm_bwd_weight(s, dnorm, at_decoder_heads(d, dy), rows, saved);
    at_stream_fill(s, at_tensor_view(out), 0);
    at_rmsnorm_bwd(s, at_decoder_heads(d, out), at_decoder_heads(d, dy), rows, norm, saved);
}

/* dx holds the gradient of the layer's output; that of `mid` is added to it. */
static void mlp_bwd(struct at_stream *s, struct at_decoder *d, uint32_t l, struct at_pass_rows rows,
                    struct at_tensor dx)
{
    const uint32_t T = at_rows_behind(d, l, rows);
    const struct at_model *model = d->model;
    const struct at_model_config *c = &model->config;
    const struct at_family *family = c->family;
    const struct at_layer *layer = &model->layers[l];
    const struct at_activations saved = at_decoder_saved(d, l), *a = &saved;
    const struct at_tensor m = part(d->m, T, c->F), dm = part(d->dm, T, c->F);
    const struct at_tensor gate = part(a->gate, T, c->F), up = part(a->up, T, c->F);
    const struct at_tensor mid = at_decoder_mid(d, a, l, rows);
    const struct at_tensor dh = family->no_pre_norms ? dx : part(d->dh, T, c->C);
    const struct at_layer_grads *grads = model->trainable ? &model->grads[l] : &none;
    const struct at_tensor dy = output_bwd(s, d, dx, part(a->mlp_out, T, c->C), a->rstd_mlp,
                                           layer->mlp_post_norm, grads->mlp_post_norm);
    struct at_tensor h;

    at_decoder_activate(s, d, m, gate, up);
    at_decoder_linear_bwd(s, d, dm, dy, m, l, LIN_DOWN, false);
    if (family->ungated)
        at_gelu_bwd(s, up, dm, up);
    else
        at_swiglu_bwd(s, gate, up, dm, gate, up, family->gelu);
    h = read_again(s, d, a->rstd2, mid, layer->mlp_norm, layer->mlp_norm_bias);
    if (family->ungated)
        at_decoder_linear_bwd(s, d, dh, up, h, l, LIN_UP, family->no_pre_norms);
    else
        at_decoder_linears_bwd(s, d, dh, (const struct at_tensor[]){ gate, up }, 2, h, l, LIN_GATE,
                               family->no_pre_norms);
    if (!family->no_pre_norms)
        at_decoder_norm_bwd(s, d, dx, dh, mid, layer->mlp_norm, words(a->rstd2, T), grads->mlp_norm,
                            grads->mlp_norm_bias);
}

/* Rows of all T tokens from those of the sources; 0 where a token is none. */
static void all_rows(struct at_stream *s, const struct at_decoder *d, struct at_tensor all,
                     struct at_tensor last)
{
    at_stream_fill(s, at_tensor_view(all), 0);
    at_gather_rows(s, all, last, words(d->source_place, all.dim[0]));
}

/* The gradient of what attention gives, in d->d_o, from d_out, that of the layer's output. */
static struct at_tensor attention_output_bwd(struct at_stream *s, struct at_decoder *d, uint32_t l,
                                             struct at_pass_rows rows, struct at_tensor d_out)
{
    const struct at_model *model = d->model;
    const struct at_model_config *c = &model->config;
    const struct at_layer *layer = &model->layers[l];
    const struct at_activations saved = at_decoder_saved(d, l), *a = &saved;
    const uint32_t HD = c->H * c->D, n = at_rows_behind(d, l, rows);
    const bool last = at_takes_sources(d, l, rows);
    const struct at_tensor o = part(last ? d->o_last : a->o, n, HD);
    const struct at_tensor d_o = part(d->d_o, rows.T, HD);
    const struct at_tensor its = last ? part(d->dq, n, HD) : d_o; /* dq is free by now */
    const struct at_layer_grads *grads = model->trainable ? &model->grads[l] : &none;
    const struct at_tensor dy = output_bwd(s, d, d_out, part(a->attn_out, n, c->C), a->rstd_attn,
                                           layer->attn_post_norm, grads->attn_post_norm);

    at_decoder_linear_bwd(s, d, its, dy, o, l, LIN_O, false);
    if (last)
        all_rows(s, d, d_o, its);
    return d_o;
}

/* dq, dk and dv of the linear layers from d_o; the first two are returned where they lie. */
static void scores_bwd(struct at_stream *s, struct at_decoder *d, uint32_t l, struct at_tensor d_o,
                       struct at_tensor *dq, struct at_tensor *dk)
{
    const struct at_model *model = d->model;
    const struct at_model_config *c = &model->config;
    const struct at_layer *layer = &model->layers[l];
    const struct at_activations saved = at_decoder_saved(d, l), *a = &saved;
    const uint32_t T = d_o.dim[0], HD = c->H * c->D, GD = c->G * c->D;
    const struct at_tensor dv = part(d->dv, T, GD);
    const struct at_attention attention = at_decoder_attention(d, l, T);
    const struct at_layer_grads *grads = model->trainable ? &model->grads[l] : &none;

    *dq = part(d->dq, T, HD);
    *dk = part(d->dk, T, GD);
    at_attention_bwd(s, *dq, *dk, dv, d_o, part(a->q, T, HD), part(a->k, T, GD), part(a->v, T, GD),
                     part(a->o, T, HD), words(a->lse, (uint64_t)T * c->H), d->attention_scratch,
                     &attention);
    at_decoder_turn(s, d, l, *dq, *dk, true);
    if (c->family->qk_norm) { /* through memory that is free by now: d_o, then dq's */
        head_norm_bwd(s, d, d_o, *dq, part(a->raw_q, T, HD), a->rstd_q, layer->q_norm,
                      grads->q_norm);
        *dq = d_o;
        head_norm_bwd(s, d, part(d->dq, T, GD), *dk, part(a->raw_k, T, GD), a->rstd_k,
                      layer->k_norm, grads->k_norm);
        *dk = part(d->dq, T, GD);
    }
}

/* The gradient of the layer's input through attention, from d_o, is added to dx (when `deeper`). */
static void attention_bwd(struct at_stream *s, struct at_decoder *d, uint32_t l,
                          struct at_tensor dx, struct at_tensor d_o, bool deeper)
{
    const struct at_model *model = d->model;
    const struct at_model_config *c = &model->config;
    const struct at_layer *layer = &model->layers[l];
    const struct at_activations saved = at_decoder_saved(d, l), *a = &saved;
    const uint32_t T = d_o.dim[0];
    const bool in_place = c->family->no_pre_norms;
    const struct at_tensor x = part(a->x, T, c->C);
    const struct at_layer_grads *grads = model->trainable ? &model->grads[l] : &none;
    struct at_tensor dh = { .view = { NULL, 0, 0 } }, h, dq, dk;

    scores_bwd(s, d, l, d_o, &dq, &dk);
    h = read_again(s, d, a->rstd1, x, layer->attn_norm, layer->attn_norm_bias);
    if (deeper)
        dh = in_place ? dx : part(d->dh, T, c->C);
    at_decoder_linears_bwd(s, d, dh,
                           (const struct at_tensor[]){ dq, dk, part(d->dv, T, c->G * c->D) }, 3, h,
                           l, LIN_Q, in_place);
    if (deeper && !in_place)
        at_decoder_norm_bwd(s, d, dx, dh, x, layer->attn_norm, words(a->rstd1, T), grads->attn_norm,
                            grads->attn_norm_bias);
}

/* The inputs of the layers of a group up to `last`, from that of its first. */
static void inputs_again(struct at_stream *s, struct at_decoder *d, uint32_t last,
                         struct at_pass_rows rows)
{
    const uint32_t first = last - last % d->group;
    const struct at_tensor x = part(d->x, rows.T, d->model->config.C);
    struct at_activations a = at_decoder_saved(d, first);

    at_tensor_copy(s, x, part(a.x, rows.T, x.dim[1]));
    for (uint32_t l = first; l < last; l++) {
        a = at_decoder_saved(d, l);
        at_decoder_layer_fwd(s, d, &a, l, rows, x, AT_PASS_POLICY_TRAIN, NULL);
    }
    a = at_decoder_saved(d, last);
    at_tensor_copy(s, part(a.x, rows.T, x.dim[1]), x);
}

/* What the forward pass of layer l did not keep, in d->x (the last layer's in d->x_last) from what
 * it did. */
static void compute_again(struct at_stream *s, struct at_decoder *d, uint32_t l,
                          struct at_pass_rows rows)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_activations a = at_decoder_saved(d, l);
    const struct at_tensor mid = at_decoder_mid(d, &a, l, rows);
    struct at_tensor x = part(d->x, rows.T, c->C);

    if (d->recompute == AT_RECOMPUTE_NONE)
        return;
    if (d->recompute >= AT_RECOMPUTE_LAYER) {
        at_tensor_copy(s, x, part(a.x, rows.T, c->C));
        x = at_decoder_behind_attention(s, d, &a, l, rows, x, AT_PASS_POLICY_TRAIN, NULL);
    }
    if (d->recompute >= AT_RECOMPUTE_LAYER && c->family->post_norms) /* whose input is read, too */
        at_decoder_mlp_fwd(s, d, &a, l, x, mid, AT_PASS_POLICY_TRAIN);
    else
        at_decoder_hidden_fwd(s, d, &a, l, mid, AT_PASS_POLICY_TRAIN);
}

/* The first rows of d->dx hold the gradient of the layer's output and become that of its input
 * (when `deeper`). */
static void layer_bwd(struct at_stream *s, struct at_decoder *d, uint32_t l,
                      struct at_pass_rows rows, bool deeper)
{
    const uint32_t C = d->model->config.C, n = at_rows_behind(d, l, rows);
    const struct at_tensor dx = part(d->dx, rows.T, C), dx_out = part(d->dx, n, C);
    const struct at_tensor last = part(d->x, n, C); /* free but for compute_again() */
    struct at_tensor d_out = dx_out, d_o;

    if (d->group > 1 && (l + 1) % d->group == 0 &&
        l + 1 < d->model->config.L) /* the last group's are there */
        inputs_again(s, d, l, rows);
    compute_again(s, d, l, rows);
    if (d->model->config.family->parallel) { /* both read the same gradient */
        d_out = part(d->d_out, n, C);
        at_tensor_copy(s, d_out, dx_out);
    }
    mlp_bwd(s, d, l, rows, dx_out);
    d_o = attention_output_bwd(s, d, l, rows, d_out);
    if (at_takes_sources(d, l, rows) && deeper) {
        at_tensor_copy(s, last, dx_out);
        all_rows(s, d, dx, last);
    }
    attention_bwd(s, d, l, dx, d_o, deeper);
}

uint32_t at_decoder_lowest(const struct at_decoder *d)
{
    const struct at_adapter *a = d->n_stack > 0 ? d->stack[d->n_stack - 1] : NULL;

    for (uint32_t i = 0;
         !at_model_trains_embedding(d->model) && a && i < d->model->config.L * AT_LINEARS; i++)
        if (a->rank[i] > 0)
            return i / AT_LINEARS;
    return 0;
}

/* dx (S, C): the gradient of the last layer's output, of R completion rows. */
static void head_bwd(struct at_stream *s, struct at_decoder *d, struct at_tensor dx, uint32_t R)
{
    const uint32_t S = dx.dim[0];
    const struct at_model *model = d->model;
    const struct at_model_config *c = &model->config;
    const struct at_tensor x = part(d->x_last, S, c->C), dh = part(d->dh, S, c->C);

    if (c->value_head)
        at_value_bwd(s, model->value.dw, part(d->rows, R, c->C), at_view_part(d->coef, 0, 4ul * R));
    else if (model->d_head.view.buffer)
        at_head_bwd_weight(s, model->d_head, part(d->rows, R, c->C), words(d->target, R),
                           words(d->lse, R), words(d->coef, R),
                           at_head_of(model, AT_PASS_POLICY_TRAIN), &d->head);
    at_scatter_rows(s, dh, part(d->u, R, c->C), words(d->coef, R), words(d->source_begin, S + 1ul));
    if (at_scales_logits(c))
        at_scale(s, dh, c->logit_scale);
    at_stream_fill(s, dx.view, 0);
    at_decoder_norm_bwd(s, d, dx, dh, x, model->final_norm, words(d->final_rstd, S),
                        model->d_final_norm, model->d_final_norm_bias);
}

void at_decoder_backward(struct at_stream *s, struct at_decoder *d, const struct at_batch *b)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_pass_rows rows = { b->T_back, b->S_back };
    const struct at_tensor dx = part(d->dx, b->T_back, c->C);
    const uint32_t lowest = at_decoder_lowest(d);

    AT_REQUIRE(d->trains);
    if (b->n_back < b->T_back) /* dq of what reads nothing is 0; kernels leave ds to readers */
        at_stream_fill(
            s, at_view_part(d->intervals, 16ul * b->n_back, 16ul * (b->T_back - b->n_back)), 0);
    head_bwd(s, d, part(d->dx, b->S_back, c->C), b->R_back);
    for (uint32_t l = c->L; l-- > lowest;)
        layer_bwd(s, d, l, rows, l > lowest || at_model_trains_embedding(d->model));
    if (at_model_trains_embedding(d->model) && c->embed_scale != 1)
        at_scale(s, dx, c->embed_scale);
    if (at_model_trains_embedding(d->model))
        at_embed_bwd(s, d->model->d_embed, dx, words(d->embed_ids, d->n_embed_ids),
                     words(d->embed_begin, d->n_embed_ids + 1ul), words(d->embed_order, b->T_back),
                     d->n_embed_ids);
}
