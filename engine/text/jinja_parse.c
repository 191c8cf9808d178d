/* Statements, and what the parser of expressions needs. */
#include "jinja_parts.h"

#include <stdio.h>

static AT_CHECKED parse_list(struct at_node **out, struct at_parser *p, const char *const *ends);

/* ---- the parser's state ---- */

AT_CHECKED at_parse_node(struct at_node **out, struct at_parser *p, enum at_node_kind kind)
{
    const enum at_status st = at_arena_alloc(&p->jinja->arena, out, 1, sizeof **out);

    if (st == AT_OK) {
        (*out)->kind = kind;
        (*out)->line = p->at->line;
    }
    return st;
}

enum at_status at_parse_fail(const struct at_parser *p, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 forgets va_start() */
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return at_fail(AT_DATA, "%s: line %u: %s", p->jinja->name, p->at->line, text);
}

enum at_status at_parse_unexpected(const struct at_parser *p, const char *wanted)
{
    const struct at_lexeme *token = p->at;

    if (token->kind == AT_LEX_END)
        return at_parse_fail(p, "the template ends where %s is expected", wanted);
    return at_parse_fail(p, "%s is expected at \"%.*s\"", wanted,
                         (int)(token->n < 40 ? token->n : 40), token->s);
}

AT_CHECKED at_parse_symbol(uint32_t *out, struct at_parser *p, const char *s, size_t n)
{
    enum at_status st = AT_OK;
    struct at_jinja *jinja = p->jinja;

    for (size_t i = 0; i < jinja->n_symbols; i++)
        if (jinja->symbols[i].n == n && memcmp(jinja->symbols[i].s, s, n) == 0) {
            *out = (uint32_t)i;
            goto done;
        }
    if (jinja->n_symbols == AT_MAX_NAMES)
        TRY(at_parse_fail(p, "more than %d different names are not supported", AT_MAX_NAMES));
    if (jinja->n_symbols == jinja->symbol_capacity) {
        const size_t capacity = jinja->symbol_capacity ? 2 * jinja->symbol_capacity : 64;
        TRY(at_realloc(&jinja->symbols, jinja->symbol_capacity, capacity, sizeof *jinja->symbols));
        jinja->symbol_capacity = capacity;
    }
    *out = (uint32_t)jinja->n_symbols;
    jinja->symbols[jinja->n_symbols].s = s;
    jinja->symbols[jinja->n_symbols++].n = n;
done:
    return st;
}

AT_CHECKED at_parse_enter(struct at_parser *p)
{
    if (p->depth >= AT_MAX_NESTING)
        return at_parse_fail(p, "nested deeper than %d levels", AT_MAX_NESTING);
    p->depth++;
    return AT_OK;
}

bool at_parse_is(const struct at_parser *p, const char *operator_text)
{
    return p->at->kind == AT_LEX_OPERATOR && at_text_is(p->at->s, p->at->n, operator_text);
}

bool at_parse_is_name(const struct at_parser *p, const char *name)
{
    return p->at->kind == AT_LEX_NAME && at_text_is(p->at->s, p->at->n, name);
}

bool at_parse_skip(struct at_parser *p, const char *operator_text)
{
    const bool is = at_parse_is(p, operator_text);

    p->at += is;
    return is;
}

bool at_parse_skip_name(struct at_parser *p, const char *name)
{
    const bool is = at_parse_is_name(p, name);

    p->at += is;
    return is;
}

AT_CHECKED at_parse_expect(struct at_parser *p, const char *operator_text)
{
    char quoted[8];

    if (at_parse_skip(p, operator_text))
        return AT_OK;
    snprintf(quoted, sizeof quoted, "'%s'", operator_text);
    return at_parse_unexpected(p, quoted);
}

static AT_CHECKED expect_end(struct at_parser *p)
{
    if (p->at->kind != AT_LEX_BLOCK_END)
        return at_parse_unexpected(p, "'%}'");
    p->at++;
    return AT_OK;
}

/* ---- statements: at the tag's word, to before '%}' ---- */

/* What stands between this tag and one of the words; at that word afterwards. */
static AT_CHECKED parse_block(struct at_node **out, struct at_parser *p, const char *const *ends)
{
    enum at_status st = AT_OK;

    TRY(at_parse_enter(p));
    (void)at_parse_skip(p, ":");
    TRY(expect_end(p));
    TRY(parse_list(out, p, ends));
    p->depth--;
done:
    return st;
}

/* The same with one word, which is skipped. */
static AT_CHECKED parse_whole(struct at_node **out, struct at_parser *p, const char *end)
{
    enum at_status st = AT_OK;
    const char *const ends[] = { end, NULL };

    TRY(parse_block(out, p, ends));
    p->at++;
done:
    return st;
}

