/* max(0, gamma - x), x = beta (logp_chosen / n_chosen - logp_rejected / n_rejected): of cpo, a
 * hinge on mean log-probs a token, whose margin is simpo_gamma. */
#include "prelude.h"

#define LOSS_READS logps token_means

PAIR_LOSS(mean_hinge)
{
    real chosen = s.score_chosen / s.n_chosen;
    real rejected = s.score_rejected / s.n_rejected;
    real gap = p.simpo_gamma - p.beta * (chosen - rejected);
    pair_out o;

    o.loss = gap > 0.0 ? gap : 0.0;
    o.d_chosen = gap > 0.0 ? -p.beta / s.n_chosen : 0.0;
    o.d_rejected = gap > 0.0 ? p.beta / s.n_rejected : 0.0;
    return o;
}
