#include "os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ_BYTES = 64 * 1024 };

static enum at_status fail_read(const char *path, int error)
{
    if (error == ENOENT || error == ENOTDIR)
        return at_fail(AT_NOT_FOUND, "%s: there is no such file or folder", path);
    return at_fail(AT_IO, "%s: cannot be read: %s", path, strerror(error));
}

static enum at_status fail_write(const char *path, int error)
{
    if (error == ENOSPC || error == EDQUOT)
        return at_fail(AT_CANNOT_WRITE,
                       "%s: cannot be written, the disk is full (%s); free some "
                       "space or choose another folder",
                       path, strerror(error));
    return at_fail(AT_CANNOT_WRITE, "%s: cannot be written: %s", path, strerror(error));
}

/* Of a new file, whose folder may be what is missing. */
static enum at_status fail_create(const char *path, int error)
{
    const char *slash = strrchr(path, '/');

    if (error == ENOENT && slash && slash > path)
        return at_fail(AT_CANNOT_WRITE,
                       "%s: cannot be written: there is no folder %.*s; create it, or name a file "
                       "elsewhere",
                       path, (int)(slash - path), path);
    return fail_write(path, error);
}

/* Opens a file; a folder, a pipe or a device is refused, not waited for. */
static enum at_status open_read(int *out, struct stat *info, const char *path)
{
    enum at_status st = AT_OK;

    *info = (struct stat){ 0 };
    do
        *out = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (*out < 0 && errno == EINTR);
    if (*out < 0 || fstat(*out, info) != 0)
        TRY(fail_read(path, errno));
    if (!S_ISREG(info->st_mode))
        FAIL(AT_IO, "%s: is %s, not a file", path, S_ISDIR(info->st_mode) ? "a folder" : "special");
done:
    return st;
}

enum at_status at_map_open(struct at_map *out, const char *path)
{
    *out = (struct at_map){ .data = (const uint8_t *)"" };
    int fd;
    struct stat info;
    enum at_status st = AT_OK;
    TRY(open_read(&fd, &info, path));
    if (info.st_size > 0) {
        size_t n = (size_t)info.st_size;
        void *data = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            TRY(fail_read(path, errno));
        *out = (struct at_map){ data, n };
    }
done:
    if (fd >= 0)
        close(fd);
    return st;
}

/* Linux reads 4 MiB ahead then, and in large pages, which are filled and mapped in less time than
 * small ones; what is asked for by MADV_WILLNEED comes in small ones. */
void at_map_in_runs(const struct at_map *map)
{
    if (map->n > 0)
        madvise((void *)(uintptr_t)map->data, map->n, MADV_HUGEPAGE);
}

void at_map_drop(const struct at_map *map, size_t begin, size_t n)
{
    AT_REQUIRE(begin <= map->n && n <= map->n - begin);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t first = at_round_up(begin, page);
    /* The file's last page may go although its tail lies beyond the end. */
    size_t end = begin + n == map->n ? at_round_up(map->n, page) : (begin + n) / page * page;
    if (map->n > 0 && first < end)
        madvise((void *)(uintptr_t)(map->data + first), end - first, MADV_DONTNEED);
}

void at_map_close(struct at_map *map)
{
    if (map->n > 0)
        munmap((void *)(uintptr_t)map->data, map->n);
    *map = (struct at_map){ .data = (const uint8_t *)"" };
}

