#include "jinja_parts.h"
#include "tokenizer_parts.h"

#include <stdio.h>

struct lexer {
    struct at_lexemes *out;
    struct at_arena *arena;
    const char *name, *s;
    size_t n, i;
    uint32_t line;
    bool line_starts; /* the last match ended a line */
    char open[AT_MAX_NESTING];
    unsigned n_open;
};

static enum at_status AT_PRINTF(2, 3) fail(const struct lexer *x, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 forgets va_start() */
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return at_fail(AT_DATA, "%s: line %u: %s", x->name, x->line, text);
}

static AT_CHECKED push(struct lexer *x, enum at_lexeme_kind kind, const char *s, size_t n)
{
    enum at_status st = AT_OK;
    struct at_lexemes *out = x->out;

    if (out->n == out->capacity) {
        const size_t capacity = out->capacity ? 2 * out->capacity : 256;
        TRY(at_realloc(&out->data, out->capacity, capacity, sizeof *out->data));
        out->capacity = capacity;
    }
    out->data[out->n++] = (struct at_lexeme){ kind, x->line, s, n };
done:
    return st;
}

/* ---- the text ---- */

static void advance(struct lexer *x, size_t to)
{
    for (; x->i < to; x->i++)
        x->line += x->s[x->i] == '\n';
}

static size_t skip_blanks(const struct lexer *x, size_t i)
{
    for (size_t n = 0; i < x->n && at_is_python_space(at_utf8_get(x->s + i, &n));)
        i += n;
    return i;
}

static bool looking_at(const struct lexer *x, size_t i, const char *word)
{
    const size_t n = strlen(word);

    return n <= x->n - i && memcmp(x->s + i, word, n) == 0;
}

static bool is_sign(const struct lexer *x, size_t i)
{
    return i < x->n && (x->s[i] == '-' || x->s[i] == '+');
}

/* Data before a tag at `end`, without the blanks that the tag takes away. */
static AT_CHECKED push_data(struct lexer *x, size_t end, char sign, bool takes_indent)
{
    struct at_value data = at_v_text(x->s + x->i, end - x->i);

    if (sign == '-') {
        data = at_text_strip(&data, NULL, false, true);
    } else if (sign != '+' && takes_indent) {
        size_t line = data.n;
        while (line > 0 && data.s[line - 1] != '\n')
            line--;
        struct at_value rest = at_v_text(data.s + line, data.n - line);
        if ((line > 0 || x->line_starts) && at_text_strip(&rest, NULL, true, false).n == 0)
            data.n = line;
    }
    return data.n > 0 ? push(x, AT_LEX_DATA, data.s, data.n) : AT_OK;
}

/* Behind the end of a tag that stands at `i` without its sign: what it takes of the text. */
static size_t behind_tag(const struct lexer *x, size_t i, char sign, bool takes_newline)
{
    i += 2;
    if (sign == '-')
        return skip_blanks(x, i);
    if (sign != '+' && takes_newline && i < x->n && x->s[i] == '\n')
        i++;
    return i;
}

static void move_behind(struct lexer *x, size_t to)
{
    advance(x, to);
    x->line_starts = to > 0 && x->s[to - 1] == '\n';
}

/* The end of a tag `{% word %}` whose word may stand at i; 0 when it does not. A newline behind
 * it goes with the tag where `newline`. */
static size_t word_tag_end(const struct lexer *x, size_t i, const char *word, bool newline)
{
    char sign = 0;

    i = skip_blanks(x, i);
    if (!looking_at(x, i, word))
        return 0;
    i = skip_blanks(x, i + strlen(word));
    if (is_sign(x, i) && (newline || x->s[i] == '-'))
        sign = x->s[i++];
    return looking_at(x, i, "%}") ? behind_tag(x, i, sign, newline) : 0;
}

static AT_CHECKED lex_raw(struct lexer *x, size_t begin)
{
    enum at_status st = AT_OK;

    move_behind(x, begin);
    for (size_t i = begin; i + 2 <= x->n; i++) {
        size_t end;
        if (!looking_at(x, i, "{%"))
            continue;
        /* NOLINTNEXTLINE(bugprone-narrowing-conversions): ASCII */
        const char sign = is_sign(x, i + 2) ? x->s[i + 2] : 0;
        end = word_tag_end(x, i + 2 + (sign != 0), "endraw", true);
        if (end == 0)
            continue;
        TRY(push_data(x, i, sign, true));
        move_behind(x, end);
        goto done;
    }
    st = fail(x, "{%% raw %%} has no {%% endraw %%}");
done:
    return st;
}

static AT_CHECKED lex_comment(struct lexer *x)
{
    const size_t begin = x->i;

    for (size_t i = begin; i + 2 <= x->n; i++)
        if (looking_at(x, i, "#}")) {
            /* NOLINTNEXTLINE(bugprone-narrowing-conversions): ASCII */
            const char sign = i > begin && is_sign(x, i - 1) ? x->s[i - 1] : 0;
            move_behind(x, behind_tag(x, i, sign, true));
            return AT_OK;
        }
    return fail(x, "a comment does not end");
}

