/* Values: making, comparing, iterating and looking into them, with Python's rules. */
#include "jinja_parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* ---- making ---- */

AT_CHECKED at_value_copy_text(struct at_value *out, struct at_jinja_run *r, const char *s, size_t n)
{
    enum at_status st = AT_OK;
    char *copy = NULL;

    TRY(at_run_alloc(r, &copy, n + 1, 1));
    if (n > 0)
        memcpy(copy, s, n);
    *out = at_v_text(copy, n);
done:
    return st;
}

AT_CHECKED at_value_from_buf(struct at_value *out, struct at_jinja_run *r, struct at_buf *buf)
{
    enum at_status st = AT_OK;

    TRY(at_buf_status(buf));
    TRY(at_value_copy_text(out, r, buf->data, buf->n));
    at_buf_clear(buf);
done:
    return st;
}

AT_CHECKED at_value_list(struct at_value *out, struct at_jinja_run *r, enum at_value_type type,
                         size_t capacity)
{
    enum at_status st = AT_OK;
    struct at_items *items = NULL;

    TRY(at_run_alloc(r, &items, 1, sizeof *items));
    TRY(at_run_alloc(r, &items->data, capacity, sizeof *items->data));
    items->capacity = capacity;
    *out = (struct at_value){ .type = (uint8_t)type, .items = items };
done:
    return st;
}

AT_CHECKED at_items_push(struct at_jinja_run *r, struct at_items *items, struct at_value v)
{
    enum at_status st = AT_OK;
    struct at_value *data = NULL;

    if (items->n == items->capacity) {
        const size_t capacity = items->capacity ? 2 * items->capacity : 4;
        TRY(at_run_alloc(r, &data, capacity, sizeof *data));
        if (items->n > 0)
            memcpy(data, items->data, items->n * sizeof *data);
        items->data = data;
        items->capacity = capacity;
    }
    items->data[items->n++] = v;
done:
    return st;
}

AT_CHECKED at_value_dict(struct at_value *out, struct at_jinja_run *r, enum at_value_type type,
                         size_t capacity)
{
    enum at_status st = AT_OK;
    struct at_dict *dict = NULL;

    TRY(at_run_alloc(r, &dict, 1, sizeof *dict));
    TRY(at_run_alloc(r, &dict->data, capacity, sizeof *dict->data));
    dict->capacity = capacity;
    *out = (struct at_value){ .type = (uint8_t)type, .dict = dict };
done:
    return st;
}

AT_CHECKED at_dict_find_text(struct at_value **out, struct at_jinja_run *r,
                             const struct at_dict *dict, const char *s, size_t n)
{
    enum at_status st = AT_OK;

    *out = NULL;
    TRY(at_run_work(r, dict->n));
    for (size_t i = 0; i < dict->n && !*out; i++) {
        const struct at_value *key = &dict->data[i].key;
        if (key->type != AT_V_STRING || key->n != n)
            continue;
        TRY(at_run_work(r, n / 8));
        if (memcmp(key->s, s, n) == 0)
            *out = &dict->data[i].value;
    }
done:
    return st;
}

static AT_CHECKED check_key(struct at_jinja_run *r, const struct at_value *key)
{
    enum at_status st = AT_OK;

    if (key->type == AT_V_LIST || key->type == AT_V_DICT)
        return at_run_fail(r, "unhashable type: '%s'", at_value_type_name(key));
    if (key->type == AT_V_TUPLE) {
        TRY(at_run_enter(r));
        for (size_t i = 0; i < key->items->n; i++)
            TRY(check_key(r, &key->items->data[i]));
        r->depth--;
    }
done:
    return st;
}

AT_CHECKED at_dict_find(struct at_value **out, struct at_jinja_run *r, const struct at_dict *dict,
                        const struct at_value *key)
{
    enum at_status st = AT_OK;
    bool same = false;

    *out = NULL;
    if (key->type == AT_V_STRING)
        return at_dict_find_text(out, r, dict, key->s, key->n);
    TRY(at_run_work(r, dict->n));
    TRY(check_key(r, key));
    for (size_t i = 0; i < dict->n && !*out; i++) {
        TRY(at_value_equal(&same, r, &dict->data[i].key, key));
        if (same)
            *out = &dict->data[i].value;
    }
done:
    return st;
}

