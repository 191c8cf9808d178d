/* Expressions: a parser by descent, one function a precedence, as jinja2's. */
#include "jinja_parts.h"

#include <errno.h>
#include <stdlib.h>

static AT_CHECKED parse_or(struct at_node **out, struct at_parser *p);
static AT_CHECKED parse_unary(struct at_node **out, struct at_parser *p, bool filters);

static AT_CHECKED wrap(struct at_node **out, struct at_parser *p, enum at_node_kind kind,
                       struct at_node *a, struct at_node *b)
{
    enum at_status st = at_parse_node(out, p, kind);

    if (st == AT_OK) {
        (*out)->a = a;
        (*out)->b = b;
    }
    return st;
}

/* ---- literals ---- */

static AT_CHECKED parse_number(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    const struct at_lexeme *token = p->at;
    char digits[64], *end = NULL;
    size_t n = 0;

    TRY(at_parse_node(out, p, AT_N_CONST));
    for (size_t i = 0; i < token->n; i++)
        if (token->s[i] != '_') {
            if (n + 1 == sizeof digits)
                TRY(at_parse_fail(p, "a number of more than 63 digits is not supported"));
            digits[n++] = token->s[i];
        }
    digits[n] = 0;
    errno = 0;
    if (token->kind == AT_LEX_FLOAT) {
        (*out)->value = at_v_float(strtod(digits, &end));
    } else {
        if (digits[0] == '0' && strspn(digits, "0") < n)
            TRY(at_parse_fail(p, "the number %s begins with 0", digits));
        (*out)->value = at_v_int(strtoll(digits, &end, 10));
        if (errno == ERANGE)
            TRY(at_parse_fail(p, "the number %s is too large", digits));
    }
    p->at++;
done:
    return st;
}

/* Strings that follow each other are one. */
static AT_CHECKED parse_string(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    char *copy = NULL;

    TRY(at_parse_node(out, p, AT_N_CONST));
    (*out)->value = at_v_text(p->at->s, p->at->n);
    p->at++;
    if (p->at->kind != AT_LEX_STRING)
        goto done;
    at_buf_put(&text, p->at[-1].s, p->at[-1].n);
    for (; p->at->kind == AT_LEX_STRING; p->at++)
        at_buf_put(&text, p->at->s, p->at->n);
    TRY(at_buf_status(&text));
    TRY(at_arena_strndup(&p->jinja->arena, &copy, text.data, text.n));
    (*out)->value = at_v_text(copy, text.n);
done:
    at_buf_release(&text);
    return st;
}

static AT_CHECKED parse_name(struct at_node **out, struct at_parser *p)
{
    static const struct {
        const char *name;
        struct at_value value;
    } words[] = {
        { "true", { .type = AT_V_BOOL, .i = 1 } },  { "True", { .type = AT_V_BOOL, .i = 1 } },
        { "false", { .type = AT_V_BOOL, .i = 0 } }, { "False", { .type = AT_V_BOOL, .i = 0 } },
        { "none", { .type = AT_V_NONE } },          { "None", { .type = AT_V_NONE } },
    };
    enum at_status st = AT_OK;
    const struct at_lexeme *token = p->at;

    TRY(at_parse_node(out, p, AT_N_NAME));
    p->at++;
    for (size_t i = 0; i < AT_COUNT(words); i++)
        if (at_text_is(token->s, token->n, words[i].name)) {
            (*out)->kind = AT_N_CONST;
            (*out)->value = words[i].value;
            goto done;
        }
    (*out)->name = token->s;
    (*out)->n_name = token->n;
    TRY(at_parse_symbol(&(*out)->symbol, p, token->s, token->n));
done:
    return st;
}

/* Items up to `close`, with an optional comma behind the last; of a dict keys and values. */
static AT_CHECKED parse_items(struct at_node **out, struct at_parser *p, enum at_node_kind kind,
                              const char *close)
{
    enum at_status st = AT_OK;
    struct at_node **last = NULL;

    TRY(at_parse_node(out, p, kind));
    p->at++;
    last = &(*out)->a;
    while (!at_parse_is(p, close)) {
        if ((*out)->a)
            TRY(at_parse_expect(p, ","));
        if (at_parse_is(p, close))
            break;
        TRY(at_parse_expression(last, p));
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what fails never returns AT_OK */
        last = &(*last)->next;
        if (kind != AT_N_DICT)
            continue;
        TRY(at_parse_expect(p, ":"));
        TRY(at_parse_expression(last, p));
        last = &(*last)->next;
    }
    TRY(at_parse_expect(p, close));
done:
    return st;
}

