/* links: base */
#include "os.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TMP BUILD_DIR "/test_tmp/os"

static void write_text(const char *path, const char *text)
{
    if (at_file_write_atomic(path, text, strlen(text)) != AT_OK)
        fail_msg("%s", at_message());
}

static void check_text(const char *path, const char *want)
{
    struct at_buf buf;
    if (at_file_read(&buf, path) != AT_OK)
        fail_msg("%s", at_message());
    assert_int_equal(buf.n, strlen(want));
    assert_string_equal(buf.data, want);
    at_buf_release(&buf);
}

/* Number of entries of a folder. */
static size_t count_entries(const char *path)
{
    struct at_arena arena = { 0 };
    char **names;
    size_t n;
    assert_int_equal(at_dir_list(&arena, &names, &n, path), AT_OK);
    at_arena_release(&arena);
    return n;
}

/* An empty TMP before every test. */
static int make_folder(void **state)
{
    (void)state;
    return system("rm -rf '" TMP "' && mkdir -p '" TMP "'");
}

static void map_file_gives_its_bytes(void **state)
{
    (void)state;
    struct at_map map;
    write_text(TMP "/a", "bytes");
    assert_int_equal(at_map_open(&map, TMP "/a"), AT_OK);
    assert_int_equal(map.n, 5);
    assert_memory_equal(map.data, "bytes", 5);
    at_map_drop(&map, 0, 5);
    assert_memory_equal(map.data, "bytes", 5);
    at_map_close(&map);
    at_map_close(&map);
    write_text(TMP "/a", "");
    assert_int_equal(at_map_open(&map, TMP "/a"), AT_OK);
    assert_int_equal(map.n, 0);
    assert_non_null(map.data);
    at_map_drop(&map, 0, 0);
    at_map_close(&map);
}

static void map_missing_or_folder_is_an_error_with_path(void **state)
{
    (void)state;
    struct at_map map;
    assert_int_equal(at_map_open(&map, TMP "/none"), AT_NOT_FOUND);
    assert_non_null(strstr(at_message(), "/none"));
    assert_int_equal(at_map_open(&map, TMP), AT_IO);
    assert_non_null(strstr(at_message(), "folder"));
    at_map_close(&map);
}

static void file_read_missing_or_folder_is_an_error(void **state)
{
    (void)state;
    struct at_buf buf;
    assert_int_equal(at_file_read(&buf, TMP "/none"), AT_NOT_FOUND);
    assert_int_equal(at_file_read(&buf, TMP), AT_IO);
    assert_null(buf.data);
    write_text(TMP "/empty", "");
    check_text(TMP "/empty", "");
}

/* A pipe without a writer would wait for ever, /dev/zero never ends. */
static void special_files_are_refused_at_once(void **state)
{
    (void)state;
    const char *const paths[] = { TMP "/pipe", "/dev/zero" };
    assert_int_equal(mkfifo(TMP "/pipe", 0600), 0);
    alarm(60);
    for (size_t i = 0; i < AT_COUNT(paths); i++) {
        struct at_map map;
        struct at_buf buf;
        assert_int_equal(at_map_open(&map, paths[i]), AT_IO);
        assert_non_null(strstr(at_message(), "is special, not a file"));
        assert_int_equal(at_file_read(&buf, paths[i]), AT_IO);
        assert_non_null(strstr(at_message(), "is special, not a file"));
        assert_null(buf.data);
    }
    alarm(0);
}

static void file_read_larger_than_a_piece_is_whole(void **state)
{
    (void)state;
    const size_t n = 200001;
    char *text;
    assert_int_equal(at_alloc(&text, n + 1, 1), AT_OK);
    for (size_t i = 0; i < n; i++)
        text[i] = (char)('a' + i % 23);
    write_text(TMP "/large", text);
    check_text(TMP "/large", text);
    at_free(&text);
}

