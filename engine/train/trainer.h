/* Training: one loop for every method. A run reads rows, plans and commits an engine, evaluates the
 * state at step 0, trains, evaluates, keeps the best state, saves checkpoints and writes the files
 * of INTERFACE.md. */
#ifndef AT_TRAINER_H
#define AT_TRAINER_H

#include "config.h"
#include "dataset.h"
#include "engine.h"
#include "metrics.h"
#include "online.h"
#include "packing.h"
#include "reference.h"
#include "reward_models.h"
#include "rollouts.h"

/* What a run tells while it goes on. */
struct at_progress {
    uint64_t step, total;
    double epoch, loss, margin, learning_rate; /* margin: pairs only */
    double eta_s, tokens_per_s, pairs_per_s;
    bool pairs;
    bool samples; /* drawn while training: the last rollout's reward and tokens a completion */
    bool has_kl;  /* it is computed: to the policy's reference, nats a token */
    double reward, kl, length, sampling_tokens_per_s;
};
/* An evaluation: as it begins (done 0), while it goes on, over held-out rows and then those of
 * regression_dataset, and as it ends, when the rest is known; rows are held-out ones then. */
struct at_evaluation {
    uint64_t step;
    uint32_t done, rows;
    bool regression, ends;
    double time_s;
    bool pairs;
    double loss;
    struct at_share accuracy; /* eval_logps/accuracies; of reward models eval_accuracy */
    bool rewards;             /* of a reward model */
    bool has_drift;           /* it was measured (drift.h) */
    double drift;             /* eval_drift/kl */
};
struct at_events { /* functions may be NULL */
    void *context;
    void (*progress)(void *context, const struct at_progress *progress);
    void (*evaluation)(void *context, const struct at_evaluation *evaluation);
    /* a run that was asked to go on does so from a checkpoint, or begins (NULL) */
    void (*resumed)(void *context, const char *checkpoint);
};

/* What rows are for. Where nothing is trained a reward model takes those with one completion too.
 */
enum at_purpose { AT_TO_TRAIN, AT_TO_PLAN, AT_TO_SCORE, AT_TO_JUDGE, AT_TO_SHOW };

/* Rows of a run as the trainer will see them. */
struct at_run_data {
    struct at_dataset regression;       /* of regression_dataset */
    struct at_dataset train, eval, all; /* `all` owns the arena when eval was split off */
    struct at_row *train_kl,
        *eval_kl;              /* mismatched rows of both (kl.h); NULL where none are needed */
    struct at_samples samples; /* of the training rows, where these are samples */
    bool has_eval, was_split;
    /* What the trainer goes through: rows of a batch, and the data rows in each (one without
     * packing, and while rows are only scored). */
    struct at_packs train_packs, eval_packs;
};
struct at_run {
    const struct at_config *config;
    enum at_method method;
    enum at_purpose purpose;
    struct at_examples examples; /* borrowed; of rows that are judged */
    struct at_bundle bundle;
    struct at_run_data data;
    struct at_online online; /* of methods that draw samples */
    struct at_engine engine;
    struct at_reward_models reward_models; /* among the sources of rewards of `online` */
    struct at_reference
        reference; /* ref_model_name_or_path; a bundle without path: there is none */
    struct at_shared_reference *shared; /* shared_reference.h; set behind at_run_open(), or NULL */
    const struct at_own_loss *own;      /* one a word of loss_type, filled in for those of files */
    struct at_events events;
    struct at_arena arena;
    uint64_t total_steps, steps_per_epoch;
    uint32_t epoch_packs;     /* packed rows in the order of an epoch (epoch.h) */
    uint32_t packs_per_epoch; /* of these, that it takes: all, or those of whole rollouts */
    uint32_t rows_per_step;   /* of batches: packed rows, where rows are packed; samples */
    uint32_t window;          /* data rows in a step, or its rollout, at most */
};
/* Everything up to the plan: model sizes, rows, device, memory; nothing is allocated on the device.
 */
