#include "value.h"

#include "kernels.h"

void at_value_fwd(struct at_stream *s, struct at_view stats, struct at_tensor u, struct at_tensor h,
                  struct at_tensor w)
{
    const uint32_t R = h.dim[0], C = h.dim[1];
    const bool with_u = u.view.buffer != NULL;
    const struct at_view rows = at_view_part(stats, 0, 4ul * R * sizeof(float));
    const struct value_fwd_bufs bufs = { .stats = rows,
                                         .u = with_u ? at_tensor_view(u) : rows,
                                         .h = at_tensor_view(h),
                                         .w = at_tensor_view(w) };
    const struct value_fwd_args args = {
        .R = R, .C = C, .ldh = h.ld, .ldu = u.ld, .with_u = with_u
    };

    at_require_shape(w, 1, C);
    if (with_u)
        at_require_shape(u, R, C);
    at_launch_value_fwd(s, &bufs, &args, (struct at_work){ R, 1, 1, 0, { 0 } });
}

void at_value_bwd(struct at_stream *s, struct at_tensor dw, struct at_tensor h, struct at_view coef)
{
    const uint32_t R = h.dim[0], C = h.dim[1], step = at_tensor_part_rows(s, h);

    at_require_shape(dw, 1, C);
    for (uint32_t r = 0; r < R; r += step) {
        const uint32_t n = R - r < step ? R - r : step;
        const struct at_view rest = at_view_part(coef, r * sizeof(float), (R - r) * sizeof(float));
        const struct value_bwd_bufs bufs = { .dw = at_tensor_view(dw),
                                             .h = at_tensor_view(at_tensor_rows(h, r, n)),
                                             .coef = { rest.buffer, rest.offset,
                                                       n * sizeof(float) } };
        const struct value_bwd_args args = { .R = n, .C = C, .ldh = h.ld };

        at_launch_value_bwd(s, &bufs, &args, (struct at_work){ C, 1, 1, 0, { 0 } });
    }
}
