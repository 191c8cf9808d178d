/* Parts of the template language, private to engine/text: tokens, tree, values, functions. */
#ifndef AT_JINJA_PARTS_H
#define AT_JINJA_PARTS_H

#include "jinja.h"
#include <string.h>

enum {
    AT_MAX_NESTING = 100, /* of expressions and blocks in a text */
    AT_MAX_DEPTH = 1000,  /* of evaluation */
    AT_STEP_WORK = 64,    /* what a node costs; a byte that is looked at costs 1 */
    AT_CODE_WORK = 8,     /* what a character costs whose kind is looked up */
    AT_MAX_PARAMS = 8,    /* of a built-in function */
    AT_MAX_NAMES = 1000,  /* different ones in a template */
    AT_MAX_TEXT = 1 << 28 /* bytes of one text, the rendered one too */
};

/* ---- tokens ---- */

enum at_lexeme_kind {
    AT_LEX_DATA,
    AT_LEX_VARIABLE_BEGIN,
    AT_LEX_VARIABLE_END,
    AT_LEX_BLOCK_BEGIN,
    AT_LEX_BLOCK_END,
    AT_LEX_NAME,
    AT_LEX_STRING, /* unescaped */
    AT_LEX_INTEGER,
    AT_LEX_FLOAT,
    AT_LEX_OPERATOR,
    AT_LEX_END
};
struct at_lexeme {
    enum at_lexeme_kind kind;
    uint32_t line;
    const char *s;
    size_t n;
};
struct at_lexemes {
    struct at_lexeme *data; /* the last is AT_LEX_END */
    size_t n, capacity;
};
/* Data points into the text or the arena; the list is freed with at_free(). */
AT_CHECKED at_jinja_lex(struct at_lexemes *out, struct at_arena *arena, const char *text, size_t n,
                        const char *name);

/* ---- values ---- */

enum at_value_type {
    AT_V_UNDEFINED, /* s: why */
    AT_V_NONE,
    AT_V_BOOL,
    AT_V_INT,
    AT_V_FLOAT,
    AT_V_STRING,
    AT_V_LIST,
    AT_V_TUPLE,
    AT_V_RANGE,
    AT_V_VIEW,      /* what dict.keys(), .values() and .items() give */
    AT_V_GENERATOR, /* what filters such as map give: read once */
    AT_V_DICT,
    AT_V_NAMESPACE,
    AT_V_LOOP,
    AT_V_MACRO,
    AT_V_FUNCTION,
    AT_V_METHOD
};
struct at_value {
    uint8_t type;
    bool safe; /* a string whose neighbours are escaped: Markup */
    union {
        int64_t i; /* and booleans */
        double f;
        const char *s;
        struct at_items *items;
        struct at_dict *dict; /* and namespaces */
        struct at_loop *loop;
        struct at_macro *macro;
        const struct at_function *function;
        struct at_method *method;
    };
    size_t n; /* bytes of s */
};
struct at_items {
    struct at_value *data;
    size_t n, capacity;
    const char *view; /* AT_V_VIEW: "dict_keys", ...; AT_V_RANGE: what is printed */
};
struct at_pair {
    struct at_value key, value;
};
struct at_dict {
    struct at_pair *data;
    size_t n, capacity;
};
struct at_loop {
    const struct at_items *items;
    size_t index;
    bool has_changed;
    struct at_value last_changed;
};
struct at_macro {
    const struct at_node *node; /* AT_N_MACRO */
    struct at_scope *scope;     /* where it was defined */
};
struct at_method {
    struct at_value self;
    const struct at_function *function;
};

/* ---- the tree ---- */

