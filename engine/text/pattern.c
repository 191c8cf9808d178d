#include "tokenizer_parts.h"

#include <stdio.h>
#include <string.h>

enum {
    MATCH_LIMIT = 20000000, /* steps of the matcher for one piece */
    HEAP_LIMIT_KIB = 262144
};

const char at_pattern_gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
                               "\\s+(?!\\S)|\\s+";

/* What Oniguruma's \w means in a class, and the same with what it has beside outside of one
 * (compared over all of Unicode); PCRE2's lacks marks and connectors. */
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define ALONE "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}" WORD

static void *allocate(size_t n, void *unused)
{
    void *p = NULL;

    (void)unused;
    return at_alloc(&p, n, 1) == AT_OK ? p : NULL;
}

static void release(void *p, void *unused)
{
    (void)unused;
    at_free(&p);
}

/* A group's opening bracket at p: what may follow it means the same in both engines. */
static bool group_is_plain(const char *p)
{
    static const char *const known[] = { "?:", "?i:", "?i)", "?=", "?!", "?<=", "?<!" };

    if (p[1] != '?')
        return p[1] != '*';
    for (size_t i = 0; i < AT_COUNT(known); i++)
        if (strncmp(p + 1, known[i], strlen(known[i])) == 0)
            return true;
    return false;
}

/* Length of what stands at p and cannot be taken over; 0 when all is well. */
static size_t foreign(const char *p, bool in_class)
{
    if (p[0] == '\\')
        return p[1] == 0                                    ? 1
               : strchr("sSdDpPrntfw", p[1])                ? 0
               : !in_class && strchr("Wb", p[1])            ? 0
               : (p[1] >= '0' && p[1] <= '9')               ? 2
               : ((p[1] | 32) >= 'a' && (p[1] | 32) <= 'z') ? 2
                                                            : 0;
    if (in_class)
        return p[0] == '[' ? 1 : strncmp(p, "&&", 2) == 0 ? 2 : 0;
    if (p[0] == '(')
        return group_is_plain(p) ? 0 : 3;
    if (p[0] == '[')
        return p[1] == ']' || strncmp(p, "[^]", 3) == 0 ? 2 : 0;
    return strncmp(p, "}+", 2) == 0 || strncmp(p, "{,", 2) == 0 ? 2 : 0;
}

/* An escape that PCRE2 understands otherwise than Oniguruma; NULL: it does not. */
static const char *meaning(char escape, bool in_class)
{
    switch (escape) {
    case 's': /* PCRE2's has U+180E, too */
        return "\\p{White_Space}";
    case 'S':
        return "\\P{White_Space}";
    case 'w':
        return in_class ? WORD : "[" ALONE "]";
    case 'W':
        return "[^" ALONE "]";
    case 'b':
        return "(?:(?<=[" ALONE "])(?![" ALONE "])|(?<![" ALONE "])(?=[" ALONE "]))";
    default:
        return NULL;
    }
}

/* Whether a property is a script, for which PCRE2 from 10.40 on takes the scripts' extensions, too,
 * unless it is asked for the script. */
static bool is_script(const char *property, size_t n)
{
    char pattern[64];
    size_t at = 0;
    int code = 0;
    const int length = snprintf(pattern, sizeof pattern, "\\p{sc:%.*s}", (int)n, property);
    pcre2_code *script = NULL;

    if (n < 3 || n > 40)
        return false;
    script = pcre2_compile((PCRE2_SPTR)pattern, (size_t)length, PCRE2_UTF, &code, &at, NULL);
    pcre2_code_free(script);
    return script != NULL;
}

/* p: at the letter of \p{...} or \P{...}. Returns its last character. */
static const char *put_property(struct at_buf *out, const char *p)
{
    const char *name = p + 2, *end = strchr(p, '}');
    const bool inverse = *name == '^';

    if (!end)
        end = p + strlen(p) - 1;
    name += inverse;
    if (end > name && is_script(name, (size_t)(end - name)))
        at_buf_printf(out, "\\%c{sc:%.*s}", inverse == (*p == 'P') ? 'p' : 'P', (int)(end - name),
                      name);
    else
        at_buf_printf(out, "\\%.*s", (int)(end - p + 1), p);
    return end;
}