static AT_CHECKED parse_for(struct at_node **out, struct at_parser *p)
{
    static const char *const ends[] = { "endfor", "else", NULL };
    enum at_status st = AT_OK;
    struct at_node *node = NULL;

    TRY(at_parse_node(out, p, AT_N_FOR));
    node = *out;
    TRY(at_parse_target(&node->a, p, false, "in"));
    if (!at_parse_skip_name(p, "in"))
        TRY(at_parse_unexpected(p, "\"in\""));
    TRY(at_parse_tuple(&node->b, p, false, "recursive"));
    if (at_parse_skip_name(p, "if"))
        TRY(at_parse_expression(&node->e, p));
    if (at_parse_is_name(p, "recursive"))
        TRY(at_parse_fail(p, "a recursive for is not supported"));
    p->loops++;
    TRY(parse_block(&node->c, p, ends));
    p->loops--;
    if (at_parse_skip_name(p, "else"))
        TRY(parse_whole(&node->d, p, "endfor"));
    else
        p->at++;
done:
    return st;
}

static AT_CHECKED parse_if(struct at_node **out, struct at_parser *p)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    enum at_status st = AT_OK;
    struct at_node *node = NULL, **last = NULL;

    TRY(at_parse_node(out, p, AT_N_IF));
    node = *out;
    last = &node->a;
    do {
        TRY(at_parse_node(last, p, AT_N_BRANCH));
        TRY(at_parse_tuple(&(*last)->a, p, false, NULL));
        TRY(parse_block(&(*last)->c, p, ends));
        last = &(*last)->next;
    } while (at_parse_skip_name(p, "elif"));
    if (at_parse_skip_name(p, "else"))
        TRY(parse_whole(&node->d, p, "endif"));
    else
        p->at++;
done:
    return st;
}

static AT_CHECKED parse_set(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_node *node = NULL;

    TRY(at_parse_node(out, p, AT_N_SET));
    node = *out;
    TRY(at_parse_target(&node->a, p, true, NULL));
    if (at_parse_skip(p, "=")) {
        TRY(at_parse_tuple(&node->b, p, true, NULL));
        goto done;
    }
    node->kind = AT_N_SET_BLOCK;
    TRY(at_parse_filters(&node->b, p, NULL, false));
    TRY(parse_whole(&node->c, p, "endset"));
done:
    return st;
}

/* (name, name=default, ...) */
static AT_CHECKED parse_parameters(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_node **last = out;
    bool defaults = false;

    TRY(at_parse_expect(p, "("));
    while (!at_parse_is(p, ")")) {
        if (*out)
            TRY(at_parse_expect(p, ","));
        if (p->at->kind != AT_LEX_NAME)
            TRY(at_parse_unexpected(p, "the name of a parameter"));
        TRY(at_parse_node(last, p, AT_N_PARAMETER));
        (*last)->name = p->at->s;
        (*last)->n_name = p->at->n;
        TRY(at_parse_symbol(&(*last)->symbol, p, p->at->s, p->at->n));
        p->at++;
        if (at_parse_skip(p, "=")) {
            TRY(at_parse_expression(&(*last)->a, p));
            defaults = true;
        } else if (defaults) {
            TRY(at_parse_fail(p, "a parameter without a default follows one that has one"));
        }
        last = &(*last)->next;
    }
    p->at++;
done:
    return st;
}

/* A macro's body; `break` does not reach out of it. */
static AT_CHECKED parse_macro_body(struct at_node *macro, struct at_parser *p, const char *end)
{
    const unsigned loops = p->loops;
    const struct at_lexeme *begin = p->at;
    enum at_status st;

    p->loops = 0;
    st = parse_whole(&macro->c, p, end);
    p->loops = loops;
    for (const struct at_lexeme *token = begin; st == AT_OK && token < p->at; token++)
        if (token->kind == AT_LEX_NAME) {
            macro->takes.varargs |= at_text_is(token->s, token->n, "varargs");
            macro->takes.kwargs |= at_text_is(token->s, token->n, "kwargs");
            macro->takes.caller |= at_text_is(token->s, token->n, "caller");
        }
    return st;
}

static AT_CHECKED parse_macro(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_node *node = NULL;

    TRY(at_parse_node(out, p, AT_N_MACRO));
    node = *out;
    if (p->at->kind != AT_LEX_NAME)
        TRY(at_parse_unexpected(p, "the name of a macro"));
    node->name = p->at->s;
    node->n_name = p->at->n;
    TRY(at_parse_symbol(&node->symbol, p, node->name, node->n_name));
    p->at++;
    TRY(parse_parameters(&node->a, p));
    TRY(parse_macro_body(node, p, "endmacro"));
done:
    return st;
}

static AT_CHECKED parse_call(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_node *node = NULL;

    TRY(at_parse_node(out, p, AT_N_CALL_BLOCK));
    node = *out;
    TRY(at_parse_node(&node->b, p, AT_N_MACRO));
    if (at_parse_is(p, "("))
        TRY(parse_parameters(&node->b->a, p));
    TRY(at_parse_expression(&node->a, p));
    if (node->a->kind != AT_N_CALL)
        TRY(at_parse_fail(p, "{%% call %%} needs the call of a macro"));
    TRY(parse_macro_body(node->b, p, "endcall"));
done:
    return st;
}

static AT_CHECKED parse_filter(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;

    TRY(at_parse_node(out, p, AT_N_FILTER_BLOCK));
    TRY(at_parse_filters(&(*out)->b, p, NULL, true));
    TRY(parse_whole(&(*out)->c, p, "endfilter"));
done:
    return st;
}

