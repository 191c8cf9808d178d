/* links: base text data */
#include "rng.h"
#include "slab.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

enum { MAX_ROWS = 200 };

struct rows {
    struct at_row row[MAX_ROWS];
    const struct at_row *pointer[MAX_ROWS];
};

static void make_rows(struct rows *out, const uint32_t *tokens, uint32_t n)
{
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < n; i++) {
        out->row[i].n_prefix = tokens[i] / 2;
        out->row[i].n_segments = 1;
        out->row[i].segment[0].n = tokens[i] - tokens[i] / 2;
        out->pointer[i] = &out->row[i];
    }
}

static void check_packed(const uint32_t *tokens, uint32_t n, uint32_t capacity,
                         const uint32_t *want, uint32_t want_slabs)
{
    struct rows rows;
    uint32_t slab[MAX_ROWS] = { 0 }, n_slabs = 99;

    make_rows(&rows, tokens, n);
    assert_int_equal(at_pack(slab, &n_slabs, rows.pointer, n, capacity), AT_OK);
    assert_int_equal(n_slabs, want_slabs);
    assert_memory_equal(slab, want, n * sizeof *want);
}

static void pack_of_known_rows_is_first_fit_decreasing(void **state)
{
    (void)state;
    check_packed((uint32_t[]){ 30, 60, 40, 64, 4 }, 5, 64, (uint32_t[]){ 3, 1, 2, 0, 1 }, 4);
    check_packed((uint32_t[]){ 20, 50, 44, 14 }, 4, 64, (uint32_t[]){ 1, 0, 1, 0 }, 2);
    /* equal rows go in order of position */
    check_packed((uint32_t[]){ 32, 32, 32, 32, 32 }, 5, 64, (uint32_t[]){ 0, 0, 1, 1, 2 }, 3);
    check_packed((uint32_t[]){ 64 }, 1, 64, (uint32_t[]){ 0 }, 1);
    check_packed(NULL, 0, 64, NULL, 0);
}

static void pack_of_random_rows_fills_no_slab_above_capacity(void **state)
{
    struct at_rng rng = at_rng_make(9, AT_RNG_TEST, 0, 0);
    uint32_t tokens[MAX_ROWS], slab[MAX_ROWS], used[MAX_ROWS] = { 0 }, n_slabs, total = 0;
    struct rows rows;

    (void)state;
    for (uint32_t i = 0; i < MAX_ROWS; i++)
        total += tokens[i] = 1 + at_rng_below(&rng, 256);
    make_rows(&rows, tokens, MAX_ROWS);
    assert_int_equal(at_pack(slab, &n_slabs, rows.pointer, MAX_ROWS, 256), AT_OK);
    for (uint32_t i = 0; i < MAX_ROWS; i++) {
        assert_true(slab[i] < n_slabs);
        used[slab[i]] += tokens[i];
    }
    for (uint32_t s = 0; s < n_slabs; s++)
        assert_in_range(used[s], 1, 256);
    /* first fit decreasing needs at most 11/9 of the best and 6/9 (Dosa 2007) */
    assert_true(n_slabs * 9 <= 11 * at_div_up(total, 256) + 22);
}

/* Batches of two rows with their riders: 20 + 30 + 10 + 10 tokens, 5 + 5 + 2 + 2, 40 + 8; the last
 * is one row. They stay whole, the longest first. */
static void pack_of_riders_keeps_batches_whole(void **state)
{
    static const uint32_t tokens[] = { 20, 30, 5, 5, 40 }, riding[] = { 10, 10, 2, 2, 8 };
    static const uint32_t want[] = { 0, 0, 1, 1, 1 };
    struct rows rows, riders;
    uint32_t slab[5] = { 9, 9, 9, 9, 9 }, n_slabs = 99;

    (void)state;
    make_rows(&rows, tokens, 5);
    make_rows(&riders, tokens, 5);
    for (uint32_t i = 0; i < 5; i++)
        riders.row[i].segment[0].n = riding[i];
    assert_int_equal(at_rider_tokens(rows.pointer, riders.pointer, 2), 70);
    assert_int_equal(at_pack_riders(slab, &n_slabs, rows.pointer, riders.pointer, 5, 2, 72), AT_OK);
    assert_int_equal(n_slabs, 2);
    assert_memory_equal(slab, want, sizeof want);
}

