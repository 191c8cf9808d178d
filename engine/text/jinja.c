/* Statements, macros, and rendering as a whole. */
#include "jinja_parts.h"

#include <stdio.h>

enum { MAX_TEMPLATE = 1 << 20, MAX_BYTES = 1 << 29, DEFAULT_WORK_S = 4 };

/* ---- a run ---- */

enum at_status at_run_fail(const struct at_jinja_run *r, const char *format, ...)
{
    char text[768];
    va_list args;

    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 forgets va_start() */
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return at_fail(AT_DATA, "%s: line %u: %s", r->jinja->name, r->line, text);
}

AT_CHECKED at_run_work(struct at_jinja_run *r, size_t n)
{
    r->work += n;
    if (r->work > r->max_work)
        return at_run_fail(r, "the template works too long; it is stopped");
    return AT_OK;
}

AT_CHECKED at_run_alloc(struct at_jinja_run *r, void *out_pointer, size_t count, size_t size)
{
    size_t bytes;

    if (!at_mul_ok(&bytes, count, size) || bytes > MAX_BYTES || r->bytes + bytes > MAX_BYTES)
        return at_run_fail(r, "the template needs more than %d MiB; it is stopped",
                           MAX_BYTES >> 20);
    r->bytes += bytes + 16;
    r->work += bytes / 8;
    return at_arena_alloc(&r->arena, out_pointer, count, size);
}

AT_CHECKED at_run_enter(struct at_jinja_run *r)
{
    if (r->depth >= AT_MAX_DEPTH)
        return at_run_fail(r, "the template nests calls deeper than %d; it is stopped",
                           AT_MAX_DEPTH);
    r->depth++;
    return at_run_work(r, AT_STEP_WORK);
}

AT_CHECKED at_run_push(struct at_jinja_run *r, struct at_scope **out_saved, struct at_scope *parent)
{
    enum at_status st = AT_OK;
    struct at_scope *scope = NULL;

    TRY(at_run_alloc(r, &scope, 1, sizeof *scope));
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what fails never returns AT_OK */
    scope->parent = parent;
    *out_saved = r->scope;
    r->scope = scope;
done:
    return st;
}

AT_CHECKED at_run_find(struct at_value **out, struct at_jinja_run *r, struct at_scope *scope,
                       const struct at_scope *end, uint32_t symbol)
{
    size_t seen = 0;

    *out = NULL;
    for (; scope != end && !*out; scope = scope->parent)
        for (struct at_binding *b = scope->first; b && !*out; b = b->next, seen++)
            if (b->symbol == symbol)
                *out = &b->value;
    return at_run_work(r, seen * 2);
}

AT_CHECKED at_run_bind(struct at_jinja_run *r, uint32_t symbol, struct at_value value)
{
    enum at_status st = AT_OK;
    struct at_value *old = NULL;
    struct at_binding *b = NULL;

    TRY(at_run_find(&old, r, r->scope, r->scope->parent, symbol));
    if (old) {
        *old = value;
        goto done;
    }
    TRY(at_run_alloc(r, &b, 1, sizeof *b));
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what fails never returns AT_OK */
    *b = (struct at_binding){ symbol, value, r->scope->first };
    r->scope->first = b;
done:
    return st;
}

/* ---- assignment ---- */

static AT_CHECKED assign_member(struct at_jinja_run *r, const struct at_node *target,
                                const struct at_value *value)
{
    enum at_status st = AT_OK;
    struct at_value *space = NULL;

    TRY(at_run_find(&space, r, r->scope, NULL, target->symbol));
    if (!space || space->type != AT_V_NAMESPACE)
        TRY(at_run_fail(r, "cannot assign attribute on non-namespace object"));
    if (target->name[0] == '_')
        TRY(at_run_fail(r, "namespaces cannot have attributes that begin with '_'"));
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what fails never returns AT_OK */
    TRY(at_dict_put(r, space->dict, at_v_text(target->name, target->n_name), *value));
done:
    return st;
}