AT_CHECKED at_dict_put(struct at_jinja_run *r, struct at_dict *dict, struct at_value key,
                       struct at_value value)
{
    enum at_status st = AT_OK;
    struct at_value *old = NULL;
    struct at_pair *data = NULL;

    TRY(at_dict_find(&old, r, dict, &key));
    if (old) {
        *old = value;
        goto done;
    }
    if (dict->n == dict->capacity) {
        const size_t capacity = dict->capacity ? 2 * dict->capacity : 4;
        TRY(at_run_alloc(r, &data, capacity, sizeof *data));
        if (dict->n > 0)
            memcpy(data, dict->data, dict->n * sizeof *data);
        dict->data = data;
        dict->capacity = capacity;
    }
    dict->data[dict->n++] = (struct at_pair){ key, value };
done:
    return st;
}

/* ---- what they are ---- */

const char *at_value_type_name(const struct at_value *v)
{
    static const char *const names[] = {
        [AT_V_UNDEFINED] = "Undefined", [AT_V_NONE] = "NoneType",
        [AT_V_BOOL] = "bool",           [AT_V_INT] = "int",
        [AT_V_FLOAT] = "float",         [AT_V_STRING] = "str",
        [AT_V_LIST] = "list",           [AT_V_TUPLE] = "tuple",
        [AT_V_RANGE] = "range",         [AT_V_GENERATOR] = "generator",
        [AT_V_DICT] = "dict",           [AT_V_LOOP] = "LoopContext",
        [AT_V_NAMESPACE] = "Namespace", [AT_V_MACRO] = "Macro",
        [AT_V_FUNCTION] = "function",   [AT_V_METHOD] = "builtin_function_or_method"
    };

    return v->type == AT_V_VIEW ? v->items->view : names[v->type];
}

bool at_value_true(const struct at_value *v)
{
    switch ((enum at_value_type)v->type) {
    case AT_V_UNDEFINED:
    case AT_V_NONE:
        return false;
    case AT_V_BOOL:
    case AT_V_INT:
        return v->i != 0;
    case AT_V_FLOAT:
        return v->f != 0;
    case AT_V_STRING:
        return v->n > 0;
    case AT_V_LIST:
    case AT_V_TUPLE:
    case AT_V_RANGE:
    case AT_V_VIEW:
        return v->items->n > 0;
    case AT_V_DICT:
        return v->dict->n > 0;
    default:
        return true;
    }
}

AT_CHECKED at_value_need(struct at_jinja_run *r, const struct at_value *v)
{
    return v->type == AT_V_UNDEFINED ? at_run_fail(r, "%.*s", (int)v->n, v->s) : AT_OK;
}

/* ---- comparing ---- */

static AT_CHECKED items_equal(bool *out, struct at_jinja_run *r, const struct at_items *a,
                              const struct at_items *b)
{
    enum at_status st = AT_OK;

    *out = a->n == b->n;
    TRY(at_run_work(r, a->n));
    for (size_t i = 0; i < a->n && *out; i++)
        TRY(at_value_equal(out, r, &a->data[i], &b->data[i]));
done:
    return st;
}

static AT_CHECKED dicts_equal(bool *out, struct at_jinja_run *r, const struct at_dict *a,
                              const struct at_dict *b)
{
    enum at_status st = AT_OK;

    *out = a->n == b->n;
    for (size_t i = 0; i < a->n && *out; i++) {
        struct at_value *other = NULL;
        TRY(at_dict_find(&other, r, b, &a->data[i].key));
        *out = other != NULL;
        if (other)
            TRY(at_value_equal(out, r, &a->data[i].value, other));
    }
done:
    return st;
}

