/* links: base */
#include "mem.h"
#include "os.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

static bool all_zero(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return false;
    return true;
}

static void mul_overflow_is_refused(void **state)
{
    (void)state;
    size_t out = 1;
    assert_true(at_mul_ok(&out, SIZE_MAX / 2, 2));
    assert_int_equal(out, SIZE_MAX - 1);
    assert_false(at_mul_ok(&out, SIZE_MAX / 2 + 2, 2));
    assert_int_equal(out, 0);
}

static void add_overflow_is_refused(void **state)
{
    (void)state;
    size_t out = 1;
    assert_true(at_add_ok(&out, SIZE_MAX, 0));
    assert_int_equal(out, SIZE_MAX);
    assert_false(at_add_ok(&out, SIZE_MAX, 2));
    assert_int_equal(out, 0);
}

static void round_up_and_div_up_meet_multiples(void **state)
{
    (void)state;
    assert_int_equal(at_round_up(0, 16), 0);
    assert_int_equal(at_round_up(16, 16), 16);
    assert_int_equal(at_round_up(17, 16), 32);
    assert_int_equal(at_div_up(0, 64), 0);
    assert_int_equal(at_div_up(64, 64), 1);
    assert_int_equal(at_div_up(65, 64), 2);
}

static void alloc_is_zeroed_and_overflow_fails(void **state)
{
    (void)state;
    uint32_t *items;
    assert_int_equal(at_alloc(&items, 5000, sizeof *items), AT_OK);
    assert_true(all_zero(items, 5000 * sizeof *items));
    at_free(&items);
    assert_null(items);
    at_free(&items);
    assert_int_equal(at_alloc(&items, SIZE_MAX / 2, sizeof *items), AT_MEMORY);
    assert_null(items);
    assert_int_equal(at_alloc(&items, 0, sizeof *items), AT_OK);
    assert_non_null(items);
    at_free(&items);
}

static void realloc_keeps_old_and_zeroes_new(void **state)
{
    (void)state;
    uint32_t *items = NULL;
    assert_int_equal(at_realloc(&items, 0, 4, sizeof *items), AT_OK);
    assert_true(all_zero(items, 4 * sizeof *items));
    for (uint32_t i = 0; i < 4; i++)
        items[i] = i + 1;
    assert_int_equal(at_realloc(&items, 4, 9000, sizeof *items), AT_OK);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(items[i], i + 1);
    assert_true(all_zero(items + 4, 8996 * sizeof *items));
    at_alloc_fail_at(1);
    assert_int_equal(at_realloc(&items, 9000, 90000, sizeof *items), AT_MEMORY);
    assert_int_equal(items[3], 4);
    at_free(&items);
}

static void alloc_fail_at_hits_only_call_n(void **state)
{
    (void)state;
    char *p;
    at_alloc_fail_at(3);
    for (int call = 1; call <= 6; call++) {
        assert_int_equal(at_alloc(&p, 1, 1), call == 3 ? AT_MEMORY : AT_OK);
        at_free(&p);
    }
    at_alloc_fail_at(1);
    at_alloc_fail_at(0);
    assert_int_equal(at_alloc(&p, 1, 1), AT_OK);
    at_free(&p);
}

static void arena_pieces_are_aligned_zeroed_and_apart(void **state)
{
    (void)state;
    struct at_arena arena = { 0 };
    unsigned char *pieces[3000];
    for (size_t i = 0; i < AT_COUNT(pieces); i++) {
        size_t n = i % 500 == 0 ? 40000 : i % 97; /* some get a block of their own */
        assert_int_equal(at_arena_alloc(&arena, &pieces[i], n, 1), AT_OK);
        assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
        assert_true(all_zero(pieces[i], n));
        memset(pieces[i], (int)(i % 255) + 1, n);
    }
    for (size_t i = 0; i < AT_COUNT(pieces); i++) {
        size_t n = i % 500 == 0 ? 40000 : i % 97;
        for (size_t k = 0; k < n; k++)
            assert_int_equal(pieces[i][k], (int)(i % 255) + 1);
    }
    void *p;
    assert_int_equal(at_arena_alloc(&arena, &p, SIZE_MAX / 4, 8), AT_MEMORY);
    assert_int_equal(at_arena_alloc(&arena, &p, SIZE_MAX - 3, 1), AT_MEMORY);
    assert_null(p);
    at_arena_release(&arena);
    assert_null(arena.last);
}

static void arena_texts_are_copied_and_terminated(void **state)
{
    (void)state;
    struct at_arena arena = { 0 };
    char *text;
    assert_int_equal(at_arena_strdup(&arena, &text, "attune"), AT_OK);
    assert_string_equal(text, "attune");
    assert_int_equal(at_arena_strndup(&arena, &text, "attune", 2), AT_OK);
    assert_string_equal(text, "at");
    assert_int_equal(at_arena_printf(&arena, &text, "%s-%05d", "step", 12), AT_OK);
    assert_string_equal(text, "step-00012");
    at_alloc_fail_at(1);
    assert_int_equal(at_arena_printf(&arena, &text, "%70000d", 1), AT_MEMORY);
    at_arena_release(&arena);
}

/* MiB of this process's own memory: pages of no file. */
static double own_mib(void)
{
    char line[128];
    unsigned long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");

    assert_non_null(status);
    while (fgets(line, sizeof line, status))
        if (strncmp(line, "RssAnon:", 8) == 0)
            kib = strtoul(line + 8, NULL, 10);
    (void)fclose(status);
    return (double)kib / 1024;
}

