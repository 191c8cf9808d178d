/* Tests (`x is ...`), and the functions that every template has. */
#include "jinja_parts.h"
#include "os.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

static const char *const no_names[] = { NULL };

#define TEST(name, condition)                                                            \
    static AT_CHECKED is_##name(struct at_value *out, struct at_jinja_run *r,            \
                                const struct at_value *self, const struct at_args *args) \
    {                                                                                    \
        const enum at_status st = at_args_take(NULL, r, args, no_names, 0);              \
        *out = at_v_bool(condition);                                                     \
        return st;                                                                       \
    }
TEST(defined, self->type != AT_V_UNDEFINED)
TEST(undefined, self->type == AT_V_UNDEFINED)
TEST(none, self->type == AT_V_NONE)
TEST(boolean, self->type == AT_V_BOOL)
TEST(true, self->type == AT_V_BOOL && self->i)
TEST(false, self->type == AT_V_BOOL && !self->i)
TEST(integer, self->type == AT_V_INT)
TEST(float, self->type == AT_V_FLOAT)
TEST(number, at_v_is_number(self))
TEST(string, self->type == AT_V_STRING)
TEST(mapping, self->type == AT_V_DICT)
TEST(iterable, at_v_is_items(self) || self->type == AT_V_STRING || self->type == AT_V_DICT ||
                   self->type == AT_V_UNDEFINED || self->type == AT_V_LOOP)
TEST(sequence, (self->type >= AT_V_LIST && self->type <= AT_V_RANGE) || self->type == AT_V_STRING ||
                   self->type == AT_V_DICT || self->type == AT_V_UNDEFINED)
TEST(callable, self->type == AT_V_MACRO || self->type == AT_V_FUNCTION ||
                   self->type == AT_V_METHOD || self->type == AT_V_UNDEFINED)
TEST(escaped, self->type == AT_V_STRING && self->safe)
#undef TEST

static AT_CHECKED remainder_is(bool *out, struct at_jinja_run *r, const struct at_value *self,
                               const struct at_value *divisor, int64_t wanted)
{
    enum at_status st = AT_OK;
    const struct at_value want = at_v_int(wanted);
    struct at_value rest;

    TRY(at_value_binary(&rest, r, AT_OP_MOD, self, divisor));
    TRY(at_value_equal(out, r, &rest, &want));
done:
    return st;
}

#define PARITY_TEST(name, rest)                                                          \
    static AT_CHECKED is_##name(struct at_value *out, struct at_jinja_run *r,            \
                                const struct at_value *self, const struct at_args *args) \
    {                                                                                    \
        enum at_status st = AT_OK;                                                       \
        const struct at_value two = at_v_int(2);                                         \
        bool is = false;                                                                 \
                                                                                         \
        TRY(at_args_take(NULL, r, args, no_names, 0));                                   \
        TRY(remainder_is(&is, r, self, &two, rest));                                     \
        *out = at_v_bool(is);                                                            \
    done:                                                                                \
        return st;                                                                       \
    }
PARITY_TEST(even, 0)
PARITY_TEST(odd, 1)
#undef PARITY_TEST

static AT_CHECKED is_divisibleby(struct at_value *out, struct at_jinja_run *r,
                                 const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "num", NULL };
    enum at_status st = AT_OK;
    struct at_value divisor;
    bool is = false;

    TRY(at_args_take(&divisor, r, args, names, 1));
    TRY(remainder_is(&is, r, self, &divisor, 0));
    *out = at_v_bool(is);
done:
    return st;
}

static AT_CHECKED case_is(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                          const struct at_args *args, const char *how, const char *other)
{
    enum at_status st = AT_OK;
    struct at_value text, same, different;
    bool is = false, cased = false;

    TRY(at_args_take(NULL, r, args, no_names, 0));
    TRY(at_value_text(&text, r, self));
    TRY(at_text_case(&same, r, &text, how));
    TRY(at_text_case(&different, r, &text, other));
    TRY(at_value_equal(&is, r, &text, &same));
    TRY(at_value_equal(&cased, r, &text, &different));
    *out = at_v_bool(is && !cased);
done:
    return st;
}

static AT_CHECKED is_lower(struct at_value *out, struct at_jinja_run *r,
                           const struct at_value *self, const struct at_args *args)
{
    return case_is(out, r, self, args, "lower", "upper");
}

static AT_CHECKED is_upper(struct at_value *out, struct at_jinja_run *r,
                           const struct at_value *self, const struct at_args *args)
{
    return case_is(out, r, self, args, "upper", "lower");
}

static AT_CHECKED is_in(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                        const struct at_args *args)
{
    static const char *const names[] = { "seq", NULL };
    enum at_status st = AT_OK;
    struct at_value container;
    bool is = false;

    TRY(at_args_take(&container, r, args, names, 1));
    TRY(at_value_contains(&is, r, &container, self));
    *out = at_v_bool(is);
done:
    return st;
}

