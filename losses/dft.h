/* -p log p with p held: cross-entropy of a target token, weighted by its own probability so that
 * unlikely tokens do not dominate. */
TOKEN_LOSS(dft)
{
    real p = exp(s.held);
    token_out o;

    o.loss = -p * s.logp;
    o.d_logp = -p;
    return o;
}
