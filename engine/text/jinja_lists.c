/* Filters of lists. */
#include "jinja_parts.h"

static const char *const no_names[] = { NULL };

/* ---- attributes: "a.b.0" ---- */

static AT_CHECKED follow(struct at_value *out, struct at_jinja_run *r, const struct at_value *item,
                         const struct at_value *path)
{
    enum at_status st = AT_OK;
    size_t begin = 0;

    *out = *item;
    if (path->type != AT_V_STRING) {
        TRY(at_value_item(out, r, item, path));
        goto done;
    }
    while (begin <= path->n) {
        const char *dot = memchr(path->s + begin, '.', path->n - begin);
        const size_t end = dot ? (size_t)(dot - path->s) : path->n;
        struct at_value key = at_v_text(path->s + begin, end - begin), from = *out;
        int64_t number = 0;
        bool digits = key.n > 0 && key.n < 10;
        for (size_t i = 0; i < key.n && digits; i++) {
            digits = key.s[i] >= '0' && key.s[i] <= '9';
            number = number * 10 + (key.s[i] - '0');
        }
        if (digits)
            key = at_v_int(number);
        TRY(at_value_item(out, r, &from, &key));
        begin = end + 1;
    }
done:
    return st;
}

/* The key that items are compared by: an attribute, texts without case. */
static AT_CHECKED sort_key(struct at_value *out, struct at_jinja_run *r,
                           const struct at_value *item, const struct at_value *attribute,
                           bool case_sensitive)
{
    enum at_status st = AT_OK;

    if (attribute->type == AT_V_NONE)
        *out = *item;
    else
        TRY(follow(out, r, item, attribute));
    if (!case_sensitive && out->type == AT_V_STRING)
        TRY(at_text_case(out, r, out, "lower"));
done:
    return st;
}

struct keyed {
    struct at_value key, item;
};

/* Stable: a merge of halves, since comparing may fail. */
static AT_CHECKED merge_sort(struct at_jinja_run *r, struct keyed *data, struct keyed *spare,
                             size_t n, bool reverse)
{
    enum at_status st = AT_OK;
    const size_t half = n / 2;
    size_t a = 0, b = half;
    int order;

    if (n < 2)
        goto done;
    TRY(at_run_work(r, n * 8));
    TRY(merge_sort(r, data, spare, half, reverse));
    TRY(merge_sort(r, data + half, spare, n - half, reverse));
    for (size_t i = 0; i < n; i++) {
        bool left = b == n;
        if (a < half && b < n) {
            TRY(at_value_compare(&order, r, &data[b].key, &data[a].key, "<"));
            left = reverse ? order <= 0 : order >= 0;
        }
        spare[i] = left && a < half ? data[a++] : data[b++];
    }
    memcpy(data, spare, n * sizeof *data);
done:
    return st;
}

static AT_CHECKED sort_items(struct at_value *out, struct at_jinja_run *r,
                             const struct at_items *items, const struct at_value *attribute,
                             bool case_sensitive, bool reverse)
{
    enum at_status st = AT_OK;
    struct keyed *data = NULL, *spare = NULL;

    TRY(at_run_alloc(r, &data, items->n, sizeof *data));
    TRY(at_run_alloc(r, &spare, items->n, sizeof *spare));
    for (size_t i = 0; i < items->n; i++) {
        data[i].item = items->data[i];
        TRY(sort_key(&data[i].key, r, &items->data[i], attribute, case_sensitive));
    }
    TRY(merge_sort(r, data, spare, items->n, reverse));
    TRY(at_value_list(out, r, AT_V_LIST, items->n));
    for (size_t i = 0; i < items->n; i++)
        TRY(at_items_push(r, out->items, data[i].item));
done:
    return st;
}

AT_CHECKED at_filter_sort(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                          const struct at_args *args)
{
    static const char *const names[] = { "reverse", "case_sensitive", "attribute", NULL };
    enum at_status st = AT_OK;
    struct at_value v[3] = { at_v_bool(false), at_v_bool(false), at_v_none() };
    struct at_items *items = NULL;

    TRY(at_args_take(v, r, args, names, 0));
    if (v[2].type == AT_V_STRING && memchr(v[2].s, ',', v[2].n))
        TRY(at_run_fail(r, "sort by several attributes is not supported"));
    TRY(at_value_items(&items, r, self));
    TRY(sort_items(out, r, items, &v[2], at_value_true(&v[1]), at_value_true(&v[0])));
done:
    return st;
}