AT_CHECKED at_value_equal(bool *out, struct at_jinja_run *r, const struct at_value *a,
                          const struct at_value *b)
{
    enum at_status st = AT_OK;

    *out = false;
    if (at_v_is_integer(a) && at_v_is_integer(b)) {
        *out = a->i == b->i;
        return AT_OK;
    }
    if (at_v_is_number(a) && at_v_is_number(b)) {
        *out = at_v_number(a) == at_v_number(b);
        return AT_OK;
    }
    if (a->type != b->type)
        return AT_OK;
    TRY(at_run_enter(r));
    switch ((enum at_value_type)a->type) {
    case AT_V_UNDEFINED:
    case AT_V_NONE:
        *out = true;
        break;
    case AT_V_STRING:
        TRY(at_run_work(r, a->n / 8));
        *out = a->n == b->n && memcmp(a->s, b->s, a->n) == 0;
        break;
    case AT_V_LIST:
    case AT_V_TUPLE:
    case AT_V_RANGE:
        TRY(items_equal(out, r, a->items, b->items));
        break;
    case AT_V_DICT:
        TRY(dicts_equal(out, r, a->dict, b->dict));
        break;
    default:
        *out = a->items == b->items; /* the same object */
    }
    r->depth--;
done:
    return st;
}

static AT_CHECKED items_compare(int *out, struct at_jinja_run *r, const struct at_items *a,
                                const struct at_items *b, const char *sign)
{
    enum at_status st = AT_OK;
    size_t i = 0;
    bool same = true;

    TRY(at_run_enter(r));
    for (; i < a->n && i < b->n; i++) {
        TRY(at_value_equal(&same, r, &a->data[i], &b->data[i]));
        if (!same)
            break;
    }
    if (i < a->n && i < b->n)
        TRY(at_value_compare(out, r, &a->data[i], &b->data[i], sign));
    else
        *out = a->n < b->n ? -1 : a->n > b->n;
    r->depth--;
done:
    return st;
}

AT_CHECKED at_value_compare(int *out, struct at_jinja_run *r, const struct at_value *a,
                            const struct at_value *b, const char *sign)
{
    enum at_status st = AT_OK;

    *out = 0;
    TRY(at_value_need(r, a));
    TRY(at_value_need(r, b));
    if (at_v_is_integer(a) && at_v_is_integer(b)) {
        *out = a->i < b->i ? -1 : a->i > b->i;
    } else if (at_v_is_number(a) && at_v_is_number(b)) {
        const double x = at_v_number(a), y = at_v_number(b);
        *out = x < y ? -1 : x > y ? 1 : x == y ? 0 : 2; /* 2: nothing is true of NaN */
    } else if (a->type == AT_V_STRING && b->type == AT_V_STRING) {
        const size_t n = a->n < b->n ? a->n : b->n;
        TRY(at_run_work(r, n / 8));
        const int order = memcmp(a->s, b->s, n); /* UTF-8 sorts as its code points */
        *out = order < 0 ? -1 : order > 0 ? 1 : a->n < b->n ? -1 : a->n > b->n;
    } else if (a->type == b->type && (a->type == AT_V_LIST || a->type == AT_V_TUPLE)) {
        TRY(items_compare(out, r, a->items, b->items, sign));
    } else {
        st = at_run_fail(r, "'%s' not supported between instances of '%s' and '%s'", sign,
                         at_value_type_name(a), at_value_type_name(b));
    }
done:
    return st;
}

AT_CHECKED at_value_contains(bool *out, struct at_jinja_run *r, const struct at_value *container,
                             const struct at_value *item)
{
    enum at_status st = AT_OK;
    struct at_items *items = NULL;
    struct at_value *found = NULL;
    size_t at;

    *out = false;
    if (container->type == AT_V_STRING) {
        if (item->type != AT_V_STRING)
            return at_run_fail(r, "'in <string>' requires string as left operand, not %s",
                               at_value_type_name(item));
        TRY(at_text_find(&at, r, container, item, 0));
        *out = at != SIZE_MAX;
        goto done;
    }
    if (container->type == AT_V_DICT) {
        TRY(at_dict_find(&found, r, container->dict, item));
        *out = found != NULL;
        goto done;
    }
    TRY(at_value_items(&items, r, container));
    TRY(at_run_work(r, items->n * 4));
    for (size_t i = 0; i < items->n && !*out; i++)
        TRY(at_value_equal(out, r, &items->data[i], item));
done:
    return st;
}

