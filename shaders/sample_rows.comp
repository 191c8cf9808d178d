// The next token of each row of logits z (R, V): engine/ops/sampling.h says by which rules.
// out (R): id; bits of the f32 log-prob of the id under softmax(z); lowest id whose logit is not finite, or
// -1; 0. rows (R). seen (slots, SEEN_WORDS): bits of the ids that are penalised, read and written with PENALTY
// alone. stop (n_stop) ids that a row with `holds` may not take.
// The kept set is found by halving: the largest value above which there are at least top_k ids, or the
// share top_p of the weights, then, of equal ones, the highest id. Passes over z: 4 where the temperature
// is 0, else 4 and up to 32 for each of top_k and top_p. The draw is one Philox number, counter (sample, 4,
// prompt, position), in the order of invocations and of ids within each.
// Mapping: a workgroup takes a row at a time. Shared: 24 * WG bytes.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/philox.glsl"
#include "lib/reduce.glsl"

layout(constant_id = 1) const uint PENALTY = 0;
layout(push_constant) uniform push { sample_args p; };
layout(binding = 0, std430) writeonly buffer out_token { ivec4 token[]; };
#ifdef TEXELS
layout(binding = 1) uniform samplerBuffer z;
#define RAW(i) texelFetch(z, int(i))
#else
layout(binding = 1, std430) readonly buffer in_z { vec4 z[]; };
#define RAW(i) z[i]
#endif
layout(binding = 2, std430) readonly buffer in_rows { sample_row rows[]; };
layout(binding = 3, std430) buffer inout_seen { uint seen[]; };
layout(binding = 4, std430) readonly buffer in_stop { int stop[]; };

#define INF uintBitsToFloat(0x7f800000u)
#define RNG_USE 4u // AT_RNG_SAMPLE of engine/base/rng.h
#define SEEN_WORDS ((p.V + 127) / 128 * 4) // of a slot: at_sample_seen_words()
#define FOR_ROW(c) for (uint c = gl_LocalInvocationIndex; c < (p.V + 3) / 4; c += WG)

sample_row me;
uint begin; // of the row in z, in vec4
float top;  // largest value

shared float lane_sum[WG];
shared uint owner;
shared float rest;

bvec4 used(uint c) { return lessThan(4 * c + uvec4(0, 1, 2, 3), uvec4(p.V)); }

// Logits of ids 4 c ... 4 c + 3 as the choice sees them: -inf beyond V and where a row may not stop
vec4 values(uint c)
{
    vec4 v = mix(vec4(-INF), RAW(begin + c), used(c));

    if (PENALTY != 0) {
        const uint bits = seen[me.slot * SEEN_WORDS + c / 8] >> (4 * c % 32);

        for (uint e = 0; e < 4; e++)
            if ((bits >> e & 1) != 0)
                v[e] = v[e] > 0.0 ? v[e] / p.penalty : v[e] * p.penalty;
    }
    if (me.holds != 0)
        for (uint i = 0; i < p.n_stop; i++)
            if (uint(stop[i]) / 4 == c)
                v[stop[i] % 4] = -INF;
    return v;
}

// Unsigned numbers that order as the floats do
uvec4 keys(vec4 v)
{
    const uvec4 b = floatBitsToUint(v);

    return b ^ mix(uvec4(0x80000000u), uvec4(0xffffffffu), lessThan(ivec4(b), ivec4(0)));
}

uint key_of(float v) { return keys(vec4(v)).x; }

vec4 weights(vec4 v) { return exp((v - top) / p.temperature); }

// What is kept: keys above `key`, and equal ones up to id `last`
struct kept { uint key, last; };

bvec4 keeps(kept k, uvec4 key, uint c)
{
    bvec4 b = greaterThan(key, uvec4(k.key));

    for (uint e = 0; e < 4; e++)
        b[e] = b[e] || (key[e] == k.key && 4 * c + e <= k.last);
    return b;
}

// Number and weight of what both keep
vec2 size_of(kept a, kept b, bool weighed)
{
    vec2 sum = vec2(0);

    FOR_ROW(c) {
        const vec4 v = values(c);
        const uvec4 key = keys(v);
        const bvec4 in_a = keeps(a, key, c), in_b = keeps(b, key, c);
        const vec4 one = vec4(in_a) * vec4(in_b) * vec4(used(c));

        sum.x += dot(one, vec4(1));
        if (weighed)
            sum.y += dot(mix(vec4(0), weights(v), greaterThan(one, vec4(0))), vec4(1));
    }
    return reduce_sum(vec4(sum, 0, 0)).xy;
}

