/* How long a run will take, before it begins: its steps and, apart from these, its evaluations; of
 * cross_validation those of one fold. Useful operations are counted as useful.h counts them, on at
 * most 1,024 of the rows, evenly spread, but on all that KTO holds out. They take as long as those
 * of one product of the model's own shape would, if that had all of them, but for stated shares of
 * its rate: products with weights 0.92 (padding to 64 tokens, narrow matrices), adapters 0.6,
 * attention 0.5 (masked parts of tiles), sampling 0.5 (products of few rows); and each value of a
 * layer's width or feed-forward width costs as much in the kernels of rows and on the host as 950
 * operations, in each pass. */
#ifndef PLAN_TIME_H
#define PLAN_TIME_H

#include "trainer.h"

/* If the run makes all its steps: forward passes over its held-out rows (mismatched ones of KTO and
 * those of regression_dataset too), of the reference where its values are not known or the drift
 * from it is measured. */
struct plan_evaluations {
    double n, rows;                    /* how many, and held-out rows of each */
    double tokens, ref_forward_tokens; /* of all, as run.json counts them */
    double flop, time_s;
};
struct plan_time {
    double flop; /* useful operations of the steps, those computed again counted too */
    double flop_per_s, least_flop_per_s; /* of the product: the best of several measurements on the
                                            device and the slowest; or assumed */
    bool measured;
    double step_s;  /* a step of the first epoch: with the reference, if it reads one */
    double total_s; /* of the steps */
    struct plan_evaluations evaluations;
    double sampling_s, scoring_s, training_s; /* of a run that draws samples: parts of total_s */
};
/* Measures a product where the run's device is here (at_product_rate()), and assumes a rate where
 * it is not or is short of memory. */
AT_CHECKED cli_plan_time(struct plan_time *out, const struct at_run *run);

#endif
