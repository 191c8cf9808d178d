/* Statuses and messages. Fallible functions return enum at_status, are marked AT_CHECKED and write
 * their result through the first parameter. The failing site sets a thread-local sentence (what,
 * where, what to do) with FAIL; callers may put context in front with at_context(). Warnings are
 * counted by kind and shown by the sink that cli installs. A broken invariant is AT_BUG: it prints
 * and aborts in every build. */
#ifndef AT_STATUS_H
#define AT_STATUS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum at_status {
#define STATUS(name, code, text) AT_##name,
#include "status.def"
#undef STATUS
};

#define AT_CHECKED __attribute__((warn_unused_result)) enum at_status
#define AT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define AT_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Process exit code of a status (INTERFACE.md). */
int at_exit_code(enum at_status status);
const char *at_status_text(enum at_status status);

/* Sets the thread's message (at most 1023 bytes, control characters but \n and \t become '?') and
 * returns `status`. The arguments may include at_message(). */
enum at_status at_fail(enum at_status status, const char *format, ...) AT_PRINTF(2, 3);
/* Puts "text: " in front of the thread's message. */
void at_context(const char *format, ...) AT_PRINTF(1, 2);
/* The thread's last message; "" when there is none. Valid until the next at_fail(). */
const char *at_message(void);

/* A warning of one kind (a short fixed word such as "long_row"); `kind` must be a literal. The sink
 * gets every warning, from whatever thread but one at a time and in the order of the counts; it may
 * not warn itself. Without a sink warnings are only counted. */
void at_warn(const char *kind, const char *format, ...) AT_PRINTF(2, 3);
typedef void at_warn_sink(const char *kind, const char *text);
void at_warn_set_sink(at_warn_sink *sink);
/* While it is on, warnings are neither counted nor shown: of what is looked at twice. */
void at_warn_mute(bool on);
/* Number of warnings so far: of one kind, or of all with NULL. */
size_t at_warn_count(const char *kind);
/* Gives each kind so far, in the order in which they came up: the number of its warnings and the
 * text of the first. `take` may neither warn nor call this. */
typedef void at_warn_taker(void *context, const char *kind, size_t n, const char *first);
void at_warn_each(at_warn_taker *take, void *context);

/* A broken invariant of this program: prints file, line and text to stderr, aborts. */
#define AT_BUG(...) at_bug(__FILE__, __LINE__, __VA_ARGS__)
#define AT_REQUIRE(condition) ((condition) ? (void)0 : AT_BUG("%s", #condition))
_Noreturn void at_bug(const char *file, int line, const char *format, ...) AT_PRINTF(3, 4);

/* TRY and FAIL jump to the function's one `done:` label and need a local `enum at_status st`. FAIL
 * assigns the status itself, so that static analysis sees that it is not AT_OK. */
#define TRY(call)        \
    do {                 \
        st = (call);     \
        if (st != AT_OK) \
            goto done;   \
    } while (0)
#define FAIL(status, ...)                        \
    do {                                         \
        const enum at_status failure = (status); \
        at_fail(failure, __VA_ARGS__);           \
        st = failure;                            \
        goto done;                               \
    } while (0)

#endif
