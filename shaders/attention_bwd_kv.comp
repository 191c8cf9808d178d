// Interval attention, gradients of keys and values, which the queries j <= t < query_end[j] read, from
// one block of queries. With s, lse of attention_fwd.comp:
//   p = exp(s - lse);  ds = scale p (d_o v^T - dsum) [slope of the cap];  dv[j] = sum p[t][j] d_o[t];  dk[j] = sum ds[t][j] q[t]
// q, d_o (n_t, H * D) and lse, dsum (n_t, H) from query t0 on; k, v, dk, dv (n_keys, G * D) and query_end
// (n_keys) from key key0 on; intervals (n_t) are read with WINDOW. ds is not written: attention_bwd_q.comp computes the scores again.
// Mapping: workgroup (x, y, z) = TILE keys, a kv head, a slice of D. The columns of its score tiles are
// the (query, head) pairs of the kv head in stream order. Shared: 18 KiB.
// FlashAttention-2, arXiv 2307.08691. Each output belongs to one workgroup, so no atomics.
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/attention.glsl"
#include "lib/attention_keys.glsl"

layout(push_constant) uniform push { attention_bwd_args p; };
layout(binding = 0, std430) buffer out_dk { vec4 dk[]; };
layout(binding = 1, std430) buffer out_dv { vec4 dv[]; };
layout(binding = 2, std430) readonly buffer in_q { vec4 q[]; };
layout(binding = 3, std430) readonly buffer in_k { vec4 k4[]; };
layout(binding = 4, std430) readonly buffer in_v { vec4 v4[]; };
layout(binding = 5, std430) readonly buffer in_do { vec4 d_o[]; };
layout(binding = 6, std430) readonly buffer in_lse { float lse[]; };
layout(binding = 7, std430) readonly buffer in_dsum { float dsum[]; };
layout(binding = 8, std430) readonly buffer in_query_end { int query_end[]; };
layout(binding = 10, std430) readonly buffer in_intervals { ivec4 intervals[]; };

shared float weight_v[TILE][TILE + 1], weight_k[TILE][TILE + 1];
shared int ends[TILE];

// Of a query of the block and one of the keys that it may read.
bool in_window(uint query, int key)
{
    if (WINDOW == 0)
        return true;
    const ivec4 i = intervals[min(query, p.n_t - 1)];
    return key >= window_begin(i, key < i.y ? 0 : 1, p.window);
}

void main()
{
    const uint lane = gl_LocalInvocationIndex, tx = lane % 8, ty = lane / 8, row4 = lane / 16 * 4;
    vec4 sum_k[4][GROUPS], sum_v[4][GROUPS];
    int last = 0;

    g = p.g0 + gl_WorkGroupID.y;
    keys_begin = gl_WorkGroupID.x * TILE;
    keys_end = min(keys_begin + TILE, p.n_keys);
    if (lane < TILE)
        ends[lane] = keys_begin + lane < keys_end ? query_end[keys_begin + lane] : 0;
    FOR(i, 4) FOR(c, GROUPS) sum_k[i][c] = sum_v[i][c] = vec4(0);
    barrier();
    for (uint i = 0; i < TILE; i++)
        last = max(last, ends[i]);
    const uint first = max(p.key0 + keys_begin, p.t0) - p.t0;
    cols_end = uint(clamp(last - int(p.t0), 0, int(p.n_t))) * R;
    for (col0 = first * R; col0 < cols_end; col0 += TILE) {
        vec4 s[2], t[2];

        SCORES(s, LOAD_K, LOAD_Q)
        SCORES(t, LOAD_V, LOAD_DO)
        FOR(j, 4) {
            const uint col = col0 + tx + 8 * j, query = query_at(col);
            const bool inside = col < cols_end;
            const float lse2 = inside ? lse[query * p.H + head_at(col)] * LOG2E : 0.0;
            const float sums = inside ? dsum[query * p.H + head_at(col)] : 0.0;

            FOR(i, 2) {
                const uint r = 2 * ty + i;
                const int key = int(p.key0 + keys_begin + r);
                const bool on = int(p.t0 + query) >= key && int(p.t0 + query) < ends[r] && in_window(query, key);
                const float e = exp2_neg(on ? CAPPED(s[i][j]) - lse2 : MASKED);
                weight_v[r][tx + 8 * j] = e;
                weight_k[r][tx + 8 * j] = e * (t[i][j] - sums) * p.scale * SLOPE(s[i][j]);
            }
        }
        barrier();
        const uint n = min(TILE, cols_end - col0);
        WEIGHTED_SUM(sum_v, weight_v, n, LOAD_DO)
        WEIGHTED_SUM(sum_k, weight_k, n, LOAD_Q)
    }
    FOR(i, 4) FOR(c, GROUPS)
        if (keys_begin + row4 + i < keys_end && col4(c) < D4) {
            const uint at_k = ((keys_begin + row4 + i) * p.lddk + g * D) / 4 + col4(c);
            const uint at_v = ((keys_begin + row4 + i) * p.lddv + g * D) / 4 + col4(c);

            dk[at_k] = sum_k[i][c] + (p.accumulate != 0 ? dk[at_k] : vec4(0));
            dv[at_v] = sum_v[i][c] + (p.accumulate != 0 ? dv[at_v] : vec4(0));
        }
}
