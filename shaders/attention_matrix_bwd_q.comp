// attention_bwd_q.comp on matrix units (VK_KHR_cooperative_matrix), heads up to 128 wide:
//   p = exp(s - lse);  ds = scale p (d_o v^T - dsum) [slope of the cap];  dq[t] = sum_j ds[t][j] k[j]
// q, k, v, d_o and ds times k's exponent are rounded to halves, everything else is f32.
// Mapping: grid and walk over the keys as there, tiles as in lib/attention_matrix.glsl: rows q and d_o,
// columns k and v; of a pair of subgroups the first multiplies q with k, the second d_o with v.
// FlashAttention-2, arXiv 2307.08691.
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "args.h"
#define COLS (D > 64 ? 16 : 32)
#define SIDES 2
#include "lib/attention_matrix.glsl"
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

void store_dq(uint r, uint d, vec4 v)
{
    uint pos, head;
    if (!row_at(tile, r, pos, head))
        return;
    const uint to = (pos * p.lddq + head * D) / 4 + d;
    dq[to] = v + (p.accumulate != 0 ? dq[to] : vec4(0));
}

// Scores of keys in [row_begin, row_end) to weights, ds times 2^(exponent of k)
void weigh(inout float e, float lse2, float sums, int row_begin, int row_end)
{
    float w[CPT];

    FOR(j, CPT) {
        const int key = base + int(COL + j);
        const bool on = key < row_end && key >= row_begin;
        const float s = SCORE_AT(0, COL + j) * power(row_exp[ROW]) * power(col_exp[COL + j]);
        const float t = SCORE_AT(1, COL + j) * power(row_exp[TILE + ROW]) * power(col_exp[COLS + COL + j]);

        w[j] = exp2_neg(on ? CAPPED(s) - lse2 : MASKED) * (t - sums) * p.scale * SLOPE(s) * power(col_exp[COL + j]);
    }
    SYNC_SUBGROUP(); // the row's scores are read
    WEIGH(w, e, 0.0, 0)
}

void main()
{
    uint pos = gl_WorkGroupID.x * POSITIONS, n, at, head;
    float e = LEAST_EXP;
    SUM sum[SUMS];
    ivec4 first;
    int last;

    tile = make_row_tile(pos, p.n_t, p.g0);
    if (LANE < TILE && pos + LANE < tile.end)
        tile_intervals[LANE] = intervals[pos + LANE];
    const bool used = row_at(tile, ROW, at, head);
    const float lse2 = used ? lse[at * p.H + head] * LOG2E : 0.0, sums = used ? dsum[at * p.H + head] : 0.0;
    FOR(i, SUMS) sum[i] = SUM(0.0);
    STAGE(rows, 0, row_exp, 0, TILE, load_q)
    STAGE(rows, TILE * STRIDE, row_exp, TILE, TILE, load_do)
    barrier();
    while (next_segment(tile, pos, n, first, last)) {
        for (uint part = 0; part < 2; part++) {
            const int row_end = row_stop(tile, ROW, pos, n, part) - int(p.key0);
            const int row_begin = row_start(tile, ROW, part, p.window) - int(p.key0);
            int from = part == 0 ? first.x : first.z;

            if (WINDOW != 0) // the segment's first row in the tile reaches furthest back
                from = window_begin(tile_intervals[pos - tile.pos0], part, p.window);
            stop = min((part == 0 ? first.y : last) - int(p.key0), int(p.n_keys));
            for (base = max(from - int(p.key0), 0); base < stop; base += int(COLS)) {
                STAGE(cols, 0, col_exp, 0, COLS, LOAD_K)
                STAGE(cols, COLS * STRIDE, col_exp, COLS, COLS, LOAD_V)
                barrier();
                PRODUCT(SIDE, SIDE, SIDE, 0, COLS / TN)
                barrier();
                weigh(e, lse2, sums, row_begin, row_end);
                barrier();
                ACCUMULATE(sum, 0, 0)
                barrier();
            }
        }
        pos += n;
    }
    if (COL == 0)
        factor[ROW] = power(int(e));
    barrier();
    WRITE(sum, 0, rows, store_dq)
}
