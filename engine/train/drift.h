/* Drift: how far the policy is from its reference on regression prompts, the mean over completion
 * tokens of the exact KL(policy || reference) over the vocabulary (nats a token), eval_drift/kl.
 * Both states of an adapter stand before one frozen head, so that it costs a reference pass and no
 * logits (at_head_kl()). The reference is the policy's own state at step 0, also where losses have
 * another model; with sync_ref_model it is the copy that moves. Rows are those of
 * regression_dataset, else the held-out rows with their chosen completions (KTO: with those of
 * either kind), packed where evaluation packs them. Of methods with samples they are the samples of
 * each rollout, before its first step, and of the last one after the last step, and the metric is
 * drift/kl: with max_drift alone. */
#ifndef AT_DRIFT_H
#define AT_DRIFT_H

#include "loop.h"

/* max_drift and regression_dataset where nothing is measured: AT_USAGE. */
AT_CHECKED at_drift_check(const struct at_config *config);
/* The same of a run that is planned: its head is trained, or caps its logits. */
AT_CHECKED at_drift_check_planned(const struct at_run *run);
/* Whether evaluations are to measure it (they do where at_decoder.drift is planned): of adapters,
 * with a method that has a reference anyway, or where one of the two keys asks for it. */
bool at_drift_is_wanted(const struct at_config *config);

/* After an evaluation of the held-out rows with at_compute.drift. */
AT_CHECKED at_drift_measure(struct at_loop *loop, double *kl);
/* Whether the held-out rows are what is measured on. */
bool at_drift_is_of_eval(const struct at_run *run);
/* Whether the samples of rollouts are what is measured on: of methods that draw them or have
 * recorded ones. */
bool at_drift_is_of_samples(const struct at_run *run);
/* Of the n rows of a rollout, computed with at_compute.drift, into the loop's state; AT_OVER_BUDGET
 * where it is over max_drift. */
AT_CHECKED at_drift_take_samples(struct at_loop *loop, const struct at_row_result *rows,
                                 uint32_t n);
/* Measures the n rows that the step picked, and takes them. */
AT_CHECKED at_drift_measure_samples(struct at_loop *loop, uint32_t n);
/* After the last step: the same of its rows, where samples are what is measured on. A run that went
 * on from its end has none. */
AT_CHECKED at_drift_check_last(struct at_loop *loop);
/* Whether max_drift ends the run: the last evaluation was over it. */
bool at_drift_is_over(const struct at_loop *loop);

#endif
