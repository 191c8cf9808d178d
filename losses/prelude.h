/* What a loss sees, the same text in C (double, for tests) and in GLSL (float, for training). Write
 * only what means the same in both: no pointers, no casts, no bare abs, min or max; literals with a
 * point. A file defines one loss with PAIR_LOSS(name), POLICY_LOSS(name), ROW_LOSS(name) or
 * TOKEN_LOSS(name) and returns its value and its derivatives. */
#ifndef LOSSES_PRELUDE_H
#define LOSSES_PRELUDE_H

#ifdef __STDC__
#include <math.h>
typedef double real;
typedef struct loss_params loss_params;
typedef struct pair_stats pair_stats;
typedef struct pair_match pair_match;
typedef struct pair_out pair_out;
typedef struct policy_params policy_params;
typedef struct policy_stats policy_stats;
typedef struct policy_out policy_out;
typedef struct row_params row_params;
typedef struct row_stats row_stats;
typedef struct row_out row_out;
typedef struct token_stats token_stats;
typedef struct token_out token_out;
#define LOSS_FUNCTION static inline
#define LOSS_PARAMS loss_params p __attribute__((unused))   /* not every loss has a knob */
#define PAIR_MATCH pair_match match __attribute__((unused)) /* only coupled losses read it */
#define PAIR_LOSS(name) static inline pair_out name##_pair(pair_stats s, LOSS_PARAMS, PAIR_MATCH)
#define POLICY_LOSS(name) static inline policy_out name##_policy(policy_stats s, policy_params p)
#define ROW_LOSS(name) static inline row_out name##_row(row_stats s, row_params p)
#define TOKEN_LOSS(name) static inline token_out name##_token(token_stats s)
#else
#define real float
#define LOSS_FUNCTION
#define PAIR_LOSS(name) pair_out pair_loss(pair_stats s, loss_params p, pair_match match)
#define POLICY_LOSS(name) policy_out policy_loss(policy_stats s, policy_params p)
#define ROW_LOSS(name) row_out row_loss(row_stats s, row_params p)
#define TOKEN_LOSS(name) token_out token_loss(token_stats s)
#endif

/* Knobs, whose ranges are in the config table, and what the pairs of an optimizer step share. */
struct loss_params {
    real beta, label_smoothing, discopop_tau;
    real mean_n_chosen; /* tokens a pair of the chosen side as `sft` has it ("w" of losses.def) */
    real simpo_gamma, alphapo_alpha, center_rewards_coefficient;
    real margin; /* of this pair alone: how much better its chosen side is to be */
    real tpo_l_gamma;
};
/* A pair: scores of its sides and their token counts. A score is the sum over a completion's tokens
 * of policy minus reference log-prob (nats), as divergence.h maps it; without a reference, and for
 * a loss that reads "p", the sum of the policy's log-probs, with "w" and a prompt that counts of
 * prompt and completion, of a triple the reference's; under reward models, the reward. */
struct pair_stats {
    real score_chosen, score_rejected, n_chosen, n_rejected; /* n >= 1 */
};
/* Of a loss that reads "b": whom the pair meets in its micro-batch, by rank, held constant. pair:
 * the reference's log-prob difference (chosen - rejected) of the pair with this one's rank, less
 * this one's own; chosen: the rejected score that the chosen one meets; rejected: the other way
 * round. */
struct pair_match {
    real pair, chosen, rejected;
};
/* d: derivative by score_chosen, score_rejected; of a loss that reads "b", that of the
 * micro-batch's sum. */
struct pair_out {
    real loss, d_chosen, d_rejected;
};
/* Knobs of policy losses. delta 0: none. weighs_kl: 1 where the KL term is weighed by the ratio,
 * else 0. */
struct policy_params {
    real beta, epsilon_low, epsilon_high, delta, weighs_kl;
};
/* A token of a sampled completion: its log-prob and the reference's (nats; the policy's own where
 * no reference is read); the advantage of its sample; and the logarithm of the importance ratio of
 * the policy to the one that sampled: of the token, the mean over the sample's tokens, or the sum
 * over them. */
