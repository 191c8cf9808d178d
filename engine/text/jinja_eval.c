/* Expressions: operators, names, calls. */
#include "jinja_parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* ---- operators ---- */

static const char *sign_of(enum at_operator op)
{
    static const char *const signs[] = { "+",  "-", "*",  "/", "//", "%",  "** or pow()", "==",
                                         "!=", "<", "<=", ">", ">=", "in", "not in" };

    return signs[op];
}

static AT_CHECKED refuse_operands(struct at_jinja_run *r, enum at_operator op,
                                  const struct at_value *a, const struct at_value *b)
{
    if (op == AT_OP_ADD && a->type == AT_V_STRING)
        return at_run_fail(r, "can only concatenate str (not \"%s\") to str",
                           at_value_type_name(b));
    return at_run_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", sign_of(op),
                       at_value_type_name(a), at_value_type_name(b));
}

static AT_CHECKED escape_part(struct at_value *inout, struct at_jinja_run *r)
{
    static const struct at_args none;
    const struct at_value v = *inout;

    return at_filter_find("escape", 6)->call(inout, r, &v, &none);
}

/* a + b; next to a safe text the other is escaped. */
static AT_CHECKED add_texts(struct at_value *out, struct at_jinja_run *r, struct at_value a,
                            struct at_value b)
{
    enum at_status st = AT_OK;
    const bool safe = a.safe || b.safe;
    char *text = NULL;

    if (safe)
        TRY(escape_part(&a, r));
    if (safe)
        TRY(escape_part(&b, r));
    TRY(at_run_alloc(r, &text, a.n + b.n + 1, 1));
    if (a.n > 0)
        memcpy(text, a.s, a.n);
    if (b.n > 0)
        memcpy(text + a.n, b.s, b.n);
    *out = at_v_text(text, a.n + b.n);
    out->safe = safe;
done:
    return st;
}

static AT_CHECKED add_items(struct at_value *out, struct at_jinja_run *r, const struct at_value *a,
                            const struct at_value *b)
{
    enum at_status st = AT_OK;

    TRY(at_value_list(out, r, a->type, a->items->n + b->items->n));
    for (size_t i = 0; i < a->items->n + b->items->n; i++)
        TRY(at_items_push(r, out->items,
                          i < a->items->n ? a->items->data[i] : b->items->data[i - a->items->n]));
done:
    return st;
}

static AT_CHECKED repeat(struct at_value *out, struct at_jinja_run *r, const struct at_value *v,
                         int64_t times)
{
    enum at_status st = AT_OK;
    const size_t n = v->type == AT_V_STRING ? v->n : v->items->n;
    size_t count = times > 0 ? (size_t)times : 0, total = 0;
    char *text = NULL;

    if (n == 0)
        count = 0;
    if (!at_mul_ok(&total, n, count) || total > SIZE_MAX / 64)
        TRY(at_run_fail(r, "the text or list is too long when it is repeated"));
    if (v->type == AT_V_STRING) {
        TRY(at_run_alloc(r, &text, total + 1, 1));
        for (size_t i = 0; i < count; i++)
            memcpy(text + i * n, v->s, n);
        *out = at_v_text(text, total);
        out->safe = v->safe;
        goto done;
    }
    TRY(at_value_list(out, r, v->type, total));
    for (size_t i = 0; i < total; i++)
        TRY(at_items_push(r, out->items, v->items->data[i % n]));
done:
    return st;
}

static bool int_power(int64_t *out, int64_t base, int64_t exponent)
{
    *out = 1;
    for (; exponent > 0; exponent >>= 1) {
        if ((exponent & 1) && __builtin_mul_overflow(*out, base, out))
            return false;
        if (exponent > 1 && __builtin_mul_overflow(base, base, &base))
            return false;
    }
    return true;
}

