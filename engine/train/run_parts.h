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
/* Tokens of the smallest slab of which training steps need no more than of AT_CPU_SLAB tokens (or
 * of the longest row's), judged by the first of the data in their order; 0 where steps differ from
 * those. */
AT_CHECKED at_run_choose_slab(uint32_t *out, const struct at_run *run);
/* Plans the engine for the run's rows, which are there, and all that lies beside it on the device.
 * AT_USAGE for keys that this model or adapter does not bear, AT_DEVICE_MEMORY when it does not
 * fit. */
AT_CHECKED at_run_plan_engine(struct at_run *run);

#endif
