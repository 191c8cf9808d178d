#include "os.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 16, PATH_BYTES = 4096 };

static double clock_s(clockid_t id)
{
    struct timespec t;
    if (clock_gettime(id, &t) != 0)
        AT_BUG("clock_gettime: %s", strerror(errno));
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double at_now_s(void)
{
    return clock_s(CLOCK_MONOTONIC);
}

double at_wall_s(void)
{
    return clock_s(CLOCK_REALTIME);
}

double at_cpu_s(void)
{
    return clock_s(CLOCK_PROCESS_CPUTIME_ID);
}

/* The number behind a line's first word `word`, or behind the file's begin when word is "". False
 * when the file is missing or says otherwise ("max"). */
static bool read_number(uint64_t *out, const char *path, const char *word)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    char line[256];
    bool found = false;
    size_t n = strlen(word);
    while (!found && fgets(line, sizeof line, file)) {
        if (strncmp(line, word, n) != 0)
            continue;
        char *end;
        const unsigned long long number = strtoull(line + n, &end, 10);
        found = end > line + n;
        if (found)
            *out = number;
    }
    fclose(file);
    return found;
}

/* Where the two generations of control groups keep their numbers. */
static const struct cgroup_kind {
    const char *mark, *root, *limit, *usage, *inactive;
} cgroup_kinds[] = {
    { ":memory:", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
      "total_inactive_file " },
    { "0::", "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file " },
};

/* Room of one group: limit - (usage - file pages that would be given back); UINT64_MAX: no limit.
 */
static uint64_t group_room(const struct cgroup_kind *kind, const char *group)
{
    char path[PATH_BYTES + 128];
    uint64_t limit, usage, inactive = 0;
    snprintf(path, sizeof path, "%s%s/%s", kind->root, group, kind->limit);
    if (!read_number(&limit, path, ""))
        return UINT64_MAX;
    snprintf(path, sizeof path, "%s%s/%s", kind->root, group, kind->usage);
    if (!read_number(&usage, path, ""))
        return UINT64_MAX;
    snprintf(path, sizeof path, "%s%s/memory.stat", kind->root, group);
    read_number(&inactive, path, kind->inactive);
    usage -= inactive < usage ? inactive : usage;
    return limit > usage ? limit - usage : 0;
}

/* Least room of this process's group and of those around it. */
static uint64_t cgroup_room(void)
{
    uint64_t room = UINT64_MAX;
    char line[PATH_BYTES];
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (!file)
        return room;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        for (size_t i = 0; i < AT_COUNT(cgroup_kinds); i++) {
            char *group = strstr(line, cgroup_kinds[i].mark);
            if (!group)
                continue;
            group += strlen(cgroup_kinds[i].mark);
            for (char *slash; (slash = strrchr(group, '/')); *slash = 0) {
                uint64_t its = group_room(&cgroup_kinds[i], slash[1] ? group : "");
                room = its < room ? its : room;
            }
            uint64_t top = group_room(&cgroup_kinds[i], "");
            room = top < room ? top : room;
            break;
        }
    }
    fclose(file);
    return room;
}

uint64_t at_memory_available_bytes(void)
{
    uint64_t kib = 0, room = cgroup_room();
    if (!read_number(&kib, "/proc/meminfo", "MemAvailable:"))
        return room;
    return kib * 1024 < room ? kib * 1024 : room;
}

uint64_t at_memory_peak_bytes(void)
{
    uint64_t kib = 0;
    if (read_number(&kib, "/proc/self/status", "VmHWM:"))
        return kib * 1024;
    struct rusage usage; /* counts a parent's pages from before exec, too */
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

void at_memory_large_pages(void *data, size_t n)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)data;
    const uintptr_t first = at_round_up(at, page), end = (at + n) / page * page;

    if (first < end)
        madvise((uint8_t *)data + (first - at), end - first, MADV_HUGEPAGE);
}

uint64_t at_disk_free_bytes(const char *dir)
{
    struct at_arena arena = { 0 };
    struct statvfs info;
    const char *path = dir;
    uint64_t bytes = 0;
    while (statvfs(path, &info) != 0) {
        char *parent;
        if (errno != ENOENT || at_path_dir(&arena, &parent, path) != AT_OK ||
            strcmp(parent, path) == 0)
            goto done;
        path = parent;
    }
    bytes = (uint64_t)info.f_bavail * info.f_frsize;
done:
    at_arena_release(&arena);
    return bytes;
}

