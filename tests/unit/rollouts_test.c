/* links: train reward data base text */
/* Recorded samples as rows, with the place of what is wrong; advantages as TRL has them. */
#include "data_test.h"

#include "advantage.h"
#include "reward.h"

#include <math.h>

#define LINE(completions, rewards, more) \
    "{\"prompt\":[" USER("hi") "],\"completions\":" completions ",\"rewards\":" rewards more "}\n"

static enum at_status load(struct at_dataset *out, struct at_samples *samples, const char *text,
                           uint32_t group, uint32_t max_length)
{
    struct at_dataset_params p = strict(AT_ROWS_SAMPLE);

    p.max_length = max_length;
    OK(at_file_write_atomic(path, text, strlen(text)));
    return at_rollouts_load(out, samples, path, group, &p);
}

static void rollouts_lines_become_groups_of_rows(void **state)
{
    struct at_dataset d, other;
    struct at_samples s, t;

    (void)state;
    OK(load(&d, &s,
            LINE("[\"yes\",[5,6,2]]", "{\"a\":[1,null],\"b\":[-0.5,2]}", "") LINE(
                "[[5,6,7],[9]]", "{\"b\":[3,4],\"a\":[1,2]}", ",\"old_logps\":[[-1,-2,-3],[-0.5]]"),
            2, 0));
    assert_int_equal(d.n_rows, 4);
    assert_int_equal(d.n_chats, 4);
    assert_int_equal(s.n_rewards, 2);
    assert_string_equal(s.names[1], "b");
    assert_ptr_equal(d.rows[0].prefix, d.rows[1].prefix);
    assert_int_equal(d.rows[1].segment[0].ids[1], 6);
    assert_int_equal(d.rows[1].segment[0].n_targets, 3);
    assert_int_equal(d.rows[2].line, 2);
    assert_int_equal(d.rows[3].index, 3);
    assert_true(s.items[0].ended && s.items[1].ended); /* a text ends; so do ids with the token */
    assert_true(!s.items[2].ended && !s.items[3].ended);
    assert_true(s.items[0].reward[0] == 1 && isnan(s.items[1].reward[0]));
    assert_true(s.items[2].reward[0] == 1 && s.items[2].reward[1] == 3);
    assert_null(s.items[0].old);
    assert_true(s.items[2].old[2] == -3 && s.items[3].old[0] == -0.5f);
    /* the same rows with another reward are other data */
    OK(load(&other, &t, LINE("[\"yes\",[5,6,2]]", "[1,2]", ""), 2, 0));
    memcpy(d.digest, other.digest, sizeof d.digest);
    at_dataset_release(&other);
    OK(load(&other, &t, LINE("[\"yes\",[5,6,2]]", "[1,3]", ""), 2, 0));
    assert_string_not_equal(d.digest, other.digest);
    at_dataset_release(&other);
    at_dataset_release(&d);
}

/* A template's end of a turn is one token, or the first one where that is special. */
static void rollouts_end_with_the_token_that_generation_stops_by(void **state)
{
    static const struct {
        const char *end;
        int32_t id;
    } cases[] = { { "<|im_end|>", 2 }, { "<|im_end|><|endoftext|>", 2 }, { "end<|im_end|>", -1 } };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        const struct at_chat_tokens tokens = { .bos = NULL };
        struct at_chat *chat = NULL;
        char text[128];
        int32_t id = 0;
        snprintf(text, sizeof text, "{%% for m in messages %%}{{ m.content }}%s\n{%% endfor %%}",
                 cases[i].end);
        OK(at_chat_compile(&chat, text, "a template", &tokens));
        OK(at_chat_end_id(&id, chat, tokenizer));
        assert_int_equal(id, cases[i].id);
        at_chat_destroy(&chat);
    }
}

