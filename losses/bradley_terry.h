/* -log sigma(r_chosen - r_rejected - margin): Bradley and Terry's model of a comparison, the loss
 * of reward models. center_rewards_coefficient (r_chosen + r_rejected)^2 keeps rewards around 0.
 * Its scores are rewards, not log-probs. */
PAIR_LOSS(bradley_terry)
{
    real x = s.score_chosen - s.score_rejected - p.margin;
    real sum = s.score_chosen + s.score_rejected;
    real pull = 2.0 * p.center_rewards_coefficient * sum;
    pair_out o;

    o.loss = -log_sigmoid(x) + p.center_rewards_coefficient * sum * sum;
    o.d_chosen = pull - sigmoid(-x);
    o.d_rejected = pull + sigmoid(-x);
    return o;
}
