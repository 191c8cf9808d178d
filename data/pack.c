#include "slab.h"

#include <stdlib.h>
#include <string.h>

struct item {
    uint32_t tokens, index;
};

/* Longest first; equal lengths by position, so the order is total and qsort's choices do not show.
 */
static int compare(const void *left, const void *right)
{
    const struct item *a = left, *b = right;

    if (a->tokens != b->tokens)
        return a->tokens > b->tokens ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

/* Places units of items[0..n) tokens, whose order is lost. */
static AT_CHECKED place(uint32_t *slab_of_unit, uint32_t *out_n_slabs, struct item *items,
                        uint32_t n, uint32_t capacity)
{
    enum at_status st = AT_OK;
    uint32_t *used = NULL, n_slabs = 0;

    TRY(at_alloc(&used, n, sizeof *used));
    qsort(items, n, sizeof *items, compare);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slab = 0;
        AT_REQUIRE(items[i].tokens <= capacity);
        while (slab < n_slabs && used[slab] + items[i].tokens > capacity)
            slab++;
        if (slab == n_slabs)
            n_slabs++;
        used[slab] += items[i].tokens;
        slab_of_unit[items[i].index] = slab;
    }
    *out_n_slabs = n_slabs;
done:
    at_free(&used);
    return st;
}

AT_CHECKED at_pack(uint32_t *slab_of_row, uint32_t *out_n_slabs, const struct at_row *const *rows,
                   uint32_t n, uint32_t capacity)
{
    enum at_status st = AT_OK;
    struct item *items = NULL;

    TRY(at_alloc(&items, n, sizeof *items));
    for (uint32_t i = 0; i < n; i++)
        items[i] = (struct item){ at_row_tokens(rows[i]), i };
    TRY(place(slab_of_row, out_n_slabs, items, n, capacity));
done:
    at_free(&items);
    return st;
}

/* Stable: a sibling moves up behind those before it. */
static void order_siblings(uint32_t *order, const struct at_row *const *rows, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    for (uint32_t begin = 0, end = 1; begin < n; begin = end++) {
        for (uint32_t i = end; i < n; i++) {
            const uint32_t row = order[i];
            if (!at_rows_are_siblings(rows[order[begin]], rows[row]))
                continue;
            memmove(order + end + 1, order + end, (i - end) * sizeof *order);
            order[end++] = row;
        }
    }
}

AT_CHECKED at_pack_siblings(uint32_t *slab_of_row, uint32_t *order, uint32_t *out_n_slabs,
                            const struct at_row *const *rows, uint32_t n, uint32_t capacity)
{
    enum at_status st = AT_OK;
    struct item *items = NULL;
    uint32_t *unit_of = NULL, *slab_of_unit = NULL, units = 0, tokens = 0;

    TRY(at_alloc(&items, n, sizeof *items));
    TRY(at_alloc(&unit_of, n, sizeof *unit_of));
    TRY(at_alloc(&slab_of_unit, n, sizeof *slab_of_unit));
    order_siblings(order, rows, n);
    for (uint32_t i = 0; i < n; i++) {
        const struct at_row *row = rows[order[i]];
        const uint32_t own = at_row_tokens(row) - row->n_prefix, more = own > 0 ? own : 1;
        if (i > 0 && at_rows_are_siblings(rows[order[i - 1]], row) && tokens + more <= capacity)
            tokens += more;
        else {
            tokens = at_row_tokens(row);
            units++;
        }
        items[units - 1] = (struct item){ tokens, units - 1 };
        unit_of[i] = units - 1;
    }
    TRY(place(slab_of_unit, out_n_slabs, items, units, capacity));
    for (uint32_t i = 0; i < n; i++)
        slab_of_row[order[i]] = slab_of_unit[unit_of[i]];
done:
    at_free(&items);
    at_free(&unit_of);
    at_free(&slab_of_unit);
    return st;
}

AT_CHECKED at_pack_riders(uint32_t *slab_of_row, uint32_t *out_n_slabs,
                          const struct at_row *const *rows, const struct at_row *const *riders,
                          uint32_t n, uint32_t batch, uint32_t capacity)
{
    enum at_status st = AT_OK;
    struct item *items = NULL;
    const uint32_t units = (n + batch - 1) / batch;

    TRY(at_alloc(&items, units, sizeof *items));
    for (uint32_t u = 0; u < units; u++) {
        const uint32_t begin = u * batch, left = n - begin;
        items[u] = (struct item){
            at_rider_tokens(rows + begin, riders + begin, left < batch ? left : batch), u
        };
    }
    TRY(place(slab_of_row, out_n_slabs, items, units, capacity));
    for (uint32_t i = n; i-- > 0;) /* from behind, for unit u stands at or before its rows */
        slab_of_row[i] = slab_of_row[i / batch];
done:
    at_free(&items);
    return st;
}
