/* Methods of str, dict, list and tuple that templates may call. */
#include "jinja_parts.h"
#include "tokenizer_parts.h"

#include <utf8proc.h>

static AT_CHECKED need_text(struct at_jinja_run *r, const struct at_value *v, const char *method)
{
    if (v->type != AT_V_STRING)
        return at_run_fail(r, "%s() takes a text, not %s", method, at_value_type_name(v));
    return AT_OK;
}

/* ---- str ---- */

#define CASE_METHOD(name)                                                                 \
    static AT_CHECKED str_##name(struct at_value *out, struct at_jinja_run *r,            \
                                 const struct at_value *self, const struct at_args *args) \
    {                                                                                     \
        static const char *const names[] = { NULL };                                      \
        const enum at_status st = at_args_take(NULL, r, args, names, 0);                  \
        return st == AT_OK ? at_text_case(out, r, self, #name) : st;                      \
    }
CASE_METHOD(upper)
CASE_METHOD(lower)
CASE_METHOD(title)
CASE_METHOD(capitalize)
CASE_METHOD(swapcase)
#undef CASE_METHOD

static AT_CHECKED strip(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                        const struct at_args *args, bool left, bool right)
{
    static const char *const names[] = { "chars", NULL };
    enum at_status st = AT_OK;
    struct at_value chars = at_v_none();

    TRY(at_args_take(&chars, r, args, names, 0));
    if (chars.type != AT_V_NONE)
        TRY(need_text(r, &chars, "strip"));
    TRY(at_run_work(r, self->n * (AT_CODE_WORK / 2 + chars.n)));
    *out = at_text_strip(self, &chars, left, right);
done:
    return st;
}

static AT_CHECKED str_strip(struct at_value *out, struct at_jinja_run *r,
                            const struct at_value *self, const struct at_args *args)
{
    return strip(out, r, self, args, true, true);
}

static AT_CHECKED str_lstrip(struct at_value *out, struct at_jinja_run *r,
                             const struct at_value *self, const struct at_args *args)
{
    return strip(out, r, self, args, true, false);
}

static AT_CHECKED str_rstrip(struct at_value *out, struct at_jinja_run *r,
                             const struct at_value *self, const struct at_args *args)
{
    return strip(out, r, self, args, false, true);
}

static AT_CHECKED put_piece(struct at_jinja_run *r, struct at_items *items, const char *s, size_t n)
{
    return at_items_push(r, items, at_v_text(s, n));
}

/* At blanks, which pieces never hold. */
static AT_CHECKED split_blanks(struct at_jinja_run *r, struct at_items *items,
                               const struct at_value *text, int64_t most)
{
    enum at_status st = AT_OK;
    struct at_value rest = at_text_strip(text, NULL, true, false);

    while (rest.n > 0) {
        size_t i = 0, n = 0;
        if (most >= 0 && (int64_t)items->n == most) {
            TRY(put_piece(r, items, rest.s, rest.n));
            break;
        }
        for (; i < rest.n && !at_is_python_space(at_utf8_get(rest.s + i, &n)); n = 0)
            i += n;
        TRY(put_piece(r, items, rest.s, i));
        rest = at_v_text(rest.s + i, rest.n - i);
        rest = at_text_strip(&rest, NULL, true, false);
    }
done:
    return st;
}

static AT_CHECKED split_at(struct at_jinja_run *r, struct at_items *items,
                           const struct at_value *text, const struct at_value *mark, int64_t most)
{
    enum at_status st = AT_OK;
    size_t begin = 0, end;

    while (most < 0 || (int64_t)items->n < most) {
        TRY(at_text_find(&end, r, text, mark, begin));
        if (end == SIZE_MAX)
            break;
        TRY(put_piece(r, items, text->s + begin, end - begin));
        begin = end + mark->n;
    }
    TRY(put_piece(r, items, text->s + begin, text->n - begin));
done:
    return st;
}

/* From the right; pieces come out in the order of the text. */
static AT_CHECKED rsplit_at(struct at_jinja_run *r, struct at_items *items,
                            const struct at_value *text, const struct at_value *mark, int64_t most)
{
    enum at_status st = AT_OK;
    size_t end = text->n, begin;

    while (most < 0 || (int64_t)items->n < most) {
        TRY(at_text_rfind(&begin, r, text, mark, end));
        if (begin == SIZE_MAX)
            break;
        TRY(put_piece(r, items, text->s + begin + mark->n, end - begin - mark->n));
        end = begin;
    }
    TRY(put_piece(r, items, text->s, end));
    for (size_t i = 0; i < items->n / 2; i++) {
        const struct at_value swap = items->data[i];
        items->data[i] = items->data[items->n - 1 - i];
        items->data[items->n - 1 - i] = swap;
    }
done:
    return st;
}

typedef enum at_status split_text(struct at_jinja_run *r, struct at_items *items,
                                  const struct at_value *text, const struct at_value *mark,
                                  int64_t most);

static AT_CHECKED split(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                        const struct at_args *args, split_text *at_mark, bool from_right)
{
    static const char *const names[] = { "sep", "maxsplit", NULL };
    enum at_status st = AT_OK;
    struct at_value v[2] = { at_v_none(), at_v_int(-1) };

    TRY(at_args_take(v, r, args, names, 0));
    if (!at_v_is_integer(&v[1]))
        TRY(at_run_fail(r, "split() takes a number as maxsplit"));
    TRY(at_value_list(out, r, AT_V_LIST, 4));
    if (v[0].type != AT_V_NONE) {
        TRY(need_text(r, &v[0], "split"));
        if (v[0].n == 0)
            TRY(at_run_fail(r, "empty separator"));
        TRY(at_mark(r, out->items, self, &v[0], v[1].i));
    } else {
        if (from_right && v[1].i >= 0)
            TRY(at_run_fail(r, "rsplit() at blanks with maxsplit is not supported"));
        TRY(at_run_work(r, self->n * AT_CODE_WORK / 2));
        TRY(split_blanks(r, out->items, self, v[1].i));
    }
done:
    return st;
}

static AT_CHECKED str_split(struct at_value *out, struct at_jinja_run *r,
                            const struct at_value *self, const struct at_args *args)
{
    return split(out, r, self, args, split_at, false);
}

static AT_CHECKED str_rsplit(struct at_value *out, struct at_jinja_run *r,
                             const struct at_value *self, const struct at_args *args)
{
    return split(out, r, self, args, rsplit_at, true);
}

static AT_CHECKED str_splitlines(struct at_value *out, struct at_jinja_run *r,
                                 const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "keepends", NULL };
    enum at_status st = AT_OK;
    struct at_value keep = at_v_bool(false);

    TRY(at_args_take(&keep, r, args, names, 0));
    TRY(at_run_work(r, self->n * AT_CODE_WORK / 2));
    TRY(at_value_list(out, r, AT_V_LIST, 4));
    for (size_t i = 0, end = 0; i < self->n; i += end) {
        const size_t n = at_text_line(self->s + i, self->n - i, &end);
        TRY(put_piece(r, out->items, self->s + i, at_value_true(&keep) ? end : n));
    }
done:
    return st;
}

