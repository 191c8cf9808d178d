/* Rewards of replies, from named sources:
 *   a rule         judge/rule.h on the reply: 1 kept, 0 not
 *   "rule"         the rule that the row itself has in its column "rule", as `attune eval --rules`
 *                  reads it; a row without one is excluded
 *   a reward model a folder of `attune reward`, or a whole model: its score
 *   a command      the user's own program (command.h): the number that it prints for the row
 *
 * `reward_funcs` is a JSON list with one of these an item, in any order:
 *   "KIND:VALUE"                       a rule: "contains_any:Ahoy", "regex:^Ahoy", "max_words:50",
 *                                      "contains_any:[\"Ahoy\",\"Aye\"]" (VALUE as JSON)
 *   {"KIND": VALUE, "name": NAME}      the same; the name may be left out: the kind
 *   "rule"                             rules of the rows
 *   "PATH", {"model": PATH, "name": NAME}   a reward model; the name is the folder's without one
 *   {"command": TEXT, "name": NAME}    a command; "command" without a name
 * `reward_command` is one more source, behind them. A single item need not stand in a list. Two
 * sources cannot have one name.
 *
 * A source excludes a row by NaN: it has nothing to say about it. A row that every source excludes
 * has no reward.
 */
#ifndef AT_REWARD_H
#define AT_REWARD_H

#include "rollouts.h"

enum at_reward_kind { AT_REWARD_RULE, AT_REWARD_ROW_RULE, AT_REWARD_MODEL, AT_REWARD_COMMAND };

/* A reply to score; all is borrowed. */
struct at_reward_sample {
    const cJSON *prompt;    /* as it was given: a text, or a list of messages */
    const cJSON *row;       /* the line that it stands in, for its other columns; or NULL */
    const char *completion; /* the reply's text without the token that ended it */
    uint32_t n_tokens;      /* of the reply, with that token */
    bool ended;             /* by itself, not by a limit of length */
};
struct at_rewards_params {
    const char *funcs;        /* reward_funcs, as JSON; or NULL */
    const char *command;      /* reward_command, or NULL */
    double command_timeout_s; /* of each of its runs */
};
struct at_rewards;
/* AT_USAGE for what `funcs` cannot be, naming the item, and when there is no source. */
AT_CHECKED at_rewards_open(struct at_rewards **out, const struct at_rewards_params *params);
void at_rewards_close(struct at_rewards **rewards);
/* Of NULL none. */
uint32_t at_rewards_count(const struct at_rewards *rewards);
/* Of source k: for metrics rewards/NAME/mean and rewards/NAME/std. Valid until the close. */
const char *at_rewards_name(const struct at_rewards *rewards, uint32_t k);
enum at_reward_kind at_rewards_kind(const struct at_rewards *rewards, uint32_t k);
/* The folder of a model, the text of a command; NULL of rules. */
const char *at_rewards_what(const struct at_rewards *rewards, uint32_t k);
/* Rows that source k had a fault with so far: not those that it excluded by saying so. */
uint64_t at_rewards_faults(const struct at_rewards *rewards, uint32_t k);

/* What scores for a reward model, which is on a device: out[i] is the reward of samples[i]. */
typedef enum at_status at_reward_scorer(void *context, double *out,
                                        const struct at_reward_sample *samples, uint32_t n);
/* Of each source of kind AT_REWARD_MODEL, before the first at_rewards_score(). */
void at_rewards_bind(struct at_rewards *rewards, uint32_t k, at_reward_scorer *score,
                     void *context);
/* out (n, sources): rewards of n samples, which are finite or NaN: excluded. Faults of a command
 * are warnings, and AT_IO once they go on (command.h); a sample whose pattern takes too long is
 * excluded with a warning; AT_DATA for a rule in a row that is none. */
AT_CHECKED at_rewards_score(struct at_rewards *rewards, double *out,
                            const struct at_reward_sample *samples, uint32_t n);

/* The same as {"NAME": [number or null, ...], ...}, as data/rollouts.h reads it; the caller's. */
AT_CHECKED at_rewards_score_json(cJSON **out, struct at_rewards *rewards,
                                 const struct at_reward_sample *samples, uint32_t n);

/* Of one row: the sum over n sources of weight (NULL: 1 each) * reward; NaN where all are. */
double at_reward_sum(const double *rewards, const double *weights, uint32_t n);
struct at_reward_shape {
    double length_penalty;
    const double *clip; /* the least and the most, or NULL */
};
/* Sums of n rows that are scored together, whose replies have n_tokens (n): each less
 * length_penalty * (tokens / mean tokens - 1), then cut to `clip`. The penalty is 0 on average: a
 * reply of mean length keeps its reward, one twice as long loses length_penalty. NaN stays, and
 * takes no part in the mean. */
void at_reward_shape(double *sums, const uint32_t *n_tokens, uint32_t n,
                     const struct at_reward_shape *shape);

/* AT_DATA for a row whose "rule" is none, before any reply to it is scored. */
AT_CHECKED at_reward_check_row(const cJSON *row);
/* Whether an item of reward_funcs that is a text names a rule; else it is a reward model's path. */
bool at_reward_is_rule(const char *text);

#endif