AT_CHECKED at_run_open(struct at_run *out, const struct at_config *config,
                       const struct at_events *events);
/* The same for the plan alone. The model may be a GGUF file without its weights, and
 * device_memory_limit may be more than this device has: the run is planned for another one. */
AT_CHECKED at_run_open_plan(struct at_run *out, const struct at_config *config);
/* The same to score rows. */
AT_CHECKED at_run_open_scores(struct at_run *out, const struct at_config *config);
/* To score rows, with the bare base as the reference that drift is measured from (at_compute.drift,
 * where engine.decoder.drift is planned: of adapters without whole modules). `examples` (NULL:
 * none) stand before every row, and must stay. */
AT_CHECKED at_run_open_judge(struct at_run *out, const struct at_config *config,
                             const struct at_examples *examples);
/* Only model, tokenizer and rows (no device): `data show`. */
AT_CHECKED at_run_open_rows(struct at_run *out, const struct at_config *config,
                            const struct at_events *events);
void at_run_close(struct at_run *run);
/* at_dataset_drop() of all its rows; the same on the way through them, at row i. */
void at_run_drop(const struct at_run *run);
void at_run_passed(const struct at_run *run, uint32_t i);
/* The run under another configuration, which must stay as long as it and differs in keys alone that
 * change neither model, rows nor reference: for at_train() once more. Weights stay on the device
 * where what is trained has the same shape. Not of a run whose reference is another model. */
AT_CHECKED at_run_again(struct at_run *run, const struct at_config *config);
/* Rows are held out as fold `fold` of config.cross_validation, which is given; those of a run that
 * was opened are fold 0. */
AT_CHECKED at_run_fold(struct at_run *run, uint32_t fold);
/* Tokens that a row of train_dataset may have: max_length, or 0 for no limit, which there is where
 * packing cuts rows into pieces. */
uint32_t at_run_row_limit(const struct at_config *config);
/* The seed of orders and splits: data_seed, or seed where that is not given. */
uint64_t at_run_data_seed(const struct at_config *config);
/* Whether the reference is another model: policy and reference differ from the start. */
bool at_run_has_other_reference(const struct at_run *run);

struct at_outcome {
    uint64_t steps, best_step; /* made; the one whose state is written */
    uint64_t evaluated_step;   /* that the `after` values below are of */
    bool complete;             /* all steps were made, or early stopping ended them */
    bool stopped_early;
    bool no_spread;          /* that is why: the last rollouts' rewards were all equal */
    bool has_drift, too_far; /* drift was measured; max_drift ended the run */
    uint64_t displaced_step; /* the first evaluation whose chosen log-probs had
                                fallen by over a quarter; 0: none */
    struct at_alarm alarm;   /* of runs that draw samples */
    uint64_t skipped;        /* steps without an update, for a value was not finite */
    bool has_eval, has_pairs, has_rewards; /* rewards: the model gives them, and no log-probs */
    bool has_samples;                      /* the method trains on some, whose loss says little */
    double loss_first, loss_last;
    double reward_first, reward_last; /* has_samples: mean over a rollout */
    struct at_share before, after;    /* eval_logps/accuracies; of reward models eval_accuracy */
    double eval_loss_before, eval_loss_after;
    double chosen_logp_before, chosen_logp_after; /* mean sum over held-out chosen sides */
    double displaced_logp;                        /* as those, at displaced_step */
    double margin_before, margin_after;           /* of reward models, mean over held-out rows */
    double drift_before, drift_after;             /* eval_drift/kl */
    double time_s, tokens_per_s;
};
/* Trains and writes output_dir; once more after at_run_again() or at_run_fold(). */
AT_CHECKED at_train(struct at_run *run, struct at_outcome *out);

/* Log-probs of rows under the current state (score, evaluation). Reference too when `reference`. */
AT_CHECKED at_score_rows(struct at_engine *engine, const struct at_row *const *rows, uint32_t n,
                         struct at_row_result *results, bool reference);

#endif
