/* A model on a device, ready to compute rows: device, pools, model, adapter stack, decoder and
 * stream. Planned first (every byte is known, nothing is allocated on the device), then committed.
 */
#ifndef AT_ENGINE_H
#define AT_ENGINE_H

#include "bundle.h"
#include "decoder.h"
#include "losses.h"
#include "row.h"
#include "sampler.h"
#include "slab.h"
#include "useful.h"

enum { AT_CPU_SLAB = 512 }; /* tokens of a slab on CPU devices, where nothing else is known */

enum at_trainable { AT_TRAIN_NOTHING, AT_TRAIN_FRESH, AT_TRAIN_CONTINUE, AT_TRAIN_FULL };

struct at_engine_params {
    struct at_gpu_params gpu;
    enum at_trainable trainable;
    struct at_adapter_params lora;  /* AT_TRAIN_FRESH */
    const char *const *frozen_dirs; /* adapters below, bottom first */
    size_t n_frozen;
    const char *continue_dir;           /* AT_TRAIN_CONTINUE */
    bool elsewhere;                     /* the policy's file has no weights: for a GPU */
    bool syncs_reference;               /* at_engine_sync_reference() will be called */
    uint32_t capacity;                  /* tokens a slab; 0: cpu_slab on CPU devices, else 4096 */
    uint32_t cpu_slab;                  /* tokens; 0: AT_CPU_SLAB */
    uint32_t longest_row;               /* tokens; the capacity is at least this */
    uint32_t longest_sequence;          /* tokens of a row's prefix and one side */
    uint64_t step_tokens;               /* of a training step's rows at most; 0: not known */
    uint32_t long_from;                 /* of a reference: that of the policy's rows, data/slab.h */
    bool long_each;                     /* the same */
    uint32_t n_positions;               /* of the rope table; at least longest_row */
    const struct at_param_rates *rates; /* of at_params_plan() */
    float dropout;                      /* of at_decoder_params */
    enum at_recompute recompute;        /* of at_decoder_params */
    bool recompute_if_short;            /* at least that, and as little more as the device needs */
    uint64_t seed;
    bool from_scratch;
    bool drift;          /* at_compute.drift will be wanted: of an adapter; not planned (see
                            at_decoder.drift) where the head is trained or its
                            logits are capped */
    bool bare_reference; /* AT_TRAIN_CONTINUE: the reference is the model below the adapter; drift
                            is then not planned where the adapter holds whole modules */
    bool value_head;     /* a reward model: rows give rewards, not log-probs */
    float temperature;   /* logits are divided by it, of the policy and its reference; 0: 1 */
};

struct at_engine {
    struct at_engine *base; /* whose device, stream and weights it shares; NULL: it has its own */
    struct at_gpu *gpu;
    struct at_stream *stream;
    struct at_pool *frozen, *state, *slab_pool;
    uint32_t least_tokens;        /* a slab has that many: the longest row's */
    struct at_pool *sampler_pool; /* this and the next: at_engine_plan_sampler(), or NULL */
    struct at_sampler *sampler;
    uint32_t n_sequences;     /* of the sampler */
    struct at_bundle *bundle; /* borrowed */
    struct at_params params;
    struct at_model model;
    struct at_adapter adapters[AT_MAX_ADAPTERS];
    struct at_adapter *stack[AT_MAX_ADAPTERS];
    size_t n_adapters;
    struct at_decoder decoder;
    struct at_slab slab;
    uint64_t seed;
    uint64_t beside_bytes; /* of plans of others on the same device */
    uint64_t norms_of;     /* params.changes when the norms of DoRA were computed */
    /* counters since open */
    uint64_t tokens_given, tokens_computed, head_rows, ref_forward_tokens;
    uint64_t padding_tokens, padding_rows; /* computed beside tokens and head rows of the policy */
    struct at_useful useful;
    struct at_engine_host *host; /* private */
};
AT_CHECKED at_engine_plan(struct at_engine *out, struct at_bundle *bundle,
                          const struct at_engine_params *params);
/* Behind at_engine_plan(): the policy draws samples, too, over the weights and the adapters that
 * are there. n_sequences is the most that is wanted; where the device has no room for that many at
 * once it is less, which changes no sample. AT_USAGE where logits cannot be divided by the
 * temperature.
 */
AT_CHECKED at_engine_plan_sampler(struct at_engine *engine, const struct at_sampler_params *params);
/* Samples of the policy as it is. */
AT_CHECKED at_engine_sample(struct at_engine *engine, const struct at_generation *what);
/* A reward model, an adapter's folder with its value head, over the weights of `base`, which was
 * planned before and must stay; its rows have base's capacity at most. It adds its plan to base's,
 * whose commit comes before its own. AT_USAGE where the weights of `base` are trained or are not
 * those of its file alone, and for an adapter with an embedding of its own; AT_DATA for one without
 * a value head. */
AT_CHECKED at_engine_plan_reward(struct at_engine *out, struct at_engine *base, const char *dir);
/* Bytes of the plan: frozen weights, trainable state, slab activations, what sampling has, and
 * reward models beside. */
struct at_engine_bytes {
    uint64_t frozen, state, slab, sampler, beside, total, available;
};
struct at_engine_bytes at_engine_get_bytes(const struct at_engine *engine);
/* Planned for another device, which is taken to be a GPU: the model's file has no weights, or there
 * is less memory here than is planned with. */
