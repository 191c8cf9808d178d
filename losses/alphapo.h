/* SimPO with the reward (1 - q^-alpha) / alpha of a side's mean token probability q = exp(logp / n)
 * in place of its logarithm, which alpha = 0 gives: AlphaPO. Its scores are the policy's log-probs.
 * The reward is the score of an alpha divergence, whose exponent ends at 80. */
#include "divergence.h"

PAIR_LOSS(alphapo)
{
    score_out c = alpha_score(s.score_chosen / s.n_chosen, 1.0 - p.alphapo_alpha);
    score_out r = alpha_score(s.score_rejected / s.n_rejected, 1.0 - p.alphapo_alpha);
    real x = p.beta * (c.score - r.score) - p.simpo_gamma;
    real slope = p.beta * smoothed_logistic_slope(x, p.label_smoothing);
    pair_out o;

    o.loss = smoothed_logistic(x, p.label_smoothing);
    o.d_chosen = slope * c.slope / s.n_chosen;
    o.d_rejected = -slope * r.slope / s.n_rejected;
    return o;
}
