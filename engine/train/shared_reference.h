/* Reference log-probs that trainings one after another share: those of the same rows of one run
 * from the same start, whose reference is the same and stays so. Bits are those that each would
 * compute itself. */
#ifndef AT_SHARED_REFERENCE_H
#define AT_SHARED_REFERENCE_H

#include "loop.h"

/* `struct at_shared_reference s = {0}` is empty; 0: rows of train_dataset, wherever a split put
 * them, 1: of eval_dataset. */
struct at_shared_reference {
    struct at_kept_reference *kept[2]; /* (n) in `arena`, which spills */
    uint32_t n[2];
    struct at_arena arena;
};
/* Of a row; `segment` is of use when `is_known`. */
struct at_kept_reference {
    struct at_segment_result segment[AT_MAX_SEGMENTS];
    bool is_known;
};
/* Into a loop before its first step: nothing where another model is the reference, or it moves
 * (sync_ref_model). */
void at_shared_reference_take(const struct at_shared_reference *shared, struct at_loop *loop);
/* What a loop that has ended computed, beside what was there. */
AT_CHECKED at_shared_reference_keep(struct at_shared_reference *shared, const struct at_loop *loop);
void at_shared_reference_release(struct at_shared_reference *shared);

#endif
