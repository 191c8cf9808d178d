/* links: train base */
/* What an epoch sees of files with weights. */
#include "epoch.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

enum { FILES = 4, ROWS = 21 };

/* Files of 3, 10, 1 and 7 rows. */
static const uint32_t n_rows[FILES] = { 3, 10, 1, 7 };
static const double weights[FILES] = { 2, 0.3, 0.2, 1.5 };
static const uint32_t share[FILES] = { 0, 3, 1, 4 }; /* of each file's rows once more */

struct fixture {
    struct at_config config;
    struct at_row rows[ROWS];
    uint32_t begin[ROWS + 1];
    struct at_run run;
};

static void init(struct fixture *f, const double *w, const char *strategy)
{
    uint32_t n = 0;

    memset(f, 0, sizeof *f);
    f->config.train_dataset = (struct at_strings){ .n = FILES, .weights = w };
    f->config.train_sampling_strategy = strategy;
    f->config.seed = 5;
    for (uint32_t file = 0; file < FILES; file++)
        for (uint32_t k = 0; k < n_rows[file]; k++)
            f->rows[n++].file = file;
    for (uint32_t i = 0; i <= ROWS; i++)
        f->begin[i] = i;
    f->run.config = &f->config;
    f->run.data.train_packs =
        (struct at_packs){ .rows = f->rows, .n_rows = n, .begin = f->begin, .n = n, .most = 1 };
    assert_int_equal(at_epoch_count(&f->run.epoch_packs, &f->run), AT_OK);
}

/* How often each row is seen in n epochs. */
static void count(uint32_t seen[ROWS], struct fixture *f, uint64_t n)
{
    uint32_t order[3 * ROWS];

    memset(seen, 0, ROWS * sizeof *seen);
    assert_true(f->run.epoch_packs <= AT_COUNT(order));
    for (uint64_t epoch = 0; epoch < n; epoch++) {
        assert_int_equal(at_epoch_order(order, &f->run, epoch), AT_OK);
        for (uint32_t i = 0; i < f->run.epoch_packs; i++)
            seen[order[i]]++;
    }
}

static void rows_are_seen_as_often_as_their_weight(void **state)
{
    struct fixture f;
    uint32_t seen[ROWS];

    (void)state;
    init(&f, weights, "random");
    assert_int_equal(f.run.epoch_packs, 2 * 3 + 3 + 1 + 7 + 4);
    count(seen, &f, 1);
    for (uint32_t file = 0, i = 0; file < FILES; file++) {
        uint32_t n = 0;
        for (uint32_t k = 0; k < n_rows[file]; k++)
            n += seen[i++] - (uint32_t)weights[file];
        assert_int_equal(n, share[file]);
    }
    /* In as many epochs as a file has rows each of them had its turn equally often. */
    count(seen, &f, 10);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(seen[3 + i], 3);
    count(seen, &f, 7);
    for (uint32_t i = 0; i < 7; i++)
        assert_int_equal(seen[14 + i], 7 + 4);
    assert_int_equal(seen[0], 2 * 7);
    assert_int_equal(seen[13], 7); /* a row of weight 0.2: one at least */
}

static void epoch_is_a_function_of_seed_and_number(void **state)
{
    struct fixture f;
    uint32_t a[3 * ROWS] = { 0 }, b[3 * ROWS] = { 0 };

    (void)state;
    init(&f, weights, "random");
    assert_int_equal(at_epoch_order(a, &f.run, 3), AT_OK);
    assert_int_equal(at_epoch_order(b, &f.run, 3), AT_OK);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(at_epoch_order(b, &f.run, 4), AT_OK);
    assert_memory_not_equal(a, b, sizeof a);
    f.config.seed = 6;
    assert_int_equal(at_epoch_order(b, &f.run, 3), AT_OK);
    assert_memory_not_equal(a, b, sizeof a);
}

static void passes_of_whole_weights_follow_each_other(void **state)
{
    static const double whole[FILES] = { 1, 1, 2, 3 };
    struct fixture f;
    uint32_t order[3 * ROWS];

    (void)state;
    init(&f, whole, "sequential");
    assert_int_equal(f.run.epoch_packs, ROWS + 1 + 2 * 7);
    assert_int_equal(at_epoch_order(order, &f.run, 8), AT_OK);
    for (uint32_t i = 0; i < ROWS; i++)
        assert_int_equal(order[i], i);
    for (uint32_t i = 0; i < 8; i++) /* the third file's row, the fourth's seven */
        assert_int_equal(order[ROWS + i], 13 + i);
    for (uint32_t i = 0; i < 7; i++)
        assert_int_equal(order[ROWS + 8 + i], 14 + i);
}

static void packed_rows_have_no_weights(void **state)
{
    struct fixture f;

    (void)state;
    init(&f, NULL, "random");
    assert_int_equal(f.run.epoch_packs, ROWS);
    f.config.train_dataset.weights = weights;
    f.run.data.train_packs.how = AT_PACKING_BFD;
    assert_int_equal(at_epoch_count(&f.run.epoch_packs, &f.run), AT_USAGE);
    assert_non_null(strstr(at_message(), "weights do not go with packing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_seen_as_often_as_their_weight),
        cmocka_unit_test(epoch_is_a_function_of_seed_and_number),
        cmocka_unit_test(passes_of_whole_weights_follow_each_other),
        cmocka_unit_test(packed_rows_have_no_weights),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
