/* -logp: cross-entropy of a target token. */
TOKEN_LOSS(nll)
{
    token_out o;

    o.loss = -s.logp;
    o.d_logp = -1.0;
    return o;
}
