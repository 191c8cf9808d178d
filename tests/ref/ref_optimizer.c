#include "ref_optimizer.h"

#include <math.h>

void ref_adamw_step(double *p, double *m, double *v, const double *g, size_t n,
                    const struct ref_adamw *params)
{
    const double b1 = params->beta1, b2 = params->beta2;

    for (size_t i = 0; i < n; i++) {
        m[i] = b1 * m[i] + (1 - b1) * g[i];
        v[i] = b2 * v[i] + (1 - b2) * g[i] * g[i];

        const double mean = m[i] / (1 - pow(b1, params->step));
        const double variance = v[i] / (1 - pow(b2, params->step));

        p[i] -= params->learning_rate *
                (mean / (sqrt(variance) + params->epsilon) + params->weight_decay * p[i]);
    }
}

double ref_norm(const double *g, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += g[i] * g[i];
    return sqrt(sum);
}
