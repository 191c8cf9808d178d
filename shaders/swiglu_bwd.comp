// Gradients of m = silu(gate) * up; s = 1 / (1 + e^-gate):
//   dgate = dm * up * s * (1 + gate * (1 - s));  dup = dm * gate * s
// or, with GELU, of gelu(gate) * up.
// All (T, F). A workgroup takes a row at a time; one subgroup reads an element and, when all its lanes have read,
// writes it, so dgate may be gate and dup may be up. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/store.glsl"
#include "args.h"
#include "lib/sigmoid.glsl"
#include "lib/gelu.glsl"
#include "lib/row_group.glsl"
#include "lib/source.glsl"

layout(constant_id = 1) const uint GELU = 0; // 1: GELU by tanh in place of silu
layout(push_constant) uniform push { swiglu_bwd_args p; };
TARGET(0, dgate)
TARGET(1, dup)
SOURCE(2, dm);
SOURCE(3, gate);
SOURCE(4, up);

void main()
{
    const uint end = (p.F + 3) / 4;
    uint t = gl_WorkGroupID.x;
    do {
        uint c0 = 0;
        do {
            const uint own = c0 + gl_LocalInvocationIndex, c = min(own, end - 1);
            const uint to_gate = t * p.lddgate / 4 + c, to_up = t * p.lddup / 4 + c;
            const vec4 g = LOAD(gate, t * p.ldgate / 4 + c), u = LOAD(up, t * p.ldup / 4 + c);
            const vec4 d = LOAD(dm, t * p.lddm / 4 + c);

            if (GELU != 0) {
                STORE(dgate, own < end, to_gate, d * u * gelu_slope(g));
                STORE(dup, own < end, to_up, d * gelu(g));
            } else {
                const sigmoids s = sigmoid(g);
                const vec4 silu = g * s.value;

                STORE(dgate, own < end, to_gate, d * u * s.value * (1.0 + g * s.rest));
                STORE(dup, own < end, to_up, d * silu);
            }
        } while ((c0 += GROUP) < end);
    } while ((t += gl_NumWorkGroups.x) < p.T);
}
