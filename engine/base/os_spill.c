#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A new file in the cache folder that has no name: it goes when nothing maps it. */
static enum at_status open_nameless(int *out, const char **dir, struct at_arena *arena)
{
    enum at_status st = AT_OK;
    char *folder = NULL, *path = NULL;

    TRY(at_cache_dir(arena, &folder));
    *dir = folder;
    TRY(at_path_join(arena, &path, folder, "rows-XXXXXX"));
    *out = mkostemp(path, O_CLOEXEC);
    if (*out < 0)
        FAIL(AT_CANNOT_WRITE, "%s: takes no file: %s", folder, strerror(errno));
    unlink(path);
done:
    return st;
}

enum at_status at_spill_open(void **out, size_t n)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    const char *dir = NULL;
    void *data = NULL;
    int fd = -1, error = 0;

    AT_REQUIRE(n > 0);
    *out = NULL;
    TRY(open_nameless(&fd, &dir, &arena));
    do
        error = posix_fallocate(fd, 0, (off_t)n); /* without room a page that is written to kills */
    while (error == EINTR);
    if (error != 0)
        FAIL(AT_CANNOT_WRITE, "%s: has no room for %zu MiB: %s", dir, n >> 20, strerror(error));
    data = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        FAIL(AT_MEMORY, "%zu MiB of a file cannot be mapped: %s", n >> 20, strerror(errno));
    *out = data;
done:
    if (fd >= 0)
        close(fd);
    at_arena_release(&arena);
    return st;
}

void at_spill_drop(void *data, size_t n)
{
    madvise(data, n, MADV_DONTNEED);
}

void at_spill_close(void *data, size_t n)
{
    munmap(data, n);
}