static AT_CHECKED pairs_of(struct at_value *out, struct at_jinja_run *r, const struct at_dict *dict)
{
    enum at_status st = AT_OK;
    struct at_value pair;

    TRY(at_value_list(out, r, AT_V_GENERATOR, dict->n));
    for (size_t i = 0; i < dict->n; i++) {
        TRY(at_value_list(&pair, r, AT_V_TUPLE, 2));
        TRY(at_items_push(r, pair.items, dict->data[i].key));
        TRY(at_items_push(r, pair.items, dict->data[i].value));
        TRY(at_items_push(r, out->items, pair));
    }
done:
    return st;
}

AT_CHECKED at_filter_items(struct at_value *out, struct at_jinja_run *r,
                           const struct at_value *self, const struct at_args *args)
{
    static const struct at_dict nothing;
    enum at_status st = AT_OK;

    TRY(at_args_take(NULL, r, args, no_names, 0));
    if (self->type != AT_V_DICT && self->type != AT_V_UNDEFINED)
        TRY(at_run_fail(r, "Can only get item pairs from a mapping."));
    TRY(pairs_of(out, r, self->type == AT_V_DICT ? self->dict : &nothing));
done:
    return st;
}

AT_CHECKED at_filter_dictsort(struct at_value *out, struct at_jinja_run *r,
                              const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "case_sensitive", "by", "reverse", NULL };
    enum at_status st = AT_OK;
    struct at_value v[3] = { at_v_bool(false), at_v_text("key", 3), at_v_bool(false) }, pairs,
                    which;
    bool by_value;

    TRY(at_args_take(v, r, args, names, 0));
    if (self->type != AT_V_DICT)
        TRY(at_run_fail(r, "dictsort takes a dict, not %s", at_value_type_name(self)));
    by_value = v[1].type == AT_V_STRING && at_text_is(v[1].s, v[1].n, "value");
    if (!by_value && (v[1].type != AT_V_STRING || !at_text_is(v[1].s, v[1].n, "key")))
        TRY(at_run_fail(r, "You can only sort by either \"key\" or \"value\""));
    which = at_v_int(by_value);
    TRY(pairs_of(&pairs, r, self->dict));
    TRY(sort_items(out, r, pairs.items, &which, at_value_true(&v[0]), at_value_true(&v[2])));
done:
    return st;
}

AT_CHECKED at_filter_unique(struct at_value *out, struct at_jinja_run *r,
                            const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "case_sensitive", "attribute", NULL };
    enum at_status st = AT_OK;
    struct at_value v[2] = { at_v_bool(false), at_v_none() }, seen, key, *found = NULL;
    struct at_items *items = NULL;

    TRY(at_args_take(v, r, args, names, 0));
    TRY(at_value_items(&items, r, self));
    TRY(at_value_dict(&seen, r, AT_V_DICT, 0));
    TRY(at_value_list(out, r, AT_V_GENERATOR, 0));
    for (size_t i = 0; i < items->n; i++) {
        TRY(sort_key(&key, r, &items->data[i], &v[1], at_value_true(&v[0])));
        TRY(at_dict_find(&found, r, seen.dict, &key));
        if (found)
            continue;
        TRY(at_dict_put(r, seen.dict, key, at_v_none()));
        TRY(at_items_push(r, out->items, items->data[i]));
    }
done:
    return st;
}

static AT_CHECKED extreme(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                          const struct at_args *args, int sign)
{
    static const char *const names[] = { "case_sensitive", "attribute", NULL };
    enum at_status st = AT_OK;
    struct at_value v[2] = { at_v_bool(false), at_v_none() }, key, best;
    struct at_items *items = NULL;
    int order = 0;

    TRY(at_args_take(v, r, args, names, 0));
    TRY(at_value_items(&items, r, self));
    *out = at_v_undefined("No aggregated item, sequence was empty.");
    for (size_t i = 0; i < items->n; i++) {
        TRY(at_run_work(r, AT_STEP_WORK / 4));
        TRY(sort_key(&key, r, &items->data[i], &v[1], at_value_true(&v[0])));
        if (i > 0)
            TRY(at_value_compare(&order, r, &key, &best, sign < 0 ? "<" : ">"));
        if (i > 0 && order != sign)
            continue;
        best = key;
        *out = items->data[i];
    }
done:
    return st;
}

AT_CHECKED at_filter_min(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                         const struct at_args *args)
{
    return extreme(out, r, self, args, -1);
}

AT_CHECKED at_filter_max(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                         const struct at_args *args)
{
    return extreme(out, r, self, args, 1);
}

