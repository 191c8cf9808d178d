/* Values as text: str(), repr() and json.dumps() of Python. */
#include "jinja_parts.h"
#include "tokenizer_parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

/* The shortest digits that read back; an exponent below 1e-4 and from 1e16 on. */
void at_text_put_float(struct at_buf *out, double x)
{
    char digits[40];
    int precision = 0, exponent;

    if (!isfinite(x)) {
        at_buf_puts(out, isnan(x) ? "nan" : x < 0 ? "-inf" : "inf");
        return;
    }
    do {
        snprintf(digits, sizeof digits, "%.*e", precision, x);
    } while (strtod(digits, NULL) != x && precision++ < 17);
    /* NOLINTNEXTLINE(cert-err34-c): digits were checked */
    exponent = atoi(strchr(digits, 'e') + 1);
    if (x != 0 && (exponent < -4 || exponent >= 16)) {
        at_buf_puts(out, digits); /* both write at least two digits of the exponent */
        return;
    }
    const int decimals = precision - exponent;
    at_buf_printf(out, "%.*f", decimals > 0 ? decimals : 1, x);
}

/* ---- repr ---- */

static bool is_printable(uint32_t code)
{
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return code == ' ';
    default:
        return true;
    }
}

static void put_string_repr(struct at_buf *out, const char *s, size_t n)
{
    const bool twice = memchr(s, '\'', n) && !memchr(s, '"', n);
    const char quote = twice ? '"' : '\'';

    at_buf_put(out, &quote, 1);
    for (size_t i = 0, length = 0; i < n; i += length) {
        const uint32_t code = at_utf8_get(s + i, &length);
        const char *escape = code == '\n'   ? "\\n"
                             : code == '\r' ? "\\r"
                             : code == '\t' ? "\\t"
                                            : NULL;
        if (escape)
            at_buf_puts(out, escape);
        else if (code == (uint32_t)quote || code == '\\')
            at_buf_printf(out, "\\%c", (int)code);
        else if (is_printable(code))
            at_buf_put(out, s + i, length);
        else
            at_buf_printf(out,
                          code < 0x100     ? "\\x%02x"
                          : code < 0x10000 ? "\\u%04x"
                                           : "\\U%08x",
                          code);
    }
    at_buf_put(out, &quote, 1);
}

static AT_CHECKED put_items(struct at_buf *out, struct at_jinja_run *r,
                            const struct at_items *items, const char *open, const char *close)
{
    enum at_status st = AT_OK;

    at_buf_puts(out, open);
    for (size_t i = 0; i < items->n; i++) {
        at_buf_puts(out, i > 0 ? ", " : "");
        TRY(at_value_put_repr(out, r, &items->data[i]));
    }
    at_buf_puts(out, close);
done:
    return st;
}

static AT_CHECKED put_dict(struct at_buf *out, struct at_jinja_run *r, const struct at_dict *dict)
{
    enum at_status st = AT_OK;

    at_buf_puts(out, "{");
    for (size_t i = 0; i < dict->n; i++) {
        at_buf_puts(out, i > 0 ? ", " : "");
        TRY(at_value_put_repr(out, r, &dict->data[i].key));
        at_buf_puts(out, ": ");
        TRY(at_value_put_repr(out, r, &dict->data[i].value));
    }
    at_buf_puts(out, "}");
done:
    return st;
}

static AT_CHECKED put_container(struct at_buf *out, struct at_jinja_run *r,
                                const struct at_value *v)
{
    enum at_status st = AT_OK;

    TRY(at_run_enter(r));
    switch ((enum at_value_type)v->type) {
    case AT_V_LIST:
        TRY(put_items(out, r, v->items, "[", "]"));
        break;
    case AT_V_TUPLE:
        TRY(put_items(out, r, v->items, "(", v->items->n == 1 ? ",)" : ")"));
        break;
    case AT_V_VIEW:
        at_buf_puts(out, v->items->view);
        TRY(put_items(out, r, v->items, "([", "])"));
        break;
    default:
        TRY(put_dict(out, r, v->dict));
    }
    r->depth--;
done:
    return st;
}