static AT_CHECKED is_sameas(struct at_value *out, struct at_jinja_run *r,
                            const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "other", NULL };
    enum at_status st = AT_OK;
    struct at_value other;

    TRY(at_args_take(&other, r, args, names, 1));
    if (self->type != AT_V_NONE && self->type != AT_V_BOOL && self->type == other.type)
        TRY(at_run_fail(r, "\"is sameas\" is supported for true, false and none only"));
    *out = at_v_bool(self->type == other.type && (self->type == AT_V_NONE || self->i == other.i));
done:
    return st;
}

static AT_CHECKED compare(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                          const struct at_args *args, enum at_operator op)
{
    static const char *const names[] = { "other", NULL };
    enum at_status st = AT_OK;
    struct at_value other;

    TRY(at_args_take(&other, r, args, names, 1));
    TRY(at_value_binary(out, r, op, self, &other));
done:
    return st;
}

#define COMPARE_TEST(name, op)                                                           \
    static AT_CHECKED is_##name(struct at_value *out, struct at_jinja_run *r,            \
                                const struct at_value *self, const struct at_args *args) \
    {                                                                                    \
        return compare(out, r, self, args, op);                                          \
    }
COMPARE_TEST(eq, AT_OP_EQ)
COMPARE_TEST(ne, AT_OP_NE)
COMPARE_TEST(lt, AT_OP_LT)
COMPARE_TEST(le, AT_OP_LE)
COMPARE_TEST(gt, AT_OP_GT)
COMPARE_TEST(ge, AT_OP_GE)
#undef COMPARE_TEST

static const struct at_function tests[] = {
    { "!=", is_ne },
    { "<", is_lt },
    { "<=", is_le },
    { "==", is_eq },
    { ">", is_gt },
    { ">=", is_ge },
    { "boolean", is_boolean },
    { "callable", is_callable },
    { "defined", is_defined },
    { "divisibleby", is_divisibleby },
    { "eq", is_eq },
    { "equalto", is_eq },
    { "escaped", is_escaped },
    { "even", is_even },
    { "false", is_false },
    { "float", is_float },
    { "ge", is_ge },
    { "greaterthan", is_gt },
    { "gt", is_gt },
    { "in", is_in },
    { "integer", is_integer },
    { "iterable", is_iterable },
    { "le", is_le },
    { "lessthan", is_lt },
    { "lower", is_lower },
    { "lt", is_lt },
    { "mapping", is_mapping },
    { "ne", is_ne },
    { "none", is_none },
    { "number", is_number },
    { "odd", is_odd },
    { "sameas", is_sameas },
    { "sequence", is_sequence },
    { "string", is_string },
    { "true", is_true },
    { "undefined", is_undefined },
    { "upper", is_upper },
};

const struct at_function *at_test_find(const char *name, size_t n)
{
    return at_function_find(tests, AT_COUNT(tests), name, n);
}

/* ---- global functions ---- */

static AT_CHECKED call_range(struct at_value *out, struct at_jinja_run *r,
                             const struct at_value *self, const struct at_args *args)
{
    enum { MOST = 100000 /* the sandbox's */, TEXT = 64 };
    enum at_status st = AT_OK;
    int64_t at[3] = { 0, 0, 1 }, span, step, n;
    char *text = NULL;
    int written;

    (void)self;
    if (args->n < 1 || args->n > 3 || args->n_keywords > 0)
        TRY(at_run_fail(r, "range() takes one to three numbers"));
    for (size_t i = 0; i < args->n; i++) {
        if (!at_v_is_integer(&args->data[i]) || args->data[i].i > INT32_MAX ||
            args->data[i].i < INT32_MIN)
            TRY(at_run_fail(r, "range() takes whole numbers of 32 bits, not %s",
                            at_value_type_name(&args->data[i])));
        at[args->n == 1 ? 1 : i] = args->data[i].i;
    }
    if (at[2] == 0)
        TRY(at_run_fail(r, "range() arg 3 must not be zero"));
    span = at[2] > 0 ? at[1] - at[0] : at[0] - at[1];
    step = at[2] > 0 ? at[2] : -at[2];
    /* NOLINTNEXTLINE(clang-analyzer-core.DivideZero): zero was refused */
    n = span > 0 ? (span + step - 1) / step : 0;
    if (n > MOST)
        TRY(at_run_fail(r, "Range too big. The sandbox blocks ranges larger than %d", MOST));
    TRY(at_value_list(out, r, AT_V_RANGE, (size_t)n));
    TRY(at_run_alloc(r, &text, TEXT, 1));
    written = snprintf(text, TEXT, "range(%" PRId64 ", %" PRId64, at[0], at[1]);
    snprintf(text + written, TEXT - (size_t)written, at[2] == 1 ? ")" : ", %" PRId64 ")", at[2]);
    out->items->view = text;
    TRY(at_run_work(r, (size_t)n * 4));
    for (int64_t i = 0; i < n; i++)
        TRY(at_items_push(r, out->items, at_v_int(at[0] + i * at[2])));
done:
    return st;
}

