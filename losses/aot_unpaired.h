/*   -(1 - eps) log sigma(x) - eps log sigma(-x), x = beta (chosen - rejected of the same rank)
 *
 * Couples: among the pairs of a micro-batch (per_device_train_batch_size) the chosen score of rank
 * k meets the rejected score of rank k, whosever it is; the order has no gradient.
 * The value is that of the chosen score; the derivatives are those of the micro-batch's sum, in
 * which the rejected score stands in another pair's value. Alignment by optimal transport of
 * unpaired samples; costs one more forward pass, as aot.h does. */
PAIR_LOSS(aot_unpaired)
{
    real x_chosen = p.beta * (s.score_chosen - match.chosen);
    real x_rejected = p.beta * (match.rejected - s.score_rejected);
    pair_out o;

    o.loss = smoothed_logistic(x_chosen, p.label_smoothing);
    o.d_chosen = p.beta * smoothed_logistic_slope(x_chosen, p.label_smoothing);
    o.d_rejected = -p.beta * smoothed_logistic_slope(x_rejected, p.label_smoothing);
    return o;
}