AT_CHECKED at_value_put_repr(struct at_buf *out, struct at_jinja_run *r, const struct at_value *v)
{
    enum at_status st = AT_OK;

    TRY(at_run_work(r, AT_STEP_WORK / 4 + (v->type == AT_V_STRING ? v->n : 0)));
    switch ((enum at_value_type)v->type) {
    case AT_V_UNDEFINED:
        at_buf_puts(out, "Undefined");
        break;
    case AT_V_NONE:
        at_buf_puts(out, "None");
        break;
    case AT_V_BOOL:
        at_buf_puts(out, v->i ? "True" : "False");
        break;
    case AT_V_INT:
        at_buf_printf(out, "%" PRId64, v->i);
        break;
    case AT_V_FLOAT:
        at_text_put_float(out, v->f);
        break;
    case AT_V_STRING:
        at_buf_puts(out, v->safe ? "Markup(" : "");
        put_string_repr(out, v->s, v->n);
        at_buf_puts(out, v->safe ? ")" : "");
        break;
    case AT_V_RANGE:
        if (!v->items->view)
            TRY(at_run_fail(r, "a part of a range has no text; turn it into a list"));
        at_buf_puts(out, v->items->view);
        break;
    case AT_V_LIST:
    case AT_V_TUPLE:
    case AT_V_VIEW:
    case AT_V_DICT:
        TRY(put_container(out, r, v));
        break;
    case AT_V_MACRO:
        at_buf_printf(out, v->macro->node->name ? "<Macro '%.*s'>" : "<Macro anonymous>",
                      (int)v->macro->node->n_name, v->macro->node->name);
        break;
    default: /* Python writes an address */
        st = at_run_fail(r, "a %s has no text; turn what it gives into a list or join it",
                         at_value_type_name(v));
    }
done:
    return st;
}

AT_CHECKED at_value_put(struct at_buf *out, struct at_jinja_run *r, const struct at_value *v)
{
    enum at_status st = AT_OK;

    if (v->type == AT_V_STRING) {
        TRY(at_run_work(r, v->n / 8));
        if (v->n > AT_MAX_TEXT || out->n > AT_MAX_TEXT)
            TRY(at_run_fail(r, "a text grows past %d MiB; the template is stopped",
                            AT_MAX_TEXT >> 20));
        at_buf_put(out, v->s, v->n);
    } else if (v->type != AT_V_UNDEFINED) {
        TRY(at_value_put_repr(out, r, v));
    }
done:
    return st;
}

AT_CHECKED at_value_text(struct at_value *out, struct at_jinja_run *r, const struct at_value *v)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };

    if (v->type == AT_V_STRING) {
        *out = *v;
        goto done;
    }
    TRY(at_value_put(&text, r, v));
    TRY(at_value_from_buf(out, r, &text));
done:
    at_buf_release(&text);
    return st;
}

/* ---- json.dumps ---- */

struct dump {
    struct at_buf out;
    struct at_jinja_run *r;
    bool ascii, sorts;
    struct at_value indent, item_separator, key_separator; /* indent None: one line */
    unsigned level;
};

static void put_json_code(struct at_buf *out, uint32_t code)
{
    if (code >= 0x10000) {
        at_buf_printf(out, "\\u%04x", 0xD800 + ((code - 0x10000) >> 10));
        code = 0xDC00 + ((code - 0x10000) & 0x3FF);
    }
    at_buf_printf(out, "\\u%04x", code);
}

static void put_json_string(struct dump *d, const char *s, size_t n)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";

    at_buf_puts(&d->out, "\"");
    for (size_t i = 0, length = 0; i < n; i += length) {
        const uint32_t code = at_utf8_get(s + i, &length);
        const char *escape = code > 0 && code < 0x80 ? strchr(from, (int)code) : NULL;
        if (escape)
            at_buf_printf(&d->out, "\\%c", to[escape - from]);
        else if (code < 0x20 || (d->ascii && code >= 0x7F))
            put_json_code(&d->out, code);
        else
            at_buf_put(&d->out, s + i, length);
    }
    at_buf_puts(&d->out, "\"");
}

static void put_json_float(struct at_buf *out, double x)
{
    if (isfinite(x))
        at_text_put_float(out, x);
    else
        at_buf_puts(out, isnan(x) ? "NaN" : x < 0 ? "-Infinity" : "Infinity");
}

static void put_break(struct dump *d)
{
    if (d->indent.type == AT_V_NONE)
        return;
    at_buf_puts(&d->out, "\n");
    for (unsigned i = 0; i < d->level; i++)
        at_buf_put(&d->out, d->indent.s, d->indent.n);
}

static AT_CHECKED dump_value(struct dump *d, const struct at_value *v);

static AT_CHECKED dump_items(struct dump *d, const struct at_items *items)
{
    enum at_status st = AT_OK;

    if (items->n == 0) {
        at_buf_puts(&d->out, "[]");
        goto done;
    }
    at_buf_puts(&d->out, "[");
    d->level++;
    for (size_t i = 0; i < items->n; i++) {
        if (i > 0)
            at_buf_put(&d->out, d->item_separator.s, d->item_separator.n);
        put_break(d);
        TRY(dump_value(d, &items->data[i]));
    }
    d->level--;
    put_break(d);
    at_buf_puts(&d->out, "]");
done:
    return st;
}

static AT_CHECKED dump_key(struct dump *d, const struct at_value *key)
{
    enum at_status st = AT_OK;

    if (key->type == AT_V_STRING) {
        put_json_string(d, key->s, key->n);
        goto done;
    }
    if (key->type != AT_V_NONE && !at_v_is_number(key))
        TRY(at_run_fail(d->r, "keys must be str, int, float, bool or None, not %s",
                        at_value_type_name(key)));
    at_buf_puts(&d->out, "\"");
    TRY(dump_value(d, key));
    at_buf_puts(&d->out, "\"");
done:
    return st;
}

