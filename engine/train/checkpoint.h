/* Checkpoints: all that a run needs to go on as if it had never stopped. A folder
 * output_dir/checkpoint-N holds the adapter as PEFT's two files (or, after full fine-tuning,
 * model.safetensors and config.json), of use as they are; optimizer.bin with values, moments, best
 * values and reference log-probs; trainer_state.json with step, counters, sums since the last
 * logged line and the sizes of the logs; and, written last, manifest.json with the format version,
 * what the run is, and the BLAKE2b of the other files. It is made under another name and renamed
 * when everything is on the disk, so that one with its name is whole. A run that goes on cuts its
 * logs to where they were and writes the same bytes again. */
#ifndef AT_CHECKPOINT_H
#define AT_CHECKPOINT_H

#include "loop.h"

/* Saves the loop at its step, then removes the oldest of more than save_total_limit. What cannot be
 * written is AT_CANNOT_WRITE, and removed; checkpoints of other steps stay. */
AT_CHECKED at_checkpoint_save(struct at_loop *loop, const struct at_outcome *outcome);

struct at_checkpoint; /* one that was found, with its files checked */
/* The checkpoint to go on from: the newest of output_dir with resume_from_checkpoint "true" (*out
 * NULL when there is none yet), or the folder in output_dir that it names; NULL without that key.
 * Nothing is changed. No manifest is AT_NOT_FOUND, another file that is missing or is not the one
 * that was written AT_INTEGRITY, another version AT_DATA; another method or key than the run's is
 * AT_USAGE, another model, tokenizer or data AT_INTEGRITY. Another device or kernel is a warning:
 * results agree, not their bits. The run's engine is planned. */
AT_CHECKED at_checkpoint_find(struct at_checkpoint **out, const struct at_run *run);
/* The newest one of the run that is going on, of a step up to `most`; NULL when it has none. */
AT_CHECKED at_checkpoint_newest(struct at_checkpoint **out, const struct at_run *run,
                                uint64_t most);
void at_checkpoint_close(struct at_checkpoint **checkpoint);
const char *at_checkpoint_path(const struct at_checkpoint *checkpoint);
/* Bytes of the logs when it was made. */
struct at_log_bytes at_checkpoint_logs(const struct at_checkpoint *checkpoint);
/* Removes what a run that goes on from there (NULL: from the beginning) will write again or never
 * saw whole: later checkpoints and remnants of saves. */
AT_CHECKED at_checkpoint_clear(const struct at_run *run, const struct at_checkpoint *checkpoint);
/* Puts loop, engine and outcome into the saved state. */
AT_CHECKED at_checkpoint_restore(struct at_loop *loop, struct at_outcome *outcome,
                                 const struct at_checkpoint *checkpoint);

#endif
