/* Packing of SFT rows: what counts as one row of a batch is several rows of the data set, at most
 * max_length tokens together. As TRL packs:
 *   BFD        whole rows by best fit decreasing (Ding et al. 2024, arXiv 2404.10830)
 *   BFD_SPLIT  the same after rows that are too long were cut into pieces of max_length and a rest
 *   WRAPPED    all tokens behind each other, cut every max_length: a packed row is one row
 * Rows and pieces under BFD and BFD_SPLIT stay rows of their own: they see nothing of their
 * neighbours and their positions start at 0. In a wrapped row every token sees all before it. The
 * first token of a piece or of a wrapped row is no target: nothing predicts it. */
#ifndef AT_PACKING_H
#define AT_PACKING_H

#include "dataset.h"

enum at_packing { AT_PACKING_NONE, AT_PACKING_BFD, AT_PACKING_BFD_SPLIT, AT_PACKING_WRAPPED };

struct at_packs {
    enum at_packing how;
    uint32_t max_length;
    const struct at_row *rows; /* (n_rows) those of a packed row behind each other, in its order */
    uint32_t n_rows;
    const uint32_t *begin; /* (n + 1) packed row i is rows[begin[i]] up to rows[begin[i + 1]] */
    uint32_t n, most;      /* packed rows; rows in the fullest of them */
    uint64_t tokens;       /* of all */
};
/* Packs the rows of `d` in their order, a thousand at a time as TRL's map does. Under BFD none may
 * have more than max_length tokens. NONE: a row is a packed row, max_length is not read. The result
 * lives in `arena` and in that of `d`. */
AT_CHECKED at_packs_make(struct at_packs *out, struct at_arena *arena, const struct at_dataset *d,
                         enum at_packing how, uint32_t max_length);
/* Tokens over those that the packed rows have room for; not of NONE. */
double at_packs_fill(const struct at_packs *packs);

#endif
