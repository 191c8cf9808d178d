/* The losses of losses.def in double: the text that the GPU compiles, called by name. */
#ifndef REF_LOSS_H
#define REF_LOSS_H

#include <stdbool.h>

#include "prelude.h"

/* false: no such loss of this kind. Without a match it is all 0. */
bool ref_pair_loss(pair_out *out, const char *name, pair_stats s, loss_params p);
bool ref_matched_loss(pair_out *out, const char *name, pair_stats s, loss_params p, pair_match m);
bool ref_policy_loss(policy_out *out, const char *name, policy_stats s, policy_params p);
bool ref_row_loss(row_out *out, const char *name, row_stats s, row_params p);
bool ref_token_loss(token_out *out, const char *name, token_stats s);

#endif