enum at_status at_file_read(struct at_buf *out, const char *path)
{
    *out = (struct at_buf){ 0 };
    int fd;
    struct stat info;
    char *piece = NULL;
    enum at_status st = AT_OK;
    TRY(open_read(&fd, &info, path));
    TRY(at_alloc(&piece, READ_BYTES, 1));
    at_buf_puts(out, "");
    for (;;) {
        ssize_t got = read(fd, piece, READ_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            TRY(fail_read(path, errno));
        if (got == 0)
            break;
        at_buf_put(out, piece, (size_t)got);
    }
    TRY(at_buf_status(out));
done:
    if (st != AT_OK)
        at_buf_release(out);
    at_free(&piece);
    if (fd >= 0)
        close(fd);
    return st;
}

static enum at_status write_all(int fd, const char *bytes, size_t n, const char *path)
{
    while (n > 0) {
        ssize_t put = write(fd, bytes, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return fail_write(path, errno);
        bytes += put;
        n -= (size_t)put;
    }
    return AT_OK;
}

struct at_writer {
    int fd;
    bool failed, committed;
    char *path, *temp;
    struct at_arena arena;
};

/* A new file beside `path`; its name is never that of another writer. */
static enum at_status open_temp(struct at_writer *writer)
{
    static _Atomic unsigned serial;
    enum at_status st = AT_OK;
    do {
        TRY(at_arena_printf(&writer->arena, &writer->temp, "%s.%ld-%u.tmp", writer->path,
                            (long)getpid(), atomic_fetch_add(&serial, 1u)));
        writer->fd = open(writer->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (writer->fd < 0 && (errno == EINTR || errno == EEXIST));
    if (writer->fd < 0) {
        writer->temp = NULL; /* nothing to remove */
        TRY(fail_create(writer->path, errno));
    }
done:
    return st;
}

enum at_status at_writer_open(struct at_writer **out, const char *path)
{
    *out = NULL;
    enum at_status st = AT_OK;
    struct at_writer *writer = NULL;
    TRY(at_alloc(&writer, 1, sizeof *writer));
    writer->fd = -1;
    TRY(at_arena_strdup(&writer->arena, &writer->path, path));
    TRY(open_temp(writer));
    *out = writer;
    writer = NULL;
done:
    at_writer_close(&writer);
    return st;
}

enum at_status at_writer_put(struct at_writer *writer, const void *bytes, size_t n)
{
    enum at_status st = write_all(writer->fd, bytes, n, writer->path);
    if (st != AT_OK)
        writer->failed = true;
    return st;
}

/* Of the folder that holds `path`: without it a crash may forget a rename. Some file systems cannot
 * do it and say EINVAL. */
static enum at_status sync_folder(struct at_arena *arena, const char *path)
{
    char *dir;
    enum at_status st = at_path_dir(arena, &dir, path);
    if (st != AT_OK)
        return st;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_write(dir, errno);
    if (fsync(fd) != 0 && errno != EINVAL)
        st = fail_write(dir, errno);
    close(fd);
    return st;
}

enum at_status at_writer_commit(struct at_writer *writer)
{
    AT_REQUIRE(writer->fd >= 0);
    if (writer->failed)
        return at_fail(AT_CANNOT_WRITE, "%s: is not put in place, a write failed before",
                       writer->path);
    if (fsync(writer->fd) != 0)
        return fail_write(writer->path, errno);
    int fd = writer->fd;
    writer->fd = -1;
    if (close(fd) != 0) /* network file systems report a full disk here */
        return fail_write(writer->path, errno);
    if (rename(writer->temp, writer->path) != 0)
        return fail_write(writer->path, errno);
    writer->committed = true;
    return sync_folder(&writer->arena, writer->path);
}

void at_writer_close(struct at_writer **inout)
{
    struct at_writer *writer = *inout;
    if (!writer)
        return;
    if (writer->fd >= 0)
        close(writer->fd);
    if (writer->temp && !writer->committed)
        unlink(writer->temp);
    at_arena_release(&writer->arena);
    at_free(inout);
}

enum at_status at_file_check_writable(const char *path)
{
    struct at_writer *writer = NULL;
    enum at_status st = AT_OK;

    if (at_path_is_dir(path))
        TRY(fail_write(path, EISDIR));
    TRY(at_writer_open(&writer, path));
done:
    at_writer_close(&writer);
    return st;
}

enum at_status at_file_write_atomic(const char *path, const void *bytes, size_t n)
{
    struct at_writer *writer;
    enum at_status st = AT_OK;
    TRY(at_writer_open(&writer, path));
    TRY(at_writer_put(writer, bytes, n));
    TRY(at_writer_commit(writer));
done:
    at_writer_close(&writer);
    return st;
}

struct at_lock {
    int fd;
};

enum at_status at_lock_take(struct at_lock **out, const char *path)
{
    enum at_status st = AT_OK;
    struct at_lock *lock = NULL;

    *out = NULL;
    TRY(at_alloc(&lock, 1, sizeof *lock));
    lock->fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0666);
    if (lock->fd < 0)
        TRY(fail_write(path, errno));
    if (flock(lock->fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            TRY(fail_write(path, errno));
        FAIL(AT_CANNOT_WRITE,
             "%s: another process writes it; wait for its end, or name another "
             "file",
             path);
    }
    *out = lock;
    lock = NULL;
done:
    at_lock_release(&lock);
    return st;
}

void at_lock_release(struct at_lock **inout)
{
    if (*inout && (*inout)->fd >= 0)
        close((*inout)->fd);
    at_free(inout);
}

struct at_log {
    int fd;
    char *path;
    struct at_arena arena;
};

static enum at_status keep_bytes(struct at_log *log, uint64_t keep)
{
    struct stat info;
    if (fstat(log->fd, &info) != 0)
        return fail_write(log->path, errno);
    if (!S_ISREG(info.st_mode))
        return AT_OK;
    if ((uint64_t)info.st_size < keep)
        return at_fail(AT_INTEGRITY, "%s has %llu bytes and should have at least %llu", log->path,
                       (unsigned long long)info.st_size, (unsigned long long)keep);
    return ftruncate(log->fd, (off_t)keep) == 0 ? AT_OK : fail_write(log->path, errno);
}

enum at_status at_log_open(struct at_log **out, const char *path, uint64_t keep)
{
    *out = NULL;
    enum at_status st = AT_OK;
    struct at_log *log = NULL;
    TRY(at_alloc(&log, 1, sizeof *log));
    log->fd = -1;
    TRY(at_arena_strdup(&log->arena, &log->path, path));
    do
        log->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    while (log->fd < 0 && errno == EINTR);
    if (log->fd < 0)
        TRY(fail_create(path, errno));
    TRY(keep_bytes(log, keep));
    *out = log;
    log = NULL;
done:
    at_log_close(&log);
    return st;
}

enum at_status at_log_line(struct at_log *log, const char *line, size_t n)
{
    struct iovec parts[2] = { { (void *)(uintptr_t)line, n }, { (char[]){ '\n' }, 1 } };
    ssize_t put;
    do
        put = writev(log->fd, parts, 2);
    while (put < 0 && errno == EINTR);
    if (put < 0)
        return fail_write(log->path, errno);
    size_t done = (size_t)put; /* short only when the disk fills up or a signal came */
    enum at_status st = AT_OK;
    if (done < n)
        st = write_all(log->fd, line + done, n - done, log->path);
    if (st == AT_OK && done <= n)
        st = write_all(log->fd, "\n", 1, log->path);
    return st;
}

enum at_status at_log_put(struct at_log *log, const void *bytes, size_t n)
{
    return write_all(log->fd, bytes, n, log->path);
}

enum at_status at_log_sync(struct at_log *log, uint64_t *out_bytes)
{
    struct stat info;
    if (fsync(log->fd) != 0 && errno != EINVAL)
        return fail_write(log->path, errno);
    if (fstat(log->fd, &info) != 0)
        return fail_write(log->path, errno);
    *out_bytes = (uint64_t)info.st_size;
    return AT_OK;
}

void at_log_close(struct at_log **inout)
{
    struct at_log *log = *inout;
    if (!log)
        return;
    if (log->fd >= 0)
        close(log->fd);
    at_arena_release(&log->arena);
    at_free(inout);
}

bool at_path_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

bool at_path_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

bool at_dir_is_empty(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir)
        return !at_path_exists(path);
    const struct dirent *entry;
    do
        entry = readdir(dir);
    while (entry && is_dots(entry->d_name));
    closedir(dir);
    return !entry;
}

enum at_status at_dir_create(const char *path)
{
    struct at_arena arena = { 0 };
    enum at_status st = AT_OK;
    char *part;
    TRY(at_arena_strdup(&arena, &part, path));
    for (char *end = part; *end;) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        char kept = *end;
        *end = 0;
        if (mkdir(part, 0777) != 0 && !at_path_is_dir(part))
            TRY(fail_write(path, errno));
        *end = kept;
    }
done:
    at_arena_release(&arena);
    return st;
}

enum at_status at_dir_check_writable(const char *path)
{
    struct at_arena arena = { 0 };
    enum at_status st = AT_OK;
    char *dir = NULL, *probe = NULL;