/* ---- iterating ---- */

static AT_CHECKED characters(struct at_items **out, struct at_jinja_run *r,
                             const struct at_value *text)
{
    enum at_status st = AT_OK;
    struct at_value list;

    TRY(at_value_list(&list, r, AT_V_LIST, at_text_length(text->s, text->n)));
    for (size_t i = 0, n = 0; i < text->n; i += n) {
        n = at_text_offset(text->s + i, text->n - i, 1);
        TRY(at_items_push(r, list.items, at_v_text(text->s + i, n)));
    }
    *out = list.items;
done:
    return st;
}

AT_CHECKED at_value_items(struct at_items **out, struct at_jinja_run *r, const struct at_value *v)
{
    enum at_status st = AT_OK;
    struct at_value list;

    switch ((enum at_value_type)v->type) {
    case AT_V_LIST:
    case AT_V_TUPLE:
    case AT_V_RANGE:
    case AT_V_VIEW:
        *out = v->items;
        break;
    case AT_V_GENERATOR:
        TRY(at_value_list(&list, r, AT_V_LIST, 0));
        *list.items = *v->items;
        *out = list.items;
        v->items->n = 0;
        break;
    case AT_V_STRING:
        TRY(characters(out, r, v));
        break;
    case AT_V_UNDEFINED:
        TRY(at_value_list(&list, r, AT_V_LIST, 0));
        *out = list.items;
        break;
    case AT_V_DICT:
        TRY(at_value_list(&list, r, AT_V_LIST, v->dict->n));
        for (size_t i = 0; i < v->dict->n; i++)
            TRY(at_items_push(r, list.items, v->dict->data[i].key));
        *out = list.items;
        break;
    default:
        st = at_run_fail(r, "'%s' object is not iterable", at_value_type_name(v));
    }
done:
    return st;
}

AT_CHECKED at_value_length(int64_t *out, struct at_jinja_run *r, const struct at_value *v)
{
    *out = 0;
    switch ((enum at_value_type)v->type) {
    case AT_V_UNDEFINED:
        return AT_OK;
    case AT_V_STRING:
        *out = (int64_t)at_text_length(v->s, v->n);
        return at_run_work(r, v->n);
    case AT_V_LIST:
    case AT_V_TUPLE:
    case AT_V_RANGE:
    case AT_V_VIEW:
        *out = (int64_t)v->items->n;
        return AT_OK;
    case AT_V_DICT:
        *out = (int64_t)v->dict->n;
        return AT_OK;
    case AT_V_LOOP:
        *out = (int64_t)v->loop->items->n;
        return AT_OK;
    default:
        return at_run_fail(r, "object of type '%s' has no len()", at_value_type_name(v));
    }
}

/* ---- looking into ---- */

/* "'dict object' has no attribute 'x'", as jinja2 says it when the value is used. */
static AT_CHECKED missing(struct at_value *out, struct at_jinja_run *r, const struct at_value *v,
                          const char *name, size_t n)
{
    enum at_status st = AT_OK;
    const bool none = v->type == AT_V_NONE;
    const char *type = none ? "None" : at_value_type_name(v), *object = none ? "" : " object";
    const size_t size = strlen(type) + n + 40;
    char *why = NULL;

    TRY(at_run_alloc(r, &why, size, 1));
    snprintf(why, size, "'%s%s' has no attribute '%.*s'", type, object, (int)n, name);
    *out = at_v_undefined(why);
done:
    return st;
}

static AT_CHECKED bound_method(struct at_value *out, struct at_jinja_run *r,
                               const struct at_value *v, const struct at_function *function)
{
    enum at_status st = AT_OK;
    struct at_method *method = NULL;

    TRY(at_run_alloc(r, &method, 1, sizeof *method));
    *method = (struct at_method){ *v, function };
    *out = (struct at_value){ .type = AT_V_METHOD, .method = method };
done:
    return st;
}