AT_CHECKED at_run_assign(struct at_jinja_run *r, const struct at_node *target,
                         const struct at_value *value)
{
    enum at_status st = AT_OK;
    struct at_items *items = NULL;
    size_t n = 0;

    if (target->kind == AT_N_NAME)
        return at_run_bind(r, target->symbol, *value);
    if (target->kind == AT_N_MEMBER)
        return assign_member(r, target, value);
    TRY(at_run_enter(r));
    TRY(at_value_items(&items, r, value));
    for (const struct at_node *t = target->a; t; t = t->next)
        n++;
    if (n != items->n)
        TRY(at_run_fail(r, "%zu values cannot be unpacked to %zu names", items->n, n));
    n = 0;
    for (const struct at_node *t = target->a; t; t = t->next)
        TRY(at_run_assign(r, t, &items->data[n++]));
    r->depth--;
done:
    return st;
}

/* ---- loops ---- */

static AT_CHECKED loop_cycle(struct at_value *out, struct at_jinja_run *r,
                             const struct at_value *self, const struct at_args *args)
{
    if (args->n == 0)
        return at_run_fail(r, "no items for cycling given");
    *out = args->data[self->loop->index % args->n];
    return AT_OK;
}

static AT_CHECKED loop_changed(struct at_value *out, struct at_jinja_run *r,
                               const struct at_value *self, const struct at_args *args)
{
    enum at_status st = AT_OK;
    struct at_loop *loop = self->loop;
    struct at_value seen;
    bool same = false;

    TRY(at_value_list(&seen, r, AT_V_TUPLE, args->n));
    for (size_t i = 0; i < args->n; i++)
        TRY(at_items_push(r, seen.items, args->data[i]));
    if (loop->has_changed)
        TRY(at_value_equal(&same, r, &loop->last_changed, &seen));
    loop->has_changed = true;
    loop->last_changed = seen;
    *out = at_v_bool(!same);
done:
    return st;
}

AT_CHECKED at_loop_attr(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                        const char *name, size_t n)
{
    static const struct at_function methods[] = { { "changed", loop_changed },
                                                  { "cycle", loop_cycle } };
    enum at_status st = AT_OK;
    const struct at_loop *loop = self->loop;
    const size_t length = loop->items->n, i = loop->index;
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = { { "index", (int64_t)i + 1 },
                    { "index0", (int64_t)i },
                    { "revindex", (int64_t)(length - i) },
                    { "revindex0", (int64_t)(length - i) - 1 },
                    { "length", (int64_t)length },
                    { "depth", 1 },
                    { "depth0", 0 } };
    const struct at_function *method = at_function_find(methods, AT_COUNT(methods), name, n);
    struct at_method *bound = NULL;

    if (method) {
        TRY(at_run_alloc(r, &bound, 1, sizeof *bound));
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what fails never returns AT_OK */
        *bound = (struct at_method){ *self, method };
        *out = (struct at_value){ .type = AT_V_METHOD, .method = bound };
        goto done;
    }
    for (size_t k = 0; k < AT_COUNT(numbers); k++)
        if (at_text_is(name, n, numbers[k].name)) {
            *out = at_v_int(numbers[k].value);
            goto done;
        }
    if (at_text_is(name, n, "first"))
        *out = at_v_bool(i == 0);
    else if (at_text_is(name, n, "last"))
        *out = at_v_bool(i + 1 == length);
    else if (at_text_is(name, n, "previtem"))
        *out = i > 0 ? loop->items->data[i - 1] : at_v_undefined("there is no previous item");
    else if (at_text_is(name, n, "nextitem"))
        *out = i + 1 < length ? loop->items->data[i + 1] : at_v_undefined("there is no next item");
    else
        *out = at_v_undefined("'LoopContext object' has no such attribute");
done:
    return st;
}