static AT_CHECKED str_partition(struct at_value *out, struct at_jinja_run *r,
                                const struct at_value *self, const struct at_args *args, bool last)
{
    static const char *const names[] = { "sep", NULL };
    enum at_status st = AT_OK;
    struct at_value mark;
    size_t at;

    TRY(at_args_take(&mark, r, args, names, 1));
    TRY(need_text(r, &mark, "partition"));
    if (mark.n == 0)
        TRY(at_run_fail(r, "empty separator"));
    TRY(at_value_list(out, r, AT_V_TUPLE, 3));
    TRY(last ? at_text_rfind(&at, r, self, &mark, self->n) : at_text_find(&at, r, self, &mark, 0));
    if (at == SIZE_MAX) {
        TRY(put_piece(r, out->items, last ? "" : self->s, last ? 0 : self->n));
        TRY(put_piece(r, out->items, "", 0));
        TRY(put_piece(r, out->items, last ? self->s : "", last ? self->n : 0));
        goto done;
    }
    TRY(put_piece(r, out->items, self->s, at));
    TRY(put_piece(r, out->items, mark.s, mark.n));
    TRY(put_piece(r, out->items, self->s + at + mark.n, self->n - at - mark.n));
done:
    return st;
}

static AT_CHECKED str_first_partition(struct at_value *out, struct at_jinja_run *r,
                                      const struct at_value *self, const struct at_args *args)
{
    return str_partition(out, r, self, args, false);
}

