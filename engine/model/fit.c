#include "fit.h"

#include <math.h>
#include <string.h>

#include "codes.h"

enum { LANES = AT_FIT_LANES, MOST = AT_FIT_MOST, IQ4_CODES = 16 };
static const float nothing = 1e-15f;
static const float iq4[IQ4_CODES] = { CODES_IQ4 };

float at_fit_extreme(const float *x, uint32_t n)
{
    float most = 0;

    for (uint32_t i = 0; i < n; i++)
        most = fabsf(x[i]) > fabsf(most) ? x[i] : most;
    return fabsf(most) < nothing ? 0 : most;
}

/* ---- a scale and a least value: a lane is a sub-block ---- */

struct ranged {
    const struct at_fit_range *range;
    float x[MOST][LANES], w[MOST][LANES];
    float code[MOST][LANES], best[MOST][LANES]; /* of a try, of the best one */
    float low[LANES], high[LANES], scale[LANES], error[LANES];
    float sum_w[LANES], sum_x[LANES];
};

static void load(struct ranged *s, const float *x)
{
    const uint32_t n = s->range->n;

    for (uint32_t k = 0; k < LANES; k++) {
        float squares = 0, rms = 0;
        for (uint32_t i = 0; i < n; i++)
            squares += x[k * n + i] * x[k * n + i];
        rms = s->range->absolute ? 0 : sqrtf(squares / (float)n);
        s->low[k] = s->high[k] = x[k * n];
        s->sum_w[k] = s->sum_x[k] = 0;
        for (uint32_t i = 0; i < n; i++) {
            const float v = x[k * n + i], w = rms + fabsf(v);
            s->x[i][k] = v;
            s->w[i][k] = w;
            s->low[k] = v < s->low[k] ? v : s->low[k];
            s->high[k] = v > s->high[k] ? v : s->high[k];
            s->sum_w[k] += w;
            s->sum_x[k] += w * v;
        }
        s->low[k] = s->low[k] > 0 ? 0 : s->low[k];
    }
}

static void find_codes(struct ranged *s, const float *inverse)
{
    const float most = s->range->most;

    for (uint32_t i = 0; i < s->range->n; i++)
        for (uint32_t k = 0; k < LANES; k++)
            s->code[i][k] = at_fit_whole(inverse[k] * (s->x[i][k] - s->low[k]), 0, most);
}

static void find_errors(float *error, const struct ranged *s, const float *scale, const float *low)
{
    const bool absolute = s->range->absolute;
    float sum[LANES] = { 0 };

    for (uint32_t i = 0; i < s->range->n; i++)
        for (uint32_t k = 0; k < LANES; k++) {
            const float d = scale[k] * s->code[i][k] + low[k] - s->x[i][k];
            sum[k] += s->w[i][k] * (absolute ? fabsf(d) : d * d);
        }
    memcpy(error, sum, sizeof sum);
}

/* Least squares over the codes of a try: [[sum w q^2, sum w q], [sum w q, sum w]]. */
static void solve(float *scale, float *low, float *determinant, const struct ranged *s)
{
    float q[LANES] = { 0 }, qq[LANES] = { 0 }, qx[LANES] = { 0 };

    for (uint32_t i = 0; i < s->range->n; i++)
        for (uint32_t k = 0; k < LANES; k++) {
            const float wq = s->w[i][k] * s->code[i][k];
            q[k] += wq;
            qq[k] += wq * s->code[i][k];
            qx[k] += wq * s->x[i][k];
        }
    for (uint32_t k = 0; k < LANES; k++) {
        const float D = s->sum_w[k] * qq[k] - q[k] * q[k];
        determinant[k] = D;
        scale[k] = (s->sum_w[k] * qx[k] - s->sum_x[k] * q[k]) / D;
        low[k] = (qq[k] * s->sum_x[k] - q[k] * qx[k]) / D;
        scale[k] = low[k] > 0 ? qx[k] / qq[k] : scale[k];
        low[k] = low[k] > 0 ? 0 : low[k];
    }
}

