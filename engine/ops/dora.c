#include "dora.h"

#include "activation.h"
#include "kernels.h"

static struct at_view floats(struct at_view view, uint32_t n)
{
    return at_view_part(view, 0, at_round_up((uint64_t)n * sizeof(float), 16));
}

static void row_norms(struct at_stream *s, struct at_view norm, struct at_tensor v)
{
    const struct dora_norm_bufs bufs = { .norm = floats(norm, v.dim[0]), .v = at_tensor_view(v) };
    const struct dora_norm_args args = { .rows = v.dim[0], .cols = v.dim[1], .ld = v.ld };

    at_launch_dora_norm(s, &bufs, &args, (struct at_work){ args.rows, 1, 1, 0, { 0 } });
}

void at_dora_norm(struct at_stream *s, const struct at_lora *lora, struct at_weight w,
                  struct at_view panel)
{
    at_require_shape(lora->A, lora->A.dim[0], w.cols);
    at_require_shape(lora->B, w.rows, lora->A.dim[0]);
    for (uint32_t i = 0, n; i < w.rows; i += n) {
        n = w.rows - i < AT_DORA_PANEL ? w.rows - i : AT_DORA_PANEL;
        const struct at_tensor v = at_tensor_make(panel, n, w.cols);

        at_dequantise(s, v, at_weight_rows(w, i, n));
        at_matmul_nn(s, v, at_tensor_rows(lora->B, i, n), lora->A, lora->scale, true);
        row_norms(s,
                  at_view_part(lora->norm, i * sizeof(float), lora->norm.bytes - i * sizeof(float)),
                  v);
    }
}

void at_dora_merge(struct at_stream *s, struct at_tensor w, const struct at_lora *lora)
{
    const uint32_t n = w.dim[0];
    const struct dora_rows_bufs bufs = { .w = at_tensor_view(w),
                                         .m = at_tensor_view(lora->m),
                                         .norm = floats(lora->norm, n) };
    const struct dora_rows_args args = { .rows = n, .ld = w.ld };

    at_require_shape(lora->m, 1, n);
    at_matmul_nn(s, w, lora->B, lora->A, lora->scale, true);
    row_norms(s, lora->norm, w);
    at_launch_dora_rows(s, &bufs, &args, (struct at_work){ n, 1, 1, 0, { 0 } });
}

/* y = (g - offset) u, or y += it. */
static void scale(struct at_stream *s, struct at_tensor y, struct at_tensor u,
                  const struct at_lora *lora, float offset, bool accumulate)
{
    const uint32_t T = y.dim[0], C = y.dim[1];
    const struct dora_scale_bufs bufs = { .y = at_tensor_view(y),
                                          .u = at_tensor_view(u),
                                          .m = at_tensor_view(lora->m),
                                          .norm = floats(lora->norm, C) };
    const struct dora_scale_args args = {
        .T = T, .C = C, .ldy = y.ld, .ldu = u.ld, .offset = offset, .accumulate = accumulate
    };

    at_require_shape(u, T, C);
    at_require_shape(lora->m, 1, C);
    at_launch_dora_scale(s, &bufs, &args, (struct at_work){ C > 0 ? T : 0, 1, 1, 0, { 0 } });
}

/* dm += sum over t of dy u / norm. */
static void magnitude_bwd(struct at_stream *s, struct at_tensor dy, struct at_tensor u,
                          const struct at_lora *lora)
{
    const uint32_t T = dy.dim[0], C = dy.dim[1];
    const uint32_t step = at_tensor_part_rows(s, u.ld > dy.ld ? u : dy);

    at_require_shape(u, T, C);
    for (uint32_t t = 0, n; C > 0 && t < T; t += n) {
        n = T - t < step ? T - t : step;
        const struct dora_bwd_bufs bufs = { .dm = at_tensor_view(lora->dm),
                                            .dy = at_tensor_view(at_tensor_rows(dy, t, n)),
                                            .u = at_tensor_view(at_tensor_rows(u, t, n)),
                                            .norm = floats(lora->norm, C) };
        const struct dora_bwd_args args = { .T = n, .C = C, .lddy = dy.ld, .ldu = u.ld };

        at_launch_dora_bwd(s, &bufs, &args, (struct at_work){ C, 1, 1, 0, { 0 } });
    }
}

