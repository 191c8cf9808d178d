/* Filters of one value. */
#include "jinja_parts.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const no_names[] = { NULL };

/* ---- texts ---- */

static AT_CHECKED to_case(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                          const struct at_args *args, const char *how)
{
    enum at_status st = AT_OK;
    struct at_value text;

    TRY(at_args_take(NULL, r, args, no_names, 0));
    TRY(at_value_text(&text, r, self));
    TRY(at_text_case(out, r, &text, how));
done:
    return st;
}

static AT_CHECKED upper(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                        const struct at_args *args)
{
    return to_case(out, r, self, args, "upper");
}

static AT_CHECKED lower(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                        const struct at_args *args)
{
    return to_case(out, r, self, args, "lower");
}

static AT_CHECKED capitalize(struct at_value *out, struct at_jinja_run *r,
                             const struct at_value *self, const struct at_args *args)
{
    return to_case(out, r, self, args, "capitalize");
}

/* Words begin behind blanks and opening brackets, and hyphens; unlike str.title(). */
static AT_CHECKED title(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                        const struct at_args *args)
{
    enum at_status st = AT_OK;
    struct at_value text, piece;
    struct at_buf result = { 0 };
    size_t begin = 0;

    TRY(at_args_take(NULL, r, args, no_names, 0));
    TRY(at_value_text(&text, r, self));
    while (begin < text.n) {
        size_t end = begin;
        while (end < text.n && !strchr("-({[< \t\n\r\f\v", text.s[end]))
            end++;
        piece = at_v_text(text.s + begin, end - begin);
        TRY(at_text_case(&piece, r, &piece, "capitalize"));
        at_buf_put(&result, piece.s, piece.n);
        if (end < text.n)
            at_buf_put(&result, text.s + end, 1);
        begin = end + 1;
    }
    TRY(at_value_from_buf(out, r, &result));
done:
    at_buf_release(&result);
    return st;
}

static AT_CHECKED trim(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                       const struct at_args *args)
{
    enum at_status st = AT_OK;
    struct at_value text;

    TRY(at_value_text(&text, r, self));
    TRY(at_value_method(&text, "strip", 5)->call(out, r, &text, args));
done:
    return st;
}

static AT_CHECKED replace(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                          const struct at_args *args)
{
    static const char *const names[] = { "old", "new", "count", NULL };
    enum at_status st = AT_OK;
    struct at_value v[3] = { at_v_none(), at_v_none(), at_v_none() }, text;
    struct at_args own = { .data = v };

    TRY(at_args_take(v, r, args, names, 2));
    TRY(at_value_text(&text, r, self));
    TRY(at_value_text(&v[0], r, &v[0]));
    TRY(at_value_text(&v[1], r, &v[1]));
    own.n = v[2].type == AT_V_NONE ? 2 : 3;
    TRY(at_value_method(&text, "replace", 7)->call(out, r, &text, &own));
done:
    return st;
}

static AT_CHECKED put_blanks(struct at_value *out, struct at_jinja_run *r,
                             const struct at_value *width)
{
    enum at_status st = AT_OK;
    char *blanks = NULL;
    size_t n = 0;

    if (width->type == AT_V_STRING) {
        *out = *width;
        goto done;
    }
    if (!at_v_is_integer(width) || width->i > 1000)
        TRY(at_run_fail(r, "indent takes a text or a width up to 1000"));
    n = width->i > 0 ? (size_t)width->i : 0;
    TRY(at_run_alloc(r, &blanks, n + 1, 1));
    memset(blanks, ' ', n);
    *out = at_v_text(blanks, n);
done:
    return st;
}

static AT_CHECKED indent(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                         const struct at_args *args)
{
    static const char *const names[] = { "width", "first", "blank", NULL };
    enum at_status st = AT_OK;
    struct at_value v[3] = { at_v_int(4), at_v_bool(false), at_v_bool(false) }, blanks;
    struct at_buf text = { 0 };
    size_t i = 0, end = 0;

    TRY(at_args_take(v, r, args, names, 0));
    if (self->type != AT_V_STRING)
        TRY(at_run_fail(r, "indent takes a text, not %s", at_value_type_name(self)));
    TRY(put_blanks(&blanks, r, &v[0]));
    TRY(at_run_work(r, self->n));
    if (at_value_true(&v[1]))
        at_buf_put(&text, blanks.s, blanks.n);
    for (; i <= self->n; i += end) { /* as if a line's end were added, so at least one line */
        const size_t n = at_text_line(self->s + i, self->n - i, &end);
        if (i > 0) {
            at_buf_puts(&text, "\n");
            TRY(at_run_work(r, 1));
            if (n > 0 || at_value_true(&v[2]))
                TRY(at_value_put(&text, r, &blanks));
        }
        at_buf_put(&text, self->s + i, n);
        if (end == n)
            break;
    }
    TRY(at_value_from_buf(out, r, &text));
done:
    at_buf_release(&text);
    return st;
}

