#include "rope.h"

#include "weights_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double PI = 3.14159265358979323846;

static const char *const kinds[AT_ROPE_KINDS] = {
    [AT_ROPE_DEFAULT] = "default", [AT_ROPE_LINEAR] = "linear", [AT_ROPE_DYNAMIC] = "dynamic",
    [AT_ROPE_YARN] = "yarn",       [AT_ROPE_LLAMA3] = "llama3",
};

/* ---- reading ---- */

static AT_CHECKED find_kind(enum at_rope_kind *out, const char *text, const char *key,
                            const char *name)
{
    for (size_t i = 0; i < AT_COUNT(kinds); i++)
        if (strcmp(kinds[i], text) == 0) {
            *out = (enum at_rope_kind)i;
            return AT_OK;
        }
    return at_fail(AT_DATA,
                   "%s: %s has kind \"%.40s\"; this version computes default, linear, dynamic, "
                   "yarn and llama3",
                   name, key, text);
}

static AT_CHECKED check_above(double value, double least, const char *what, const char *key,
                              const char *name)
{
    if (!(value >= least && value <= 1e15))
        return at_fail(AT_DATA, "%s: %s: %s is %g; expected %g to 1e15", name, key, what, value,
                       least);
    return AT_OK;
}

static AT_CHECKED check(const struct at_rope *r, const char *key, const char *name)
{
    enum at_status st = AT_OK;

    TRY(check_above(r->theta, 1, "rope_theta", key, name));
    if (r->kind == AT_ROPE_DEFAULT)
        goto done;
    TRY(check_above(r->factor, 1, "factor", key, name));
    TRY(check_above(r->original, 2, "original_max_position_embeddings", key, name));
    if (r->kind == AT_ROPE_LLAMA3) {
        TRY(check_above(r->low_freq_factor, 1e-6, "low_freq_factor", key, name));
        if (!(r->high_freq_factor > r->low_freq_factor && r->high_freq_factor <= 1e15))
            FAIL(AT_DATA, "%s: %s: high_freq_factor is %g; expected more than low_freq_factor, %g",
                 name, key, r->high_freq_factor, r->low_freq_factor);
    }
    if (r->kind == AT_ROPE_YARN) {
        TRY(check_above(r->theta, 1.000001, "rope_theta", key, name));
        TRY(check_above(r->beta_fast, 1e-6, "beta_fast", key, name));
        TRY(check_above(r->beta_slow, 1e-6, "beta_slow", key, name));
        TRY(check_above(r->attention_factor, 1e-6, "attention_factor", key, name));
    }
done:
    return st;
}

/* YaRN's equation 22, with the scale of a model family that has its own. */
static double yarn_scale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

AT_CHECKED at_rope_from_json(struct at_rope *out, const cJSON *rope, const char *key,
                             const char *name, uint32_t max_positions)
{
    enum at_status st = AT_OK;
    const char *kind = kinds[AT_ROPE_DEFAULT];
    double partial = 1, mscale = 0, mscale_all = 0;

    if (!cJSON_IsObject(rope))
        FAIL(AT_DATA, "%s: %s must be an object", name, key);
    TRY(at_json_get_string(&kind, rope, "type", name));
    TRY(at_json_get_string(&kind, rope, "rope_type", name));
    TRY(find_kind(&out->kind, kind, key, name));
    TRY(at_json_get_double(&out->theta, rope, "rope_theta", name));
    TRY(at_json_get_double(&partial, rope, "partial_rotary_factor", name));
    if (partial != 1)
        FAIL(AT_DATA, "%s: partial_rotary_factor is %g; this version computes 1 only", name,
             partial);
    if (out->kind == AT_ROPE_DEFAULT)
        goto done;
    out->original = max_positions;
    out->beta_fast = 32;
    out->beta_slow = 1;
    out->truncate = true;
    TRY(at_json_get_double(&out->factor, rope, "factor", name));
    TRY(at_json_get_u32(&out->original, rope, "original_max_position_embeddings", name));
    if (out->kind == AT_ROPE_LLAMA3) {
        TRY(at_json_get_double(&out->low_freq_factor, rope, "low_freq_factor", name));
        TRY(at_json_get_double(&out->high_freq_factor, rope, "high_freq_factor", name));
    }
    if (out->kind == AT_ROPE_YARN) {
        TRY(at_json_get_double(&out->beta_fast, rope, "beta_fast", name));
        TRY(at_json_get_double(&out->beta_slow, rope, "beta_slow", name));
        TRY(at_json_get_bool(&out->truncate, rope, "truncate", name));
        TRY(at_json_get_double(&mscale, rope, "mscale", name));
        TRY(at_json_get_double(&mscale_all, rope, "mscale_all_dim", name));
        out->attention_factor = yarn_scale(out->factor, 1);
        if (mscale != 0 && mscale_all != 0)
            out->attention_factor =
                yarn_scale(out->factor, mscale) / yarn_scale(out->factor, mscale_all);
        TRY(at_json_get_double(&out->attention_factor, rope, "attention_factor", name));
    }
    if (out->kind == AT_ROPE_DYNAMIC)
        out->limit = max_positions;
done:
    return st == AT_OK ? check(out, key, name) : st;
}