/* The items for which the loop's own `if` holds. */
static AT_CHECKED filter_items(struct at_items **inout, struct at_jinja_run *r,
                               const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_scope *saved = NULL;
    struct at_value list, holds;
    const struct at_items *items = *inout;

    TRY(at_value_list(&list, r, AT_V_LIST, items->n));
    for (size_t i = 0; i < items->n; i++) {
        TRY(at_run_push(r, &saved, r->scope));
        TRY(at_run_assign(r, node->a, &items->data[i]));
        TRY(at_eval(&holds, r, node->e));
        r->scope = saved;
        if (at_value_true(&holds))
            TRY(at_items_push(r, list.items, items->data[i]));
    }
    *inout = list.items;
done:
    return st;
}

static AT_CHECKED exec_for(struct at_jinja_run *r, const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_scope *saved = NULL;
    struct at_value v, self = { .type = AT_V_LOOP };
    struct at_items *items = NULL;
    bool whole = false; /* an iteration came to its end */

    TRY(at_eval(&v, r, node->b));
    TRY(at_value_items(&items, r, &v));
    if (node->e)
        TRY(filter_items(&items, r, node));
    TRY(at_run_alloc(r, &self.loop, 1, sizeof *self.loop));
    self.loop->items = items;
    for (size_t i = 0; i < items->n && r->flow != AT_FLOW_BREAK; i++) {
        self.loop->index = i;
        TRY(at_run_push(r, &saved, r->scope));
        TRY(at_run_bind(r, AT_SYMBOL_LOOP, self));
        TRY(at_run_assign(r, node->a, &items->data[i]));
        TRY(at_exec(r, node->c));
        r->scope = saved;
        whole |= r->flow == AT_FLOW_NEXT;
        if (r->flow == AT_FLOW_CONTINUE)
            r->flow = AT_FLOW_NEXT;
    }
    r->flow = AT_FLOW_NEXT;
    if (!whole && node->d) {
        TRY(at_run_push(r, &saved, r->scope));
        TRY(at_exec(r, node->d));
        r->scope = saved;
    }
done:
    return st;
}

/* ---- macros and blocks ---- */

/* What a body writes, as a value; in a scope of its own. */
static AT_CHECKED capture(struct at_value *out, struct at_jinja_run *r, const struct at_node *body)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 }, *outer = r->out;
    struct at_scope *saved = NULL;

    TRY(at_run_push(r, &saved, r->scope));
    r->out = &text;
    TRY(at_exec(r, body));
    TRY(at_value_from_buf(out, r, &text));
    r->scope = saved;
done:
    r->out = outer;
    at_buf_release(&text);
    return st;
}

static AT_CHECKED bind_keywords(struct at_jinja_run *r, const struct at_node *node,
                                const struct at_args *args, struct at_value *more)
{
    enum at_status st = AT_OK;

    TRY(at_value_dict(more, r, AT_V_DICT, 0));
    for (size_t i = 0; i < args->n_keywords; i++) {
        const struct at_keyword *k = &args->keywords[i];
        const struct at_node *p = node->a;
        size_t position = 0;
        while (p && (p->n_name != k->n_name || memcmp(p->name, k->name, k->n_name) != 0)) {
            p = p->next;
            position++;
        }
        TRY(at_run_work(r, position * 2));
        if (p && position < args->n)
            TRY(at_run_fail(r, "macro '%.*s' got two values for '%.*s'", (int)node->n_name,
                            node->name, (int)k->n_name, k->name));
        if (p)
            TRY(at_run_bind(r, p->symbol, k->value));
        else if (node->takes.caller && at_text_is(k->name, k->n_name, "caller"))
            TRY(at_run_bind(r, AT_SYMBOL_CALLER, k->value));
        else if (node->takes.kwargs)
            TRY(at_dict_put(r, more->dict, at_v_text(k->name, k->n_name), k->value));
        else
            TRY(at_run_fail(r, "macro '%.*s' takes no keyword argument '%.*s'", (int)node->n_name,
                            node->name, (int)k->n_name, k->name));
    }
done:
    return st;
}

