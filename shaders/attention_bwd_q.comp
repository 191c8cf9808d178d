// Interval attention, gradient of the queries, from one block of keys. With s, lse of attention_fwd.comp:
//   p = exp(s - lse);  ds = scale p (d_o v^T - dsum) [slope of the cap];  dq[t] = sum_j ds[t][j] k[j]
// q, d_o, dq (n_t, H * D), lse, dsum (n_t, H) and intervals (n_t) ivec4 from query t0 on; k, v (n_keys,
// G * D) from key key0 on. An empty interval gives 0. ds is not read.
// Mapping and masks as in attention_fwd.comp. Shared: 14 KiB.
// FlashAttention-2, arXiv 2307.08691; s is computed again so that no T x T tensor exists.
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/attention.glsl"
#include "lib/attention_rows.glsl"

layout(push_constant) uniform push { attention_bwd_args p; };
layout(binding = 0, std430) buffer out_dq { vec4 dq[]; };
layout(binding = 1, std430) readonly buffer in_q { vec4 q[]; };
layout(binding = 2, std430) readonly buffer in_k { vec4 k4[]; };
layout(binding = 3, std430) readonly buffer in_v { vec4 v4[]; };
layout(binding = 4, std430) readonly buffer in_do { vec4 d_o[]; };
layout(binding = 5, std430) readonly buffer in_lse { float lse[]; };
layout(binding = 6, std430) readonly buffer in_dsum { float dsum[]; };
layout(binding = 7, std430) readonly buffer in_intervals { ivec4 intervals[]; };

shared float weight[TILE][TILE + 1];

row_tile tile;
int base, stop; // keys of this turn, counted from key0

vec4 load_q(uint r, uint d)
{
    uint pos, head;
    return row_at(tile, r, pos, head) ? q[(pos * p.ldq + head * D) / 4 + d] : vec4(0);
}
vec4 load_do(uint r, uint d)
{
    uint pos, head;
    return row_at(tile, r, pos, head) ? d_o[(pos * p.lddo + head * D) / 4 + d] : vec4(0);
}

void main()
{
    const uint lane = gl_LocalInvocationIndex, tx = lane % 8, ty = lane / 8, row4 = lane / 16 * 4;
    uint pos = gl_WorkGroupID.x * POSITIONS, n, at, head;
    float lse2[2], sums[2];
    vec4 sum[4][GROUPS];
    ivec4 first;
    int last;

    tile = make_row_tile(pos, p.n_t, p.g0);
    if (lane < TILE && pos + lane < tile.end)
        tile_intervals[lane] = intervals[pos + lane];
    FOR(i, 2) {
        const bool used = row_at(tile, 2 * ty + i, at, head);
        lse2[i] = used ? lse[at * p.H + head] * LOG2E : 0.0;
        sums[i] = used ? dsum[at * p.H + head] : 0.0;
    }
    FOR(i, 4) FOR(c, GROUPS) sum[i][c] = vec4(0);
    barrier();
    while (next_segment(tile, pos, n, first, last)) {
        for (uint part = 0; part < 2; part++) {
            int row_begin[2], row_end[2], from = part == 0 ? first.x : first.z;

            FOR(i, 2) row_end[i] = row_stop(tile, 2 * ty + i, pos, n, part) - int(p.key0);
            FOR(i, 2) row_begin[i] = row_start(tile, 2 * ty + i, part, p.window) - int(p.key0);
            if (WINDOW != 0) // the segment's first row in the tile reaches furthest back
                from = window_begin(tile_intervals[pos - tile.pos0], part, p.window);
            stop = min((part == 0 ? first.y : last) - int(p.key0), int(p.n_keys));
            for (base = max(from - int(p.key0), 0); base < stop; base += TILE) {
                vec4 s[2], t[2];

                SCORES(s, load_q, LOAD_K)
                SCORES(t, load_do, LOAD_V)
                FOR(i, 2) FOR(j, 4) {
                    const int key = base + int(tx + 8 * j);
                    const bool on = key < row_end[i] && key >= row_begin[i];
                    const float e = exp2_neg(on ? CAPPED(s[i][j]) - lse2[i] : MASKED);
                    weight[2 * ty + i][tx + 8 * j] = e * (t[i][j] - sums[i]) * p.scale * SLOPE(s[i][j]);
                }
                barrier();
                WEIGHTED_SUM(sum, weight, min(TILE, uint(stop - base)), LOAD_K)
            }
        }
        pos += n;
    }
    FOR(i, 4) FOR(c, GROUPS)
        if (row_at(tile, row4 + i, at, head) && col4(c) < D4) {
            const uint to = (at * p.lddq + head * D) / 4 + col4(c);

            dq[to] = sum[i][c] + (p.accumulate != 0 ? dq[to] : vec4(0));
        }
}
