/* links: reward judge data text base */
/* Sources of rewards: what names them, what they give, what they cannot be. */
#include "command.h"
#include "os.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#define OK(call)                                     \
    do {                                             \
        if ((call) != AT_OK)                         \
            fail_msg("%s: %s", #call, at_message()); \
    } while (0)

static char warnings[4096];

static void keep_warning(const char *kind, const char *text)
{
    snprintf(warnings, sizeof warnings, "%s: %s", kind, text);
}

static int keep_warnings(void **state)
{
    (void)state;
    at_warn_set_sink(keep_warning);
    return 0;
}

static void require_says(const char *text, const char *says)
{
    if (!strstr(text, says))
        fail_msg("\"%s\" expected in: %s", says, text);
}

static struct at_rewards *open_rewards(const char *funcs)
{
    struct at_rewards *r = NULL;

    OK(at_rewards_open(&r, &(struct at_rewards_params){ .funcs = funcs }));
    return r;
}

/* ---- rules and models ---- */

static enum at_status score_length(void *context, double *out,
                                   const struct at_reward_sample *samples, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = i == 1 ? *(double *)context : samples[i].n_tokens / 2.0;
    return AT_OK;
}

static void sources_score_apart_in_their_order(void **state)
{
    static const char line[] = "{\"prompt\":\"Where?\",\"rule\":{\"regex\":\"^Paris\"}}";
    cJSON *row = NULL;
    struct at_rewards *r = open_rewards(
        "[\"contains_any:Ahoy\",{\"name\":\"short\",\"max_words\":2},\"regex:^P:\",\"rule\","
        "\"out/reward/\",{\"name\":\"kind\",\"model\":\"hf:org/"
        "kind\"},\"excludes_any:[\\\"no\\\",\\\"x\\\"]\"]");
    static const char *const names[] = { "contains_any", "short", "regex",       "rule",
                                         "reward",       "kind",  "excludes_any" };
    double nan = NAN, seven = 7, out[3][7];

    (void)state;
    OK(at_json_parse(&row, line, strlen(line), "row", 1));
    const struct at_reward_sample samples[3] = {
        { row, row, "Paris, AHOY!", 3, true },
        { row, NULL, "P: ahoy you no", 4, true },
        { row, row, "Rome", 2, false },
    };
    static const double want[3][7] = { { 1, 1, 0, 1, 1.5, 1.5, 1 },
                                       { 1, 0, 1, NAN, NAN, 7, 0 },
                                       { 0, 1, 0, 0, 1, 1, 1 } };
    assert_int_equal(at_rewards_count(r), 7);
    for (uint32_t k = 0; k < 7; k++)
        assert_string_equal(at_rewards_name(r, k), names[k]);
    assert_int_equal(at_rewards_kind(r, 4), AT_REWARD_MODEL);
    assert_string_equal(at_rewards_what(r, 4), "out/reward/");
    at_rewards_bind(r, 4, score_length, &nan);
    at_rewards_bind(r, 5, score_length, &seven);
    OK(at_rewards_score(r, out[0], samples, 3));
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 7; k++)
            if (isnan(want[i][k]) ? !isnan(out[i][k]) : out[i][k] != want[i][k])
                fail_msg("row %d, %s: %g, %g expected", i, names[k], out[i][k], want[i][k]);
    at_rewards_close(&r);
    at_json_free(&row);
}

static void sources_that_are_none_are_refused_by_name(void **state)
{
    static const char *const bad[][2] = {
        { NULL, "no source of rewards" },
        { "[]", "no source of rewards" },
        { "[3]", "neither a text nor an object" },
        { "[", "reward_funcs" },
        { "[{\"name\":\"x\"}]", "an object has one of" },
        { "[{\"max_words\":3,\"regex\":\"a\"}]", "an object has one of" },
        { "[{\"model\":3}]", "\"model\": an object has one of" },
        { "[{\"longer\":3}]", "\"longer\"" },
        { "\"contain_any:Ahoy\"", "did you mean contains_any:Ahoy?" },
        { "\"regex:(\"", "wrong at character" },
        { "\"max_words:many\"", "max_words must be a number" },
        { "[\"regex:a\",\"regex:b\"]", "two sources have the name \"regex\"" },
        { "[{\"name\":\"a/b\",\"max_words\":3}]", "\"a/b\" is no name" },
        { "[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\"]", "at most 8 sources" },
    };
    struct at_rewards *r = NULL;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(bad); i++) {
        assert_int_equal(at_rewards_open(&r, &(struct at_rewards_params){ .funcs = bad[i][0] }),
                         AT_USAGE);
        require_says(at_message(), bad[i][1]);
        assert_null(r);
    }
}

