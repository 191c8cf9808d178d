/* -log sigma(beta h), h = score_chosen / n_chosen - score_rejected / n_rejected, nats a token: DPO
 * that does not care for length. */
PAIR_LOSS(sigmoid_norm)
{
    real x = p.beta * (s.score_chosen / s.n_chosen - s.score_rejected / s.n_rejected);
    real slope = -p.beta * sigmoid(-x);
    pair_out o;

    o.loss = -log_sigmoid(x);
    o.d_chosen = slope / s.n_chosen;
    o.d_rejected = -slope / s.n_rejected;
    return o;
}
