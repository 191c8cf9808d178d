/* The bytes of models, adapters and files that a result depends on. */
#ifndef AT_SOURCES_H
#define AT_SOURCES_H

#include "hash.h"
#include "mem.h"

/* A file's bytes; of a folder those of model, adapter and tokenizer. `named` may be the name of a
 * model in a store (stores.h). */
AT_CHECKED cli_put_source(struct at_hash *hash, struct at_arena *arena, const char *named);

#endif
