// Interval attention, gradient of the queries from one block of keys, for CPU Vulkan drivers:
//   dq[t] = scale sum_j ds[t][j] k[j], ds / scale as attention_cpu_bwd_kv.comp has left it
// Views as in attention_bwd_q.comp, mapping as in lib/attention_cpu.glsl. A workgroup takes 4 * LANES
// (query, head) pairs of a kv head in registers (the last groups may find none) and sums over the keys
// that any of them reads: of one row of the slab after another, the prefix and what its segments in the
// tile read, each key once, in order. Whether a pair reads a key is asked key by key: what was never
// written is replaced by 0, not read as data. No shared memory. (Binding 5, lse, is not read: with it the
// limits of texel buffers admit both of the pass's variants or neither.)
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define ADJACENT (CG == 1) // a lane has one group of columns
#include "lib/store.glsl"
#include "args.h"
#include "lib/attention_cpu.glsl"

#define ROWS (4 * LANES)
#define KEYS 4 // a turn

layout(push_constant) uniform push { attention_bwd_args p; };
layout(binding = 0, rgba32f) readonly uniform imageBuffer ds4;
layout(binding = 1, rgba32f) readonly uniform imageBuffer k4;
layout(binding = 2) uniform isamplerBuffer intervals;
layout(binding = 3) uniform samplerBuffer dq_before;
TARGET(4, dq4)

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
    const int ds_at = (part * int(p.ldds) + row0) * n_keys / 4;
    int pos = end;
    ivec4 iv[4]; // a lane reads 4 rows at one key
    vec4 sum[ROWS][CG];

    FOR(i, 4) {
        const int at = (row0 + lane * 4 + i) / R;
        iv[i] = texelFetch(intervals, at < end ? at : OUTSIDE);
        pos = min(pos, iv[i].w != 0 ? at : end);
    }
    pos = min_of_lanes(pos);
    FOR(r, ROWS) FOR(c, CG) sum[r][c] = vec4(0);
    do { // a turn a row of the slab in the tile
        const ivec4 w = texelFetch(intervals, pos < end ? pos : OUTSIDE);
        int y = 0, z = -OUTSIDE, last = 0, turn = 0;
        ivec4 own[4]; // intervals of this row's pairs, in the block

        pos = end;
        FOR(i, 4) {
            const bool mine = iv[i].w != 0 && iv[i].x == w.x;
            own[i] = mine ? in_block(iv[i]) : ivec4(0);
            y = max(y, mine ? iv[i].y : 0);
            z = min(z, mine ? iv[i].z : -OUTSIDE);
            last = max(last, mine ? iv[i].w : 0);
            iv[i].w = mine ? 0 : iv[i].w; // done
            pos = min(pos, iv[i].w != 0 ? (row0 + lane * 4 + i) / R : end);
        }
        y = max_of_lanes(y);
        z = min_of_lanes(z);
        last = max_of_lanes(last);
        pos = min_of_lanes(pos);
        const ivec4 all = in_block(ivec4(w.x, min(y, z), z, last));
        const int n1 = (all.y - all.x + KEYS - 1) / KEYS, n2 = (all.w - all.z + KEYS - 1) / KEYS;
        do { // the first turn may find no key
            const bool prefix = turn < n1;
            const int base = prefix ? all.x + turn * KEYS : all.z + (turn - n1) * KEYS;
            const int last_key = (prefix ? all.y : all.w) - 1; // read again where KEYS asks for more
            vec4 a[KEYS], b[KEYS][CG];

            FOR(e, KEYS) {
                const int key = base + e;
                const vec4 ds = imageLoad(ds4, ds_at + key * LANES + lane);
                FOR(c, CG) b[e][c] = imageLoad(k4, min(key, last_key) * ldk4 + g * D4 + lane * CG + c);
                FOR(i, 4) {
                    const bool reads = key < own[i].y || (key >= own[i].z && key < own[i].w);
                    a[e][i] = key <= last_key && reads ? ds[i] : 0.0;
                }
            }
            FOR(r, ROWS) FOR(e, KEYS) {
                const float x = subgroupShuffle(a[e][r & 3], r >> 2);
                FOR(c, CG) sum[r][c] += x * b[e][c];
            }
            turn++;
        } while (turn < n1 + n2);
    } while (pos < end);
    FOR(r, ROWS) if (row0 + r < int(p.n_t) * R)
        FOR(c, CG) {
            const int row = row0 + r, column = (g * R + row % R) * D4 + lane * CG + c;
            const int to = row / R * int(p.lddq) / 4 + column;
            const vec4 old = texelFetch(dq_before, p.accumulate != 0 ? to : OUTSIDE);
            STORE(dq4, HAS_COLUMN(c), to, sum[r][c] * p.scale + old);
        }
}
