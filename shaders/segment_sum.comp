// Over the rows r = order[i], i in [begin[s], begin[s+1]), of segment s, where stats are (logp, b, c, d):
//   sums[s] = (sum of weight * logp, of b, of c, of d, number of rows, sum of logp, of log_p2, 0)
// stats (rows, 4); weight, log_p2 (rows); sums (segments, 8); order (rows), begin (segments + 1) int. A workgroup
// takes a segment; the order of a sum depends on positions in the segment alone, and both sums of logp
// have the same bits where all weights are 1. Shared: 20 * WG bytes.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/reduce.glsl"

layout(push_constant) uniform push { segment_sum_args p; };
layout(binding = 0, std430) writeonly buffer out_sums { vec4 sums[]; };
layout(binding = 1, std430) readonly buffer in_stats { vec4 stats[]; };
layout(binding = 2, std430) readonly buffer in_weight { float weight[]; };
layout(binding = 3, std430) readonly buffer in_log_p2 { float log_p2[]; };
layout(binding = 4, std430) readonly buffer in_order { int order[]; };
layout(binding = 5, std430) readonly buffer in_begin { int begin[]; };

void main()
{
    for (uint s = gl_WorkGroupID.x; s < p.n_segments; s += gl_NumWorkGroups.x) {
        const int first = begin[s], end = begin[s + 1];
        vec4 sum = vec4(0);
        vec4 raw = vec4(0);

        for (int i = first + int(gl_LocalInvocationIndex); i < end; i += WG) {
            const int row = order[i];
            const vec4 v = stats[row];

            sum += vec4(weight[row] * v.x, v.yzw);
            raw += vec4(v.x, log_p2[row], 0, 0);
        }
        sum = reduce_sum(sum);
        raw = reduce_sum(raw);
        if (gl_LocalInvocationIndex == 0) {
            sums[2 * s] = sum;
            sums[2 * s + 1] = vec4(end - first, raw.xy, 0);
        }
    }
}
