// db[c] += sum over t in order of dy[t,c]. dy (T, C); db (C). An invocation takes 4 columns. The columns
// from C to the next multiple of 4 are left alone. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"

layout(local_size_x = 64) in;
layout(push_constant) uniform push { bias_args p; };
layout(binding = 0, std430) buffer inout_db { float db[]; };
layout(binding = 1, std430) readonly buffer in_dy { vec4 dy[]; };

void main()
{
    const uint c = gl_GlobalInvocationID.x;
    vec4 sum = vec4(0);

    if (4 * c >= p.C)
        return;
    for (uint t = 0; t < p.T; t++)
        sum += dy[t * p.ld / 4 + c];
    for (uint e = 0; e < min(4u, p.C - 4 * c); e++)
        db[4 * c + e] += sum[e];
}