static AT_CHECKED translate(struct at_buf *out, const char *pattern, const char *name)
{
    enum at_status st = AT_OK;
    bool in_class = false;

    for (const char *p = pattern; *p; p++) {
        const size_t bad = foreign(p, in_class);
        if (bad > 0)
            FAIL(AT_DATA, "%s: the pattern has \"%.*s\", which is not built in this version: %s",
                 name, (int)bad, p, pattern);
        if (*p == '\\') {
            const char *other = meaning(*++p, in_class);
            if (other)
                at_buf_puts(out, other);
            else if ((*p | 32) == 'p' && p[1] == '{') /* its braces are no repetition */
                p = put_property(out, p);
            else
                at_buf_printf(out, "\\%c", *p);
            continue;
        }
        in_class = *p == '[' || (in_class && *p != ']');
        at_buf_put(out, p, 1);
    }
    TRY(at_buf_status(out));
done:
    return st;
}

static AT_CHECKED compile(pcre2_code **out, const char *pattern, size_t n, uint32_t options,
                          const char *name)
{
    enum at_status st = AT_OK;
    pcre2_general_context *general = pcre2_general_context_create(allocate, release, NULL);
    pcre2_compile_context *context = general ? pcre2_compile_context_create(general) : NULL;
    int code;
    size_t at;

    if (!context)
        FAIL(AT_MEMORY, "%s: no memory for a pattern", name);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    *out = pcre2_compile((PCRE2_SPTR)pattern, n, options | PCRE2_UTF, &code, &at, context);
    if (!*out) {
        char reason[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
        FAIL(AT_DATA, "%s: the pattern is wrong (%s): %s", name, reason, pattern);
    }
    (void)pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE); /* without it the matcher is slower */
done:
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    return st;
}

AT_CHECKED at_pattern_compile(pcre2_code **out, const char *pattern, const char *name)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };

    TRY(translate(&text, pattern, name));
    TRY(compile(out, text.data ? text.data : "", text.n, PCRE2_UCP | PCRE2_MULTILINE, name));
done:
    at_buf_release(&text);
    return st;
}

AT_CHECKED at_pattern_compile_literal(pcre2_code **out, const char *text, const char *name)
{
    return compile(out, text, strlen(text), PCRE2_LITERAL, name);
}

AT_CHECKED at_matcher_init(struct at_matcher *out)
{
    enum at_status st = AT_OK;
    pcre2_general_context *general = pcre2_general_context_create(allocate, release, NULL);

    out->match = pcre2_match_data_create(1, general);
    out->limits = pcre2_match_context_create(general);
    if (!out->match || !out->limits)
        FAIL(AT_MEMORY, "no memory for cutting a text into words");
    pcre2_set_match_limit(out->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(out->limits, HEAP_LIMIT_KIB);
done:
    pcre2_general_context_free(general);
    return st;
}

void at_matcher_release(struct at_matcher *matcher)
{
    pcre2_match_data_free(matcher->match);
    pcre2_match_context_free(matcher->limits);
}

AT_CHECKED at_matcher_find(struct at_matcher *m, const pcre2_code *code, size_t *begin, size_t *end,
                           const char *text, size_t n, size_t from)
{
    enum at_status st = AT_OK;
    const PCRE2_SIZE *place = pcre2_get_ovector_pointer(m->match);
    int found =
        pcre2_match(code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, m->match, m->limits);

    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found = pcre2_match(code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                            m->match, m->limits);
    *begin = *end = n;
    if (found == PCRE2_ERROR_NOMATCH)
        goto done;
    if (found == PCRE2_ERROR_NOMEMORY)
        FAIL(AT_MEMORY, "no memory for cutting a text into words");
    if (found < 0)
        FAIL(AT_DATA,
             "a text of %zu bytes cannot be cut into words: the pattern's limit is reached "
             "at byte %zu",
             n, from);
    *begin = place[0];
    *end = place[1];
done:
    return st;
}
