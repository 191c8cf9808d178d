#include "row.h"

uint32_t at_row_tokens(const struct at_row *row)
{
    uint32_t n = row->n_prefix;

    for (uint32_t k = 0; k < row->n_segments; k++)
        n += row->segment[k].n;
    return n;
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
    uint32_t n = 0;

    for (uint32_t k = 0; k < row->n_segments; k++)
        n += row->segment[k].n_targets;
    return n;
}
