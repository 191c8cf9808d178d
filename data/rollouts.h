/* Recorded samples: completions of prompts with their rewards, to train on as if the policy had
 * just drawn them. JSONL, one prompt a line:
 *   {"prompt": text or messages, "completions": [...], "rewards": [...], "old_logps": [[...], ...]}
 * A completion is a text, behind which the token that ends a turn (of plain text: the sequence) is
 * put, or a list of token ids, taken as it is. rewards: a number for each completion (null: it has
 * none), or an object with such a list a name. old_logps, which may be missing: the log-probs
 * (nats) that the policy which drew them gave to each of its ids; completions must then be lists of
 * ids. */
#ifndef AT_ROLLOUTS_H
#define AT_ROLLOUTS_H

#include "dataset.h"

enum { AT_MAX_REWARDS = 8 };

struct at_sample {
    double reward[AT_MAX_REWARDS]; /* NaN: none */
    const float *old;              /* a log-prob for each token of the completion, or NULL */
    bool ended;                    /* its last token ends a sequence or a turn */
};
struct at_samples {
    const struct at_sample *items; /* (rows of the data set) */
    const char *names[AT_MAX_REWARDS];
    uint32_t n_rewards;
    uint32_t group; /* rows behind each other that have one prompt */
};
/* Rows of kind AT_ROWS_SAMPLE in the order of the file, `group` of each line. AT_DATA with the
 * place of what is wrong: a line with another number of completions, too. All that is loaded lives
 * in `out`, whose digest covers rewards and old log-probs. Of the parameters on_long is not read: a
 * row of more than max_length tokens is AT_DATA, for its group would be another. */
AT_CHECKED at_rollouts_load(struct at_dataset *out, struct at_samples *samples, const char *path,
                            uint32_t group, const struct at_dataset_params *params);

#endif
