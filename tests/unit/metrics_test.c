/* links: train data base */
#include "metrics.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

static void check_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%.17g, want %.17g", got, want);
}

/* Wilson 1927; values computed by the formula in exact arithmetic and rounded. */
static void share_of_equals_wilson(void **state)
{
    static const struct {
        double hits, n, low, high;
    } rows[] = {
        { 0, 10, 0, 0.2775327998628892 },
        { 10, 10, 0.7224672001371107, 1 },
        { 5, 10, 0.2365930905125640, 0.7634069094874360 },
        { 85, 100, 0.7671644040916763, 0.9069401471634337 },
        { 60, 120, 0.4119387054110838, 0.5880612945889161 },
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(rows); i++) {
        const struct at_share s = at_share_of(rows[i].hits, rows[i].n);
        check_near(s.value, rows[i].hits / rows[i].n, 0);
        check_near(s.low, rows[i].low, 1e-12);
        check_near(s.high, rows[i].high, 1e-12);
        check_near(s.n, rows[i].n, 0);
    }
}

static void share_of_nothing_is_open(void **state)
{
    const struct at_share s = at_share_of(0, 0);

    (void)state;
    check_near(s.low, 0, 0);
    check_near(s.high, 1, 0);
}

static void metric_add_names_what_is_not_finite(void **state)
{
    cJSON *out = cJSON_CreateObject();
    struct at_buf text = { 0 };

    (void)state;
    at_metric_add(out, "eval_", "loss", NAN);
    at_metric_add(out, "", "grad_norm", 0.1);
    at_metric_add(out, "", "kl", -INFINITY);
    at_json_write(&text, out);
    assert_string_equal(text.data, "{\"eval_loss\":null,\"nonfinite\":[\"eval_loss\",\"kl\"],"
                                   "\"grad_norm\":0.1,\"kl\":null}");
    at_buf_release(&text);
    cJSON_Delete(out);
}

static const struct at_row pair = { .n_segments = 2 };
static const struct at_row_result first = {
    .policy = { { .logp = -4, .raw_logp = -4, .entropy = 2, .hits = 1, .logit_mean = 6, .n = 2 },
                { .logp = -9, .raw_logp = -9, .entropy = 3, .hits = 3, .logit_mean = 9, .n = 3 } },
    .pair = { .loss = 0.5f, .score_chosen = 1, .score_rejected = -1 },
    .n_segments = 2
};
static const struct at_row_result second = { /* weighted sums, as LD-DPO has them */
                                             .policy = { { .logp = -8,
                                                           .raw_logp = -16,
                                                           .entropy = 4,
                                                           .hits = 2,
                                                           .logit_mean = 6,
                                                           .n = 4 },
                                                         { .logp = -4,
                                                           .raw_logp = -4,
                                                           .entropy = 1,
                                                           .hits = 0,
                                                           .logit_mean = 1,
                                                           .n = 1 } },
                                             .pair = { .loss = 1.5f,
                                                       .score_chosen = 2,
                                                       .score_rejected = 2 },
                                             .n_segments = 2
};

static double value(const cJSON *out, const char *name)
{
    const cJSON *item = at_json_find(out, name);

    if (!cJSON_IsNumber(item))
        fail_msg("%s is missing", name);
    return item->valuedouble;
}

/* By TRL's definitions: means over rows, logits and entropy over tokens, ties are no win. */
static void tally_of_pairs_equals_the_definitions(void **state)
{
    struct at_tally t = { 0 };
    cJSON *out = cJSON_CreateObject();

    (void)state;
    at_tally_add(&t, &pair, &first);
    at_tally_add(&t, &pair, &second);
    at_tally_write(
        out, &t, "eval_",
        &(struct at_metric_style){ .method = AT_DPO, .beta = 0.5, .token_means = false });
    check_near(value(out, "eval_loss"), 1, 0);
    check_near(value(out, "eval_rewards/chosen"), 0.75, 0);
    check_near(value(out, "eval_rewards/rejected"), 0.25, 0);
    check_near(value(out, "eval_rewards/margins"), 0.5, 0);
    check_near(value(out, "eval_rewards/accuracies"), 0.5, 0);
    check_near(value(out, "eval_logps/chosen"), -6, 0);
    check_near(value(out, "eval_logps/rejected"), -6.5, 0);
    check_near(value(out, "eval_logits/chosen"), 2, 0);
    check_near(value(out, "eval_logits/rejected"), 2.5, 0);
    check_near(value(out, "eval_entropy"), 1, 0);
    check_near(value(out, "eval_mean_token_accuracy"), 0.5, 0);
    check_near(value(out, "eval_logps/accuracies"), 0.5, 0); /* of raw means: -4 and -4 tie */
    cJSON_Delete(out);
}

