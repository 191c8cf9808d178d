/* -log sigma(beta d), d = score_chosen - score_rejected: DPO. */
PAIR_LOSS(sigmoid)
{
    real x = p.beta * (s.score_chosen - s.score_rejected);
    pair_out o;

    o.loss = -log_sigmoid(x);
    o.d_chosen = -p.beta * sigmoid(-x);
    o.d_rejected = -o.d_chosen;
    return o;
}