enum { PIECES = 300, PIECE_WORDS = 64 * 1024 };

/* 75 MiB, each word another; what `arena` adds to the process's memory, in MiB. */
static double fill_and_check(struct at_arena *arena)
{
    const double before = own_mib();
    uint32_t *pieces[PIECES];
    double grown = 0;

    for (uint32_t i = 0; i < PIECES; i++) {
        assert_int_equal(at_arena_alloc(arena, &pieces[i], PIECE_WORDS, sizeof **pieces), AT_OK);
        assert_true(all_zero(pieces[i], PIECE_WORDS * sizeof **pieces));
        for (uint32_t k = 0; k < PIECE_WORDS; k++)
            pieces[i][k] = i * PIECE_WORDS + k;
        at_arena_drop(arena);
    }
    grown = own_mib() - before;
    for (uint32_t i = 0; i < PIECES; i++)
        for (uint32_t k = 0; k < PIECE_WORDS; k++)
            assert_int_equal(pieces[i][k], i * PIECE_WORDS + k);
    return grown;
}

static void spilling_arena_keeps_its_bytes_out_of_memory(void **state)
{
    struct at_arena arena = { .spills = true };

    (void)state;
    assert_true(fill_and_check(&arena) < 16);
    assert_int_equal(at_warn_count("spill"), 0);
    at_arena_release(&arena);
}

static void spilling_arena_without_a_folder_takes_memory_and_warns(void **state)
{
    struct at_arena arena = { .spills = true };
    char *cache = at_env("XDG_CACHE_HOME") ? strdup(at_env("XDG_CACHE_HOME")) : NULL;

    (void)state;
    at_env_set("XDG_CACHE_HOME", "/proc/version"); /* no folder, and none can be made */
    assert_true(fill_and_check(&arena) > 60);
    assert_int_equal(at_warn_count("spill"), 1);
    at_arena_release(&arena);
    at_env_set("XDG_CACHE_HOME", cache);
    free(cache);
}

static void buf_grows_and_stays_terminated(void **state)
{
    (void)state;
    struct at_buf buf = { 0 };
    at_buf_puts(&buf, "");
    assert_string_equal(buf.data, "");
    for (int i = 0; i < 1000; i++)
        at_buf_printf(&buf, "%03d,", i);
    at_buf_put(&buf, "a\0b", 3);
    assert_int_equal(buf.n, 4003);
    assert_memory_equal(buf.data + 3996, "999,a\0b", 8);
    assert_int_equal(at_buf_status(&buf), AT_OK);
    at_buf_clear(&buf);
    assert_int_equal(buf.n, 0);
    assert_string_equal(buf.data, "");
    at_buf_release(&buf);
    assert_null(buf.data);
}

static void buf_failed_growth_sticks(void **state)
{
    (void)state;
    struct at_buf buf = { 0 };
    at_buf_puts(&buf, "kept");
    at_alloc_fail_at(1);
    at_buf_printf(&buf, "%1000d", 1);
    at_buf_puts(&buf, "more");
    assert_string_equal(buf.data, "kept");
    assert_int_equal(at_buf_status(&buf), AT_MEMORY);
    assert_non_null(strstr(at_message(), "memory"));
    at_buf_release(&buf);
    assert_int_equal(at_buf_status(&buf), AT_OK);
}

static void ids_push_grows_and_failure_keeps_ids(void **state)
{
    (void)state;
    struct at_ids ids = { 0 };
    for (int32_t i = 0; i < 64; i++)
        assert_int_equal(at_ids_push(&ids, -i), AT_OK);
    at_alloc_fail_at(1);
    assert_int_equal(at_ids_push(&ids, 1), AT_MEMORY);
    assert_int_equal(ids.n, 64);
    assert_int_equal(at_ids_push(&ids, -64), AT_OK);
    for (int32_t i = 0; i < 65; i++)
        assert_int_equal(ids.data[i], -i);
    at_ids_release(&ids);
    assert_int_equal(ids.n, 0);
}

static void edit_distance_counts_the_fewest_changes(void **state)
{
    char word[65];

    (void)state;
    assert_int_equal(at_edit_distance("q_proj", "q_proj"), 0);
    assert_int_equal(at_edit_distance("", "abc"), 3);
    assert_int_equal(at_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(at_edit_distance("q_porj", "q_proj"), 2);
    memset(word, 'a', 64);
    word[64] = 0;
    assert_int_equal(at_edit_distance(word, word), 64);
    assert_int_equal(at_edit_distance(word, word + 1), 64);
    assert_int_equal(at_edit_distance(word + 1, word + 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mul_overflow_is_refused),
        cmocka_unit_test(add_overflow_is_refused),
        cmocka_unit_test(round_up_and_div_up_meet_multiples),
        cmocka_unit_test(alloc_is_zeroed_and_overflow_fails),
        cmocka_unit_test(realloc_keeps_old_and_zeroes_new),
        cmocka_unit_test(alloc_fail_at_hits_only_call_n),
        cmocka_unit_test(arena_pieces_are_aligned_zeroed_and_apart),
        cmocka_unit_test(arena_texts_are_copied_and_terminated),
        cmocka_unit_test(spilling_arena_keeps_its_bytes_out_of_memory),
        cmocka_unit_test(spilling_arena_without_a_folder_takes_memory_and_warns),
        cmocka_unit_test(buf_grows_and_stays_terminated),
        cmocka_unit_test(buf_failed_growth_sticks),
        cmocka_unit_test(ids_push_grows_and_failure_keeps_ids),
        cmocka_unit_test(edit_distance_counts_the_fewest_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