static AT_CHECKED parse_primary(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;

    TRY(at_parse_enter(p));
    switch (p->at->kind) {
    case AT_LEX_NAME:
        TRY(parse_name(out, p));
        break;
    case AT_LEX_STRING:
        TRY(parse_string(out, p));
        break;
    case AT_LEX_INTEGER:
    case AT_LEX_FLOAT:
        TRY(parse_number(out, p));
        break;
    default:
        if (at_parse_is(p, "[")) {
            TRY(parse_items(out, p, AT_N_LIST, "]"));
        } else if (at_parse_is(p, "{")) {
            TRY(parse_items(out, p, AT_N_DICT, "}"));
        } else if (at_parse_skip(p, "(")) {
            if (at_parse_is(p, ")"))
                TRY(at_parse_node(out, p, AT_N_TUPLE));
            else
                TRY(at_parse_tuple(out, p, true, NULL));
            TRY(at_parse_expect(p, ")"));
        } else {
            TRY(at_parse_unexpected(p, "an expression"));
        }
    }
    p->depth--;
done:
    return st;
}

/* ---- what stands behind a value ---- */

static AT_CHECKED parse_argument(struct at_node **out, struct at_parser *p,
                                 enum at_node_kind *latest)
{
    enum at_status st = AT_OK;
    enum at_node_kind kind = AT_N_POSITIONAL;
    const struct at_lexeme *name = p->at;

    if (at_parse_skip(p, "*"))
        kind = AT_N_STAR;
    else if (at_parse_skip(p, "**"))
        kind = AT_N_STAR_STAR;
    else if (name->kind == AT_LEX_NAME && at_text_is(name[1].s, name[1].n, "=") &&
             name[1].kind == AT_LEX_OPERATOR)
        kind = AT_N_KEYWORD;
    if (kind < *latest || (kind == *latest && kind >= AT_N_STAR))
        TRY(at_parse_fail(p, "the arguments of a call are not in order"));
    *latest = kind;
    TRY(at_parse_node(out, p, kind));
    if (kind == AT_N_KEYWORD) {
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what fails never returns AT_OK */
        (*out)->name = name->s;
        (*out)->n_name = name->n;
        p->at += 2;
    }
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what fails never returns AT_OK */
    TRY(at_parse_expression(&(*out)->a, p));
done:
    return st;
}

static AT_CHECKED parse_arguments(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    enum at_node_kind latest = AT_N_POSITIONAL;
    struct at_node **last = out;

    *out = NULL;
    TRY(at_parse_expect(p, "("));
    while (!at_parse_is(p, ")")) {
        if (*out)
            TRY(at_parse_expect(p, ","));
        if (at_parse_is(p, ")"))
            break;
        TRY(parse_argument(last, p, &latest));
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what fails never returns AT_OK */
        last = &(*last)->next;
    }
    TRY(at_parse_expect(p, ")"));
done:
    return st;
}

/* What stands in brackets: an expression, or a slice. */
static AT_CHECKED parse_subscript(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_node *begin = NULL, *slice = NULL;

    if (!at_parse_is(p, ":"))
        TRY(at_parse_expression(&begin, p));
    *out = begin;
    if (!at_parse_skip(p, ":"))
        goto done;
    TRY(wrap(&slice, p, AT_N_SLICE, begin, NULL));
    if (!at_parse_is(p, ":") && !at_parse_is(p, "]"))
        TRY(at_parse_expression(&slice->b, p));
    if (at_parse_skip(p, ":") && !at_parse_is(p, "]"))
        TRY(at_parse_expression(&slice->c, p));
    *out = slice;
done:
    return st;
}

static AT_CHECKED parse_attribute(struct at_node **inout, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_node *node = NULL;

    if (p->at->kind == AT_LEX_NAME) {
        TRY(wrap(&node, p, AT_N_ATTR, *inout, NULL));
        node->name = p->at->s;
        node->n_name = p->at->n;
        p->at++;
    } else if (p->at->kind == AT_LEX_INTEGER) {
        TRY(wrap(&node, p, AT_N_ITEM, *inout, NULL));
        TRY(parse_number(&node->b, p));
    } else {
        TRY(at_parse_unexpected(p, "a name"));
    }
    *inout = node;
done:
    return st;
}

