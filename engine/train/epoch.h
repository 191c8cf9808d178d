/* What an epoch sees of the training rows, and in which order. A file of weight w is seen w times:
 * its rows floor(w) times each, and a share w - floor(w) of them (to the nearest row, one at least)
 * once more. Which rows these are goes on from epoch to epoch, so that all have their turn before
 * one has its second: a function of (data_seed, epoch) alone. */
#ifndef AT_EPOCH_H
#define AT_EPOCH_H

#include "trainer.h"

bool at_epoch_is_weighted(const struct at_run *run);
/* Packed rows of an epoch; each epoch has as many. AT_USAGE for weights that the run's rows cannot
 * have. */
AT_CHECKED at_epoch_count(uint32_t *out, const struct at_run *run);
/* Their numbers, in the order of the epoch: run->epoch_packs of them. */
AT_CHECKED at_epoch_order(uint32_t *order, const struct at_run *run, uint64_t epoch);

#endif
