/* The clipped surrogate of a whole sample: its ratio is the product over its tokens. The KL term is
 * part of the reward (engine/train/advantage.h); the loss is the mean over samples. */
#include "clipped.h"

POLICY_LOSS(rloo)
{
    return clipped_surrogate(s, p);
}
