/* (1 - m) (-log sigma(x)) + m exp(-x), x = beta (score_chosen - score_rejected), m = sigma(x /
 * tau): logistic where the pair is wrong, exponential where it is right; tau says how sharp the
 * change is. m exp(-x) is one exponential, so that it does not overflow where m is 0. */
PAIR_LOSS(discopop)
{
    real x = p.beta * (s.score_chosen - s.score_rejected);
    real y = x / p.discopop_tau;
    real m = sigmoid(y), rest = sigmoid(-y);
    real tail = exp(log_sigmoid(y) - x);
    real slope; /* by x: m' = m rest / tau */
    pair_out o;

    o.loss = -rest * log_sigmoid(x) + tail;
    slope = rest * (m * log_sigmoid(x) / p.discopop_tau - sigmoid(-x)) +
            tail * (rest / p.discopop_tau - 1.0);
    o.d_chosen = p.beta * slope;
    o.d_rejected = -o.d_chosen;
    return o;
}
