/* Checkpoints: all that a run needs to go on as if it had never stopped. A folder
 * output_dir/checkpoint-N holds
 *   adapter_model.safetensors, adapter_config.json   or, after full fine-tuning, model.safetensors
 * and config.json: of use as they are optimizer.bin        arrays: values, moments, best values,
 * reference log-probs trainer_state.json   step, counters, sums since the last logged line, sizes
 * of the logs manifest.json        written last: format version, what the run is, BLAKE2b of the
 * other files It is made under another name and renamed when everything is on the disk, so that one
 * with its name is whole. A run that goes on cuts its logs where they were and writes the same
 * bytes again. */
#ifndef AT_CHECKPOINT_H
#define AT_CHECKPOINT_H

#include "loop.h"

/* Saves the loop at its step, then removes the oldest of more than save_total_limit. What cannot be
 * written is AT_CANNOT_WRITE; earlier checkpoints are whole then. */
AT_CHECKED at_checkpoint_save(struct at_loop *loop, const struct at_outcome *outcome);

struct at_checkpoint; /* one that was found, with its files checked */
/* The checkpoint to go on from: the newest of output_dir with resume_from_checkpoint "true" (*out
 * NULL when there is none yet), or the folder it names; NULL without that key. A file that is
 * missing or is not the one that was written is AT_INTEGRITY, another version AT_DATA; another
 * configuration than the run's is AT_USAGE with the key, another model, tokenizer or data
 * AT_INTEGRITY. Another device or kernel is a warning: results agree, not their bits. The run's
 * engine is planned. */
AT_CHECKED at_checkpoint_find(struct at_checkpoint **out, const struct at_run *run);
void at_checkpoint_close(struct at_checkpoint **checkpoint);
const char *at_checkpoint_path(const struct at_checkpoint *checkpoint);
/* Bytes of the logs when it was made. */
struct at_log_bytes at_checkpoint_logs(const struct at_checkpoint *checkpoint);
/* Puts loop, engine and outcome into the saved state. */
AT_CHECKED at_checkpoint_restore(struct at_loop *loop, struct at_outcome *outcome,
                                 const struct at_checkpoint *checkpoint);

#endif