/* Samples of prompts of 20, 20 and 4 tokens: those of one prompt come together, and as many of them
 * as fit stay in one slab. The prompt of the first stands in two: 20 + 15 + 15 tokens, 20 + 15 + 5.
 */
static void pack_of_siblings_shares_prompts(void **state)
{
    static const int32_t prompts[3][20] = { { 1 }, { 2 }, { 3 } };
    static const uint32_t prompt[] = { 0, 1, 0, 2, 0, 1, 0 }, side[] = { 15, 2, 15, 50, 15, 2, 5 };
    static const uint32_t want[] = { 1, 2, 1, 0, 2, 2, 2 }, want_order[] = { 0, 2, 4, 6, 1, 5, 3 };
    struct rows rows;
    uint32_t slab[7], order[7], n_slabs = 99;

    (void)state;
    make_rows(&rows, side, 7);
    for (uint32_t i = 0; i < 7; i++) {
        rows.row[i].kind = AT_ROWS_SAMPLE;
        rows.row[i].prefix = prompts[prompt[i]];
        rows.row[i].n_prefix = prompt[i] < 2 ? 20 : 4;
        rows.row[i].segment[0].n = side[i];
    }
    assert_int_equal(at_pack_siblings(slab, order, &n_slabs, rows.pointer, 7, 64), AT_OK);
    assert_memory_equal(order, want_order, sizeof order);
    assert_int_equal(n_slabs, 3);
    assert_memory_equal(slab, want, sizeof want);
}

/* A slab of 64 tokens has 64 segments at most, also of samples without a token of their own. */
static void pack_of_empty_siblings_counts_them(void **state)
{
    static const int32_t prompt[4] = { 1, 2, 3, 4 };
    struct rows rows;
    uint32_t slab[70], order[70], n_slabs = 99;
    uint32_t none[70] = { 0 };

    (void)state;
    make_rows(&rows, none, 70);
    for (uint32_t i = 0; i < 70; i++) {
        rows.row[i].kind = AT_ROWS_SAMPLE;
        rows.row[i].prefix = prompt;
        rows.row[i].n_prefix = 4;
    }
    assert_int_equal(at_pack_siblings(slab, order, &n_slabs, rows.pointer, 70, 64), AT_OK);
    assert_int_equal(n_slabs, 2);
    assert_int_equal(slab[60], 0);
    assert_int_equal(slab[61], 1);
}

static void pack_without_memory_fails(void **state)
{
    struct rows rows;
    uint32_t slab[1], order[1], n_slabs;

    (void)state;
    make_rows(&rows, (uint32_t[]){ 5 }, 1);
    for (uint64_t n = 1; n <= 4; n++) {
        at_alloc_fail_at(n);
        assert_int_equal(at_pack_siblings(slab, order, &n_slabs, rows.pointer, 1, 64), AT_MEMORY);
    }
    for (uint64_t n = 1; n <= 2; n++) {
        at_alloc_fail_at(n);
        assert_int_equal(at_pack(slab, &n_slabs, rows.pointer, 1, 64), AT_MEMORY);
        at_alloc_fail_at(n);
        assert_int_equal(at_pack_riders(slab, &n_slabs, rows.pointer, rows.pointer, 1, 1, 64),
                         AT_MEMORY);
    }
    at_alloc_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pack_of_known_rows_is_first_fit_decreasing),
        cmocka_unit_test(pack_of_random_rows_fills_no_slab_above_capacity),
        cmocka_unit_test(pack_of_riders_keeps_batches_whole),
        cmocka_unit_test(pack_of_siblings_shares_prompts),
        cmocka_unit_test(pack_of_empty_siblings_counts_them),
        cmocka_unit_test(pack_without_memory_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
