/* -log sigma(x) with x = beta (logp_chosen / n_chosen - logp_rejected / n_rejected) - gamma: SimPO;
 * a share label_smoothing of the pairs counts the other way round. Its scores are the policy's
 * log-probs. */
PAIR_LOSS(simpo)
{
    return margin_of_means(s, p.beta, p.simpo_gamma, p.label_smoothing);
}