/* What llama.cpp multiplies cosines and sines by, beside YaRN's own scale. ext_factor mixes the two
 * kinds of angles: less than 0, or none, is what the kind of scaling has. */
static AT_CHECKED gguf_scale(double *out, const struct at_weights *weights,
                             const char *architecture, bool yarn)
{
    const char *path = weights->shards[0].path;
    enum at_status st = AT_OK;
    const double usual = yarn ? 1 : 0;
    double scale = 1, yarn_factor = 1, mix = -1;
    char key[128];

#define KEY(text) (snprintf(key, sizeof key, "%s.rope.scaling.%s", architecture, text), key)
    TRY(at_gguf_get_double(&scale, weights, KEY("attn_factor")));
    TRY(at_gguf_get_double(&yarn_factor, weights, KEY("yarn_attn_factor")));
    *out = scale * yarn_factor;
    if (!yarn && *out != 1)
        FAIL(AT_DATA,
             "%s: keys %s.rope.scaling.attn_factor and .yarn_attn_factor multiply to %g; "
             "this version computes them with a rope.scaling.type of yarn only",
             path, architecture, *out);
    TRY(at_gguf_get_double(&mix, weights, KEY("yarn_ext_factor")));
    if (mix >= 0 && mix != usual)
        FAIL(AT_DATA, "%s: key %s is %g; this version computes %g only", path, key, mix, usual);
#undef KEY
done:
    return st;
}

AT_CHECKED at_rope_from_gguf(struct at_rope *out, const struct at_weights *weights,
                             const char *architecture, uint32_t max_positions)
{
    const char *path = weights->shards[0].path, *kind = "none";
    enum at_status st = AT_OK;
    double linear = 1, scale = 1;
    char key[128];

#define KEY(text) (snprintf(key, sizeof key, "%s.rope.%s", architecture, text), key)
    out->factor = out->attention_factor = 1;
    out->original = max_positions;
    TRY(at_gguf_get_double(&out->theta, weights, KEY("freq_base")));
    TRY(at_gguf_get_double(&linear, weights, KEY("scale_linear")));
    TRY(at_gguf_get_double(&out->factor, weights, KEY("scaling.factor")));
    TRY(at_gguf_get_u32(&out->original, weights, KEY("scaling.original_context_length")));
    TRY(at_gguf_get_string(&kind, weights, KEY("scaling.type")));
    TRY(gguf_scale(&scale, weights, architecture, strcmp(kind, "yarn") == 0));
    if (strcmp(kind, "yarn") == 0) {
        out->kind = AT_ROPE_YARN;
        out->beta_fast = 32;
        out->beta_slow = 1;
        out->truncate = true;
        TRY(at_gguf_get_double(&out->beta_fast, weights, KEY("scaling.yarn_beta_fast")));
        TRY(at_gguf_get_double(&out->beta_slow, weights, KEY("scaling.yarn_beta_slow")));
        out->attention_factor = scale * yarn_scale(out->factor, 1);
    } else if (strcmp(kind, "linear") == 0) {
        out->kind = AT_ROPE_LINEAR;
    } else if (strcmp(kind, "none") != 0) {
        FAIL(AT_DATA, "%s: key %s is \"%.40s\"; this version computes none, linear and yarn", path,
             key, kind);
    } else if (linear != 1) {
        out->kind = AT_ROPE_LINEAR;
        out->factor = linear;
    } else if (out->factor != 1 && out->factor != 0) {
        FAIL(AT_DATA, "%s: key %s is %g without a %s.rope.scaling.type", path,
             KEY("scaling.factor"), out->factor, architecture);
    }
    out->factors = at_weights_find(weights, "rope_freqs.weight");
    TRY(check(out, KEY("scaling"), path));
#undef KEY
done:
    return st;
}