enum at_node_kind {
    /* expressions */
    AT_N_CONST,   /* value */
    AT_N_NAME,    /* name, symbol */
    AT_N_TUPLE,   /* a: items */
    AT_N_LIST,    /* a: items */
    AT_N_DICT,    /* a: keys and values in turn */
    AT_N_COND,    /* a if b else c; c may be NULL */
    AT_N_OR,      /* a, b */
    AT_N_AND,     /* a, b */
    AT_N_NOT,     /* a */
    AT_N_MINUS,   /* a */
    AT_N_PLUS,    /* a */
    AT_N_COMPARE, /* a, then b: operands with op */
    AT_N_OPERAND, /* a */
    AT_N_BINARY,  /* a op b */
    AT_N_CONCAT,  /* a: items */
    AT_N_ATTR,    /* a.name */
    AT_N_ITEM,    /* a[b] */
    AT_N_SLICE,   /* a:b:c, each may be NULL; only below AT_N_ITEM */
    AT_N_CALL,    /* a(b: arguments) */
    AT_N_FILTER,  /* a | function(b: arguments); a NULL: what a block holds */
    AT_N_TEST,    /* a is function(b: arguments) */
    /* arguments */
    AT_N_POSITIONAL,
    AT_N_KEYWORD,   /* name = a */
    AT_N_STAR,      /* *a */
    AT_N_STAR_STAR, /* **a */
    /* statements */
    AT_N_DATA,         /* value */
    AT_N_OUTPUT,       /* a */
    AT_N_FOR,          /* a: target, b: what it runs over, c: body, d: else, e: filter */
    AT_N_IF,           /* a: list of AT_N_BRANCH, d: else */
    AT_N_BRANCH,       /* a: condition, c: body */
    AT_N_SET,          /* a: target, b: value */
    AT_N_SET_BLOCK,    /* a: target, b: filters or NULL, c: body */
    AT_N_MACRO,        /* name, symbol, a: parameters, c: body */
    AT_N_PARAMETER,    /* name, symbol, a: default or NULL */
    AT_N_CALL_BLOCK,   /* a: AT_N_CALL, b: AT_N_MACRO */
    AT_N_FILTER_BLOCK, /* b: filters, c: body */
    AT_N_WITH,         /* a: list of AT_N_SET, c: body */
    AT_N_GENERATION,   /* c: body */
    AT_N_BREAK,
    AT_N_CONTINUE,
    AT_N_MEMBER /* target: symbol.name of a namespace */
};
enum at_operator {
    AT_OP_ADD,
    AT_OP_SUB,
    AT_OP_MUL,
    AT_OP_DIV,
    AT_OP_FLOOR,
    AT_OP_MOD,
    AT_OP_POW,
    AT_OP_EQ,
    AT_OP_NE,
    AT_OP_LT,
    AT_OP_LE,
    AT_OP_GT,
    AT_OP_GE,
    AT_OP_IN,
    AT_OP_NOT_IN
};
struct at_node {
    enum at_node_kind kind;
    enum at_operator op;
    uint32_t line, symbol;
    const char *name;
    size_t n_name;
    struct {
        bool varargs, kwargs, caller;
    } takes; /* AT_N_MACRO: which of these its body mentions */
    struct at_value value;
    const struct at_function *function;
    struct at_node *a, *b, *c, *d, *e, *next;
};
/* Names with a meaning of their own, numbered first. */
enum { AT_SYMBOL_LOOP, AT_SYMBOL_CALLER, AT_SYMBOL_VARARGS, AT_SYMBOL_KWARGS, AT_N_SYMBOLS };
struct at_jinja {
    struct at_arena arena;
    char *name;
    struct at_node *body;
    struct at_symbol {
        const char *s;
        size_t n;
    } * symbols;
    size_t n_symbols, symbol_capacity;
    bool has_generation;
};

