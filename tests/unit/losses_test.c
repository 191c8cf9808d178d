/* links: base losses */
/* Every row of losses.def: derivatives against central differences, a published or derived value.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "divergence.h"
#include "losses.h"
#include "ref_loss.h"
#include "tolerances.h"

static const double LN2 = 0.69314718055994530942;

static const struct {
    const char *loss;
    pair_stats s;
    loss_params p;
    double want;
} pair_values[] = {
    /* L0 of TRL's documentation: policy = reference */
    { "alphapo",
      { -4, -6, 4, 2 },
      { .beta = 0.5, .simpo_gamma = 0.5, .alphapo_alpha = 0 },
      0.4740769841801067 }, /* SimPO: ln(1 + e^-0.5) */
    { "alphapo",
      { -4, -6, 4, 2 },
      { .beta = 0.5, .alphapo_alpha = -0.5 },
      0.5197099737075048 }, /* by hand: r = 2 (q^0.5 - 1), x = e^-0.5 - e^-1.5 */
    { "aot", { 0, 0, 4, 2 }, { .beta = 0.1, .label_smoothing = 0.1 }, 0.69314718055994530942 },
    { "aot", { 2, -1, 4, 2 }, { .beta = 1, .label_smoothing = 0.25 }, 0.798587351573742 },
    { "aot_unpaired", { 0, 0, 4, 2 }, { .beta = 0.1 }, 0.69314718055994530942 },
    { "aot_unpaired", { 3, 5, 4, 2 }, { .beta = 1, .label_smoothing = 0.25 }, 0.798587351573742 },
    { "apo_down", { 0, 0, 4, 2 }, { .beta = 0.1 }, 1 },
    { "apo_down", { 1, -1, 4, 2 }, { .beta = 1 }, 0.8502615006521225 }, /* s(1) + 1 - s(2) */
    { "apo_zero", { 0, 0, 4, 2 }, { .beta = 0.1 }, 1 },
    { "apo_zero", { 1, -2, 4, 2 }, { .beta = 1 }, 0.3881443433921127 }, /* 1 - s(1) + s(-2) */
    { "bco_pair", { 0, 0, 4, 2 }, { .beta = 0.1 }, 1.386294361119891 }, /* 2 ln 2 */
    { "bco_pair", { 1, -2, 4, 2 }, { .beta = 1 }, 0.4401896985611954 },
    { "bradley_terry", { 0, 0, 1, 1 }, { .beta = 0.1 }, 0.69314718055994530942 }, /* ln 2 */
    { "bradley_terry",
      { 2.5, -1, 1, 1 },
      { .margin = 0.5, .center_rewards_coefficient = 0.01 },
      0.071087351573742 }, /* ln(1 + e^-3) + 0.01 * 1.5^2 */
    { "cdpo", { 0, 0, 4, 2 }, { .beta = 0.1, .label_smoothing = 0.1 }, 0.69314718055994530942 },
    { "cdpo", { 2, -1, 4, 2 }, { .beta = 1, .label_smoothing = 0.25 }, 0.798587351573742 },
    /* ln(1 + e^-3) + 3 / 4 */
    { "discopop", { 0, 0, 4, 2 }, { .beta = 0.1, .discopop_tau = 0.05 }, 0.8465735902799727 },
    { "discopop", { -1000, 0, 4, 2 }, { .beta = 1, .discopop_tau = 0.05 }, 1000 }, /* no overflow */
    { "exo_pair", { 0, 0, 4, 2 }, { .beta = 0.1, .label_smoothing = 1e-3 }, 2.761230709097915 },
    { "exo_pair", { 2, -1, 4, 2 }, { .beta = 1, .label_smoothing = 0.25 }, 0.1489197484190287 },
    { "hinge", { 0, 0, 4, 2 }, { .beta = 0.1 }, 1 },     /* policy = reference */
    { "hinge", { 1, -3, 4, 2 }, { .beta = 0.2 }, 0.2 },  /* by hand: 1 - 0.2 * 4 */
    { "hinge", { 30, 0, 4, 2 }, { .beta = 0.1 }, 0 },    /* past the corner */
    { "ipo", { 0, 0, 4, 2 }, { .beta = 0.1 }, 25 },      /* policy = reference: (1 / (2 beta))^2 */
    { "ipo", { 1, -3, 4, 2 }, { .beta = 0.5 }, 0.5625 }, /* by hand: (1/4 + 3/2 - 1)^2 */
    { "nca_pair", { 0, 0, 4, 2 }, { .beta = 0.1 }, 1.386294361119891 }, /* 2 ln 2 */
    { "nca_pair", { 1, -2, 4, 2 }, { .beta = 1 }, 1.0333565367988207 },
    { "orpo", { -4, -4, 4, 4 }, { .beta = 0.1 }, 0.069314718055994530942 }, /* beta ln 2 */
    { "orpo",
      { -4, -4, 4, 2 },
      { .beta = 0.5 },
      0.11909151320691416 }, /* odds 1 / (e - 1), 1 / (e^2 - 1) */
    { "orpo",
      { 0, -4, 1, 2 },
      { .beta = 1 },
      1.565176415247769e-08 }, /* certain of the chosen side */
    { "orpo",
      { -4, -1e-6, 2, 1 },
      { .beta = 1 },
      15.670096756613084 }, /* nearly certain of the other */
    { "robust", { 0, 0, 4, 2 }, { .beta = 0.1, .label_smoothing = 0.1 }, 0.69314718055994530942 },
    { "robust", { 2, -1, 4, 2 }, { .beta = 1, .label_smoothing = 0.25 }, -1.451412648426258 },
    { "sft", { -6, -9, 4, 2 }, { .beta = 0.1, .mean_n_chosen = 3 }, 2 },
    { "sigmoid", { 0, 0, 4, 2 }, { .beta = 0.1 }, 0.69314718055994530942 }, /* ln 2 */
    { "sigmoid", { 2, -1, 4, 2 }, { .beta = 1 }, 0.048587351573742 },       /* ln(1 + e^-3) */
    { "sigmoid", { -1000, 0, 4, 2 }, { .beta = 1 }, 1000 },                 /* no overflow */
    { "sigmoid_norm", { 0, 0, 4, 2 }, { .beta = 0.1 }, 0.69314718055994530942 },
    { "sigmoid_norm", { 4, -4, 4, 2 }, { .beta = 1 }, 0.048587351573742 }, /* ln(1 + e^-3) */
    { "simpo", { -4, -6, 4, 2 }, { .beta = 0.5, .simpo_gamma = 0.5 }, 0.4740769841801067 },
    { "simpo",
      { -4, -6, 4, 2 },
      { .beta = 1, .simpo_gamma = 2, .label_smoothing = 0.25 },
      0.6931471805599453 }, /* x = 0 */
    { "sppo_hard", { 0, 0, 4, 2 }, { .beta = 0.1 }, 50 },
    { "sppo_hard", { 3, -1, 4, 2 }, { .beta = 0.5 }, 4 },
    /* by hand: x = 0.5 * (-1 + 3) - 0.5, ln(1 + e^-0.5) */
    { "tpo_l", { -4, -6, 4, 2 }, { .beta = 0.5, .tpo_l_gamma = 0.5 }, 0.4740769841801067 },
    { "tpo_l",
      { -4, -6, 4, 2 },
      { .beta = 1, .tpo_l_gamma = 2, .label_smoothing = 0.25 },
      0.6931471805599453 }, /* x = 0 */
};
static const struct {
    const char *loss;
    policy_stats s;
    policy_params p;
    double want;
} policy_values[] = {
    /* logp, ref_logp, log_ratio, advantage; beta, epsilon_low, epsilon_high, delta, weighs_kl */
    { "bnpo", { -1, -1, 0, 0.75 }, { 0.5, 0.2, 0.2, 0, 0 }, -0.75 },            /* ratio 1, KL 0 */
    { "bnpo", { -1, -2, 0, 0 }, { 0.5, 0.2, 0.2, 0, 0 }, 0.18393972058572117 }, /* e^-1 / 2 */
    { "cispo", { -2, -2, 0, 0.75 }, { 0, 0.2, 5, 0, 0 }, 1.5 },
    { "cispo", { -2, -2, 3, 0.75 }, { 0, 0.2, 5, 0, 0 }, 7.5 },    /* the ratio is cut at 5 */
    { "dapo", { -1, -1, 1, 0.5 }, { 0, 0.2, 0.28, 0, 0 }, -0.64 }, /* cut from above at 1.28 */
    { "dapo", { -1, -1, 1, -0.5 }, { 0, 0.2, 0.28, 0, 0 }, 1.3591409142295225 },
    { "dapo", { -1, -1, 1, -0.5 }, { 0, 0.2, 0.28, 2, 0 }, 1 },       /* cut by delta */
    { "dr_grpo", { -1, -1, -1, -0.5 }, { 0, 0.2, 0.28, 0, 0 }, 0.4 }, /* cut from below at 0.8 */
    { "grpo", { -1, -1, -1, 0.5 }, { 0, 0.2, 0.2, 0, 0 }, -0.18393972058572117 },
    { "grpo",
      { -1, -1.5, 0, 0.25 },
      { 1, 0.2, 0.2, 0, 0 },
      -0.14346934028736658 },                                    /* e^-.5 - .75 */
    { "grpo", { -1, -2, 1, 0 }, { 0.5, 0.2, 0.2, 0, 1 }, 0.5 },  /* e^1 e^-1 / 2 */
    { "rloo", { -1, -9, 0, 2.5 }, { 1, 0.2, 0.2, 0, 0 }, -2.5 }, /* its KL is in the reward */
    { "rloo", { -1, -9, 1, 2.5 }, { 1, 0.2, 0.2, 0, 0 }, -3 },
};
static const struct {
    const char *loss;
    row_stats s;
    row_params p;
    double want;
} row_values[] = {
    { "apo_zero_unpaired", { 0, 0, 1 }, { 0.1, 1, 1 }, 0.5 }, /* policy = reference */
    { "apo_zero_unpaired", { 2, 0, 1 }, { 0.5, 3, 1 }, 0.8068242641102948 }, /* 3 s(-1) */
    { "apo_zero_unpaired", { 2, 0, 0 }, { 0.5, 3, 2 }, 1.4621171572600098 }, /* 2 s(1) */
    { "kto", { 0, 0, 0 }, { 0.1, 1, 0.5 }, 0.25 },
    { "kto", { 2, 1, 1 }, { 1, 3, 1 }, 0.8068242641102948 }, /* 3 s(-1) */
    { "kto", { 2, 1, 0 }, { 1, 3, 2 }, 1.4621171572600098 }, /* 2 s(1) */
    { "kto", { -1000, 0, 1 }, { 1, 2, 1 }, 2 },              /* no overflow */
};
static const struct {
    const char *loss;
    token_stats s;
    double want;
} token_values[] = {
    { "dft", { -1.5, -1.5 }, 0.3346952402226447 }, /* 1.5 e^-1.5 */
    { "nll", { -1.5, -1.5 }, 1.5 },
};

