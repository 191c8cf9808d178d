/* The bytes of models, adapters and files that a result depends on. */
#ifndef AT_SOURCES_H
#define AT_SOURCES_H

#include "config.h"
#include "hash.h"
#include "reward.h"
#include "rollouts.h"

/* A file's bytes; of a folder those of model, adapter and tokenizer. `named` may be the name of a
 * model in a store (stores.h). */
AT_CHECKED cli_put_source(struct at_hash *hash, struct at_arena *arena, const char *named);
/* The sources of rewards that a training has; NULL where it has none. */
AT_CHECKED cli_rewards_open(struct at_rewards **out, const struct at_config *config);
/* Files and folders that a training starts from, of model, adapter, tokenizer, chat template,
 * reference and reward models; NULL where there is none. */
enum { CLI_SOURCES = 5 + AT_MAX_REWARDS };
AT_CHECKED cli_sources_of(const char *out[CLI_SOURCES], struct at_arena *arena,
                          const struct at_config *config);

#endif
