#include "norm.h"

#include "kernels.h"
#include "linear.h"

static struct at_view floats(struct at_view view, uint32_t n)
{
    return at_view_part(view, 0, at_round_up((uint64_t)n * sizeof(float), 16));
}

static struct at_work rows_work(struct at_tensor x)
{
    return (struct at_work){ x.dim[1] > 0 ? x.dim[0] : 0, 1, 1, 0, { 0 } };
}

void at_rmsnorm_fwd(struct at_stream *s, struct at_tensor y, struct at_view rstd,
                    struct at_tensor x, struct at_view w, float eps)
{
    const uint32_t T = x.dim[0], C = x.dim[1];
    const struct rmsnorm_fwd_bufs bufs = {
        .y = at_tensor_view(y), .rstd = floats(rstd, T), .x = at_tensor_view(x), .w = floats(w, C)
    };
    const struct rmsnorm_args args = { .T = T, .C = C, .ldy = y.ld, .ldx = x.ld, .eps = eps };

    at_require_shape(y, T, C);
    at_launch_rmsnorm_fwd(s, &bufs, &args, rows_work(x));
}

void at_rmsnorm_again(struct at_stream *s, struct at_tensor y, struct at_tensor x, struct at_view w,
                      struct at_view rstd)
{
    const uint32_t T = x.dim[0], C = x.dim[1];
    const struct rmsnorm_again_bufs bufs = {
        .y = at_tensor_view(y), .rstd = floats(rstd, T), .x = at_tensor_view(x), .w = floats(w, C)
    };
    const struct rmsnorm_args args = { .T = T, .C = C, .ldy = y.ld, .ldx = x.ld };

    at_require_shape(y, T, C);
    at_launch_rmsnorm_again(s, &bufs, &args, rows_work(x));
}

void at_rmsnorm_bwd(struct at_stream *s, struct at_tensor dx, struct at_tensor dy,
                    struct at_tensor x, struct at_view w, struct at_view rstd)
{
    const uint32_t T = x.dim[0], C = x.dim[1];
    const struct rmsnorm_bwd_bufs bufs = { .dx = at_tensor_view(dx),
                                           .dy = at_tensor_view(dy),
                                           .x = at_tensor_view(x),
                                           .w = floats(w, C),
                                           .rstd = floats(rstd, T) };
    const struct rmsnorm_bwd_args args = {
        .T = T, .C = C, .lddx = dx.ld, .lddy = dy.ld, .ldx = x.ld
    };

    at_require_shape(dx, T, C);
    at_require_shape(dy, T, C);
    at_launch_rmsnorm_bwd(s, &bufs, &args, rows_work(x));
}

void at_rmsnorm_bwd_weight(struct at_stream *s, struct at_view dw, struct at_tensor dy,
                           struct at_tensor x, struct at_view rstd)
{
    const uint32_t T = x.dim[0], C = x.dim[1];
    const uint32_t step = at_tensor_part_rows(s, x.ld > dy.ld ? x : dy);

    at_require_shape(dy, T, C);
    for (uint32_t t = 0; C > 0 && t < T; t += step) {
        const uint32_t n = T - t < step ? T - t : step;
        const struct at_view rest = at_view_part(rstd, t * sizeof(float), (T - t) * sizeof(float));
        const struct rmsnorm_bwd_weight_bufs bufs = {
            .dw = floats(dw, C),
            .dy = at_tensor_view(at_tensor_rows(dy, t, n)),
            .x = at_tensor_view(at_tensor_rows(x, t, n)),
            .rstd = { rest.buffer, rest.offset, n * sizeof(float) }
        };
        const struct rmsnorm_bwd_weight_args args = { .T = n, .C = C, .lddy = dy.ld, .ldx = x.ld };

        at_launch_rmsnorm_bwd_weight(s, &bufs, &args, (struct at_work){ C, 1, 1, 0, { 0 } });
    }
}

/* ---- LayerNorm ---- */

void at_center(struct at_stream *s, struct at_tensor y, struct at_tensor x, bool accumulate)
{
    const uint32_t T = x.dim[0], C = x.dim[1];
    const struct center_bufs bufs = { .y = at_tensor_view(y), .x = at_tensor_view(x) };
    const struct center_args args = {
        .T = T, .C = C, .ldy = y.ld, .ldx = x.ld, .accumulate = accumulate
    };

    at_require_shape(y, T, C);
    at_launch_center(s, &bufs, &args, rows_work(x));
}

void at_layernorm_fwd(struct at_stream *s, struct at_tensor y, struct at_view rstd,
                      struct at_tensor x, struct at_view w, struct at_view b, float eps,
                      struct at_tensor centred)
{
    at_center(s, centred, x, false);
    at_rmsnorm_fwd(s, y, rstd, centred, w, eps);
    at_bias_fwd(s, y, b);
}

void at_layernorm_again(struct at_stream *s, struct at_tensor y, struct at_tensor x,
                        struct at_view w, struct at_view b, struct at_view rstd,
                        struct at_tensor centred)
{
    at_center(s, centred, x, false);
    at_rmsnorm_again(s, y, centred, w, rstd);
    at_bias_fwd(s, y, b);
}

void at_layernorm_bwd(struct at_stream *s, struct at_tensor dx, struct at_tensor dy,
                      struct at_tensor x, struct at_view w, struct at_view rstd,
                      struct at_tensor centred, struct at_tensor scratch)
{
    at_center(s, centred, x, false);
    at_stream_fill(s, at_tensor_view(scratch), 0);
    at_rmsnorm_bwd(s, scratch, dy, centred, w, rstd);
    at_center(s, dx, scratch, true);
}

void at_layernorm_bwd_weight(struct at_stream *s, struct at_view dw, struct at_view db,
                             struct at_tensor dy, struct at_tensor x, struct at_view rstd,
                             struct at_tensor centred)
{
    at_center(s, centred, x, false);
    at_rmsnorm_bwd_weight(s, dw, dy, centred, rstd);
    at_bias_bwd(s, db, dy);
}
