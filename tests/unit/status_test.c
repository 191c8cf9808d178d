/* links: base */
#include "os.h"
#include "status.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void exit_code_all_match_interface(void **state)
{
    (void)state;
    assert_int_equal(at_exit_code(AT_OK), 0);
    assert_int_equal(at_exit_code(AT_USAGE), 2);
    assert_int_equal(at_exit_code(AT_DATA), 65);
    assert_int_equal(at_exit_code(AT_CANNOT_WRITE), 73);
    assert_int_equal(at_exit_code(AT_INTERRUPTED), 130);
    assert_int_equal(at_exit_code(AT_TERMINATED), 143);
    assert_string_equal(at_status_text(AT_INTEGRITY), "integrity");
}

static void fail_sets_message_and_returns_status(void **state)
{
    (void)state;
    assert_int_equal(at_fail(AT_DATA, "row %d", 7), AT_DATA);
    assert_string_equal(at_message(), "row 7");
    at_context("file %s", "a.jsonl");
    assert_string_equal(at_message(), "file a.jsonl: row 7");
}

static void fail_own_message_as_argument_is_kept(void **state)
{
    (void)state;
    assert_int_equal(at_fail(AT_DATA, "inner"), AT_DATA);
    assert_int_equal(at_fail(AT_IO, "%s (outer)", at_message()), AT_IO);
    assert_string_equal(at_message(), "inner (outer)");
}

static void fail_long_text_is_cut_at_a_character(void **state)
{
    (void)state;
    char text[3000];
    for (size_t i = 0; i < sizeof text; i += 3)
        memcpy(text + i, "\xE2\x82\xAC", 3);
    /* three offsets: the cut falls on every byte of the three-byte character */
    for (int shift = 0; shift < 3; shift++) {
        assert_int_equal(at_fail(AT_DATA, "%.*s%.*s", shift, "xxx", (int)(sizeof text), text),
                         AT_DATA);
        size_t n = strlen(at_message());
        assert_in_range(n, 1024 - 6, 1023);
        assert_string_equal(at_message() + n - 3, "...");
        assert_int_equal((n - 3 - (size_t)shift) % 3, 0);
    }
}

static void context_long_text_is_cut(void **state)
{
    (void)state;
    char text[1001];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    assert_int_equal(at_fail(AT_DATA, "%s", text), AT_DATA);
    at_context("%s", text);
    size_t n = strlen(at_message());
    assert_in_range(n, 1000, 1023);
    assert_string_equal(at_message() + n - 3, "...");
}

static void fail_control_characters_are_neutralised(void **state)
{
    (void)state;
    assert_int_equal(at_fail(AT_DATA, "key \"%s\"\n", "a\x1b[31m\x7f"), AT_DATA);
    assert_string_equal(at_message(), "key \"a?[31m?\"\n");
    assert_int_equal(at_fail(AT_DATA, "%s",
                             "\xC2\x9B"
                             "31m \xC2\xA0\xC3\x9B\xC2"),
                     AT_DATA);
    assert_string_equal(at_message(), "??31m \xC2\xA0\xC3\x9B\xC2");
}

static void fail_elsewhere(void *context, size_t i)
{
    static _Thread_local char expected[32];
    bool *ok = context;
    snprintf(expected, sizeof expected, "item %zu", i);
    enum at_status st = at_fail(AT_DATA, "item %zu", i);
    usleep(1000);
    ok[i] = st == AT_DATA && strcmp(at_message(), expected) == 0;
}

static void fail_in_threads_keeps_messages_apart(void **state)
{
    (void)state;
    bool ok[64] = { 0 };
    at_parallel_for(AT_COUNT(ok), fail_elsewhere, ok);
    for (size_t i = 0; i < AT_COUNT(ok); i++)
        assert_true(ok[i]);
}

static char last_warning[128];

static void keep_warning(const char *kind, const char *text)
{
    snprintf(last_warning, sizeof last_warning, "%s|%s", kind, text);
}

