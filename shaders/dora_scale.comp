// y[t,c] = (m[c] / norm[c] - offset) u[t,c], added to y with accumulate. y, u (T, C); m, norm (C); y may
// be u. The factor of a magnitude that is the norm is exactly 1 - offset, also where both are 0: a fresh
// DoRA changes no bit. A workgroup takes a row at a time. The columns from C to the next multiple of 4 are
// written as zeros. No shared memory. Liu et al. 2024 (DoRA), arXiv 2402.09353, eq. 5.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/row_group.glsl"

layout(push_constant) uniform push { dora_scale_args p; };
layout(binding = 0, std430) buffer inout_y { vec4 y[]; };
layout(binding = 1, std430) readonly buffer in_u { vec4 u[]; };
layout(binding = 2, std430) readonly buffer in_m { vec4 m[]; };
layout(binding = 3, std430) readonly buffer in_norm { vec4 norm[]; };

void main()
{
    for (uint t = gl_WorkGroupID.x; t < p.T; t += gl_NumWorkGroups.x)
        for (uint c = gl_LocalInvocationIndex; c < (p.C + 3) / 4; c += GROUP) {
            const bvec4 used = lessThan(4 * c + uvec4(0, 1, 2, 3), uvec4(p.C));
            const vec4 factor = mix(m[c] / norm[c], vec4(1), equal(m[c], norm[c])) - p.offset;
            const precise vec4 scaled = factor * u[t * p.ldu / 4 + c];
            const uint at = t * p.ldy / 4 + c;

            if (p.accumulate != 0)
                y[at] = mix(vec4(0), y[at] + scaled, used);
            else
                y[at] = mix(vec4(0), scaled, used);
        }
}
