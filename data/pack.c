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

AT_CHECKED at_pack(uint32_t *slab_of_row, uint32_t *out_n_slabs, const struct at_row *const *rows,
                   uint32_t n, uint32_t capacity)
{
    enum at_status st = AT_OK;
    struct item *items = NULL;
    uint32_t *used = NULL, n_slabs = 0;

    TRY(at_alloc(&items, n, sizeof *items));
    TRY(at_alloc(&used, n, sizeof *used));
    for (uint32_t i = 0; i < n; i++) {
        items[i] = (struct item){ at_row_tokens(rows[i]), i };
        AT_REQUIRE(items[i].tokens <= capacity);
    }
    qsort(items, n, sizeof *items, compare);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slab = 0;
        while (slab < n_slabs && used[slab] + items[i].tokens > capacity)
            slab++;
        if (slab == n_slabs)
            n_slabs++;
        used[slab] += items[i].tokens;
        slab_of_row[items[i].index] = slab;
    }
    *out_n_slabs = n_slabs;
done:
    at_free(&items);
    at_free(&used);
    return st;
}
