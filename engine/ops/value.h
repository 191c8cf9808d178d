/* A value head: one number a gathered row, the hidden state times a vector. What stands where the
 * fused head of logprob.h does in reward models. */
#ifndef AT_OPS_VALUE_H
#define AT_OPS_VALUE_H

#include "tensor.h"

/* stats (R,4) f32 a row: h . w and three zeros, as at_segment_sums() reads them. h (R,C): gathered,
 * normed hidden states; w (1,C). u (R,C) = -w in every row, what at_scatter_rows() takes; not
 * written when u has no buffer. */
void at_value_fwd(struct at_stream *s, struct at_view stats, struct at_tensor u, struct at_tensor h,
                  struct at_tensor w);
/* dw (1,C) += sum of coef[r] h[r] over the rows in blocks of 256; coef (R) = dloss/dvalue. */
void at_value_bwd(struct at_stream *s, struct at_tensor dw, struct at_tensor h,
                  struct at_view coef);

#endif
