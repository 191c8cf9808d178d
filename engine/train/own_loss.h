/* Losses of one's own, of files that loss_type names: compiled for the device, and their
 * derivatives compared with differences of their values there, for nothing else can run them. */
#ifndef AT_OWN_LOSS_H
#define AT_OWN_LOSS_H

#include "trainer.h"

/* Fills in run->own; nothing without such losses. AT_DATA with the compiler's messages, or with a
 * point at which the derivative is not that of the loss; AT_USAGE where the build has no compiler.
 */
AT_CHECKED at_own_losses_build(struct at_run *run);

#endif
