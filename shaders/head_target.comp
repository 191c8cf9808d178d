// wy[i,:] = w[targets[i] - v0,:] for rows whose target lies in [v0, v0 + n); the others are left alone.
// wy (R, C); w (n, C); targets (R) int. A workgroup takes a row at a time. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/row_group.glsl"

layout(push_constant) uniform push { head_target_args p; };
layout(binding = 0, std430) writeonly buffer out_wy { vec4 wy[]; };
layout(binding = 1, std430) readonly buffer in_w { vec4 w[]; };
layout(binding = 2, std430) readonly buffer in_targets { int targets[]; };

void main()
{
    for (uint row = gl_WorkGroupID.x; row < p.R; row += gl_NumWorkGroups.x) {
        const uint target = uint(targets[row]) - p.v0; // wraps when below the range

        if (target < p.n)
            for (uint c = gl_LocalInvocationIndex; c < (p.C + 3) / 4; c += GROUP)
                wy[row * p.ldy / 4 + c] = w[target * p.ldw / 4 + c];
    }
}
