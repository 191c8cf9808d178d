/* Texts as Python's str treats them: positions are code points, blanks and case are Unicode's. */
#include "jinja_parts.h"
#include "tokenizer_parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

/* str.isspace(): White_Space and the four separators of ASCII. */
bool at_is_python_space(uint32_t code)
{
    return at_is_space(code) || (code >= 0x1C && code <= 0x1F);
}

size_t at_text_length(const char *s, size_t n)
{
    size_t length = 0;

    for (size_t i = 0; i < n; i++)
        length += ((unsigned char)s[i] & 0xC0) != 0x80;
    return length;
}

size_t at_text_offset(const char *s, size_t n, size_t index)
{
    size_t i = 0;

    for (; index > 0 && i < n; index--)
        for (i++; i < n && ((unsigned char)s[i] & 0xC0) == 0x80;)
            i++;
    return i;
}

/* memmem() is linear for long parts; at each byte it may compare up to SHORT of a short one. */
AT_CHECKED at_text_find(size_t *out, struct at_jinja_run *r, const struct at_value *text,
                        const struct at_value *part, size_t from)
{
    enum { SHORT = 256, SETUP = 32 };
    const size_t compared = part->n < SHORT ? part->n : SHORT;
    const char *found = NULL;
    size_t seen;

    *out = SIZE_MAX;
    if (from > text->n || part->n > text->n - from)
        return AT_OK;
    found = memmem(text->s + from, text->n - from, part->s, part->n);
    seen = found ? (size_t)(found - text->s) - from : text->n - from;
    if (found)
        *out = from + seen;
    return at_run_work(r, SETUP + part->n + seen * (2 + compared / 16));
}

AT_CHECKED at_text_rfind(size_t *out, struct at_jinja_run *r, const struct at_value *text,
                         const struct at_value *part, size_t end)
{
    enum at_status st = AT_OK;
    size_t starts = part->n <= end ? end - part->n + 1 : 0; /* places that are left */

    *out = part->n == 0 ? end : SIZE_MAX;
    while (*out == SIZE_MAX && starts > 0) {
        const char *found = memrchr(text->s, part->s[0], starts);
        const size_t at = found ? (size_t)(found - text->s) : 0;
        TRY(at_run_work(r, 4 + starts - at + part->n / 8));
        if (found && memcmp(found, part->s, part->n) == 0)
            *out = at;
        starts = at;
    }
done:
    return st;
}

static bool is_stripped(uint32_t code, const struct at_value *chars)
{
    if (!chars || chars->type != AT_V_STRING)
        return at_is_python_space(code);
    for (size_t i = 0, n = 0; i < chars->n; i += n)
        if (at_utf8_get(chars->s + i, &n) == code)
            return true;
    return false;
}

struct at_value at_text_strip(const struct at_value *text, const struct at_value *chars, bool left,
                              bool right)
{
    struct at_value out = *text;

    for (size_t n = 0; left && out.n > 0; out.s += n, out.n -= n)
        if (!is_stripped(at_utf8_get(out.s, &n), chars))
            break;
    while (right && out.n > 0) {
        size_t last = out.n - 1, n = 0;
        while (last > 0 && ((unsigned char)out.s[last] & 0xC0) == 0x80)
            last--;
        if (!is_stripped(at_utf8_get(out.s + last, &n), chars))
            break;
        out.n = last;
    }
    return out;
}

static bool ends_line(uint32_t code)
{
    return (code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) || code == 0x85 ||
           code == 0x2028 || code == 0x2029;
}

size_t at_text_line(const char *s, size_t n, size_t *end)
{
    for (size_t i = 0, length = 0; i < n; i += length) {
        if (!ends_line(at_utf8_get(s + i, &length)))
            continue;
        *end = i + length;
        if (s[i] == '\r' && *end < n && s[*end] == '\n')
            (*end)++;
        return i;
    }
    *end = n;
    return n;
}

/* ---- case ---- */

static bool is_cased(uint32_t code)
{
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);

    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT;
}

static void put_code(struct at_buf *out, uint32_t code)
{
    char utf8[4];

    at_buf_put(out, utf8, at_utf8_put(utf8, code));
}

static void put_case(struct at_buf *out, uint32_t code, char how)
{
    const utf8proc_int32_t c = (utf8proc_int32_t)code;

    if (code == 0xDF && how != 'l') /* the one that is common of those that become two */
        at_buf_puts(out, how == 'u' ? "SS" : "Ss");
    else
        put_code(out, (uint32_t)(how == 'u'   ? utf8proc_toupper(c)
                                 : how == 'l' ? utf8proc_tolower(c)
                                              : utf8proc_totitle(c)));
}