/* ---- angles ---- */

static double llama3_frequency(const struct at_rope *r, double frequency)
{
    const double length = 2 * PI / frequency;
    const double ramp =
        (r->original / length - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);

    if (length < r->original / r->high_freq_factor)
        return frequency;
    if (length > r->original / r->low_freq_factor)
        return frequency / r->factor;
    return (1 - ramp) * frequency / r->factor + ramp * frequency;
}

/* Place among the D / 2 frequencies of the one that turns this often in `original` positions. */
static double yarn_place(const struct at_rope *r, double rotations, uint32_t D)
{
    return D * log(r->original / (rotations * 2 * PI)) / (2 * log(r->theta));
}

static double yarn_frequency(const struct at_rope *r, double frequency, uint32_t i, uint32_t D)
{
    double low = yarn_place(r, r->beta_fast, D), high = yarn_place(r, r->beta_slow, D), ramp;

    if (r->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, D - 1);
    ramp = (i - low) / (high == low ? 0.001 : high - low);
    ramp = fmin(fmax(ramp, 0), 1);
    return frequency / r->factor * ramp + frequency * (1 - ramp);
}

AT_CHECKED at_rope_frequencies(double *frequencies, double *scale, const struct at_rope *rope,
                               uint32_t D)
{
    enum at_status st = AT_OK;
    const struct at_source *s = rope->factors;
    float *divisors = NULL;

    *scale = rope->kind == AT_ROPE_YARN ? rope->attention_factor : 1;
    for (uint32_t i = 0; i < D / 2; i++) {
        const double plain = pow(rope->theta, -2.0 * i / D);
        frequencies[i] = rope->kind == AT_ROPE_LINEAR   ? plain / rope->factor
                         : rope->kind == AT_ROPE_YARN   ? yarn_frequency(rope, plain, i, D)
                         : rope->kind == AT_ROPE_LLAMA3 ? llama3_frequency(rope, plain)
                                                        : plain;
    }
    if (!s)
        goto done;
    if (s->rows * s->cols != D / 2)
        FAIL(AT_DATA, "%s: tensor %s has %llu values; expected %u, half a head", s->file, s->name,
             (unsigned long long)(s->rows * s->cols), D / 2);
    TRY(at_alloc(&divisors, D / 2, sizeof *divisors));
    TRY(at_source_floats(divisors, s));
    for (uint32_t i = 0; i < D / 2; i++) {
        if (!(divisors[i] > 0))
            FAIL(AT_DATA, "%s: tensor %s: value %u is %g; expected more than 0", s->file, s->name,
                 i, (double)divisors[i]);
        frequencies[i] /= (double)divisors[i];
    }
done:
    at_free(&divisors);
    return st;
}

AT_CHECKED at_rope_check_length(const struct at_rope *rope, uint32_t n)
{
    if (rope->limit > 0 && n > rope->limit)
        return at_fail(AT_DATA,
                       "a sequence has %u tokens; beyond %u positions the rotary angles of a "
                       "\"%s\" model depend on the sequence's length, which this version does not "
                       "compute: set max_length to at most %u",
                       n, rope->limit, kinds[rope->kind], rope->limit);
    return AT_OK;
}
