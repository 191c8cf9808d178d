#include "sampling.h"

#include "kernels.h"

bool at_sampling_penalises(const struct at_sampling *p)
{
    return p->repetition_penalty > 0 && p->repetition_penalty != 1;
}

uint32_t at_sample_seen_words(uint32_t V)
{
    return (V + 127) / 128 * 4;
}

void at_sample_rows(struct at_stream *s, struct at_tensor logits, uint32_t n_stop,
                    const struct at_sample_buffers *buffers, const struct at_sampling *sampling)
{
    const uint32_t R = logits.dim[0];
    const struct sample_rows_bufs bufs = { .token = buffers->tokens,
                                           .z = at_tensor_view(logits),
                                           .rows = buffers->rows,
                                           .seen = buffers->seen,
                                           .stop = buffers->stop };
    const struct sample_args args = {
        .R = R,
        .V = logits.dim[1],
        .ldz = logits.ld,
        .n_stop = n_stop,
        .top_k = sampling->top_k,
        .temperature = (float)sampling->temperature,
        .top_p = (float)sampling->top_p,
        .min_p = (float)sampling->min_p,
        .penalty = (float)sampling->repetition_penalty,
        .key0 = (uint32_t)sampling->seed,
        .key1 = (uint32_t)(sampling->seed >> 32),
    };

    AT_REQUIRE(logits.dim[1] < 1u << 24); /* ids are exact as f32 */
    if (R > 0)
        at_launch_sample_rows(s, &bufs, &args,
                              (struct at_work){ R, 1, 1, 1, { at_sampling_penalises(sampling) } });
}

void at_store_rows(struct at_stream *s, struct at_tensor yk, struct at_tensor yv,
                   struct at_tensor xk, struct at_tensor xv, struct at_view place)
{
    const uint32_t T = xk.dim[0], C = xk.dim[1];
    const struct store_rows_bufs bufs = { .yk = at_tensor_view(yk),
                                          .yv = at_tensor_view(yv),
                                          .xk = at_tensor_view(xk),
                                          .xv = at_tensor_view(xv),
                                          .place = place };
    const struct store_rows_args args = { .T = T, .C = C, .ldy = yk.ld, .ldx = xk.ld };

    at_require_shape(xv, T, C);
    at_require_shape(yk, yk.dim[0], C);
    at_require_shape(yv, yk.dim[0], C);
    AT_REQUIRE(yv.ld == yk.ld && xv.ld == xk.ld);
    if (T > 0)
        at_launch_store_rows(s, &bufs, &args, (struct at_work){ T, 1, 1, 0, { 0 } });
}
