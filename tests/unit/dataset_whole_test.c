/* links: base text data */
#include "data_test.h"

/* What is said of a data set as a whole: counts, digest, order, labels; and reading it without
 * memory. */

static void dataset_counts_moved_and_unshared_prompts(void **state)
{
    struct at_dataset_params p = strict(AT_ROWS_PAIR);
    struct at_dataset d;

    (void)state;
    OK(load_text(&d,
                 PAIR("q") "{\"prompt\":\"tea \",\"chosen\":\"yes\",\"rejected\":\"tea\"}\n"
                           "{\"chosen\":\"yes\",\"rejected\":\"tea\"}\n",
                 &p));
    assert_int_equal(d.n_rows, 3);
    assert_int_equal(d.n_boundary_moved, 1);
    assert_int_equal(d.n_unshared, 1);
    at_dataset_release(&d);
    p.kind = AT_ROWS_SFT;
    OK(load_text(&d, "{\"text\":\"the tea\"}", &p));
    assert_int_equal(d.n_unshared, 0);
    at_dataset_release(&d);
}

/* As dataset.h has it, with long_each or without. */
static bool differ(uint32_t a, uint32_t b, uint32_t from, bool each)
{
    return (a > from) != (b > from) || (each && a > from && b > from && a != b);
}

/* Sides on both sides of long_from have other rotary angles, with long_each all that are longer and
 * of unequal length: such a pair shares no prompt and is counted, whatever the border; others are
 * as they were. */
static void dataset_takes_pairs_of_other_angles_apart(void **state)
{
    static const char text[] = PAIR("a") "{\"prompt\":\"tea\",\"chosen\":\" yes yes yes yes\","
                                         "\"rejected\":\" no\"}\n" PAIR("a b c d e f");
    struct at_dataset_params p = strict(AT_ROWS_PAIR);
    struct at_dataset whole, d;
    uint32_t most = 0, n_apart = 0;

    (void)state;
    OK(load_text(&whole, text, &p));
    assert_int_equal(whole.n_rows, 3);
    assert_int_equal(whole.n_apart, 0);
    for (uint32_t i = 0; i < 2 * 39; i++) {
        uint32_t want = 0;
        p.long_from = 1 + i / 2;
        p.long_each = i % 2;
        OK(load_text(&d, text, &p));
        for (uint32_t row = 0; row < d.n_rows; row++) {
            const struct at_row *was = &whole.rows[row], *is = &d.rows[row];
            const uint32_t n = was->n_prefix;
            const bool apart =
                differ(n + was->segment[0].n, n + was->segment[1].n, p.long_from, p.long_each);
            want += apart;
            assert_true(n > 0);
            assert_int_equal(is->n_prefix, apart ? 0 : n);
            for (uint32_t k = 0; k < 2; k++) {
                const struct at_segment *a = &was->segment[k], *b = &is->segment[k];
                const uint32_t before = apart ? n : 0;
                assert_int_equal(b->n, before + a->n);
                assert_int_equal(b->n_targets, a->n_targets);
                assert_memory_equal(b->ids, was->prefix, before * sizeof *b->ids);
                assert_memory_equal(b->ids + before, a->ids, a->n * sizeof *a->ids);
                assert_memory_equal(b->targets + before, a->targets, a->n);
                for (uint32_t t = 0; t < before; t++)
                    assert_int_equal(b->targets[t], 0);
            }
        }
        assert_int_equal(d.n_apart, want);
        most = want > most ? want : most;
        n_apart += want;
        at_dataset_release(&d);
    }
    assert_true(most > 0 && n_apart < 2 * 39 * whole.n_rows);
    p.long_each = false;
    p.long_from = whole.rows[1].n_prefix + whole.rows[1].segment[1].n;
    p.prompt_targets = true;
    assert_int_equal(load_text(&d, text, &p), AT_DATA);
    assert_non_null(strstr(at_message(), "line 2: sides of more than"));
    at_dataset_release(&whole);
}