static AT_CHECKED string(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                         const struct at_args *args)
{
    enum at_status st = at_args_take(NULL, r, args, no_names, 0);

    return st == AT_OK ? at_value_text(out, r, self) : st;
}

static AT_CHECKED safe(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                       const struct at_args *args)
{
    enum at_status st = AT_OK;

    TRY(at_args_take(NULL, r, args, no_names, 0));
    TRY(at_value_text(out, r, self));
    out->safe = true;
done:
    return st;
}

static AT_CHECKED format(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                         const struct at_args *args)
{
    enum at_status st = AT_OK;
    struct at_value text, mapping = at_v_none();

    TRY(at_value_text(&text, r, self));
    if (args->n > 0 && args->n_keywords > 0)
        TRY(at_run_fail(r, "can't handle positional and keyword arguments at the same time"));
    if (args->n_keywords > 0) {
        TRY(at_value_dict(&mapping, r, AT_V_DICT, args->n_keywords));
        for (size_t i = 0; i < args->n_keywords; i++) {
            const struct at_keyword *k = &args->keywords[i];
            TRY(at_dict_put(r, mapping.dict, at_v_text(k->name, k->n_name), k->value));
        }
    }
    TRY(at_text_percent(out, r, &text, args->data, args->n,
                        mapping.type == AT_V_DICT ? &mapping : NULL));
done:
    return st;
}

static AT_CHECKED escape(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                         const struct at_args *args)
{
    static const char from[] = "&<>'\"";
    static const char *const to[] = { "&amp;", "&lt;", "&gt;", "&#39;", "&#34;" };
    enum at_status st = AT_OK;
    struct at_value text;
    struct at_buf result = { 0 };

    TRY(at_args_take(NULL, r, args, no_names, 0));
    TRY(at_value_text(&text, r, self));
    TRY(at_run_work(r, text.n));
    for (size_t i = 0; i < text.n; i++) {
        const char *found = text.safe ? NULL : memchr(from, text.s[i], sizeof from - 1);
        if (found)
            at_buf_puts(&result, to[found - from]);
        else
            at_buf_put(&result, text.s + i, 1);
    }
    TRY(at_value_from_buf(out, r, &result));
    out->safe = true;
done:
    at_buf_release(&result);
    return st;
}

/* ---- numbers ---- */

/* Of a text that Python's int() or float() reads; false for others. */
static bool read_number(double *x, int64_t *i, bool *whole, const struct at_value *text, int base)
{
    const struct at_value s = at_text_strip(text, NULL, true, true);
    char digits[128], *end;
    size_t n = 0;

    for (size_t k = 0; k < s.n; k++) {
        if (s.s[k] == '_' && k > 0 && k + 1 < s.n && s.s[k - 1] != '_')
            continue;
        if (n + 1 == sizeof digits || strchr(" \t\n\r\f\v", s.s[k]) || !s.s[k])
            return false;
        digits[n++] = s.s[k];
    }
    digits[n] = 0;
    if (n == 0)
        return false;
    errno = 0;
    *i = strtoll(digits, &end, base);
    *whole = *end == 0 && errno == 0;
    *x = strtod(digits, &end);
    return *whole || (*end == 0 && !strpbrk(digits, "xXpP"));
}

static AT_CHECKED to_int(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                         const struct at_args *args)
{
    static const char *const names[] = { "default", "base", NULL };
    enum at_status st = AT_OK;
    struct at_value v[2] = { at_v_int(0), at_v_int(10) };
    double x = 0;
    int64_t i = 0;
    bool whole = false;

    TRY(at_args_take(v, r, args, names, 0));
    TRY(at_value_need(r, self));
    *out = v[0];
    if (!at_v_is_integer(&v[1]) || v[1].i < 2 || v[1].i > 36)
        TRY(at_run_fail(r, "int takes a base from 2 to 36"));
    if (at_v_is_integer(self)) {
        *out = at_v_int(self->i);
        goto done;
    }
    if (self->type == AT_V_FLOAT)
        x = self->f;
    else if (self->type != AT_V_STRING || !read_number(&x, &i, &whole, self, (int)v[1].i))
        goto done;
    if (whole)
        *out = at_v_int(i);
    else if (fabs(x) < 0x1p63)
        *out = at_v_int((int64_t)x);
    else if (isfinite(x))
        TRY(at_run_fail(r, "the number %.17g is too large", x));
done:
    return st;
}

static AT_CHECKED to_float(struct at_value *out, struct at_jinja_run *r,
                           const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "default", NULL };
    enum at_status st = AT_OK;
    struct at_value other = at_v_float(0);
    double x = 0;
    int64_t i;
    bool whole = false;

    TRY(at_args_take(&other, r, args, names, 0));
    TRY(at_value_need(r, self));
    *out = other;
    if (at_v_is_number(self))
        *out = at_v_float(at_v_number(self));
    else if (self->type == AT_V_STRING && read_number(&x, &i, &whole, self, 10))
        *out = at_v_float(x);
