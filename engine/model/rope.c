#include "rope.h"

#include "weights_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double PI = 3.14159265358979323846;

static const char *const kinds[AT_ROPE_KINDS] = {
    [AT_ROPE_DEFAULT] = "default", [AT_ROPE_LINEAR] = "linear", [AT_ROPE_DYNAMIC] = "dynamic",
    [AT_ROPE_YARN] = "yarn",       [AT_ROPE_LLAMA3] = "llama3", [AT_ROPE_LONG] = "longrope",
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
                   "yarn, llama3 and longrope",
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
    if (!(r->partial > 0 && r->partial <= 1))
        FAIL(AT_DATA, "%s: %s: partial_rotary_factor is %g; expected more than 0 and at most 1",
             name, key, r->partial);
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
    if (r->kind == AT_ROPE_LONG)
        TRY(check_above(r->attention_factor, 1e-6, "attention_factor", key, name));
done:
    return st;
}

/* YaRN's equation 22, with the scale of a model family that has its own. */
static double yarn_scale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

/* Equation of LongRoPE's section 3.4, as transformers has it. */
static double long_scale(double factor, uint32_t original)
{
    return factor <= 1 ? 1 : sqrt(1 + log(factor) / log(original));
}

static AT_CHECKED read_divisors(struct at_rope *out, uint32_t which, const cJSON *rope,
                                const char *key, const char *name)
{
    static const char *const lists[] = { "short_factor", "long_factor" };
    const cJSON *list = at_json_find(rope, lists[which]);
    enum at_status st = AT_OK;
    uint32_t n = 0;

    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > AT_ROPE_MOST)
        FAIL(AT_DATA, "%s: %s: %s must be a list of at most %d numbers", name, key, lists[which],
             AT_ROPE_MOST);
    for (const cJSON *item = list->child; item; item = item->next) {
        if (!cJSON_IsNumber(item) || !(item->valuedouble > 0 && item->valuedouble <= 1e15))
            FAIL(AT_DATA, "%s: %s: value %u of %s must be a number above 0", name, key, n,
                 lists[which]);
        out->divisors[which][n++] = (float)item->valuedouble;
    }
    out->n_divisors[which] = n;
done:
    return st;
}

static AT_CHECKED read_yarn(struct at_rope *out, const cJSON *rope, const char *name)
{
    enum at_status st = AT_OK;
    double mscale = 0, mscale_all = 0;

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
done:
    return st;
}

AT_CHECKED at_rope_from_json(struct at_rope *out, const cJSON *rope, const char *key,
                             const char *name, uint32_t original, uint32_t most)
{
    enum at_status st = AT_OK;
    const char *kind = kinds[AT_ROPE_DEFAULT];

    if (!cJSON_IsObject(rope))
        FAIL(AT_DATA, "%s: %s must be an object", name, key);
    TRY(at_json_get_string(&kind, rope, "type", name));
    TRY(at_json_get_string(&kind, rope, "rope_type", name));
    TRY(find_kind(&out->kind, strcmp(kind, "su") == 0 ? "longrope" : kind, key, name));
    TRY(at_json_get_double(&out->theta, rope, "rope_theta", name));
    TRY(at_json_get_double(&out->partial, rope, "partial_rotary_factor", name));
    if (out->kind == AT_ROPE_DEFAULT)
        goto done;
    out->original = original;
    out->beta_fast = 32;
    out->beta_slow = 1;
    out->truncate = true;
    TRY(at_json_get_u32(&out->original, rope, "original_max_position_embeddings", name));
    if (out->kind == AT_ROPE_LONG && out->original > 0)
        out->factor = (double)most / out->original;
    TRY(at_json_get_double(&out->factor, rope, "factor", name));
    if (out->kind == AT_ROPE_LLAMA3) {
        TRY(at_json_get_double(&out->low_freq_factor, rope, "low_freq_factor", name));
        TRY(at_json_get_double(&out->high_freq_factor, rope, "high_freq_factor", name));
    }
    if (out->kind == AT_ROPE_YARN)
        TRY(read_yarn(out, rope, name));
    if (out->kind == AT_ROPE_LONG) {
        TRY(read_divisors(out, 0, rope, key, name));
        TRY(read_divisors(out, 1, rope, key, name));
        out->attention_factor = long_scale(out->factor, out->original);
        TRY(at_json_get_double(&out->attention_factor, rope, "attention_factor", name));
    }
    if (out->kind == AT_ROPE_DYNAMIC)
        out->limit = most;
done:
    return st == AT_OK ? check(out, key, name) : st;
}

/* What llama.cpp multiplies cosines and sines by, beside YaRN's own scale. ext_factor mixes the two
 * kinds of angles: less than 0, or none, is what the kind of scaling has. */
static AT_CHECKED gguf_scale(double *out, const struct at_weights *weights,
                             const char *architecture, bool yarn, bool scaled)
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
    if (!scaled && *out != 1)
        FAIL(AT_DATA,
             "%s: keys %s.rope.scaling.attn_factor and .yarn_attn_factor multiply to %g; "
             "this version computes them with a rope.scaling.type of yarn, or long factors, only",
             path, architecture, *out);
    TRY(at_gguf_get_double(&mix, weights, KEY("yarn_ext_factor")));
    if (mix >= 0 && mix != usual)
        FAIL(AT_DATA, "%s: key %s is %g; this version computes %g only", path, key, mix, usual);
#undef KEY
done:
    return st;
}