/* A pattern and a language are texts even where they look like JSON. */
static void patterns_are_taken_as_they_are(void **state)
{
    struct at_rewards *r = open_rewards("\"regex:12\"");
    const struct at_reward_sample sample = { .completion = "a dozen is 12" };
    double out = 0;

    (void)state;
    OK(at_rewards_score(r, &out, &sample, 1));
    assert_true(out == 1);
    at_rewards_close(&r);
}

static void replies_that_a_rule_cannot_be_tried_on_are_excluded(void **state)
{
    struct at_rewards *r = open_rewards("[{\"regex\":\"(a+)+$\"}]");
    char text[64] = "";
    struct at_reward_sample sample = { .completion = text };
    double out = 0;

    (void)state;
    memset(text, 'a', 40);
    text[40] = 'b';
    OK(at_rewards_score(r, &out, &sample, 1));
    assert_true(isnan(out));
    assert_int_equal(at_rewards_faults(r, 0), 1);
    require_says(warnings, "takes too long");
    at_rewards_close(&r);
}

/* ---- commands ---- */

enum { ROWS = 4 };

static enum at_status score_by(struct at_rewards *r, double out[ROWS])
{
    static const char line[] = "{\"prompt\":\"Where is \\u00e4?\",\"answer\":[1],\"texts\":[]}";
    struct at_reward_sample samples[ROWS];
    enum at_status st = AT_OK;
    cJSON *row = NULL;

    OK(at_json_parse(&row, line, strlen(line), "row", 1));
    for (uint32_t i = 0; i < ROWS; i++)
        samples[i] = (struct at_reward_sample){ at_json_find(row, "prompt"), i == 2 ? NULL : row,
                                                "a \"reply\"\nof two lines", i, i > 0 };
    warnings[0] = 0;
    st = at_rewards_score(r, out, samples, ROWS);
    at_json_free(&row);
    return st;
}

static struct at_rewards *open_command(const char *command, double timeout_s)
{
    struct at_rewards *r = NULL;

    OK(at_rewards_open(
        &r, &(struct at_rewards_params){ .command = command, .command_timeout_s = timeout_s }));
    return r;
}

static void command_gets_rows_and_gives_numbers(void **state)
{
    struct at_rewards *r = open_command("cat >$ATTUNE_TEST_ROWS; echo 1; echo ' -2.5e-1\t'; "
                                        "echo null; printf '%s' None",
                                        10);
    char path[] = "/tmp/attune_rows_XXXXXX";
    const int file = mkstemp(path);
    struct at_buf rows = { 0 };
    double out[ROWS];

    (void)state;
    assert_true(file >= 0 && close(file) == 0);
    at_env_set("ATTUNE_TEST_ROWS", path);
    OK(score_by(r, out));
    assert_true(out[0] == 1 && out[1] == -0.25 && isnan(out[2]) && isnan(out[3]));
    assert_string_equal(warnings, "");
    assert_int_equal(at_rewards_faults(r, 0), 0);
    OK(at_file_read(&rows, path));
    assert_ptr_equal(
        strstr(rows.data,
               "{\"prompt\":\"Where is \xC3\xA4?\",\"completion\":\"a \\\"reply\\\"\\nof two "
               "lines\",\"n_tokens\":0,\"ended\":false,\"answer\":[1]}\n{"),
        rows.data);
    require_says(rows.data, "\"n_tokens\":2,\"ended\":true}\n{");
    at_buf_release(&rows);
    at_rewards_close(&r);
    unlink(path);
}

