/* Everything asked of the operating system; implemented in os_*.c and nowhere else (tested).
 * Paths are UTF-8, relative to the working directory. Errors name the path and the system's text:
 * AT_NOT_FOUND (missing), AT_IO (reading), AT_CANNOT_WRITE (creating, full disk, permissions). */
#ifndef AT_OS_H
#define AT_OS_H

#include "mem.h"
#include "status.h"

/* A read-only map of a whole file. An empty file has data "" and n 0. */
struct at_map {
    const uint8_t *data;
    size_t n;
};
AT_CHECKED at_map_open(struct at_map *out, const char *path);
/* Tells the system that it is read in long runs, or that bytes [begin, begin + n) are not needed
 * again soon. */
void at_map_in_runs(const struct at_map *map);
void at_map_drop(const struct at_map *map, size_t begin, size_t n);
void at_map_close(struct at_map *map);

/* n zeroed bytes (more than none) that lie in a file without a name in the cache folder, not in
 * memory of the process: the system writes out what it wants room for. AT_CANNOT_WRITE where the
 * folder takes no such file, as on a full disk. Dropped, the bytes are read again when they are
 * needed. */
AT_CHECKED at_spill_open(void **out, size_t n);
void at_spill_drop(void *data, size_t n);
void at_spill_close(void *data, size_t n);

AT_CHECKED at_file_read(struct at_buf *out, const char *path); /* whole file into a fresh buffer */
/* Writes all bytes atomically: temp file beside `path`, fsync, rename, fsync of the folder. */
AT_CHECKED at_file_write_atomic(const char *path, const void *bytes, size_t n);
/* AT_CANNOT_WRITE where that would fail, as far as the folder tells, before there is something to
 * write; leaves nothing behind. */
AT_CHECKED at_file_check_writable(const char *path);

/* A file written in pieces and put in place only by commit; close without commit removes it. */
struct at_writer;
AT_CHECKED at_writer_open(struct at_writer **out, const char *path);
AT_CHECKED at_writer_put(struct at_writer *writer, const void *bytes, size_t n);
AT_CHECKED at_writer_commit(struct at_writer *writer);
void at_writer_close(struct at_writer **inout);

/* A log that is appended to; each at_log_line() is one write() of a whole line, at_log_put() of all
 * its bytes. Opened, it has the first `keep` bytes of what was there (0: it is new); AT_INTEGRITY
 * when those are fewer. */
struct at_log;
AT_CHECKED at_log_open(struct at_log **out, const char *path, uint64_t keep);
AT_CHECKED at_log_line(struct at_log *log, const char *line, size_t n); /* adds '\n' */
AT_CHECKED at_log_put(struct at_log *log, const void *bytes, size_t n);
AT_CHECKED at_log_sync(struct at_log *log, uint64_t *out_bytes); /* all on the disk; its size */
void at_log_close(struct at_log **inout);

/* A file that one process at a time has, created where it is missing; AT_CANNOT_WRITE when another
 * has it. Released, too, when the process ends, however it does. */
struct at_lock;
AT_CHECKED at_lock_take(struct at_lock **out, const char *path);
void at_lock_release(struct at_lock **inout);

bool at_path_exists(const char *path);
bool at_path_is_dir(const char *path);
bool at_dir_is_empty(const char *path);     /* true too when it does not exist */
AT_CHECKED at_dir_create(const char *path); /* with parents; existing is fine */
/* AT_CANNOT_WRITE unless the folder takes files, or can be created to; leaves nothing behind. */
AT_CHECKED at_dir_check_writable(const char *path);
/* Puts a folder in place under a name that is free, with its files, and syncs its parent. */
AT_CHECKED at_dir_rename(const char *from, const char *to);
/* Removes a folder and the files in it; one that is missing is fine. */
AT_CHECKED at_dir_remove(const char *path);
AT_CHECKED at_file_remove(const char *path); /* nothing where there is none */
/* Sorted names (without "." and ".."); strings live in `arena`. */
AT_CHECKED at_dir_list(struct at_arena *arena, char ***out_names, size_t *out_n, const char *path);
/* "dir/name"; "name" alone when dir is "" or name is absolute. In `arena`. */
AT_CHECKED at_path_join(struct at_arena *arena, char **out, const char *dir, const char *name);
/* The folder part of a path ("." when there is none). */
AT_CHECKED at_path_dir(struct at_arena *arena, char **out, const char *path);
/* The absolute path without links; what it names must exist. */
AT_CHECKED at_path_real(struct at_arena *arena, char **out, const char *path);