/* The parser at a token; expressions and statements are two files. */
struct at_parser {
    struct at_jinja *jinja;
    const struct at_lexeme *at;
    unsigned depth, loops;
};
AT_CHECKED at_parse_node(struct at_node **out, struct at_parser *p, enum at_node_kind kind);
enum at_status at_parse_fail(const struct at_parser *p, const char *format, ...) AT_PRINTF(2, 3);
enum at_status at_parse_unexpected(const struct at_parser *p, const char *wanted);
AT_CHECKED at_parse_symbol(uint32_t *out, struct at_parser *p, const char *s, size_t n);
AT_CHECKED at_parse_enter(struct at_parser *p); /* p->depth-- afterwards */
bool at_parse_is(const struct at_parser *p, const char *operator_text);
bool at_parse_is_name(const struct at_parser *p, const char *name);
bool at_parse_skip(struct at_parser *p, const char *operator_text);
bool at_parse_skip_name(struct at_parser *p, const char *name);
AT_CHECKED at_parse_expect(struct at_parser *p, const char *operator_text);
AT_CHECKED at_parse_expression(struct at_node **out, struct at_parser *p);
/* One expression or a tuple without parentheses, up to the end of the tag or a word. */
AT_CHECKED at_parse_tuple(struct at_node **out, struct at_parser *p, bool conditional,
                          const char *end_word);
/* A name, a namespace's member where `members`, or a tuple of such. */
AT_CHECKED at_parse_target(struct at_node **out, struct at_parser *p, bool members,
                           const char *end_word);
/* Filters that begin at '|', or at a name where `inline_first`; NULL when there is none. */
AT_CHECKED at_parse_filters(struct at_node **out, struct at_parser *p, struct at_node *operand,
                            bool inline_first);
AT_CHECKED at_parse_body(struct at_jinja *jinja, const struct at_lexemes *lexemes);

/* ---- rendering ---- */

struct at_binding {
    uint32_t symbol;
    struct at_value value;
    struct at_binding *next;
};
struct at_scope {
    struct at_scope *parent;
    struct at_binding *first;
};
enum at_flow { AT_FLOW_NEXT, AT_FLOW_BREAK, AT_FLOW_CONTINUE };
struct at_jinja_run {
    const struct at_jinja *jinja;
    const struct at_jinja_params *params;
    struct at_arena arena;
    struct at_buf *out, *top; /* what is written to now, and the text itself */
    size_t begin;             /* of the text in `top` */
    struct at_scope *scope;
    enum at_flow flow;
    uint32_t line;
    unsigned depth;
    uint64_t work, max_work, bytes;
};
enum at_status at_run_fail(const struct at_jinja_run *r, const char *format, ...) AT_PRINTF(2, 3);
AT_CHECKED at_run_work(struct at_jinja_run *r, size_t n);
AT_CHECKED at_run_alloc(struct at_jinja_run *r, void *out_pointer, size_t count, size_t size);
AT_CHECKED at_run_enter(struct at_jinja_run *r); /* r->depth-- afterwards */
AT_CHECKED at_eval(struct at_value *out, struct at_jinja_run *r, const struct at_node *node);
AT_CHECKED at_eval_filters(struct at_value *out, struct at_jinja_run *r, const struct at_node *node,
                           const struct at_value *operand);
AT_CHECKED at_exec(struct at_jinja_run *r, const struct at_node *list);
AT_CHECKED at_run_assign(struct at_jinja_run *r, const struct at_node *target,
                         const struct at_value *value);
AT_CHECKED at_run_bind(struct at_jinja_run *r, uint32_t symbol, struct at_value value);
/* A name's value in the scopes from `scope` outwards, before `end`; NULL when it has none. */
AT_CHECKED at_run_find(struct at_value **out, struct at_jinja_run *r, struct at_scope *scope,
                       const struct at_scope *end, uint32_t symbol);
AT_CHECKED at_run_push(struct at_jinja_run *r, struct at_scope **out_saved,
                       struct at_scope *parent);

/* ---- functions ---- */

struct at_keyword {
    const char *name;
    size_t n_name;
    struct at_value value;
};
struct at_args {
    const struct at_value *data;
    size_t n;
    const struct at_keyword *keywords;
    size_t n_keywords;
};
typedef enum at_status at_call(struct at_value *out, struct at_jinja_run *r,
                               const struct at_value *self, const struct at_args *args);
