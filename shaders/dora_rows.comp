// w[i,:] *= m[i] / norm[i], exactly 1 where they are equal, also where both are 0. w (rows, ld / 4 vec4); m,
// norm (rows). A workgroup takes a row at a time. No shared memory. The weights that DoRA's magnitudes make:
// Liu et al. 2024, arXiv 2402.09353, eq. 5.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/row_group.glsl"

layout(push_constant) uniform push { dora_rows_args p; };
layout(binding = 0, std430) buffer inout_w { vec4 w[]; };
layout(binding = 1, std430) readonly buffer in_m { float m[]; };
layout(binding = 2, std430) readonly buffer in_norm { float norm[]; };

void main()
{
    for (uint i = gl_WorkGroupID.x; i < p.rows; i += gl_NumWorkGroups.x) {
        const float factor = m[i] == norm[i] ? 1.0 : m[i] / norm[i];

        for (uint c = gl_LocalInvocationIndex; c < p.ld / 4; c += GROUP)
            w[i * p.ld / 4 + c] *= factor;
    }
}
