/* The user's program as a source of rewards. It is run once for each batch of rows, by `sh -c` in
 * the working directory:
 *   stdin   a JSON object a line: {"prompt", "completion", "n_tokens", "ended", then the other
 *           columns of the prompt's row}; it ends behind the last row
 *   stdout  a line for each row, in their order: a number, or null (None) for a row that it has
 *           nothing to say about
 *   stderr  anything; its end is shown when something went wrong
 *
 * A row whose line is missing (the program crashed, took longer than the timeout) or is neither,
 * NaN and infinities too, has no reward: a fault, counted and named in a warning. With too many
 * lines, or too few of a program that ended well, it is not known which is whose, and no row has
 * one. A run has failed when the program did not end well, printed another number of lines, or gave
 * neither a number nor null for more than half of its rows; AT_REWARD_COMMAND_RUNS of these behind
 * each other are AT_IO. One that cannot be found or run by the shell (126, 127) is AT_USAGE at
 * once. */
#ifndef AT_REWARD_COMMAND_H
#define AT_REWARD_COMMAND_H

#include "reward.h"

enum { AT_REWARD_COMMAND_RUNS = 3 };
struct at_reward_command {
    const char *name, *text; /* of the source, and of the command; borrowed */
    double timeout_s;
    uint32_t n_failed; /* runs in a row */
    uint64_t n_faults; /* rows */
};
/* out (n). AT_INTERRUPTED, AT_TERMINATED: by a signal to this program. */
AT_CHECKED at_reward_command_score(struct at_reward_command *command, double *out,
                                   const struct at_reward_sample *samples, uint32_t n);

#endif
