/* The losses that this build knows (losses.def), by name. */
#ifndef AT_LOSSES_H
#define AT_LOSSES_H

#include <stddef.h>

#include "prelude.h"

enum at_loss_kind { AT_LOSS_PAIR, AT_LOSS_POLICY, AT_LOSS_ROW, AT_LOSS_TOKEN };

struct at_loss {
    const char *name; /* what `loss_type` accepts */
    enum at_loss_kind kind;
    const char *methods;             /* letters of losses.def */
    const char *reads;               /* letters of losses.def; "" for a token loss */
    const char *source;              /* for help: paper and remarks */
    const struct at_loss_file *file; /* where it is of a user's file (loss_file.h), else NULL */
};
/* NULL when there is no such loss. A hyphen counts as an underscore: TRL has one in tpo-l. */
const struct at_loss *at_loss_find(const char *name);
/* A pair loss in double, of a pair whose match is all 0. NaN when there is no such loss. */
double at_pair_loss_value(const char *name, pair_stats s, loss_params p);
/* A row loss in double. NaN when there is no such loss. */
double at_row_loss_value(const char *name, row_stats s, row_params p);
/* What orpo is a function of, for logging: the difference of the log-odds of two sides whose mean
 * log-probs a token are these. */
double at_log_odds_ratio(double chosen, double rejected);
/* All of them, sorted by name. */
const struct at_loss *at_loss_list(size_t *out_n);

#endif