static void write_atomic_replaces_and_leaves_one_file(void **state)
{
    (void)state;
    write_text(TMP "/a", "old");
    write_text(TMP "/a", "new text");
    check_text(TMP "/a", "new text");
    assert_int_equal(count_entries(TMP), 1);
    mode_t mask = umask(0);
    umask(mask);
    struct stat info;
    assert_int_equal(stat(TMP "/a", &info), 0);
    assert_int_equal(info.st_mode & 0777, 0666 & ~mask);
}

static void write_atomic_bad_targets_are_cannot_write(void **state)
{
    (void)state;
    assert_int_equal(at_file_write_atomic(TMP "/none/a", "x", 1), AT_CANNOT_WRITE);
    assert_non_null(strstr(at_message(), "/none/a"));
    assert_int_equal(at_dir_create(TMP "/dir"), AT_OK);
    assert_int_equal(at_file_write_atomic(TMP "/dir", "x", 1), AT_CANNOT_WRITE);
    assert_int_equal(count_entries(TMP), 1);
}

/* A file size limit makes the kernel write part of the bytes, then refuse: like a disk that fills
 * up. The old file must stay whole and no temp file may lie about. */
static void write_atomic_that_fails_midway_keeps_the_old_file(void **state)
{
    (void)state;
    static char bytes[100000];
    write_text(TMP "/a", "old");
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 5000, before.rlim_max }), 0);
    enum at_status st = at_file_write_atomic(TMP "/a", bytes, sizeof bytes);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(st, AT_CANNOT_WRITE);
    check_text(TMP "/a", "old");
    assert_int_equal(count_entries(TMP), 1);
}

static void writer_failed_put_makes_commit_fail(void **state)
{
    (void)state;
    static char bytes[100000];
    struct at_writer *writer;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(at_writer_open(&writer, TMP "/a"), AT_OK);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 5000, before.rlim_max }), 0);
    enum at_status st = at_writer_put(writer, bytes, sizeof bytes);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(st, AT_CANNOT_WRITE);
    assert_int_equal(at_writer_commit(writer), AT_CANNOT_WRITE);
    at_writer_close(&writer);
    assert_int_equal(count_entries(TMP), 0);
}

static void writer_is_visible_only_after_commit(void **state)
{
    (void)state;
    struct at_writer *writer;
    assert_int_equal(at_writer_open(&writer, TMP "/a"), AT_OK);
    assert_int_equal(at_writer_put(writer, "one ", 4), AT_OK);
    assert_int_equal(at_writer_put(writer, "two", 3), AT_OK);
    assert_false(at_path_exists(TMP "/a"));
    assert_int_equal(at_writer_commit(writer), AT_OK);
    at_writer_close(&writer);
    assert_null(writer);
    check_text(TMP "/a", "one two");

    assert_int_equal(at_writer_open(&writer, TMP "/a"), AT_OK);
    assert_int_equal(at_writer_put(writer, "lost", 4), AT_OK);
    at_writer_close(&writer);
    check_text(TMP "/a", "one two");
    assert_int_equal(count_entries(TMP), 1);
    at_writer_close(&writer);
}

static void log_full_disk_says_so(void **state)
{
    (void)state;
    struct at_log *log;
    if (!at_path_exists("/dev/full")) {
        print_message("there is no /dev/full here\n");
        skip();
    }
    assert_int_equal(at_log_open(&log, "/dev/full", 0), AT_OK);
    assert_int_equal(at_log_line(log, "x", 1), AT_CANNOT_WRITE);
    assert_non_null(strstr(at_message(), "/dev/full"));
    assert_non_null(strstr(at_message(), "disk is full"));
    at_log_close(&log);
}

