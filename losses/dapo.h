/* The clipped surrogate of a token and beta times its k3 KL; the loss is the mean over all tokens
 * of the samples that were drawn together. */
#include "clipped.h"

POLICY_LOSS(dapo)
{
    return with_kl(clipped_surrogate(s, p), s, p);
}
