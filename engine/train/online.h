/* Samples that a run draws itself: a rollout (rollout.h) whose rows are replies of the current
 * policy to prompts of train_dataset, with rewards of its own (reward/reward.h).
 *
 * A rollout takes the next prompts of the epoch's order, num_generations replies to each. They are
 * drawn at its first step by a sampler over the base and the adapter that train (no second copy of
 * weights), scored, and then are rows like those of a file: advantages, losses, metrics and
 * num_iterations are rollout.h's. Log-probs of samples are never taken from the sampler: those of
 * the policy that drew them are the training forward's, so that the first ratio is exactly 1. The
 * temperature divides logits in sampling and in training, as in TRL; top_k, top_p, min_p and
 * repetition_penalty are the sampler's alone.
 *
 * Rows are a window: row k of group g is rows[g * group + k], whatever prompt the group has, and
 * has room for max_completion_length tokens. Random numbers are Philox keyed by (seed, step of the
 * rollout; place of the prompt in it, sample, position), so that a rollout that was cut off is
 * drawn again to the same bits; the window is part of a checkpoint, for steps in the middle of a
 * rollout.
 *
 * Online DPO takes recorded samples here, too (online_recorded.h).
 *
 * Rewards that cannot teach end a run: all samples of some rollouts without a reward; or equal
 * rewards in all of them, from the start (an error), or at last (the run is complete early). */
#ifndef AT_ONLINE_H
#define AT_ONLINE_H

#include "config.h"
#include "online_pairs.h"
#include "online_recorded.h"
#include "packing.h"
#include "prompt_rows.h"
#include "reward.h"
#include "reward_watch.h"
#include "rollouts.h"
#include "sampler.h"

struct at_loop;
struct at_run;

/* Part of a checkpoint; all are doubles. */
struct at_online_watch {
    double empty;              /* rollouts in a row without any reward */
    double equal, equal_value; /* samples in a row, of whole rollouts, that have this reward */
    double rollouts;           /* in a row of the same */
    double ever;               /* 1: some group had a spread */
};
struct at_online {
    bool is_on; /* there is a window; else nothing below is set */
    bool pairs; /* a row is the two samples of a prompt (online_pairs.h); else it is one */
    struct at_prompt_rows prompts;
    struct at_recorded recorded;     /* of pairs that are not drawn */
    struct at_rewards *rewards;      /* of samples that are drawn */
    uint32_t group, n_groups, n_new; /* samples a prompt; prompts of a rollout, tokens of a reply,
                                        at most */
    uint32_t n_rows;                 /* n_groups * group, of pairs n_groups */
    struct at_row *rows;             /* (n_rows) */
    struct at_sample *samples;       /* (n_groups * group) */
    uint32_t *n_ids;                 /* (the same) */
    int32_t *ids;                    /* (the same, n_new) with the end token; else 0 */
    uint8_t *targets;                /* (n_new) 1 */
    uint32_t *prompt;                /* (n_groups) of the rollout: rows of `prompts` */
    uint8_t *choice;                 /* (n_groups) at_pairs_choice, of pairs */
    int32_t stop[2];                 /* ids that end a reply */
    size_t n_stop;
    struct at_pairs_tally tally; /* of pairs */
    struct at_online_watch watch;
    struct at_reward_watch reward_watch;
    bool is_done;                 /* nothing is left to learn */
    bool is_unscored;             /* rewards failed: the step was not made */
    double sampling_s, scoring_s; /* of the last rollout, 0 in its other steps */
    uint64_t n_sampled;           /* tokens of the last rollout */
    double tokens_per_s;          /* of the same */
};

/* Prompts, rewards and the window of a run; fills in its training rows and samples. */
AT_CHECKED at_online_open(struct at_run *run, const struct at_dataset_params *params);
void at_online_close(struct at_online *online);
/* Whether the samples of the window are drawn and scored by the run; else they are recorded. */
bool at_online_draws(const struct at_online *online);
/* What the sampler must have room for. */
struct at_sampler_params at_online_sampler(const struct at_online *online);

/* The n rows of the step's rollout, whose prompts are in `prompt`: drawn and scored at its first
 * step. A signal ends it with AT_INTERRUPTED or AT_TERMINATED. */
AT_CHECKED at_online_draw(struct at_loop *loop, uint32_t n);
/* After the rollout's advantages are known: its lines of completions.jsonl. */
AT_CHECKED at_online_write(struct at_loop *loop, uint32_t n);
/* The same: whether such rewards can teach anything; AT_DATA, or is_done. sums (n): weighted ones
 * of samples. flat: the share of groups without spread. */
AT_CHECKED at_online_look(struct at_online *online, const double *sums, uint32_t n, double flat);

#endif
