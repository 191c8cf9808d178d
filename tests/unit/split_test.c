/* links: base text data */
#include "data_test.h"

/* `rows` pairs of `groups` prompts, in this order or from the end. */
static void load_groups(struct at_dataset *out, unsigned rows, unsigned groups, bool backwards)
{
    const struct at_dataset_params p = strict(AT_ROWS_PAIR);
    struct at_buf text = { 0 };

    for (unsigned i = 0; i < rows; i++) {
        const unsigned k = backwards ? rows - 1 - i : i;
        at_buf_printf(&text,
                      "{\"prompt\":[%s" USER("tea %u") "],\"chosen\":[" SAID(
                          "yes %u") "],\"rejected\":[" SAID("no") "]}\n",
                      k % 2 ? SYSTEM("be kind") "," : "", k % groups, k);
    }
    OK(load_text(out, text.data, &p));
    at_buf_release(&text);
}

static bool holds(const struct at_dataset *d, const struct at_row *row)
{
    for (uint32_t i = 0; i < d->n_rows; i++)
        if (memcmp(&d->rows[i].prompt_hash, &row->prompt_hash, sizeof row->prompt_hash) == 0)
            return true;
    return false;
}

static void split_keeps_groups_together(void **state)
{
    struct at_dataset all, train, held;

    (void)state;
    load_groups(&all, 600, 120, false);
    OK(at_dataset_split(&train, &held, &all, 0.2, 42));
    assert_int_equal(train.n_rows + held.n_rows, 600);
    assert_true(held.n_rows > 60 && held.n_rows < 180); /* 0.2 of 120 groups, 3 deviations */
    assert_int_equal(held.n_rows % 5, 0);
    for (uint32_t i = 0; i < held.n_rows; i++) {
        assert_false(holds(&train, &held.rows[i]));
        assert_int_equal(held.rows[i].index, i);
        assert_true(i == 0 || held.rows[i].line > held.rows[i - 1].line);
    }
    assert_int_equal(train.rows[7].index, 7);
    assert_string_not_equal(train.digest, held.digest);
    at_dataset_release(&train);
    at_dataset_release(&held);
    at_dataset_release(&all);
}

static void split_depends_on_seed_and_prompt_alone(void **state)
{
    struct at_dataset all, more, train, held, train2, held2;
    uint32_t differ = 0;

    (void)state;
    load_groups(&all, 200, 100, false);
    load_groups(&more, 300, 150, true);
    OK(at_dataset_split(&train, &held, &all, 0.3, 7));
    OK(at_dataset_split(&train2, &held2, &more, 0.3, 7));
    for (uint32_t i = 0; i < held.n_rows; i++)
        assert_true(holds(&held2, &held.rows[i]));
    for (uint32_t i = 0; i < train.n_rows; i++)
        assert_true(holds(&train2, &train.rows[i]));
    at_dataset_release(&train2);
    at_dataset_release(&held2);
    OK(at_dataset_split(&train2, &held2, &all, 0.3, 8));
    for (uint32_t i = 0; i < held.n_rows; i++)
        differ += !holds(&held2, &held.rows[i]);
    assert_true(differ > 0);
    at_dataset_release(&train2);
    at_dataset_release(&held2);
    at_dataset_release(&train);
    at_dataset_release(&held);
    at_dataset_release(&more);
    at_dataset_release(&all);
}

