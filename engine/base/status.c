#include "status.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_SIZE = 1024, MAX_KINDS = 64 };

static const struct {
    int exit_code;
    const char *text;
} statuses[] = {
#define STATUS(name, code, text) [AT_##name] = { code, text },
#include "status.def"
#undef STATUS
};

static _Thread_local char message[MESSAGE_SIZE];

/* The mutex of the warning table. A spin lock, because threads belong to os_*.c and the table is
 * held for a few comparisons only. */
static atomic_flag warn_lock = ATOMIC_FLAG_INIT;
/* Held while a warning is counted and shown, outside of warn_lock: the sink may ask for counts. */
static atomic_flag sink_lock = ATOMIC_FLAG_INIT;
static struct {
    const char *kind;
    size_t count;
    char first[MESSAGE_SIZE]; /* its first warning; under sink_lock */
} warn_kinds[MAX_KINDS];
static at_warn_sink *_Atomic warn_sink;
static atomic_bool warn_muted;

int at_exit_code(enum at_status status)
{
    AT_REQUIRE((size_t)status < AT_COUNT(statuses));
    return statuses[status].exit_code;
}

const char *at_status_text(enum at_status status)
{
    AT_REQUIRE((size_t)status < AT_COUNT(statuses));
    return statuses[status].text;
}

/* Text that was cut at the buffer's end: drop a broken UTF-8 character, show the cut. */
static void mark_cut(char text[MESSAGE_SIZE])
{
    size_t n = MESSAGE_SIZE - sizeof "...";
    while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80)
        n--;
    memcpy(text + n, "...", sizeof "...");
}

/* Messages quote names and keys from foreign files: no escape sequence may reach a terminal. */
static void neutralise(char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text, next = (unsigned char)text[1];
        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F)
            *text = '?';
        if (c == 0xC2 && next >= 0x80 && next < 0xA0) /* C1: U+009B is another ESC [ */
            text[0] = text[1] = '?';
    }
}

static void __attribute__((format(printf, 2, 0)))
format_text(char text[MESSAGE_SIZE], const char *format, va_list args)
{
    int n = vsnprintf(text, MESSAGE_SIZE, format, args);
    if (n < 0)
        text[0] = 0;
    else if (n >= MESSAGE_SIZE)
        mark_cut(text);
    neutralise(text);
}

enum at_status at_fail(enum at_status status, const char *format, ...)
{
    AT_REQUIRE(status != AT_OK);
    char text[MESSAGE_SIZE]; /* the arguments may include at_message() */
    va_list args;
    va_start(args, format);
    format_text(text, format, args);
    va_end(args);
    memcpy(message, text, sizeof message);
    return status;
}

void at_context(const char *format, ...)
{
    char text[MESSAGE_SIZE], whole[MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    format_text(text, format, args);
    va_end(args);
    int n = snprintf(whole, sizeof whole, "%s: %s", text, message);
    if (n >= MESSAGE_SIZE)
        mark_cut(whole);
    memcpy(message, whole, sizeof message);
}

const char *at_message(void)
{
    return message;
}

static void lock(atomic_flag *flag)
{
    while (atomic_flag_test_and_set_explicit(flag, memory_order_acquire))
        continue;
}

static void unlock(atomic_flag *flag)
{
    atomic_flag_clear_explicit(flag, memory_order_release);
}

void at_warn_mute(bool on)
{
    atomic_store(&warn_muted, on);
}

void at_warn(const char *kind, const char *format, ...)
{
    if (atomic_load(&warn_muted))
        return;
    lock(&sink_lock);
    lock(&warn_lock);
    size_t i = 0;
    while (i < MAX_KINDS && warn_kinds[i].kind && strcmp(warn_kinds[i].kind, kind) != 0)
        i++;
    if (i < MAX_KINDS) {
        warn_kinds[i].kind = kind;
        warn_kinds[i].count++;
    }
    unlock(&warn_lock);
    if (i == MAX_KINDS)
        AT_BUG("more than %d kinds of warnings (\"%s\")", MAX_KINDS, kind);

    at_warn_sink *sink = atomic_load(&warn_sink);
    char text[MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    format_text(text, format, args);
    va_end(args);
    for (char *c = text; *c; c++) /* a warning is one line */
        if (*c == '\n')
            *c = ' ';
    if (!*warn_kinds[i].first)
        memcpy(warn_kinds[i].first, text, sizeof text);
    if (sink)
        sink(kind, text);
    unlock(&sink_lock);
}

void at_warn_set_sink(at_warn_sink *sink)
{
    atomic_store(&warn_sink, sink);
}

size_t at_warn_count(const char *kind)
{
    size_t count = 0;
    lock(&warn_lock);
    for (size_t i = 0; i < MAX_KINDS && warn_kinds[i].kind; i++)
        if (!kind || strcmp(warn_kinds[i].kind, kind) == 0)
            count += warn_kinds[i].count;
    unlock(&warn_lock);
    return count;
}

void at_warn_each(at_warn_taker *take, void *context)
{
    lock(&sink_lock);
    for (size_t i = 0; i < MAX_KINDS && warn_kinds[i].kind; i++)
        take(context, warn_kinds[i].kind, warn_kinds[i].count, warn_kinds[i].first);
    unlock(&sink_lock);
}

_Noreturn void at_bug(const char *file, int line, const char *format, ...)
{
    fprintf(stderr, "attune: bug at %s:%d: ", file, line);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}