static void require_near(double got, double want, double tol)
{
    if (!(fabs(got - want) <= tol))
        fail_msg("got %.15g, want %.15g, tolerance %.2g", got, want, tol);
}

static void losses_published_statistics_give_published_value(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pair_values / sizeof pair_values[0]; i++) {
        pair_out o;

        assert_true(ref_pair_loss(&o, pair_values[i].loss, pair_values[i].s, pair_values[i].p));
        require_near(o.loss, pair_values[i].want, 1e-8 * (1 + fabs(pair_values[i].want)));
    }
    for (size_t i = 0; i < sizeof row_values / sizeof row_values[0]; i++) {
        row_out o;

        assert_true(ref_row_loss(&o, row_values[i].loss, row_values[i].s, row_values[i].p));
        require_near(o.loss, row_values[i].want, 1e-12);
        require_near(at_row_loss_value(row_values[i].loss, row_values[i].s, row_values[i].p),
                     o.loss, 0);
    }
    for (size_t i = 0; i < sizeof policy_values / sizeof policy_values[0]; i++) {
        policy_out o;

        assert_true(
            ref_policy_loss(&o, policy_values[i].loss, policy_values[i].s, policy_values[i].p));
        require_near(o.loss, policy_values[i].want, 1e-12);
    }
    for (size_t i = 0; i < sizeof token_values / sizeof token_values[0]; i++) {
        token_out o;

        assert_true(ref_token_loss(&o, token_values[i].loss, token_values[i].s));
        require_near(o.loss, token_values[i].want, 1e-12);
    }
}

