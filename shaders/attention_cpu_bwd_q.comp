// Interval attention, gradient of the queries from one block of keys, for CPU Vulkan drivers:
//   dq[t] = scale sum_j ds[t][j] k[j], ds / scale as attention_cpu_bwd_kv.comp has left it
// Views as in attention_bwd_q.comp, mapping as in lib/attention_cpu.glsl. A workgroup takes 4 * LANES
// (query, head) pairs of a kv head in registers (the last groups may find none) and sums over the keys
// of their intervals; what was never written is replaced by 0, not read as data. No shared memory. (Binding 5, lse, is not read: with
// it the limits of texel buffers admit both of the pass's variants or neither.)
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "args.h"
#include "lib/attention_cpu.glsl"

#define ROWS (4 * LANES)
#define KEYS (D > 64 ? 4 : 8) // a turn

layout(push_constant) uniform push { attention_bwd_args p; };
layout(binding = 0, rgba32f) readonly uniform imageBuffer ds4;
layout(binding = 1, rgba32f) readonly uniform imageBuffer k4;
layout(binding = 2) uniform isamplerBuffer intervals;
layout(binding = 3) uniform samplerBuffer dq_before;
layout(binding = 4, std430) writeonly buffer out_dq { vec4 dq4[]; };

// Keys [x, y) and [z, w) of an interval, counted from key0 and cut to the block.
ivec4 in_block(ivec4 i)
{
    return clamp(i - int(p.key0), ivec4(0), ivec4(p.n_keys));
}

void main()
{
    const int lane = int(gl_LocalInvocationID.x), part = int(gl_WorkGroupID.y), g = int(p.g0) + part;
    const int row0 = tile_of(gl_WorkGroupID.x) * ROWS, n_keys = int(p.n_keys), ldk4 = int(p.ldk) / 4;
    const int end = min((row0 + ROWS + R - 1) / R, int(p.n_t));
    int pos = row0 / R;
    ivec4 iv[4]; // a lane reads 4 rows at one key
    vec4 sum[ROWS][CG];

    FOR(i, 4) {
        const int at = (row0 + lane * 4 + i) / R;
        iv[i] = texelFetch(intervals, at < end ? at : OUTSIDE);
    }
    FOR(r, ROWS) FOR(c, CG) sum[r][c] = vec4(0);
    do { // a turn a segment in the tile
        const ivec4 w = texelFetch(intervals, pos);
        int last = 0, turn = 0;
        ivec4 own[4]; // intervals of this segment's rows, in the block
        bool mine[4];

        FOR(i, 4) {
            mine[i] = w.w != 0 && iv[i].x == w.x && iv[i].z == w.z;
            last = max(last, mine[i] ? iv[i].w : 0);
            own[i] = mine[i] ? in_block(iv[i]) : ivec4(0);
        }
        last = max_of_lanes(last);
        const int from = pos + (last == 0 ? 1 : last - w.w + 1);
        pos = end;
        FOR(i, 4) pos = min(pos, row_from(from, (row0 + lane * 4 + i) / R, iv[i], end));
        pos = min_of_lanes(pos);
        const ivec4 all = in_block(ivec4(w.xyz, last));
        const int n1 = (all.y - all.x + KEYS - 1) / KEYS, n2 = (all.w - all.z + KEYS - 1) / KEYS;
        do { // the first turn may find no key
            const bool prefix = turn < n1;
            const int base = prefix ? all.x + turn * KEYS : all.z + (turn - n1) * KEYS;
            const int last_key = (prefix ? all.y : all.w) - 1; // read again where KEYS asks for more
            vec4 a[KEYS], b[KEYS][CG];

            FOR(e, KEYS) {
                const vec4 ds = imageLoad(ds4, ((part * n_keys + base + e) * int(p.ldds) + row0) / 4 + lane);
                FOR(c, CG) b[e][c] = imageLoad(k4, min(base + e, last_key) * ldk4 + g * D4 + lane * CG + c);
                FOR(i, 4) a[e][i] = base + e < (prefix ? own[i].y : own[i].w) ? ds[i] : 0.0;
            }
            FOR(r, ROWS) FOR(e, KEYS) {
                const float x = subgroupShuffle(a[e][r & 3], r >> 2);
                FOR(c, CG) sum[r][c] += x * b[e][c];
            }
            turn++;
        } while (turn < n1 + n2);
    } while (pos < end);
    FOR(r, ROWS) if (row0 + r < int(p.n_t) * R)
        FOR(c, CG) if (HAS_COLUMN(c)) {
            const int row = row0 + r, column = (g * R + row % R) * D4 + lane * CG + c;
            const int to = row / R * int(p.lddq) / 4 + column;
            dq4[to] = sum[r][c] * p.scale + texelFetch(dq_before, p.accumulate != 0 ? to : OUTSIDE);
        }
}
