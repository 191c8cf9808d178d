/* w (1 - sigma(+-beta (r - z))): + and w = desirable_weight for a desirable row, - and w =
 * undesirable_weight for another; r its log-ratio, z the KL term, which has no gradient.
 * Couples: z is one for a micro-batch, the mean log-ratio of its rows' mismatched counterparts,
 * each row's prompt with the completion of the row before it (engine/train/kl.h). */
ROW_LOSS(kto)
{
    real sign = s.desirable > 0.5 ? 1.0 : -1.0;
    real w = s.desirable > 0.5 ? p.desirable_weight : p.undesirable_weight;
    real x = sign * p.beta * (s.score - s.kl);
    row_out o;

    o.loss = w * sigmoid(-x);
    o.d_score = -w * sign * p.beta * sigmoid(x) * sigmoid(-x);
    return o;
}
