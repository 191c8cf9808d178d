/* How far a merged model is from what was trained: over another base, or rounded to few bits. */
#ifndef AT_MERGE_KL_H
#define AT_MERGE_KL_H

#include "base.h"

struct merge_kl_params {
    const char *trained; /* the base of training, as the run recorded it */
    const char *digest;  /* of its weights */
    const char *merged;  /* the new model */
    double scale;        /* of the adapters */
    struct at_gpu_params gpu;
};
/* The mean of the exact KL(trained base with adapters || merged model) over the tokens of replies
 * that the first writes to prompts of the last adapter's held-out rows (nats a token), and
 * that of the bare base, as a note; or a note that says why it is not measured: base or rows are
 * not here or cannot be read, there is no memory for the second model, or every reply ends at once.
 */
AT_CHECKED merge_kl_measure(struct cli_base *base, const struct merge_kl_params *params);

#endif