static AT_CHECKED bind_arguments(struct at_jinja_run *r, const struct at_node *node,
                                 const struct at_args *args)
{
    enum at_status st = AT_OK;
    struct at_value more, keywords, v, *bound = NULL;
    size_t i = 0;

    TRY(at_value_list(&more, r, AT_V_TUPLE, 0));
    for (const struct at_node *p = node->a; p && i < args->n; p = p->next, i++)
        TRY(at_run_bind(r, p->symbol, args->data[i]));
    if (i < args->n && !node->takes.varargs)
        TRY(at_run_fail(r, "macro '%.*s' takes not more than %zu argument(s)", (int)node->n_name,
                        node->name, i));
    for (; i < args->n; i++)
        TRY(at_items_push(r, more.items, args->data[i]));
    TRY(bind_keywords(r, node, args, &keywords));
    for (const struct at_node *p = node->a; p; p = p->next) {
        TRY(at_run_find(&bound, r, r->scope, r->scope->parent, p->symbol));
        if (bound)
            continue;
        v = at_v_undefined("a parameter of the macro was not provided");
        if (p->a)
            TRY(at_eval(&v, r, p->a));
        TRY(at_run_bind(r, p->symbol, v));
    }
    if (node->takes.varargs)
        TRY(at_run_bind(r, AT_SYMBOL_VARARGS, more));
    if (node->takes.kwargs)
        TRY(at_run_bind(r, AT_SYMBOL_KWARGS, keywords));
    TRY(at_run_find(&bound, r, r->scope, r->scope->parent, AT_SYMBOL_CALLER));
    if (node->takes.caller && !bound)
        TRY(at_run_bind(r, AT_SYMBOL_CALLER,
                        at_v_undefined("no caller defined: the macro is called without a block")));
done:
    return st;
}

AT_CHECKED at_macro_call(struct at_value *out, struct at_jinja_run *r, const struct at_macro *macro,
                         const struct at_args *args)
{
    enum at_status st = AT_OK;
    struct at_scope *saved = NULL;

    TRY(at_run_enter(r));
    TRY(at_run_push(r, &saved, macro->scope));
    TRY(bind_arguments(r, macro->node, args));
    TRY(capture(out, r, macro->node->c));
    r->scope = saved;
    r->depth--;
done:
    return st;
}

static AT_CHECKED make_macro(struct at_value *out, struct at_jinja_run *r,
                             const struct at_node *node)
{
    enum at_status st = AT_OK;

    *out = (struct at_value){ .type = AT_V_MACRO };
    TRY(at_run_alloc(r, &out->macro, 1, sizeof *out->macro));
    *out->macro = (struct at_macro){ node, r->scope };
done:
    return st;
}

/* {% call(...) f(...) %}: f gets the body as its caller. */
static AT_CHECKED exec_call_block(struct at_jinja_run *r, const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_node callee = *node->a, keyword = { .kind = AT_N_KEYWORD, .line = node->line };
    struct at_node caller = { .kind = AT_N_CONST, .line = node->line };
    struct at_node *copies = NULL, **last = &callee.b;
    struct at_value v;

    TRY(make_macro(&caller.value, r, node->b));
    keyword.name = "caller";
    keyword.n_name = strlen("caller");
    keyword.a = &caller;
    for (const struct at_node *a = node->a->b; a; a = a->next) {
        TRY(at_run_alloc(r, &copies, 1, sizeof *copies));
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what fails never returns AT_OK */
        *copies = *a;
        *last = copies;
        last = &copies->next;
    }
    *last = &keyword;
    TRY(at_eval(&v, r, &callee));
    TRY(at_value_put(r->out, r, &v));
done:
    return st;
}