AT_CHECKED at_text_case(struct at_value *out, struct at_jinja_run *r, const struct at_value *text,
                        const char *how)
{
    enum at_status st = AT_OK;
    struct at_buf result = { 0 };
    bool inside = false; /* of a word */

    TRY(at_run_work(r, text->n * AT_CODE_WORK));
    for (size_t i = 0, n = 0; i < text->n; i += n) {
        const uint32_t code = at_utf8_get(text->s + i, &n);
        char to = how[0];
        if (how[0] == 'c') /* capitalize */
            to = i == 0 ? 't' : 'l';
        else if (how[0] == 't')
            to = inside ? 'l' : 't';
        else if (how[0] == 's')
            to = utf8proc_category((utf8proc_int32_t)code) == UTF8PROC_CATEGORY_LU ? 'l' : 'u';
        inside = is_cased(code);
        put_case(&result, code, to);
    }
    TRY(at_value_from_buf(out, r, &result));
    out->safe = text->safe;
done:
    at_buf_release(&result);
    return st;
}

/* ---- format strings ---- */

/* Puts the text with blanks or zeros to a width. */
static void put_padded(struct at_buf *out, const char *s, size_t n, size_t width, bool left,
                       bool zeros)
{
    const size_t length = at_text_length(s, n), pad = width > length ? width - length : 0;
    const bool sign = zeros && !left && n > 0 && (s[0] == '-' || s[0] == '+');

    if (sign)
        at_buf_put(out, s, 1);
    for (size_t i = 0; i < pad && !left; i++)
        at_buf_puts(out, zeros ? "0" : " ");
    at_buf_put(out, s + sign, n - sign);
    for (size_t i = 0; i < pad && left; i++)
        at_buf_puts(out, " ");
}

struct conversion {
    bool left, zeros, plus;
    size_t width;
    int precision; /* -1: none */
    char type;
};

/* The flags, width, precision and type behind '%'; its length, 0 when it is not supported. */
static size_t read_conversion(struct conversion *c, const char *s, size_t n)
{
    size_t i = 0;

    *c = (struct conversion){ .precision = -1 };
    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): bytes with a length */
    for (; i < n && memchr("-0+ #", s[i], 5); i++) {
        c->left |= s[i] == '-';
        c->zeros |= s[i] == '0';
        c->plus |= s[i] == '+';
        if (s[i] == ' ' || s[i] == '#')
            return 0;
    }
    for (; i < n && s[i] >= '0' && s[i] <= '9' && c->width < 1000; i++)
        c->width = c->width * 10 + (size_t)(s[i] - '0');
    if (i < n && s[i] == '.')
        for (i++, c->precision = 0; i < n && s[i] >= '0' && s[i] <= '9' && c->precision < 100; i++)
            c->precision = c->precision * 10 + (s[i] - '0');
    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): bytes with a length */
    if (i >= n || !memchr("sdifFrxX", s[i], 8))
        return 0;
    c->type = s[i];
    return i + 1;
}

static AT_CHECKED put_conversion(struct at_buf *out, struct at_jinja_run *r,
                                 const struct conversion *c, const struct at_value *v)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };

    if (c->type == 's' || c->type == 'r') {
        TRY(c->type == 's' ? at_value_put(&text, r, v) : at_value_put_repr(&text, r, v));
        if (c->precision >= 0)
            text.n = at_text_offset(text.data ? text.data : "", text.n, (size_t)c->precision);
    } else if (!at_v_is_number(v)) {
        TRY(at_run_fail(r, "%%%c format: a real number is required, not %s", c->type,
                        at_value_type_name(v)));
    } else if (c->type == 'f' || c->type == 'F') {
        at_buf_printf(&text, c->plus ? "%+.*f" : "%.*f", c->precision < 0 ? 6 : c->precision,
                      at_v_number(v));
    } else {
        if (c->precision >= 0 || (v->type == AT_V_FLOAT && !(fabs(v->f) < 0x1p62)))
            TRY(at_run_fail(r, "this conversion of a number is not supported"));
        const int64_t i = v->type == AT_V_FLOAT ? (int64_t)v->f : v->i;
        if (c->type == 'x' || c->type == 'X')
            at_buf_printf(&text, c->type == 'x' ? "%s%" PRIx64 : "%s%" PRIX64, i < 0 ? "-" : "",
                          i < 0 ? -(uint64_t)i : (uint64_t)i);
        else
            at_buf_printf(&text, c->plus ? "%+" PRId64 : "%" PRId64, i);
    }
    TRY(at_buf_status(&text));
    put_padded(out, text.data ? text.data : "", text.n, c->width, c->left,
               c->zeros && c->type != 's' && c->type != 'r');