static void log_goes_on_where_it_is_told(void **state)
{
    (void)state;
    struct at_log *log;
    uint64_t bytes = 0;
    for (int run = 0; run < 2; run++) {
        assert_int_equal(at_log_open(&log, TMP "/log", run == 0 ? 0 : 12), AT_OK);
        assert_int_equal(at_log_line(log, "{\"step\":1}", 10), AT_OK);
        assert_int_equal(at_log_line(log, "", 0), AT_OK);
        assert_int_equal(at_log_line(log, "after", 5), AT_OK);
        assert_int_equal(at_log_sync(log, &bytes), AT_OK);
        assert_int_equal(bytes, run == 0 ? 18 : 30);
        at_log_close(&log);
    }
    check_text(TMP "/log", "{\"step\":1}\n\n{\"step\":1}\n\nafter\n");
    assert_int_equal(at_log_open(&log, TMP "/log", 31), AT_INTEGRITY);
    assert_non_null(strstr(at_message(), "has 30 bytes and should have at least 31"));
    check_text(TMP "/log", "{\"step\":1}\n\n{\"step\":1}\n\nafter\n");
    assert_int_equal(at_log_open(&log, TMP "/log", 0), AT_OK);
    at_log_close(&log);
    check_text(TMP "/log", "");
    assert_int_equal(at_log_open(&log, TMP, 0), AT_CANNOT_WRITE);
    assert_null(log);
}

static void log_many_lines(void *context, size_t i)
{
    char line[64];
    int n = snprintf(line, sizeof line, "line %06zu", i);
    for (int k = 0; k < 2000; k++)
        if (at_log_line(context, line, (size_t)n) != AT_OK)
            abort();
}

static void log_lines_of_threads_stay_whole(void **state)
{
    (void)state;
    struct at_log *log;
    struct at_buf buf;
    assert_int_equal(at_log_open(&log, TMP "/log", 0), AT_OK);
    at_parallel_for(16, log_many_lines, log);
    at_log_close(&log);
    assert_int_equal(at_file_read(&buf, TMP "/log"), AT_OK);
    assert_int_equal(buf.n, 16 * 2000 * 12);
    for (size_t i = 0; i < buf.n; i += 12) {
        assert_memory_equal(buf.data + i, "line ", 5);
        assert_int_equal(buf.data[i + 11], '\n');
    }
    at_buf_release(&buf);
}

static void dir_create_makes_parents_and_accepts_existing(void **state)
{
    (void)state;
    assert_int_equal(at_dir_create(TMP "/a//b/c/"), AT_OK);
    assert_int_equal(at_dir_create(TMP "/a/b/c"), AT_OK);
    assert_true(at_path_is_dir(TMP "/a/b/c"));
    write_text(TMP "/file", "");
    assert_int_equal(at_dir_create(TMP "/file"), AT_CANNOT_WRITE);
    assert_int_equal(at_dir_create(TMP "/file/a"), AT_CANNOT_WRITE);
    assert_int_equal(at_dir_check_writable(TMP "/file"), AT_CANNOT_WRITE);
    assert_int_equal(at_dir_check_writable(TMP "/file/a"), AT_CANNOT_WRITE);
    assert_true(at_dir_is_empty(TMP "/file/a"));
    assert_false(at_dir_is_empty(TMP "/file"));
    assert_int_equal(at_dir_check_writable(TMP "/none/b"), AT_OK);
    assert_false(at_path_exists(TMP "/none"));
    assert_int_equal(at_dir_check_writable(TMP "/a/b/c"), AT_OK);
    assert_true(at_dir_is_empty(TMP "/a/b/c"));
    assert_false(at_path_is_dir(TMP "/file"));
    assert_true(at_path_exists(TMP "/file"));
}

static void dir_rename_and_remove_do_all_or_say_why(void **state)
{
    (void)state;
    assert_int_equal(at_dir_create(TMP "/a"), AT_OK);
    assert_int_equal(at_file_write_atomic(TMP "/a/x", "x", 1), AT_OK);
    assert_int_equal(at_dir_create(TMP "/b"), AT_OK);
    assert_int_equal(at_dir_rename(TMP "/a", TMP "/b"), AT_CANNOT_WRITE); /* taken */
    assert_int_equal(at_dir_rename(TMP "/none", TMP "/c"), AT_CANNOT_WRITE);
    assert_int_equal(at_dir_rename(TMP "/a", TMP "/c"), AT_OK);
    assert_false(at_path_exists(TMP "/a"));
    check_text(TMP "/c/x", "x");
    assert_int_equal(at_dir_create(TMP "/c/deeper"), AT_OK);
    assert_int_equal(at_dir_remove(TMP "/c"), AT_CANNOT_WRITE); /* has a folder in it */
    assert_true(at_path_is_dir(TMP "/c/deeper"));
    assert_int_equal(at_dir_remove(TMP "/c/deeper"), AT_OK);
    assert_int_equal(at_dir_remove(TMP "/c"), AT_OK);
    assert_int_equal(at_dir_remove(TMP "/c"), AT_OK); /* missing is fine */
    assert_false(at_path_exists(TMP "/c"));
}