static AT_CHECKED str_rpartition(struct at_value *out, struct at_jinja_run *r,
                                 const struct at_value *self, const struct at_args *args)
{
    return str_partition(out, r, self, args, true);
}

/* The part of `self` between the code points that start and end name, as str's methods take them.
 */
static AT_CHECKED take_part(struct at_value *out, struct at_jinja_run *r,
                            const struct at_value *self, const struct at_value bounds[2],
                            int64_t *first)
{
    enum at_status st = AT_OK;
    const int64_t length = (int64_t)at_text_length(self->s, self->n);
    int64_t at[2] = { 0, length };
    size_t begin;

    for (size_t i = 0; i < 2; i++) {
        if (bounds[i].type == AT_V_NONE)
            continue;
        if (!at_v_is_integer(&bounds[i]))
            TRY(at_run_fail(r, "slice indices must be integers or None"));
        at[i] = bounds[i].i < 0 ? bounds[i].i + length : bounds[i].i;
        at[i] = at[i] < 0 ? 0 : at[i] > length && i == 1 ? length : at[i];
    }
    *first = at[0];
    out->type = AT_V_NONE; /* nothing, not even an empty text, is found behind the end */
    if (at[0] > at[1])
        goto done;
    begin = at_text_offset(self->s, self->n, (size_t)at[0]);
    *out = at_v_text(self->s + begin,
                     at_text_offset(self->s + begin, self->n - begin, (size_t)(at[1] - at[0])));
done:
    return st;
}

static bool has_affix(const struct at_value *part, const struct at_value *affix, bool end)
{
    return part->type == AT_V_STRING && affix->n <= part->n &&
           memcmp(part->s + (end ? part->n - affix->n : 0), affix->s, affix->n) == 0;
}

static AT_CHECKED with_affix(struct at_value *out, struct at_jinja_run *r,
                             const struct at_value *self, const struct at_args *args, bool end)
{
    static const char *const names[] = { "affix", "start", "end", NULL };
    enum at_status st = AT_OK;
    struct at_value v[3] = { at_v_none(), at_v_none(), at_v_none() }, part;
    int64_t first;

    TRY(at_args_take(v, r, args, names, 1));
    TRY(at_run_work(r, self->n / 8));
    if (args->n > 1)
        TRY(take_part(&part, r, self, v + 1, &first));
    else
        part = *self;
    *out = at_v_bool(false);
    if (v[0].type != AT_V_TUPLE) {
        TRY(need_text(r, &v[0], end ? "endswith" : "startswith"));
        *out = at_v_bool(has_affix(&part, &v[0], end));
        goto done;
    }
    for (size_t i = 0; i < v[0].items->n && !out->i; i++) {
        const struct at_value *affix = &v[0].items->data[i];
        TRY(need_text(r, affix, end ? "endswith" : "startswith"));
        TRY(at_run_work(r, 4 + affix->n / 8));
        *out = at_v_bool(has_affix(&part, affix, end));
    }
done:
    return st;
}

static AT_CHECKED str_startswith(struct at_value *out, struct at_jinja_run *r,
                                 const struct at_value *self, const struct at_args *args)
{
    return with_affix(out, r, self, args, false);
}

static AT_CHECKED str_endswith(struct at_value *out, struct at_jinja_run *r,
                               const struct at_value *self, const struct at_args *args)
{
    return with_affix(out, r, self, args, true);
}

/* find, rfind, index, rindex */
static AT_CHECKED locate(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                         const struct at_args *args, bool last, bool must)
{
    static const char *const names[] = { "sub", "start", "end", NULL };
    enum at_status st = AT_OK;
    struct at_value v[3] = { at_v_none(), at_v_none(), at_v_none() }, part;
    size_t at = SIZE_MAX;
    int64_t first;

    TRY(at_args_take(v, r, args, names, 1));
    TRY(need_text(r, &v[0], "find"));
    TRY(at_run_work(r, self->n));
    TRY(take_part(&part, r, self, v + 1, &first));
    if (part.type == AT_V_STRING)
        TRY(last ? at_text_rfind(&at, r, &part, &v[0], part.n)
                 : at_text_find(&at, r, &part, &v[0], 0));
    if (at == SIZE_MAX && must)
        TRY(at_run_fail(r, "substring not found"));
    *out = at_v_int(at == SIZE_MAX ? -1 : first + (int64_t)at_text_length(part.s, at));
done:
    return st;
}