static void split_of_few_groups_leaves_no_side_empty(void **state)
{
    static const double fractions[] = { 1e-9, 0.1, 0.5, 0.999999999 };
    struct at_dataset all, train, held;

    (void)state;
    for (unsigned groups = 2; groups < 5; groups++) {
        load_groups(&all, 12, groups, false);
        for (size_t i = 0; i < AT_COUNT(fractions); i++)
            for (uint64_t seed = 0; seed < 20; seed++) {
                OK(at_dataset_split(&train, &held, &all, fractions[i], seed));
                assert_true(train.n_rows > 0 && held.n_rows > 0);
                if (i == 0)
                    assert_int_equal(held.n_rows, 12 / groups);
                if (i == 3)
                    assert_int_equal(train.n_rows, 12 / groups);
                at_dataset_release(&train);
                at_dataset_release(&held);
            }
        at_dataset_release(&all);
    }
    load_groups(&all, 6, 1, false);
    assert_int_equal(at_dataset_split(&train, &held, &all, 0.5, 1), AT_DATA);
    assert_string_equal(at_message(),
                        "all 6 rows have the same prompt, so none can be held out; give "
                        "eval_dataset or set eval_split to 0");
    at_dataset_release(&all);
}

static void split_without_memory_fails_cleanly(void **state)
{
    struct at_dataset all, train, held;
    enum at_status st = AT_MEMORY;
    uint64_t n = 0;

    (void)state;
    load_groups(&all, 12, 12, false);
    while (st != AT_OK && n < 100) {
        at_alloc_fail_at(++n);
        st = at_dataset_split(&train, &held, &all, 0.5, 1);
        at_alloc_fail_at(0);
        assert_true(st == AT_OK || st == AT_MEMORY);
        assert_true(st == AT_OK || (!train.arena.last && !held.arena.last));
    }
    assert_int_equal(st, AT_OK);
    assert_int_equal(n, 4); /* places and a block a side */
    at_dataset_release(&train);
    at_dataset_release(&held);
    at_dataset_release(&all);
}

/* Byte-stable: a change of these lines is a change of everybody's splits. */
static void split_of_known_rows_is_known(void **state)
{
    struct at_dataset all, train, held;
    char text[64] = "";

    (void)state;
    load_groups(&all, 16, 16, false);
    OK(at_dataset_split(&train, &held, &all, 0.25, 42));
    for (uint32_t i = 0; i < held.n_rows; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%u ", held.rows[i].line);
    assert_string_equal(text, "3 6 8 9 ");
    at_dataset_release(&train);
    at_dataset_release(&held);
    at_dataset_release(&all);
}

/* Folds share no prompt, are alike in size, and hold every row out once. */
static void folds_hold_every_group_out_once(void **state)
{
    struct at_dataset all, train, held;
    uint32_t seen[100] = { 0 };

    (void)state;
    load_groups(&all, 100, 23, false);
    for (uint32_t fold = 0; fold < 5; fold++) {
        uint32_t groups = 0;
        OK(at_dataset_fold(&train, &held, &all, fold, 5, 42));
        assert_int_equal(train.n_rows + held.n_rows, 100);
        for (uint32_t i = 0; i < held.n_rows; i++) {
            assert_false(holds(&train, &held.rows[i]));
            assert_int_equal(held.rows[i].line, all.rows[held.from[i]].line);
            assert_int_equal(held.rows[i].index, i);
            seen[held.from[i]]++;
            groups += held.from[i] < 23; /* the first row of each */
        }
        for (uint32_t i = 0; i < train.n_rows; i++)
            assert_int_equal(train.rows[i].line, all.rows[train.from[i]].line);
        assert_true(groups == 4 || groups == 5);
        at_dataset_release(&train);
        at_dataset_release(&held);
    }
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(at_dataset_fold(&train, &held, &all, 0, 24, 42), AT_DATA);
    assert_string_equal(at_message(),
                        "23 prompts are too few for 24 folds, each of which holds out prompts of "
                        "its own; lower cross_validation");
    at_dataset_release(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_keeps_groups_together),
        cmocka_unit_test(split_depends_on_seed_and_prompt_alone),
        cmocka_unit_test(split_of_few_groups_leaves_no_side_empty),
        cmocka_unit_test(split_without_memory_fails_cleanly),
        cmocka_unit_test(split_of_known_rows_is_known),
        cmocka_unit_test(folds_hold_every_group_out_once),
    };

    return cmocka_run_group_tests(tests, open_model, close_model);
}
