/* With u = (chosen - rejected) of the policy's log-probs and v of the reference's:
 *
 *   -(1 - eps) log sigma(x) - eps log sigma(-x), x = beta (u - v of the same rank)
 *
 * Couples: among the pairs of a micro-batch (per_device_train_batch_size) the one of rank k by u
 * meets the one of rank k by v; the order has no gradient.
 * Alignment by optimal transport of the paired samples: u is to dominate v. The driver needs all of
 * the micro-batch's log-probs before, which costs one more forward pass; u - v of the same rank is
 * score_chosen - score_rejected - match.pair. */
PAIR_LOSS(aot)
{
    real x = p.beta * (s.score_chosen - s.score_rejected - match.pair);
    pair_out o;

    o.loss = smoothed_logistic(x, p.label_smoothing);
    o.d_chosen = p.beta * smoothed_logistic_slope(x, p.label_smoothing);
    o.d_rejected = -o.d_chosen;
    return o;
}
