/* -(1 - eps) log sigma(beta d) - eps log sigma(-beta d), d = score_chosen - score_rejected: DPO
 * that expects a share eps of the pairs to be the wrong way round, and stops pushing there. */
PAIR_LOSS(cdpo)
{
    real x = p.beta * (s.score_chosen - s.score_rejected);
    pair_out o;

    o.loss = -(1.0 - p.label_smoothing) * log_sigmoid(x) - p.label_smoothing * log_sigmoid(-x);
    o.d_chosen =
        p.beta * (p.label_smoothing * sigmoid(x) - (1.0 - p.label_smoothing) * sigmoid(-x));
    o.d_rejected = -o.d_chosen;
    return o;
}