bool at_stream_is_terminal(int fd)
{
    return isatty(fd) == 1;
}

static volatile sig_atomic_t pending_signal;

static void on_signal(int number)
{
    if (pending_signal)
        _exit(128 + number);
    pending_signal = number;
}

void at_signals_install(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGINT, &action, NULL) != 0 || sigaction(SIGTERM, &action, NULL) != 0)
        AT_BUG("sigaction: %s", strerror(errno));
    signal(SIGXFSZ,
           SIG_IGN); /* a write beyond a limit of file sizes is an error, as on a full disk */
}

void at_signals_interrupt_reads(void)
{
    struct sigaction action = { .sa_handler = on_signal };

    sigemptyset(&action.sa_mask);
    if (sigaction(SIGINT, &action, NULL) != 0 || sigaction(SIGTERM, &action, NULL) != 0)
        AT_BUG("sigaction: %s", strerror(errno));
}

int at_signal_pending(void)
{
    return pending_signal;
}

enum at_status at_signal_status(void)
{
    const int pending = at_signal_pending();

    return pending == 0 ? AT_OK : pending == SIGINT ? AT_INTERRUPTED : AT_TERMINATED;
}

unsigned at_cpu_vector_bits(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return 512;
    return __builtin_cpu_supports("avx") ? 256 : 128;
#else
    return 0;
#endif
}

#ifdef __x86_64__
/* Seconds of storing a vector and reading one of its words `first` to `first` + 3, many times. */
__attribute__((target("avx512f"), no_sanitize("address", "undefined"))) static double
store_and_read_s(unsigned first)
{
    enum { TURNS = 4000, TRIES = 5 };
    typedef int vector __attribute__((vector_size(64)));
    volatile union {
        vector all;
        int words[16];
    } box;
    const vector value = { 0 };
    double best = 1;

    for (int i = 0; i < TRIES; i++) {
        const double begin = at_now_s();
        double s;

        for (unsigned k = 0; k < TURNS; k++) {
            box.all = value;
            (void)box.words[first + k % 4];
        }
        s = at_now_s() - begin;
        best = s < best ? s : best;
    }
    return best;
}
#endif

bool at_cpu_waits_for_upper_half(void)
{
#ifdef __x86_64__
    return at_cpu_vector_bits() == 512 && store_and_read_s(8) > 3 * store_and_read_s(0);
#else
    return false;
#endif
}

const char *at_env(const char *name)
{
    return getenv(name);
}

void at_env_set(const char *name, const char *value)
{
    if ((value ? setenv(name, value, 1) : unsetenv(name)) != 0)
        AT_BUG("the environment variable %s cannot be set: %s", name, strerror(errno));
}

enum at_status at_cache_dir(struct at_arena *arena, char **out)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    enum at_status st = AT_OK;
    if (cache && cache[0] == '/') /* the XDG specification: relative ones are to be ignored */
        TRY(at_path_join(arena, out, cache, "attune"));
    else if (home && home[0])
        TRY(at_path_join(arena, out, home, ".cache/attune"));
    else
        FAIL(AT_CANNOT_WRITE, "no cache folder: set XDG_CACHE_HOME or HOME");
    TRY(at_dir_create(*out));
done:
    return st;
}

struct crew {
    void (*work)(void *context, size_t i);
    void *context;
    size_t n;
    _Atomic size_t next;
};

static void *run_crew(void *argument)
{
    struct crew *crew = argument;
    for (size_t i; (i = atomic_fetch_add(&crew->next, 1)) < crew->n;)
        crew->work(crew->context, i);
    return NULL;
}

/* Processors this process may use; containers often give it fewer than the machine has. */
static size_t n_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (size_t)CPU_COUNT(&set);
    return 1;
}

void at_parallel_for(size_t n, void (*work)(void *context, size_t i), void *context)
{
    struct crew crew = { .work = work, .context = context, .n = n };
    pthread_t threads[MAX_THREADS];
    size_t wanted = n_processors(), started = 0;
    wanted = wanted < MAX_THREADS ? wanted : MAX_THREADS;
    wanted = wanted < n ? wanted : n;
    /* This thread works too; a thread that cannot be had only makes it slower. */
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, run_crew, &crew) == 0)
        started++;
    run_crew(&crew);
    for (size_t i = 0; i < started; i++)
        if (pthread_join(threads[i], NULL) != 0)
            AT_BUG("a worker thread cannot be joined");
}
