// stats[r] = (h[r,:] . w, 0, 0, 0), the value of a row; with_u: u[r,:] = -w, its unscaled gradient row as
// scatter_rows.comp takes it. h, u (R, C); w (C), zeros behind it up to ldh; stats (R, 4). A workgroup takes
// a row at a time; a sum depends on C alone. Shared: 20 * WG bytes.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/reduce.glsl"

layout(push_constant) uniform push { value_fwd_args p; };
layout(binding = 0, std430) writeonly buffer out_stats { vec4 stats[]; };
layout(binding = 1, std430) buffer inout_u { vec4 u[]; };
layout(binding = 2, std430) readonly buffer in_h { vec4 h[]; };
layout(binding = 3, std430) readonly buffer in_w { vec4 w[]; };

void main()
{
    for (uint r = gl_WorkGroupID.x; r < p.R; r += gl_NumWorkGroups.x) {
        vec4 parts = vec4(0);

        for (uint c = gl_LocalInvocationIndex; c < (p.C + 3) / 4; c += WG) {
            parts += h[r * p.ldh / 4 + c] * w[c];
            if (p.with_u != 0)
                u[r * p.ldu / 4 + c] = -w[c];
        }
        parts = reduce_sum(parts);
        if (gl_LocalInvocationIndex == 0)
            stats[r] = vec4((parts.x + parts.z) + (parts.y + parts.w), 0, 0, 0);
    }
}
