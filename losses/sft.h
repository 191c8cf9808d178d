/* -logp_chosen / mean_n_chosen: over the pairs of an optimizer step the mean is the cross-entropy
 * of all chosen tokens. Its scores are the policy's log-probs. For lists: DPO with an anchor (RPO).
 */
PAIR_LOSS(sft)
{
    pair_out o;

    o.loss = -s.score_chosen / p.mean_n_chosen;
    o.d_chosen = -1.0 / p.mean_n_chosen;
    o.d_rejected = 0.0;
    return o;
}
