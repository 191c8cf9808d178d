/* The state of a training run while it goes on: shared by trainer.c, which changes it, and
 * checkpoint.c, which keeps it. */
#ifndef AT_LOOP_H
#define AT_LOOP_H

#include "couple.h"
#include "kl.h"
#include "objective.h"
#include "record.h"
#include "rollout.h"
#include "schedule.h"

/* What a checkpoint keeps beside arrays: every member is a row of checkpoint.c's table. */
struct at_loop_state {
    uint64_t step, epoch, num_tokens;
    uint64_t cursor;    /* next packed row of the epoch */
    uint64_t evaluated; /* the step of the last evaluation */
    uint64_t best_step;
    uint64_t stale;                   /* evaluations in a row that were no better than the best */
    uint64_t step_tokens, step_rows;  /* computed in training steps so far */
    uint64_t skipped, skipped_in_row; /* steps without an update, for a value was not finite */
    uint64_t logged;                  /* steps in `tally`: since the last line of metrics.jsonl */
    struct at_tally tally;
    struct at_plateau plateau;
    double norm_sum, best_metric;
    double drift;                  /* eval_drift/kl of the last evaluation, drift/kl of samples */
    uint64_t within;               /* the last step whose samples were within max_drift */
    double passed_metric;          /* of the last evaluation; see passed_over */
    double elapsed_s, evaluated_s; /* until the checkpoint; in evaluations */
    double drawn_s;                /* in sampling and scoring */
    bool has_best, moved_checked;
    bool passed_over; /* the last evaluation was over max_drift: its state was not kept as best */
};

struct at_loop {
    struct at_run *run;
    const struct at_config *config;
    struct at_records *records;
    struct at_schedule schedule;
    struct at_objective objective;
    struct at_coupling coupling;
    struct at_compute what; /* of a training step; weight and mean_n_chosen are set per step */
    struct at_arena rows;   /* of what grows with their number: it spills */
    struct at_row_result *results; /* (rows of train_packs) reference values stay cached here */
    struct at_row_result *eval;    /* (rows of eval_packs) */
    struct at_rollout rollout;     /* of methods with samples */
    struct at_kl kl, eval_kl;      /* of the training rows, of the eval rows */
    const struct at_row **eval_rows;
    const struct at_row **window_rows;
    struct at_row_result *window; /* results of the step's rows, in order */
    uint32_t *order, *picked;     /* packed rows of the epoch; rows of the step */
    uint32_t n_picked;            /* rows of the last step; 0: none was begun */
    uint32_t *eval_order;         /* (eval rows) 0, 1, ... */
    struct at_loop_state state;
    struct at_outcome passed; /* the outcome with the last evaluation as `after` */
    float norm[8];
    float *reference; /* host copy of a reference that changes (at_adapter_reference_bytes()) */
    /* host copies of at_params_bytes() each: what was best, and room for a read; NULL where
     * neither load_best_model_at_end nor save_strategy needs them */
    float *best_p, *p, *m, *v;
    double start_s;             /* at_now_s() less what was elapsed in the checkpoint */
    uint64_t saved;             /* the step of the last checkpoint */
    const char *rolled_back_to; /* after steps that were not finite: whose state it is now */
};
/* at_run_drop() and what the loop knows of the rows; the same on the way through them, at row i. */
void at_loop_drop(const struct at_loop *loop);
void at_loop_passed(const struct at_loop *loop, uint32_t i);

#endif