AT_CHECKED at_filter_sum(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                         const struct at_args *args)
{
    static const char *const names[] = { "attribute", "start", NULL };
    enum at_status st = AT_OK;
    struct at_value v[2] = { at_v_none(), at_v_int(0) }, item;
    struct at_items *items = NULL;

    TRY(at_args_take(v, r, args, names, 0));
    TRY(at_value_items(&items, r, self));
    *out = v[1];
    if (out->type == AT_V_STRING)
        TRY(at_run_fail(r, "sum() can't sum strings [use ''.join(seq) instead]"));
    for (size_t i = 0; i < items->n; i++) {
        const struct at_value so_far = *out;
        TRY(at_run_work(r, AT_STEP_WORK / 4));
        item = items->data[i];
        if (v[0].type != AT_V_NONE)
            TRY(follow(&item, r, &items->data[i], &v[0]));
        TRY(at_value_binary(out, r, AT_OP_ADD, &so_far, &item));
    }
done:
    return st;
}

/* ---- parts ---- */

AT_CHECKED at_filter_first(struct at_value *out, struct at_jinja_run *r,
                           const struct at_value *self, const struct at_args *args)
{
    enum at_status st = AT_OK;
    struct at_items *items = NULL;

    TRY(at_args_take(NULL, r, args, no_names, 0));
    TRY(at_value_items(&items, r, self));
    *out = items->n > 0 ? items->data[0] : at_v_undefined("No first item, sequence was empty.");
done:
    return st;
}

AT_CHECKED at_filter_last(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                          const struct at_args *args)
{
    enum at_status st = AT_OK;
    struct at_items *items = NULL;

    TRY(at_args_take(NULL, r, args, no_names, 0));
    if (self->type == AT_V_GENERATOR)
        TRY(at_run_fail(r, "'generator' object is not reversible"));
    TRY(at_value_items(&items, r, self));
    *out = items->n > 0 ? items->data[items->n - 1]
                        : at_v_undefined("No last item, sequence was empty.");
done:
    return st;
}

AT_CHECKED at_filter_list(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                          const struct at_args *args)
{
    enum at_status st = AT_OK;
    struct at_items *items = NULL;

    TRY(at_args_take(NULL, r, args, no_names, 0));
    TRY(at_value_items(&items, r, self));
    *out = (struct at_value){ .type = AT_V_LIST, .items = items };
done:
    return st;
}

AT_CHECKED at_filter_reverse(struct at_value *out, struct at_jinja_run *r,
                             const struct at_value *self, const struct at_args *args)
{
    enum at_status st = AT_OK;
    const struct at_value bounds[3] = { at_v_none(), at_v_none(), at_v_int(-1) };
    struct at_items *items = NULL;

    TRY(at_args_take(NULL, r, args, no_names, 0));
    if (self->type == AT_V_STRING) {
        TRY(at_value_slice(out, r, self, bounds));
        goto done;
    }
    TRY(at_value_items(&items, r, self));
    TRY(at_value_list(out, r, AT_V_GENERATOR, items->n));
    for (size_t i = items->n; i-- > 0;)
        TRY(at_items_push(r, out->items, items->data[i]));
done:
    return st;
}

AT_CHECKED at_filter_batch(struct at_value *out, struct at_jinja_run *r,
                           const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "linecount", "fill_with", NULL };
    enum at_status st = AT_OK;
    struct at_value v[2] = { at_v_none(), at_v_none() }, row = at_v_none();
    struct at_items *items = NULL;
    size_t n;

    TRY(at_args_take(v, r, args, names, 1));
    if (!at_v_is_integer(&v[0]) || v[0].i < 1 || v[0].i > 10000)
        TRY(at_run_fail(r, "batch takes a number from 1 to 10000"));
    n = (size_t)v[0].i;
    TRY(at_value_items(&items, r, self));
    TRY(at_value_list(out, r, AT_V_GENERATOR, 0));
    for (size_t i = 0; i < items->n; i++) {
        if (i % n == 0) {
            TRY(at_value_list(&row, r, AT_V_LIST, 0));
            TRY(at_items_push(r, out->items, row));
        }
        TRY(at_items_push(r, row.items, items->data[i]));
    }
    while (row.type == AT_V_LIST && v[1].type != AT_V_NONE && row.items->n < n)
        TRY(at_items_push(r, row.items, v[1]));
done:
    return st;
}

AT_CHECKED at_filter_join(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                          const struct at_args *args)
{
    static const char *const names[] = { "d", "attribute", NULL };
    enum at_status st = AT_OK;
    struct at_value v[2] = { at_v_text("", 0), at_v_none() }, item, mark;
    struct at_items *items = NULL;
    struct at_buf text = { 0 };

    TRY(at_args_take(v, r, args, names, 0));
    TRY(at_value_items(&items, r, self));
    TRY(at_value_text(&mark, r, &v[0]));
    for (size_t i = 0; i < items->n; i++) {
        item = items->data[i];
        if (v[1].type != AT_V_NONE)
            TRY(follow(&item, r, &items->data[i], &v[1]));
        TRY(at_run_work(r, 1));
        if (i > 0)
            TRY(at_value_put(&text, r, &mark));
        TRY(at_value_put(&text, r, &item));
    }
    TRY(at_value_from_buf(out, r, &text));
done:
    at_buf_release(&text);
    return st;
}

