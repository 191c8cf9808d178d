/* The clipped surrogate of a token and beta times its k3 KL; the loss is the sum over a sample's
 * tokens over max_completion_length, the mean over samples: long samples are not favoured. */
#include "clipped.h"

POLICY_LOSS(dr_grpo)
{
    return with_kl(clipped_surrogate(s, p), s, p);
}
