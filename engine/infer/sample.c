#include "generate.h"
#include "rng.h"

#include <math.h>
#include <stdlib.h>

static AT_CHECKED check_finite(const float *logits, uint32_t V)
{
    for (uint32_t i = 0; i < V; i++)
        if (!isfinite(logits[i]))
            return at_fail(AT_NUMERIC, "the logit of token %u is not finite", i);
    return AT_OK;
}

static int32_t likeliest(const float *logits, uint32_t V)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < V; i++)
        if (logits[i] > logits[best])
            best = i;
    return (int32_t)best;
}

static int heaviest_first(const void *a, const void *b)
{
    const struct at_candidate *x = a, *y = b;

    if (x->weight != y->weight)
        return x->weight > y->weight ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* How many of n sorted candidates hold at least the share top_p of their sum; *sum is theirs. */
static uint32_t nucleus(const struct at_candidate *c, uint32_t n, double top_p, double *sum)
{
    double total = 0, kept = 0;
    uint32_t k = 0;

    for (uint32_t i = 0; i < n; i++)
        total += c[i].weight;
    while (k < n && kept < top_p * total)
        kept += c[k++].weight;
    *sum = kept;
    return k;
}

/* How many of them are at least min_p times as heavy as the heaviest; *sum is theirs. */
static uint32_t heavy(const struct at_candidate *c, uint32_t n, double min_p, double *sum)
{
    uint32_t k = 0;

    for (*sum = 0; k < n && c[k].weight >= min_p * c[0].weight; k++)
        *sum += c[k].weight;
    return k;
}

void at_penalise(float *logits, const uint8_t *seen, uint32_t V, double penalty)
{
    for (uint32_t i = 0; i < V; i++)
        if (seen[i])
            logits[i] = (float)(logits[i] > 0 ? logits[i] / penalty : logits[i] * penalty);
}

AT_CHECKED at_sample(int32_t *out, const float *logits, uint32_t V, const struct at_sampling *p,
                     uint32_t prompt_index, uint32_t position, struct at_candidate *scratch)
{
    enum at_status st = AT_OK;
    const int32_t best = likeliest(logits, V);
    struct at_rng rng = at_rng_make(p->seed, AT_RNG_SAMPLE, prompt_index, position);
    uint32_t n = p->top_k > 0 && p->top_k < V ? p->top_k : V;
    double sum = 0, draw = 0;

    TRY(check_finite(logits, V));
    *out = best;
    if (p->temperature <= 0)
        goto done;
    for (uint32_t i = 0; i < V; i++) {
        const double x = ((double)logits[i] - (double)logits[best]) / p->temperature;
        scratch[i] = (struct at_candidate){ exp(x), (int32_t)i };
    }
    qsort(scratch, V, sizeof *scratch, heaviest_first);
    n = nucleus(scratch, n, p->top_p, &sum);
    if (p->min_p > 0)
        n = heavy(scratch, n, p->min_p, &sum);
    draw = at_rng_uniform(&rng) * sum;
    for (uint32_t i = 0; i < n; i++) {
        *out = scratch[i].id;
        draw -= scratch[i].weight;
        if (draw < 0)
            break;
    }
done:
    return st;
}
