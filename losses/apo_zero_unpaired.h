/* w (1 - sigma(+-beta r)), + and w = desirable_weight for a desirable row, - and w =
 * undesirable_weight for another; r its log-ratio: apo_zero on single rows. */
ROW_LOSS(apo_zero_unpaired)
{
    real sign = s.desirable > 0.5 ? 1.0 : -1.0;
    real w = s.desirable > 0.5 ? p.desirable_weight : p.undesirable_weight;
    real x = sign * p.beta * s.score;
    row_out o;

    o.loss = w * sigmoid(-x);
    o.d_score = -w * sign * p.beta * sigmoid(x) * sigmoid(-x);
    return o;
}
