/* The norms of a decoder, RMSNorm or LayerNorm as the family has it. */
#include "decoder_parts.h"
#include "norm.h"

static bool has_layer_norm(const struct at_decoder *d)
{
    return d->model->config.family->layer_norm;
}

void at_decoder_norm_fwd(struct at_stream *s, const struct at_decoder *d, struct at_tensor y,
                         struct at_view rstd, struct at_tensor x, struct at_view w,
                         struct at_view b)
{
    const float eps = d->model->config.norm_eps;

    if (has_layer_norm(d))
        at_layernorm_fwd(s, y, rstd, x, w, b, eps, part(d->centred, x.dim[0], x.dim[1]));
    else
        at_rmsnorm_fwd(s, y, rstd, x, w, eps);
}

void at_decoder_norm_again(struct at_stream *s, const struct at_decoder *d, struct at_tensor y,
                           struct at_tensor x, struct at_view w, struct at_view b,
                           struct at_view rstd)
{
    if (has_layer_norm(d))
        at_layernorm_again(s, y, x, w, b, rstd, part(d->centred, x.dim[0], x.dim[1]));
    else
        at_rmsnorm_again(s, y, x, w, rstd);
}

void at_decoder_norm_bwd(struct at_stream *s, const struct at_decoder *d, struct at_tensor dx,
                         struct at_tensor dy, struct at_tensor x, struct at_view w,
                         struct at_view rstd, struct at_view dw, struct at_view db)
{
    const bool trains = d->model->trainable;

    if (!has_layer_norm(d)) {
        if (trains)
            at_rmsnorm_bwd_weight(s, dw, dy, x, rstd);
        at_rmsnorm_bwd(s, dx, dy, x, w, rstd);
        return;
    }
    if (trains)
        at_layernorm_bwd_weight(s, dw, db, dy, x, rstd, part(d->centred, x.dim[0], x.dim[1]));
    at_layernorm_bwd(s, dx, dy, x, w, rstd, part(d->centred, x.dim[0], x.dim[1]),
                     part(d->d_centred, x.dim[0], x.dim[1]));
}
