/* Scores of f-divergences: what takes the place of a log-ratio when the policy is held to the
 * reference by another divergence than reverse KL. Wang et al. 2023, arXiv 2309.16240 (f-DPO):
 * S(r) = f'(t) at t = e^r, up to a constant that makes S(0) = 0. C (double) and GLSL (float) as in
 * prelude.h. */
#ifndef LOSSES_DIVERGENCE_H
#define LOSSES_DIVERGENCE_H

#include "prelude.h"

#define DIVERGENCE_REVERSE_KL 0
#define DIVERGENCE_FORWARD_KL 1
#define DIVERGENCE_JS 2
#define DIVERGENCE_ALPHA 3

struct score_out {
    real score, slope; /* S(r) and dS/dr */
};
#ifdef __STDC__
typedef struct score_out score_out;
#endif

/* The log-ratio itself: reverse KL. */
LOSS_FUNCTION score_out reverse_kl_score(real r)
{
    score_out o;

    o.score = r;
    o.slope = 1.0;
    return o;
}

/* 1 - e^-r. */
LOSS_FUNCTION score_out forward_kl_score(real r)
{
    score_out o;

    o.slope = exp(-r);
    o.score = 1.0 - o.slope;
    return o;
}

/* log 2 + log sigma(r): Jensen-Shannon. */
LOSS_FUNCTION score_out js_score(real r)
{
    score_out o;

    o.score = 0.69314718055994530942 + log_sigmoid(r);
    o.slope = sigmoid(-r);
    return o;
}

/* (e^((alpha - 1) r) - 1) / (alpha - 1), the exponent at most 80; alpha 1 is its limit, r. */
LOSS_FUNCTION score_out alpha_score(real r, real alpha)
{
    real k = alpha - 1.0, x = k * r;
    score_out o;

    if (k * k < 1e-12)
        return reverse_kl_score(r);
    o.slope = exp(x < 80.0 ? x : 80.0);
    o.score = (o.slope - 1.0) / k;
    if (x > 80.0)
        o.slope = 0.0;
    return o;
}

LOSS_FUNCTION score_out divergence_score(int kind, real r, real alpha)
{
    if (kind == DIVERGENCE_FORWARD_KL)
        return forward_kl_score(r);
    if (kind == DIVERGENCE_JS)
        return js_score(r);
    if (kind == DIVERGENCE_ALPHA)
        return alpha_score(r, alpha);
    return reverse_kl_score(r);
}

#endif
