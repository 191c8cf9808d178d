// Interval attention, forward. For the keys j in [prefix_begin, prefix_end) and [seg_begin, key_end):
//   s[t][j] = scale q[t] . k[j], soft-capped with CAP;  p = softmax_j(s);  o[t] = sum_j p v[j];  lse[t] = ln sum_j exp(s[t][j])
// q, o (T, H * D), k, v (n_keys, G * D), lse (T, H), intervals (T) ivec4; empty: o and lse are 0.
// Mapping: workgroup (x, y, z) = positions, a part of a kv head's query heads, a slice of D; key tiles
// begin at prefix_begin and seg_begin. Rows of a tile's other segments are masked, which is exact
// (exp2_neg(0) = 1, exp2_neg(-huge) = 0): a row's bits do not depend on its neighbours as long as
// these are finite. Shared: 15 KiB. FlashAttention-2, arXiv 2307.08691.
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/attention.glsl"
#include "lib/attention_rows.glsl"
#include "lib/larger.glsl"

layout(push_constant) uniform push { attention_fwd_args p; };
layout(binding = 0, std430) writeonly buffer out_o { vec4 o[]; };
layout(binding = 1, std430) writeonly buffer out_lse { float lse[]; };
layout(binding = 2, std430) readonly buffer in_q { vec4 q[]; };
layout(binding = 3, std430) readonly buffer in_k { vec4 k4[]; };
layout(binding = 4, std430) readonly buffer in_v { vec4 v4[]; };
layout(binding = 5, std430) readonly buffer in_intervals { ivec4 intervals[]; };

shared float weight[TILE][TILE + 1], part_max[TILE][4], factor[TILE];

const float NONE = -1e20; // the maximum before the first key

row_tile tile;
int base, stop; // keys of this turn

vec4 load_q(uint r, uint d)
{
    uint pos, head;
    return row_at(tile, r, pos, head) ? q[(pos * p.ldq + head * D) / 4 + d] : vec4(0);
}
#define LOAD_V_BEFORE_STOP(k, d) v4[(uint(base + int(k)) * p.ldv + tile.g * D) / 4 + (d)]

// Softmax of the tile's scores with running maximum m and sum l of row i / 4; this invocation has a
// quarter of the row's columns and of its sum. weight becomes p, factor what earlier sums shrink by.
void update_softmax(inout float m, inout float l)
{
    const uint row = gl_LocalInvocationIndex / 4, quarter = gl_LocalInvocationIndex % 4;
    float top = NONE;

    FOR(j, TILE / 4) top = larger(top, weight[row][quarter * 8 + j]);
    part_max[row][quarter] = top;
    barrier();
    top = m;
    FOR(j, 4) top = larger(top, part_max[row][j]);
    const float shrink = exp2_neg(m - top);
    l *= shrink;
    FOR(j, TILE / 4) {
        const float e = exp2_neg(weight[row][quarter * 8 + j] - top);
        weight[row][quarter * 8 + j] = e;
        l += e;
    }
    m = top;
    if (quarter == 0)
        factor[row] = shrink;
    barrier();
}

void main()
{
    const uint lane = gl_LocalInvocationIndex, tx = lane % 8, ty = lane / 8, row4 = lane / 16 * 4;
    float m = NONE, l = 0.0;
    vec4 sum[4][GROUPS];
    uint pos = gl_WorkGroupID.x * POSITIONS, n;
    ivec4 first;
    int last;

    tile = make_row_tile(pos, p.T, 0);
    if (lane < TILE && pos + lane < tile.end)
        tile_intervals[lane] = intervals[pos + lane];
    FOR(i, 4) FOR(c, GROUPS) sum[i][c] = vec4(0);
    barrier();
    while (next_segment(tile, pos, n, first, last)) {
        for (uint part = 0; part < 2; part++) {
            const int low = row_stop(tile, 2 * ty, pos, n, part);
            const int high = row_stop(tile, 2 * ty + 1, pos, n, part);
            const int low0 = row_start(tile, 2 * ty, part, p.window);
            const int high0 = row_start(tile, 2 * ty + 1, part, p.window);
            int from = part == 0 ? first.x : first.z;

            stop = part == 0 ? first.y : last;
            // The segment's first row in the tile reaches furthest back. Key tiles lie at multiples of
            // TILE from the interval's begin, so that a row's sums do not depend on the others'.
            if (WINDOW != 0)
                from += (window_begin(tile_intervals[pos - tile.pos0], part, p.window) - from) / TILE * TILE;
            for (base = from; base < stop; base += TILE) {
                vec4 s[2];

                SCORES(s, load_q, LOAD_K)
                FOR(j, 4) {
                    const int key = base + int(tx + 8 * j);
                    weight[2 * ty][tx + 8 * j] = key < low && key >= low0 ? CAPPED(s[0][j]) : MASKED;
                    weight[2 * ty + 1][tx + 8 * j] = key < high && key >= high0 ? CAPPED(s[1][j]) : MASKED;
                }
                barrier();
                update_softmax(m, l);
                FOR(i, 4) FOR(c, GROUPS) sum[i][c] *= factor[row4 + i];
                WEIGHTED_SUM(sum, weight, min(TILE, uint(stop - base)), LOAD_V_BEFORE_STOP)
            }
        }
        pos += n;
    }
    barrier();
    part_max[lane / 4][lane % 4] = l;
    barrier();
    uint at, head;
    const uint r = lane / 4;
    l = part_max[r][0] + part_max[r][1] + part_max[r][2] + part_max[r][3];
    if (lane % 4 == 0 && row_at(tile, r, at, head) && gl_WorkGroupID.z == 0)
        lse[at * p.H + head] = l == 0.0 ? 0.0 : (m + log2(l)) * 0.69314718;
    if (lane % 4 == 0)
        factor[r] = l == 0.0 ? 0.0 : 1.0 / l;
    barrier();
    FOR(i, 4) FOR(c, GROUPS)
        if (row_at(tile, row4 + i, at, head) && col4(c) < D4)
            o[(at * p.ldo + head * D) / 4 + col4(c)] = sum[i][c] * factor[row4 + i];
}
