/* links: train base */
/* What goes through all rows of a data set leaves behind what it has passed: of many rows that lie
 * in files, few are in memory. */
#include "epoch.h"
#include "kl.h"
#include "shared_reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

enum { ROWS = 1 << 18, FILES = 2 };

/* MiB of files in this process's memory, on a disk or not. */
static double mapped_mib(void)
{
    char line[128];
    double kib = 0;
    FILE *status = fopen("/proc/self/status", "r");

    assert_non_null(status);
    while (fgets(line, sizeof line, status))
        if (strncmp(line, "RssFile:", 8) == 0 || strncmp(line, "RssShmem:", 9) == 0)
            kib += strtod(strchr(line, ':') + 1, NULL);
    (void)fclose(status);
    return kib / 1024;
}

struct fixture {
    struct at_config config;
    struct at_run run;
    struct at_loop loop;
    double before;
};

static void open_fixture(struct fixture *f)
{
    static const double weights[FILES] = { 2, 0.5 };
    struct at_dataset *d = &f->run.data.train;

    memset(f, 0, sizeof *f);
    f->config.train_dataset = (struct at_strings){ .n = FILES, .weights = weights };
    f->config.train_sampling_strategy = "sequential";
    f->run.config = &f->config;
    f->run.arena.spills = true;
    d->arena.spills = true;
    assert_int_equal(at_arena_alloc(&d->arena, &d->rows, ROWS, sizeof *d->rows), AT_OK);
    d->n_rows = ROWS;
    for (uint32_t i = 0; i < ROWS; i++) {
        d->rows[i].file = i % FILES;
        d->rows[i].n_segments = 1;
        at_dataset_passed(d, i);
    }
    f->run.data.train_packs =
        (struct at_packs){ .rows = d->rows, .n_rows = ROWS, .n = ROWS, .most = 1 };
    f->loop = (struct at_loop){ .run = &f->run, .config = &f->config, .rows.spills = true };
    f->loop.what.reference = true;
    at_loop_drop(&f->loop);
    f->before = mapped_mib();
}

/* Of `all` bytes a third at most is in memory. */
static void close_fixture(struct fixture *f, size_t all)
{
    const double found = mapped_mib() - f->before, most = (double)all / 3 / (1 << 20);

    if (found > most)
        fail_msg("%.0f MiB of files are in memory, at most %.0f should be", found, most);
    at_arena_release(&f->run.arena);
    at_arena_release(&f->loop.rows);
    at_dataset_release(&f->run.data.train);
}

static void a_weighted_epoch_leaves_rows_behind(void **state)
{
    struct fixture f;
    uint32_t *order = NULL;

    (void)state;
    open_fixture(&f);
    assert_int_equal(at_epoch_count(&f.run.epoch_packs, &f.run), AT_OK);
    assert_int_equal(f.run.epoch_packs, ROWS + ROWS / 4);
    assert_int_equal(at_alloc(&order, f.run.epoch_packs, sizeof *order), AT_OK);
    assert_int_equal(at_epoch_order(order, &f.run, 0), AT_OK);
    close_fixture(&f, ROWS * sizeof(struct at_row));
    at_free(&order);
}

static void mismatched_rows_are_left_behind(void **state)
{
    struct fixture f;
    struct at_row *rows = NULL;
    struct at_kl kl;

    (void)state;
    open_fixture(&f);
    assert_int_equal(at_kl_rows(&f.run.arena, &rows, &f.run.data.train, 4, 0, NULL), AT_OK);
    assert_int_equal(at_kl_init(&kl, rows, &f.run.arena, rows, ROWS, 4), AT_OK);
    close_fixture(&f, ROWS * (2 * sizeof(struct at_row) + sizeof(struct at_row_result)));
    at_kl_release(&kl);
}

static void a_shared_reference_is_left_behind(void **state)
{
    struct fixture f;
    struct at_shared_reference shared = { .n = { 0 } };
    struct at_loop *l = &f.loop;

    (void)state;
    open_fixture(&f);
    assert_int_equal(at_arena_alloc(&l->rows, &l->results, ROWS, sizeof *l->results), AT_OK);
    for (uint32_t i = 0; i < ROWS; i++) {
        l->results[i].has_reference = i % 2 == 0;
        l->results[i].reference[0].logp = (float)i;
        at_loop_passed(l, i);
    }
    assert_int_equal(at_shared_reference_keep(&shared, l), AT_OK);
    for (uint32_t i = 0; i < ROWS; i++) {
        l->results[i] = (struct at_row_result){ .n_segments = 1 };
        at_loop_passed(l, i);
    }
    at_shared_reference_take(&shared, l);
    for (uint32_t i = 0; i < ROWS; i++) {
        assert_int_equal(l->results[i].has_reference, i % 2 == 0);
        assert_true(i % 2 || l->results[i].reference[0].logp == (float)i);
        at_loop_passed(l, i);
    }
    close_fixture(&f, ROWS * (sizeof(struct at_row_result) + sizeof(struct at_kept_reference)));
    at_shared_reference_release(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_weighted_epoch_leaves_rows_behind),
        cmocka_unit_test(mismatched_rows_are_left_behind),
        cmocka_unit_test(a_shared_reference_is_left_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
