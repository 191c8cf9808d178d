#include "advantage.h"

#include <math.h>

static const double FLAT = 1e-8, EPSILON = 1e-4;

double at_mean_of(const double *x, uint32_t n)
{
    double sum = 0, count = 0;

    for (uint32_t i = 0; i < n; i++) {
        sum += isnan(x[i]) ? 0 : x[i];
        count += !isnan(x[i]);
    }
    return count > 0 ? sum / count : NAN;
}

double at_deviation_of(const double *x, uint32_t n)
{
    const double mean = at_mean_of(x, n);
    double sum = 0, count = 0;

    for (uint32_t i = 0; i < n; i++) {
        sum += isnan(x[i]) ? 0 : (x[i] - mean) * (x[i] - mean);
        count += !isnan(x[i]);
    }
    return count > 1 ? sqrt(sum / (count - 1)) : NAN;
}

/* What a sample is compared with. */
static double baseline(const double *rewards, uint32_t i, uint32_t group, bool leave_one_out)
{
    double sum = 0, count = 0;

    if (!leave_one_out)
        return at_mean_of(rewards, group);
    for (uint32_t k = 0; k < group; k++) {
        sum += isnan(rewards[k]) ? 0 : rewards[k];
        count += !isnan(rewards[k]);
    }
    return (sum - rewards[i]) / (count - 1);
}

static bool all_equal(const double *rewards, uint32_t n)
{
    bool equal = true;

    for (uint32_t i = 1; i < n; i++)
        equal = equal && rewards[i] == rewards[0];
    return equal;
}

double at_advantages(double *out, const double *rewards, uint32_t n, uint32_t group,
                     const struct at_advantage_params *p)
{
    const double whole = at_deviation_of(rewards, n);
    double flat = 0, mean = 0, deviation = 0;

    for (uint32_t begin = 0; begin < n; begin += group) {
        const double *r = rewards + begin;
        const double own = p->scale == AT_SCALE_BATCH ? whole : at_deviation_of(r, group);
        const bool equal = all_equal(r, group);
        flat += own <= FLAT;
        for (uint32_t i = 0; i < group; i++) {
            double a = r[i] - baseline(r, i, group, p->leave_one_out);
            if (!p->leave_one_out && p->scale != AT_SCALE_NONE)
                a /= own + EPSILON;
            out[begin + i] = equal ? 0 : a;
        }
    }
    mean = at_mean_of(out, n);
    deviation = at_deviation_of(out, n);
    for (uint32_t i = 0; i < n; i++) {
        if (p->normalize)
            out[i] = (out[i] - mean) / (deviation + EPSILON);
        if (!isfinite(out[i])) /* no reward, or none to compare with */
            out[i] = 0;
    }
    return flat * group / n;
}