static AT_CHECKED parse_postfix(struct at_node **inout, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_node *node = NULL;

    for (;;) {
        if (at_parse_is(p, "(")) {
            TRY(wrap(&node, p, AT_N_CALL, *inout, NULL));
            TRY(parse_arguments(&node->b, p));
            *inout = node;
        } else if (at_parse_skip(p, "[")) {
            TRY(wrap(&node, p, AT_N_ITEM, *inout, NULL));
            TRY(parse_subscript(&node->b, p));
            TRY(at_parse_expect(p, "]"));
            *inout = node;
        } else if (at_parse_skip(p, ".")) {
            TRY(parse_attribute(inout, p));
        } else {
            break;
        }
    }
done:
    return st;
}

AT_CHECKED at_parse_filters(struct at_node **out, struct at_parser *p, struct at_node *operand,
                            bool inline_first)
{
    enum at_status st = AT_OK;
    struct at_node *node = NULL;

    *out = operand;
    while (inline_first || at_parse_skip(p, "|")) {
        inline_first = false;
        if (p->at->kind != AT_LEX_NAME)
            TRY(at_parse_unexpected(p, "the name of a filter"));
        TRY(wrap(&node, p, AT_N_FILTER, *out, NULL));
        node->name = p->at->s;
        node->n_name = p->at->n;
        node->function = at_filter_find(p->at->s, p->at->n);
        if (!node->function)
            TRY(at_parse_fail(p, "the filter \"%.*s\" is not supported", (int)p->at->n, p->at->s));
        p->at++;
        if (at_parse_is(p, "("))
            TRY(parse_arguments(&node->b, p));
        *out = node;
    }
done:
    return st;
}

static bool begins_operand(const struct at_parser *p)
{
    switch (p->at->kind) {
    case AT_LEX_NAME:
        return !at_parse_is_name(p, "else") && !at_parse_is_name(p, "or") &&
               !at_parse_is_name(p, "and");
    case AT_LEX_STRING:
    case AT_LEX_INTEGER:
    case AT_LEX_FLOAT:
        return true;
    default:
        return at_parse_is(p, "[") || at_parse_is(p, "{");
    }
}

/* Behind "is". */
static AT_CHECKED parse_test(struct at_node **inout, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_node *node = NULL, *argument = NULL;
    const bool negated = at_parse_skip_name(p, "not");

    if (p->at->kind != AT_LEX_NAME)
        TRY(at_parse_unexpected(p, "the name of a test"));
    TRY(wrap(&node, p, AT_N_TEST, *inout, NULL));
    node->name = p->at->s;
    node->n_name = p->at->n;
    node->function = at_test_find(p->at->s, p->at->n);
    if (!node->function)
        TRY(at_parse_fail(p, "the test \"%.*s\" is not supported", (int)p->at->n, p->at->s));
    p->at++;
    if (at_parse_is(p, "(")) {
        TRY(parse_arguments(&node->b, p));
    } else if (begins_operand(p)) {
        if (at_parse_is_name(p, "is"))
            TRY(at_parse_fail(p, "tests cannot be chained with \"is\""));
        TRY(wrap(&argument, p, AT_N_POSITIONAL, NULL, NULL));
        TRY(parse_primary(&argument->a, p));
        TRY(parse_postfix(&argument->a, p));
        node->b = argument;
    }
    *inout = node;
    if (negated)
        TRY(wrap(inout, p, AT_N_NOT, node, NULL));
done:
    return st;
}

static AT_CHECKED parse_filters_and_tests(struct at_node **inout, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_node *node = NULL;

    for (;;) {
        if (at_parse_is(p, "|")) {
            TRY(at_parse_filters(inout, p, *inout, false));
        } else if (at_parse_skip_name(p, "is")) {
            TRY(parse_test(inout, p));
        } else if (at_parse_is(p, "(")) {
            TRY(wrap(&node, p, AT_N_CALL, *inout, NULL));
            TRY(parse_arguments(&node->b, p));
            *inout = node;
        } else {
            break;
        }
    }
done:
    return st;
}

