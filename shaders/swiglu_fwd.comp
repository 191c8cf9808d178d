// m = silu(gate) * up, silu(g) = g / (1 + e^-g), or gelu(gate) * up. All (T, F). A workgroup takes a row at a time. No
// shared memory. Shazeer 2020, arXiv 2002.05202.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/store.glsl"
#include "args.h"
#include "lib/sigmoid.glsl"
#include "lib/gelu.glsl"
#include "lib/row_group.glsl"
#include "lib/source.glsl"

layout(constant_id = 1) const uint GELU = 0; // 1: GELU by tanh in place of silu
layout(push_constant) uniform push { swiglu_args p; };
TARGET(0, m)
SOURCE(1, gate);
SOURCE(2, up);

void main()
{
    const uint end = (p.F + 3) / 4;
    uint t = gl_WorkGroupID.x;
    do {
        uint c0 = 0;
        do {
            const uint own = c0 + gl_LocalInvocationIndex, c = min(own, end - 1);
            const vec4 g = LOAD(gate, t * p.ldgate / 4 + c), u = LOAD(up, t * p.ldup / 4 + c);
            const precise vec4 value = GELU != 0 ? gelu(g) : g * sigmoid(g).value;
            const precise vec4 product = value * u;

            STORE(m, own < end, t * p.ldm / 4 + c, product);
        } while ((c0 += GROUP) < end);
    } while ((t += gl_NumWorkGroups.x) < p.T);
}