static AT_CHECKED int_binary(struct at_value *out, struct at_jinja_run *r, enum at_operator op,
                             int64_t a, int64_t b)
{
    int64_t x = 0;
    bool ok = true;

    if ((op == AT_OP_FLOOR || op == AT_OP_MOD) && b == 0)
        return at_run_fail(r, "integer division or modulo by zero");
    switch (op) {
    case AT_OP_ADD:
        ok = !__builtin_add_overflow(a, b, &x);
        break;
    case AT_OP_SUB:
        ok = !__builtin_sub_overflow(a, b, &x);
        break;
    case AT_OP_MUL:
        ok = !__builtin_mul_overflow(a, b, &x);
        break;
    case AT_OP_POW:
        ok = int_power(&x, a, b);
        break;
    default: /* rounded down, the rest has the divisor's sign */
        ok = a != INT64_MIN || b != -1;
        if (!ok)
            break;
        x = op == AT_OP_FLOOR ? a / b : a % b;
        if (a % b != 0 && (a < 0) != (b < 0))
            x += op == AT_OP_FLOOR ? -1 : b;
    }
    if (!ok)
        return at_run_fail(r, "a whole number grows past 64 bits");
    *out = at_v_int(x);
    return AT_OK;
}

static double float_modulo(double a, double b)
{
    const double rest = fmod(a, b);

    if (rest == 0)
        return copysign(0, b);
    return (rest < 0) != (b < 0) ? rest + b : rest;
}

/* Python's float.__floordiv__, which goes by the rest. */
static double float_floor(double a, double b)
{
    const double whole = (a - float_modulo(a, b)) / b, down = floor(whole);

    if (whole == 0)
        return copysign(0, a / b);
    return whole - down > 0.5 ? down + 1 : down;
}

static AT_CHECKED float_binary(struct at_value *out, struct at_jinja_run *r, enum at_operator op,
                               double a, double b)
{
    if ((op == AT_OP_DIV || op == AT_OP_FLOOR || op == AT_OP_MOD) && b == 0)
        return at_run_fail(r, "division by zero");
    switch (op) {
    case AT_OP_ADD:
        *out = at_v_float(a + b);
        break;
    case AT_OP_SUB:
        *out = at_v_float(a - b);
        break;
    case AT_OP_MUL:
        *out = at_v_float(a * b);
        break;
    case AT_OP_DIV:
        *out = at_v_float(a / b);
        break;
    case AT_OP_FLOOR:
        *out = at_v_float(float_floor(a, b));
        break;
    case AT_OP_MOD:
        *out = at_v_float(float_modulo(a, b));
        break;
    default:
        *out = at_v_float(pow(a, b));
        if ((a == 0 && b < 0) || (a < 0 && b != floor(b)) || (isinf(out->f) && isfinite(a)))
            return at_run_fail(r, "the power is no number");
    }
    return AT_OK;
}

static AT_CHECKED arithmetic(struct at_value *out, struct at_jinja_run *r, enum at_operator op,
                             const struct at_value *a, const struct at_value *b)
{
    const bool many = a->type == AT_V_TUPLE || a->type == AT_V_LIST;
    const bool many_b = b->type == AT_V_TUPLE || b->type == AT_V_LIST || b->type == AT_V_STRING;
    enum at_status st = AT_OK;

    TRY(at_value_need(r, a));
    if (op == AT_OP_MOD && a->type == AT_V_STRING) {
        const bool tuple = b->type == AT_V_TUPLE;
        return at_text_percent(out, r, a, tuple ? b->items->data : b, tuple ? b->items->n : 1,
                               b->type == AT_V_DICT ? b : NULL);
    }
    TRY(at_value_need(r, b));
    if (at_v_is_integer(a) && at_v_is_integer(b) && op != AT_OP_DIV &&
        !(op == AT_OP_POW && b->i < 0))
        return int_binary(out, r, op, a->i, b->i);
    if (at_v_is_number(a) && at_v_is_number(b))
        return float_binary(out, r, op, at_v_number(a), at_v_number(b));
    if (op == AT_OP_ADD && a->type == AT_V_STRING && b->type == AT_V_STRING)
        return add_texts(out, r, *a, *b);
    if (op == AT_OP_ADD && many && a->type == b->type)
        return add_items(out, r, a, b);
    if (op == AT_OP_MUL && (many || a->type == AT_V_STRING) && at_v_is_integer(b))
        return repeat(out, r, a, b->i);
    if (op == AT_OP_MUL && many_b && at_v_is_integer(a))
        return repeat(out, r, b, a->i);
    return refuse_operands(r, op, a, b);
done:
    return st;
}

