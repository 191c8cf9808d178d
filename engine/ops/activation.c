#include "activation.h"

#include "kernels.h"

static struct at_work rows_work(uint32_t rows, uint32_t cols)
{
    return (struct at_work){ cols > 0 ? rows : 0, 1, 1, 0, { 0 } };
}

static struct at_view words(struct at_view view, uint64_t n)
{
    return at_view_part(view, 0, at_round_up(n * sizeof(int32_t), 16));
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* ---- elementwise ---- */

static struct at_work gated_work(uint32_t rows, uint32_t cols, bool gelu)
{
    return (struct at_work){ cols > 0 ? rows : 0, 1, 1, 1, { gelu } };
}

static uint32_t elements(struct at_tensor y)
{
    const uint64_t n = (uint64_t)y.dim[0] * y.ld; /* with the padding */

    AT_REQUIRE(n <= UINT32_MAX);
    return (uint32_t)n;
}

void at_scale(struct at_stream *s, struct at_tensor y, float factor)
{
    const struct scale_bufs bufs = { .y = at_tensor_view(y) };
    const struct scale_args args = { .n = elements(y), .factor = factor };

    at_launch_scale(s, &bufs, &args, (struct at_work){ args.n, 1, 1, 0, { 0 } });
}

void at_softcap(struct at_stream *s, struct at_tensor y, float cap)
{
    const struct softcap_bufs bufs = { .y = at_tensor_view(y) };
    const struct softcap_args args = { .n = elements(y), .cap = cap };

    at_launch_softcap(s, &bufs, &args, (struct at_work){ args.n, 1, 1, 0, { 0 } });
}

void at_swiglu_fwd(struct at_stream *s, struct at_tensor m, struct at_tensor gate,
                   struct at_tensor up, bool gelu)
{
    const uint32_t T = m.dim[0], F = m.dim[1];
    const struct swiglu_fwd_bufs bufs = { .m = at_tensor_view(m),
                                          .gate = at_tensor_view(gate),
                                          .up = at_tensor_view(up) };
    const struct swiglu_args args = {
        .T = T, .F = F, .ldm = m.ld, .ldgate = gate.ld, .ldup = up.ld
    };

    at_require_shape(gate, T, F);
    at_require_shape(up, T, F);
    at_launch_swiglu_fwd(s, &bufs, &args, gated_work(T, F, gelu));
}

void at_swiglu_bwd(struct at_stream *s, struct at_tensor dgate, struct at_tensor dup,
                   struct at_tensor dm, struct at_tensor gate, struct at_tensor up, bool gelu)
{
    const uint32_t T = gate.dim[0], F = gate.dim[1];
    const struct swiglu_bwd_bufs bufs = { .dgate = at_tensor_view(dgate),
                                          .dup = at_tensor_view(dup),
                                          .dm = at_tensor_view(dm),
                                          .gate = at_tensor_view(gate),
                                          .up = at_tensor_view(up) };
    const struct swiglu_bwd_args args = {
        .T = T,
        .F = F,
        .lddgate = dgate.ld,
        .lddup = dup.ld,
        .lddm = dm.ld,
        .ldgate = gate.ld,
        .ldup = up.ld,
    };

    at_require_shape(dgate, T, F);
    at_require_shape(dup, T, F);
    at_require_shape(dm, T, F);
    at_require_shape(up, T, F);
    at_launch_swiglu_bwd(s, &bufs, &args, gated_work(T, F, gelu));
}

void at_gelu_fwd(struct at_stream *s, struct at_tensor y, struct at_tensor x)
{
    const uint32_t T = y.dim[0], F = y.dim[1];
    const struct gelu_fwd_bufs bufs = { .y = at_tensor_view(y), .x = at_tensor_view(x) };
    const struct gelu_args args = { .T = T, .F = F, .ldy = y.ld, .ldx = x.ld };

    at_require_shape(x, T, F);
    at_launch_gelu_fwd(s, &bufs, &args, rows_work(T, F));
}

void at_gelu_bwd(struct at_stream *s, struct at_tensor dx, struct at_tensor dy, struct at_tensor x)
{
    const uint32_t T = x.dim[0], F = x.dim[1];
    const struct gelu_bwd_bufs bufs = { .dx = at_tensor_view(dx),
                                        .dy = at_tensor_view(dy),
                                        .x = at_tensor_view(x) };
    const struct gelu_bwd_args args = { .T = T, .F = F, .lddx = dx.ld, .lddy = dy.ld, .ldx = x.ld };

    at_require_shape(dx, T, F);
    at_require_shape(dy, T, F);
    at_launch_gelu_bwd(s, &bufs, &args, rows_work(T, F));
}

void at_add(struct at_stream *s, struct at_tensor y, struct at_tensor x)
{
    const uint64_t n = (uint64_t)y.dim[0] * y.ld; /* with the padding */
    const struct add_bufs bufs = { .y = at_tensor_view(y), .x = at_tensor_view(x) };
    const struct add_args args = { .n = (uint32_t)n };

    at_require_shape(x, y.dim[0], y.dim[1]);
    AT_REQUIRE(x.ld == y.ld && n <= UINT32_MAX);
    at_launch_add(s, &bufs, &args, (struct at_work){ args.n, 1, 1, 0, { 0 } });
}

void at_mix(struct at_stream *s, struct at_tensor y, struct at_tensor x, float alpha)
{
    const uint64_t n = (uint64_t)y.dim[0] * y.ld; /* with the padding */
    const struct mix_bufs bufs = { .y = at_tensor_view(y), .x = at_tensor_view(x) };
    const struct mix_args args = { .n = (uint32_t)n, .alpha = alpha };

    at_require_shape(x, y.dim[0], y.dim[1]);
    AT_REQUIRE(x.ld == y.ld && n <= UINT32_MAX);
    at_launch_mix(s, &bufs, &args, (struct at_work){ args.n, 1, 1, 0, { 0 } });
}

/* ---- rows ---- */

void at_gather_rows(struct at_stream *s, struct at_tensor out, struct at_tensor x,
                    struct at_view index)
{
    const uint32_t R = out.dim[0], C = out.dim[1];
    const uint32_t step = at_tensor_part_rows(s, x);

