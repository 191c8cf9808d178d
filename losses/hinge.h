/* max(0, 1 - beta d), d = score_chosen - score_rejected: SLiC. The derivative at the corner is 0.
 */
PAIR_LOSS(hinge)
{
    real x = 1.0 - p.beta * (s.score_chosen - s.score_rejected);
    pair_out o;

    o.loss = x > 0.0 ? x : 0.0;
    o.d_chosen = x > 0.0 ? -p.beta : 0.0;
    o.d_rejected = -o.d_chosen;
    return o;
}