/* ---- inside of tags ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \ooo, \xHH, \uHHHH, \UHHHHHHHH behind the backslash; 0 when it is none of them. */
static size_t read_code(uint32_t *code, const char *s, size_t n)
{
    const char *const kinds = "xuU";
    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): bytes with a length */
    const char *kind = n > 0 ? memchr(kinds, s[0], 3) : NULL;
    size_t i = 0;

    *code = 0;
    if (!kind) {
        for (; i < n && i < 3 && s[i] >= '0' && s[i] <= '7'; i++)
            *code = *code * 8 + (uint32_t)(s[i] - '0');
        return i;
    }
    const size_t digits = (size_t)2 << (kind - kinds);
    for (i = 1; i <= digits; i++) {
        if (i >= n || hex_digit(s[i]) < 0)
            return SIZE_MAX;
        *code = *code << 4 | (uint32_t)hex_digit(s[i]);
    }
    return i;
}

static AT_CHECKED put_escape(struct lexer *x, struct at_buf *out, const char *s, size_t n,
                             size_t *used)
{
    static const char from[] = "\n\\'\"abfnrtv", to[] = "\0\\'\"\a\b\f\n\r\t\v";
    enum at_status st = AT_OK;
    const char *plain = memchr(from, s[0], sizeof from - 1);
    char utf8[4];
    uint32_t code;

    if (plain) {
        at_buf_put(out, to + (plain - from), s[0] != '\n');
        *used = 1;
        goto done;
    }
    *used = read_code(&code, s, n);
    if (*used == SIZE_MAX || s[0] == 'N' || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        TRY(fail(x, "the escape \\%c in a string is damaged or not supported", s[0]));
    if (*used > 0)
        at_buf_put(out, utf8, at_utf8_put(utf8, code));
    else
        at_buf_puts(out, "\\"); /* Python keeps what is no escape */
done:
    return st;
}

static AT_CHECKED lex_string(struct lexer *x)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    char *copy = NULL;
    const char quote = x->s[x->i];
    size_t i = x->i + 1;

    for (; i < x->n && x->s[i] != quote; i++) {
        size_t used = 0;
        if (x->s[i] != '\\') {
            at_buf_put(&text, x->s + i, 1);
            continue;
        }
        if (i + 1 >= x->n)
            break;
        TRY(put_escape(x, &text, x->s + i + 1, x->n - i - 1, &used));
        i += used;
    }
    if (i >= x->n)
        TRY(fail(x, "a string does not end"));
    TRY(at_buf_status(&text));
    TRY(at_arena_strndup(x->arena, &copy, text.data ? text.data : "", text.n));
    TRY(push(x, AT_LEX_STRING, copy, text.n));
    advance(x, i + 1);
done:
    at_buf_release(&text);
    return st;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Digits with single underscores between them. */
static size_t digits_end(const struct lexer *x, size_t i)
{
    while (i < x->n &&
           (is_digit(x->s[i]) || (x->s[i] == '_' && i + 1 < x->n && is_digit(x->s[i + 1]))))
        i++;
    return i;
}

static AT_CHECKED lex_number(struct lexer *x)
{
    enum at_status st = AT_OK;
    const size_t begin = x->i;
    size_t end = digits_end(x, begin);
    bool is_float = false;

    if (x->s[begin] == '0' && begin + 1 < x->n && strchr("xXoObB", x->s[begin + 1]) &&
        x->s[begin + 1])
        TRY(fail(x, "numbers such as 0x1F are not supported"));
    if (begin == 0 || x->s[begin - 1] != '.') { /* x.0.1 is no float */
        if (end + 1 < x->n && x->s[end] == '.' && is_digit(x->s[end + 1])) {
            end = digits_end(x, end + 1);
            is_float = true;
        }
        if (end < x->n && (x->s[end] == 'e' || x->s[end] == 'E')) {
            const size_t power = end + 1 + is_sign(x, end + 1);
            if (power < x->n && is_digit(x->s[power])) {
                end = digits_end(x, power);
                is_float = true;
            }
        }
    }
    TRY(push(x, is_float ? AT_LEX_FLOAT : AT_LEX_INTEGER, x->s + begin, end - begin));
    advance(x, end);
done:
    return st;
}

static AT_CHECKED lex_operator(struct lexer *x)
{
    static const char *const operators[] = { "//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                             "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                             ">",  "<",  "=",  ".",  ":",  "|",  ",", ";" };
    static const char opening[] = "([{", closing[] = ")]}";
    enum at_status st = AT_OK;
    const char c = x->s[x->i];
    size_t k = 0;

    while (k < AT_COUNT(operators) && !looking_at(x, x->i, operators[k]))
        k++;
    if (k == AT_COUNT(operators)) {
        size_t length;
        (void)at_utf8_get(x->s + x->i, &length);
        TRY(fail(x, "the character '%.*s' is not expected here", (int)length, x->s + x->i));
    }
    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): bytes with a length */
    if (memchr(opening, c, 3)) {
        if (x->n_open == AT_MAX_NESTING)
            TRY(fail(x, "brackets are nested deeper than %d", AT_MAX_NESTING));
        x->open[x->n_open++] = c;
        /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): bytes with a length */
    } else if (memchr(closing, c, 3)) {
        /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): bytes with a length */
        const char *own = memchr(closing, c, 3);
        if (x->n_open == 0 || x->open[x->n_open - 1] != opening[own - closing])
            TRY(fail(x, "'%c' closes nothing that is open", c));
        x->n_open--;
    }
    TRY(push(x, AT_LEX_OPERATOR, x->s + x->i, strlen(operators[k])));
    advance(x, x->i + strlen(operators[k]));
