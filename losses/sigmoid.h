/* -(1 - eps) log sigmoid(beta d) - eps log sigmoid(-beta d), d = score_chosen - score_rejected:
 * DPO, with label smoothing eps (0 in DPO itself) as in cDPO. */
PAIR_LOSS(sigmoid)
{
    real x = p.beta * (s.score_chosen - s.score_rejected);
    pair_out o;

    o.loss = -(1.0 - p.label_smoothing) * log_sigmoid(x) - p.label_smoothing * log_sigmoid(-x);
    o.d_chosen =
        p.beta * (p.label_smoothing * sigmoid(x) - (1.0 - p.label_smoothing) * sigmoid(-x));
    o.d_rejected = -o.d_chosen;
    return o;
}