static AT_CHECKED exec_with(struct at_jinja_run *r, const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_scope *saved = NULL, *inner = NULL;
    struct at_value v;

    TRY(at_run_push(r, &saved, r->scope));
    inner = r->scope;
    for (const struct at_node *set = node->a; set; set = set->next) {
        r->scope = saved; /* values do not see each other */
        TRY(at_eval(&v, r, set->b));
        r->scope = inner;
        TRY(at_run_assign(r, set->a, &v));
    }
    TRY(at_exec(r, node->c));
    r->scope = saved;
done:
    return st;
}

static AT_CHECKED exec_generation(struct at_jinja_run *r, const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_spans *spans = r->params->spans;
    struct at_scope *saved = NULL;
    const size_t begin = r->out->n;

    if (spans && r->out != r->top)
        TRY(at_run_fail(r, "{%% generation %%} stands in a macro or block whose place in the text "
                           "is not known"));
    TRY(at_run_push(r, &saved, r->scope));
    TRY(at_exec(r, node->c));
    r->scope = saved;
    if (!spans)
        goto done;
    if (spans->n == spans->capacity) {
        const size_t capacity = spans->capacity ? 2 * spans->capacity : 8;
        TRY(at_realloc(&spans->data, spans->capacity, capacity, sizeof *spans->data));
        spans->capacity = capacity;
    }
    spans->data[spans->n++] = (struct at_span){ begin - r->begin, r->out->n - r->begin };
done:
    return st;
}

/* ---- statements ---- */

static AT_CHECKED exec_output(struct at_jinja_run *r, const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_value v;

    TRY(at_eval(&v, r, node->a));
    TRY(at_value_put(r->out, r, &v));
done:
    return st;
}

static AT_CHECKED exec_if(struct at_jinja_run *r, const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_value v;

    for (const struct at_node *branch = node->a; branch; branch = branch->next) {
        TRY(at_eval(&v, r, branch->a));
        if (at_value_true(&v))
            return at_exec(r, branch->c);
    }
    return at_exec(r, node->d);
done:
    return st;
}

/* {% set %}...{% endset %} and {% filter %}: what the body writes, filtered. */
static AT_CHECKED exec_captured(struct at_jinja_run *r, const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_value text, v;

    TRY(capture(&text, r, node->c));
    TRY(at_eval_filters(&v, r, node->b, &text));
    if (node->kind == AT_N_SET_BLOCK)
        TRY(at_run_assign(r, node->a, &v));
    else
        TRY(at_value_put(r->out, r, &v));
done:
    return st;
}

static AT_CHECKED exec_set(struct at_jinja_run *r, const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_value v;

    TRY(at_eval(&v, r, node->b));
    TRY(at_run_assign(r, node->a, &v));
done:
    return st;
}

static AT_CHECKED exec_macro(struct at_jinja_run *r, const struct at_node *node)
{
    enum at_status st = AT_OK;
    struct at_value v;

    TRY(make_macro(&v, r, node));
    TRY(at_run_bind(r, node->symbol, v));
done:
    return st;
}

static AT_CHECKED exec_one(struct at_jinja_run *r, const struct at_node *node)
{
    switch (node->kind) {
    case AT_N_DATA:
        return at_value_put(r->out, r, &node->value);
    case AT_N_OUTPUT:
        return exec_output(r, node);
    case AT_N_FOR:
        return exec_for(r, node);
    case AT_N_IF:
        return exec_if(r, node);
    case AT_N_SET:
        return exec_set(r, node);
    case AT_N_SET_BLOCK:
    case AT_N_FILTER_BLOCK:
        return exec_captured(r, node);
    case AT_N_MACRO:
        return exec_macro(r, node);
    case AT_N_CALL_BLOCK:
        return exec_call_block(r, node);
    case AT_N_WITH:
        return exec_with(r, node);
    case AT_N_GENERATION:
        return exec_generation(r, node);
    case AT_N_BREAK:
    case AT_N_CONTINUE:
        r->flow = node->kind == AT_N_BREAK ? AT_FLOW_BREAK : AT_FLOW_CONTINUE;
        return AT_OK;
    default:
        AT_BUG("an expression stands where a statement does");
    }
}

