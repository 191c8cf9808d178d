// y[i] = (1 - alpha) y[i] + alpha x[i] for i < n. A workgroup takes 1024 elements at a time. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"

layout(local_size_x = 256) in;
layout(push_constant) uniform push { mix_args a; };
layout(binding = 0, std430) buffer inout_y { vec4 y[]; };
layout(binding = 1, std430) readonly buffer in_x { vec4 x[]; };

void main()
{
    const uint step = gl_NumWorkGroups.x * 256;

    for (uint i = gl_GlobalInvocationID.x; 4 * i < a.n; i += step) {
        const bvec4 used = lessThan(4 * i + uvec4(0, 1, 2, 3), uvec4(a.n));

        const precise vec4 v = (1.0 - a.alpha) * y[i] + a.alpha * x[i];

        y[i] = mix(y[i], v, used);
    }
}