static void margins_by_length_are_means_of_their_pairs(void **state)
{
    static const struct at_row rows[] = { { .segment = { { .n = 1 } } },
                                          { .segment = { { .n = 32 } } },
                                          { .segment = { { .n = 33 } } },
                                          { .segment = { { .n = 513 } } } };
    static const struct at_row_result results[] = {
        { .pair = { .score_chosen = 3, .score_rejected = 1 } },
        { .pair = { .score_chosen = 1, .score_rejected = -3 } },
        { .pair = { .score_chosen = -1, .score_rejected = 1 } },
        { .pair = { .score_chosen = 5, .score_rejected = 5 } }
    };
    cJSON *out = cJSON_CreateObject();

    (void)state;
    at_metric_lengths(out, "eval_", rows, results, 4, 0.5);
    check_near(value(out, "eval_margins/len_32"), 1.5, 0);
    check_near(value(out, "eval_margins/len_128"), -1, 0);
    check_near(value(out, "eval_margins/len_more"), 0, 0);
    assert_null(at_json_find(out, "eval_margins/len_512"));
    cJSON_Delete(out);
}

/* Without a reference: the cross-entropy of the chosen side; log-probs as means where asked. */
static void tally_of_pairs_without_reference(void **state)
{
    struct at_tally t = { 0 };
    cJSON *out = cJSON_CreateObject();

    (void)state;
    at_tally_add(&t, &pair, &first);
    at_tally_write(out, &t, "",
                   &(struct at_metric_style){ .method = AT_CPO, .beta = 0.5, .token_means = true });
    check_near(value(out, "nll_loss"), -(double)first.policy[0].logp / first.policy[0].n, 1e-12);
    check_near(value(out, "logps/chosen"), (double)first.policy[0].logp / first.policy[0].n, 1e-12);
    check_near(value(out, "logps/rejected"), (double)first.policy[1].logp / first.policy[1].n,
               1e-12);
    cJSON_Delete(out);
    out = cJSON_CreateObject();
    at_tally_write(
        out, &t, "",
        &(struct at_metric_style){ .method = AT_CPO, .beta = 0.5, .token_means = false });
    check_near(value(out, "logps/chosen"), (double)first.policy[0].logp, 1e-12);
    cJSON_Delete(out);
    out = cJSON_CreateObject();
    at_tally_write(
        out, &t, "",
        &(struct at_metric_style){ .method = AT_DPO, .beta = 0.5, .token_means = false });
    assert_null(at_json_find(out, "nll_loss"));
    cJSON_Delete(out);
}

/* ORPO: the prompt's tokens count in the cross-entropy; log-odds and log sigma of them. */
static void tally_with_prompt_and_log_odds(void **state)
{
    static const int32_t prefix[5] = { 0 };
    const struct at_row row = {
        .n_segments = 2, .prefix = prefix, .n_prefix = 5, .prompt_targets = true
    };
    const struct at_row_result r = { .policy = { { .logp = -6, .raw_logp = -6, .n = 3 },
                                                 { .logp = -8, .raw_logp = -8, .n = 2 },
                                                 { .logp = -15, .n = 4 } },
                                     .pair = { .log_odds = 1.5f } };
    struct at_tally t = { 0 };
    cJSON *out = cJSON_CreateObject();

    (void)state;
    at_tally_add(&t, &row, &r);
    at_tally_write(out, &t, "",
                   &(struct at_metric_style){
                       .method = AT_ORPO, .beta = 0.1, .token_means = true, .log_odds = true });
    check_near(value(out, "nll_loss"), 3, 1e-12); /* (6 + 15) / (3 + 4) */
    check_near(value(out, "logps/chosen"), -2, 1e-12);
    check_near(value(out, "log_odds_chosen"), 1.5, 1e-12);
    check_near(value(out, "log_odds_ratio"), -0.20141327798275246, 1e-12); /* -ln(1 + e^-1.5) */
    cJSON_Delete(out);
}

/* By label; what no row has is left out. */
static void tally_of_labelled_rows_is_by_label(void **state)
{
    const struct at_row wanted = { .kind = AT_ROWS_LABELLED, .n_segments = 1, .desirable = true };
    const struct at_row other = { .kind = AT_ROWS_LABELLED, .n_segments = 1 };
    const struct at_row_result a = {
        .policy = { { .logp = -6, .entropy = 4, .logit_mean = 8, .n = 4 } },
        .pair = { .loss = 0.25f, .score_chosen = 2 },
        .kl = 0.5f
    };
    const struct at_row_result b = {
        .policy = { { .logp = -3, .entropy = 2, .logit_mean = 1, .n = 2 } },
        .pair = { .loss = 0.75f, .score_chosen = -4 },
        .kl = 1
    };
    const struct at_metric_style style = { .method = AT_KTO, .beta = 0.5, .kl = true };
    struct at_tally t = { 0 };
    cJSON *out = cJSON_CreateObject();

    (void)state;
    at_tally_add(&t, &wanted, &a);
    at_tally_write(out, &t, "", &style);
    check_near(value(out, "rewards/chosen"), 1, 0);
    assert_null(at_json_find(out, "rewards/rejected"));
    assert_null(at_json_find(out, "rewards/margins"));
    cJSON_Delete(out);
    out = cJSON_CreateObject();
    at_tally_add(&t, &other, &b);
    at_tally_add(&t, &other, &b);
    at_tally_write(out, &t, "", &style);
    check_near(value(out, "loss"), 1.75 / 3, 1e-12);
    check_near(value(out, "kl"), 2.5 / 3, 1e-12);
    check_near(value(out, "rewards/rejected"), -2, 0);
    check_near(value(out, "rewards/margins"), 3, 0);
    check_near(value(out, "logps/chosen"), -6, 0);
    check_near(value(out, "logps/rejected"), -3, 0);
    check_near(value(out, "logits/chosen"), 2, 0);
    check_near(value(out, "logits/rejected"), 0.5, 0);
    check_near(value(out, "entropy"), 1, 0);
    cJSON_Delete(out);
}