static void losses_every_row_has_a_value_and_a_source(void **state)
{
    size_t n;
    const struct at_loss *list = at_loss_list(&n);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        bool found = false;

        for (size_t j = 0; j < sizeof pair_values / sizeof pair_values[0]; j++)
            found |= list[i].kind == AT_LOSS_PAIR && strcmp(pair_values[j].loss, list[i].name) == 0;
        for (size_t j = 0; j < sizeof policy_values / sizeof policy_values[0]; j++)
            found |=
                list[i].kind == AT_LOSS_POLICY && strcmp(policy_values[j].loss, list[i].name) == 0;
        for (size_t j = 0; j < sizeof row_values / sizeof row_values[0]; j++)
            found |= list[i].kind == AT_LOSS_ROW && strcmp(row_values[j].loss, list[i].name) == 0;
        for (size_t j = 0; j < sizeof token_values / sizeof token_values[0]; j++)
            found |=
                list[i].kind == AT_LOSS_TOKEN && strcmp(token_values[j].loss, list[i].name) == 0;
        if (!found)
            fail_msg("losses.def: %s has no published or derived value in this test", list[i].name);
        assert_true(strlen(list[i].source) > 10);
        assert_ptr_equal(at_loss_find(list[i].name), &list[i]);
        if (i > 0 && strcmp(list[i - 1].name, list[i].name) >= 0)
            fail_msg("losses.def: %s is not in its place", list[i].name);
    }
    assert_null(at_loss_find("no such loss"));
    assert_null(at_loss_find(""));
    assert_string_equal(at_loss_find("tpo-l")->name, "tpo_l"); /* TRL's spelling */
    assert_null(at_loss_find("tpo-"));
    assert_null(at_loss_find("tpo-l-"));
}

