/* links: judge data text base */
#include "overlap.h"
#include "rule.h"
#include "statistics.h"

#include "os.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#define OK(call)                                     \
    do {                                             \
        if ((call) != AT_OK)                         \
            fail_msg("%s: %s", #call, at_message()); \
    } while (0)

/* What sacrebleu, rouge-score and scipy give: make_judge.py. The peers group names other cases. */
static cJSON *cases;

static int open_cases(void **state)
{
    const char *path = at_env("ATTUNE_JUDGE_CASES");

    (void)state;
    return at_json_load(&cases, path ? path : TEST_DIR "/unit/fixtures/judge.json") != AT_OK;
}

static int close_cases(void **state)
{
    (void)state;
    at_json_free(&cases);
    return 0;
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = at_json_find(object, key);

    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

static const char *text(const cJSON *object, const char *key)
{
    return at_json_find(object, key)->valuestring;
}

static void require_close(double ours, double theirs, double tolerance, const char *what, int i)
{
    if (!(fabs(ours - theirs) <= tolerance))
        fail_msg("%s %d: %.12g, %.12g expected", what, i, ours, theirs);
}

static void bleu_and_rouge_l_are_sacrebleus_and_rouge_scores(void **state)
{
    struct at_bleu corpus = { .reply_words = 0 };
    int i = 0;

    (void)state;
    for (const cJSON *c = at_json_find(cases, "pairs")->child; c; c = c->next, i++) {
        struct at_bleu one = { .reply_words = 0 };
        double rouge = -1;
        OK(at_bleu_add(&one, text(c, "reply"), text(c, "reference")));
        OK(at_bleu_add(&corpus, text(c, "reply"), text(c, "reference")));
        OK(at_rouge_l(&rouge, text(c, "reply"), text(c, "reference")));
        require_close(at_bleu_score(&one), number(c, "bleu"), 1e-9, "BLEU of pair", i);
        require_close(rouge, number(c, "rouge_l"), 1e-12, "ROUGE-L of pair", i);
    }
    require_close(at_bleu_score(&corpus), number(cases, "bleu"), 1e-9, "BLEU of all", i);
}

static void sign_test_is_scipys(void **state)
{
    int i = 0;

    (void)state;
    for (const cJSON *c = at_json_find(cases, "signs")->child; c; c = c->next, i++)
        require_close(at_sign_test((uint32_t)number(c, "wins"), (uint32_t)number(c, "losses")),
                      number(c, "p"), 1e-10, "sign test", i);
    assert_true(at_sign_test(0, 0) == 1 && at_sign_test(7, 7) == 1);
}

/* Two bootstraps with random numbers of their own: an end of an interval has a deviation of 0.027
 * of the mean's, of which the interval has 3.92; means of whole numbers have steps. */
static void bootstrap_is_scipys_but_for_its_numbers(void **state)
{
    int i = 0;

    (void)state;
    for (const cJSON *c = at_json_find(cases, "means")->child; c; c = c->next, i++) {
        const cJSON *list = at_json_find(c, "values");
        const uint32_t n = (uint32_t)cJSON_GetArraySize(list);
        const double width = number(c, "high") - number(c, "low");
        struct at_estimate ours, again;
        double *values = NULL, sum = 0, step = 1.01 / n;
        uint32_t k = 0;
        OK(at_alloc(&values, n, sizeof *values));
        for (const cJSON *v = list->child; v; v = v->next) {
            sum += values[k++] = v->valuedouble;
            step = v->valuedouble == round(v->valuedouble) ? step : 0;
        }
        OK(at_bootstrap_mean(&ours, values, n, 42));
        OK(at_bootstrap_mean(&again, values, n, 42));
        assert_memory_equal(&ours, &again, sizeof ours);
        require_close(ours.value, sum / n, 1e-12, "mean", i);
        require_close(ours.low, number(c, "low"), width / 3.92 * 0.2 + step, "low end", i);
        require_close(ours.high, number(c, "high"), width / 3.92 * 0.2 + step, "high end", i);
        at_free(&values);
    }
}

static void bootstrap_of_nothing_and_of_one_value(void **state)
{
    const double one = 0.5;
    struct at_estimate i;

    (void)state;
    OK(at_bootstrap_mean(&i, NULL, 0, 1));
    assert_true(i.n == 0 && i.low == -INFINITY && i.high == INFINITY);
    OK(at_bootstrap_mean(&i, &one, 1, 1));
    assert_true(i.value == 0.5 && i.low == 0.5 && i.high == 0.5);
}

/* Shares by Wilson's formula in exact arithmetic, rounded: 46 of 46 are [0.9229, 1]. */
static void equal_values_have_an_interval(void **state)
{
    static const struct {
        double value, least, low, high;
    } rows[] = {
        { 1, 0, 0.9229264369144197, 1 },
        { 0, 0, 0, 0.0770735630855804 },
        { 0.5, 0, 0.4614632184572098, 0.5385367815427902 },
        { 1, -1, 0.8458528738288392, 1 },
        { 0, -1, -0.0770735630855804, 0.0770735630855804 },
    };
    double values[46], z = 1.959963984540054;
    struct at_estimate one, plain;

    (void)state;
    for (int i = 0; i < (int)AT_COUNT(rows); i++) {
        for (size_t k = 0; k < AT_COUNT(values); k++)
            values[k] = rows[i].value;
        OK(at_bootstrap_bounded(&one, values, 46, 42, rows[i].least, 1));
        require_close(one.value, rows[i].value, 0, "mean", i);
        require_close(one.low, rows[i].low, 1e-12, "low end", i);
        require_close(one.high, rows[i].high, 1e-12, "high end", i);
    }
    OK(at_bootstrap_bounded(&one, values, 0, 42, 0, 1));
    assert_true(one.n == 0 && one.low == -INFINITY && one.high == INFINITY);
    values[3] = 1; /* not equal: the bootstrap's */
    OK(at_bootstrap_bounded(&one, values, 46, 42, -1, 1));
    OK(at_bootstrap_mean(&plain, values, 46, 42));
    assert_memory_equal(&one, &plain, sizeof one);
    values[0] = 1;
    OK(at_bootstrap_bounded(&one, values, 1, 42, 0, 1));
    require_close(one.low, 1 / (1 + z * z), 1e-12, "one value", 0);
}

/* (1.96 + 0.84)^2 s^2 / m^2, of 1, 0, 0, 0: mean 1/4, variance 1/4. */
static void pairs_needed_follow_the_deviation(void **state)
{
    const double some[] = { 1, 0, 0, 0 }, none[] = { 1, -1 }, same[] = { 1, 1 };

    (void)state;
    assert_true(at_pairs_needed(some, 4) == ceil(7.848879734 * 0.25 / 0.0625));
    assert_true(at_pairs_needed(none, 2) == 0 && at_pairs_needed(same, 2) == 6);
    assert_true(at_pairs_needed(some, 1) == 0);
}

static void repetition_counts_runs_that_came_before(void **state)
{
    double share = -1;

    (void)state;
    OK(at_repetition(&share, "a b c d a b c d"));
    assert_true(share == 1.0 / 5);
    OK(at_repetition(&share, "yes yes yes yes yes yes"));
    assert_true(share == 2.0 / 3);
    OK(at_repetition(&share, "a b c d e f g"));
    assert_true(share == 0);
    OK(at_repetition(&share, ""));
    assert_true(share == 0);
    assert_true(at_is_exact_match(" Yes.\n", "Yes.") && !at_is_exact_match("Yes.", "yes."));
    assert_true(at_is_exact_match("", " ") && !at_is_exact_match("a", ""));
}

/* ---- rules ---- */

static bool passes(const char *rule_text, const char *reply)
{
    struct at_rule *rule = NULL;
    cJSON *json = NULL;
    bool passed = false;

    OK(at_json_parse(&json, rule_text, strlen(rule_text), "rule", 1));
    OK(at_rule_open(&rule, json, "rule"));
    OK(at_rule_check(&passed, rule, reply));
    at_rule_close(&rule);
    at_json_free(&json);
    return passed;
}

static void rules_say_what_a_reply_must_be(void **state)
{
    static const char schema[] =
        "{\"json_schema\": {\"type\": \"object\", \"required\": [\"n\"], "
        "\"additionalProperties\": false, \"properties\": {\"n\": {\"type\": \"integer\", "
        "\"minimum\": 1, \"maximum\": 3}, \"s\": {\"enum\": [\"a\", null]}, "
        "\"l\": {\"type\": [\"array\", \"null\"], \"items\": {\"type\": \"string\", "
        "\"maxLength\": 2}, \"maxItems\": 2}}}}";

    (void)state;
    assert_true(passes("{\"contains_any\": [\"Rome\", \"STRASSE\"]}", "the Stra\xC3\x9F"
                                                                      "e"));
    assert_false(passes("{\"contains_any\": [\"Rome\"]}", "Paris"));
    assert_true(passes("{\"excludes_any\": [\"stupid\"]}", "How clever!"));
    assert_false(passes("{\"excludes_any\": [\"stupid\"]}", "How STUPID!"));
    assert_true(passes("{\"max_words\": 3}", " one two\nthree "));
    assert_false(passes("{\"max_words\": 2}", "one two three"));
    assert_true(passes("{\"min_words\": 3}", "one two three"));
    assert_false(passes("{\"min_words\": 3}", "one two"));
    assert_true(passes("{\"language\": \"German\"}", "Das ist nicht der Weg, den wir nehmen."));
    assert_false(passes("{\"language\": \"German\"}", "That is not the way that you would take."));
    assert_false(passes("{\"language\": \"German\"}", "Ja."));
    assert_true(passes("{\"language\": \"Greek\"}", "\xCE\xBA\xCE\xB1\xCE\xBB\xCE\xB7\xCE\xBC"
                                                    "\xCE\xAD\xCF\x81\xCE\xB1"));
    assert_true(passes("{\"regex\": \"(?i)\\\\bsun\\\\b\"}", "The Sun."));
    assert_false(passes("{\"regex\": \"(?i)\\\\bsun\\\\b\"}", "Sunday"));
    assert_true(passes(schema, " {\"n\": 2, \"s\": null, \"l\": [\"\xC3\xA4\xC3\xB6\", \"b\"]}"));
    assert_true(passes(schema, "{\"n\": 1.0, \"l\": null}"));
    for (size_t i = 0; i < 9; i++) {
        static const char *const wrong[9] = {
            "{\"n\": 2.5}",
            "{\"n\": 4}",
            "{\"s\": \"a\"}",
            "{\"n\": 1, \"x\": 0}",
            "[]",
            "{\"n\": 1",
            "{\"n\": 1, \"l\": [1]}",
            "{\"n\": 1, \"l\": [\"abc\"]}",
            "{\"n\": 1, \"s\": \"b\"}",
        };
        if (passes(schema, wrong[i]))
            fail_msg("%s fits the schema", wrong[i]);
    }
    assert_false(passes(schema, "{\"n\": 1, \"l\": [\"a\", \"b\", \"c\"]}"));
}

static void rules_that_cannot_be_checked_are_refused(void **state)
{
    static const char *const bad[][2] = {
        { "{}", "one key" },
        { "{\"regex\": \"a\", \"max_words\": 3}", "one key" },
        { "{\"regexp\": \"a\"}", "unknown rule \"regexp\"" },
        { "{\"regex\": \"(\"}", "wrong at character" },
        { "{\"contains_any\": []}", "list of texts" },
        { "{\"max_words\": \"3\"}", "must be a number" },
        { "{\"language\": \"german\"}", "one of Dutch, English, French, German," },
        { "{\"json_schema\": {\"items\": {\"anyOf\": []}}}", "\"anyOf\" are not checked" },
    };
    struct at_rule *rule = NULL;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(bad); i++) {
        cJSON *json = NULL;
        OK(at_json_parse(&json, bad[i][0], strlen(bad[i][0]), "rule", 1));
        assert_int_equal(at_rule_open(&rule, json, "line 3"), AT_DATA);
        assert_non_null(strstr(at_message(), bad[i][1]));
        assert_non_null(strstr(at_message(), "line 3"));
        at_json_free(&json);
    }
}

/* scipy.optimize.minimize() of the same objective; wins that go with length alone are none. */
static void win_rate_at_equal_length_is_scipys(void **state)
{
    static const double y[] = { 1, 1, 1, 0, 1, 0.5, 1, 0, 1, 1, 0, 1 };
    static const double x[] = { 9, 4, 12, -3, 7, 0, 5, -6, 8, 2, -4, 10 };
    static const double wins[] = { 1, 1, 1 }, none[] = { 0, 0, 0 };
    struct at_estimate e, again;

    (void)state;
    OK(at_length_controlled(&e, y, x, AT_COUNT(y), 1));
    assert_true(fabs(e.value - 0.5400145361228267) < 1e-7);
    assert_true(e.low < e.value && e.value < e.high && e.low > 0.2 && e.high < 0.9 && e.n == 12);
    OK(at_length_controlled(&again, y, x, AT_COUNT(y), 1));
    assert_memory_equal(&e, &again, sizeof e);
    OK(at_length_controlled(&e, wins, none, 3, 1)); /* nothing to control for: the ridge alone */
    assert_true(e.value > 0.9 && e.value < 1 && e.high == 1);
    require_close(e.low, at_share_of(3, 3).low, 1e-12, "three wins", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bleu_and_rouge_l_are_sacrebleus_and_rouge_scores),
        cmocka_unit_test(sign_test_is_scipys),
        cmocka_unit_test(win_rate_at_equal_length_is_scipys),
        cmocka_unit_test(bootstrap_is_scipys_but_for_its_numbers),
        cmocka_unit_test(bootstrap_of_nothing_and_of_one_value),
        cmocka_unit_test(equal_values_have_an_interval),
        cmocka_unit_test(pairs_needed_follow_the_deviation),
        cmocka_unit_test(repetition_counts_runs_that_came_before),
        cmocka_unit_test(rules_say_what_a_reply_must_be),
        cmocka_unit_test(rules_that_cannot_be_checked_are_refused),
    };

    return cmocka_run_group_tests(tests, open_cases, close_cases);
}