static void try_step(struct ranged *s, float step)
{
    float inverse[LANES], scale[LANES], low[LANES], D[LANES], error[LANES];
    bool better[LANES];

    for (uint32_t k = 0; k < LANES; k++)
        inverse[k] = step / (s->high[k] - s->low[k]);
    find_codes(s, inverse);
    solve(scale, low, D, s);
    find_errors(error, s, scale, low);
    for (uint32_t k = 0; k < LANES; k++) {
        better[k] = D[k] > 0 && error[k] < s->error[k];
        s->error[k] = better[k] ? error[k] : s->error[k];
        s->scale[k] = better[k] ? scale[k] : s->scale[k];
        s->low[k] = better[k] ? low[k] : s->low[k];
    }
    for (uint32_t i = 0; i < s->range->n; i++)
        for (uint32_t k = 0; k < LANES; k++)
            s->best[i][k] = better[k] ? s->code[i][k] : s->best[i][k];
}

void at_fit_ranged(float *scale, float *minus, uint8_t *code, const float *x,
                   const struct at_fit_range *range)
{
    struct ranged s = { .range = range };
    float inverse[LANES];

    load(&s, x);
    for (uint32_t k = 0; k < LANES; k++) {
        inverse[k] = range->most / (s.high[k] - s.low[k]);
        s.scale[k] = 1 / inverse[k];
    }
    find_codes(&s, inverse);
    find_errors(s.error, &s, s.scale, s.low);
    memcpy(s.best, s.code, sizeof s.best);
    for (uint32_t i = 0; i <= range->tries; i++)
        try_step(&s, range->first + range->step * (float)i + range->most);
    for (uint32_t k = 0; k < LANES; k++) {
        const bool constant = s.high[k] == s.low[k];
        scale[k] = constant ? 0 : s.scale[k];
        minus[k] = -s.low[k];
        for (uint32_t i = 0; i < range->n; i++)
            code[k * range->n + i] = s.best[i][k] > 0 ? (uint8_t)s.best[i][k] : 0;
    }
}

/* ---- one scale: a lane is a try ---- */

/* Sums of eight tries: x q and q^2, weighted with x^2. */
struct sums {
    float qx[LANES], qq[LANES];
};

/* The best scale of n tries, of equals the first; *best is its place. NaN is never better. */
static float best_of(uint32_t *best, const struct sums *sums, uint32_t n)
{
    float scale = 0, gain = 0;

    for (uint32_t t = 0; t < n; t++) {
        const float qx = sums[t / LANES].qx[t % LANES], qq = sums[t / LANES].qq[t % LANES];
        if (!(qq > 0) || (t > 0 && !(qx * qx > gain * qq)))
            continue;
        scale = qx / qq;
        gain = scale * qx;
        *best = t;
    }
    return scale;
}

static struct sums try_centred(const float *x, uint32_t n, const float *inverse, float half)
{
    struct sums s = { { 0 }, { 0 } };

    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < LANES; k++) {
            const float q = at_fit_whole(inverse[k] * x[i], -half, half - 1), w = x[i] * x[i];
            s.qx[k] += w * x[i] * q;
            s.qq[k] += w * q * q;
        }
    return s;
}

float at_fit_centred(uint8_t *code, const float *x, uint32_t n, float half)
{
    enum { TRIES = 19 }; /* half a step off by -0.9 to 0.9, first by none */
    struct sums sums[(TRIES + LANES - 1) / LANES];
    float inverse[(TRIES + LANES - 1) / LANES * LANES] = { 0 };
    const float most = at_fit_extreme(x, n);
    uint32_t best = 0;
    float scale = 0;

    memset(code, 0, n);
    if (most == 0)
        return 0;
    for (int t = 0; t < TRIES; t++) {
        const int off = t == 0 ? 0 : t - 10 + (t > 9);
        inverse[t] = -(half + 0.1f * (float)off) / most;
    }
    for (uint32_t t = 0; t < TRIES; t += LANES)
        sums[t / LANES] = try_centred(x, n, inverse + t, half);
    scale = best_of(&best, sums, TRIES);
    for (uint32_t i = 0; i < n; i++)
        code[i] = (uint8_t)(at_fit_whole(inverse[best] * x[i], -half, half - 1) + half);
    return scale;
}