AT_CHECKED at_value_attr(struct at_value *out, struct at_jinja_run *r, const struct at_value *v,
                         const char *name, size_t n)
{
    enum at_status st = AT_OK;
    const struct at_function *method = at_value_method(v, name, n);
    struct at_value *found = NULL;

    TRY(at_value_need(r, v));
    if (v->type == AT_V_LOOP) {
        TRY(at_loop_attr(out, r, v, name, n));
        goto done;
    }
    if (method) {
        TRY(bound_method(out, r, v, method));
        goto done;
    }
    if (v->type == AT_V_DICT || v->type == AT_V_NAMESPACE)
        TRY(at_dict_find_text(&found, r, v->dict, name, n));
    if (found)
        *out = *found;
    else
        TRY(missing(out, r, v, name, n));
done:
    return st;
}

static AT_CHECKED item_at(struct at_value *out, struct at_jinja_run *r, const struct at_value *v,
                          int64_t index)
{
    enum at_status st = AT_OK;
    int64_t length = 0;
    size_t begin;

    TRY(at_value_length(&length, r, v));
    if (index < 0)
        index += length;
    if (index < 0 || index >= length) {
        *out = at_v_undefined("the list, tuple or text has no item with that number");
        goto done;
    }
    if (v->type != AT_V_STRING) {
        *out = v->items->data[index];
        goto done;
    }
    TRY(at_run_work(r, v->n));
    begin = at_text_offset(v->s, v->n, (size_t)index);
    *out = at_v_text(v->s + begin, at_text_offset(v->s + begin, v->n - begin, 1));
    out->safe = v->safe;
done:
    return st;
}

AT_CHECKED at_value_item(struct at_value *out, struct at_jinja_run *r, const struct at_value *v,
                         const struct at_value *key)
{
    enum at_status st = AT_OK;
    struct at_value *found = NULL;
    const bool sequence = v->type == AT_V_STRING || v->type == AT_V_LIST || v->type == AT_V_TUPLE ||
                          v->type == AT_V_RANGE;

    TRY(at_value_need(r, v));
    if (sequence && at_v_is_integer(key)) {
        TRY(item_at(out, r, v, key->i));
        goto done;
    }
    if (v->type == AT_V_DICT && key->type != AT_V_LIST && key->type != AT_V_DICT)
        TRY(at_dict_find(&found, r, v->dict, key));
    if (found)
        *out = *found;
    else if (key->type == AT_V_STRING)
        TRY(at_value_attr(out, r, v, key->s, key->n));
    else
        *out = at_v_undefined("there is no item of that key");
done:
    return st;
}

/* Python's slice.indices(). */
static AT_CHECKED slice_bounds(int64_t out[3], struct at_jinja_run *r,
                               const struct at_value bounds[3], int64_t length)
{
    for (size_t i = 0; i < 3; i++)
        if (bounds[i].type != AT_V_NONE && !at_v_is_integer(&bounds[i]))
            return at_run_fail(r, "slice indices must be integers or None, not %s",
                               at_value_type_name(&bounds[i]));
    const int64_t step = bounds[2].type == AT_V_NONE ? 1 : bounds[2].i;
    const int64_t low = step < 0 ? -1 : 0, high = step < 0 ? length - 1 : length;

    if (step == 0)
        return at_run_fail(r, "slice step cannot be zero");
    for (size_t i = 0; i < 2; i++) {
        int64_t x = bounds[i].i;
        if (bounds[i].type == AT_V_NONE)
            x = (i == 0) == (step > 0) ? low : high;
        else if (x < 0)
            x = x + length < low ? low : x + length;
        out[i] = x > high ? high : x;
    }
    out[2] = step;
    return AT_OK;
}