static void dir_is_empty_counts_missing_as_empty(void **state)
{
    (void)state;
    assert_true(at_dir_is_empty(TMP));
    assert_true(at_dir_is_empty(TMP "/none"));
    write_text(TMP "/.hidden", "");
    assert_false(at_dir_is_empty(TMP));
    assert_false(at_dir_is_empty(TMP "/.hidden"));
}

static void dir_list_is_sorted(void **state)
{
    (void)state;
    struct at_arena arena = { 0 };
    char **names, path[sizeof TMP + 16];
    size_t n;
    for (int i = 39; i >= 0; i--) {
        snprintf(path, sizeof path, "%s/f%02d", TMP, (i * 7) % 40);
        write_text(path, "");
    }
    assert_int_equal(at_dir_list(&arena, &names, &n, TMP), AT_OK);
    assert_int_equal(n, 40);
    for (int i = 0; i < 40; i++) {
        snprintf(path, sizeof path, "f%02d", i);
        assert_string_equal(names[i], path);
    }
    assert_int_equal(at_dir_list(&arena, &names, &n, TMP "/none"), AT_NOT_FOUND);
    assert_int_equal(n, 0);
    at_arena_release(&arena);
}

static void check_join(const char *dir, const char *name, const char *want)
{
    struct at_arena arena = { 0 };
    char *path;
    assert_int_equal(at_path_join(&arena, &path, dir, name), AT_OK);
    assert_string_equal(path, want);
    at_arena_release(&arena);
}

static void path_join_puts_one_slash(void **state)
{
    (void)state;
    check_join("a", "b", "a/b");
    check_join("a/", "b/c", "a/b/c");
    check_join("", "b", "b");
    check_join("a", "/b", "/b");
    check_join("/", "b", "/b");
}

static void check_dir(const char *path, const char *want)
{
    struct at_arena arena = { 0 };
    char *dir;
    assert_int_equal(at_path_dir(&arena, &dir, path), AT_OK);
    assert_string_equal(dir, want);
    at_arena_release(&arena);
}

static void path_dir_is_the_folder_part(void **state)
{
    (void)state;
    check_dir("a/b", "a");
    check_dir("a//b", "a");
    check_dir("/a", "/");
    check_dir("/a/b/", "/a");
    check_dir("a", ".");
    check_dir("a/", ".");
    check_dir("", ".");
    check_dir("/", "/");
}

static void path_real_follows_links(void **state)
{
    (void)state;
    struct at_arena arena = { 0 };
    char *folder, *direct, *linked;
    write_text(TMP "/a", "");
    assert_int_equal(symlink("a", TMP "/link"), 0);
    assert_int_equal(at_path_real(&arena, &folder, TMP), AT_OK);
    assert_int_equal(at_path_real(&arena, &direct, TMP "/../os/a"), AT_OK);
    assert_int_equal(at_path_real(&arena, &linked, TMP "/link"), AT_OK);
    assert_string_equal(direct, linked);
    assert_memory_equal(direct, folder, strlen(folder));
    assert_string_equal(direct + strlen(folder), "/a");
    assert_int_equal(at_path_real(&arena, &direct, TMP "/none"), AT_NOT_FOUND);
    at_arena_release(&arena);
}

static void clocks_go_forward(void **state)
{
    (void)state;
    double now = at_now_s(), cpu = at_cpu_s();
    usleep(20000);
    assert_true(at_now_s() - now >= 0.02);
    assert_true(at_cpu_s() >= cpu && at_cpu_s() > 0);
}

