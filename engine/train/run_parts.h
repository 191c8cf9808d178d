/* What the files run*.c share. */
#ifndef AT_RUN_PARTS_H
#define AT_RUN_PARTS_H

#include "trainer.h"

/* Whether it is opened as for training: to train, or to plan that. */
bool at_run_trains(const struct at_run *run);
/* Of a key that a user gave and that the run does not look at. */
void at_run_warn_ignored(const struct at_config *config, enum at_key key, const char *why);
/* How a model is loaded into fewer bits, by load_in_4bit and the like. */
struct at_quantise_params at_run_quantise_params(const struct at_config *config);
/* How rows are read for this run's method, template and keys. */
struct at_dataset_params at_run_dataset_params(const struct at_run *run, enum at_packing packing);
/* Plans the engine for the run's rows, which are there, and all that lies beside it on the device.
 * AT_USAGE for keys that this model or adapter does not bear, AT_DEVICE_MEMORY when it does not
 * fit. */
AT_CHECKED at_run_plan_engine(struct at_run *run);

#endif