static double uniform(double low, double high)
{
    static uint64_t state = 1;

    state = state * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * (double)(state >> 11) / 9007199254740992.0;
}

static void require_slope(const char *name, double below, double above, double step, double d)
{
    const double slope = (above - below) / (2 * step);

    if (!(fabs(slope - d) <= TOL_DIFFERENCE * (1 + fabs(d))))
        fail_msg("%s: derivative %.12g, differences give %.12g", name, d, slope);
}

static void check_pair(const char *name)
{
    const double h = 1e-5;
    /* log-probs are below 0, log-ratios have any sign */
    const double top = strchr(at_loss_find(name)->reads, 'p') ? -0.1 : 8;
    const pair_stats s = { uniform(-8, top), uniform(-8, top), floor(uniform(1, 9)),
                           floor(uniform(1, 9)) };
    const loss_params p = { uniform(0.05, 1.5), uniform(0.01, 0.4), uniform(0.5, 2),
                            uniform(1, 9),      uniform(0, 2),      uniform(-1, 1),
                            uniform(0, 1),      uniform(-1, 2),     uniform(0, 2) };
    pair_stats below = s, above = s;
    pair_out o, low, high;

    assert_true(ref_pair_loss(&o, name, s, p));
    below.score_chosen -= h;
    above.score_chosen += h;
    assert_true(ref_pair_loss(&low, name, below, p) && ref_pair_loss(&high, name, above, p));
    require_slope(name, low.loss, high.loss, h, o.d_chosen);
    below = above = s;
    below.score_rejected -= h;
    above.score_rejected += h;
    assert_true(ref_pair_loss(&low, name, below, p) && ref_pair_loss(&high, name, above, p));
    require_slope(name, low.loss, high.loss, h, o.d_rejected);
}

static void check_row(const char *name)
{
    const double h = 1e-5;
    const row_stats s = { uniform(-8, 8), uniform(0, 4), floor(uniform(0, 2)) };
    const row_params p = { uniform(0.05, 1.5), uniform(0, 3), uniform(0, 3) };
    row_stats below = s, above = s;
    row_out o, low, high;

    below.score -= h;
    above.score += h;
    assert_true(ref_row_loss(&o, name, s, p));
    assert_true(ref_row_loss(&low, name, below, p) && ref_row_loss(&high, name, above, p));
    require_slope(name, low.loss, high.loss, h, o.d_score);
}

