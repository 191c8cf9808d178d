/* -(1 - eps) log sigma(beta d) - eps log sigma(-beta d), d = score_chosen - score_rejected: DPO
 * that expects a share eps of the pairs to be the wrong way round, and stops pushing there. */
PAIR_LOSS(cdpo)
{
    real x = p.beta * (s.score_chosen - s.score_rejected);
    pair_out o;

    o.loss = smoothed_logistic(x, p.label_smoothing);
    o.d_chosen = p.beta * smoothed_logistic_slope(x, p.label_smoothing);
    o.d_rejected = -o.d_chosen;
    return o;
}
