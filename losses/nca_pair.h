/* -log sigma(beta a) - log sigma(-beta a) / 2 - log sigma(-beta b) / 2, a = score_chosen,
 * b = score_rejected: the chosen log-prob has a minimum to stay at instead of a margin to win. */
PAIR_LOSS(nca_pair)
{
    real x = p.beta * s.score_chosen, y = p.beta * s.score_rejected;
    pair_out o;

    o.loss = -log_sigmoid(x) - 0.5 * log_sigmoid(-x) - 0.5 * log_sigmoid(-y);
    o.d_chosen = p.beta * (0.5 * sigmoid(x) - sigmoid(-x));
    o.d_rejected = 0.5 * p.beta * sigmoid(y);
    return o;
}