/* By the ratio and by the log-prob apart; the kinks are points. */
static void check_policy(const char *name)
{
    const double h = 1e-6, logp = uniform(-6, -0.1);
    const policy_stats s = { logp, logp + uniform(-1, 1), uniform(-1, 1), uniform(-2, 2) };
    const policy_params p = { uniform(0, 1), uniform(0.1, 0.4), uniform(0.1, 0.4),
                              uniform(0, 1) < 0.5 ? 0 : uniform(1.5, 2.5), floor(uniform(0, 2)) };
    policy_stats below = s, above = s;
    policy_out o, low, high;

    below.log_ratio -= h;
    above.log_ratio += h;
    assert_true(ref_policy_loss(&o, name, s, p));
    assert_true(ref_policy_loss(&low, name, below, p) && ref_policy_loss(&high, name, above, p));
    if (strcmp(name, "cispo") == 0) /* but for the KL term the ratio is held */
        require_near(o.d_log_ratio, p.weighs_kl * p.beta * o.kl, 0);
    else
        require_slope(name, low.loss, high.loss, h, o.d_log_ratio);
    below = above = s;
    below.logp -= h;
    above.logp += h;
    assert_true(ref_policy_loss(&low, name, below, p) && ref_policy_loss(&high, name, above, p));
    require_slope(name, low.loss, high.loss, h, o.d_logp);
    require_near(o.kl,
                 (exp(s.ref_logp - logp) - (s.ref_logp - logp) - 1) *
                     (p.weighs_kl > 0 && strcmp(name, "rloo") != 0 ? exp(s.log_ratio) : 1),
                 1e-8);
}

enum { COUPLED = 5 };

/* A micro-batch of a coupled loss: scores of both sides, the reference's differences. */
struct micro {
    double chosen[COUPLED], rejected[COUPLED], reference[COUPLED];
};

static double of_rank(const double *values, size_t k)
{
    for (size_t i = 0; i < COUPLED; i++) {
        size_t below = 0;
        for (size_t j = 0; j < COUPLED; j++)
            below += values[j] < values[i];
        if (below == k)
            return values[i];
    }
    return NAN;
}

static size_t rank_of(const double *values, double value)
{
    size_t below = 0;

    for (size_t j = 0; j < COUPLED; j++)
        below += values[j] < value;
    return below;
}

/* Sum over ranks, by the paper; out: each pair as the loss has it. */
static double coupled_sum(const char *name, const struct micro *b, const loss_params *p,
                          pair_out out[COUPLED])
{
    double policy[COUPLED], sum = 0;

    for (size_t i = 0; i < COUPLED; i++)
        policy[i] = b->chosen[i] - b->rejected[i] + b->reference[i];
    for (size_t k = 0; k < COUPLED; k++) {
        const bool paired = strcmp(name, "aot") == 0;
        const double high = paired ? of_rank(policy, k) : of_rank(b->chosen, k);
        const double low = paired ? of_rank(b->reference, k) : of_rank(b->rejected, k);
        sum += smoothed_logistic(p->beta * (high - low), p->label_smoothing);
    }
    for (size_t i = 0; i < COUPLED; i++) {
        const pair_match m = {
            of_rank(b->reference, rank_of(policy, policy[i])) - b->reference[i],
            of_rank(b->rejected, rank_of(b->chosen, b->chosen[i])),
            of_rank(b->chosen, rank_of(b->rejected, b->rejected[i])),
        };
        assert_true(ref_matched_loss(&out[i], name,
                                     (pair_stats){ b->chosen[i], b->rejected[i], 4, 2 }, *p, m));
    }
    return sum;
}

