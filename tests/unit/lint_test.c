/* links: base text data */
#include "lint_parts.h"
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

/* ---- texts ---- */

static void check_words(const char *text, const char *expected)
{
    char found[256] = "";
    const char *word = NULL;
    size_t at = 0, n = 0;

    while (at_word_next(text, strlen(text), &at, &word, &n)) {
        strncat(found, word, n);
        strcat(found, "|");
    }
    assert_string_equal(found, expected);
}

static void word_of_many_scripts_is_cut_at_gaps(void **state)
{
    (void)state;
    check_words("It's \xE2\x80\x9Cwell\xE2\x80\x9D, caf\xC3\xA9-bar!",
                "It's|well|caf\xC3\xA9|bar|");
    check_words("\xE4\xBD\xA0\xE5\xA5\xBD\xE3\x80\x82 a1\xE4\xBD\xA0",
                "\xE4\xBD\xA0|\xE5\xA5\xBD|a1|\xE4\xBD\xA0|");
    check_words(" \t\n", "");
    assert_true(at_word_hash("Tea", 3) == at_word_hash("tEA", 3));
    assert_false(at_word_hash("tea", 3) == at_word_hash("eat", 3));
}

static void personal_numbers_with_check_digits_are_found(void **state)
{
    static const char *const personal[] = {
        "a.b+c@mail.co",     "to Jo@x-y.org.",   "+49 (0)30 901820",  "0171 2345678",
        "020-7946-0958",     "5555555555554444", "3782-822463-10005", "GB82 WEST 1234 5698 7654 32",
        "(+1) 212 555 0187", "415-301-8812",
    };
    static const char *const fine[] = {
        "me@example.com",
        "x@y",
        "a@b.c1",
        "@name",
        "on 2024-01-02 10:30",
        "5555555555554445",
        "order 00012345678",
        "1,234,567.89",
        "GB83 WEST 1234 5698 7654 32",
        "4444444444444444",
        "0.123456789",
        "12 34",
        "version 10.20.30.40",
    };
    (void)state;

    for (size_t i = 0; i < AT_COUNT(personal); i++)
        if (!at_lint_find_personal(personal[i]))
            fail_msg("nothing personal in \"%s\"", personal[i]);
    for (size_t i = 0; i < AT_COUNT(fine); i++)
        if (at_lint_find_personal(fine[i]))
            fail_msg("%s in \"%s\"", at_lint_find_personal(fine[i]), fine[i]);
}

static void text_with_marks_and_refusals_is_told_from_plain(void **state)
{
    const char *family = NULL;
    (void)state;

    assert_string_equal(at_lint_find_mark("x [INST] y", &family), "[INST]");
    assert_string_equal(family, "Llama 2");
    assert_null(at_lint_find_mark("a < b | c > d, [x]", &family));
    assert_non_null(at_lint_find_mojibake("It\xC3\xA2\xE2\x82\xAC\xE2\x84\xA2s"));
    assert_non_null(at_lint_find_mojibake("caf\xC3\x83\xC2\xA9"));
    assert_non_null(at_lint_find_mojibake("a\xEF\xBF\xBD"));
    assert_null(
        at_lint_find_mojibake("caf\xC3\xA9 \xE2\x82\xAC 5, \xC3\x82ge, p\xC3\xA2t\xC3\xA9"));
    assert_non_null(at_lint_find_refusal("As an AI, I have no views."));
    assert_non_null(at_lint_find_refusal("I\xE2\x80\x99m sorry, but I can\xE2\x80\x99t do that."));
    assert_null(at_lint_find_refusal("Sorry about the wait! It left today."));
    assert_null(at_lint_find_refusal("Take it as an aid."));
}

static void language_of_short_or_mixed_text_is_not_guessed(void **state)
{
    struct at_lint_words words;
    (void)state;

    at_lint_words_init(&words);
    assert_string_equal(at_lint_language(&words, "You should do it when the rain is over."),
                        "English");
    assert_string_equal(
        at_lint_language(&words, "Sie k\xC3\xB6nnen das auch mit dem Zug machen, wenn es eilt."),
        "German");
    assert_string_equal(
        at_lint_language(
            &words, "\xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xD0\xBC\xD0\xB8\xD1\x80"),
        "Cyrillic");
    assert_null(at_lint_language(&words, "OK, tomorrow."));
    assert_null(at_lint_language(&words, "the der and und you nicht that ist"));
}