bool at_engine_is_elsewhere(const struct at_engine *engine);
/* The key to lower where a slab takes too much: of its tokens, or of the rows that it must hold. */
const char *at_engine_limit(const struct at_engine *engine);
/* AT_DEVICE_MEMORY with what was asked and what there is. */
AT_CHECKED at_engine_check_room(const struct at_engine *engine);
/* The same, before anything is allocated. */
AT_CHECKED at_engine_commit(struct at_engine *engine);
void at_engine_close(struct at_engine *engine);
/* What is trained is as at_engine_commit() left it, for another training from the same start;
 * counters are 0. Frozen weights stay on the device. */
AT_CHECKED at_engine_restart(struct at_engine *engine);

/* ---- rows ---- */

/* The arrays of a filled slab as the decoder takes them; borrowed. */
struct at_batch at_engine_batch(const struct at_slab *slab);

/* What one segment's log-probs came to; sums over its target tokens. Under a value head `logp` is
 * the segment's reward. */
struct at_segment_result {
    float logp, entropy, hits, logit_mean; /* sums; logp as LD-DPO weighs it */
    float n;
    float raw_logp; /* without its weights */
    float log_p2;   /* sum of log sum_v p_v^2 */
    float margin;   /* of a pair's chosen side, in `reference`: at_row.margin */
};
struct at_pair_result {
    float loss, score_chosen, score_rejected;
    float log_odds; /* by at_objective_score(), of ORPO */
};
struct at_pair_match { /* struct pair_match of losses/prelude.h */
    float pair, chosen, rejected, unused;
};
struct at_sample_facts { /* of policy losses, see at_policy_loss() */
    float advantage, share;
    const float *old, *ref; /* a log-prob for each target token, or NULL */
};
struct at_sample_sums { /* over a sample's target tokens */
    double kl, low, high;
};
struct at_row_result {
    struct at_segment_result policy[AT_MAX_SEGMENTS];    /* sides, then prompt */
    struct at_segment_result reference[AT_MAX_SEGMENTS]; /* when a reference was wanted */
    struct at_pair_result pair; /* pair losses; row losses: score_chosen is the row's log-ratio */
    struct at_pair_match match; /* in: of losses that couple pairs */
    struct at_sample_facts sample; /* in: of policy losses; pair.loss is the part of the step's */
    struct at_sample_sums sample_sums; /* loss that the row is */
    uint32_t n_segments;               /* in: at_row_sums() */
    float drift;        /* of at_compute.drift: over segment 0's target tokens (nats) */
    bool has_reference; /* in: `reference` is cached; out: filled */
    float kl;           /* in: the KL term that a row loss sees; with riders out */
    /* in: NULL, or room for at_row_targets() log-probs under policy and reference, without weights:
       of the sides in turn, the prompt's last. A cached reference leaves its values as they are. */
    float *tokens[2];
};
/* Rows that ride behind others for KTO's KL term (kl.h): row i's has its prefix and another
 * completion, and no gradient. The mean log-ratio of those of each `batch` rows, which share a
 * slab, is the term that these see. */
struct at_riders {
    const struct at_row *const *rows;     /* (n) NULL: there are none */
    struct at_row_result *const *results; /* (n) reference values stay cached here */
    uint32_t batch;
};
struct at_compute {
    bool train;             /* forward, loss, backward; else forward only */
    bool policy, reference; /* passes wanted; train implies policy */
    bool drift; /* with policy, forward only: KL of the policy from its state at step 0, or from
                   the copy that at_engine_sync_reference() moves */
    const struct at_loss_term *losses; /* their sum; borrowed */
    size_t n_losses;                   /* 0: none; of token losses one */
    enum at_loss_kind kind;            /* of the losses */
    struct at_loss_params loss_params;
    struct at_policy_params policy_params;
    struct at_riders riders; /* of row losses, see at_engine_takes_riders(); borrowed */
    uint32_t dropout_key[2]; /* of the step; read where dropout is planned */
    float tail_discount;     /* 1 - ld_alpha, see at_slab_weigh() */
    float weight;            /* 1 / rows, or 1 / target tokens, of the whole optimizer step */
};
/* Packs the rows into slabs and computes them. results[i] belongs to rows[i]: cached reference
 * values go in, everything else comes out when at_engine_finish() has returned. Records and submits
 * only; blocking is left to finish, but that riders are waited for slab by slab. `results` must
 * stay until then. */
AT_CHECKED at_engine_rows(struct at_engine *engine, const struct at_row *const *rows,
                          struct at_row_result *results, uint32_t n, const struct at_compute *what);
/* Whether these rows can have riders: each `batch` of both fit into a slab, no dropout would have
 * to leave the riders alone, and angles do not depend on lengths, so that they can share a prefix.
 */
bool at_engine_takes_riders(const struct at_engine *engine, const struct at_row *const *rows,
                            const struct at_row *const *riders, uint32_t n, uint32_t batch);
/* Waits and sorts downloads into the results. */
AT_CHECKED at_engine_finish(struct at_engine *engine);

/* From the next rows on all adapters act `scale` times as strongly; the reference stays. AT_USAGE
 * for one that has what no other scale than 1 is defined for. */
AT_CHECKED at_engine_set_scale(struct at_engine *engine, double scale);

/* The reference becomes (1 - alpha) of itself and alpha of the policy: of the trainable adapter, of
 * an engine planned with syncs_reference. Reference values computed before are stale. Waits. */
AT_CHECKED at_engine_sync_reference(struct at_engine *engine, float alpha);

/* {"kernel": "variant", ...} of every kernel used for this model, for run.json; where layers with a
 * window use another variant than those without, theirs is "kernel/window". */
cJSON *at_engine_kernels(const struct at_engine *engine);

#endif
