#include "ref_attention.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool reads(const struct ref_attention *a, size_t t, size_t j)
{
    const int32_t *i = a->intervals + 4 * t, key = (int32_t)j;
    const int32_t prefix = i[1] - i[0], query_at = prefix + i[3] - 1 - i[2];
    const int32_t key_at = key >= i[0] && key < i[1] ? key - i[0] : prefix + key - i[2];

    if (a->window > 0 && query_at - key_at >= a->window)
        return false;
    return (key >= i[0] && key < i[1]) || (key >= i[2] && key < i[3]);
}

static const double *head(const double *x, size_t row, size_t heads, size_t h, size_t D)
{
    return x + (row * heads + h) * D;
}

static double dot(const double *x, const double *y, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

/* The score of a query and a key, capped. */
static double score(const struct ref_attention *a, const double *q, const double *k)
{
    const double s = a->scale * dot(q, k, a->D);

    return a->cap > 0 ? a->cap * tanh(s / a->cap) : s;
}

/* Derivative of the score by q.k. */
static double slope(const struct ref_attention *a, const double *q, const double *k)
{
    const double y = a->cap > 0 ? tanh(a->scale * dot(q, k, a->D) / a->cap) : 0;

    return a->scale * (1 - y * y);
}

/* p[j] = softmax of the scores of query t and head h, 0 outside its keys; returns log-sum-exp. */
static double softmax(double *p, const double *q, const double *k, size_t t, size_t h,
                      const struct ref_attention *a)
{
    const double *x = head(q, t, a->H, h, a->D);
    const size_t g = h / (a->H / a->G);
    double most = -INFINITY, sum = 0;

    for (size_t j = 0; j < a->n_keys; j++) {
        p[j] = reads(a, t, j) ? score(a, x, head(k, j, a->G, g, a->D)) : -INFINITY;
        most = p[j] > most ? p[j] : most;
    }
    if (most == -INFINITY) {
        memset(p, 0, a->n_keys * sizeof *p);
        return 0;
    }
    for (size_t j = 0; j < a->n_keys; j++)
        sum += p[j] = exp(p[j] - most);
    for (size_t j = 0; j < a->n_keys; j++)
        p[j] /= sum;
    return most + log(sum);
}

void ref_attention_fwd(double *o, double *lse, const double *q, const double *k, const double *v,
                       const struct ref_attention *a)
{
    double *p = malloc(a->n_keys * sizeof *p);

    memset(o, 0, a->T * a->H * a->D * sizeof *o);
    for (size_t t = 0; t < a->T; t++)
        for (size_t h = 0; h < a->H; h++) {
            double *out = o + (t * a->H + h) * a->D;

            lse[t * a->H + h] = softmax(p, q, k, t, h, a);
            for (size_t j = 0; j < a->n_keys; j++)
                for (size_t d = 0; p[j] != 0 && d < a->D; d++)
                    out[d] += p[j] * head(v, j, a->G, h / (a->H / a->G), a->D)[d];
        }
    free(p);
}

void ref_attention_bwd(double *dq, double *dk, double *dv, const double *d_o, const double *q,
                       const double *k, const double *v, const struct ref_attention *a)
{
    const size_t D = a->D;
    double *p = malloc(a->n_keys * sizeof *p), *dp = malloc(a->n_keys * sizeof *dp);

    memset(dq, 0, a->T * a->H * D * sizeof *dq);
    memset(dk, 0, a->n_keys * a->G * D * sizeof *dk);
    memset(dv, 0, a->n_keys * a->G * D * sizeof *dv);
    for (size_t t = 0; t < a->T; t++)
        for (size_t h = 0; h < a->H; h++) {
            const size_t g = h / (a->H / a->G);
            const double *x = head(q, t, a->H, h, D), *dy = head(d_o, t, a->H, h, D);
            double mean = 0;

            softmax(p, q, k, t, h, a);
            for (size_t j = 0; j < a->n_keys; j++) {
                dp[j] = p[j] != 0 ? dot(dy, head(v, j, a->G, g, D), D) : 0;
                mean += p[j] * dp[j];
            }
            for (size_t j = 0; j < a->n_keys; j++) {
                const double bent = p[j] != 0 ? slope(a, x, head(k, j, a->G, g, D)) : 0;
                const double ds = bent * p[j] * (dp[j] - mean);

                for (size_t d = 0; p[j] != 0 && d < D; d++) {
                    dq[(t * a->H + h) * D + d] += ds * head(k, j, a->G, g, D)[d];
                    dk[(j * a->G + g) * D + d] += ds * x[d];
                    dv[(j * a->G + g) * D + d] += p[j] * dy[d];
                }
            }
        }
    free(p);
    free(dp);
}
