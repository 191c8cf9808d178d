/* AdamW and the gradient norm by definition, double. */
#ifndef REF_OPTIMIZER_H
#define REF_OPTIMIZER_H

#include <stddef.h>

struct ref_adamw {
    double learning_rate, beta1, beta2, epsilon, weight_decay;
    unsigned step; /* from 1 */
};
/* One step on n parameters with gradient g (already clipped). */
void ref_adamw_step(double *p, double *m, double *v, const double *g, size_t n,
                    const struct ref_adamw *params);
/* L2 norm. */
double ref_norm(const double *g, size_t n);

#endif
