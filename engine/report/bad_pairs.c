#include "report_parts.h"

#include <stdlib.h>

const char *const pair_fate_names[PAIR_FATES] = { "learnt", "never learnt", "forgotten",
                                                  "learnt backwards" };

struct reading {
    struct pairs *pairs;
    double last_step;
    bool absolute;
    uint32_t capacity;
};

static AT_CHECKED grow(struct reading *r, uint32_t row)
{
    enum at_status st = AT_OK;

    if (row >= r->capacity) {
        const uint32_t capacity = row < 128 ? 256 : 2 * row;
        TRY(at_realloc(&r->pairs->items, r->capacity, capacity, sizeof *r->pairs->items));
        r->capacity = capacity;
    }
    if (row >= r->pairs->n)
        r->pairs->n = row + 1;
done:
    return st;
}

/* Rows come in order, so that an index far beyond is no row. */
static enum at_status take_line(void *context, const cJSON *line, const char *name)
{
    enum at_status st = AT_OK;
    struct reading *r = context;
    double step = 0, margin = 0;
    uint32_t row = 0;
    struct pair *p = NULL;

    TRY(at_json_get_double(&step, line, "step", name));
    TRY(at_json_need_u32(&row, line, "row", name));
    if (step > r->last_step)
        goto done;
    if (row > r->pairs->n)
        FAIL(AT_DATA, "%s: row %u comes before row %u", name, row, r->pairs->n);
    TRY(grow(r, row));
    p = &r->pairs->items[row];
    TRY(at_json_need_u32(&p->file, line, "file", name));
    TRY(at_json_need_u32(&p->line, line, "line", name));
    TRY(at_json_get_u32(&p->tokens[0], line, "chosen_tokens", name));
    TRY(at_json_get_u32(&p->tokens[1], line, "rejected_tokens", name));
    if (!cJSON_IsNumber(at_json_find(line, "margin"))) /* it was not finite */
        goto done;
    TRY(at_json_get_double(&margin, line, "margin", name));
    if (r->absolute && p->n == 0)
        p->first = margin;
    margin -= p->first;
    p->best = p->n == 0 || margin > p->best ? margin : p->best;
    p->was_right = p->was_right || margin > 0;
    p->last = margin;
    p->n++;
done:
    return st;
}

/* At step 0 all margins to a reference are 0, which is neither right nor wrong. */
static enum pair_fate fate_of(const struct pair *p)
{
    if (p->last > 0)
        return PAIR_LEARNT;
    if (p->was_right)
        return PAIR_FORGOTTEN;
    return p->last < 0 ? PAIR_BACKWARDS : PAIR_NEVER;
}

struct ranked {
    double margin;
    uint32_t index;
};

static int by_margin(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->margin != y->margin)
        return x->margin < y->margin ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static AT_CHECKED rank(struct pairs *p)
{
    enum at_status st = AT_OK;
    struct ranked *list = NULL;

    TRY(at_alloc(&list, p->n, sizeof *list));
    TRY(at_alloc(&p->worst, p->n, sizeof *p->worst));
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->items[i].n == 0)
            continue;
        list[p->n_judged++] = (struct ranked){ p->items[i].last, i };
        p->items[i].fate = fate_of(&p->items[i]);
        p->count[p->items[i].fate]++;
    }
    qsort(list, p->n_judged, sizeof *list, by_margin);
    for (uint32_t i = 0; i < p->n_judged; i++)
        p->worst[i] = list[i].index;
done:
    at_free(&list);
    return st;
}

AT_CHECKED pairs_read(struct pairs *out, const char *path, double last_step, bool absolute)
{
    enum at_status st = AT_OK;
    struct reading r = { .pairs = out, .last_step = last_step, .absolute = absolute };

    TRY(report_lines(path, take_line, &r));
    TRY(rank(out));
done:
    return st;
}

void pairs_release(struct pairs *p)
{
    at_free(&p->items);
    at_free(&p->worst);
}
