/* -min(w, epsilon_high) A log p with the ratio w held: clipped tokens still teach; and beta times
 * the token's k3 KL. The loss is the mean over all tokens of the samples that were drawn together.
 */
#include "clipped.h"

POLICY_LOSS(cispo)
{
    real w = exp(s.log_ratio);
    real held = w > p.epsilon_high ? p.epsilon_high : w;
    policy_out o;

    o.loss = -held * s.advantage * s.logp;
    o.d_log_ratio = 0.0;
    o.d_logp = -held * s.advantage;
    o.kl = k3_of(s.ref_logp - s.logp);
    o.low = 0.0;
    o.high = w > p.epsilon_high && s.advantage > 0.0 ? 1.0 : 0.0;
    return with_kl(o, s, p);
}
