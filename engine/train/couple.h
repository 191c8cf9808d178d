/* Losses that couple the pairs of a micro-batch (letter "b" of losses.def): who meets whom depends
 * on the order of all its log-ratios, so a forward pass for these statistics comes first. */
#ifndef AT_COUPLE_H
#define AT_COUPLE_H

#include "engine.h"

struct at_ranked; /* a value to sort, private */
struct at_coupling {
    uint32_t micro_batch;    /* pairs, at most; 0: no loss couples */
    struct at_ranked *ranks; /* scratch, 2 * micro_batch */
};
AT_CHECKED at_coupling_init(struct at_coupling *out, uint32_t micro_batch);
void at_coupling_release(struct at_coupling *coupling);

/* Fills in `match` of n computed pairs (policy and reference sums), in micro-batches of
 * `micro_batch` in order; the last may be smaller. Values that are not finite sort last. */
void at_coupling_match(struct at_coupling *coupling, struct at_row_result *pairs, uint32_t n,
                       uint32_t micro_batch);

/* at_engine_rows(); where losses couple, policy and reference sums are computed and waited for
 * before. `coupling` with micro_batch 0 adds nothing. */
AT_CHECKED at_coupling_rows(struct at_coupling *coupling, struct at_engine *engine,
                            const struct at_row *const *rows, struct at_row_result *results,
                            uint32_t n, uint32_t micro_batch, const struct at_compute *what);

#endif