/* dict() and namespace(): of a mapping or pairs, and of keywords. */
static AT_CHECKED make_mapping(struct at_value *out, struct at_jinja_run *r,
                               const struct at_args *args, enum at_value_type type)
{
    enum at_status st = AT_OK;
    struct at_items *items = NULL, *pair = NULL;

    if (args->n > 1)
        TRY(at_run_fail(r, "dict expected at most 1 argument, got %zu", args->n));
    TRY(at_value_dict(out, r, type, args->n_keywords));
    if (args->n == 1 && args->data[0].type == AT_V_DICT) {
        const struct at_dict *from = args->data[0].dict;
        for (size_t i = 0; i < from->n; i++)
            TRY(at_dict_put(r, out->dict, from->data[i].key, from->data[i].value));
    } else if (args->n == 1) {
        TRY(at_value_items(&items, r, &args->data[0]));
        for (size_t i = 0; i < items->n; i++) {
            TRY(at_value_items(&pair, r, &items->data[i]));
            if (pair->n != 2)
                TRY(at_run_fail(r, "dict() takes pairs, item %zu has %zu parts", i, pair->n));
            TRY(at_dict_put(r, out->dict, pair->data[0], pair->data[1]));
        }
    }
    for (size_t i = 0; i < args->n_keywords; i++) {
        const struct at_keyword *k = &args->keywords[i];
        TRY(at_dict_put(r, out->dict, at_v_text(k->name, k->n_name), k->value));
    }
done:
    return st;
}

static AT_CHECKED call_dict(struct at_value *out, struct at_jinja_run *r,
                            const struct at_value *self, const struct at_args *args)
{
    (void)self;
    return make_mapping(out, r, args, AT_V_DICT);
}

static AT_CHECKED call_namespace(struct at_value *out, struct at_jinja_run *r,
                                 const struct at_value *self, const struct at_args *args)
{
    enum at_status st = AT_OK;

    (void)self;
    TRY(make_mapping(out, r, args, AT_V_NAMESPACE));
    for (size_t i = 0; i < out->dict->n; i++)
        if (out->dict->data[i].key.n > 0 && out->dict->data[i].key.type == AT_V_STRING &&
            out->dict->data[i].key.s[0] == '_')
            TRY(at_run_fail(r, "namespaces cannot have attributes that begin with '_'"));
done:
    return st;
}

static AT_CHECKED call_raise(struct at_value *out, struct at_jinja_run *r,
                             const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "message", NULL };
    enum at_status st = AT_OK;
    struct at_value message, text;

    (void)out;
    (void)self;
    TRY(at_args_take(&message, r, args, names, 1));
    TRY(at_value_text(&text, r, &message));
    st = at_run_fail(r, "the template refuses the conversation: %.*s", (int)text.n, text.s);
done:
    return st;
}

static AT_CHECKED call_strftime_now(struct at_value *out, struct at_jinja_run *r,
                                    const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "format", NULL };
    enum at_status st = AT_OK;
    const double now = r->params->now_s > 0 ? r->params->now_s : at_wall_s();
    const time_t seconds = (time_t)now;
    struct at_value format;
    struct tm when;
    char *copy = NULL, text[512];
    size_t n;

    (void)self;
    TRY(at_args_take(&format, r, args, names, 1));
    if (format.type != AT_V_STRING)
        TRY(at_run_fail(r, "strftime_now() takes a text"));
    if (!localtime_r(&seconds, &when))
        TRY(at_run_fail(r, "the clock shows no date"));
    TRY(at_run_alloc(r, &copy, format.n + 1, 1));
    if (format.n > 0)
        memcpy(copy, format.s, format.n);
    text[0] = 1;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    n = strftime(text, sizeof text, copy, &when);
#pragma GCC diagnostic pop
    if (n == 0 && format.n > 0 && text[0] != 0)
        TRY(at_run_fail(r, "strftime_now() makes a text of more than %zu bytes", sizeof text));
    if (at_utf8_check(text, n) < n)
        TRY(at_run_fail(r, "strftime_now() makes a text that is not valid UTF-8"));
    TRY(at_value_copy_text(out, r, text, n));
done:
    return st;
}

static const struct at_function globals[] = {
    { "dict", call_dict },
    { "namespace", call_namespace },
    { "raise_exception", call_raise },
    { "range", call_range },
    { "strftime_now", call_strftime_now },
};

const struct at_function *at_global_find(const char *name, size_t n)
{
    return at_function_find(globals, AT_COUNT(globals), name, n);
}
