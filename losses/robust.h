/* (-(1 - eps) log sigma(x) + eps log sigma(-x)) / (1 - 2 eps), x = beta (score_chosen -
 * score_rejected): an unbiased estimate of DPO's loss when a share eps < 1/2 of the labels is
 * flipped. */
PAIR_LOSS(robust)
{
    real x = p.beta * (s.score_chosen - s.score_rejected);
    real k = 1.0 / (1.0 - 2.0 * p.label_smoothing);
    pair_out o;

    o.loss = k * (p.label_smoothing * log_sigmoid(-x) - (1.0 - p.label_smoothing) * log_sigmoid(x));
    o.d_chosen =
        -k * p.beta * (p.label_smoothing * sigmoid(x) + (1.0 - p.label_smoothing) * sigmoid(-x));
    o.d_rejected = -o.d_chosen;
    return o;
}
