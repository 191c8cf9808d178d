/* Commands that train several times: `attune run`, `attune sweep`, cross_validation. What the
 * folder of a training holds is told by stage.json, which has a digest of all that it was made
 * from; what is finished is not trained again, what was interrupted goes on. */
#ifndef AT_TRAINED_H
#define AT_TRAINED_H

#include "hash.h"
#include "shared_reference.h"

/* ---- folders ---- */

/* Format of stage.json. Digests of the first have the paths of what is read in them as they were
 * spelt; of what is written today only what the files hold. */
enum { CLI_TRAINED_BY_PATHS = 1, CLI_TRAINED_VERSION };
/* Digest of configuration, data and the bytes of what training starts from. Where it writes, what
 * it keeps on the way and what only observes is left out. `version`: of the stage.json that it is
 * compared with, or CLI_TRAINED_VERSION. */
AT_CHECKED cli_trained_digest(struct at_digest *out, struct at_arena *arena,
                              const struct at_config *config, uint32_t version);
/* Whether config.output_dir holds this training, finished; one that was interrupted goes on
 * (resume_from_checkpoint is set). AT_CANNOT_WRITE where it holds another one. `what`: "stage sft",
 * for messages; `changed`: its inputs are others in any case. */
AT_CHECKED cli_trained_find(bool *finished, struct at_arena *arena, struct at_config *config,
                            const char *what, bool changed);
/* It is finished. `ended`: why it ended before its last step, or NULL. `inputs`: before it was
 * trained, for files may change while it goes on. */
AT_CHECKED cli_trained_mark(struct at_arena *arena, const struct at_config *config,
                            const char *name, const struct at_digest *inputs, const char *ended);
/* What a finished training found, of methods of pairs: before, after, drift_after, best_step.
 * *ended as above, in `arena`. */
AT_CHECKED cli_trained_read(struct at_outcome *out, const char **ended, struct at_arena *arena,
                            const struct at_config *config);

/* ---- one load ---- */

/* Trainings one after another, of one model and the same rows; `{0}` is empty. */
struct cli_trainer {
    struct at_run run;
    struct at_shared_reference shared;
};
/* Ready for at_train(&trainer->run, ...) under this configuration, which must stay as long as the
 * trainer: the first is opened and told, further ones take its rows, its weights on the device and
 * its reference's log-probs, or are opened anew with another model as reference. AT_USAGE where it
 * has no held-out pairs. */
AT_CHECKED cli_trainer_use(struct cli_trainer *trainer, const struct at_config *config);
void cli_trainer_close(struct cli_trainer *trainer);

#endif