AT_CHECKED at_exec(struct at_jinja_run *r, const struct at_node *list)
{
    enum at_status st = AT_OK;

    TRY(at_run_enter(r));
    for (const struct at_node *node = list; node && r->flow == AT_FLOW_NEXT; node = node->next) {
        r->line = node->line;
        TRY(at_run_work(r, AT_STEP_WORK / 4));
        TRY(exec_one(r, node));
    }
    r->depth--;
done:
    return st;
}

/* ---- the whole ---- */

AT_CHECKED at_jinja_parse(struct at_jinja **out, const char *text, size_t n, const char *name)
{
    enum at_status st = AT_OK;
    struct at_lexemes lexemes = { .n = 0 };
    struct at_jinja *jinja = NULL;

    *out = NULL;
    if (n > MAX_TEMPLATE)
        FAIL(AT_DATA, "%s: the template has %zu bytes; %d MiB are the most that is supported", name,
             n, MAX_TEMPLATE >> 20);
    TRY(at_alloc(&jinja, 1, sizeof *jinja));
    TRY(at_arena_strdup(&jinja->arena, &jinja->name, name));
    TRY(at_jinja_lex(&lexemes, &jinja->arena, text, n, name));
    TRY(at_parse_body(jinja, &lexemes));
    *out = jinja;
    jinja = NULL;
done:
    at_free(&lexemes.data);
    at_jinja_destroy(&jinja);
    return st;
}

void at_jinja_destroy(struct at_jinja **jinja)
{
    if (!*jinja)
        return;
    at_free(&(*jinja)->symbols);
    at_arena_release(&(*jinja)->arena);
    at_free(jinja);
}

static bool find_symbol(uint32_t *out, const struct at_jinja *jinja, const char *name)
{
    for (size_t i = 0; i < jinja->n_symbols; i++)
        if (at_text_is(jinja->symbols[i].s, jinja->symbols[i].n, name)) {
            *out = (uint32_t)i;
            return true;
        }
    return false;
}

bool at_jinja_mentions(const struct at_jinja *jinja, const char *name)
{
    uint32_t symbol;

    return find_symbol(&symbol, jinja, name);
}

bool at_jinja_marks_generation(const struct at_jinja *jinja)
{
    return jinja->has_generation;
}

void at_spans_release(struct at_spans *spans)
{
    at_free(&spans->data);
    *spans = (struct at_spans){ .n = 0 };
}

static AT_CHECKED bind_variables(struct at_jinja_run *r)
{
    enum at_status st = AT_OK;
    struct at_value v;
    uint32_t symbol;

    for (size_t i = 0; i < r->params->n_variables; i++) {
        const struct at_jinja_variable *variable = &r->params->variables[i];
        if (!find_symbol(&symbol, r->jinja, variable->name))
            continue;
        if (variable->json)
            TRY(at_value_from_json(&v, r, variable->json));
        else
            v = variable->text ? at_v_text(variable->text, strlen(variable->text)) : at_v_none();
        TRY(at_run_bind(r, symbol, v));
    }
done:
    return st;
}

AT_CHECKED at_jinja_render(const struct at_jinja *jinja, struct at_buf *out,
                           const struct at_jinja_params *params)
{
    enum at_status st = AT_OK;
    struct at_jinja_run r = { .jinja = jinja,
                              .params = params,
                              .out = out,
                              .top = out,
                              .begin = out->n,
                              .line = 1,
                              .max_work = params->max_work };
    struct at_scope *saved = NULL;

    if (r.max_work == 0)
        r.max_work = DEFAULT_WORK_S * (uint64_t)1000000000;
    TRY(at_run_push(&r, &saved, NULL));
    TRY(bind_variables(&r));
    TRY(at_run_push(&r, &saved, r.scope));
    TRY(at_exec(&r, jinja->body));
    TRY(at_buf_status(out));
done:
    at_arena_release(&r.arena);
    return st;
}