static void similarity_of_reordered_words_is_less_than_the_bound(void **state)
{
    double s = 0;
    (void)state;

    assert_int_equal(at_lint_similarity(&s, "one two three four", "One two three five", 0), AT_OK);
    assert_true(fabs(s - 0.75) < 1e-12);
    assert_int_equal(at_lint_similarity(&s, "a b c d", "d c b a", 0), AT_OK);
    assert_true(fabs(s - 0.25) < 1e-12); /* in order: one of four */
    assert_int_equal(at_lint_similarity(&s, "a b c d", "e f g a", 0.9), AT_OK);
    assert_true(fabs(s - 0.25) < 1e-12); /* the bound */
    assert_int_equal(at_lint_similarity(&s, "", "", 0), AT_OK);
    assert_true(s == 0);
}

/* ---- rows that are alike ---- */

/* A text of n words, those from `from` on of another vocabulary. */
static char *text_of(char *out, uint32_t n, uint32_t from, uint32_t seed)
{
    size_t at = 0;

    for (uint32_t i = 0; i < n; i++)
        at += (size_t)sprintf(out + at, "%s%u ", i < from ? "w" : "v",
                              (i + (i < from ? 0 : seed)) * 7919 % 4099);
    return out;
}

static void sketch_of_long_texts_estimates_the_index(void **state)
{
    static char a[20000], b[20000];
    const char *texts[1];
    struct at_arena arena = { 0 };
    struct at_sketch left, right;
    (void)state;

    for (uint32_t common = 0; common <= 1000; common += 250) {
        /* 998 shingles each, those of the first `common` words in common */
        const double inside = common > 2 ? common - 2 : 0;
        const double index = inside / (2 * 998 - inside);
        texts[0] = text_of(a, 1000, 1000, 0);
        assert_int_equal(at_sketch_make(&left, &arena, texts, 1), AT_OK);
        texts[0] = text_of(b, 1000, common, 13);
        assert_int_equal(at_sketch_make(&right, &arena, texts, 1), AT_OK);
        assert_int_equal(left.n, AT_SKETCH);
        /* Three standard deviations of a share of AT_SKETCH. */
        if (fabs(at_sketch_jaccard(&left, &right) - index) > 3 * sqrt(0.25 / AT_SKETCH))
            fail_msg("index %g, estimated %g", index, at_sketch_jaccard(&left, &right));
    }
    texts[0] = "only two";
    assert_int_equal(at_sketch_make(&left, &arena, texts, 1), AT_OK);
    texts[0] = "Only, two";
    assert_int_equal(at_sketch_make(&right, &arena, texts, 1), AT_OK);
    assert_true(at_sketch_jaccard(&left, &right) == 1);
    texts[0] = "";
    assert_int_equal(at_sketch_make(&right, &arena, texts, 1), AT_OK);
    assert_true(at_sketch_jaccard(&right, &right) == 0);
    at_arena_release(&arena);
}

static bool always(const void *context, uint32_t a, uint32_t b)
{
    (void)context;
    (void)a;
    (void)b;
    return true;
}

/* Of 400 rows every fourth is like one before it: all are found, and no other. */
static void match_among_many_rows_finds_each_copy(void **state)
{
    enum { ROWS = 400 };
    static char text[4000];
    static struct at_sketch sketches[ROWS];
    const struct at_sketch *list[ROWS];
    uint32_t match[ROWS];
    struct at_arena arena = { 0 };
    (void)state;

    for (uint32_t i = 0; i < ROWS; i++) {
        const char *texts[1] = { text };
        const bool copy = i % 4 == 3;
        size_t at = 0;
        for (uint32_t k = 0; k < 60; k++) /* 58 shingles; another last word changes one */
            at += (size_t)sprintf(text + at, "%u ", (copy && k < 59 ? i - 2 : i) * 61 + k);
        assert_int_equal(at_sketch_make(&sketches[i], &arena, texts, 1), AT_OK);
        list[i] = &sketches[i];
    }
    assert_int_equal(at_sketch_match(match, list, ROWS, 0.8, always, NULL), AT_OK);
    for (uint32_t i = 0; i < ROWS; i++)
        if (match[i] != (i % 4 == 3 ? i - 2 : UINT32_MAX))
            fail_msg("row %u is like row %u", i, match[i]);
    at_arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(word_of_many_scripts_is_cut_at_gaps),
        cmocka_unit_test(personal_numbers_with_check_digits_are_found),
        cmocka_unit_test(text_with_marks_and_refusals_is_told_from_plain),
        cmocka_unit_test(language_of_short_or_mixed_text_is_not_guessed),
        cmocka_unit_test(similarity_of_reordered_words_is_less_than_the_bound),
        cmocka_unit_test(sketch_of_long_texts_estimates_the_index),
        cmocka_unit_test(match_among_many_rows_finds_each_copy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