    TRY(at_arena_strdup(&arena, &dir, path));
    while (!at_path_exists(dir) && strcmp(dir, ".") != 0)
        TRY(at_path_dir(&arena, &dir, dir));
    TRY(at_arena_printf(&arena, &probe, "%s/.attune-%ld", dir, (long)getpid()));
    if (mkdir(probe, 0777) != 0 || rmdir(probe) != 0)
        TRY(fail_write(path, errno));
done:
    at_arena_release(&arena);
    return st;
}

enum at_status at_dir_rename(const char *from, const char *to)
{
    struct at_arena arena = { 0 };
    enum at_status st = AT_OK;
    if (at_path_exists(to))
        TRY(fail_write(to, EEXIST));
    if (rename(from, to) != 0)
        TRY(fail_write(to, errno));
    TRY(sync_folder(&arena, to));
done:
    at_arena_release(&arena);
    return st;
}

enum at_status at_file_remove(const char *path)
{
    return unlink(path) != 0 && errno != ENOENT ? fail_write(path, errno) : AT_OK;
}

enum at_status at_dir_remove(const char *path)
{
    struct at_arena arena = { 0 };
    enum at_status st = AT_OK;
    char **names = NULL, *file = NULL;
    size_t n = 0;
    if (!at_path_exists(path))
        goto done;
    TRY(at_dir_list(&arena, &names, &n, path));
    for (size_t i = 0; i < n; i++) {
        TRY(at_path_join(&arena, &file, path, names[i]));
        TRY(at_file_remove(file));
    }
    if (rmdir(path) != 0)
        TRY(fail_write(path, errno));
done:
    at_arena_release(&arena);
    return st;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum at_status at_dir_list(struct at_arena *arena, char ***out_names, size_t *out_n,
                           const char *path)
{
    *out_names = NULL;
    *out_n = 0;
    enum at_status st = AT_OK;
    char **names = NULL;
    size_t n = 0, capacity = 0;
    DIR *dir = opendir(path);
    if (!dir) {
        st = fail_read(path, errno);
        goto done;
    }
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry && errno != 0)
            TRY(fail_read(path, errno));
        if (!entry)
            break;
        if (is_dots(entry->d_name))
            continue;
        if (n == capacity) {
            TRY(at_realloc(&names, n, n * 2 + 16, sizeof *names));
            capacity = n * 2 + 16;
        }
        TRY(at_arena_strdup(arena, &names[n], entry->d_name));
        n++;
    }
    TRY(at_arena_alloc(arena, out_names, n, sizeof **out_names));
    if (n > 0) {
        qsort(names, n, sizeof *names, compare_names);
        memcpy(*out_names, names, n * sizeof *names);
    }
    *out_n = n;
done:
    at_free(&names);
    if (dir)
        closedir(dir);
    return st;
}

enum at_status at_path_join(struct at_arena *arena, char **out, const char *dir, const char *name)
{
    if (dir[0] == 0 || name[0] == '/')
        return at_arena_strdup(arena, out, name);
    const char *slash = dir[strlen(dir) - 1] == '/' ? "" : "/";
    return at_arena_printf(arena, out, "%s%s%s", dir, slash, name);
}

enum at_status at_path_dir(struct at_arena *arena, char **out, const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n > 0 ? at_arena_strndup(arena, out, path, n) : at_arena_strdup(arena, out, ".");
}

enum at_status at_path_real(struct at_arena *arena, char **out, const char *path)
{
    char *real = realpath(path, NULL);
    if (!real)
        return fail_read(path, errno);
    enum at_status st = at_arena_strdup(arena, out, real);
    free(real);
    return st;
}