/* A filter, test, method or global function. Parameters by name; `values` have the defaults. */
struct at_function {
    const char *name;
    at_call *call; /* NULL: what the sandbox does not let templates call */
};
const struct at_function *at_filter_find(const char *name, size_t n);
const struct at_function *at_test_find(const char *name, size_t n);
const struct at_function *at_global_find(const char *name, size_t n);
const struct at_function *at_value_method(const struct at_value *self, const char *name, size_t n);
const struct at_function *at_function_find(const struct at_function *table, size_t n_table,
                                           const char *name, size_t n);
/* Puts the arguments in the order of `names` (NULL behind the last); those not given keep what
 * `values` hold. `needed` of them must be given. */
AT_CHECKED at_args_take(struct at_value *values, struct at_jinja_run *r, const struct at_args *args,
                        const char *const *names, size_t needed);
AT_CHECKED at_value_call(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                         const struct at_args *args);
AT_CHECKED at_macro_call(struct at_value *out, struct at_jinja_run *r, const struct at_macro *macro,
                         const struct at_args *args);

/* ---- working with values ---- */

static inline struct at_value at_v_none(void)
{
    return (struct at_value){ .type = AT_V_NONE };
}
static inline struct at_value at_v_bool(bool x)
{
    return (struct at_value){ .type = AT_V_BOOL, .i = x };
}
static inline struct at_value at_v_int(int64_t i)
{
    return (struct at_value){ .type = AT_V_INT, .i = i };
}
static inline struct at_value at_v_float(double f)
{
    return (struct at_value){ .type = AT_V_FLOAT, .f = f };
}
static inline struct at_value at_v_text(const char *s, size_t n)
{
    return (struct at_value){ .type = AT_V_STRING, .s = n > 0 ? s : "", .n = n };
}
static inline struct at_value at_v_undefined(const char *why)
{
    return (struct at_value){ .type = AT_V_UNDEFINED, .s = why, .n = strlen(why) };
}
static inline bool at_v_is(const struct at_value *v, enum at_value_type type)
{
    return v->type == type;
}
static inline bool at_v_is_items(const struct at_value *v)
{
    return v->type >= AT_V_LIST && v->type <= AT_V_GENERATOR;
}
static inline bool at_v_is_integer(const struct at_value *v)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what fails never returns AT_OK */
    return v->type == AT_V_INT || v->type == AT_V_BOOL;
}
static inline bool at_v_is_number(const struct at_value *v)
{
    return at_v_is_integer(v) || v->type == AT_V_FLOAT;
}
static inline double at_v_number(const struct at_value *v)
{
    return v->type == AT_V_FLOAT ? v->f : (double)v->i;
}
static inline bool at_text_is(const char *s, size_t n, const char *word)
{
    return strlen(word) == n && memcmp(s, word, n) == 0;
}
const char *at_value_type_name(const struct at_value *v); /* Python's */
bool at_value_true(const struct at_value *v);
/* An undefined value where one is needed is an error. */
AT_CHECKED at_value_need(struct at_jinja_run *r, const struct at_value *v);
AT_CHECKED at_value_equal(bool *out, struct at_jinja_run *r, const struct at_value *a,
                          const struct at_value *b);
/* -1, 0, 1; AT_DATA when Python does not order them. `sign` is for the message. */
AT_CHECKED at_value_compare(int *out, struct at_jinja_run *r, const struct at_value *a,
                            const struct at_value *b, const char *sign);
AT_CHECKED at_value_contains(bool *out, struct at_jinja_run *r, const struct at_value *container,
                             const struct at_value *item);
AT_CHECKED at_value_binary(struct at_value *out, struct at_jinja_run *r, enum at_operator op,
                           const struct at_value *a, const struct at_value *b);
/* str() and repr(), appended. */
AT_CHECKED at_value_put(struct at_buf *out, struct at_jinja_run *r, const struct at_value *v);
AT_CHECKED at_value_put_repr(struct at_buf *out, struct at_jinja_run *r, const struct at_value *v);
AT_CHECKED at_value_text(struct at_value *out, struct at_jinja_run *r, const struct at_value *v);
/* Copies the buffer and empties it. */
AT_CHECKED at_value_from_buf(struct at_value *out, struct at_jinja_run *r, struct at_buf *buf);
AT_CHECKED at_value_copy_text(struct at_value *out, struct at_jinja_run *r, const char *s,
                              size_t n);