/* The pairs' values add up to the sum over ranks, and their derivatives are the sum's. */
static void check_coupled(const char *name)
{
    const double h = 1e-6;
    const loss_params p = { .beta = uniform(0.05, 1.5), .label_smoothing = uniform(0, 0.4) };
    pair_out out[COUPLED], ignored[COUPLED];
    struct micro b;
    double sum = 0;

    for (size_t i = 0; i < COUPLED; i++) {
        b.chosen[i] = uniform(-8, 8);
        b.rejected[i] = uniform(-8, 8);
        b.reference[i] = uniform(-8, 8);
    }
    sum = coupled_sum(name, &b, &p, out);
    for (size_t i = 0; i < COUPLED; i++)
        sum -= out[i].loss;
    require_near(sum, 0, 1e-9);
    for (size_t i = 0; i < 2 * COUPLED; i++) {
        struct micro below = b, above = b;
        (i % 2 ? below.rejected : below.chosen)[i / 2] -= h;
        (i % 2 ? above.rejected : above.chosen)[i / 2] += h;
        require_slope(name, coupled_sum(name, &below, &p, ignored),
                      coupled_sum(name, &above, &p, ignored), h,
                      i % 2 ? out[i / 2].d_rejected : out[i / 2].d_chosen);
    }
}

static void check_token(const char *name)
{
    const double h = 1e-5;
    const double logp = uniform(-20, -1e-3);
    const token_stats s = { logp, logp };
    token_out o, low, high;

    assert_true(ref_token_loss(&o, name, s));
    assert_true(ref_token_loss(&low, name, (token_stats){ s.logp - h, s.held }));
    assert_true(ref_token_loss(&high, name, (token_stats){ s.logp + h, s.held }));
    require_slope(name, low.loss, high.loss, h, o.d_logp);
}

static void losses_derivatives_equal_central_differences(void **state)
{
    size_t n;
    const struct at_loss *list = at_loss_list(&n);

    (void)state;
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 200; k++) {
            if (strchr(list[i].reads, 'b'))
                check_coupled(list[i].name);
            else if (list[i].kind == AT_LOSS_PAIR)
                check_pair(list[i].name);
            else if (list[i].kind == AT_LOSS_POLICY)
                check_policy(list[i].name);
            else if (list[i].kind == AT_LOSS_ROW)
                check_row(list[i].name);
            else
                check_token(list[i].name);
        }
}

/* Scores are 0 and have slope 1 at r = 0; slopes are the differences of the scores; alpha 0 is
 * forward KL, alpha 1 reverse KL. */
static void divergence_scores_have_their_slopes(void **state)
{
    const double h = 1e-6;

    (void)state;
    for (int kind = DIVERGENCE_REVERSE_KL; kind <= DIVERGENCE_ALPHA; kind++)
        for (double alpha = -1; alpha <= 2; alpha += 0.5) {
            require_near(divergence_score(kind, 0, alpha).score, 0, 2e-9);
            require_near(divergence_score(kind, 0, alpha).slope, kind == DIVERGENCE_JS ? 0.5 : 1,
                         1e-12);
            for (double r = -4; r <= 4; r += 0.37) {
                const double below = divergence_score(kind, r - h, alpha).score;
                const double above = divergence_score(kind, r + h, alpha).score;
                require_slope("divergence", below, above, h,
                              divergence_score(kind, r, alpha).slope);
                require_near(alpha_score(r, 0).score, forward_kl_score(r).score, 1e-12);
                require_near(alpha_score(r, 1).score, r, 0);
            }
        }
    require_near(js_score(1).score, 0.3798854930417224, 2e-9);         /* ln 2 - ln(1 + e^-1) */
    require_near(alpha_score(2, 0.5).score, 1.2642411176571153, 1e-9); /* 2 (1 - e^-1) */
    assert_true(isfinite(alpha_score(-1e4, 0.5).score));               /* the exponent ends at 80 */
    require_near(alpha_score(-1e4, 0.5).slope, 0, 0);
}

static void prelude_functions_equal_libm(void **state)
{
    (void)state;
    for (double x = -40; x <= 40; x += 0.0625) {
        require_near(softplus(x), x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)), 2e-9);
        require_near(log_sigmoid(x), -softplus(-x), 0);
        require_near(sigmoid(x), 1 / (1 + exp(-x)), 1e-15);
        require_near(safe_tanh(x), tanh(x), 1e-9);
        require_near(safe_tanh(x / 1000), tanh(x / 1000), 1e-12);
    }
    require_near(softplus(0), LN2, 2e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_published_statistics_give_published_value),
        cmocka_unit_test(losses_every_row_has_a_value_and_a_source),
        cmocka_unit_test(losses_derivatives_equal_central_differences),
        cmocka_unit_test(divergence_scores_have_their_slopes),
        cmocka_unit_test(prelude_functions_equal_libm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
