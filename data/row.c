#include "row.h"

#include <string.h>

uint32_t at_row_tokens(const struct at_row *row)
{
    uint32_t n = row->n_prefix;

    for (uint32_t k = 0; k < row->n_segments; k++)
        n += row->segment[k].n;
    return n;
}

uint32_t at_row_sequence(const struct at_row *row)
{
    uint32_t n = 0;

    for (uint32_t k = 0; k < row->n_segments; k++)
        n = row->segment[k].n > n ? row->segment[k].n : n;
    return row->n_prefix + n;
}

uint32_t at_row_tokens_unshared(const struct at_row *row)
{
    uint32_t n = 0;

    for (uint32_t k = 0; k < row->n_segments; k++)
        n += row->n_prefix + row->segment[k].n;
    return n;
}

uint32_t at_row_targets(const struct at_row *row)
{
    uint32_t n = at_row_prompt_targets(row);

    for (uint32_t k = 0; k < row->n_segments; k++)
        n += row->segment[k].n_targets;
    return n;
}

uint32_t at_row_prompt_targets(const struct at_row *row)
{
    return row->prompt_targets && row->n_prefix > 0 ? row->n_prefix - 1 : 0;
}

uint32_t at_row_sums(const struct at_row *row)
{
    return row->n_segments + row->prompt_targets;
}

bool at_rows_are_siblings(const struct at_row *a, const struct at_row *b)
{
    return a->kind == AT_ROWS_SAMPLE && b->kind == AT_ROWS_SAMPLE && a->n_prefix > 0 &&
           a->n_prefix == b->n_prefix &&
           (a->prefix == b->prefix ||
            memcmp(a->prefix, b->prefix, a->n_prefix * sizeof *a->prefix) == 0);
}

const char *at_row_side_name(const struct at_row *row, uint32_t k)
{
    static const char *const names[AT_MAX_SIDES] = { "chosen", "rejected", "reference" };

    return row->n_segments < 2 ? "completion" : names[k];
}