    at_require_shape(x, x.dim[0], C);
    for (uint32_t v = 0; v < x.dim[0]; v += step) {
        const struct at_tensor part = at_tensor_rows(x, v, least(step, x.dim[0] - v));
        const struct head_target_bufs bufs = { .wy = at_tensor_view(out),
                                               .w = at_tensor_view(part),
                                               .targets = words(index, R) };
        const struct head_target_args args = {
            .R = R, .C = C, .n = part.dim[0], .v0 = v, .ldy = out.ld, .ldw = x.ld
        };

        at_launch_head_target(s, &bufs, &args, rows_work(R, C));
    }
}

/* Rows [t, t + n) of dx from rows [i, i + m) of u. */
static void scatter_part(struct at_stream *s, struct at_tensor dx, uint32_t t, uint32_t n,
                         struct at_tensor u, uint32_t i, uint32_t m, struct at_view coef,
                         struct at_view row_begin)
{
    const struct scatter_rows_bufs bufs = { .dx = at_tensor_view(at_tensor_rows(dx, t, n)),
                                            .u = at_tensor_view(at_tensor_rows(u, i, m)),
                                            .coef = words(coef, u.dim[0]),
                                            .row_begin = words(row_begin, dx.dim[0] + 1ul) };
    const struct scatter_rows_args args = {
        .T = n, .t0 = t, .C = dx.dim[1], .R = m, .i0 = i, .lddx = dx.ld, .ldu = u.ld
    };

    at_launch_scatter_rows(s, &bufs, &args, rows_work(n, args.C));
}

void at_scatter_rows(struct at_stream *s, struct at_tensor dx, struct at_tensor u,
                     struct at_view coef, struct at_view row_begin)
{
    const uint32_t T = dx.dim[0], R = u.dim[0];
    const uint32_t dx_step = at_tensor_part_rows(s, dx), u_step = at_tensor_part_rows(s, u);

    at_require_shape(u, R, dx.dim[1]);
    AT_REQUIRE(R > 0);
    for (uint32_t t = 0; t < T; t += dx_step)
        for (uint32_t i = 0; i < R; i += u_step)
            scatter_part(s, dx, t, least(dx_step, T - t), u, i, least(u_step, R - i), coef,
                         row_begin);
}

void at_embed_bwd(struct at_stream *s, struct at_tensor dW, struct at_tensor dx, struct at_view ids,
                  struct at_view begin, struct at_view order, uint32_t n_ids)
{
    const uint32_t V = dW.dim[0], T = dx.dim[0], C = dW.dim[1];
    const uint32_t dW_step = at_tensor_part_rows(s, dW), dx_step = at_tensor_part_rows(s, dx);

    at_require_shape(dx, T, C);
    for (uint32_t v = 0; n_ids > 0 && v < V; v += dW_step)
        for (uint32_t t = 0; t < T; t += dx_step) {
            const struct at_tensor W = at_tensor_rows(dW, v, least(dW_step, V - v));
            const struct at_tensor x = at_tensor_rows(dx, t, least(dx_step, T - t));
            const struct embed_bwd_bufs bufs = { .dW = at_tensor_view(W),
                                                 .dx = at_tensor_view(x),
                                                 .ids = words(ids, n_ids),
                                                 .begin = words(begin, n_ids + 1ul),
                                                 .order = words(order, T) };
            const struct embed_bwd_args args = {
                .n_ids = n_ids,
                .C = C,
                .v0 = v,
                .V = W.dim[0],
                .t0 = t,
                .T = x.dim[0],
                .lddw = dW.ld,
                .lddx = dx.ld,
            };

            at_launch_embed_bwd(s, &bufs, &args, rows_work(n_ids, C));
        }
}