static AT_CHECKED parse_with(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_node **last = NULL;

    TRY(at_parse_node(out, p, AT_N_WITH));
    last = &(*out)->a;
    while (p->at->kind != AT_LEX_BLOCK_END && !at_parse_is(p, ":")) {
        if ((*out)->a)
            TRY(at_parse_expect(p, ","));
        TRY(at_parse_node(last, p, AT_N_SET));
        TRY(at_parse_target(&(*last)->a, p, false, NULL));
        TRY(at_parse_expect(p, "="));
        TRY(at_parse_expression(&(*last)->b, p));
        last = &(*last)->next;
    }
    TRY(parse_whole(&(*out)->c, p, "endwith"));
done:
    return st;
}

static AT_CHECKED parse_generation(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    const unsigned loops = p->loops;

    p->jinja->has_generation = true;
    p->loops = 0;
    TRY(at_parse_node(out, p, AT_N_GENERATION));
    TRY(parse_whole(&(*out)->c, p, "endgeneration"));
    p->loops = loops;
done:
    return st;
}

static AT_CHECKED parse_jump(struct at_node **out, struct at_parser *p)
{
    const bool is_break = at_text_is(p->at[-1].s, p->at[-1].n, "break");

    if (p->loops == 0)
        return at_parse_fail(p, "%s stands outside of a loop", is_break ? "break" : "continue");
    return at_parse_node(out, p, is_break ? AT_N_BREAK : AT_N_CONTINUE);
}

static AT_CHECKED parse_print(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    struct at_node **last = out;

    do {
        TRY(at_parse_node(last, p, AT_N_OUTPUT));
        TRY(at_parse_expression(&(*last)->a, p));
        last = &(*last)->next;
    } while (at_parse_skip(p, ","));
done:
    return st;
}

typedef enum at_status parse_tag(struct at_node **out, struct at_parser *p);

static const struct {
    const char *word;
    parse_tag *parse;
} tags[] = {
    { "break", parse_jump },    { "call", parse_call },   { "continue", parse_jump },
    { "filter", parse_filter }, { "for", parse_for },     { "generation", parse_generation },
    { "if", parse_if },         { "macro", parse_macro }, { "print", parse_print },
    { "set", parse_set },       { "with", parse_with },
};

static AT_CHECKED parse_statement(struct at_node **out, struct at_parser *p)
{
    enum at_status st = AT_OK;
    size_t i = 0;

    if (p->at->kind != AT_LEX_NAME)
        TRY(at_parse_unexpected(p, "the name of a tag"));
    while (i < AT_COUNT(tags) && !at_parse_is_name(p, tags[i].word))
        i++;
    if (i == AT_COUNT(tags))
        TRY(at_parse_fail(p, "the tag \"%.*s\" is not supported here", (int)p->at->n, p->at->s));
    p->at++;
    TRY(tags[i].parse(out, p));
    TRY(expect_end(p));
done:
    return st;
}

static bool is_one_of(const struct at_parser *p, const char *const *words)
{
    for (; words && *words; words++)
        if (at_parse_is_name(p, *words))
            return true;
    return false;
}

static AT_CHECKED parse_list(struct at_node **out, struct at_parser *p, const char *const *ends)
{
    enum at_status st = AT_OK;
    struct at_node **last = out;

    *out = NULL;
    while (p->at->kind != AT_LEX_END) {
        if (p->at->kind == AT_LEX_DATA) {
            TRY(at_parse_node(last, p, AT_N_DATA));
            (*last)->value = at_v_text(p->at->s, p->at->n);
            p->at++;
        } else if (p->at->kind == AT_LEX_VARIABLE_BEGIN) {
            TRY(at_parse_node(last, p, AT_N_OUTPUT));
            p->at++;
            TRY(at_parse_tuple(&(*last)->a, p, true, NULL));
            if (p->at->kind != AT_LEX_VARIABLE_END)
                TRY(at_parse_unexpected(p, "'}}'"));
            p->at++;
        } else {
            AT_REQUIRE(p->at->kind == AT_LEX_BLOCK_BEGIN);
            p->at++;
            if (is_one_of(p, ends))
                goto done;
            TRY(parse_statement(last, p));
        }
        while (*last)
            last = &(*last)->next;
    }
    if (ends)
        TRY(at_parse_fail(p, "{%% %s %%} is missing", ends[0]));
done:
    return st;
}

AT_CHECKED at_parse_body(struct at_jinja *jinja, const struct at_lexemes *lexemes)
{
    static const char *const symbols[AT_N_SYMBOLS] = { "loop", "caller", "varargs", "kwargs" };
    enum at_status st = AT_OK;
    struct at_parser p = { .jinja = jinja, .at = lexemes->data };
    uint32_t number;

    for (uint32_t i = 0; i < AT_N_SYMBOLS; i++) {
        TRY(at_parse_symbol(&number, &p, symbols[i], strlen(symbols[i])));
        AT_REQUIRE(number == i);
    }
    TRY(parse_list(&jinja->body, &p, NULL));
done:
    return st;
}
