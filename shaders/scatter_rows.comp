// dx[t,:] = -sum of coef[i] * u[i,:] over i in [row_begin[t], row_begin[t+1]) in order
// dx (T, C): rows t0 ... t0 + T of a tensor; u (R, C): rows i0 ... i0 + R of one. Parts of u come in
// order: the first (i0 = 0) writes dx, the others go on with its sums. coef, row_begin whole. A
// workgroup takes a row at a time. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/row_group.glsl"

layout(push_constant) uniform push { scatter_rows_args p; };
layout(binding = 0, std430) buffer inout_dx { vec4 dx[]; };
layout(binding = 1, std430) readonly buffer in_u { vec4 u[]; };
layout(binding = 2, std430) readonly buffer in_coef { float coef[]; };
layout(binding = 3, std430) readonly buffer in_row_begin { int row_begin[]; };

void main()
{
    for (uint t = gl_WorkGroupID.x; t < p.T; t += gl_NumWorkGroups.x) {
        const uint first = max(uint(row_begin[p.t0 + t]), p.i0);
        const uint end = min(uint(row_begin[p.t0 + t + 1]), p.i0 + p.R);

        for (uint c = gl_LocalInvocationIndex; c < (p.C + 3) / 4; c += GROUP) {
            const uint at = t * p.lddx / 4 + c;
            vec4 sum = p.i0 == 0 ? vec4(0) : dx[at];

            for (uint i = first; i < end; i++)
                sum -= coef[i] * u[(i - p.i0) * p.ldu / 4 + c];
            dx[at] = sum;
        }
    }
}
