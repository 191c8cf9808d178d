// attention_fwd.comp on matrix units (VK_KHR_cooperative_matrix), heads up to 128 wide:
//   s[t][j] = scale q[t] . k[j], soft-capped with CAP;  p = softmax_j(s);  o[t] = sum_j p v[j];  lse[t] = ln sum_j exp(s[t][j])
// q, k, v and p times v's exponent are rounded to halves, everything else is f32.
// Mapping: grid and walk over the keys as there (lib/attention_rows.glsl), tiles as in
// lib/attention_matrix.glsl: rows q, columns k and v; a subgroup computes one half of a tile's scores.
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
#define COLS 32
#define SIDES 1
#include "lib/attention_matrix.glsl"
#include "lib/attention_rows.glsl"
#include "lib/larger.glsl"

layout(push_constant) uniform push { attention_fwd_args p; };
layout(binding = 0, std430) writeonly buffer out_o { vec4 o[]; };
layout(binding = 1, std430) writeonly buffer out_lse { float lse[]; };
layout(binding = 2, std430) readonly buffer in_q { vec4 q[]; };
layout(binding = 3, std430) readonly buffer in_k { vec4 k4[]; };
layout(binding = 4, std430) readonly buffer in_v { vec4 v4[]; };
layout(binding = 5, std430) readonly buffer in_intervals { ivec4 intervals[]; };

const float NONE = -1e20; // the maximum before the first key

row_tile tile;
int base, stop; // keys of this turn

vec4 load_q(uint r, uint d)
{
    uint pos, head;
    return row_at(tile, r, pos, head) ? q[(pos * p.ldq + head * D) / 4 + d] : vec4(0);
}

void store_o(uint r, uint d, vec4 v)
{
    uint pos, head;
    if (row_at(tile, r, pos, head))
        o[(pos * p.ldo + head * D) / 4 + d] = v;
}

// Of a row: the running maximum m of its scores, this invocation's part l of their sum, its exponent e
struct row_state { float m, l, e; };

// Scores of keys in [row_begin, row_end) to weights, p times 2^(exponent of v)
void weigh(inout row_state s, int row_begin, int row_end)
{
    float w[CPT], top = s.m;

    FOR(j, CPT) {
        const int key = base + int(COL + j);
        const float score = SCORE_AT(0, COL + j) * power(row_exp[ROW]) * power(col_exp[COL + j]);

        w[j] = key < row_end && key >= row_begin ? CAPPED(score) : MASKED;
        top = larger(top, w[j]);
    }
    for (uint i = 1; i < LPR; i *= 2)
        top = larger(top, subgroupShuffleXor(top, i));
    s.l *= exp2_neg(s.m - top);
    FOR(j, CPT) {
        w[j] = exp2_neg(w[j] - top);
        s.l += w[j];
        w[j] *= power(col_exp[COLS + COL + j]);
    }
    SYNC_SUBGROUP(); // the row's scores are read
    WEIGH(w, s.e, top - s.m, 0)
    s.m = top;
}

void main()
{
    row_state s = row_state(NONE, 0.0, LEAST_EXP);
    SUM sum[SUMS];
    uint pos = gl_WorkGroupID.x * POSITIONS, n, at, head;
    ivec4 first;
    int last;

    tile = make_row_tile(pos, p.T, 0);
    if (LANE < TILE && pos + LANE < tile.end)
        tile_intervals[LANE] = intervals[pos + LANE];
    FOR(i, SUMS) sum[i] = SUM(0.0);
    STAGE(rows, 0, row_exp, 0, TILE, load_q)
    barrier();
    while (next_segment(tile, pos, n, first, last)) {
        for (uint part = 0; part < 2; part++) {
            const int row_begin = row_start(tile, ROW, part, p.window), row_end = row_stop(tile, ROW, pos, n, part);
            int from = part == 0 ? first.x : first.z;

            stop = part == 0 ? first.y : last;
            // as in attention_fwd.comp: tiles at multiples of COLS from the interval's begin
            if (WINDOW != 0)
                from += (window_begin(tile_intervals[pos - tile.pos0], part, p.window) - from) / COLS * COLS;
            for (base = from; base < stop; base += COLS) {
                STAGE(cols, 0, col_exp, 0, COLS, LOAD_K)
                STAGE(cols, COLS * STRIDE, col_exp, COLS, COLS, LOAD_V)
                barrier();
                PRODUCT(0, 0, 0, SIDE * COLS / 2, COLS / 2 / TN)
                barrier();
                weigh(s, row_begin, row_end);
                barrier();
                ACCUMULATE(sum, 0, 1)
                barrier();
            }
        }
        pos += n;
    }
    const float l = sum_of(s.l, LPR);
    if (COL == 0) {
        factor[ROW] = l == 0.0 ? 0.0 : power(int(s.e)) / l;
        if (row_at(tile, ROW, at, head))
            lse[at * p.H + head] = l == 0.0 ? 0.0 : (s.m + log2(l)) * 0.69314718;
    }
    barrier();
    WRITE(sum, 0, cols, store_o)
}
