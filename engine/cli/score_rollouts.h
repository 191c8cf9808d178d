/* `attune score` with reward_funcs or reward_command: recorded samples with their rewards. */
#ifndef AT_SCORE_ROLLOUTS_H
#define AT_SCORE_ROLLOUTS_H

#include "cli.h"

/* Whether the configuration asks for it. */
bool score_rollouts_wanted(const struct at_config *config);
/* The lines of `rollouts` on stdout, as they are but for "rewards": {"NAME": [number or null, ...]}
 * by the sources. AT_USAGE for another method and without rollouts. */
AT_CHECKED score_rollouts(const struct at_config *config, const struct cli_args *args);

#endif
