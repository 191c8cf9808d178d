// slots[i] = sum of squares of g[4096 i ... 4096 i + 4095], fewer in the last. g (n). A workgroup takes a
// slot at a time; the order of the sum is fixed. Shared: 20 * WG bytes.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/reduce.glsl"

layout(push_constant) uniform push { sqnorm_part_args p; };
layout(binding = 0, std430) writeonly buffer out_slots { float slots[]; };
layout(binding = 1, std430) readonly buffer in_g { vec4 g[]; };

void main()
{
    for (uint slot = gl_WorkGroupID.x; slot < (p.n + 4095) / 4096; slot += gl_NumWorkGroups.x) {
        float sum = 0.0;

        for (uint k = 0; k < 1024; k += WG) {
            const uint i = 4 * (1024 * slot + k + gl_LocalInvocationIndex);

            if (i < p.n) {
                const vec4 v = mix(vec4(0), g[i / 4], lessThan(i + uvec4(0, 1, 2, 3), uvec4(p.n)));

                sum += dot(v, v);
            }
        }
        sum = reduce_sum(sum);
        if (gl_LocalInvocationIndex == 0)
            slots[p.first_slot + slot] = sum;
    }
}