AT_CHECKED at_value_binary(struct at_value *out, struct at_jinja_run *r, enum at_operator op,
                           const struct at_value *a, const struct at_value *b)
{
    enum at_status st = AT_OK;
    bool is = false;
    int order = 0;

    switch (op) {
    case AT_OP_EQ:
    case AT_OP_NE:
        TRY(at_value_equal(&is, r, a, b));
        *out = at_v_bool(is == (op == AT_OP_EQ));
        break;
    case AT_OP_IN:
    case AT_OP_NOT_IN:
        TRY(at_value_contains(&is, r, b, a));
        *out = at_v_bool(is == (op == AT_OP_IN));
        break;
    case AT_OP_LT:
    case AT_OP_LE:
    case AT_OP_GT:
    case AT_OP_GE:
        TRY(at_value_compare(&order, r, a, b, sign_of(op)));
        *out = at_v_bool(order != 2 && (op == AT_OP_LT   ? order < 0
                                        : op == AT_OP_LE ? order <= 0
                                        : op == AT_OP_GT ? order > 0
                                                         : order >= 0));
        break;
    default:
        TRY(arithmetic(out, r, op, a, b));
    }
done:
    return st;
}

static AT_CHECKED eval_sign(struct at_value *out, struct at_jinja_run *r,
                            const struct at_node *node)
{
    enum at_status st = AT_OK;
    const struct at_value zero = at_v_int(0);
    struct at_value v;

    TRY(at_eval(&v, r, node->a));
    TRY(at_value_need(r, &v));
    if (!at_v_is_number(&v))
        TRY(at_run_fail(r, "bad operand type for unary %s: '%s'",
                        node->kind == AT_N_MINUS ? "-" : "+", at_value_type_name(&v)));
    if (v.type == AT_V_FLOAT)
        *out = at_v_float(node->kind == AT_N_MINUS ? -v.f : v.f);
    else
        TRY(at_value_binary(out, r, node->kind == AT_N_MINUS ? AT_OP_SUB : AT_OP_ADD, &zero, &v));
done:
    return st;
}

/* a < b < c: each operand once, up to the first that does not hold. */
static AT_CHECKED eval_compare(struct at_value *out, struct at_jinja_run *r,
                               const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_value left, right;

    TRY(at_eval(&left, r, node->a));
    for (const struct at_node *o = node->b; o; o = o->next) {
        TRY(at_eval(&right, r, o->a));
        TRY(at_value_binary(out, r, o->op, &left, &right));
        if (!out->i)
            break;
        left = right;
    }
done:
    return st;
}

static AT_CHECKED eval_concat(struct at_value *out, struct at_jinja_run *r,
                              const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    struct at_value v;

    for (const struct at_node *item = node->a; item; item = item->next) {
        TRY(at_eval(&v, r, item));
        TRY(at_value_put(&text, r, &v));
    }
    TRY(at_value_from_buf(out, r, &text));
done:
    at_buf_release(&text);
    return st;
}

/* ---- containers ---- */

static AT_CHECKED eval_list(struct at_value *out, struct at_jinja_run *r,
                            const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_value v;

    TRY(at_value_list(out, r, node->kind == AT_N_TUPLE ? AT_V_TUPLE : AT_V_LIST, 4));
    for (const struct at_node *item = node->a; item; item = item->next) {
        TRY(at_eval(&v, r, item));
        TRY(at_items_push(r, out->items, v));
    }
done:
    return st;
}