AT_CHECKED at_value_list(struct at_value *out, struct at_jinja_run *r, enum at_value_type type,
                         size_t capacity);
AT_CHECKED at_items_push(struct at_jinja_run *r, struct at_items *items, struct at_value v);
AT_CHECKED at_value_dict(struct at_value *out, struct at_jinja_run *r, enum at_value_type type,
                         size_t capacity);
AT_CHECKED at_dict_put(struct at_jinja_run *r, struct at_dict *dict, struct at_value key,
                       struct at_value value);
AT_CHECKED at_dict_find(struct at_value **out, struct at_jinja_run *r, const struct at_dict *dict,
                        const struct at_value *key);
AT_CHECKED at_dict_find_text(struct at_value **out, struct at_jinja_run *r,
                             const struct at_dict *dict, const char *s, size_t n);
/* What iteration gives; of a generator only once. */
AT_CHECKED at_value_items(struct at_items **out, struct at_jinja_run *r, const struct at_value *v);
AT_CHECKED at_value_length(int64_t *out, struct at_jinja_run *r, const struct at_value *v);
AT_CHECKED at_value_attr(struct at_value *out, struct at_jinja_run *r, const struct at_value *v,
                         const char *name, size_t n);
AT_CHECKED at_value_item(struct at_value *out, struct at_jinja_run *r, const struct at_value *v,
                         const struct at_value *key);
AT_CHECKED at_value_slice(struct at_value *out, struct at_jinja_run *r, const struct at_value *v,
                          const struct at_value bounds[3]);
AT_CHECKED at_value_from_json(struct at_value *out, struct at_jinja_run *r, const cJSON *json);
at_call at_filter_batch, at_filter_dictsort, at_filter_first, at_filter_items, at_filter_join,
    at_filter_last, at_filter_list, at_filter_map, at_filter_max, at_filter_min, at_filter_reject,
    at_filter_rejectattr, at_filter_reverse, at_filter_select, at_filter_selectattr, at_filter_sort,
    at_filter_sum, at_filter_tojson, at_filter_unique;
AT_CHECKED at_loop_attr(struct at_value *out, struct at_jinja_run *r, const struct at_value *loop,
                        const char *name, size_t n);

/* ---- texts, as Python's str has them; all valid UTF-8 ---- */

bool at_is_python_space(uint32_t code);
size_t at_text_length(const char *s, size_t n);
size_t at_text_offset(const char *s, size_t n, size_t index); /* bytes before a code point */
/* The first offset of `part` at or behind `from`, and the last that ends at or before `end`; or
 * SIZE_MAX. */
AT_CHECKED at_text_find(size_t *out, struct at_jinja_run *r, const struct at_value *text,
                        const struct at_value *part, size_t from);
AT_CHECKED at_text_rfind(size_t *out, struct at_jinja_run *r, const struct at_value *text,
                         const struct at_value *part, size_t end);
/* Strips blanks, or the characters of `chars` when it is a string. Each byte of the text is at most
 * compared with all of `chars`. */
struct at_value at_text_strip(const struct at_value *text, const struct at_value *chars, bool left,
                              bool right);
size_t at_text_line(const char *s, size_t n, size_t *end); /* bytes of a line; *end: and its end */
void at_text_put_float(struct at_buf *out, double x);
AT_CHECKED at_text_percent(struct at_value *out, struct at_jinja_run *r,
                           const struct at_value *format, const struct at_value *values,
                           size_t n_values, const struct at_value *mapping);
AT_CHECKED at_text_format(struct at_value *out, struct at_jinja_run *r,
                          const struct at_value *format, const struct at_args *args);
/* Case of whole texts, by name: "upper", "lower", "title", "capitalize", "swapcase". */
AT_CHECKED at_text_case(struct at_value *out, struct at_jinja_run *r, const struct at_value *text,
                        const char *how);

#endif
