/* links: base */
/* Programs that are run: what goes in and comes out, and that nothing of them remains. */
#include "os.h"
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#define OK(call)                                     \
    do {                                             \
        if ((call) != AT_OK)                         \
            fail_msg("%s: %s", #call, at_message()); \
    } while (0)

enum { MANY = 3000000 };

static int count_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static struct at_process run(const char *command, const void *input, size_t n, double timeout_s)
{
    struct at_process p;

    OK(at_process_run(
        &p, command,
        &(struct at_process_params){
            .input = input, .n_input = n, .most_bytes = MANY, .timeout_s = timeout_s }));
    errno = 0;
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child, and no zombie */
    assert_int_equal(errno, ECHILD);
    return p;
}

/* Far more than pipes hold goes through in both directions at once. */
static void large_input_comes_back_whole(void **state)
{
    char *bytes = malloc(MANY);
    const int n_files = count_files();
    struct at_process p;

    (void)state;
    assert_non_null(bytes);
    for (int i = 0; i < MANY; i++)
        bytes[i] = (char)('a' + i % 23);
    p = run("tee /dev/stderr", bytes, MANY, 60);
    assert_int_equal(p.exit_code, 0);
    assert_int_equal(p.out.n, MANY);
    assert_memory_equal(p.out.data, bytes, MANY);
    assert_int_equal(p.err.n, AT_PROCESS_ERR_BYTES);
    assert_memory_equal(p.err.data, bytes + MANY - AT_PROCESS_ERR_BYTES, AT_PROCESS_ERR_BYTES);
    at_process_release(&p);
    p = run("cat; echo more", bytes, MANY, 60);
    assert_true(p.too_much && p.out.n == MANY);
    at_process_release(&p);
    free(bytes);
    assert_int_equal(count_files(), n_files);
}

/* No SIGPIPE ends this program, and the one that runs has its own. */
static void input_that_is_not_read_is_fine(void **state)
{
    static char bytes[MANY];
    sigset_t pending;
    struct at_process p = run("exec <&-; sleep 0.1; yes | head -n 1; exit 5", bytes, MANY, 60);

    (void)state;
    assert_int_equal(p.exit_code, 5);
    assert_string_equal(p.out.data, "y\n");
    assert_string_equal(p.err.data, "");
    assert_true(sigpending(&pending) == 0 && !sigismember(&pending, SIGPIPE));
    at_process_release(&p);
}

/* What the shell leaves behind goes with it, by its end or by a timeout. */
static void nothing_of_a_program_remains(void **state)
{
    static const char *const commands[] = { "sleep 1000 & echo $!", "sleep 1000 & echo $!; wait" };

    (void)state;
    for (int timed_out = 0; timed_out < 2; timed_out++) {
        const double begin_s = at_now_s();
        struct at_process p = run(commands[timed_out], "", 0, timed_out ? 0.2 : 60);
        const pid_t sleeper = (pid_t)strtol(p.out.data, NULL, 10);
        int left = 100; /* its new parent reaps it soon */
        assert_int_equal(p.timed_out, timed_out);
        assert_int_equal(p.signal, timed_out ? SIGKILL : 0);
        assert_true(at_now_s() - begin_s < 20 && sleeper > 1);
        while (left > 0 && kill(sleeper, 0) == 0 && left--)
            usleep(10000);
        if (left == 0) { /* none reaps here: then it is a zombie of another's */
            char path[64], text[256] = "";
            snprintf(path, sizeof path, "/proc/%d/stat", (int)sleeper);
            FILE *file = fopen(path, "re");
            assert_true(!file || !fgets(text, sizeof text, file) || strstr(text, ") Z "));
            if (file)
                fclose(file);
        }
        at_process_release(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_input_comes_back_whole),
        cmocka_unit_test(input_that_is_not_read_is_fine),
        cmocka_unit_test(nothing_of_a_program_remains),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