struct policy_stats {
    real logp, ref_logp, log_ratio, advantage;
};
/* d_log_ratio and d_logp: derivatives by both, apart. kl: the k3 estimate as the loss has it
 * (nats). low, high: 1 where the ratio is below, above what the loss follows in the direction that
 * the advantage pulls, else 0. */
struct policy_out {
    real loss, d_log_ratio, d_logp, kl, low, high;
};
/* Knobs of row losses. */
struct row_params {
    real beta, desirable_weight, undesirable_weight;
};
/* A labelled row: its log-ratio (nats), the KL term (nats, 0 or more; 0 where none is computed),
 * and 1 where it is desirable, else 0. */
struct row_stats {
    real score, kl, desirable;
};
struct row_out {
    real loss, d_score;
};
/* A target token: its log-prob (nats), and the same number where a formula stops the gradient.
 * d_logp is the derivative by logp alone. */
struct token_stats {
    real logp, held;
};
struct token_out {
    real loss, d_logp;
};

/* log(1 + y) for y in [0, 1]: 2 atanh(y / (2 + y)), exact to 1e-9. */
LOSS_FUNCTION real log_one_plus(real y)
{
    real u = y / (2.0 + y);
    real q = u * u;

    return 2.0 * u *
           (1.0 +
            q * (1.0 / 3.0 +
                 q * (1.0 / 5.0 +
                      q * (1.0 / 7.0 +
                           q * (1.0 / 9.0 + q * (1.0 / 11.0 + q * (1.0 / 13.0 + q / 15.0)))))));
}

/* log(1 + e^x) without overflow. */
LOSS_FUNCTION real softplus(real x)
{
    if (x > 0.0)
        return x + log_one_plus(exp(-x));
    return log_one_plus(exp(x));
}

LOSS_FUNCTION real log_sigmoid(real x)
{
    return -softplus(-x);
}

LOSS_FUNCTION real sigmoid(real x)
{
    real y;

    if (x >= 0.0)
        return 1.0 / (1.0 + exp(-x));
    y = exp(x);
    return y / (1.0 + y);
}

/* -(1 - eps) log sigma(x) - eps log sigma(-x): logistic, a share eps of the pairs the wrong way
 * round; and its slope by x. */
LOSS_FUNCTION real smoothed_logistic(real x, real eps)
{
    return -(1.0 - eps) * log_sigmoid(x) - eps * log_sigmoid(-x);
}

LOSS_FUNCTION real smoothed_logistic_slope(real x, real eps)
{
    return eps * sigmoid(x) - (1.0 - eps) * sigmoid(-x);
}

/* The smoothed logistic of beta times the difference of mean log-probs, less a margin. */
LOSS_FUNCTION pair_out margin_of_means(pair_stats s, real beta, real gamma, real eps)
{
    real x = beta * (s.score_chosen / s.n_chosen - s.score_rejected / s.n_rejected) - gamma;
    real slope = beta * smoothed_logistic_slope(x, eps);
    pair_out o;

    o.loss = smoothed_logistic(x, eps);
    o.d_chosen = slope / s.n_chosen;
    o.d_rejected = -slope / s.n_rejected;
    return o;
}

/* Hyperbolic tangent: a series near 0, where the difference of exponentials loses its digits. */
LOSS_FUNCTION real safe_tanh(real x)
{
    real q = x * x, y;

    if (q < 0.01)
        return x * (1.0 + q * (-1.0 / 3.0 + q * (2.0 / 15.0 - q * 17.0 / 315.0)));
    if (x > 0.0) {
        y = exp(-2.0 * x);
        return (1.0 - y) / (1.0 + y);
    }
    y = exp(2.0 * x);
    return (y - 1.0) / (y + 1.0);
}

#endif