static AT_CHECKED dump_dict(struct dump *d, const struct at_dict *dict)
{
    enum at_status st = AT_OK;
    struct at_pair *pairs = NULL, moved;

    if (dict->n == 0) {
        at_buf_puts(&d->out, "{}");
        goto done;
    }
    TRY(at_run_alloc(d->r, &pairs, dict->n, sizeof *pairs));
    memcpy(pairs, dict->data, dict->n * sizeof *pairs);
    for (size_t i = 1; d->sorts && i < dict->n; i++) {
        size_t k = i;
        int order = 0;
        moved = pairs[i];
        for (; k > 0; k--) {
            TRY(at_value_compare(&order, d->r, &moved.key, &pairs[k - 1].key, "<"));
            TRY(at_run_work(d->r, 4));
            if (order >= 0)
                break;
            pairs[k] = pairs[k - 1];
        }
        pairs[k] = moved;
    }
    at_buf_puts(&d->out, "{");
    d->level++;
    for (size_t i = 0; i < dict->n; i++) {
        if (i > 0)
            at_buf_put(&d->out, d->item_separator.s, d->item_separator.n);
        put_break(d);
        TRY(dump_key(d, &pairs[i].key));
        at_buf_put(&d->out, d->key_separator.s, d->key_separator.n);
        TRY(dump_value(d, &pairs[i].value));
    }
    d->level--;
    put_break(d);
    at_buf_puts(&d->out, "}");
done:
    return st;
}

static AT_CHECKED dump_value(struct dump *d, const struct at_value *v)
{
    enum at_status st = AT_OK;

    TRY(at_run_enter(d->r));
    TRY(at_run_work(d->r, AT_STEP_WORK / 4 + d->level * d->indent.n));
    switch ((enum at_value_type)v->type) {
    case AT_V_NONE:
        at_buf_puts(&d->out, "null");
        break;
    case AT_V_BOOL:
        at_buf_puts(&d->out, v->i ? "true" : "false");
        break;
    case AT_V_INT:
        at_buf_printf(&d->out, "%" PRId64, v->i);
        break;
    case AT_V_FLOAT:
        put_json_float(&d->out, v->f);
        break;
    case AT_V_STRING:
        TRY(at_run_work(d->r, v->n));
        put_json_string(d, v->s, v->n);
        break;
    case AT_V_LIST:
    case AT_V_TUPLE:
        TRY(dump_items(d, v->items));
        break;
    case AT_V_DICT:
        TRY(dump_dict(d, v->dict));
        break;
    default:
        TRY(at_run_fail(d->r, "Object of type %s is not JSON serializable", at_value_type_name(v)));
    }
    d->r->depth--;
done:
    return st;
}

static AT_CHECKED take_indent(struct dump *d, const struct at_value *indent)
{
    enum at_status st = AT_OK;
    struct at_buf blanks = { 0 };

    d->indent = *indent;
    if (at_v_is_integer(indent)) {
        if (indent->i > 100)
            TRY(at_run_fail(d->r, "tojson indents by 100 at most"));
        for (int64_t i = 0; i < indent->i; i++)
            at_buf_puts(&blanks, " ");
        TRY(at_value_from_buf(&d->indent, d->r, &blanks));
    } else if (indent->type != AT_V_NONE && indent->type != AT_V_STRING) {
        TRY(at_run_fail(d->r, "tojson takes a number or a text as indent"));
    }
done:
    at_buf_release(&blanks);
    return st;
}

AT_CHECKED at_filter_tojson(struct at_value *out, struct at_jinja_run *r,
                            const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "ensure_ascii", "indent", "separators", "sort_keys",
                                         NULL };
    enum at_status st = AT_OK;
    struct at_value v[4] = { at_v_bool(false), at_v_none(), at_v_none(), at_v_bool(false) };
    struct dump d = { .r = r };

    TRY(at_args_take(v, r, args, names, 0));
    d.ascii = at_value_true(&v[0]);
    d.sorts = at_value_true(&v[3]);
    TRY(take_indent(&d, &v[1]));
    d.item_separator = d.indent.type == AT_V_NONE ? at_v_text(", ", 2) : at_v_text(",", 1);
    d.key_separator = at_v_text(": ", 2);
    if (v[2].type != AT_V_NONE) {
        struct at_items *pair = NULL;
        TRY(at_value_items(&pair, r, &v[2]));
        if (pair->n != 2 || pair->data[0].type != AT_V_STRING || pair->data[1].type != AT_V_STRING)
            TRY(at_run_fail(r, "separators of tojson are two texts"));
        d.item_separator = pair->data[0];
        d.key_separator = pair->data[1];
    }
    TRY(dump_value(&d, self));
    TRY(at_value_from_buf(out, r, &d.out));
done:
    at_buf_release(&d.out);
    return st;
}
