/* links: train data base */
/* Mismatched rows: whose completion stands behind whose prompt, and where it is cut. */
#include "kl.h"
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

enum { MOST = 9, PROMPT = 5, LIMIT = 8 };

/* Row i has a prompt of 1 + i % PROMPT ids, and of its completion of i + 1 ids what LIMIT leaves.
 */
static struct at_dataset make(struct at_row rows[MOST], uint32_t n)
{
    static const int32_t prompt[PROMPT] = { 0 };
    static const uint8_t ones[MOST] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    static int32_t ids[MOST][MOST];

    for (uint32_t i = 0; i < n; i++) {
        const uint32_t n_prefix = 1 + i % PROMPT, room = LIMIT - n_prefix;
        const uint32_t kept = i + 1 < room ? i + 1 : room;
        ids[i][0] = (int32_t)i;
        rows[i] = (struct at_row){ .kind = AT_ROWS_LABELLED,
                                   .prefix = prompt,
                                   .n_prefix = n_prefix,
                                   .n_segments = 1,
                                   .segment = { { ids[i], ones, kept, kept, i + 1 } } };
    }
    return (struct at_dataset){ .rows = rows, .n_rows = n };
}

/* Rotated by one within each batch; a row that is alone takes the one before. */
static void kl_rows_rotate_completions_within_a_batch(void **state)
{
    static const struct {
        uint32_t n, batch;
        int32_t partner[MOST];
    } cases[] = {
        { 9, 4, { 3, 0, 1, 2, 7, 4, 5, 6, 7 } },
        { 8, 3, { 2, 0, 1, 5, 3, 4, 7, 6 } },
        { 2, 4, { 1, 0 } },
        { 3, 2, { 1, 0, 1 } },
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        struct at_row rows[MOST], *kl = NULL;
        const struct at_dataset d = make(rows, cases[i].n);
        struct at_arena arena = { 0 };

        assert_int_equal(at_kl_rows(&arena, &kl, &d, cases[i].batch, LIMIT, NULL), AT_OK);
        for (uint32_t k = 0; k < d.n_rows; k++) {
            const uint32_t partner = (uint32_t)cases[i].partner[k], room = LIMIT - rows[k].n_prefix;
            assert_ptr_equal(kl[k].prefix, rows[k].prefix);
            assert_int_equal(kl[k].n_prefix, rows[k].n_prefix);
            assert_int_equal(kl[k].segment[0].ids[0], partner);
            assert_int_equal(kl[k].segment[0].n, partner + 1 < room ? partner + 1 : room);
            assert_int_equal(kl[k].segment[0].n_targets, kl[k].segment[0].n);
        }
        at_arena_release(&arena);
    }
}

static void kl_term_is_a_mean_and_never_negative(void **state)
{
    (void)state;
    assert_true(at_kl_term(2, 2) == 1);
    assert_true(at_kl_term(-1, 1) == 0);
    assert_true(isnan(at_kl_term((double)NAN, 2)));
}

static void kl_rows_of_one_row_need_others(void **state)
{
    struct at_row rows[MOST], two[MOST], *kl = NULL;
    const struct at_dataset others = make(two, 2), d = make(rows, 1);
    struct at_arena arena = { 0 };

    (void)state;
    assert_int_equal(at_kl_rows(&arena, &kl, &d, 4, 0, NULL), AT_DATA);
    assert_non_null(strstr(at_message(), "apo_zero_unpaired"));
    assert_int_equal(at_kl_rows(&arena, &kl, &d, 4, 0, &others), AT_OK);
    assert_ptr_equal(kl[0].segment[0].ids, two[0].segment[0].ids);
    assert_ptr_equal(kl[0].prefix, rows[0].prefix);
    at_arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kl_rows_rotate_completions_within_a_batch),
        cmocka_unit_test(kl_term_is_a_mean_and_never_negative),
        cmocka_unit_test(kl_rows_of_one_row_need_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
