/* Useful floating-point operations of a pass: those that its mathematics ask for, whatever the
 * kernels do beyond (padding, masked parts of tiles, what is computed again in the backward pass).
 * A multiply-add counts as two. Of T packed tokens, R completion rows, S tokens whose hidden state
 * such a row reads, and P(l) pairs of a query and a key that layer l reads; T is S in the last
 * layer behind attention (its queries count of all tokens, of which they are computed):
 *
 *   forward    base       2 T sum over layers of their linear layers' weights
 *              adapters   2 T sum over adapters and modules of r (inputs + outputs)
 *              attention  4 H D sum over layers of P(l)
 *              head       2 R C V (a value head: 2 R C)
 *   backward   from the lowest layer that trains anything on: base once more for the gradients of
 *              inputs (of that layer, if nothing below it trains, without q, k and v) and once more
 *              where the weights train; frozen adapters once more, the trainable one twice;
 *              attention twice; head once more, and once more if its weights train
 *
 * Norms, activations, rotations and the loss are not counted. */
#ifndef AT_USEFUL_H
#define AT_USEFUL_H

#include "decoder.h"
#include "slab.h"

struct at_useful {
    double base, adapters, attention, head;
};
double at_useful_total(const struct at_useful *useful);
/* Adds a forward pass over the slab; and the backward pass of a policy. */
void at_useful_forward(struct at_useful *sum, const struct at_decoder *decoder,
                       const struct at_slab *slab, enum at_pass pass);
void at_useful_backward(struct at_useful *sum, const struct at_decoder *decoder,
                        const struct at_slab *slab);

#endif