static AT_CHECKED str_find(struct at_value *out, struct at_jinja_run *r,
                           const struct at_value *self, const struct at_args *args)
{
    return locate(out, r, self, args, false, false);
}

static AT_CHECKED str_rfind(struct at_value *out, struct at_jinja_run *r,
                            const struct at_value *self, const struct at_args *args)
{
    return locate(out, r, self, args, true, false);
}

static AT_CHECKED str_index(struct at_value *out, struct at_jinja_run *r,
                            const struct at_value *self, const struct at_args *args)
{
    return locate(out, r, self, args, false, true);
}

static AT_CHECKED str_rindex(struct at_value *out, struct at_jinja_run *r,
                             const struct at_value *self, const struct at_args *args)
{
    return locate(out, r, self, args, true, true);
}

static AT_CHECKED str_count(struct at_value *out, struct at_jinja_run *r,
                            const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "sub", "start", "end", NULL };
    enum at_status st = AT_OK;
    struct at_value v[3] = { at_v_none(), at_v_none(), at_v_none() }, part;
    int64_t n = 0, first;

    TRY(at_args_take(v, r, args, names, 1));
    TRY(need_text(r, &v[0], "count"));
    TRY(at_run_work(r, self->n));
    TRY(take_part(&part, r, self, v + 1, &first));
    if (part.type == AT_V_STRING && v[0].n == 0)
        n = (int64_t)at_text_length(part.s, part.n) + 1;
    for (size_t i = 0; part.type == AT_V_STRING && v[0].n > 0; i += v[0].n, n++) {
        TRY(at_text_find(&i, r, &part, &v[0], i));
        if (i == SIZE_MAX)
            break;
    }
    *out = at_v_int(n);
done:
    return st;
}

static AT_CHECKED str_replace(struct at_value *out, struct at_jinja_run *r,
                              const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "old", "new", "count", NULL };
    enum at_status st = AT_OK;
    struct at_value v[3] = { at_v_none(), at_v_none(), at_v_int(-1) };
    struct at_buf text = { 0 };
    size_t begin = 0;

    TRY(at_args_take(v, r, args, names, 2));
    TRY(need_text(r, &v[0], "replace"));
    TRY(need_text(r, &v[1], "replace"));
    if (!at_v_is_integer(&v[2]))
        TRY(at_run_fail(r, "replace() takes a number as count"));
    TRY(at_run_work(r, self->n));
    for (int64_t left = v[2].i; left != 0; left--) {
        size_t at;
        TRY(at_text_find(&at, r, self, &v[0], begin)); /* an empty text: before every character */
        if (at == SIZE_MAX)
            break;
        at_buf_put(&text, self->s + begin, at - begin);
        TRY(at_value_put(&text, r, &v[1]));
        begin = at + v[0].n;
        if (v[0].n == 0) {
            const size_t n = at_text_offset(self->s + at, self->n - at, 1);
            at_buf_put(&text, self->s + at, n);
            begin = at + n;
            if (at == self->n)
                break;
        }
    }
    if (begin < self->n)
        at_buf_put(&text, self->s + begin, self->n - begin);
    TRY(at_value_from_buf(out, r, &text));
done:
    at_buf_release(&text);
    return st;
}

static AT_CHECKED str_join(struct at_value *out, struct at_jinja_run *r,
                           const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "iterable", NULL };
    enum at_status st = AT_OK;
    struct at_value list;
    struct at_items *items = NULL;
    struct at_buf text = { 0 };

    TRY(at_args_take(&list, r, args, names, 1));
    TRY(at_value_items(&items, r, &list));
    for (size_t i = 0; i < items->n; i++) {
        TRY(need_text(r, &items->data[i], "join"));
        TRY(at_run_work(r, 1));
        if (i > 0)
            TRY(at_value_put(&text, r, self));
        TRY(at_value_put(&text, r, &items->data[i]));
    }
    TRY(at_value_from_buf(out, r, &text));
done:
    at_buf_release(&text);
    return st;
}

static AT_CHECKED str_format(struct at_value *out, struct at_jinja_run *r,
                             const struct at_value *self, const struct at_args *args)
{
    return at_text_format(out, r, self, args);
}