done:
    return st;
}

static AT_CHECKED lex_token(struct lexer *x)
{
    const char c = x->s[x->i];
    size_t end = x->i;

    if (is_letter(c)) {
        while (end < x->n && (is_letter(x->s[end]) || is_digit(x->s[end])))
            end++;
        const enum at_status st = push(x, AT_LEX_NAME, x->s + x->i, end - x->i);
        x->i = end;
        return st;
    }
    if (is_digit(c))
        return lex_number(x);
    return c == '\'' || c == '"' ? lex_string(x) : lex_operator(x);
}

/* From behind "{{" or "{%" to behind the end of the tag. */
static AT_CHECKED lex_tag(struct lexer *x, bool block)
{
    enum at_status st = AT_OK;
    const char *end = block ? "%}" : "}}";

    x->n_open = 0;
    for (;;) {
        advance(x, skip_blanks(x, x->i));
        const bool sign = is_sign(x, x->i) && (block || x->s[x->i] == '-');
        if (x->i >= x->n)
            TRY(fail(x, "a tag does not end"));
        if (x->n_open == 0 && looking_at(x, x->i + sign, end)) {
            TRY(push(x, block ? AT_LEX_BLOCK_END : AT_LEX_VARIABLE_END, x->s + x->i, 2));
            /* NOLINTNEXTLINE(bugprone-narrowing-conversions): ASCII */
            move_behind(x, behind_tag(x, x->i + sign, sign ? x->s[x->i] : 0, block));
            goto done;
        }
        TRY(lex_token(x));
    }
done:
    return st;
}

static AT_CHECKED lex_text(struct lexer *x)
{
    enum at_status st = AT_OK;

    while (x->i < x->n) {
        size_t at = x->i, end = 0;
        /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): bytes with a length */
        while (at < x->n && !(x->s[at] == '{' && at + 1 < x->n && memchr("{%#", x->s[at + 1], 3)))
            at++;
        if (at == x->n) {
            TRY(push(x, AT_LEX_DATA, x->s + x->i, x->n - x->i));
            break;
        }
        /* NOLINTNEXTLINE(bugprone-narrowing-conversions): ASCII */
        const char kind = x->s[at + 1], sign = is_sign(x, at + 2) ? x->s[at + 2] : 0;
        TRY(push_data(x, at, sign, kind != '{'));
        advance(x, at + 2 + (sign != 0));
        if (kind == '%' && (end = word_tag_end(x, x->i, "raw", false)) > 0) {
            TRY(lex_raw(x, end));
        } else if (kind == '#') {
            TRY(lex_comment(x));
        } else {
            TRY(push(x, kind == '%' ? AT_LEX_BLOCK_BEGIN : AT_LEX_VARIABLE_BEGIN, x->s + at, 2));
            TRY(lex_tag(x, kind == '%'));
        }
    }
done:
    return st;
}

/* Every end of line becomes "\n"; one at the end of the text is left out. */
static AT_CHECKED normalise(char **out, size_t *out_n, struct at_arena *arena, const char *text,
                            size_t n)
{
    enum at_status st = AT_OK;
    size_t length = 0;

    TRY(at_arena_strndup(arena, out, text, n));
    for (size_t i = 0; i < n; i++) {
        /* NOLINTNEXTLINE(bugprone-narrowing-conversions): ASCII */
        (*out)[length++] = text[i] == '\r' ? '\n' : text[i];
        if (text[i] == '\r' && i + 1 < n && text[i + 1] == '\n')
            i++;
    }
    *out_n = length - (length > 0 && (*out)[length - 1] == '\n');
done:
    return st;
}

AT_CHECKED at_jinja_lex(struct at_lexemes *out, struct at_arena *arena, const char *text, size_t n,
                        const char *name)
{
    enum at_status st = AT_OK;
    struct lexer x = { .out = out, .arena = arena, .name = name, .line = 1, .line_starts = true };
    char *copy = NULL;

    if (at_utf8_check(text, n) < n)
        FAIL(AT_DATA, "%s: the template is not valid UTF-8", name);
    TRY(normalise(&copy, &x.n, arena, text, n));
    x.s = copy;
    TRY(lex_text(&x));
    TRY(push(&x, AT_LEX_END, "", 0));
done:
    return st;
}
