/* The clipped surrogate of a token and beta times its k3 KL; a sample is the mean over its tokens,
 * the loss the mean over samples. */
#include "clipped.h"

POLICY_LOSS(grpo)
{
    return with_kl(clipped_surrogate(s, p), s, p);
}
