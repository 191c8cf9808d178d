/* optimizer.bin of a checkpoint: magic, u32 version, u32 0, u64 bytes that follow, then the arrays,
 * each behind a u64 of its bytes: values and moments of the parameters, reference log-probs of the
 * training, held-out and mismatched rows, the reference that moves, and the best values. An array
 * that the run does not have is empty; the best values are left out. Private to checkpoint.c. */
#ifndef AT_CHECKPOINT_ARRAYS_H
#define AT_CHECKPOINT_ARRAYS_H

#include "loop.h"

enum { AT_CHECKPOINT_VERSION = 10 }; /* of every file of a checkpoint */

/* The state of device and loop into the file `path`. The loop's host copies are overwritten. */
AT_CHECKED at_checkpoint_arrays_write(struct at_arena *arena, const char *path,
                                      const struct at_loop *loop);
/* Back again. Another version, or arrays of other sizes, are AT_DATA. */
AT_CHECKED at_checkpoint_arrays_read(struct at_arena *arena, struct at_loop *loop,
                                     const char *path);

#endif