static void dataset_digest_sees_every_change(void **state)
{
    static const char *const texts[] = {
        PAIR("a") PAIR("b"),
        PAIR("b") PAIR("a"),
        PAIR("a") "\n" PAIR("b"),
        PAIR("a") PAIR("b") PAIR("b"),
        PAIR("a") "{\"prompt\":\"b\",\"chosen\":\" no\",\"rejected\":\" yes\"}\n",
    };
    struct at_dataset_params p = strict(AT_ROWS_PAIR);
    char digests[AT_COUNT(texts) + 4][65];
    struct at_dataset d;
    size_t n = 0;

    (void)state;
    for (; n < AT_COUNT(texts); n++) {
        OK(load_text(&d, texts[n], &p));
        memcpy(digests[n], d.digest, sizeof digests[n]);
        at_dataset_release(&d);
    }
    p.kind = AT_ROWS_SFT;
    for (int only = 0; only < 2; only++, n++) {
        p.completion_only = only;
        OK(load_text(&d, texts[0], &p));
        memcpy(digests[n], d.digest, sizeof digests[n]);
        at_dataset_release(&d);
    }
    for (int only = 0; only < 2; only++, n++) {
        p.assistant_only = only;
        OK(load_text(&d, "{\"messages\":[" USER("a") "," SAID("b") "]}", &p));
        memcpy(digests[n], d.digest, sizeof digests[n]);
        at_dataset_release(&d);
    }
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(strlen(digests[i]), 64);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(digests[i], digests[k]);
    }
}

static void dataset_of_many_lines_keeps_their_order(void **state)
{
    enum { ROWS = 9001 };
    const struct at_dataset_params p = strict(AT_ROWS_SFT);
    const char *const paths[] = { path, path };
    struct at_dataset d;
    struct at_buf text = { 0 }, back = { 0 };
    char want[32];

    (void)state;
    for (int i = 0; i < ROWS; i++)
        at_buf_printf(&text, "{\"text\":\"tea %d\"}\n", i);
    OK(at_file_write_atomic(path, text.data, text.n));
    OK(at_dataset_load(&d, paths, 2, &p));
    assert_int_equal(d.n_rows, 2 * ROWS);
    for (uint32_t i = 0; i < d.n_rows; i++) {
        const struct at_segment *s = &d.rows[i].segment[0];
        assert_int_equal(d.rows[i].line, i % ROWS + 1);
        assert_int_equal(d.rows[i].index, i);
        at_buf_clear(&back);
        OK(at_tokenizer_decode(tokenizer, &back, s->ids, s->n, true));
        snprintf(want, sizeof want, "tea %u", i % ROWS);
        assert_string_equal(back.data, want);
    }
    at_dataset_release(&d);
    at_buf_release(&text);
    at_buf_release(&back);
}

/* Pairs taken apart: a thousand desirable rows, then their counterparts; each line is saved once.
 */
static void dataset_of_pairs_taken_apart_comes_in_blocks(void **state)
{
    enum { PAIRS = 1003 };
    struct at_dataset_params p = strict(AT_ROWS_LABELLED);
    const char *const paths[] = { path };
    char copy[64];
    struct at_dataset d;
    struct at_buf text = { 0 }, back = { 0 }, saved = { 0 };

    (void)state;
    for (int i = 0; i < PAIRS; i++)
        at_buf_printf(&text, "{\"prompt\":\"q %d\",\"chosen\":\" a %d\",\"rejected\":\" b %d\"}\n",
                      i, i, i);
    OK(load_text(&d, text.data, &p));
    assert_int_equal(d.n_rows, 2 * PAIRS);
    assert_int_equal(d.n_read, 2 * PAIRS);
    for (uint32_t i = 0; i < d.n_rows; i++) {
        const bool second = i < 2000 ? i >= 1000 : i >= 2003;
        const uint32_t line = i < 2000 ? i % 1000 : 1000 + (i - 2000) % 3;
        const struct at_row *row = &d.rows[i];
        char want[32];
        assert_int_equal(row->index, i);
        assert_int_equal(row->line, line + 1);
        assert_int_equal(row->desirable, !second);
        assert_int_equal(row->n_segments, 1);
        at_buf_clear(&back);
        OK(at_tokenizer_decode(tokenizer, &back, row->segment[0].ids, row->segment[0].n, true));
        snprintf(want, sizeof want, "%s %u", second ? " b" : " a", line);
        if (!strstr(want, back.data) && !strstr(back.data, want + 1))
            fail_msg("row %u is \"%s\", not \"%s\"", i, back.data, want);
    }
    snprintf(copy, sizeof copy, "%s.saved", path);
    OK(at_dataset_save(&d, paths, copy));
    OK(at_file_read(&saved, copy));
    assert_string_equal(saved.data, text.data);
    assert_int_equal(unlink(copy), 0);
    at_dataset_release(&d);
    at_buf_release(&text);
    at_buf_release(&back);
    at_buf_release(&saved);
}

