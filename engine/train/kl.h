/* KTO's KL term (Ethayarajh et al. 2024, section 4.1): every row has a mismatched one, its prompt
 * with the completion of another row; the term of a micro-batch is the mean log-ratio of its
 * mismatched rows, or 0 where that is negative. It has no gradient. */
#ifndef AT_KL_H
#define AT_KL_H

#include "dataset.h"
#include "engine.h"

/* (n_rows of the data set) Row i has the prompt of row i and the completion of the row before it;
 * of the first of each `batch` rows, of the last of them, as TRL rotates them; where that leaves a
 * row alone, of the row before; of a data set of one row, of the first of `others` (of held-out
 * rows: the training rows), without which it is AT_DATA. A completion is cut where it goes past
 * max_length (0: no limit) behind this prompt. Tokens are the data sets'. In `arena`. */
AT_CHECKED at_kl_rows(struct at_arena *arena, struct at_row **out, const struct at_dataset *data,
                      uint32_t batch, uint32_t max_length, const struct at_dataset *others);

/* Mismatched rows of a data set and what is computed of them. */
struct at_kl {
    const struct at_row *rows;     /* (n) borrowed; NULL: no term is wanted, it is 0 */
    const struct at_row *of;       /* (n) the rows that they are of; borrowed */
    struct at_row_result *results; /* (n) reference values stay cached here; in `arena` */
    uint32_t n;
    struct at_arena arena;
    /* (capacity) of one at_kl_begin() */
    const struct at_row **picked, **picked_of;
    struct at_row_result **kept;
    struct at_row_result *window;
};
/* `rows` (or NULL) lie in `arena`. `capacity`: rows of one at_kl_begin(). */
AT_CHECKED at_kl_init(struct at_kl *out, const struct at_row *rows, const struct at_arena *arena,
                      const struct at_row *of, uint32_t n, uint32_t capacity);
void at_kl_release(struct at_kl *kl);
/* The term of n mismatched rows whose log-ratios sum up to this (nats). */
float at_kl_term(double sum, uint32_t n);
/* Before rows index[0..n) of the data set are computed as `what` says, in micro-batches of `batch`:
 * lets their mismatched rows ride behind them (at_compute.riders, borrowed until the next call),
 * or, where they cannot, computes these first, policy and reference, waits for the device and sets
 * results[i].kl (nats). The term has the same bits either way. */
AT_CHECKED at_kl_begin(struct at_kl *kl, struct at_engine *engine, const uint32_t *index,
                       struct at_row_result *results, uint32_t n, uint32_t batch,
                       struct at_compute *what);

#endif