/* ---- operators ---- */

static AT_CHECKED parse_unary(struct at_node **out, struct at_parser *p, bool filters)
{
    enum at_status st = AT_OK;
    const bool minus = at_parse_skip(p, "-"), plus = !minus && at_parse_skip(p, "+");

    if (minus || plus) {
        TRY(at_parse_enter(p));
        TRY(at_parse_node(out, p, minus ? AT_N_MINUS : AT_N_PLUS));
        TRY(parse_unary(&(*out)->a, p, false));
        p->depth--;
    } else {
        TRY(parse_primary(out, p));
    }
    TRY(parse_postfix(out, p));
    if (filters)
        TRY(parse_filters_and_tests(out, p));
done:
    return st;
}

/* Operators of one precedence, from the left: each level is a row, the tightest first. */
static const struct level {
    struct {
        const char *text;
        enum at_operator op;
    } operators[4];
} levels[] = {
    { { { "**", AT_OP_POW } } },
    { { { "*", AT_OP_MUL }, { "/", AT_OP_DIV }, { "//", AT_OP_FLOOR }, { "%", AT_OP_MOD } } },
    { { { NULL, AT_OP_ADD } } }, /* "~", which takes many */
    { { { "+", AT_OP_ADD }, { "-", AT_OP_SUB } } },
};

static AT_CHECKED parse_level(struct at_node **out, struct at_parser *p, size_t level);

static AT_CHECKED parse_concat(struct at_node **out, struct at_parser *p, size_t level)
{
    enum at_status st = AT_OK;
    struct at_node *node = NULL, **last = NULL;

    TRY(parse_level(out, p, level - 1));
    if (!at_parse_is(p, "~"))
        goto done;
    TRY(wrap(&node, p, AT_N_CONCAT, *out, NULL));
    last = &node->a->next;
    while (at_parse_skip(p, "~")) {
        TRY(parse_level(last, p, level - 1));
        last = &(*last)->next;
    }
    *out = node;
done:
    return st;
}

static AT_CHECKED parse_operand(struct at_node **out, struct at_parser *p, size_t level)
{
    if (level == 0)
        return parse_unary(out, p, true);
    return levels[level - 1].operators[0].text ? parse_level(out, p, level - 1)
                                               : parse_concat(out, p, level - 1);
}

static AT_CHECKED parse_level(struct at_node **out, struct at_parser *p, size_t level)
{
    enum at_status st = AT_OK;
    struct at_node *node = NULL;

    TRY(parse_operand(out, p, level));
    for (size_t i = 0; i < AT_COUNT(levels[level].operators);) {
        const char *text = levels[level].operators[i].text;
        if (!text || !at_parse_skip(p, text)) {
            i++;
            continue;
        }
        TRY(wrap(&node, p, AT_N_BINARY, *out, NULL));
        node->op = levels[level].operators[i].op;
        TRY(parse_operand(&node->b, p, level));
        *out = node;
        i = 0;
    }
done:
    return st;
}

static bool skip_comparison(enum at_operator *out, struct at_parser *p)
{
    static const struct {
        const char *text;
        enum at_operator op;
    } signs[] = { { "==", AT_OP_EQ }, { "!=", AT_OP_NE }, { "<", AT_OP_LT },
                  { "<=", AT_OP_LE }, { ">", AT_OP_GT },  { ">=", AT_OP_GE } };

    for (size_t i = 0; i < AT_COUNT(signs); i++)
        if (at_parse_skip(p, signs[i].text)) {
            *out = signs[i].op;
            return true;
        }
    if (at_parse_skip_name(p, "in")) {
        *out = AT_OP_IN;
        return true;
    }
    if (at_parse_is_name(p, "not") && p->at[1].kind == AT_LEX_NAME &&
        at_text_is(p->at[1].s, p->at[1].n, "in")) {
        p->at += 2;
        *out = AT_OP_NOT_IN;
        return true;
    }
    return false;
}

static AT_CHECKED parse_compare(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_node *node = NULL, **last = NULL;
    enum at_operator op;

    TRY(parse_level(out, p, AT_COUNT(levels) - 1));
    while (skip_comparison(&op, p)) {
        if (!node) {
            TRY(wrap(&node, p, AT_N_COMPARE, *out, NULL));
            last = &node->b;
        }
        TRY(at_parse_node(last, p, AT_N_OPERAND));
        (*last)->op = op;
        TRY(parse_level(&(*last)->a, p, AT_COUNT(levels) - 1));
        last = &(*last)->next;
        *out = node;
    }
done:
    return st;
}

