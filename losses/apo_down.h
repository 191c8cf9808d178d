/* sigma(beta a) + 1 - sigma(beta (a - b)), a = score_chosen, b = score_rejected: for pairs whose
 * chosen side is worse than what the model says by itself; both are pushed down, the rejected one
 * more. */
PAIR_LOSS(apo_down)
{
    real u = sigmoid(p.beta * s.score_chosen);
    real v = sigmoid(p.beta * (s.score_chosen - s.score_rejected));
    pair_out o;

    o.loss = u + 1.0 - v;
    o.d_rejected = p.beta * v * (1.0 - v);
    o.d_chosen = p.beta * u * (1.0 - u) - o.d_rejected;
    return o;
}