/* Which rows have a reward, and what is said; `fails`: as many runs as end a training. */
static void commands_that_misbehave_exclude_rows_and_then_stop(void **state)
{
    static const struct {
        const char *command, *says;
        int has[ROWS];
        bool fails;
    } cases[] = {
        { "sleep 1000", "longer than 0.2 s", { 0 }, true },
        { "echo 1; sleep 1000 & echo 2; wait", "longer than 0.2 s", { 1, 1, 0, 0 }, true },
        { "echo 1; echo 2; echo 3", "printed 3 lines for 4 rows", { 0 }, true },
        { "seq 5", "more than a line for each of 4 rows", { 0 }, true },
        { "yes 1", "more than a line for each of 4 rows", { 0 }, true },
        { "echo 1; echo nan; echo 3; echo 4", "line 2 is \"nan\"", { 1, 0, 1, 1 }, false },
        { "printf '1\\0002\\nnull\\000x\\n3\\n4\\n'", "line 1 is \"1\"", { 0, 0, 1, 1 }, false },
        { "echo 1; echo inf; echo; echo 0x", "line 2 is \"inf\"", { 1, 0, 0, 0 }, true },
        { "seq 2; printf 3; echo lost the thread >&2; exit 1",
          "exit code 1; its stderr ends: lost the thread",
          { 1, 1, 0, 0 },
          true },
        { "seq 4; kill -9 $$", "signal 9 ended it", { 1, 1, 1, 1 }, true },
        { "head -c 3000000 /dev/zero | tr '\\0' e >&2; echo end >&2; cat >/dev/null; echo 7",
          "eeeend",
          { 0 },
          true },
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        struct at_rewards *r = open_command(cases[i].command, i < 2 ? 0.2 : 10);
        uint64_t n_faults = 0;
        double out[ROWS];
        for (int run = 1; run <= AT_REWARD_COMMAND_RUNS; run++) {
            const bool last = run == AT_REWARD_COMMAND_RUNS && cases[i].fails;
            assert_int_equal(score_by(r, out), last ? AT_IO : AT_OK);
            require_says(last ? at_message() : warnings, cases[i].says);
            for (int k = 0; k < ROWS; k++) {
                if (isnan(out[k]) == (cases[i].has[k] == 1))
                    fail_msg("%s: row %d has %g", cases[i].command, k, out[k]);
                n_faults += isnan(out[k]) ? 1 : 0;
            }
        }
        assert_int_equal(at_rewards_faults(r, 0), n_faults);
        at_rewards_close(&r);
    }
}

static void command_that_recovers_goes_on(void **state)
{
    struct at_rewards *r = open_command("test -e $ATTUNE_TEST_ROWS || exit 3; seq 4", 10);
    char path[] = "/tmp/attune_rows_XXXXXX";
    double out[ROWS];
    const int file = mkstemp(path);

    (void)state;
    assert_true(file >= 0 && close(file) == 0);
    at_env_set("ATTUNE_TEST_ROWS", path);
    for (int round = 0; round < 2; round++) {
        unlink(path);
        for (int run = 1; run < AT_REWARD_COMMAND_RUNS; run++)
            OK(score_by(r, out));
        OK(at_file_write_atomic(path, "", 0));
        OK(score_by(r, out));
        assert_true(out[3] == 4);
    }
    unlink(path);
    at_rewards_close(&r);
}

static void command_that_is_not_there_is_refused_at_once(void **state)
{
    struct at_rewards *r = open_command("/nowhere/judge --rows", 10);
    double out[ROWS];

    (void)state;
    assert_int_equal(score_by(r, out), AT_USAGE);
    require_says(at_message(), "the shell cannot run \"/nowhere/judge --rows\"");
    at_rewards_close(&r);
}

/* ---- sums ---- */

static void sums_weigh_and_pass_over_what_is_excluded(void **state)
{
    static const double rewards[3] = { 2, NAN, 4 }, weights[3] = { 0.5, 100, -1 };

    (void)state;
    assert_true(at_reward_sum(rewards, NULL, 3) == 6);
    assert_true(at_reward_sum(rewards, weights, 3) == -3);
    assert_true(isnan(at_reward_sum(rewards + 1, weights, 1)));
}

/* Mean tokens of the three that have a sum: 8. */
static void shape_takes_for_length_then_clips(void **state)
{
    static const uint32_t tokens[4] = { 4, 1000, 8, 12 };
    static const double clip[2] = { -1, 1.5 };
    double sums[4] = { 1, NAN, 1, 1 };

    (void)state;
    at_reward_shape(sums, tokens, 4, &(struct at_reward_shape){ .length_penalty = 2 });
    assert_true(sums[0] == 2 && isnan(sums[1]) && sums[2] == 1 && sums[3] == 0);
    at_reward_shape(sums, tokens, 4, &(struct at_reward_shape){ .clip = clip });
    assert_true(sums[0] == 1.5 && isnan(sums[1]) && sums[2] == 1 && sums[3] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sources_score_apart_in_their_order),
        cmocka_unit_test(sources_that_are_none_are_refused_by_name),
        cmocka_unit_test(patterns_are_taken_as_they_are),
        cmocka_unit_test(replies_that_a_rule_cannot_be_tried_on_are_excluded),
        cmocka_unit_test(command_gets_rows_and_gives_numbers),
        cmocka_unit_test(commands_that_misbehave_exclude_rows_and_then_stop),
        cmocka_unit_test(command_that_recovers_goes_on),
        cmocka_unit_test(command_that_is_not_there_is_refused_at_once),
        cmocka_unit_test(sums_weigh_and_pass_over_what_is_excluded),
        cmocka_unit_test(shape_takes_for_length_then_clips),
    };

    return cmocka_run_group_tests(tests, keep_warnings, NULL);
}
