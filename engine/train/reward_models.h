/* Reward models among the sources of rewards of a run (reward/reward.h): on its device, and over
 * its base where they were trained over that.
 *   - An adapter's folder of `attune reward` is its stack and value head over the weights of the
 *     policy's engine, of which no copy is made.
 *   - A whole model, or an adapter whose run.json records another base, has an engine of its own,
 *     where there is room for both.
 *
 * A reply is scored as `attune score` of the model scores {"prompt", "completion"}: the
 * conversation with its reply through the chat template, not the ids that were sampled, and read at
 * its last token (at the last that is no padding, where the model was trained with reward_token
 * last_not_pad). A reply that is longer, so, than the policy's slabs hold has no reward: a warning
 * counts those. */
#ifndef AT_REWARD_MODELS_H
#define AT_REWARD_MODELS_H

#include "dataset.h"
#include "engine.h"
#include "reward.h"

struct at_reward_model {
    const char *name, *dir;  /* borrowed */
    char digest[65];         /* of its weights: the adapter's file, or the model's */
    struct at_bundle bundle; /* of another base; else closed */
    struct at_engine engine;
    struct at_dataset_params rows;
};
struct at_reward_models {
    struct at_arena arena;
    struct at_reward_model *items; /* (n) bound to their sources */
    uint32_t n;
};
struct at_reward_models_params {
    struct at_engine *policy;      /* planned, and no sampler yet; must stay */
    struct at_dataset_params rows; /* how the policy's rows are read */
    struct at_gpu_params gpu;      /* of the policy */
    bool header_only;              /* to be planned with: of at_bundle_params */
};
/* Plans those of `rewards` and binds them. AT_USAGE, with the bytes, where another base has no room
 * beside the policy; AT_DATA for a folder that holds no reward model. */
AT_CHECKED at_reward_models_plan(struct at_reward_models *out, struct at_rewards *rewards,
                                 const struct at_reward_models_params *params);
/* After the policy's commit. */
AT_CHECKED at_reward_models_commit(struct at_reward_models *models);
/* Before the policy's engine closes. */
void at_reward_models_close(struct at_reward_models *models);

#endif
