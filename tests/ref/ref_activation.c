#include "ref_activation.h"

#include <math.h>

static double sigmoid(double x)
{
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

void ref_swiglu_fwd(double *m, const double *gate, const double *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        m[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

/* The argument of GELU's tanh. */
static double gelu_argument(double x)
{
    return sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
}

void ref_geglu_fwd(double *m, const double *gate, const double *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        m[i] = gate[i] * sigmoid(2 * gelu_argument(gate[i])) * up[i]; /* (1 + tanh u) / 2 */
}

void ref_geglu_bwd(double *dgate, double *dup, const double *dm, const double *gate,
                   const double *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double x = gate[i], u = gelu_argument(x), s = sigmoid(2 * u), rest = sigmoid(-2 * u);
        const double du = sqrt(2 / 3.14159265358979323846) * (1 + 3 * 0.044715 * x * x);

        dgate[i] = dm[i] * up[i] * (s + x * 2 * s * rest * du);
        dup[i] = dm[i] * x * s;
    }
}

void ref_swiglu_bwd(double *dgate, double *dup, const double *dm, const double *gate,
                    const double *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double s = sigmoid(gate[i]), rest = sigmoid(-gate[i]);

        dgate[i] = dm[i] * up[i] * (s + gate[i] * s * rest);
        dup[i] = dm[i] * gate[i] * s;
    }
}

/* The normal distribution's. */
static double below(double x)
{
    return erfc(-x / sqrt(2)) / 2;
}

void ref_gelu_fwd(double *y, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * below(x[i]);
}

void ref_gelu_bwd(double *dx, const double *dy, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dx[i] =
            dy[i] * (below(x[i]) + x[i] * exp(-x[i] * x[i] / 2) / sqrt(2 * 3.14159265358979323846));
}

void ref_gather_rows(double *out, const double *x, const int32_t *index, size_t R, size_t C)
{
    for (size_t i = 0; i < R; i++)
        for (size_t c = 0; c < C; c++)
            out[i * C + c] = x[(size_t)index[i] * C + c];
}

void ref_scatter_rows(double *dx, const double *u, const double *coef, const int32_t *row_begin,
                      size_t T, size_t C)
{
    for (size_t t = 0; t < T; t++)
        for (size_t c = 0; c < C; c++) {
            dx[t * C + c] = 0;
            for (size_t i = (size_t)row_begin[t]; i < (size_t)row_begin[t + 1]; i++)
                dx[t * C + c] -= coef[i] * u[i * C + c];
        }
}

void ref_embed_bwd(double *dW, const double *dx, const int32_t *ids, const int32_t *begin,
                   const int32_t *order, size_t n_ids, size_t C)
{
    for (size_t j = 0; j < n_ids; j++)
        for (size_t i = (size_t)begin[j]; i < (size_t)begin[j + 1]; i++)
            for (size_t c = 0; c < C; c++)
                dW[(size_t)ids[j] * C + c] += dx[(size_t)order[i] * C + c];
}