static AT_CHECKED parse_not(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;

    if (!at_parse_skip_name(p, "not"))
        return parse_compare(out, p);
    TRY(at_parse_enter(p));
    TRY(at_parse_node(out, p, AT_N_NOT));
    TRY(parse_not(&(*out)->a, p));
    p->depth--;
done:
    return st;
}

static AT_CHECKED parse_and(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_node *node = NULL;

    TRY(parse_not(out, p));
    while (at_parse_skip_name(p, "and")) {
        TRY(wrap(&node, p, AT_N_AND, *out, NULL));
        TRY(parse_not(&node->b, p));
        *out = node;
    }
done:
    return st;
}

static AT_CHECKED parse_or(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_node *node = NULL;

    TRY(parse_and(out, p));
    while (at_parse_skip_name(p, "or")) {
        TRY(wrap(&node, p, AT_N_OR, *out, NULL));
        TRY(parse_and(&node->b, p));
        *out = node;
    }
done:
    return st;
}

AT_CHECKED at_parse_expression(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_node *node = NULL;

    TRY(at_parse_enter(p));
    TRY(parse_or(out, p));
    while (at_parse_skip_name(p, "if")) {
        TRY(wrap(&node, p, AT_N_COND, *out, NULL));
        TRY(parse_or(&node->b, p));
        if (at_parse_skip_name(p, "else"))
            TRY(at_parse_expression(&node->c, p));
        *out = node;
    }
    p->depth--;
done:
    return st;
}

static bool ends_tuple(const struct at_parser *p, const char *end_word)
{
    return p->at->kind == AT_LEX_VARIABLE_END || p->at->kind == AT_LEX_BLOCK_END ||
           at_parse_is(p, ")") || (end_word && at_parse_is_name(p, end_word));
}

typedef enum at_status parse_item(struct at_node **out, struct at_parser *p);

static AT_CHECKED parse_sequence(struct at_node **out, struct at_parser *p, parse_item *item,
                                 const char *end_word)
{
    enum at_status st = AT_OK;
    struct at_node *tuple = NULL, **last = NULL;

    TRY(item(out, p));
    if (!at_parse_is(p, ","))
        goto done;
    TRY(wrap(&tuple, p, AT_N_TUPLE, *out, NULL));
    last = &(*out)->next;
    while (at_parse_skip(p, ",") && !ends_tuple(p, end_word)) {
        TRY(item(last, p));
        last = &(*last)->next;
    }
    *out = tuple;
done:
    return st;
}

AT_CHECKED at_parse_tuple(struct at_node **out, struct at_parser *p, bool conditional,
                          const char *end_word)
{
    return parse_sequence(out, p, conditional ? at_parse_expression : parse_or, end_word);
}

static AT_CHECKED parse_name_target(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;

    if (at_parse_skip(p, "(")) {
        TRY(at_parse_enter(p));
        TRY(parse_sequence(out, p, parse_name_target, NULL));
        TRY(at_parse_expect(p, ")"));
        p->depth--;
        goto done;
    }
    if (p->at->kind != AT_LEX_NAME)
        TRY(at_parse_unexpected(p, "a name to assign to"));
    TRY(parse_name(out, p));
    if ((*out)->kind != AT_N_NAME)
        TRY(at_parse_fail(p, "a constant cannot be assigned to"));
done:
    return st;
}

static AT_CHECKED parse_member_target(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;

    TRY(parse_name_target(out, p));
    if ((*out)->kind != AT_N_NAME || !at_parse_skip(p, "."))
        goto done;
    if (p->at->kind != AT_LEX_NAME)
        TRY(at_parse_unexpected(p, "a name"));
    (*out)->kind = AT_N_MEMBER;
    (*out)->name = p->at->s;
    (*out)->n_name = p->at->n;
    p->at++;
done:
    return st;
}

AT_CHECKED at_parse_target(struct at_node **out, struct at_parser *p, bool members,
                           const char *end_word)
{
    return parse_sequence(out, p, members ? parse_member_target : parse_name_target, end_word);
}