/* Bits of this processor's vector registers: 512, 256 or 128; 0: not known. With 512 there are 32
 * of them for vectors of any width, else 16. */
unsigned at_cpu_vector_bits(void);
/* Whether a word of the upper half of a vector of 512 bits that was just stored takes more than
 * three times as long to read as one of the lower half, as on an Intel Xeon: 15 cycles against 1.4.
 * Measured, in some 100 us; false where there are no such vectors. */
bool at_cpu_waits_for_upper_half(void);
double at_now_s(void);                    /* monotonic seconds */
double at_wall_s(void);                   /* seconds since 1970 */
double at_cpu_s(void);                    /* processor seconds of this process */
uint64_t at_memory_available_bytes(void); /* least of MemAvailable and the cgroup's room */
uint64_t at_memory_peak_bytes(void);      /* peak resident set of this process */
/* Asks for large pages (2 MiB on x86-64) in memory that nothing has touched yet; a system without
 * them, and memory with no whole one, keep small pages. */
void at_memory_large_pages(void *data, size_t n);
/* Of the file system that holds `dir` or will once it is created; 0 when it cannot be told. */
uint64_t at_disk_free_bytes(const char *dir);
bool at_stream_is_terminal(int fd);
/* SIGINT and SIGTERM set a flag once; the second one ends the process at once. */
void at_signals_install(void);
/* From now on a signal ends a read that waits for input. */
void at_signals_interrupt_reads(void);
int at_signal_pending(void); /* 0, SIGINT or SIGTERM */
/* AT_OK, or AT_INTERRUPTED or AT_TERMINATED when a signal is pending; sets no message. */
enum at_status at_signal_status(void);
/* A program that ran: `sh -c` of a command, in a process group of its own. */
enum { AT_PROCESS_ERR_BYTES = 2048 };
struct at_process_params {
    const void *input; /* on its standard input, which then ends */
    size_t n_input;
    size_t most_bytes; /* of its standard output */
    double timeout_s;
};
struct at_process {
    struct at_buf out; /* its standard output; what comes behind most_bytes is not read */
    struct at_buf err; /* the last AT_PROCESS_ERR_BYTES of its standard error */
    int exit_code;     /* -1: a signal ended it, this program's where one of these is true */
    int signal;
    bool timed_out, too_much;
};
/* Runs until the shell ends; then, and after timeout_s, too much output or a signal to this program
 * (at_signal_status()), what is left of the group is killed, and nothing of it remains. A program
 * that does not read its input is fine. AT_IO when it cannot be started. Release *out always. */
AT_CHECKED at_process_run(struct at_process *out, const char *command,
                          const struct at_process_params *params);
void at_process_release(struct at_process *process);
/* Value of an environment variable, or NULL. The switches are listed in engine/README.md. */
const char *at_env(const char *name);
void at_env_set(const char *name, const char *value); /* value NULL removes it */
/* $XDG_CACHE_HOME/attune or ~/.cache/attune, created. */
AT_CHECKED at_cache_dir(struct at_arena *arena, char **out);
/* Runs work(context, i) for i in [0, n) on up to 16 threads; returns when all have finished.
 * Messages are the thread's own: work that fails keeps status and at_message() in its context. */
void at_parallel_for(size_t n, void (*work)(void *context, size_t i), void *context);

#endif
