#include "attention.h"

#include "kernels.h"

void at_rope(struct at_stream *s, struct at_tensor q, struct at_tensor k, struct at_view positions,
             struct at_tensor table, uint32_t D, bool backward)
{
    const uint32_t T = q.dim[0], W = table.dim[1], n = table.dim[0];
    const uint32_t step = at_tensor_part_rows(s, table);

    AT_REQUIRE(D > 0 && D % 4 == 0 && W > 0 && W <= D && W % 2 == 0);
    at_require_shape(q, T, q.dim[1] / D * D);
    if (k.view.buffer)
        at_require_shape(k, T, k.dim[1] / D * D);
    for (uint32_t p = 0; p < n; p += step) {
        const struct at_tensor part = at_tensor_rows(table, p, n - p < step ? n - p : step);
        const struct rope_bufs bufs = { .q = at_tensor_view(q),
                                        .k = at_tensor_view(k),
                                        .positions = at_view_part(
                                            positions, 0, at_round_up(T * sizeof(int32_t), 16)),
                                        .table = at_tensor_view(part) };
        const struct rope_args args = {
            .T = T,
            .H = q.dim[1] / D,
            .G = k.dim[1] / D,
            .D = D,
            .ldq = q.ld,
            .ldk = k.ld,
            .p0 = p,
            .n = part.dim[0],
            .ldtable = table.ld,
            .sign = backward ? -1.0f : 1.0f,
        };

        at_launch_rope(s, &bufs, &args, (struct at_work){ T, 1, 1, 1, { W } });
    }
}
