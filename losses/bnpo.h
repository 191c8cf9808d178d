/* The clipped surrogate of a token and beta times its k3 KL; the loss is the mean over all tokens
 * of the optimizer step (TRL: of a micro-batch). */
#include "clipped.h"

POLICY_LOSS(bnpo)
{
    return with_kl(clipped_surrogate(s, p), s, p);
}