static void rollouts_wrong_lines_say_where(void **state)
{
    static const char good[] = LINE("[\"a\",\"b\"]", "[1,2]", "");
    static const struct {
        const char *line, *says;
    } cases[] = {
        { LINE("[\"a\"]", "[1]", ""), "1 completions found, 2 expected in every line" },
        { LINE("[\"a\",\"b\"]", "[1]", ""), "2 numbers expected" },
        { LINE("[\"a\",\"b\"]", "[1,\"x\"]", ""), "neither a finite number nor null" },
        { LINE("[\"a\",\"b\"]", "{\"c\":[1,2]}", ""), "\"c\" is not in the lines before" },
        { LINE("[\"a\",7]", "[1,2]", ""), "a list of texts or of lists of token ids" },
        { LINE("[\"a\",[]]", "[1,2]", ""), "a completion is empty" },
        { LINE("[\"a\",[1e6]]", "[1,2]", ""), "something else than a number from 0 to" },
        { LINE("[\"a\",[1]]", "[1,2]", ",\"old_logps\":[[-1],[-1]]"), "a list of ids" },
        { LINE("[[1],[1]]", "[1,2]", ",\"old_logps\":[[-1],[-1,-2]]"), "a log-prob for each id" },
        { LINE("[[1],[1]]", "[1,2]", ",\"old_logps\":[[-1],[0.5]]"), "a finite number up to 0" },
        { LINE("[\"a\",[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]]", "[1,2]",
               ""),
          "max_length is 30" },
        { "{\"prompt\":\"\",\"completions\":[\"a\",\"b\"],\"rewards\":[1,2]}\n", "is empty" },
        { "{\"prompt\":3,\"completions\":[\"a\",\"b\"],\"rewards\":[1,2]}\n", "a text or a list" },
    };
    struct at_dataset d;
    struct at_samples s;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        char text[1024];
        snprintf(text, sizeof text, "%s%s", good, cases[i].line);
        assert_int_equal(load(&d, &s, text, 2, 30), AT_DATA);
        if (!strstr(at_message(), cases[i].says) || !strstr(at_message(), ":2:"))
            fail_msg("\"%s\" was expected at line 2, found: %s", cases[i].says, at_message());
    }
    assert_int_equal(load(&d, &s, "", 2, 40), AT_DATA);
}

static void require_near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-9))
        fail_msg("got %.12g, want %.12g", got, want);
}

/* Two groups of three: deviations 1 and 0.5 / sqrt(3) (n - 1). */
static void advantages_are_those_of_the_formulas(void **state)
{
    static const double r[6] = { 1, 2, 3, 0, 0.5, 0.5 };
    const double deviation = 0.5 / sqrt(3), all = at_deviation_of(r, 6);
    double a[6];

    (void)state;
    require_near(
        at_advantages(a, r, 6, 3, &(struct at_advantage_params){ .scale = AT_SCALE_GROUP }), 0);
    require_near(a[0], -1 / 1.0001);
    require_near(a[4], (0.5 - 1.0 / 3) / (deviation + 1e-4));
    at_advantages(a, r, 6, 3, &(struct at_advantage_params){ .scale = AT_SCALE_BATCH });
    require_near(a[3], -1.0 / 3 / (all + 1e-4));
    at_advantages(a, r, 6, 3, &(struct at_advantage_params){ .scale = AT_SCALE_NONE });
    require_near(a[2], 1);
    at_advantages(a, r, 6, 3, &(struct at_advantage_params){ .leave_one_out = true });
    require_near(a[0], -1.5);
    require_near(a[3], -0.5);
    at_advantages(a, r, 6, 3,
                  &(struct at_advantage_params){ .leave_one_out = true, .normalize = true });
    require_near(at_mean_of(a, 6), 0);
    require_near(at_deviation_of(a, 6), 1 - 1e-4 / (1e-4 + sqrt((4.5 + 0.375) / 5)));
}

/* A sample without a reward is no one's baseline; a group without spread has exactly 0. */
static void advantages_without_reward_or_spread_are_zero(void **state)
{
    static const double r[6] = { 1, NAN, 3, 0.1, 0.1, 0.1 };
    static const struct at_advantage_params params[] = { { .scale = AT_SCALE_GROUP },
                                                         { .leave_one_out = true } };
    static const double none[2] = { NAN, NAN }, one[2] = { NAN, 2 };
    static const double weights[2] = { 5, 0.5 };
    double a[6];

    (void)state;
    for (size_t i = 0; i < AT_COUNT(params); i++) {
        require_near(at_advantages(a, r, 6, 3, &params[i]), 0.5);
        require_near(a[1], 0);
        for (int k = 3; k < 6; k++)
            assert_true(a[k] == 0);
        require_near(a[2], i ? 2 : 1 / (sqrt(2) + 1e-4));
    }
    assert_true(isnan(at_reward_sum(none, NULL, 2)));
    require_near(at_reward_sum(one, weights, 2), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rollouts_lines_become_groups_of_rows),
        cmocka_unit_test(rollouts_end_with_the_token_that_generation_stops_by),
        cmocka_unit_test(rollouts_wrong_lines_say_where),
        cmocka_unit_test(advantages_are_those_of_the_formulas),
        cmocka_unit_test(advantages_without_reward_or_spread_are_zero),
    };

    return cmocka_run_group_tests(tests, open_model, close_model);
}