done:
    return st;
}

static AT_CHECKED absolute(struct at_value *out, struct at_jinja_run *r,
                           const struct at_value *self, const struct at_args *args)
{
    enum at_status st = AT_OK;

    TRY(at_args_take(NULL, r, args, no_names, 0));
    if (!at_v_is_number(self) || (self->type != AT_V_FLOAT && self->i == INT64_MIN))
        TRY(at_run_fail(r, "bad operand type for abs(): '%s'", at_value_type_name(self)));
    if (self->type == AT_V_FLOAT)
        *out = at_v_float(fabs(self->f));
    else
        *out = at_v_int(self->i < 0 ? -self->i : self->i);
done:
    return st;
}

static AT_CHECKED round_number(struct at_value *out, struct at_jinja_run *r,
                               const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "precision", "method", NULL };
    enum at_status st = AT_OK;
    struct at_value v[2] = { at_v_int(0), at_v_text("common", 6) };
    char digits[400];
    double x, scale;

    TRY(at_args_take(v, r, args, names, 0));
    TRY(at_value_need(r, self));
    if (!at_v_is_number(self) || !at_v_is_integer(&v[0]) || v[0].i < 0 || v[0].i > 40 ||
        v[1].type != AT_V_STRING)
        TRY(at_run_fail(r, "round takes a number, a precision from 0 to 40 and a method"));
    x = at_v_number(self);
    scale = pow(10, (double)v[0].i);
    if (at_text_is(v[1].s, v[1].n, "common")) {
        snprintf(digits, sizeof digits, "%.*f", (int)v[0].i, x);
        *out = self->type == AT_V_FLOAT ? at_v_float(strtod(digits, NULL)) : at_v_int(self->i);
    } else if (at_text_is(v[1].s, v[1].n, "ceil")) {
        *out = at_v_float(ceil(x * scale) / scale);
    } else if (at_text_is(v[1].s, v[1].n, "floor")) {
        *out = at_v_float(floor(x * scale) / scale);
    } else {
        TRY(at_run_fail(r, "method must be common, ceil or floor"));
    }
done:
    return st;
}

/* ---- any value ---- */

static AT_CHECKED fallback(struct at_value *out, struct at_jinja_run *r,
                           const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "default_value", "boolean", NULL };
    enum at_status st = AT_OK;
    struct at_value v[2] = { at_v_text("", 0), at_v_bool(false) };

    TRY(at_args_take(v, r, args, names, 0));
    *out = *self;
    if (self->type == AT_V_UNDEFINED || (at_value_true(&v[1]) && !at_value_true(self)))
        *out = v[0];
done:
    return st;
}

static AT_CHECKED attr(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                       const struct at_args *args)
{
    static const char *const names[] = { "name", NULL };
    enum at_status st = AT_OK;
    struct at_value name;

    TRY(at_args_take(&name, r, args, names, 1));
    if (name.type != AT_V_STRING)
        TRY(at_run_fail(r, "attr takes a name"));
    if (self->type == AT_V_DICT && !at_value_method(self, name.s, name.n))
        *out = at_v_undefined("attr finds no items of a dict"); /* as jinja2's, methods only */
    else
        TRY(at_value_attr(out, r, self, name.s, name.n));
done:
    return st;
}

static AT_CHECKED length(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                         const struct at_args *args)
{
    enum at_status st = AT_OK;
    int64_t n = 0;

    TRY(at_args_take(NULL, r, args, no_names, 0));
    TRY(at_value_length(&n, r, self));
    *out = at_v_int(n);
done:
    return st;
}

static const struct at_function filters[] = {
    { "abs", absolute },
    { "attr", attr },
    { "batch", at_filter_batch },
    { "capitalize", capitalize },
    { "count", length },
    { "d", fallback },
    { "default", fallback },
    { "dictsort", at_filter_dictsort },
    { "e", escape },
    { "escape", escape },
    { "first", at_filter_first },
    { "float", to_float },
    { "format", format },
    { "indent", indent },
    { "int", to_int },
    { "items", at_filter_items },
    { "join", at_filter_join },
    { "last", at_filter_last },
    { "length", length },
    { "list", at_filter_list },
    { "lower", lower },
    { "map", at_filter_map },
    { "max", at_filter_max },
    { "min", at_filter_min },
    { "reject", at_filter_reject },
    { "rejectattr", at_filter_rejectattr },
    { "replace", replace },
    { "reverse", at_filter_reverse },
    { "round", round_number },
    { "safe", safe },
    { "select", at_filter_select },
    { "selectattr", at_filter_selectattr },
    { "sort", at_filter_sort },
    { "string", string },
    { "sum", at_filter_sum },
    { "title", title },
    { "tojson", at_filter_tojson },
    { "trim", trim },
    { "unique", at_filter_unique },
    { "upper", upper },
};

const struct at_function *at_filter_find(const char *name, size_t n)
{
    return at_function_find(filters, AT_COUNT(filters), name, n);
}