/* ---- map, select, reject ---- */

/* The function that the first argument names, and the arguments behind it. */
static AT_CHECKED take_function(const struct at_function **out, struct at_args *rest,
                                struct at_jinja_run *r, const struct at_args *args, size_t at,
                                const struct at_function *(*find)(const char *, size_t),
                                const char *kind)
{
    enum at_status st = AT_OK;
    const struct at_value *name = &args->data[at];

    *rest = (struct at_args){ .data = args->data + at + 1,
                              .n = args->n - at - 1,
                              .keywords = args->keywords,
                              .n_keywords = args->n_keywords };
    *out = name->type == AT_V_STRING ? find(name->s, name->n) : NULL;
    if (!*out)
        TRY(at_run_fail(r, "the %s \"%.*s\" is not supported", kind,
                        name->type == AT_V_STRING ? (int)name->n : 1,
                        name->type == AT_V_STRING ? name->s : "?"));
done:
    return st;
}

AT_CHECKED at_filter_map(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                         const struct at_args *args)
{
    static const char *const names[] = { "attribute", "default", NULL };
    enum at_status st = AT_OK;
    struct at_value v[2] = { at_v_none(), at_v_none() }, item;
    struct at_items *items = NULL;
    const struct at_function *filter = NULL;
    struct at_args rest = { .n = 0 };

    if (args->n > 0) {
        TRY(take_function(&filter, &rest, r, args, 0, at_filter_find, "filter"));
    } else {
        TRY(at_args_take(v, r, args, names, 0));
        if (v[0].type == AT_V_NONE)
            TRY(at_run_fail(r, "map requires a filter argument"));
    }
    TRY(at_value_items(&items, r, self));
    TRY(at_value_list(out, r, AT_V_GENERATOR, items->n));
    for (size_t i = 0; i < items->n; i++) {
        if (filter)
            TRY(filter->call(&item, r, &items->data[i], &rest));
        else
            TRY(follow(&item, r, &items->data[i], &v[0]));
        if (!filter && item.type == AT_V_UNDEFINED && v[1].type != AT_V_NONE)
            item = v[1];
        TRY(at_items_push(r, out->items, item));
    }
done:
    return st;
}

static AT_CHECKED choose(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                         const struct at_args *args, bool by_attribute, bool wanted)
{
    enum at_status st = AT_OK;
    struct at_items *items = NULL;
    const struct at_function *test = NULL;
    struct at_args rest = { .n = 0 };
    struct at_value seen, verdict;

    if (by_attribute && args->n == 0)
        TRY(at_run_fail(r, "Missing parameter for attribute name"));
    if (args->n > (by_attribute ? 1u : 0u))
        TRY(take_function(&test, &rest, r, args, by_attribute, at_test_find, "test"));
    TRY(at_value_items(&items, r, self));
    TRY(at_value_list(out, r, AT_V_GENERATOR, 0));
    for (size_t i = 0; i < items->n; i++) {
        TRY(at_run_work(r, AT_STEP_WORK / 4));
        seen = items->data[i];
        if (by_attribute)
            TRY(follow(&seen, r, &items->data[i], &args->data[0]));
        verdict = seen;
        if (test)
            TRY(test->call(&verdict, r, &seen, &rest));
        if (at_value_true(&verdict) == wanted)
            TRY(at_items_push(r, out->items, items->data[i]));
    }
done:
    return st;
}

AT_CHECKED at_filter_select(struct at_value *out, struct at_jinja_run *r,
                            const struct at_value *self, const struct at_args *args)
{
    return choose(out, r, self, args, false, true);
}

AT_CHECKED at_filter_reject(struct at_value *out, struct at_jinja_run *r,
                            const struct at_value *self, const struct at_args *args)
{
    return choose(out, r, self, args, false, false);
}

AT_CHECKED at_filter_selectattr(struct at_value *out, struct at_jinja_run *r,
                                const struct at_value *self, const struct at_args *args)
{
    return choose(out, r, self, args, true, true);
}

AT_CHECKED at_filter_rejectattr(struct at_value *out, struct at_jinja_run *r,
                                const struct at_value *self, const struct at_args *args)
{
    return choose(out, r, self, args, true, false);
}