// The fewest of `all`, likeliest first and lowest id first among equal ones, whose number (weighed: weight)
// is at least `enough`
kept cut(kept all, float enough, bool weighed)
{
    uint low = all.key, high = key_of(top) + 1; // `low` keeps enough, `high` does not
    uint first = 0, last = p.V - 1;

    while (high - low > 1) {
        const uint middle = low + (high - low) / 2;
        const vec2 n = size_of(all, kept(middle, p.V), weighed);

        if ((weighed ? n.y : n.x) >= enough)
            low = middle;
        else
            high = middle;
        if (!weighed && n.x == enough)
            return kept(low, low == all.key ? all.last : p.V);
    }
    if (size_of(all, kept(low, p.V), false).x - size_of(all, kept(low + 1, p.V), false).x <= 1.0)
        return kept(low, low == all.key ? all.last : p.V);
    while (first < last) { // of equal ones, the lowest id with which there is enough
        const uint middle = first + (last - first) / 2;
        const vec2 n = size_of(all, kept(low, middle), weighed);

        if ((weighed ? n.y : n.x) >= enough)
            last = middle;
        else
            first = middle + 1;
    }
    return kept(low, low == all.key ? min(last, all.last) : last);
}

kept choices()
{
    kept k = kept(key_of(-INF) + 1, p.V);

    if (p.top_k > 0 && p.top_k < p.V)
        k = cut(k, float(p.top_k), false);
    if (p.top_p < 1.0)
        k = cut(k, p.top_p * size_of(k, k, true).y, true);
    if (p.min_p > 0.0) {
        const uint key = key_of(top + p.temperature * log(p.min_p));

        if (key > k.key)
            k = kept(key, p.V);
    }
    return k;
}

vec4 kept_weights(kept k, uint c)
{
    const vec4 v = values(c);

    return mix(vec4(0), weights(v), keeps(k, keys(v), c));
}

int draw(kept k)
{
    const uint lane = gl_LocalInvocationIndex;
    float sum = 0.0;

    FOR_ROW(c) sum += dot(kept_weights(k, c), vec4(1));
    barrier(); // what the row before wrote has been read
    lane_sum[lane] = sum;
    barrier();
    if (lane == 0) {
        const uvec4 random = philox(uvec4(me.sample_index, RNG_USE, me.prompt, me.position), uvec2(p.key0, p.key1));
        float total = 0.0;

        for (uint i = 0; i < WG; i++)
            total += lane_sum[i];
        total *= float(random.x >> 8) * (1.0 / 16777216.0); // in [0, 1)
        for (uint i = 0; i < WG; i++) {
            if (lane_sum[i] <= 0.0)
                continue;
            owner = i;
            rest = total;
            if (total < lane_sum[i])
                break;
            total -= lane_sum[i];
        }
    }
    barrier();
    float left = rest;
    int id = -1;
    if (lane == owner)
        FOR_ROW(c) {
            const vec4 w = kept_weights(k, c);

            for (uint e = 0; e < 4; e++)
                if (w[e] > 0.0 && left >= 0.0) {
                    id = int(4 * c + e);
                    left -= w[e];
                }
        }
    return int(reduce_max(float(id)));
}

// Lowest id of the largest value
int likeliest()
{
    float id = INF;

    FOR_ROW(c) {
        const vec4 v = values(c);

        for (uint e = 0; e < 4; e++)
            if (v[e] == top && used(c)[e])
                id = min(id, float(4 * c + e));
    }
    return int(-reduce_max(-id));
}

void main()
{
    for (uint r = gl_WorkGroupID.x; r < p.R; r += gl_NumWorkGroups.x) {
        float raw_top = -INF, value_top = -INF, bad = INF, sum = 0.0;

        begin = r * p.ldz / 4;
        me = rows[r];
        FOR_ROW(c) {
            const vec4 raw = RAW(begin + c), v = values(c);

            for (uint e = 0; e < 4; e++)
                if (used(c)[e]) {
                    if (isnan(raw[e]) || isinf(raw[e]))
                        bad = min(bad, float(4 * c + e));
                    raw_top = max(raw_top, raw[e]);
                    value_top = max(value_top, v[e]);
                }
        }
        raw_top = reduce_max(raw_top);
        top = reduce_max(value_top);
        bad = -reduce_max(-bad);
        int id = 0;
        if (bad == INF) {
            FOR_ROW(c) sum += dot(mix(vec4(0), exp(RAW(begin + c) - raw_top), used(c)), vec4(1));
            sum = reduce_sum(sum);
            id = p.temperature > 0.0 ? draw(choices()) : likeliest();
        }
        if (gl_LocalInvocationIndex == 0) {
            const float logp = RAW(begin + uint(id) / 4)[id % 4] - raw_top - log(sum);

            token[r] = ivec4(id, floatBitsToInt(logp), bad == INF ? -1 : int(bad), 0);
            if (PENALTY != 0)
                seen[me.slot * SEEN_WORDS + uint(id) / 32] |= 1u << (id % 32);
        }
    }
}