static AT_CHECKED eval_dict(struct at_value *out, struct at_jinja_run *r,
                            const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_value key, value;

    TRY(at_value_dict(out, r, AT_V_DICT, 4));
    for (const struct at_node *item = node->a; item; item = item->next->next) {
        TRY(at_eval(&key, r, item));
        TRY(at_eval(&value, r, item->next));
        TRY(at_dict_put(r, out->dict, key, value));
    }
done:
    return st;
}

static AT_CHECKED eval_item(struct at_value *out, struct at_jinja_run *r,
                            const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_value v, key, bounds[3] = { at_v_none(), at_v_none(), at_v_none() };

    TRY(at_eval(&v, r, node->a));
    if (node->b->kind != AT_N_SLICE) {
        TRY(at_eval(&key, r, node->b));
        r->line = node->line;
        TRY(at_value_item(out, r, &v, &key));
        goto done;
    }
    if (node->b->a)
        TRY(at_eval(&bounds[0], r, node->b->a));
    if (node->b->b)
        TRY(at_eval(&bounds[1], r, node->b->b));
    if (node->b->c)
        TRY(at_eval(&bounds[2], r, node->b->c));
    TRY(at_value_slice(out, r, &v, bounds));
done:
    return st;
}

/* ---- names and calls ---- */

static AT_CHECKED eval_name(struct at_value *out, struct at_jinja_run *r,
                            const struct at_node *node)
{
    static const char *const not_built[] = { "cycler", "joiner", "lipsum", "self", "super" };
    enum at_status st = AT_OK;
    const size_t size = node->n_name + 24;
    struct at_value *found = NULL;
    char *why = NULL;

    TRY(at_run_find(&found, r, r->scope, NULL, node->symbol));
    if (found) {
        *out = *found;
        goto done;
    }
    out->type = AT_V_FUNCTION;
    out->function = at_global_find(node->name, node->n_name);
    if (out->function)
        goto done;
    for (size_t i = 0; i < AT_COUNT(not_built); i++)
        if (at_text_is(node->name, node->n_name, not_built[i]))
            TRY(at_run_fail(r, "\"%s\" is not supported", not_built[i]));
    TRY(at_run_alloc(r, &why, size, 1));
    snprintf(why, size, "'%.*s' is undefined", (int)node->n_name, node->name);
    *out = at_v_undefined(why);
done:
    return st;
}

static AT_CHECKED spread(struct at_jinja_run *r, struct at_items *out, const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_items *items = NULL;
    struct at_value v;

    TRY(at_eval(&v, r, node));
    TRY(at_value_items(&items, r, &v));
    for (size_t i = 0; i < items->n; i++)
        TRY(at_items_push(r, out, items->data[i]));
done:
    return st;
}

static AT_CHECKED push_keyword(struct at_jinja_run *r, struct at_args *args, const char *name,
                               size_t n, const struct at_value *value)
{
    enum at_status st = AT_OK;
    struct at_keyword *keywords = NULL;

    TRY(at_run_work(r, args->n_keywords * (1 + n / 8)));
    for (size_t i = 0; i < args->n_keywords; i++)
        if (args->keywords[i].n_name == n && memcmp(args->keywords[i].name, name, n) == 0)
            TRY(at_run_fail(r, "got multiple values for keyword argument '%.*s'", (int)n, name));
    TRY(at_run_alloc(r, &keywords, args->n_keywords + 1, sizeof *keywords));
    if (args->n_keywords > 0)
        memcpy(keywords, args->keywords, args->n_keywords * sizeof *keywords);
    keywords[args->n_keywords++] = (struct at_keyword){ name, n, *value };
    args->keywords = keywords;
done:
    return st;
}

