// One vocabulary chunk of the fused head: running log-sum-exp, entropy sum, arg-max and target logit
// of each row, and with WITH_U e^(z - m) in place of the logits z for the product that accumulates U.
//   m' = max(m, max z); s = e^(m - m'); l' = s l + sum e^(z - m');
//   t' = s (t + (m - m') l) + sum (z - m') e^(z - m')      (entropy = log l - t / l)
//   q' = s^2 q + sum e^(2 (z - m'))                         (sum of p^2 = q / l^2)
// z (R, n): ids v0 ... v0 + n; u (R, C): scaled by s, WITH_U only. state (R, 8): m, l, t, sum of z, arg-max
// id, target logit, q, 0 (ids are exact in f32 below 2^24). `first`: no state yet, and u is not read.
// Mapping: a workgroup takes a row at a time. Shared: 20 * WG bytes; none with -DLANES, where the workgroup is a
// subgroup. The sums have the same bits with and without WITH_U.
// Online softmax: Milakov and Gimelshein 2018, arXiv 1805.02867.
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#include "lib/store.glsl"
#include "args.h"
#ifdef LANES
#include "lib/reduce_lanes.glsl"
#else
#include "lib/reduce.glsl"
#endif
#include "lib/softcap.glsl"

layout(constant_id = 1) const uint CAP = 0; // 1: logits are soft-capped at p.cap
layout(constant_id = 2) const uint WITH_U = 0;
layout(push_constant) uniform push { head_chunk_args p; };
INOUT(0, z)
layout(binding = 1, std430) buffer inout_u { vec4 u[]; };
layout(binding = 2, std430) buffer inout_state { float state[]; };
layout(binding = 3, std430) readonly buffer in_targets { int targets[]; };
#ifdef TEXELS
layout(binding = 4) uniform samplerBuffer z4; // z for reading
#define RAW_Z(i) texelFetch(z4, int(i))
#else
#define RAW_Z(i) z[i]
#endif
#define LOAD_Z(i) (CAP != 0 ? SOFTCAP(RAW_Z(i), p.cap) : RAW_Z(i))

#define INF uintBitsToFloat(0x7f800000u)

bvec4 used(uint c) { return lessThan(4 * c + uvec4(0, 1, 2, 3), uvec4(p.n)); }

// Largest z of the row and its lowest id.
vec2 find_top(uint begin, uint end)
{
    float best[PARTS], id[PARTS];

    [[unroll]] for (int j = 0; j < PARTS; j++) {
        best[j] = -INF;
        id[j] = 0.0;
    }
    uint c0 = gl_LocalInvocationIndex;
    do {
        [[unroll]] for (int j = 0; j < PARTS; j++) {
            const uint c = c0 + j * gl_WorkGroupSize.x;
            const vec4 v = mix(vec4(-INF), LOAD_Z(begin + min(c, end - 1)), used(c));
            const float top = max(max(v.x, v.y), max(v.z, v.w));

            if (top > best[j]) {
                best[j] = top;
                id[j] = float(p.v0 + 4 * c + (v.x == top ? 0u : v.y == top ? 1u : v.z == top ? 2u : 3u));
            }
        }
    } while ((c0 += WG) - gl_LocalInvocationIndex < end);
    const float top = reduce_max(best);
    [[unroll]] for (int j = 0; j < PARTS; j++)
        id[j] = best[j] == top ? -id[j] : -INF;
    return vec2(top, -reduce_max(id));
}

// Sums over the row of e, (z - m) e, z and e^2, where e = e^(z - m); WITH_U, e times the slope of the cap
// replaces z.
vec4 sums_of(uint begin, uint end, float m)
{
    vec4 sums[PARTS]; // of turns that all lanes leave together

    [[unroll]] for (int j = 0; j < PARTS; j++) sums[j] = vec4(0);
    uint c0 = gl_LocalInvocationIndex;
    do {
        [[unroll]] for (int j = 0; j < PARTS; j++) {
            const uint c = c0 + j * gl_WorkGroupSize.x, at = begin + min(c, end - 1);
            const vec4 raw = mix(vec4(0), LOAD_Z(at), used(c)), v = raw - m;
            const vec4 e = mix(vec4(0), exp(v), used(c));

            if (WITH_U != 0)
                STORE(z, c < end, at, CAP != 0 ? e * SOFTCAP_SLOPE(raw, p.cap) : e);
            if (c < end)
                sums[j] += vec4(dot(e, vec4(1)), dot(v, e), dot(raw, vec4(1)), dot(e, e));
        }
    } while ((c0 += WG) - gl_LocalInvocationIndex < end);
    return reduce_sum(sums);
}

void main()
{
    const uint lane = gl_LocalInvocationIndex;

    for (uint row = gl_WorkGroupID.x; row < p.R; row += gl_NumWorkGroups.x) {
        const uint begin = row * p.ldz / 4, end = (p.n + 3) / 4, at = 8 * row;
        const uint target = uint(targets[row]) - p.v0; // wraps when below the chunk
        const bool first = p.first != 0;

        if (target < p.n && target / 4 % gl_WorkGroupSize.x == lane) // by the lane that puts e in its place or hands it down
            state[at + 5] = LOAD_Z(begin + target / 4)[target % 4];
        const vec2 top = find_top(begin, end);
        const float m0 = first ? top.x : state[at], m = larger(m0, top.x);
        const float s = first ? 0.0 : exp(m0 - m);
        const vec4 sums = sums_of(begin, end, m);

        if (WITH_U != 0 && !first && m != m0)
            for (uint c = lane; c < (p.C + 3) / 4; c += gl_WorkGroupSize.x)
                u[row * p.ldu / 4 + c] *= s;
        if (lane == 0) {
            const float l0 = first ? 0.0 : state[at + 1], t0 = first ? 0.0 : state[at + 2];

            state[at] = m;
            state[at + 1] = s * l0 + sums.x;
            state[at + 2] = s * (t0 + (m0 - m) * l0) + sums.y;
            state[at + 3] = (first ? 0.0 : state[at + 3]) + sums.z;
            if (first || top.x > m0)
                state[at + 4] = top.y;
            state[at + 6] = (first ? 0.0 : s * s * state[at + 6]) + sums.w;
        }
    }
}
