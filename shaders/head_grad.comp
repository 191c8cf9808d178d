// Logits of a vocabulary chunk -> their loss gradient, in place, for a trainable head:
//   z[i,v] = -coef[i] * (e^(z[i,v] - lse[i]) - [v + v0 = target[i]]) (times the slope of the cap)
// z (R, n): ids v0 ... v0 + n; targets, lse, coef (R). The columns from n to the next multiple of 4 are
// written as zeros. Mapping: a workgroup takes a row at a time. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/row_group.glsl"
#include "lib/softcap.glsl"

layout(constant_id = 1) const uint CAP = 0; // 1: logits are soft-capped at p.cap
layout(push_constant) uniform push { head_grad_args p; };
layout(binding = 0, std430) buffer inout_z { vec4 z[]; };
layout(binding = 1, std430) readonly buffer in_targets { int targets[]; };
layout(binding = 2, std430) readonly buffer in_lse { float lse[]; };
layout(binding = 3, std430) readonly buffer in_coef { float coef[]; };

void main()
{
    for (uint row = gl_WorkGroupID.x; row < p.R; row += gl_NumWorkGroups.x) {
        const uint target = uint(targets[row]) - p.v0; // wraps when below the chunk

        for (uint c = gl_LocalInvocationIndex; c < (p.n + 3) / 4; c += GROUP) {
            const uvec4 id = 4 * c + uvec4(0, 1, 2, 3);
            const vec4 hit = mix(vec4(0), vec4(1), equal(id, uvec4(target)));
            const vec4 raw = z[row * p.ldz / 4 + c], y = CAP != 0 ? SOFTCAP(raw, p.cap) : raw;
            const vec4 slope = CAP != 0 ? SOFTCAP_SLOPE(y, p.cap) : vec4(1);
            const vec4 v = -coef[row] * (exp(y - lse[row]) - hit) * slope;

            z[row * p.ldz / 4 + c] = mix(vec4(0), v, lessThan(id, uvec4(p.n)));
        }
    }
}
