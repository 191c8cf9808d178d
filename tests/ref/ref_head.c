#include "ref_head.h"

#include <math.h>

static double logit(const struct ref_head *head, size_t i, size_t v)
{
    double z = 0;

    for (size_t c = 0; c < head->C; c++)
        z += head->h[i * head->C + c] * head->W[v * head->C + c];
    return head->cap > 0 ? head->cap * tanh(z / head->cap) : z;
}

/* Derivative of the logit by h W^T. */
static double slope(const struct ref_head *head, size_t i, size_t v)
{
    const double y = head->cap > 0 ? logit(head, i, v) / head->cap : 0;

    return 1 - y * y;
}

static double log_sum_exp(const struct ref_head *head, size_t i, size_t *best)
{
    double top = -INFINITY, sum = 0;

    for (size_t v = 0; v < head->V; v++) {
        const double z = logit(head, i, v);

        if (z > top) {
            sum *= exp(top - z);
            top = z;
            *best = v;
        }
        sum += exp(z - top);
    }
    return top + log(sum); /* cppcheck-suppress invalidFunctionArg; V is never 0 */
}

void ref_head_fwd(double *stats, double *lse, double *u, const struct ref_head *head)
{
    for (size_t i = 0; i < head->R; i++) {
        const size_t y = (size_t)head->targets[i];
        double entropy = 0, mean = 0;
        size_t best = 0;

        lse[i] = log_sum_exp(head, i, &best);
        for (size_t c = 0; c < head->C; c++)
            u[i * head->C + c] = -slope(head, i, y) * head->W[y * head->C + c];
        for (size_t v = 0; v < head->V; v++) {
            const double z = logit(head, i, v), p = exp(z - lse[i]), bent = slope(head, i, v);

            entropy -= p * (z - lse[i]);
            mean += z / (double)head->V;
            for (size_t c = 0; c < head->C; c++)
                u[i * head->C + c] += p * bent * head->W[v * head->C + c];
        }
        stats[4 * i] = logit(head, i, y) - lse[i];
        stats[4 * i + 1] = entropy;
        stats[4 * i + 2] = best == y;
        stats[4 * i + 3] = mean;
    }
}

void ref_head_log_p2(double *log_p2, const struct ref_head *head)
{
    for (size_t i = 0; i < head->R; i++) {
        size_t best = 0;
        const double lse = log_sum_exp(head, i, &best);
        double sum = 0;

        for (size_t v = 0; v < head->V; v++)
            sum += exp(2 * (logit(head, i, v) - lse));
        log_p2[i] = log(sum); /* cppcheck-suppress invalidFunctionArg; some p is at least 1 / V */
    }
}

void ref_head_kl(double *kl, const double *ref_h, const struct ref_head *head)
{
    struct ref_head other = *head;

    other.h = ref_h;
    for (size_t i = 0; i < head->R; i++) {
        size_t best = 0;
        const double lse = log_sum_exp(head, i, &best), ref_lse = log_sum_exp(&other, i, &best);

        kl[i] = 0;
        for (size_t v = 0; v < head->V; v++) {
            const double log_p = logit(head, i, v) - lse, log_q = logit(&other, i, v) - ref_lse;
            kl[i] += exp(log_p) * (log_p - log_q);
        }
    }
}

void ref_head_bwd_weight(double *dW, const double *coef, const struct ref_head *head)
{
    for (size_t i = 0; i < head->R; i++) {
        size_t best = 0;
        const double lse = log_sum_exp(head, i, &best);

        for (size_t v = 0; v < head->V; v++) {
            const double hit = v == (size_t)head->targets[i];
            const double d = -coef[i] * (exp(logit(head, i, v) - lse) - hit) * slope(head, i, v);

            for (size_t c = 0; c < head->C; c++)
                dW[v * head->C + c] += d * head->h[i * head->C + c];
        }
    }
}
