/* Training on samples: GRPO (Shao et al. 2024, arXiv 2402.03300) with what TRL calls its loss
 * types, and RLOO (Ahmadian et al. 2024, arXiv 2402.14740).
 *
 * A rollout is per_device_train_batch_size * steps_per_generation samples, in groups of
 * num_generations with one prompt. It has the samples of one or more optimizer steps
 * (steps_per_generation / gradient_accumulation_steps, its parts), which are made over one part
 * after the other, num_iterations times. Samples of several parts are mixed at random, or with
 * train_sampling_strategy sequential stay in order; prompts that do not fill a rollout of several
 * parts are left out of the epoch, as in TRL. The samples are
 * those of the file `rollouts`, in the order of the epoch's groups (train_packs: a group a pack),
 * or drawn (online.h). At its first step, in this order: log-probs by forward passes where
 * something needs them (of the reference, with beta above 0, once a run; of the policy, for RLOO's
 * KL term in the reward, and for parts that come later), rewards, advantages. Then the step:
 * samples without advantage and KL term have no gradient and are computed forward only; the others
 * are rows of the engine, with a policy loss (losses/policy.comp).
 *
 * The policy that drew the samples: as recorded (old_logps), else the policy at the rollout's first
 * step, by the training forward itself, so that its ratio is exactly 1 there (not where it comes
 * from forward passes, see above, and dropout is over an adapter that is not fresh). Log-probs,
 * advantages, sums of metrics and what the progress line shows are part of a checkpoint: a run goes
 * on in the middle of a rollout. */
#ifndef AT_ROLLOUT_H
#define AT_ROLLOUT_H

#include "advantage.h"
#include "config.h"
#include "engine.h"
#include "reward_tally.h"

struct at_loop;
struct at_run;

/* Sums of metrics since the last line: over steps, and over rollouts. All are doubles. */
struct at_rollout_tally {
    double steps, loss, kl, entropy, low_mean, low_min, high_mean, high_max, region;
    double rollouts, sample_kl, mean_length, min_length, max_length, clipped, ended_mean, ended_min,
        ended_max, reward, reward_std, flat, repetition;
    double pairs, accuracy; /* times that held-out pairs were looked at */
    struct at_reward_tally rewards;
};
/* Of the last rollout, for the progress line; all are doubles. */
struct at_rollout_shown {
    double reward, kl, length; /* kl NaN: not known */
};
struct at_rollout {
    uint32_t *first;              /* (rows) place of a row's first target in old and ref */
    float *old, *ref;             /* (n_targets) log-probs (nats); ref is NaN until it is known */
    double *advantage;            /* (rows) of the rollout that the row was in last */
    uint32_t n_targets;           /* 0: the method has no samples */
    struct at_row_result *window; /* (rows of a step) of the passes before it */
    double *rewards;              /* (rows of a step) */
    struct at_rollout_tally tally;
    struct at_rollout_shown shown;
};
/* AT_USAGE: keys that do not go together, or with samples. Of other methods nothing. */
AT_CHECKED at_rollout_check(const struct at_config *config);
/* Whether the method trains on samples, and whether its loss has that letter (losses.def). */
bool at_rollout_has_samples(const struct at_config *config);
bool at_rollout_reads(const struct at_config *config, char letter);
/* Optimizer steps over one rollout; 1 of other methods. */
uint32_t at_rollout_steps(const struct at_config *config);
/* Its parts, each with the samples of a step; 1 of other methods. */
uint32_t at_rollout_parts(const struct at_config *config);
/* Its samples, those of all parts; it may be more than the data have. */
uint64_t at_rollout_rows(const struct at_config *config);
/* The pack that pack `pack` of the epoch's order is as the k-th of a rollout: itself, but of
 * samples that are drawn the k-th of their window. */
uint32_t at_rollout_pack(struct at_loop *loop, uint32_t k, uint32_t pack);
/* Forward passes over a rollout before its first step, of the policy and of its reference. */
uint32_t at_rollout_forwards(const struct at_run *run);
/* Length control and clipping of the sums of n samples with so many tokens. */
void at_rollout_shape(const struct at_config *config, double *sums, const uint32_t *n_tokens,
                      uint32_t n);
AT_CHECKED at_rollout_init(struct at_rollout *out, const struct at_run *run);
void at_rollout_release(struct at_rollout *rollout);
/* The *n rows of the rollout that a step picked: those of its part are put in front and are *n from
 * now on. Fills in what their loss reads, puts those with a gradient in front and computes the
 * others. Sets the step's weight. *n_active: those in front. Of other methods only *n_active = *n.
 * Waits for the device. */
AT_CHECKED at_rollout_begin(struct at_loop *loop, uint32_t *n, uint32_t *n_active);
/* Adds the computed step; n rows. */
void at_rollout_tally_step(struct at_loop *loop, uint32_t n);
/* {"loss": ..., TRL's names...}; the sums start anew. */
void at_rollout_write(cJSON *line, struct at_loop *loop);

#endif