done:
    at_buf_release(&text);
    return st;
}

AT_CHECKED at_text_percent(struct at_value *out, struct at_jinja_run *r,
                           const struct at_value *format, const struct at_value *values,
                           size_t n_values, const struct at_value *mapping)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    struct conversion c;
    size_t used = 0, n = 0;

    for (size_t i = 0; i < format->n; i += n) {
        const char *s = format->s + i, *mark = memchr(s, '%', format->n - i);
        struct at_value *found = NULL;
        const struct at_value *v = NULL;
        n = mark ? (size_t)(mark - s) : format->n - i;
        at_buf_put(&text, s, n);
        if (!mark)
            break;
        i += n + 1;
        s = format->s + i;
        if (i < format->n && *s == '%') {
            at_buf_puts(&text, "%");
            n = 1;
            continue;
        }
        if (i < format->n && *s == '(') {
            const char *close = memchr(s, ')', format->n - i);
            if (!close || !mapping || mapping->type != AT_V_DICT) {
                st = at_run_fail(r, "format requires a mapping");
                goto done;
            }
            TRY(at_dict_find_text(&found, r, mapping->dict, s + 1, (size_t)(close - s) - 1));
            v = found;
            i += (size_t)(close - s) + 1;
        } else if (used < n_values) {
            v = &values[used++];
        }
        n = read_conversion(&c, format->s + i, format->n - i);
        if (n == 0)
            TRY(at_run_fail(r, "this conversion of %% is not supported"));
        if (!v)
            TRY(at_run_fail(r, "not enough arguments for format string"));
        TRY(put_conversion(&text, r, &c, v));
        TRY(at_run_work(r, text.n / 8));
    }
    if (used < n_values && !(n_values == 1 && mapping))
        TRY(at_run_fail(r, "not all arguments converted during string formatting"));
    TRY(at_value_from_buf(out, r, &text));
done:
    at_buf_release(&text);
    return st;
}

/* The value that a field of str.format() names: {}, {0} or {name}. */
static const struct at_value *find_field(const struct at_args *args, const char *s, size_t n,
                                         size_t *next)
{
    size_t number = 0;

    if (n == 0)
        return *next < args->n ? &args->data[(*next)++] : NULL;
    if (s[0] >= '0' && s[0] <= '9') {
        for (size_t i = 0; i < n && number < 1000; i++)
            number = number * 10 + (size_t)(s[i] - '0');
        return number < args->n ? &args->data[number] : NULL;
    }
    for (size_t i = 0; i < args->n_keywords; i++)
        if (args->keywords[i].n_name == n && memcmp(args->keywords[i].name, s, n) == 0)
            return &args->keywords[i].value;
    return NULL;
}

AT_CHECKED at_text_format(struct at_value *out, struct at_jinja_run *r,
                          const struct at_value *format, const struct at_args *args)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    size_t next = 0;

    for (size_t i = 0; i < format->n; i++) {
        const char *s = format->s + i, *close = NULL;
        const struct at_value *v = NULL;
        if (*s != '{' && *s != '}') {
            at_buf_put(&text, s, 1);
            continue;
        }
        if (i + 1 < format->n && s[1] == *s) {
            at_buf_put(&text, s, 1);
            i++;
            continue;
        }
        close = *s == '{' ? memchr(s, '}', format->n - i) : NULL;
        if (!close) {
            st = at_run_fail(r, "single '%c' encountered in format string", *s);
            goto done;
        }
        const size_t n = (size_t)(close - s) - 1;
        for (size_t k = 0; k < n; k++)
            /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): bytes with a length */
            if (memchr(".[!:{", s[1 + k], 5))
                TRY(at_run_fail(r, "the field {%.*s} of format() is not supported",
                                (int)(n < 40 ? n : 40), s + 1));
        TRY(at_run_work(r, args->n_keywords * (1 + n / 8)));
        v = find_field(args, s + 1, n, &next);
        if (!v)
            TRY(at_run_fail(r, "format() has no value for the field {%.*s}", (int)(n < 40 ? n : 40),
                            s + 1));
        TRY(at_value_put(&text, r, v));
        TRY(at_run_work(r, text.n / 8));
        i += n + 1;
    }
    TRY(at_value_from_buf(out, r, &text));
done:
    at_buf_release(&text);
    return st;
}