AT_CHECKED at_value_slice(struct at_value *out, struct at_jinja_run *r, const struct at_value *v,
                          const struct at_value bounds[3])
{
    enum at_status st = AT_OK;
    struct at_items *items = NULL;
    struct at_value list;
    struct at_buf text = { 0 };
    int64_t at[3] = { 0 }, length = 0;

    TRY(at_value_need(r, v));
    if (v->type != AT_V_STRING && v->type != AT_V_LIST && v->type != AT_V_TUPLE &&
        v->type != AT_V_RANGE)
        TRY(at_run_fail(r, "'%s' object has no slices", at_value_type_name(v)));
    TRY(at_value_length(&length, r, v));
    TRY(slice_bounds(at, r, bounds, length));
    if (v->type == AT_V_STRING && at[2] == 1) {
        TRY(at_run_work(r, v->n));
        const size_t begin = at_text_offset(v->s, v->n, (size_t)at[0]);
        const size_t n = at[1] > at[0] ? (size_t)(at[1] - at[0]) : 0;
        *out = at_v_text(v->s + begin, at_text_offset(v->s + begin, v->n - begin, n));
        goto done;
    }
    TRY(at_value_items(&items, r, v));
    TRY(at_value_list(&list, r, v->type == AT_V_STRING ? AT_V_LIST : v->type, 0));
    for (int64_t i = at[0]; at[2] > 0 ? i < at[1] : i > at[1];) {
        TRY(at_items_push(r, list.items, items->data[i]));
        if (__builtin_add_overflow(i, at[2], &i))
            break;
    }
    *out = list;
    if (v->type == AT_V_STRING) {
        for (size_t i = 0; i < list.items->n; i++)
            at_buf_put(&text, list.items->data[i].s, list.items->data[i].n);
        TRY(at_value_from_buf(out, r, &text));
    }
done:
    at_buf_release(&text);
    return st;
}

/* ---- documents ---- */

/* Numbers that at_json_parse() found written with a fraction, an exponent or many digits keep
 * their text. */
static AT_CHECKED number_from_json(struct at_value *out, struct at_jinja_run *r, const cJSON *json)
{
    const double x = json->valuedouble;
    const char *text = json->valuestring;

    if (text && strpbrk(text, ".eE"))
        /* NOLINTNEXTLINE(bugprone-branch-clone): the order matters */
        *out = at_v_float(x);
    else if (x == floor(x) && fabs(x) < 0x1p53)
        *out = at_v_int((int64_t)x);
    /* NOLINTNEXTLINE(cert-err34-c): digits were checked */
    else if (text && sscanf(text, "%" SCNd64, &out->i) == 1 && fabs(x) < 0x1p63)
        out->type = AT_V_INT;
    else if (x == floor(x))
        return at_run_fail(r, "the number %.17g is too large for a template", x);
    else
        *out = at_v_float(x);
    return AT_OK;
}

AT_CHECKED at_value_from_json(struct at_value *out, struct at_jinja_run *r, const cJSON *json)
{
    enum at_status st = AT_OK;
    struct at_value child;

    *out = at_v_none();
    TRY(at_run_work(r, AT_STEP_WORK / 4));
    if (cJSON_IsBool(json)) {
        *out = at_v_bool(cJSON_IsTrue(json) != 0);
    } else if (cJSON_IsNumber(json)) {
        TRY(number_from_json(out, r, json));
    } else if (cJSON_IsString(json)) {
        *out = at_v_text(json->valuestring, strlen(json->valuestring));
    } else if (cJSON_IsArray(json)) {
        TRY(at_value_list(out, r, AT_V_LIST, (size_t)cJSON_GetArraySize(json)));
        for (const cJSON *item = json->child; item; item = item->next) {
            TRY(at_value_from_json(&child, r, item));
            TRY(at_items_push(r, out->items, child));
        }
    } else if (cJSON_IsObject(json)) {
        TRY(at_value_dict(out, r, AT_V_DICT, (size_t)cJSON_GetArraySize(json)));
        for (const cJSON *item = json->child; item; item = item->next) {
            TRY(at_value_from_json(&child, r, item));
            /* keys are checked to be different when a document is read */
            out->dict->data[out->dict->n++] =
                (struct at_pair){ at_v_text(item->string, strlen(item->string)), child };
        }
    }
done:
    return st;
}
