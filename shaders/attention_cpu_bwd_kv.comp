// Interval attention, gradients of keys and values from one block of queries, for CPU Vulkan drivers:
// formula and views as in attention_bwd_kv.comp, mapping as in lib/attention_cpu.glsl. A workgroup takes
// ROWS keys of a kv head in registers; the columns of its score tiles, J a lane, are the (query, head)
// pairs of the kv head in stream order, so that grouped heads need no outer loop. No shared memory.
// ds / scale is kept for attention_cpu_bwd_q.comp, which saves it two of the backward pass's seven
// products: ds (kv heads from g0 on, ldds / C, n_keys, C) with C = 4 * LANES columns, as above from the block's
// first query on, that is, in the order in which that kernel's tiles read it. Columns of queries that read no
// key of a tile may stay unwritten.
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define ADJACENT (CG == 1) // a lane has one group of columns of dk, dv; of ds one always
#include "lib/store.glsl"
#include "args.h"
#include "lib/attention_cpu.glsl"

#define ROWS ATTENTION_CPU_KEYS(LANES, D)
#define GROUPS ((ROWS + LANES - 1) / LANES)
#define J (D > 64 || LANES == 16 ? 4 : 8) // columns a lane
#define COLS (LANES * J)
#define KB 8 // columns of the head width a turn
// Lanes whose columns the last products take a turn; where a shuffle by a variable is a loop, the first ones,
// and then all lanes move up.
#define TURN (LANES == 16 ? 4 : 1)
// Groups of columns of the head width in one loop, of at most 4 loops. All where lanes move: a loop may
// leave them anywhere, and weights and addresses then serve only one.
#define C_TURN (TURN > 1 ? CG : LANES == 8 ? 1 : 2)

layout(push_constant) uniform push { attention_bwd_args p; };
layout(binding = 0, rgba32f) readonly uniform imageBuffer q4;
layout(binding = 1, rgba32f) readonly uniform imageBuffer k4;
layout(binding = 2, rgba32f) readonly uniform imageBuffer v4;
layout(binding = 3, rgba32f) readonly uniform imageBuffer do4;
layout(binding = 4) uniform samplerBuffer lse;
layout(binding = 5) uniform samplerBuffer dsum;
layout(binding = 6) uniform isamplerBuffer query_end;
layout(binding = 7) uniform samplerBuffer dk_before;
layout(binding = 8) uniform samplerBuffer dv_before;
TARGET(9, dk4)
TARGET(10, dv4)
TARGET(11, ds4)

// s[row][j] = sum_d a[row][d] b[column][d]; a_at, b_at: where the vectors begin.
#define PRODUCT(s, a4, a_at, b4, b_at)                                                  \
    {                                                                                   \
        int d = 0;                                                                      \
        do {                                                                            \
            vec4 b[KB / 4][J];                                                          \
            FOR(j, J) FOR(e, KB / 4) b[e][j] = imageLoad(b4, b_at[j] + d + e);          \
            FOR(gr, GROUPS) {                                                           \
                vec4 a[KB / 4];                                                         \
                FOR(e, KB / 4) a[e] = imageLoad(a4, a_at[gr] + d + e);                  \
                FOR(i, LANES) if (gr * LANES + i < ROWS)                                \
                    FOR(e, KB) {                                                        \
                        const float x = subgroupShuffle(a[e / 4][e & 3], i);            \
                        FOR(j, J) s[gr * LANES + i][j] += x * b[e / 4][j][e & 3];       \
                    }                                                                   \
            }                                                                           \
            d += KB / 4;                                                                \
        } while (d < D4);                                                               \
    }

// sum[row][c] += sum_column weight[row][column] x[column][c] of the first n columns, J a lane, for C_TURN of
// c. One loop does not take more, nor dk and dv, for its code should fit the processor's cache of
// instructions: of 20 rows and 8 lanes one for all was 68 KB and took a quarter longer than four. They are
// written out, because a loop around loops is not unrolled.
#define SUM_OF(sum, weight, x4, x_at, C0)                                               \
    if (C0 < CG) {                                                                      \
        int b = 0;                                                                      \
        do {                                                                            \
            FOR(i, TURN) {                                                              \
                const int from = TURN == 1 ? b : i;                                     \
                FOR(c, C_TURN) if (C0 + c < CG) {                                       \
                    vec4 x[J];                                                          \
                    FOR(j, J)                                                           \
                        x[j] = imageLoad(x4, subgroupShuffle(x_at[j], from) + lane * CG + C0 + c); \
                    FOR(r, ROWS) FOR(j, J)                                              \
                        sum[r][C0 + c] += subgroupShuffle(weight[r][j], from) * x[j];   \
                }                                                                       \
            }                                                                           \
            if (TURN > 1) FOR(j, J) {                                                   \
                x_at[j] = FROM_AHEAD(x_at[j], TURN);                                    \
                FOR(r, ROWS) weight[r][j] = FROM_AHEAD(weight[r][j], TURN);             \
            }                                                                           \
            b += TURN;                                                                  \
        } while (b * J < n);                                                            \
    }
