/* What policy losses share: the clipped surrogate of PPO (Schulman et al. 2017, arXiv 1707.06347,
 * eq. 7) and the k3 estimate of the KL divergence (Schulman 2020, Approximating KL divergence). */
#ifndef LOSSES_CLIPPED_H
#define LOSSES_CLIPPED_H

#include "prelude.h"

/* e^x - x - 1 without loss of digits near 0. */
LOSS_FUNCTION real k3_of(real x)
{
    if (x > -0.0625 && x < 0.0625)
        return x * x * (1.0 / 2.0 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x / 120.0)));
    return exp(x) - x - 1.0;
}

/* -min(min(w, delta) A, clip(w, 1 - epsilon_low, 1 + epsilon_high) A), w the ratio. */
LOSS_FUNCTION policy_out clipped_surrogate(policy_stats s, policy_params p)
{
    real w = exp(s.log_ratio), a = s.advantage;
    real capped = p.delta > 0.0 && w > p.delta ? p.delta : w;
    real clipped = w;
    policy_out o;

    if (w < 1.0 - p.epsilon_low)
        clipped = 1.0 - p.epsilon_low;
    if (w > 1.0 + p.epsilon_high)
        clipped = 1.0 + p.epsilon_high;
    o.low = capped < 1.0 - p.epsilon_low && a < 0.0 ? 1.0 : 0.0;
    o.high = capped > 1.0 + p.epsilon_high && a > 0.0 ? 1.0 : 0.0;
    o.d_logp = 0.0;
    o.kl = k3_of(s.ref_logp - s.logp);
    if (clipped * a < capped * a) {
        o.loss = -clipped * a;
        o.d_log_ratio = clipped < w || clipped > w ? 0.0 : -w * a;
    } else {
        o.loss = -capped * a;
        o.d_log_ratio = capped < w ? 0.0 : -w * a;
    }
    return o;
}

/* The same with beta times the KL term added, weighed by the ratio where it is to be unbiased for
 * samples of another policy (DeepSeek-V3.2, arXiv 2512.02556, section 3.1). */
LOSS_FUNCTION policy_out with_kl(policy_out o, policy_stats s, policy_params p)
{
    real w = p.weighs_kl > 0.5 ? exp(s.log_ratio) : 1.0;

    o.kl = w * o.kl;
    o.loss = o.loss + p.beta * o.kl;
    o.d_logp = o.d_logp + p.beta * w * (1.0 - exp(s.ref_logp - s.logp));
    if (p.weighs_kl > 0.5)
        o.d_log_ratio = o.d_log_ratio + p.beta * o.kl;
    return o;
}

#endif
