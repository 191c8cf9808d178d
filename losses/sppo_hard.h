/* (a - 1 / (2 beta))^2 + (b + 1 / (2 beta))^2, a = score_chosen, b = score_rejected: each side
 * regresses to the log-ratio of a sure win or a sure loss. */
PAIR_LOSS(sppo_hard)
{
    real u = s.score_chosen - 0.5 / p.beta, v = s.score_rejected + 0.5 / p.beta;
    pair_out o;

    o.loss = u * u + v * v;
    o.d_chosen = 2.0 * u;
    o.d_rejected = 2.0 * v;
    return o;
}
