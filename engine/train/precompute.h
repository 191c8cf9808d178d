/* Reference log-probs before the first step, into the loop's results; nothing where the run
 * computes none. A signal is its status. */
#ifndef AT_PRECOMPUTE_H
#define AT_PRECOMPUTE_H

#include "loop.h"

/* Of every row by another model, before the policy is on the device; it is gone from there after.
 */
AT_CHECKED at_precompute_other(struct at_loop *loop);
/* Of the training rows by the run's engine, where full fine-tuning needs them or
 * precompute_ref_log_probs asks for them. */
AT_CHECKED at_precompute_own(struct at_loop *loop);

#endif
