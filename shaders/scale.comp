// y[i] = factor y[i] for i < n. A workgroup takes 1024 elements at a time. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"

layout(local_size_x = 256) in;
layout(push_constant) uniform push { scale_args a; };
layout(binding = 0, std430) buffer inout_y { vec4 y[]; };

void main()
{
    const uint step = gl_NumWorkGroups.x * 256;

    for (uint i = gl_GlobalInvocationID.x; 4 * i < a.n; i += step)
        y[i] = a.factor * y[i];
}