/* Of the kinds of the test below, in order. */
static void keep_kind(void *context, const char *kind, size_t n, const char *first)
{
    char *out = context;

    if (strcmp(kind, "test_short") == 0 || strcmp(kind, "test_long") == 0)
        sprintf(out + strlen(out), "%s|%zu|%s;", kind, n, first);
}

static void warn_kinds_are_counted_apart(void **state)
{
    (void)state;
    size_t before = at_warn_count(NULL);
    at_warn("test_short", "row %d", 1);
    assert_string_equal(last_warning, "");
    at_warn_set_sink(keep_warning);
    at_warn("test_long", "row %d", 2);
    assert_string_equal(last_warning, "test_long|row 2");
    at_warn("test_long", "row %s", "a\nb");
    assert_string_equal(last_warning, "test_long|row a b");
    at_warn("test_short", "row %d", 3);
    at_warn_set_sink(NULL);
    assert_int_equal(at_warn_count("test_short"), 2);
    assert_int_equal(at_warn_count("test_long"), 2);
    *last_warning = 0;
    at_warn_each(keep_kind, last_warning);
    assert_string_equal(last_warning, "test_short|2|row 1;test_long|2|row 2;");
    assert_int_equal(at_warn_count("test_never"), 0);
    at_warn_mute(true);
    at_warn("test_short", "row %d", 4);
    at_warn_mute(false);
    assert_int_equal(at_warn_count("test_short"), 2);
    assert_int_equal(at_warn_count(NULL), before + 4);
}

static void warn_often(void *context, size_t i)
{
    (void)context;
    for (int k = 0; k < 20000; k++)
        at_warn(i % 2 ? "test_odd" : "test_even", "item %zu", i);
}

static void warn_in_threads_loses_none(void **state)
{
    (void)state;
    at_parallel_for(16, warn_often, NULL);
    assert_int_equal(at_warn_count("test_odd"), 160000);
    assert_int_equal(at_warn_count("test_even"), 160000);
}

static size_t shown, out_of_order;
static volatile int inside;

/* Counts without atomics: it is called by one thread at a time, in the order of the counts. */
static void count_shown(const char *kind, const char *text)
{
    (void)text;
    out_of_order += inside != 0;
    inside = 1;
    shown++;
    out_of_order += at_warn_count(kind) != shown;
    inside = 0;
}

static void warn_shown(void *context, size_t i)
{
    (void)context;
    for (int k = 0; k < 2000; k++)
        at_warn("test_shown", "item %zu", i);
}

static void warn_in_threads_shows_one_at_a_time(void **state)
{
    (void)state;
    at_warn_set_sink(count_shown);
    at_parallel_for(16, warn_shown, NULL);
    at_warn_set_sink(NULL);
    assert_int_equal(shown, 32000);
    assert_int_equal(out_of_order, 0);
}

static void require_false_aborts_with_its_text(void **state)
{
    (void)state;
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        signal(SIGABRT, SIG_DFL);
        dup2(pipe_fds[1], STDERR_FILENO);
        AT_REQUIRE(1 + 1 == 3);
        _exit(0);
    }
    close(pipe_fds[1]);
    char text[512] = { 0 };
    assert_true(read(pipe_fds[0], text, sizeof text - 1) > 0);
    close(pipe_fds[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(text, "status_test.c:"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit_code_all_match_interface),
        cmocka_unit_test(fail_sets_message_and_returns_status),
        cmocka_unit_test(fail_own_message_as_argument_is_kept),
        cmocka_unit_test(fail_long_text_is_cut_at_a_character),
        cmocka_unit_test(context_long_text_is_cut),
        cmocka_unit_test(fail_control_characters_are_neutralised),
        cmocka_unit_test(fail_in_threads_keeps_messages_apart),
        cmocka_unit_test(warn_kinds_are_counted_apart),
        cmocka_unit_test(warn_in_threads_loses_none),
        cmocka_unit_test(warn_in_threads_shows_one_at_a_time),
        cmocka_unit_test(require_false_aborts_with_its_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
