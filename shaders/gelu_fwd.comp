// y = gelu(x), by erf. y, x (T, F). A workgroup takes a row at a time. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/gelu_erf.glsl"
#include "lib/row_group.glsl"
#include "lib/source.glsl"

layout(push_constant) uniform push { gelu_args p; };
layout(binding = 0, std430) writeonly buffer out_y { vec4 y[]; };
SOURCE(1, x);

void main()
{
    for (uint t = gl_WorkGroupID.x; t < p.T; t += gl_NumWorkGroups.x)
        for (uint c = gl_LocalInvocationIndex; c < (p.F + 3) / 4; c += GROUP) {
            const vec4 v = LOAD(x, t * p.ldx / 4 + c);
            const precise vec4 value = vec4(gelu(v.x), gelu(v.y), gelu(v.z), gelu(v.w));

            y[t * p.ldy / 4 + c] = value;
        }
}
