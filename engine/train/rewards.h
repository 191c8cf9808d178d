/* Histograms of rewards, as TensorBoard shows them: of the rows of the step that a logged line
 * ends, and of all held-out rows. Their tags are PREFIXhistograms/rewards/chosen, .../rejected
 * (KTO: desirable rows and others) and, of pairs, .../margins. */
#ifndef AT_REWARDS_H
#define AT_REWARDS_H

#include "loop.h"

/* Appends those of n rows to the event file, where the run has one; SFT has none. prefix: "" or
 * "eval_". */
AT_CHECKED at_reward_histograms(const struct at_loop *loop, uint64_t step, const char *prefix,
                                const struct at_row *const *rows,
                                const struct at_row_result *results, uint32_t n);

#endif