/* A label is part of what is trained on; 1 and 0 are true and false. */
static void dataset_of_labels_reads_them(void **state)
{
    static const char *const texts[] = {
        "{\"prompt\":\"q\",\"completion\":\" a\",\"label\":true}",
        "{\"prompt\":\"q\",\"completion\":\" a\",\"label\":1}",
        "{\"prompt\":\"q\",\"completion\":\" a\",\"label\":false}",
        "{\"prompt\":\"q\",\"completion\":\" a\",\"label\":0}",
    };
    const struct at_dataset_params p = strict(AT_ROWS_LABELLED);
    char digests[AT_COUNT(texts)][65];
    struct at_dataset d;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(texts); i++) {
        OK(load_text(&d, texts[i], &p));
        assert_int_equal(d.n_rows, 1);
        assert_int_equal(d.rows[0].desirable, i < 2);
        memcpy(digests[i], d.digest, sizeof digests[i]);
        at_dataset_release(&d);
    }
    assert_string_equal(digests[0], digests[1]);
    assert_string_equal(digests[2], digests[3]);
    assert_string_not_equal(digests[0], digests[2]);
}

/* In a joined text the first token of a row is predicted by what stands before it: where it is
 * trained on, which a prompt is not and a conversation of which only the replies count. */
static void dataset_says_whether_first_tokens_count(void **state)
{
    static const struct {
        const char *text;
        bool completion_only, assistant_only, want;
    } cases[] = {
        { "{\"text\":\"the tea\"}", true, false, true },
        { "{\"prompt\":\"q\",\"completion\":\" a\"}", true, false, false },
        { "{\"prompt\":\"q\",\"completion\":\" a\"}", false, false, true },
        { "{\"messages\":[" USER("a") "," SAID("b") "]}", true, false, true },
        { "{\"messages\":[" USER("a") "," SAID("b") "]}", true, true, false },
    };
    struct at_dataset d;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        struct at_dataset_params p = strict(AT_ROWS_SFT);
        p.completion_only = cases[i].completion_only;
        p.assistant_only = cases[i].assistant_only;
        OK(load_text(&d, cases[i].text, &p));
        assert_int_equal(d.rows[0].first_counts, cases[i].want);
        assert_true(d.rows[0].n_prefix > 0 || d.rows[0].segment[0].targets[0] == 0);
        at_dataset_release(&d);
    }
}

/* Loads `text` with every allocation failing in turn. Some failures do no harm (PCRE2 falls back on
 * the system's allocator), so the end is reached when many calls in a row succeed. */
static void check_failing(const char *text, const struct at_dataset_params *p)
{
    const char *const paths[] = { path };
    struct at_dataset d;
    char digest[65];
    uint64_t n = 0, failures = 0;

    OK(load_text(&d, text, p));
    memcpy(digest, d.digest, sizeof digest);
    at_dataset_release(&d);
    for (int good = 0; good < 30;) {
        at_alloc_fail_at(++n);
        const enum at_status st = at_dataset_load(&d, paths, 1, p);
        at_alloc_fail_at(0);
        if (st == AT_OK) {
            good++;
            assert_string_equal(d.digest, digest);
            at_dataset_release(&d);
            continue;
        }
        good = 0;
        failures++;
        assert_int_equal(st, AT_MEMORY);
        assert_non_null(strstr(at_message(), "memory"));
        assert_null(d.arena.last);
    }
    assert_true(failures > 80);
}

