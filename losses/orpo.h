/* -beta log sigma(x) with x = log odds(q_chosen) - log odds(q_rejected), q = exp(logp / n) a side's
 * mean token probability and odds(q) = q / (1 - q): ORPO without its cross-entropy, which the
 * method adds. Its scores are the policy's log-probs. 1 - q is at least 1e-7, and so
 * is what the slope divides by: a side that is certain keeps the slope of one that almost is. */

/* 1 - e^z for z <= 0, at least 1e-7: as (1 + e^z) tanh(-z / 2) it keeps its digits near 0. */
LOSS_FUNCTION real one_minus_exp(real z)
{
    if (z > -1e-7)
        return 1e-7;
    return (1.0 + exp(z)) * safe_tanh(-0.5 * z);
}

/* log odds(e^c) - log odds(e^r) of mean log-probs c, r. */
LOSS_FUNCTION real log_odds_ratio(real c, real r)
{
    return c - r - (log(one_minus_exp(c)) - log(one_minus_exp(r)));
}

PAIR_LOSS(orpo)
{
    real c = s.score_chosen / s.n_chosen, r = s.score_rejected / s.n_rejected;
    real x = log_odds_ratio(c, r);
    real slope = -p.beta * sigmoid(-x);
    pair_out o;

    o.loss = -p.beta * log_sigmoid(x);
    o.d_chosen = slope / (one_minus_exp(c) * s.n_chosen);
    o.d_rejected = -slope / (one_minus_exp(r) * s.n_rejected);
    return o;
}
