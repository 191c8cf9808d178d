/* 1 - sigma(beta a) + sigma(beta b), a = score_chosen, b = score_rejected: for pairs whose chosen
 * side is better than what the model says by itself; chosen is pushed up, rejected down. */
PAIR_LOSS(apo_zero)
{
    real u = sigmoid(p.beta * s.score_chosen);
    real v = sigmoid(p.beta * s.score_rejected);
    pair_out o;

    o.loss = 1.0 - u + v;
    o.d_chosen = -p.beta * u * (1.0 - u);
    o.d_rejected = p.beta * v * (1.0 - v);
    return o;
}
