/* -log sigma(x) with x = beta (logp_chosen / n_chosen - logp_rejected / n_rejected) - gamma: SimPO;
 * a share label_smoothing of the pairs counts the other way round. Its scores are the policy's
 * log-probs. */
PAIR_LOSS(simpo)
{
    real x =
        p.beta * (s.score_chosen / s.n_chosen - s.score_rejected / s.n_rejected) - p.simpo_gamma;
    real slope = p.beta * smoothed_logistic_slope(x, p.label_smoothing);
    pair_out o;

    o.loss = smoothed_logistic(x, p.label_smoothing);
    o.d_chosen = slope / s.n_chosen;
    o.d_rejected = -slope / s.n_rejected;
    return o;
}
