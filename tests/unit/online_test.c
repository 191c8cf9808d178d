/* links: train reward data base text */
/* Prompts to draw samples for, and rewards that cannot teach. */
#include "data_test.h"

#include "online.h"

#include <math.h>

static enum at_status load(struct at_prompt_rows *out, const char *text, uint32_t max_length,
                           uint32_t n_new)
{
    struct at_dataset_params p = strict(AT_ROWS_SAMPLE);
    const char *const paths[] = { path };

    p.max_length = max_length;
    OK(at_file_write_atomic(path, text, strlen(text)));
    return at_prompt_rows_load(out, paths, 1, n_new, &p);
}

static void prompts_keep_their_lines(void **state)
{
    struct at_prompt_rows rows, other;

    (void)state;
    OK(load(&rows, "{\"prompt\":[" USER("hi") "],\"rule\":1}\n\n{\"prompt\":\"a\"}\n", 0, 4));
    assert_int_equal(rows.n, 2);
    assert_int_equal(rows.n_chats, 1);
    assert_true(rows.items[0].chat && !rows.items[1].chat);
    assert_int_equal(rows.items[1].line, 3);
    assert_int_equal(rows.longest, rows.items[0].n);
    assert_true(rows.items[0].n > rows.items[1].n);
    assert_string_equal(rows.items[1].json, "{\"prompt\":\"a\"}");
    /* what rewards read is part of the data */
    OK(load(&other, "{\"prompt\":[" USER("hi") "],\"rule\":2}\n\n{\"prompt\":\"a\"}\n", 0, 4));
    assert_string_not_equal(rows.digest, other.digest);
    at_prompt_rows_release(&other);
    at_prompt_rows_release(&rows);
}

static void prompts_that_are_wrong_say_where(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "{\"prompt\":\"a\"}\n{\"question\":\"a\"}\n", ":2: \"prompt\" must be a text" },
        { "{\"prompt\":\"\"}\n", "the prompt is empty" },
        { "{\"prompt\":[" USER("hi hi hi hi hi hi hi hi hi hi") "]}\n", "max_length 20" },
        { "\n", "no line" },
    };
    struct at_prompt_rows rows;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        assert_int_equal(load(&rows, cases[i].text, 20, 10), AT_DATA);
        if (!strstr(at_message(), cases[i].says))
            fail_msg("\"%s\" was expected, found: %s", cases[i].says, at_message());
    }
}

/* Rollouts of 16 samples that have one reward. */
static enum at_status look(struct at_online *o, double reward, double flat, uint32_t n_rollouts)
{
    enum at_status st = AT_OK;
    double sums[16];

    for (uint32_t i = 0; i < AT_COUNT(sums); i++)
        sums[i] = reward;
    for (uint32_t k = 0; st == AT_OK && k < n_rollouts; k++)
        st = at_online_look(o, sums, AT_COUNT(sums), flat);
    return st;
}

static void rewards_that_cannot_teach_end_a_run(void **state)
{
    struct at_online o = { .is_on = true };

    (void)state;
    OK(look(&o, NAN, 1, 2));
    OK(look(&o, 1, 0, 1)); /* some group had a spread */
    OK(look(&o, NAN, 1, 2));
    assert_int_equal(look(&o, NAN, 1, 1), AT_DATA);
    assert_non_null(strstr(at_message(), "3 rollouts"));

    o = (struct at_online){ .is_on = true };
    OK(look(&o, 0, 1, 7));
    OK(look(&o, 1, 1, 7)); /* another number */
    assert_int_equal(look(&o, 1, 1, 1), AT_DATA);
    assert_non_null(strstr(at_message(), "128 samples"));

    o = (struct at_online){ .is_on = true };
    OK(look(&o, 0.5, 0.5, 1));
    OK(look(&o, 1, 1, 7));
    assert_false(o.is_done);
    OK(look(&o, 1, 1, 1));
    assert_true(o.is_done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_keep_their_lines),
        cmocka_unit_test(prompts_that_are_wrong_say_where),
        cmocka_unit_test(rewards_that_cannot_teach_end_a_run),
    };

    return cmocka_run_group_tests(tests, open_model, close_model);
}