/* The tensors of LongRoPE, as llama.cpp's converter writes them. */
static AT_CHECKED gguf_divisors(struct at_rope *out, const struct at_weights *weights)
{
    enum at_status st = AT_OK;

    for (uint32_t i = 0; i < 2; i++) {
        const struct at_source *s = out->long_factors[i];
        if (!s || s->rows * s->cols > AT_ROPE_MOST)
            FAIL(AT_DATA,
                 "%s: tensors rope_factors_short.weight and rope_factors_long.weight must "
                 "both be there, with at most %d values",
                 weights->shards[0].path, AT_ROPE_MOST);
        out->n_divisors[i] = (uint32_t)(s->rows * s->cols);
        if (at_weights_lack_data(weights)) /* nobody turns by them */
            continue;
        TRY(at_source_floats(out->divisors[i], s));
        for (uint32_t k = 0; k < out->n_divisors[i]; k++)
            if (!(out->divisors[i][k] > 0))
                FAIL(AT_DATA, "%s: tensor %s: value %u is %g; expected more than 0", s->file,
                     s->name, k, (double)out->divisors[i][k]);
    }
done:
    return st;
}

AT_CHECKED at_rope_from_gguf(struct at_rope *out, const struct at_weights *weights,
                             const char *architecture, uint32_t max_positions)
{
    const char *path = weights->shards[0].path, *kind = "none";
    enum at_status st = AT_OK;
    double linear = 1, scale = 1;
    bool longer = false;
    char key[128];

#define KEY(text) (snprintf(key, sizeof key, "%s.rope.%s", architecture, text), key)
    out->factor = out->attention_factor = 1;
    out->original = max_positions;
    TRY(at_gguf_get_double(&out->theta, weights, KEY("freq_base")));
    TRY(at_gguf_get_double(&linear, weights, KEY("scale_linear")));
    TRY(at_gguf_get_double(&out->factor, weights, KEY("scaling.factor")));
    TRY(at_gguf_get_u32(&out->original, weights, KEY("scaling.original_context_length")));
    TRY(at_gguf_get_string(&kind, weights, KEY("scaling.type")));
    out->long_factors[0] = at_weights_find(weights, "rope_factors_short.weight");
    out->long_factors[1] = at_weights_find(weights, "rope_factors_long.weight");
    longer = out->long_factors[0] || out->long_factors[1];
    TRY(gguf_scale(&scale, weights, architecture, strcmp(kind, "yarn") == 0,
                   longer || strcmp(kind, "yarn") == 0));
    if (longer) {
        out->kind = AT_ROPE_LONG;
        out->factor = 1; /* what follows from it is in the file */
        out->attention_factor = scale;
        TRY(gguf_divisors(out, weights));
    } else if (strcmp(kind, "yarn") == 0) {
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

/* The base of longer sequences (NTK-aware scaling by the length, as transformers has it). */
static double dynamic_base(const struct at_rope *r, uint32_t W, uint32_t length)
{
    const double longer = length > r->limit ? (double)length / r->limit : 1;

    return r->theta * pow(r->factor * longer - (r->factor - 1), W / (W - 2.0));
}

uint32_t at_rope_long_from(const struct at_rope *rope)
{
    return rope->kind == AT_ROPE_LONG      ? rope->original
           : rope->kind == AT_ROPE_DYNAMIC ? rope->limit
                                           : 0;
}

AT_CHECKED at_rope_frequencies(double *frequencies, double *scale, const struct at_rope *rope,
                               uint32_t W, uint32_t length)
{
    enum at_status st = AT_OK;
    const struct at_source *s = rope->factors;
    const bool scaled = rope->kind == AT_ROPE_YARN || rope->kind == AT_ROPE_LONG;
    const bool longer = rope->kind == AT_ROPE_LONG && length > rope->original;
    const double base = rope->kind == AT_ROPE_DYNAMIC && length > rope->limit
                            ? dynamic_base(rope, W, length)
                            : rope->theta;
    float *divisors = NULL;

    *scale = scaled ? rope->attention_factor : 1;
    if (rope->kind == AT_ROPE_LONG && rope->n_divisors[longer] != W / 2)
        FAIL(AT_DATA,
             "the %s factors of longrope are %u numbers; expected %u, half of what is "
             "turned of a head",
             longer ? "long" : "short", rope->n_divisors[longer], W / 2);
    for (uint32_t i = 0; i < W / 2; i++) {
        const double plain = pow(base, -2.0 * i / W);
        frequencies[i] = rope->kind == AT_ROPE_LINEAR   ? plain / rope->factor
                         : rope->kind == AT_ROPE_YARN   ? yarn_frequency(rope, plain, i, W)
                         : rope->kind == AT_ROPE_LLAMA3 ? llama3_frequency(rope, plain)
                         : rope->kind == AT_ROPE_LONG   ? plain / (double)rope->divisors[longer][i]
                                                        : plain;
    }
    if (!s)
        goto done;
    if (s->rows * s->cols != W / 2)
        FAIL(AT_DATA, "%s: tensor %s has %llu values; expected %u, half a head", s->file, s->name,
             (unsigned long long)(s->rows * s->cols), W / 2);
    TRY(at_alloc(&divisors, W / 2, sizeof *divisors));
    TRY(at_source_floats(divisors, s));
    for (uint32_t i = 0; i < W / 2; i++) {
        if (!(divisors[i] > 0))
            FAIL(AT_DATA, "%s: tensor %s: value %u is %g; expected more than 0", s->file, s->name,
                 i, (double)divisors[i]);
        frequencies[i] /= (double)divisors[i];
    }
done:
    at_free(&divisors);
    return st;
}
