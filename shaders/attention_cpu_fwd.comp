// Interval attention, forward, for CPU Vulkan drivers: formula and views as in attention_fwd.comp, mapping
// as in lib/attention_cpu.glsl. A workgroup takes POSITIONS positions times the R query heads of a kv
// head: ROWS rows in registers, J keys a lane; with ALONE, for positions that share no segment, one: the
// same bits. No shared memory.
// The running maximum of row i lies in lane i % LANES, so that one exp2 rescales LANES rows; sums stay
// by lane until the end. A row's keys are one stream: its prefix, then its segment, in tiles of KEYS from
// its first key on, whatever lies beside it. A prompt and the segment right behind it read one stream; a
// tile over several streams visits each with its other rows masked, which is exact (see attention_fwd.comp).
// FlashAttention-2, arXiv 2307.08691.
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define ADJACENT (CG == 1) // a lane has one group of columns
#include "lib/store.glsl"
#include "args.h"
#include "lib/attention_cpu.glsl"

layout(constant_id = 10) const uint ALONE = 0;
#define POSITIONS (ALONE != 0 ? 1 : ATTENTION_CPU_POSITIONS(LANES, D, R))
#define ROWS (POSITIONS * R)
#define GROUPS ((ROWS + LANES - 1) / LANES)
#define J (LANES == 16 || D > 64 ? 2 : R == 7 ? 3 : 4) // keys a lane
#define KEYS (LANES * J)
#define KB 8 // columns of q and k a turn
#define TURN 4 // lanes whose keys p v takes a turn where a shuffle by a variable is a loop (16 lanes)

// o += p v of the keys of lane b, whose p lie in lane `from`.
#define P_V(b, from)                                                                 \
    {                                                                                \
        vec4 vb[J][CG];                                                              \
        FOR(j, J) {                                                                  \
            const int u = min(base + (b) * J + j, last);                             \
            const int va = (u + (u < prefix ? w.x : behind)) * ldv4 + g * D4 + lane * CG; \
            FOR(c, CG) vb[j][c] = imageLoad(v4, va + c);                             \
        }                                                                            \
        FOR(r, ROWS) FOR(j, J) {                                                     \
            const float x = subgroupShuffle(s[r][j], from);                          \
            FOR(c, CG) o[r][c] += x * vb[j][c];                                      \
        }                                                                            \
    }

layout(push_constant) uniform push { attention_fwd_args p; };
layout(binding = 0, rgba32f) readonly uniform imageBuffer q4;
layout(binding = 1, rgba32f) readonly uniform imageBuffer k4;
layout(binding = 2, rgba32f) readonly uniform imageBuffer v4;
layout(binding = 3) uniform isamplerBuffer intervals;
TARGET(4, o4)
layout(binding = 5, std430) writeonly buffer out_lse { float lse[]; };

const float NONE = -1e20; // the maximum before the first key; a NaN score stays one in exp2_neg

// res of lane i = OP over all lanes of x[i]; a tree written out, so that it is unrolled.
#define ADD(a, b) ((a) + (b))
#define FOLD_STEP(OP, s)                                                             \
    FOR(fi, s) {                                                                     \
        const bool up = (lane & (s)) != 0;                                           \
        const float mine = up ? u[fi + (s)] : u[fi];                                 \
        const float other = subgroupShuffleXor(up ? u[fi] : u[fi + (s)], s);         \
        u[fi] = OP(mine, other);                                                     \
    }
#if LANES == 16
#define FOLD_TOP(OP) FOLD_STEP(OP, 8) FOLD_STEP(OP, 4)
#elif LANES == 8
#define FOLD_TOP(OP) FOLD_STEP(OP, 4)
#else
#define FOLD_TOP(OP)
#endif
#define FOLD(OP, x, res)                                                             \
    {                                                                                \
        float u[LANES] = x;                                                          \
        FOLD_TOP(OP) FOLD_STEP(OP, 2) FOLD_STEP(OP, 1)                               \
        res = u[0];                                                                  \
    }

// Where the segment begins right behind the prefix the keys are those of a prompt as long as both.
ivec4 stream_of(ivec4 i) { return i.y == i.z ? i.xxxw : i; }

int keys_of(ivec4 i) { return i.y - i.x + i.w - i.z; }

