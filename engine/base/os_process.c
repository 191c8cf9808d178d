#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { IN, OUT, ERR, STREAMS };
enum { TICK_MS = 50, CHUNK = 1 << 16 };

struct run {
    struct at_process *process;
    const struct at_process_params *params;
    pid_t pid;           /* 0: none */
    int ours[STREAMS];   /* this program's ends; -1: closed */
    int theirs[STREAMS]; /* the other ends */
    size_t n_written;
};

static void close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static AT_CHECKED open_pipes(struct run *r)
{
    int ends[2];

    for (int i = 0; i < STREAMS; i++) {
        if (pipe2(ends, O_CLOEXEC) != 0)
            return at_fail(AT_IO, "a pipe cannot be opened: %s", strerror(errno));
        r->ours[i] = ends[i == IN];
        r->theirs[i] = ends[i != IN];
        if (fcntl(r->ours[i], F_SETFL, O_NONBLOCK) != 0)
            return at_fail(AT_IO, "a pipe cannot be made not to wait: %s", strerror(errno));
    }
    return AT_OK;
}

/* With the signals as they are by default, in a group that can be killed as a whole. */
static AT_CHECKED start(struct run *r, const char *command, const sigset_t *mask)
{
    char shell[] = "sh", flag[] = "-c";
    char *const words[] = { shell, flag, (char *)(uintptr_t)command, NULL };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    int error = 0;

    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    if (posix_spawn_file_actions_init(&actions) != 0)
        return at_fail(AT_MEMORY, "no memory for a process");
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return at_fail(AT_MEMORY, "no memory for a process");
    }
    for (int i = 0; i < STREAMS && error == 0; i++)
        error = posix_spawn_file_actions_adddup2(&actions, r->theirs[i], i);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, mask);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    if (error == 0)
        error = posix_spawn(&r->pid, "/bin/sh", &actions, &attributes, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    for (int i = 0; i < STREAMS; i++)
        close_one(&r->theirs[i]);
    if (error != 0) {
        r->pid = 0;
        return at_fail(AT_IO, "/bin/sh cannot be started: %s", strerror(error));
    }
    return AT_OK;
}

/* ---- streams ---- */

static void write_some(struct run *r)
{
    const char *bytes = r->params->input;
    const size_t left = r->params->n_input - r->n_written;
    const ssize_t n =
        left > 0 ? write(r->ours[IN], bytes + r->n_written, left < CHUNK ? left : CHUNK) : 0;

    if (n > 0)
        r->n_written += (size_t)n;
    if (r->n_written == r->params->n_input ||
        (n < 0 && errno != EAGAIN && errno != EINTR)) /* EPIPE: it reads no more */
        close_one(&r->ours[IN]);
}

/* Keeps the end of what was written there. */
static void keep_end(struct at_buf *buf)
{
    if (buf->n <= AT_PROCESS_ERR_BYTES)
        return;
    memmove(buf->data, buf->data + buf->n - AT_PROCESS_ERR_BYTES, AT_PROCESS_ERR_BYTES + 1);
    buf->n = AT_PROCESS_ERR_BYTES;
}

/* False when there is nothing more for now. */
static bool read_some(struct run *r, int stream)
{
    static _Thread_local char chunk[CHUNK];
    struct at_buf *to = stream == OUT ? &r->process->out : &r->process->err;
    size_t room = CHUNK;
    ssize_t n = 0;

    if (r->ours[stream] < 0)
        return false;
    n = read(r->ours[stream], chunk, CHUNK);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            close_one(&r->ours[stream]);
        return false;
    }
    if (stream == OUT) {
        room = r->params->most_bytes - to->n;
        r->process->too_much = (size_t)n > room;
    }
    at_buf_put(to, chunk, (size_t)n < room ? (size_t)n : room);
    if (stream == ERR)
        keep_end(to);
    return !r->process->too_much;
}

/* What stands in the pipes of a program that has ended; no more than a pipe holds. */
static void read_rest(struct run *r)
{
    enum { MOST = (1 << 20) / CHUNK };

    for (int stream = OUT; stream <= ERR; stream++)
        for (int i = 0; i < MOST && read_some(r, stream); i++)
            ;
}

/* ---- the life of the program ---- */

/* It is not reaped yet: its number stays its group's. */
static bool has_ended(const struct run *r)
{
    siginfo_t info = { .si_pid = 0 };

    return waitid(P_PID, (id_t)r->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
}

static AT_CHECKED attend(struct run *r, double end_s)
{
    for (;;) {
        struct pollfd polled[STREAMS];
        const double left_s = end_s - at_now_s();
        bool open = false;

        if (at_signal_status() != AT_OK)
            return at_fail(at_signal_status(), "stopped by a signal");
        if (left_s <= 0) {
            r->process->timed_out = true;
            return AT_OK;
        }
        if (r->process->too_much || has_ended(r))
            return AT_OK;
        for (int i = 0; i < STREAMS; i++) { /* a negative one is passed over */
            polled[i] = (struct pollfd){ r->ours[i], i == IN ? POLLOUT : POLLIN, 0 };
            open = open || r->ours[i] >= 0;
        }
        /* what has closed its streams ends at once, but for an odd one */
        if (poll(polled, STREAMS, !open ? 1 : left_s * 1000 < TICK_MS ? 1 : TICK_MS) <= 0)
            continue;
        if (polled[IN].revents)
            write_some(r);
        for (int i = OUT; i <= ERR; i++)
            if (polled[i].revents)
                read_some(r, i);
    }
}

static void reap(struct run *r)
{
    int status = 0;

    if (r->pid == 0)
        return;
    kill(-r->pid, SIGKILL);
    while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
        ;
    r->process->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    r->process->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* SIGPIPE of a program that does not read is this thread's: it is held back, and taken here. */
static void take_sigpipe(const sigset_t *pipe_set, const sigset_t *mask)
{
    const struct timespec at_once = { 0 };

    if (!sigismember(mask, SIGPIPE))
        while (sigtimedwait(pipe_set, NULL, &at_once) < 0 && errno == EINTR)
            ;
    if (pthread_sigmask(SIG_SETMASK, mask, NULL) != 0)
        AT_BUG("pthread_sigmask");
}

AT_CHECKED at_process_run(struct at_process *out, const char *command,
                          const struct at_process_params *params)
{
    enum at_status st = AT_OK;
    struct run r = {
        .process = out, .params = params, .ours = { -1, -1, -1 }, .theirs = { -1, -1, -1 }
    };
    sigset_t pipe_set, mask;

    *out = (struct at_process){ .exit_code = -1 };
    at_buf_puts(&out->out, "");
    at_buf_puts(&out->err, "");
    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    if (pthread_sigmask(SIG_BLOCK, &pipe_set, &mask) != 0)
        AT_BUG("pthread_sigmask");
    TRY(open_pipes(&r));
    TRY(start(&r, command, &mask));
    TRY(attend(&r, at_now_s() + params->timeout_s));
done:
    reap(&r);
    if (st == AT_OK)
        read_rest(&r);
    for (int i = 0; i < STREAMS; i++) {
        close_one(&r.ours[i]);
        close_one(&r.theirs[i]);
    }
    take_sigpipe(&pipe_set, &mask);
    if (st == AT_OK)
        st = at_buf_status(&out->out);
    if (st == AT_OK)
        st = at_buf_status(&out->err);
    return st;
}

void at_process_release(struct at_process *process)
{
    at_buf_release(&process->out);
    at_buf_release(&process->err);
}