float at_fit_by_turns(uint8_t *code, const float *x, uint32_t n, float half)
{
    enum { ROUNDS = 5 };
    const float most = at_fit_extreme(x, n);
    float q[MOST], qx = 0, qq = 0;
    bool changed = true;

    memset(code, 0, n);
    if (most == 0)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        const float w = x[i] * x[i];
        q[i] = at_fit_whole(-half / most * x[i], -half, half - 1);
        qx += w * x[i] * q[i];
        qq += w * q[i] * q[i];
    }
    for (uint32_t round = 0; round < ROUNDS && changed; round++) {
        changed = false;
        for (uint32_t i = 0; i < n; i++) {
            const float w = x[i] * x[i];
            float others_x = qx - w * x[i] * q[i], others_q = qq - w * q[i] * q[i];
            const float other = at_fit_whole(x[i] * others_q / others_x, -half, half - 1);
            if (!(others_x > 0) || other == q[i])
                continue;
            others_x += w * x[i] * other;
            others_q += w * other * other;
            if (!(others_q > 0 && others_x * others_x * qq > qx * qx * others_q))
                continue;
            q[i] = other;
            qx = others_x;
            qq = others_q;
            changed = true;
        }
    }
    for (uint32_t i = 0; i < n; i++)
        code[i] = q[i] > -half ? (uint8_t)(q[i] + half) : 0;
    return qx / qq;
}

/* ---- the codes of IQ4 ---- */

/* A value between two codes goes to the nearer one, from their middle on to the higher one. */
uint8_t at_fit_iq4_code(float x)
{
    uint32_t code = 0;

    for (uint32_t c = 0; c + 1 < IQ4_CODES; c++)
        code += x >= (iq4[c] + iq4[c + 1]) / 2;
    return (uint8_t)code;
}

static struct sums try_iq4(const float *x, const float *inverse)
{
    struct sums s = { { 0 }, { 0 } };
    float q[LANES], scaled[LANES];

    for (uint32_t i = 0; i < MOST; i++) {
        const float w = x[i] * x[i];
        for (uint32_t k = 0; k < LANES; k++) {
            scaled[k] = inverse[k] * x[i];
            q[k] = iq4[0];
        }
        for (uint32_t c = 0; c + 1 < IQ4_CODES; c++) {
            const float middle = (iq4[c] + iq4[c + 1]) / 2, more = iq4[c + 1] - iq4[c];
            for (uint32_t k = 0; k < LANES; k++)
                q[k] += scaled[k] >= middle ? more : 0;
        }
        for (uint32_t k = 0; k < LANES; k++) {
            s.qx[k] += w * q[k] * x[i];
            s.qq[k] += w * q[k] * q[k];
        }
    }
    return s;
}

float at_fit_iq4(const float *x)
{
    enum { TRIES = 16, MIDDLE = 8 }; /* the largest value as 127, then as -134 to -120 */
    struct sums sums[TRIES / LANES];
    float inverse[TRIES];
    const float most = at_fit_extreme(x, MOST);
    uint32_t best = 0;

    if (most == 0)
        return 0;
    inverse[0] = 1 / (-most / iq4[0]);
    for (int t = 1; t < TRIES; t++)
        inverse[t] = ((float)(t - MIDDLE) + iq4[0]) / most;
    for (uint32_t t = 0; t < TRIES; t += LANES)
        sums[t / LANES] = try_iq4(x, inverse + t);
    return best_of(&best, sums, TRIES);
}
