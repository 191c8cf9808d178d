// dx = dy gelu'(x), by erf. dx, dy, x (T, F). A workgroup takes a row at a time; an element is read and
// written by one invocation, so dx may be x. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/gelu_erf.glsl"
#include "lib/row_group.glsl"
#include "lib/source.glsl"

layout(push_constant) uniform push { gelu_bwd_args p; };
layout(binding = 0, std430) writeonly buffer out_dx { vec4 dx[]; };
SOURCE(1, dy);
SOURCE(2, x);

void main()
{
    for (uint t = gl_WorkGroupID.x; t < p.T; t += gl_NumWorkGroups.x)
        for (uint c = gl_LocalInvocationIndex; c < (p.F + 3) / 4; c += GROUP) {
            const vec4 v = LOAD(x, t * p.ldx / 4 + c);
            const vec4 slope =
                vec4(gelu_slope(v.x), gelu_slope(v.y), gelu_slope(v.z), gelu_slope(v.w));

            dx[t * p.lddx / 4 + c] = LOAD(dy, t * p.lddy / 4 + c) * slope;
        }
}
