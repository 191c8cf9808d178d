/* The losses that this build knows (losses.def), by name. */
#ifndef AT_LOSSES_H
#define AT_LOSSES_H

#include <stddef.h>

enum at_loss_kind { AT_LOSS_PAIR, AT_LOSS_TOKEN };

struct at_loss {
    const char *name; /* what `loss_type` accepts */
    enum at_loss_kind kind;
    const char *source; /* for help: paper and remarks */
};
/* NULL when there is no such loss. */
const struct at_loss *at_loss_find(const char *name);
/* A pair loss in double: its value at log-ratios `score_chosen` and `score_rejected` (nats, policy
 * minus reference) of completions of n_chosen and n_rejected tokens. NaN when there is no such
 * loss. */
double at_pair_loss_value(const char *name, double score_chosen, double score_rejected,
                          double n_chosen, double n_rejected, double beta);
/* All of them, sorted by name. */
const struct at_loss *at_loss_list(size_t *out_n);

#endif
