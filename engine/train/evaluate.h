/* Evaluation of a training loop's held-out rows, and what its metrics are. */
#ifndef AT_EVALUATE_H
#define AT_EVALUATE_H

#include "loop.h"

/* Every how many steps something is done by `strategy` (no, steps, epoch); 0: never. */
uint64_t at_run_every(const struct at_run *run, const char *strategy, uint32_t steps);
/* Evaluations that a run makes if it makes all its steps: of its held-out rows that at the start,
 * those that are due after steps, and that after the last; or, of rewards, of held-out pairs while
 * it draws. */
uint64_t at_evaluations_all(const struct at_run *run);
/* Those of them behind it when so many steps, fewer than all, have been followed by what is due and
 * the next one is computed. */
uint64_t at_evaluations_made(const struct at_run *run, uint64_t steps);

/* AT_USAGE with the names that evaluations have when metric_for_best_model is none of them. */
AT_CHECKED at_evaluation_check(const struct at_config *config);
/* Computes the held-out rows, writes their line and pairs, keeps the best state and tells the
 * schedule; `before`: the state at step 0. A value of metric_for_best_model that is not finite is
 * AT_NUMERIC, after an update AT_RETRY; one that these rows leave
 * out AT_USAGE. */
AT_CHECKED at_evaluate(struct at_loop *loop, bool before, struct at_outcome *out);
/* Where a checkpoint left the loop: an evaluation that max_drift passed over counts when the limit
 * is higher now, as it would have at that step. */
AT_CHECKED at_evaluation_resume(struct at_loop *loop, struct at_outcome *out);
/* Chosen log-probs of the held-out rows that are below this many times what they were at the start
 * raise an alarm: a warning and a line in result.json. */
#define AT_DISPLACED 1.25
/* Rows that are evaluated at once: micro-batches of `batch` rows, 32 rows or little more. */
uint32_t at_evaluation_piece(uint32_t batch);

/* Whether the loss is a mean over rows; of the others it is one over target tokens. */
bool at_loop_has_row_loss(const struct at_loop *loop);
/* What turns a score into a reward: those of reward models are rewards. */
double at_loop_reward_scale(const struct at_loop *loop);
struct at_metric_style at_loop_style(const struct at_loop *loop);

#endif
