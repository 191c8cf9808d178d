/* How long a run will take, before it begins. Useful operations are counted as useful.h counts
 * them, on at most 1,024 of the rows, evenly spread. They take as long as those of one product of
 * the model's own shape would, if that had all of them, but for stated shares of its rate: products
 * with weights 0.92 (padding to 64 tokens, narrow matrices), adapters 0.6, attention 0.5 (masked
 * parts of tiles), sampling 0.5 (products of few rows); and each value of a layer's width or
 * feed-forward width costs as much in the kernels of rows and on the host as 950 operations, in
 * each pass. */
#ifndef PLAN_TIME_H
#define PLAN_TIME_H

#include "trainer.h"

struct plan_time {
    double flop;       /* useful operations of the run, those computed again counted too */
    double flop_per_s; /* of the product: measured on the device, or assumed */
    bool measured;
    double step_s; /* a step of the first epoch: with the reference, if it reads one */
    double total_s;
    double sampling_s, scoring_s, training_s; /* of a run that draws samples: parts of total_s */
};
/* Measures a product where the run's device is here (at_product_rate()), and assumes a rate where
 * it is not or is short of memory. */
AT_CHECKED cli_plan_time(struct plan_time *out, const struct at_run *run);

#endif