static void memory_numbers_are_plausible(void **state)
{
    (void)state;
    const size_t n = (size_t)64 << 20;
    assert_in_range(at_memory_available_bytes(), 1 << 20, (uint64_t)1 << 50);
    char *bytes;
    uint64_t before = at_memory_peak_bytes();
    assert_int_equal(at_alloc(&bytes, n, 1), AT_OK);
    memset(bytes, 1, n);
    assert_int_equal(bytes[n / 2], 1);
    at_free(&bytes);
    assert_in_range(at_memory_peak_bytes(), n, before + 16 * n);
}

static void disk_free_of_a_future_folder_is_its_parents(void **state)
{
    (void)state;
    assert_true(at_disk_free_bytes(TMP) > 0);
    assert_true(at_disk_free_bytes(TMP "/not/yet") > 0);
    assert_true(at_disk_free_bytes("not_yet_here") > 0);
}

static void stream_pipe_is_no_terminal(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_false(at_stream_is_terminal(fds[0]));
    close(fds[0]);
    close(fds[1]);
    assert_false(at_stream_is_terminal(fds[0]));
}

static void signals_first_is_noted_second_ends_the_process(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        at_signals_install();
        bool ok = at_signal_pending() == 0;
        raise(SIGINT);
        ok = ok && at_signal_pending() == SIGINT;
        if (!ok)
            _exit(1);
        raise(SIGTERM);
        _exit(2);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 143);
}

static void env_set_and_removed(void **state)
{
    (void)state;
    at_env_set("ATTUNE_TEST_SWITCH", "on");
    assert_string_equal(at_env("ATTUNE_TEST_SWITCH"), "on");
    at_env_set("ATTUNE_TEST_SWITCH", NULL);
    assert_null(at_env("ATTUNE_TEST_SWITCH"));
}

static void cache_dir_follows_xdg_then_home(void **state)
{
    (void)state;
    struct at_arena arena = { 0 };
    char *dir;
    at_env_set("HOME", TMP "/home");
    at_env_set("XDG_CACHE_HOME", TMP "/cache");
    assert_int_equal(at_cache_dir(&arena, &dir), AT_OK);
    assert_string_equal(dir, TMP "/cache/attune");
    assert_true(at_path_is_dir(dir));
    at_env_set("XDG_CACHE_HOME", "relative");
    assert_int_equal(at_cache_dir(&arena, &dir), AT_OK);
    assert_string_equal(dir, TMP "/home/.cache/attune");
    at_env_set("XDG_CACHE_HOME", NULL);
    at_env_set("HOME", NULL);
    assert_int_equal(at_cache_dir(&arena, &dir), AT_CANNOT_WRITE);
    assert_non_null(strstr(at_message(), "XDG_CACHE_HOME"));
    at_arena_release(&arena);
}

static void vector_bits_are_what_the_system_lists(void **state)
{
    (void)state;
    struct at_buf info = { 0 };
    unsigned want = 128;

    if (at_file_read(&info, "/proc/cpuinfo") != AT_OK || at_cpu_vector_bits() == 0)
        skip();
    if (strstr(info.data, " avx "))
        want = 256;
    if (strstr(info.data, " avx512f ") && strstr(info.data, " avx512bw ") &&
        strstr(info.data, " avx512dq ") && strstr(info.data, " avx512vl "))
        want = 512;
    assert_int_equal(at_cpu_vector_bits(), want);
    at_buf_release(&info);
}

static void an_upper_half_is_waited_for_by_vectors_of_512_bits_alone(void **state)
{
    (void)state;
    assert_true(!at_cpu_waits_for_upper_half() || at_cpu_vector_bits() == 512);
}

static void count_visit(void *context, size_t i)
{
    _Atomic int *visits = context;
    atomic_fetch_add(&visits[i], 1);
}

static void parallel_for_visits_each_index_once(void **state)
{
    (void)state;
    static _Atomic int visits[10000];
    at_parallel_for(AT_COUNT(visits), count_visit, visits);
    for (size_t i = 0; i < AT_COUNT(visits); i++)
        assert_int_equal(visits[i], 1);
    at_parallel_for(0, count_visit, visits);
    at_parallel_for(1, count_visit, visits);
    assert_int_equal(visits[0], 2);
}

