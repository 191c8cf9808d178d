/* Steps with values that are not finite: the device makes no update in them. */
#ifndef AT_FINITE_H
#define AT_FINITE_H

#include "loop.h"

/* Whether the n rows of the step, their KL terms and the gradient are finite. */
bool at_step_is_finite(const struct at_loop *loop, uint32_t n);
/* Of a step that is not: counts it, writes its lines to metrics.jsonl and warns. AT_NUMERIC before
 * there was any update, as model or data are broken; AT_RETRY for the third in a row, which says
 * that the state is bad. */
AT_CHECKED at_step_skip(struct at_loop *loop, uint32_t n);

#endif
