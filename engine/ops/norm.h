/* RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467), and LayerNorm (Ba et al. 2016, arXiv
 * 1607.06450) as the RMSNorm of centred rows and a bias. */
#ifndef AT_NORM_H
#define AT_NORM_H

#include "tensor.h"

/* y = w * x * rstd, rstd[t] = 1 / sqrt(mean_c x[t,c]^2 + eps). y, x (T,C); w (C); rstd (T) f32.
 * `y` may not be `x`. */
void at_rmsnorm_fwd(struct at_stream *s, struct at_tensor y, struct at_view rstd,
                    struct at_tensor x, struct at_view w, float eps);
/* dx += the input gradient (the residual path's gradient is already in dx). dy, x (T,C); rstd (T)
 * as the forward pass saved it. */
void at_rmsnorm_bwd(struct at_stream *s, struct at_tensor dx, struct at_tensor dy,
                    struct at_tensor x, struct at_view w, struct at_view rstd);
/* dw (C) += sum_t dy[t,:] * x[t,:] * rstd[t], in fixed blocks of 256 rows in order. */
void at_rmsnorm_bwd_weight(struct at_stream *s, struct at_view dw, struct at_tensor dy,
                           struct at_tensor x, struct at_view rstd);
/* y = w * x * rstd again, from saved rstd (recomputed in the backward pass: same bits as fwd). */
void at_rmsnorm_again(struct at_stream *s, struct at_tensor y, struct at_tensor x, struct at_view w,
                      struct at_view rstd);

/* y = x - mean_c x of each row, added to y with `accumulate`; its own gradient. All (T,C). */
void at_center(struct at_stream *s, struct at_tensor y, struct at_tensor x, bool accumulate);
/* y = w * (x - mean) * rstd + b, rstd[t] = 1 / sqrt(variance of x[t,:] + eps). w, b (C); rstd (T).
 * Here and below `centred` (T,C) is scratch. */
void at_layernorm_fwd(struct at_stream *s, struct at_tensor y, struct at_view rstd,
                      struct at_tensor x, struct at_view w, struct at_view b, float eps,
                      struct at_tensor centred);
/* The same from saved rstd: same bits. */
void at_layernorm_again(struct at_stream *s, struct at_tensor y, struct at_tensor x,
                        struct at_view w, struct at_view b, struct at_view rstd,
                        struct at_tensor centred);
/* dx += the input gradient. scratch (T,C). */
void at_layernorm_bwd(struct at_stream *s, struct at_tensor dx, struct at_tensor dy,
                      struct at_tensor x, struct at_view w, struct at_view rstd,
                      struct at_tensor centred, struct at_tensor scratch);
/* dw (C) += sum_t dy * (x - mean) * rstd, db (C) += sum_t dy, rows in order. */
void at_layernorm_bwd_weight(struct at_stream *s, struct at_view dw, struct at_view db,
                             struct at_tensor dy, struct at_tensor x, struct at_view rstd,
                             struct at_tensor centred);

#endif