#define SUM(sum, weight, x4, x_at)                                                      \
    SUM_OF(sum, weight, x4, x_at, 0) SUM_OF(sum, weight, x4, x_at, C_TURN)              \
    SUM_OF(sum, weight, x4, x_at, (2 * C_TURN)) SUM_OF(sum, weight, x4, x_at, (3 * C_TURN))

void main()
{
    const int lane = int(gl_LocalInvocationID.x), part = int(gl_WorkGroupID.y), g = int(p.g0) + part;
    const int key0 = tile_of(gl_WorkGroupID.x) * ROWS, n_keys = int(p.n_keys), n_t = int(p.n_t);
    const int ldq4 = int(p.ldq) / 4, lddo4 = int(p.lddo) / 4;
    const int ahead = int(p.key0) - int(p.t0); // query of the block that stands at its first key
    const float scale2 = p.scale * LOG2E;
    int ka[GROUPS], va[GROUPS], ends[GROUPS], last = 0; // lane i: key gr * LANES + i
    vec4 dk[ROWS][CG], dv[ROWS][CG];

    FOR(gr, GROUPS) {
        const int key = key0 + gr * LANES + lane;
        const bool ok = gr * LANES + lane < ROWS && key < n_keys;
        ka[gr] = ok ? key * int(p.ldk) / 4 + g * D4 : OUTSIDE;
        va[gr] = ok ? key * int(p.ldv) / 4 + g * D4 : OUTSIDE;
        ends[gr] = ok ? min(texelFetch(query_end, key).x - int(p.t0), n_t) : 0;
        last = max(last, ends[gr]);
    }
    last = max_of_lanes(last);
    FOR(r, ROWS) FOR(c, CG) dk[r][c] = dv[r][c] = vec4(0);

    const int col0 = max(key0 + ahead, 0) * R, cols = last * R - col0; // col0 is a multiple of 4, of 8 with 16 lanes
    int base = 0;
    do { // the first turn may find no column
        int qa[J], oa[J], query[J];
        float lse2[J], sums[J], s[ROWS][J], t[ROWS][J];

        FOR(j, J) {
            const int col = col0 + base + lane * J + j, head = g * R + col % R;
            query[j] = col / R;
            const int from = min(query[j], n_t - 1); // read again where J asks for more
            const int at = from * int(p.H) + head;
            qa[j] = from * ldq4 + head * D4;
            oa[j] = from * lddo4 + head * D4;
            lse2[j] = texelFetch(lse, at).x * LOG2E;
            sums[j] = texelFetch(dsum, at).x;
        }
        FOR(r, ROWS) FOR(j, J) s[r][j] = t[r][j] = 0.0;
        PRODUCT(s, k4, ka, q4, qa)
        PRODUCT(t, v4, va, do4, oa)
        FOR(r, ROWS) {
            const int end = subgroupShuffle(ends[r / LANES], r % LANES);
            FOR(j, J) {
                const bool on = query[j] >= key0 + r + ahead && query[j] < end;
                float slope = 1.0;
                if (CAP != 0) {
                    const float y = SOFTCAP(s[r][j] * p.scale, p.cap);
                    slope = SOFTCAP_SLOPE(y, p.cap);
                    s[r][j] = y / p.scale;
                }
                s[r][j] = exp2_neg(on ? s[r][j] * scale2 - lse2[j] : MASKED);
                t[r][j] = s[r][j] * (t[r][j] - sums[j]) * slope;
            }
        }
        [[unroll]] for (int j = 0; j < J; j += 4) {
            const int col = col0 + base + lane * J + j;
            const int block = col - col % (4 * LANES);
            const int to = ((part * int(p.ldds) + block) * n_keys + col - block) / 4 + key0 * LANES;
            FOR(r, ROWS) if (key0 + r < n_keys)
                STORE(ds4, col - col % 8 < n_t * R, to + r * LANES, vec4(t[r][j], t[r][j + 1], t[r][j + 2], t[r][j + 3]));
        }
        const int n = min(COLS, cols - base);
        SUM(dv, s, do4, oa)
        SUM(dk, t, q4, qa)
        base += COLS;
    } while (base < cols);
    FOR(r, ROWS) if (key0 + r < n_keys)
        FOR(c, CG) {
            const int to_k = (key0 + r) * int(p.lddk) / 4 + g * D4 + lane * CG + c;
            const int to_v = (key0 + r) * int(p.lddv) / 4 + g * D4 + lane * CG + c;
            const vec4 old_k = texelFetch(dk_before, p.accumulate != 0 ? to_k : OUTSIDE);
            const vec4 old_v = texelFetch(dv_before, p.accumulate != 0 ? to_v : OUTSIDE);
            STORE(dk4, HAS_COLUMN(c), to_k, dk[r][c] * p.scale + old_k);
            STORE(dv4, HAS_COLUMN(c), to_v, dv[r][c] + old_v);
        }
}
