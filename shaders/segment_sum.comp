// sums[s] = (sum of stats[order[i]] over i in [begin[s], begin[s+1]), their number, 0, 0, 0)
// stats (rows, 4); sums (segments, 8); order (rows), begin (segments + 1) int. A workgroup takes a
// segment; the order of the sum depends on positions in the segment alone. Shared: 20 * WG bytes.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/reduce.glsl"

layout(push_constant) uniform push { segment_sum_args p; };
layout(binding = 0, std430) writeonly buffer out_sums { vec4 sums[]; };
layout(binding = 1, std430) readonly buffer in_stats { vec4 stats[]; };
layout(binding = 2, std430) readonly buffer in_order { int order[]; };
layout(binding = 3, std430) readonly buffer in_begin { int begin[]; };

void main()
{
    for (uint s = gl_WorkGroupID.x; s < p.n_segments; s += gl_NumWorkGroups.x) {
        const int first = begin[s], end = begin[s + 1];
        vec4 sum = vec4(0);

        for (int i = first + int(gl_LocalInvocationIndex); i < end; i += WG)
            sum += stats[order[i]];
        sum = reduce_sum(sum);
        if (gl_LocalInvocationIndex == 0) {
            sums[2 * s] = sum;
            sums[2 * s + 1] = vec4(end - first, 0, 0, 0);
        }
    }
}
