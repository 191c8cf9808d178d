/* -log sigma(x) with x = beta (logp_chosen / n_chosen - logp_rejected / n_rejected) - gamma: TPO-L,
 * `tpo-l` in TRL, without the cross-entropy of the reference, which the method adds; a share
 * label_smoothing of the pairs counts the other way round. Its scores are the policy's log-probs.
 */
PAIR_LOSS(tpo_l)
{
    return margin_of_means(s, p.beta, p.tpo_l_gamma, p.label_smoothing);
}
