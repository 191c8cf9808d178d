#include "dropout.h"

#include "kernels.h"

void at_dropout_apply(struct at_stream *s, struct at_tensor y, struct at_tensor x,
                      const struct at_dropout *d, uint32_t module, bool accumulate)
{
    const uint32_t T = y.dim[0], C = y.dim[1];
    const struct dropout_bufs bufs = { .y = at_tensor_view(y),
                                       .x = at_tensor_view(x),
                                       .tokens =
                                           at_view_part(d->tokens, 0, at_round_up(8ul * T, 16)) };
    const struct dropout_args args = { .T = T,
                                       .C = C,
                                       .ldy = y.ld,
                                       .ldx = x.ld,
                                       .module = module,
                                       .threshold = (uint32_t)((double)d->p * 0x1p32),
                                       .key0 = d->key[0],
                                       .key1 = d->key[1],
                                       .scale = (float)(1 / (1 - (double)d->p)),
                                       .accumulate = accumulate };

    at_require_shape(x, T, C);
    AT_REQUIRE(d->p >= 0 && d->p < 1);
    at_launch_dropout(s, &bufs, &args, (struct at_work){ C > 0 ? T : 0, 1, 1, 0, { 0 } });
}

void at_lora_dropout_fwd(struct at_stream *s, struct at_tensor y, struct at_tensor z,
                         struct at_tensor x, struct at_tensor scratch, const struct at_lora *lora,
                         const struct at_dropout *dropout, uint32_t module)
{
    at_dropout_apply(s, scratch, x, dropout, module, false);
    at_lora_fwd(s, y, z, scratch, lora);
}

void at_lora_dropout_bwd(struct at_stream *s, struct at_tensor dx, struct at_tensor dz,
                         struct at_tensor dy, struct at_tensor x, struct at_tensor z,
                         struct at_tensor scratch, const struct at_lora *lora,
                         const struct at_dropout *dropout, uint32_t module)
{
    const struct at_tensor none = { .dim = { x.dim[0], x.dim[1] } };

    at_dropout_apply(s, scratch, x, dropout, module, false);
    at_lora_bwd(s, none, dz, dy, scratch, z, lora);
    if (dx.view.buffer == NULL)
        return;
    at_matmul_nn(s, scratch, dz, lora->A, 1, false);
    at_dropout_apply(s, dx, scratch, dropout, module, true);
}
