// y[t,c] += b[c]. y (T, C); b (C). A workgroup takes a row at a time. The columns from C to the next
// multiple of 4 are written as zeros. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/row_group.glsl"

layout(push_constant) uniform push { bias_args p; };
layout(binding = 0, std430) buffer inout_y { vec4 y[]; };
layout(binding = 1, std430) readonly buffer in_b { vec4 b[]; };

void main()
{
    for (uint t = gl_WorkGroupID.x; t < p.T; t += gl_NumWorkGroups.x)
        for (uint c = gl_LocalInvocationIndex; c < (p.C + 3) / 4; c += GROUP) {
            const bvec4 used = lessThan(4 * c + uvec4(0, 1, 2, 3), uvec4(p.C));

            y[t * p.ld / 4 + c] = mix(vec4(0), y[t * p.ld / 4 + c] + b[c], used);
        }
}
