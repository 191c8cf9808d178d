/* (h - 1 / (2 beta))^2, h = score_chosen / n_chosen - score_rejected / n_rejected, nats a token. */
PAIR_LOSS(ipo)
{
    real e = s.score_chosen / s.n_chosen - s.score_rejected / s.n_rejected - 0.5 / p.beta;
    pair_out o;

    o.loss = e * e;
    o.d_chosen = 2.0 * e / s.n_chosen;
    o.d_rejected = -2.0 * e / s.n_rejected;
    return o;
}
