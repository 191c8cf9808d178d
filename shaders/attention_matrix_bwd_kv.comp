// attention_bwd_kv.comp on matrix units (VK_KHR_cooperative_matrix), heads up to 128 wide:
//   p = exp(s - lse);  ds = scale p (d_o v^T - dsum) [slope of the cap];  dv[j] = sum p[t][j] d_o[t];  dk[j] = sum ds[t][j] q[t]
// q, k, v, d_o, p times d_o's and ds times q's exponent are rounded to halves, everything else is f32.
// Mapping: grid and columns as there, tiles as in lib/attention_matrix.glsl: rows k and v, columns q and
// d_o of (query, head) pairs; of a pair of subgroups the first multiplies k with q, the second v with d_o.
// FlashAttention-2, arXiv 2307.08691. Each output belongs to one workgroup, so no atomics.
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
layout(binding = 9, std430) readonly buffer in_intervals { ivec4 intervals[]; };

shared int ends[TILE];
shared float col_lse2[COLS], col_sums[COLS];

#define STORE_TO(x, ld, r, d, v)                                                \
    if (keys_begin + (r) < keys_end) {                                          \
        const uint to = ((keys_begin + (r)) * (ld) + g * D) / 4 + (d);          \
        x[to] = v + (p.accumulate != 0 ? x[to] : vec4(0));                      \
    }
void store_dk(uint r, uint d, vec4 v) { STORE_TO(dk, p.lddk, r, d, v) }
void store_dv(uint r, uint d, vec4 v) { STORE_TO(dv, p.lddv, r, d, v) }

// Of a key and a column of the block: whether the query reads the key
bool reads(int key, int end, uint col)
{
    const uint query = query_at(col);
    const int t = int(p.t0 + query);

    if (WINDOW != 0) {
        const ivec4 i = intervals[min(query, p.n_t - 1)];
        if (key < window_begin(i, key < i.y ? 0 : 1, p.window))
            return false;
    }
    return col < cols_end && t >= key && t < end;
}

// Scores to weights: p times 2^(exponent of d_o), ds times 2^(exponent of q)
void weigh(inout float e_v, inout float e_k)
{
    const int key = int(p.key0 + keys_begin + ROW), end = ends[ROW];
    float w_v[CPT], w_k[CPT];

    FOR(j, CPT) {
        const uint c = COL + j;
        const float s = SCORE_AT(0, c) * power(row_exp[ROW]) * power(col_exp[c]);
        const float t = SCORE_AT(1, c) * power(row_exp[TILE + ROW]) * power(col_exp[COLS + c]);
        const float weight = exp2_neg(reads(key, end, col0 + c) ? CAPPED(s) - col_lse2[c] : MASKED);

        w_v[j] = weight * power(col_exp[COLS + c]);
        w_k[j] = weight * (t - col_sums[c]) * p.scale * SLOPE(s) * power(col_exp[c]);
    }
    SYNC_SUBGROUP(); // the row's scores are read
    WEIGH(w_k, e_k, 0.0, 0)
    WEIGH(w_v, e_v, 0.0, 1)
}

void main()
{
    SUM sum_k[SUMS], sum_v[SUMS];
    float e_k = LEAST_EXP, e_v = LEAST_EXP;
    int last = 0;

    g = p.g0 + gl_WorkGroupID.y;
    keys_begin = gl_WorkGroupID.x * TILE;
    keys_end = min(keys_begin + TILE, p.n_keys);
    if (LANE < TILE)
        ends[LANE] = keys_begin + LANE < keys_end ? query_end[keys_begin + LANE] : 0;
    FOR(i, SUMS) sum_k[i] = sum_v[i] = SUM(0.0);
    STAGE(rows, 0, row_exp, 0, TILE, LOAD_K)
    STAGE(rows, TILE * STRIDE, row_exp, TILE, TILE, LOAD_V)
    barrier();
    for (uint i = 0; i < TILE; i++)
        last = max(last, ends[i]);
    cols_end = uint(clamp(last - int(p.t0), 0, int(p.n_t))) * R;
    for (col0 = (max(p.key0 + keys_begin, p.t0) - p.t0) * R; col0 < cols_end; col0 += COLS) {
        STAGE(cols, 0, col_exp, 0, COLS, LOAD_Q)
        STAGE(cols, COLS * STRIDE, col_exp, COLS, COLS, LOAD_DO)
        if (LANE < COLS) {
            const uint col = col0 + LANE, at = query_at(col) * p.H + head_at(col);

            col_lse2[LANE] = col < cols_end ? lse[at] * LOG2E : 0.0;
            col_sums[LANE] = col < cols_end ? dsum[at] : 0.0;
        }
        barrier();
        PRODUCT(SIDE, SIDE, SIDE, 0, COLS / TN)
        barrier();
        weigh(e_v, e_k);
        barrier();
        ACCUMULATE(sum_k, 0, 0)
        ACCUMULATE(sum_v, 1, 1)
        barrier();
    }
    if (COL == 0) {
        factor[ROW] = power(int(e_k));
        factor[TILE + ROW] = power(int(e_v));
    }
    barrier();
    WRITE(sum_k, 0, rows, store_dk)
    barrier();
    WRITE(sum_v, 1, rows, store_dv)
}
