/* Reverse KL of (sigma(x), sigma(-x)), x = beta (score_chosen - score_rejected), from the labels
 * (1 - eps, eps): sigma(x) (log sigma(x) - log(1 - eps)) + sigma(-x) (log sigma(-x) - log eps). */
PAIR_LOSS(exo_pair)
{
    real x = p.beta * (s.score_chosen - s.score_rejected);
    real u = sigmoid(x), v = sigmoid(-x);
    real right = log(1.0 - p.label_smoothing), wrong = log(p.label_smoothing);
    pair_out o;

    o.loss = u * (log_sigmoid(x) - right) + v * (log_sigmoid(-x) - wrong);
    o.d_chosen = p.beta * u * v * (x - right + wrong);
    o.d_rejected = -o.d_chosen;
    return o;
}