static void tally_of_a_step_has_no_eval_only_metric(void **state)
{
    struct at_tally t = { 0 };
    cJSON *out = cJSON_CreateObject();

    (void)state;
    at_tally_add(&t, &pair, &first);
    at_tally_write(
        out, &t, "",
        &(struct at_metric_style){ .method = AT_DPO, .beta = 0.1, .token_means = false });
    assert_null(at_json_find(out, "logps/accuracies"));
    check_near(value(out, "rewards/accuracies"), 1, 0);
    cJSON_Delete(out);
}

/* TRL's RewardTrainer: least and greatest reward of a step, averaged over steps; beta counts for
 * nothing, ties are no win. */
static void tally_of_rewards_equals_the_definitions(void **state)
{
    const struct at_row_result r[3] = {
        { .policy = { { .logp = 2, .n = 1 }, { .logp = -1, .n = 1 } },
          .pair = { .loss = 1, .score_chosen = 2, .score_rejected = -1 } },
        { .policy = { { .logp = 0.5f, .n = 1 }, { .logp = 0.5f, .n = 1 } },
          .pair = { .loss = 3, .score_chosen = 0.5f, .score_rejected = 0.5f } },
        { .policy = { { .logp = -3, .n = 1 }, { .logp = 1, .n = 1 } },
          .pair = { .loss = 5, .score_chosen = -3, .score_rejected = 1 } },
    };
    struct at_tally t = { 0 };
    cJSON *out = cJSON_CreateObject();

    (void)state;
    for (size_t i = 0; i < 3; i++)
        at_tally_add(&t, &pair, &r[i]);
    at_tally_group(&t, r, 2);
    at_tally_group(&t, r + 2, 1);
    at_tally_write(out, &t, "eval_", &(struct at_metric_style){ .method = AT_REWARD, .beta = 1 });
    check_near(value(out, "eval_loss"), 3, 1e-12);
    check_near(value(out, "eval_min_reward"), -2, 1e-12);
    check_near(value(out, "eval_max_reward"), 1.5, 1e-12);
    check_near(value(out, "eval_mean_reward"), 0, 1e-12);
    check_near(value(out, "eval_accuracy"), 1. / 3, 1e-12);
    check_near(value(out, "eval_margin"), -1. / 3, 1e-12);
    assert_null(at_json_find(out, "eval_rewards/chosen"));
    assert_null(at_json_find(out, "eval_logps/chosen"));
    cJSON_Delete(out);
}

static void tally_of_completions_is_by_token(void **state)
{
    const struct at_row row = { .n_segments = 1 };
    const struct at_row_result r = { .policy = { { .logp = -6, .entropy = 4, .hits = 1, .n = 4 } },
                                     .pair = { .loss = 6 } };
    struct at_tally t = { 0 };
    cJSON *out = cJSON_CreateObject();

    (void)state;
    at_tally_add(&t, &row, &r);
    at_tally_write(out, &t, "",
                   &(struct at_metric_style){ .method = AT_SFT, .beta = 0, .token_means = false });
    check_near(value(out, "loss"), 1.5, 0);
    check_near(value(out, "entropy"), 1, 0);
    check_near(value(out, "mean_token_accuracy"), 0.25, 0);
    assert_null(at_json_find(out, "rewards/chosen"));
    cJSON_Delete(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(share_of_equals_wilson),
        cmocka_unit_test(share_of_nothing_is_open),
        cmocka_unit_test(metric_add_names_what_is_not_finite),
        cmocka_unit_test(tally_of_pairs_equals_the_definitions),
        cmocka_unit_test(margins_by_length_are_means_of_their_pairs),
        cmocka_unit_test(tally_of_pairs_without_reference),
        cmocka_unit_test(tally_with_prompt_and_log_odds),
        cmocka_unit_test(tally_of_labelled_rows_is_by_label),
        cmocka_unit_test(tally_of_a_step_has_no_eval_only_metric),
        cmocka_unit_test(tally_of_completions_is_by_token),
        cmocka_unit_test(tally_of_rewards_equals_the_definitions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