static void dataset_without_memory_fails_cleanly(void **state)
{
    static const char pairs[] =
        "{\"chosen\":[" USER("hi") "," SAID("yes") "],\"rejected\":[" USER("hi") "," SAID(
            "no") "]}\n" PAIR("q") "{\"prompt\":\"a\",\"chosen\":\"\",\"rejected\":\"b\"}"
                                   "\n" PAIR("a long prompt that is longer than all others");
    static const char chats[] = "{\"messages\":[" USER("a") "," SAID("b") "," USER("c") "," SAID(
        "d") "]}\n{\"prompt\":[" USER("a") "],\"completion\":[" SAID("b") "]}\n"
                                                                          "{\"text\":\"tea\"}\n";
    struct at_dataset_params p = strict(AT_ROWS_PAIR);

    (void)state;
    p.system_prompt = "be kind";
    p.max_length = 24;
    p.on_long = AT_LONG_CUT;
    p.on_bad = AT_BAD_SKIP;
    check_failing(pairs, &p);
    p = strict(AT_ROWS_SFT);
    p.assistant_only = true;
    check_failing(chats, &p);
}

enum { MANY = 16000 };

/* Rows, split and digests of a data set, of which a side has the last row. */
static void load_many(char digests[3][65], const char *text)
{
    const struct at_dataset_params p = strict(AT_ROWS_PAIR);
    struct at_dataset d, train, held;

    OK(load_text(&d, text, &p));
    OK(at_dataset_split(&train, &held, &d, 0.25, 1));
    assert_int_equal(train.n_rows + held.n_rows, MANY);
    at_dataset_drop(&train);
    for (uint32_t i = 0; i < train.n_rows; i++)
        assert_int_equal(train.rows[i].line, train.from[i] + 1);
    memcpy(digests[0], d.digest, sizeof d.digest);
    memcpy(digests[1], train.digest, sizeof d.digest);
    memcpy(digests[2], held.digest, sizeof d.digest);
    at_dataset_release(&train);
    at_dataset_release(&held);
    at_dataset_release(&d);
}

/* More than an arena keeps in memory: the same rows in a file and without one. */
static void dataset_that_spills_has_the_same_rows(void **state)
{
    char in_file[3][65], in_memory[3][65];
    char *cache = at_env("XDG_CACHE_HOME") ? strdup(at_env("XDG_CACHE_HOME")) : NULL;
    struct at_buf text = { 0 };

    (void)state;
    for (int i = 0; i < MANY; i++)
        at_buf_printf(&text,
                      PAIR("question %d of a kind that is so long that these rows together fill "
                           "more room than an arena keeps in memory before it takes a file"),
                      i);
    OK(at_buf_status(&text));
    load_many(in_file, text.data);
    assert_string_equal(warnings, "");
    at_env_set("XDG_CACHE_HOME", "/proc/version");
    load_many(in_memory, text.data);
    assert_non_null(strstr(warnings, "spill: /proc/version"));
    assert_memory_equal(in_file, in_memory, sizeof in_file);
    at_env_set("XDG_CACHE_HOME", cache);
    free(cache);
    at_buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dataset_counts_moved_and_unshared_prompts),
        cmocka_unit_test(dataset_takes_pairs_of_other_angles_apart),
        cmocka_unit_test(dataset_digest_sees_every_change),
        cmocka_unit_test(dataset_of_many_lines_keeps_their_order),
        cmocka_unit_test(dataset_of_pairs_taken_apart_comes_in_blocks),
        cmocka_unit_test(dataset_of_labels_reads_them),
        cmocka_unit_test(dataset_says_whether_first_tokens_count),
        cmocka_unit_test(dataset_that_spills_has_the_same_rows),
        cmocka_unit_test(dataset_without_memory_fails_cleanly),
    };

    return cmocka_run_group_tests(tests, open_model, close_model);
}