static AT_CHECKED eval_arguments(struct at_args *out, struct at_jinja_run *r,
                                 const struct at_node *list)
{
    enum at_status st = AT_OK;
    struct at_items items = { .n = 0 };
    struct at_value v;

    *out = (struct at_args){ .n = 0 };
    for (const struct at_node *a = list; a; a = a->next) {
        if (a->kind == AT_N_STAR) {
            TRY(spread(r, &items, a->a));
            continue;
        }
        TRY(at_eval(&v, r, a->a));
        if (a->kind == AT_N_POSITIONAL) {
            TRY(at_items_push(r, &items, v));
        } else if (a->kind == AT_N_KEYWORD) {
            TRY(push_keyword(r, out, a->name, a->n_name, &v));
        } else {
            if (v.type != AT_V_DICT)
                TRY(at_run_fail(r, "argument after ** must be a mapping, not %s",
                                at_value_type_name(&v)));
            for (size_t i = 0; i < v.dict->n; i++) {
                const struct at_pair *p = &v.dict->data[i];
                if (p->key.type != AT_V_STRING)
                    TRY(at_run_fail(r, "keywords must be strings"));
                TRY(push_keyword(r, out, p->key.s, p->key.n, &p->value));
            }
        }
    }
    out->data = items.data;
    out->n = items.n;
done:
    return st;
}

AT_CHECKED at_args_take(struct at_value *values, struct at_jinja_run *r, const struct at_args *args,
                        const char *const *names, size_t needed)
{
    enum at_status st = AT_OK;
    bool given[AT_MAX_PARAMS] = { false };
    size_t n = 0;

    while (names[n])
        n++;
    AT_REQUIRE(n <= AT_MAX_PARAMS);
    if (args->n > n)
        TRY(at_run_fail(r, "%zu arguments are given where at most %zu are taken", args->n, n));
    for (size_t i = 0; i < args->n; i++) {
        values[i] = args->data[i];
        given[i] = true;
    }
    for (size_t k = 0; k < args->n_keywords; k++) {
        const struct at_keyword *keyword = &args->keywords[k];
        size_t i = 0;
        while (i < n && !at_text_is(keyword->name, keyword->n_name, names[i]))
            i++;
        if (i == n || given[i])
            TRY(at_run_fail(r, "the argument \"%.*s\" is not known here, or given twice",
                            (int)keyword->n_name, keyword->name));
        values[i] = keyword->value;
        given[i] = true;
    }
    for (size_t i = 0; i < needed; i++)
        if (!given[i])
            TRY(at_run_fail(r, "the argument \"%s\" is missing", names[i]));
done:
    return st;
}