static void product(struct at_stream *s, struct at_tensor y, struct at_tensor x,
                    const struct at_dora_linear *l, bool accumulate)
{
    if (x.dim[0] == 1)
        at_linear_row(s, y, x, l->w, 1, accumulate);
    else
        at_linear_fwd(s, y, x, l->w, l->scratch, accumulate);
}

/* y += s z B^T, z = x A^T */
static void low_rank(struct at_stream *s, struct at_tensor y, struct at_tensor x,
                     const struct at_dora_linear *l)
{
    if (x.dim[0] == 1)
        at_lora_row(s, y, l->z, x, l->lora);
    else
        at_lora_fwd(s, y, l->z, x, l->lora);
}

static void dropout_fwd(struct at_stream *s, struct at_tensor y, struct at_tensor x,
                        const struct at_dora_linear *l)
{
    at_dropout_apply(s, l->dropped, x, l->dropout, l->module, false);
    at_linear_fwd(s, l->u, l->dropped, l->w, l->scratch, false);
    scale(s, y, l->u, l->lora, 1, true);
    at_matmul_nt(s, l->z, l->dropped, l->lora->A, 1, false);
    at_matmul_nt(s, l->u, l->z, l->lora->B, l->lora->scale, false);
    scale(s, y, l->u, l->lora, 0, true);
}

/* Every pass adds x W^T as a whole, so that passes with and without the adapter agree in every bit
 * where it changes nothing. */
void at_dora_fwd(struct at_stream *s, struct at_tensor y, struct at_tensor x,
                 const struct at_dora_linear *l, bool accumulate)
{
    const struct at_tensor base = accumulate ? at_tensor_make_like(l->u.view, y) : y;
    const bool plain = !l->lora || l->dropout;

    product(s, base, x, l, false);
    if (plain && accumulate)
        at_add(s, y, base);
    if (!l->lora)
        return;
    if (l->dropout) {
        dropout_fwd(s, y, x, l);
        return;
    }
    low_rank(s, base, x, l);
    scale(s, y, base, l->lora, 0, accumulate);
}

void at_dora_bwd(struct at_stream *s, struct at_tensor dx, struct at_tensor dy, struct at_tensor x,
                 const struct at_dora_linear *l, bool accumulate)
{
    const struct at_tensor in = l->dropout ? l->dropped : x;
    const bool wants_dx = dx.view.buffer != NULL;

    if (l->dropout)
        at_dropout_apply(s, l->dropped, x, l->dropout, l->module, false);
    at_linear_fwd(s, l->u, in, l->w, l->scratch, false);
    at_matmul_nt(s, l->u, l->z, l->lora->B, l->lora->scale, true);
    magnitude_bwd(s, dy, l->u, l->lora);
    if (!l->dropout) {
        scale(s, l->u, dy, l->lora, 0, false);
        if (wants_dx)
            at_linear_bwd(s, dx, l->u, l->w, l->scratch, accumulate);
        at_lora_bwd(s, dx, l->dz, l->u, x, l->z, l->lora);
        return;
    }
    if (wants_dx) {
        at_linear_bwd(s, dx, dy, l->w, l->scratch, accumulate);
        scale(s, l->u, dy, l->lora, 1, false);
        at_linear_bwd(s, l->dropped, l->u, l->w, l->scratch, false);
        at_dropout_apply(s, dx, l->dropped, l->dropout, l->module, true);
    }
    scale(s, l->u, dy, l->lora, 0, false);
    at_lora_dropout_bwd(s, dx, l->dz, l->u, x, l->z, l->dropped, l->lora, l->dropout, l->module);
}
