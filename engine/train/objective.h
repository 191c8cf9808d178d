/* The objective of a run: the losses that its configuration adds up, and their knobs. */
#ifndef AT_OBJECTIVE_H
#define AT_OBJECTIVE_H

#include "config.h"
#include "engine.h"

enum { AT_MAX_LOSSES = 8 };

struct at_objective {
    struct at_loss_term terms[AT_MAX_LOSSES + 1]; /* the list and an anchor */
    size_t n;
    enum at_loss_kind kind;         /* of the list */
    bool own;                       /* one is of a file: its value is the device's to tell */
    struct at_policy_params policy; /* of policy losses */
    struct at_loss_params params; /* mean_n_chosen: at_objective_mean_chosen() of the step's rows */
    bool reference;               /* a loss reads it: its forward pass is wanted */
    bool without_reference;       /* none does, of a method that has one */
    bool token_means;             /* no reference, and means over tokens are compared */
    bool log_odds;                /* they are logged */
    bool kl;                      /* a loss reads the KL term (kl.h) */
    bool triples;                 /* rows have a side `reference` */
    bool coupled;                 /* pairs of a micro-batch: couple.h */
    double reward_alpha;          /* of alphapo, else 0 */
    float tail_discount;          /* as struct at_compute has it */
};
/* The row of a loss, of whatever method; AT_USAGE with those of the configuration's method and the
 * nearest of them where there is none of the name. */
AT_CHECKED at_objective_find(const struct at_loss **out, const struct at_config *config,
                             const char *name);
/* Losses that the method cannot take or that are named twice, weights that do not match them, a
 * knob that no loss of the list reads or whose value has no meaning for one that does: AT_USAGE
 * with the nearest valid choice. */
AT_CHECKED at_objective_check(const struct at_config *config);
/* Of a checked configuration. own: what was compiled, one a word of loss_type and read for those of
 * files (own_loss.h); NULL: to be looked at only. */
void at_objective_make(struct at_objective *out, const struct at_config *config,
                       const struct at_own_loss *own);
/* Target tokens a row that the cross-entropy is of: chosen ones, with the prompt's where that
 * counts, or those of the reference. */
float at_objective_mean_chosen(const struct at_row *const *rows, uint32_t n);
/* What the loss of a row is while policy and reference are the same, of an objective without losses
 * of one's own. `params` as it was computed with. */
double at_objective_at_start(const struct at_objective *objective,
                             const struct at_loss_params *params, const struct at_row *row,
                             const struct at_row_result *result);
/* Whether a loss of the configuration, with a weight above 0, reads the reference. */
bool at_objective_reads_reference(const struct at_config *config);
/* Whether its rows have a side `reference`. */
bool at_objective_reads_triples(const struct at_config *config);
/* Whether a loss of the configuration reads the KL term. */
bool at_objective_reads_kl(const struct at_config *config);

/* Makes the scores of computed pairs those that TRL logs as rewards / beta: log-ratios as they are,
 * without a reference the log-prob, its mean over tokens, or alphapo's reward; and fills in
 * log-odds that are logged. */
void at_objective_score(const struct at_objective *objective, struct at_row_result *pairs,
                        uint32_t n);

#endif
