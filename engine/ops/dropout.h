/* Dropout on the input of lora_A (Srivastava et al. 2014, JMLR 15; inverted: what is kept is scaled
 * by 1 / (1 - p)). A mask is a function of step, row, place in the row, module and column. All
 * record into `s` and allocate nothing; shapes that disagree are AT_BUG. */
#ifndef AT_DROPOUT_H
#define AT_DROPOUT_H

#include "linear.h"

struct at_dropout {
    float p;               /* share that is dropped, below 1; 0: none */
    uint32_t key[2];       /* of Philox: a function of seed and step */
    struct at_view tokens; /* (T, 2) uint32: row and place in the row of every token */
};
/* y (T,C) = mask x / (1 - p), added to y with `accumulate`; y may be x. */
void at_dropout_apply(struct at_stream *s, struct at_tensor y, struct at_tensor x,
                      const struct at_dropout *dropout, uint32_t module, bool accumulate);
/* at_lora_fwd() and at_lora_bwd() with dropout on x: `scratch` (T,K) holds the dropped x; the
 * backward pass makes it again and drops dx's part by the same mask. */
void at_lora_dropout_fwd(struct at_stream *s, struct at_tensor y, struct at_tensor z,
                         struct at_tensor x, struct at_tensor scratch, const struct at_lora *lora,
                         const struct at_dropout *dropout, uint32_t module);
void at_lora_dropout_bwd(struct at_stream *s, struct at_tensor dx, struct at_tensor dz,
                         struct at_tensor dy, struct at_tensor x, struct at_tensor z,
                         struct at_tensor scratch, const struct at_lora *lora,
                         const struct at_dropout *dropout, uint32_t module);

#endif