static AT_CHECKED remove_affix(struct at_value *out, struct at_jinja_run *r,
                               const struct at_value *self, const struct at_args *args, bool end)
{
    static const char *const names[] = { "affix", NULL };
    enum at_status st = AT_OK;
    struct at_value affix;

    TRY(at_args_take(&affix, r, args, names, 1));
    TRY(need_text(r, &affix, end ? "removesuffix" : "removeprefix"));
    TRY(at_run_work(r, affix.n / 8));
    *out = *self;
    if (!has_affix(self, &affix, end))
        goto done;
    *out = at_v_text(self->s + (end ? 0 : affix.n), self->n - affix.n);
done:
    return st;
}

static AT_CHECKED str_removeprefix(struct at_value *out, struct at_jinja_run *r,
                                   const struct at_value *self, const struct at_args *args)
{
    return remove_affix(out, r, self, args, false);
}

static AT_CHECKED str_removesuffix(struct at_value *out, struct at_jinja_run *r,
                                   const struct at_value *self, const struct at_args *args)
{
    return remove_affix(out, r, self, args, true);
}

typedef bool is_class(uint32_t code);

/* Not empty, and every character is of a class. */
static AT_CHECKED all_are(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                          const struct at_args *args, is_class *is)
{
    static const char *const names[] = { NULL };
    enum at_status st = AT_OK;

    TRY(at_args_take(NULL, r, args, names, 0));
    TRY(at_run_work(r, self->n * AT_CODE_WORK));
    *out = at_v_bool(self->n > 0);
    for (size_t i = 0, n = 0; i < self->n && out->i; i += n)
        *out = at_v_bool(is(at_utf8_get(self->s + i, &n)));
done:
    return st;
}

static bool is_digit(uint32_t code)
{
    return utf8proc_category((utf8proc_int32_t)code) == UTF8PROC_CATEGORY_ND;
}

static bool is_alpha(uint32_t code)
{
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);

    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

static bool is_alnum(uint32_t code)
{
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);

    return is_alpha(code) || (c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO);
}

#define CLASS_METHOD(name, class)                                                         \
    static AT_CHECKED str_##name(struct at_value *out, struct at_jinja_run *r,            \
                                 const struct at_value *self, const struct at_args *args) \
    {                                                                                     \
        return all_are(out, r, self, args, class);                                        \
    }
CLASS_METHOD(isdigit, is_digit)
CLASS_METHOD(isalpha, is_alpha)
CLASS_METHOD(isalnum, is_alnum)
CLASS_METHOD(isspace, at_is_python_space)
#undef CLASS_METHOD

/* ---- dict ---- */

static AT_CHECKED view(struct at_value *out, struct at_jinja_run *r, const struct at_value *self,
                       const struct at_args *args, const char *name)
{
    static const char *const names[] = { NULL };
    enum at_status st = AT_OK;
    const struct at_dict *dict = self->dict;
    struct at_value item;

    TRY(at_args_take(NULL, r, args, names, 0));
    TRY(at_value_list(out, r, AT_V_VIEW, dict->n));
    out->items->view = name;
    for (size_t i = 0; i < dict->n; i++) {
        item = name[5] == 'k' ? dict->data[i].key : dict->data[i].value;
        if (name[5] == 'i') {
            TRY(at_value_list(&item, r, AT_V_TUPLE, 2));
            TRY(at_items_push(r, item.items, dict->data[i].key));
            TRY(at_items_push(r, item.items, dict->data[i].value));
        }
        TRY(at_items_push(r, out->items, item));
    }
done:
    return st;
}

static AT_CHECKED dict_keys(struct at_value *out, struct at_jinja_run *r,
                            const struct at_value *self, const struct at_args *args)
{
    return view(out, r, self, args, "dict_keys");
}

static AT_CHECKED dict_values(struct at_value *out, struct at_jinja_run *r,
                              const struct at_value *self, const struct at_args *args)
{
    return view(out, r, self, args, "dict_values");
}

static AT_CHECKED dict_items(struct at_value *out, struct at_jinja_run *r,
                             const struct at_value *self, const struct at_args *args)
{
    return view(out, r, self, args, "dict_items");
}

static AT_CHECKED dict_get(struct at_value *out, struct at_jinja_run *r,
                           const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "key", "default", NULL };
    enum at_status st = AT_OK;
    struct at_value v[2] = { at_v_none(), at_v_none() }, *found = NULL;

    if (args->n_keywords > 0)
        TRY(at_run_fail(r, "dict.get() takes no keyword arguments"));
    TRY(at_args_take(v, r, args, names, 1));
    TRY(at_dict_find(&found, r, self->dict, &v[0]));
    *out = found ? *found : v[1];