void main()
{
    const int lane = int(gl_LocalInvocationID.x), g = int(gl_WorkGroupID.y);
    const int pos0 = tile_of(gl_WorkGroupID.x) * POSITIONS, end = min(pos0 + POSITIONS, int(p.T));
    const int ldq4 = int(p.ldq) / 4, ldk4 = int(p.ldk) / 4, ldv4 = int(p.ldv) / 4;
    const float scale2 = p.scale * LOG2E;
    int qa[GROUPS], pos = end; // lane i: row gr * LANES + i
    ivec4 iv[GROUPS];
    float m[GROUPS], l[ROWS];
    vec4 o[ROWS][CG];

    FOR(gr, GROUPS) {
        const int r = gr * LANES + lane, at = pos0 + r / R;
        const bool ok = r < ROWS && at < end;
        qa[gr] = ok ? at * ldq4 + (g * R + r % R) * D4 : OUTSIDE;
        iv[gr] = stream_of(texelFetch(intervals, ok ? at : OUTSIDE));
        pos = min(pos, iv[gr].w != 0 ? at : end);
        m[gr] = NONE;
    }
    pos = min_of_lanes(pos);
    FOR(r, ROWS) l[r] = 0.0;
    FOR(r, ROWS) FOR(c, CG) o[r][c] = vec4(0);

    do { // a turn a stream of keys that rows of the tile read
        const ivec4 w = stream_of(texelFetch(intervals, pos < end ? pos : OUTSIDE));
        const int prefix = w.y - w.x, behind = w.z - prefix; // key u is u + (u < prefix ? w.x : behind)
        int n_keys = 0, base = 0, own[GROUPS];               // own: keys that a row of the stream reads

        pos = end;
        FOR(gr, GROUPS) {
            const bool mine = iv[gr].w != 0 && iv[gr].x == w.x && iv[gr].z == w.z;
            own[gr] = mine ? keys_of(iv[gr]) : 0;
            n_keys = max(n_keys, own[gr]);
            iv[gr].w = mine ? 0 : iv[gr].w; // done
            pos = min(pos, iv[gr].w != 0 ? pos0 + (gr * LANES + lane) / R : end);
        }
        n_keys = max_of_lanes(n_keys);
        pos = min_of_lanes(pos);
        do { // a turn a tile of keys
            const int last = max(n_keys - 1, 0); // read again where J asks for more
            int ka[J];
            float s[ROWS][J];
            int d = 0;

            FOR(j, J) {
                const int u = base + lane * J + j;
                ka[j] = (u + (u < prefix ? w.x : behind)) * ldk4 + g * D4;
            }
            FOR(r, ROWS) FOR(j, J) s[r][j] = 0.0;
            do {
                vec4 kb[KB / 4][J];
                FOR(j, J) FOR(e, KB / 4) kb[e][j] = imageLoad(k4, ka[j] + d + e);
                FOR(gr, GROUPS) {
                    vec4 a[KB / 4];
                    FOR(e, KB / 4) a[e] = imageLoad(q4, qa[gr] + d + e);
                    FOR(i, LANES) if (gr * LANES + i < ROWS)
                        FOR(e, KB) {
                            const float x = subgroupShuffle(a[e / 4][e & 3], i);
                            FOR(j, J) s[gr * LANES + i][j] += x * kb[e / 4][j][e & 3];
                        }
                }
                d += KB / 4;
            } while (d < D4);

            FOR(gr, GROUPS) {
                const int r0 = gr * LANES;
                float t[LANES], top;

                FOR(i, LANES) {
                    const int r = r0 + i;
                    t[i] = MASKED;
                    if (r < ROWS) {
                        const int allowed = subgroupShuffle(own[gr], i) - (base + lane * J);
                        FOR(j, J) {
                            if (CAP != 0)
                                s[r][j] = SOFTCAP(s[r][j] * p.scale, p.cap) / p.scale;
                            s[r][j] = j < allowed ? s[r][j] * scale2 : MASKED;
                            t[i] = max(t[i], s[r][j]);
                        }
                    }
                }
                FOLD(max, t, top)
                top = max(m[gr], top);
                const float shrink = exp2_neg(m[gr] - top);
                m[gr] = top;
                FOR(i, LANES) if (r0 + i < ROWS) {
                    const int r = r0 + i;
                    const float mr = subgroupShuffle(top, i), by = subgroupShuffle(shrink, i);
                    l[r] *= by;
                    FOR(j, J) l[r] += s[r][j] = exp2_neg(s[r][j] - mr);
                    FOR(c, CG) o[r][c] *= by;
                }
            }

#if LANES == 16
            int b = 0;
            do {
                FOR(i, TURN) P_V(b + i, i)
                FOR(r, ROWS) FOR(j, J) s[r][j] = FROM_AHEAD(s[r][j], TURN);
                b += TURN;
            } while (b < LANES && base + b * J < n_keys);
#else
            for (int b = 0; base + b * J < n_keys && b < LANES; b++)
                P_V(b, b)
#endif
            base += KEYS;
        } while (base < n_keys);
    } while (pos < end);

    FOR(gr, GROUPS) {
        const int r = gr * LANES + lane, at = pos0 + r / R;
        float t[LANES], sum;

        FOR(i, LANES) t[i] = gr * LANES + i < ROWS ? l[min(gr * LANES + i, ROWS - 1)] : 0.0;
        FOLD(ADD, t, sum)
        const float inverse = sum == 0.0 ? 0.0 : 1.0 / sum;
        if (r < ROWS && at < end)
            lse[at * int(p.H) + g * R + r % R] = sum == 0.0 ? 0.0 : (m[gr] + log2(sum)) * 0.69314718;
        FOR(i, LANES) {
            const int row = gr * LANES + i;
            const float x = subgroupShuffle(inverse, i);
            if (row < ROWS && pos0 + row / R < end)
                FOR(c, CG) {
                    const int column = (g * R + row % R) * D4 + lane * CG + c;
                    const int at = (pos0 + row / R) * int(p.ldo) / 4 + column;
                    STORE(o4, HAS_COLUMN(c), at, o[min(row, ROWS - 1)][c] * x);
                }
        }
    }
}