const struct at_function *at_function_find(const struct at_function *table, size_t n_table,
                                           const char *name, size_t n)
{
    size_t low = 0, high = n_table;

    while (low < high) {
        const size_t middle = (low + high) / 2, length = strlen(table[middle].name);
        const int order = memcmp(table[middle].name, name, length < n ? length : n);
        if (order == 0 && length == n)
            return &table[middle];
        if (order < 0 || (order == 0 && length < n))
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

AT_CHECKED at_value_call(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                         const struct at_args *args)
{
    const struct at_function *method = NULL;

    switch ((enum at_value_type)self->type) {
    case AT_V_FUNCTION:
        return self->function->call(out, r, NULL, args);
    case AT_V_METHOD:
        method = self->method->function;
        if (!method->call)
            return at_run_fail(r, "access to attribute '%s' of '%s' object is unsafe.",
                               method->name, at_value_type_name(&self->method->self));
        return method->call(out, r, &self->method->self, args);
    case AT_V_MACRO:
        return at_macro_call(out, r, self->macro, args);
    case AT_V_UNDEFINED:
        return at_value_need(r, self);
    default:
        return at_run_fail(r, "'%s' object is not callable", at_value_type_name(self));
    }
}

static AT_CHECKED eval_call(struct at_value *out, struct at_jinja_run *r,
                            const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_value self;
    struct at_args args;

    TRY(at_eval(&self, r, node->a));
    TRY(eval_arguments(&args, r, node->b));
    r->line = node->line;
    TRY(at_value_call(out, r, &self, &args));
done:
    return st;
}

/* A filter or test on a value. */
static AT_CHECKED apply(struct at_value *out, struct at_jinja_run *r, const struct at_node *node,
                        const struct at_value *self)
{
    enum at_status st = AT_OK;
    struct at_args args;

    TRY(eval_arguments(&args, r, node->b));
    r->line = node->line;
    TRY(node->function->call(out, r, self, &args));
done:
    return st;
}

AT_CHECKED at_eval_filters(struct at_value *out, struct at_jinja_run *r, const struct at_node *node,
                           const struct at_value *operand)
{
    enum at_status st = AT_OK;
    struct at_value v;

    TRY(at_run_enter(r));
    if (node) {
        TRY(at_eval_filters(&v, r, node->a, operand));
        TRY(apply(out, r, node, &v));
    } else {
        *out = *operand;
    }
    r->depth--;
done:
    return st;
}

static AT_CHECKED eval_unary(struct at_value *out, struct at_jinja_run *r,
                             const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_value v, second;

    TRY(at_eval(&v, r, node->a));
    switch (node->kind) {
    case AT_N_OR:
    case AT_N_AND:
        if (at_value_true(&v) == (node->kind == AT_N_OR))
            *out = v;
        else
            TRY(at_eval(out, r, node->b));
        break;
    case AT_N_NOT:
        *out = at_v_bool(!at_value_true(&v));
        break;
    case AT_N_BINARY:
        TRY(at_eval(&second, r, node->b));
        r->line = node->line;
        TRY(at_value_binary(out, r, node->op, &v, &second));
        break;
    case AT_N_ATTR:
        r->line = node->line;
        TRY(at_value_attr(out, r, &v, node->name, node->n_name));
        break;
    default: /* AT_N_FILTER, AT_N_TEST */
        TRY(apply(out, r, node, &v));
    }
done:
    return st;
}

static AT_CHECKED eval_condition(struct at_value *out, struct at_jinja_run *r,
                                 const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_value condition;

    TRY(at_eval(&condition, r, node->b));
    if (at_value_true(&condition))
        TRY(at_eval(out, r, node->a));
    else if (node->c)
        TRY(at_eval(out, r, node->c));
    else
        *out = at_v_undefined("the inline if-expression evaluated to false and no else section "
                              "was defined.");
done:
    return st;
}

AT_CHECKED at_eval(struct at_value *out, struct at_jinja_run *r, const struct at_node *node)
{
    typedef enum at_status eval(struct at_value *, struct at_jinja_run *, const struct at_node *);
    static eval *const by_kind[AT_N_TEST + 1] = {
        [AT_N_NAME] = eval_name,     [AT_N_TUPLE] = eval_list,      [AT_N_LIST] = eval_list,
        [AT_N_DICT] = eval_dict,     [AT_N_COND] = eval_condition,  [AT_N_OR] = eval_unary,
        [AT_N_AND] = eval_unary,     [AT_N_NOT] = eval_unary,       [AT_N_MINUS] = eval_sign,
        [AT_N_PLUS] = eval_sign,     [AT_N_COMPARE] = eval_compare, [AT_N_BINARY] = eval_unary,
        [AT_N_CONCAT] = eval_concat, [AT_N_ATTR] = eval_unary,      [AT_N_ITEM] = eval_item,
        [AT_N_CALL] = eval_call,     [AT_N_FILTER] = eval_unary,    [AT_N_TEST] = eval_unary
    };
    enum at_status st = AT_OK;

    r->line = node->line;
    if (node->kind == AT_N_CONST) {
        *out = node->value;
        return at_run_work(r, AT_STEP_WORK / 4);
    }
    AT_REQUIRE(node->kind <= AT_N_TEST && by_kind[node->kind]);
    TRY(at_run_enter(r));
    TRY(by_kind[node->kind](out, r, node));
    r->depth--;
done:
    return st;
}
