/* Reference log-probs that trainings one after another share: those of the same rows from the same
 * start, whose reference is the same and stays so. Bits are those that each would compute itself.
 */
#ifndef AT_SHARED_REFERENCE_H
#define AT_SHARED_REFERENCE_H

#include "loop.h"

/* `struct at_shared_reference s = {0}` is empty; 0: training rows, 1: held-out rows. */
struct at_shared_reference {
    struct at_row_result *results[2]; /* (n) */
    uint32_t n[2];
    char digest[2][65]; /* of the rows that they are of */
};
/* Into a loop before its first step: nothing where the rows are others, another model is the
 * reference, or it moves (sync_ref_model). */
void at_shared_reference_take(const struct at_shared_reference *shared, struct at_loop *loop);
/* What a loop that has ended computed; it replaces what was there. */
AT_CHECKED at_shared_reference_keep(struct at_shared_reference *shared, const struct at_loop *loop);
void at_shared_reference_release(struct at_shared_reference *shared);

#endif
