#include "slab.h"

#include <stdlib.h>

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