struct meeting {
    _Atomic int present, finished;
};
static _Thread_local bool is_caller;

/* Waits until two threads are here; the one that is not the caller's is late to finish. */
static void meet(void *context, size_t i)
{
    (void)i;
    struct meeting *meeting = context;
    atomic_fetch_add(&meeting->present, 1);
    for (double end = at_now_s() + 20; atomic_load(&meeting->present) < 2 && at_now_s() < end;)
        usleep(100);
    if (!is_caller)
        usleep(50000);
    atomic_fetch_add(&meeting->finished, 1);
}

static void parallel_for_overlaps_and_waits_for_all(void **state)
{
    (void)state;
    struct meeting meeting = { 0 };
    cpu_set_t processors;
    if (sched_getaffinity(0, sizeof processors, &processors) != 0 || CPU_COUNT(&processors) < 2) {
        print_message("one processor only\n");
        skip();
    }
    is_caller = true;
    double begin = at_now_s();
    at_parallel_for(2, meet, &meeting);
    assert_true(at_now_s() - begin < 15);
    assert_int_equal(meeting.finished, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(map_file_gives_its_bytes, make_folder),
        cmocka_unit_test_setup(map_missing_or_folder_is_an_error_with_path, make_folder),
        cmocka_unit_test_setup(file_read_missing_or_folder_is_an_error, make_folder),
        cmocka_unit_test_setup(special_files_are_refused_at_once, make_folder),
        cmocka_unit_test_setup(file_read_larger_than_a_piece_is_whole, make_folder),
        cmocka_unit_test_setup(write_atomic_replaces_and_leaves_one_file, make_folder),
        cmocka_unit_test_setup(write_atomic_bad_targets_are_cannot_write, make_folder),
        cmocka_unit_test_setup(write_atomic_that_fails_midway_keeps_the_old_file, make_folder),
        cmocka_unit_test_setup(writer_failed_put_makes_commit_fail, make_folder),
        cmocka_unit_test_setup(writer_is_visible_only_after_commit, make_folder),
        cmocka_unit_test_setup(log_full_disk_says_so, make_folder),
        cmocka_unit_test_setup(log_goes_on_where_it_is_told, make_folder),
        cmocka_unit_test_setup(log_lines_of_threads_stay_whole, make_folder),
        cmocka_unit_test_setup(dir_create_makes_parents_and_accepts_existing, make_folder),
        cmocka_unit_test_setup(dir_rename_and_remove_do_all_or_say_why, make_folder),
        cmocka_unit_test_setup(dir_is_empty_counts_missing_as_empty, make_folder),
        cmocka_unit_test_setup(dir_list_is_sorted, make_folder),
        cmocka_unit_test_setup(path_join_puts_one_slash, make_folder),
        cmocka_unit_test_setup(path_dir_is_the_folder_part, make_folder),
        cmocka_unit_test_setup(path_real_follows_links, make_folder),
        cmocka_unit_test_setup(clocks_go_forward, make_folder),
        cmocka_unit_test_setup(memory_numbers_are_plausible, make_folder),
        cmocka_unit_test_setup(disk_free_of_a_future_folder_is_its_parents, make_folder),
        cmocka_unit_test_setup(stream_pipe_is_no_terminal, make_folder),
        cmocka_unit_test_setup(signals_first_is_noted_second_ends_the_process, make_folder),
        cmocka_unit_test_setup(env_set_and_removed, make_folder),
        cmocka_unit_test_setup(cache_dir_follows_xdg_then_home, make_folder),
        cmocka_unit_test_setup(vector_bits_are_what_the_system_lists, make_folder),
        cmocka_unit_test(an_upper_half_is_waited_for_by_vectors_of_512_bits_alone),
        cmocka_unit_test_setup(parallel_for_visits_each_index_once, make_folder),
        cmocka_unit_test_setup(parallel_for_overlaps_and_waits_for_all, make_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
