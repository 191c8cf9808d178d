/* -log sigma(beta a) - log sigma(-beta b), a = score_chosen, b = score_rejected: a classifier of
 * good and bad, without the running mean of rewards that the paper subtracts. */
PAIR_LOSS(bco_pair)
{
    real x = p.beta * s.score_chosen, y = p.beta * s.score_rejected;
    pair_out o;

    o.loss = -log_sigmoid(x) - log_sigmoid(-y);
    o.d_chosen = -p.beta * sigmoid(-x);
    o.d_rejected = p.beta * sigmoid(y);
    return o;
}