done:
    return st;
}

static AT_CHECKED dict_copy(struct at_value *out, struct at_jinja_run *r,
                            const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { NULL };
    enum at_status st = AT_OK;

    TRY(at_args_take(NULL, r, args, names, 0));
    *out = *self; /* templates cannot change either */
done:
    return st;
}

/* ---- list and tuple ---- */

static AT_CHECKED list_count(struct at_value *out, struct at_jinja_run *r,
                             const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "value", NULL };
    enum at_status st = AT_OK;
    struct at_value wanted;
    int64_t n = 0;

    TRY(at_args_take(&wanted, r, args, names, 1));
    TRY(at_run_work(r, self->items->n * 4));
    for (size_t i = 0; i < self->items->n; i++) {
        bool same = false;
        TRY(at_value_equal(&same, r, &self->items->data[i], &wanted));
        n += same;
    }
    *out = at_v_int(n);
done:
    return st;
}

static AT_CHECKED list_index(struct at_value *out, struct at_jinja_run *r,
                             const struct at_value *self, const struct at_args *args)
{
    static const char *const names[] = { "value", NULL };
    enum at_status st = AT_OK;
    struct at_value wanted;
    bool same = false;
    size_t i = 0;

    TRY(at_args_take(&wanted, r, args, names, 1));
    for (; i < self->items->n; i++) {
        TRY(at_run_work(r, 4));
        TRY(at_value_equal(&same, r, &self->items->data[i], &wanted));
        if (same)
            break;
    }
    if (!same)
        TRY(at_run_fail(r, "the value is not in the list"));
    *out = at_v_int((int64_t)i);
done:
    return st;
}

/* ---- tables, sorted; without a function: methods that change what they belong to ---- */

static const struct at_function str_methods[] = {
    { "capitalize", str_capitalize },
    { "count", str_count },
    { "endswith", str_endswith },
    { "find", str_find },
    { "format", str_format },
    { "index", str_index },
    { "isalnum", str_isalnum },
    { "isalpha", str_isalpha },
    { "isdigit", str_isdigit },
    { "isspace", str_isspace },
    { "join", str_join },
    { "lower", str_lower },
    { "lstrip", str_lstrip },
    { "partition", str_first_partition },
    { "removeprefix", str_removeprefix },
    { "removesuffix", str_removesuffix },
    { "replace", str_replace },
    { "rfind", str_rfind },
    { "rindex", str_rindex },
    { "rpartition", str_rpartition },
    { "rsplit", str_rsplit },
    { "rstrip", str_rstrip },
    { "split", str_split },
    { "splitlines", str_splitlines },
    { "startswith", str_startswith },
    { "strip", str_strip },
    { "swapcase", str_swapcase },
    { "title", str_title },
    { "upper", str_upper },
};
static const struct at_function dict_methods[] = {
    { "clear", NULL },     { "copy", dict_copy },     { "get", dict_get }, { "items", dict_items },
    { "keys", dict_keys }, { "pop", NULL },           { "popitem", NULL }, { "setdefault", NULL },
    { "update", NULL },    { "values", dict_values },
};
static const struct at_function list_methods[] = {
    { "append", NULL },      { "clear", NULL },  { "count", list_count }, { "extend", NULL },
    { "index", list_index }, { "insert", NULL }, { "pop", NULL },         { "remove", NULL },
    { "reverse", NULL },     { "sort", NULL },
};
static const struct at_function tuple_methods[] = {
    { "count", list_count },
    { "index", list_index },
};

const struct at_function *at_value_method(const struct at_value *self, const char *name, size_t n)
{
    switch ((enum at_value_type)self->type) {
    case AT_V_STRING:
        return at_function_find(str_methods, AT_COUNT(str_methods), name, n);
    case AT_V_DICT:
        return at_function_find(dict_methods, AT_COUNT(dict_methods), name, n);
    case AT_V_LIST:
        return at_function_find(list_methods, AT_COUNT(list_methods), name, n);
    case AT_V_TUPLE:
    case AT_V_RANGE:
        return at_function_find(tuple_methods, AT_COUNT(tuple_methods), name, n);
    default:
        return NULL;
    }
}
