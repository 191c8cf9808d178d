// The rate of multiply-adds in registers: every y[i] is taken through y = factor y + offset 16 * turns
// times, starting at i / 64 mod 1, in 12 independent chains an invocation (as many as keep two units of
// four cycles busy in the 16 registers of the narrowest processors), of which three make one value each:
// y[i] is the sum of its three. A workgroup makes 256 elements. No shared memory.
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#include "args.h"

layout(local_size_x = 64) in;
layout(push_constant) uniform push { peak_multiply_args a; };
layout(binding = 0, std430) writeonly buffer out_y { vec4 y[]; };

void main()
{
    const uint i = gl_GlobalInvocationID.x, turns = a.turns;
    const float factor = a.factor, offset = a.offset; // read before the loop, in which it would be a load a lane
    uint turn = 0;
    vec4 p = (4 * i + uvec4(0, 1, 2, 3)) % 64 / 64.0, q = p + 1, r = p + 2;

    do
        [[unroll]] for (uint k = 0; k < 16; k++) {
            p = factor * p + offset;
            q = factor * q + offset;
            r = factor * r + offset;
        }
    while (++turn < turns);
    if (4 * i < a.n)
        y[i] = p + q + r;
}
