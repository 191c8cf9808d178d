// Keys and values into a cache: y[place[t],:] = x[t,:] of both. y (rows, C), x (T, C); place (T) int32, no
// two alike.
// A workgroup takes a row at a time. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/row_group.glsl"

layout(push_constant) uniform push { store_rows_args p; };
layout(binding = 0, std430) writeonly buffer out_yk { vec4 yk[]; };
layout(binding = 1, std430) writeonly buffer out_yv { vec4 yv[]; };
layout(binding = 2, std430) readonly buffer in_xk { vec4 xk[]; };
layout(binding = 3, std430) readonly buffer in_xv { vec4 xv[]; };
layout(binding = 4, std430) readonly buffer in_place { int place[]; };

void main()
{
    for (uint t = gl_WorkGroupID.x; t < p.T; t += gl_NumWorkGroups.x)
        for (uint c = gl_LocalInvocationIndex; c < (p.C + 3) / 4; c += GROUP) {

            const uint to = uint(place[t]) * p.ldy / 4 + c, from = t * p.ldx / 4 + c;

            yk[to] = xk[from];
            yv[to] = xv[from];
        }
}
