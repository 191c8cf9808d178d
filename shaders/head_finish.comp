// Results of the fused head from the running values of head_chunk.comp:
//   lse = m + log l; logp = z_y - lse; entropy = log l - t / l; u = U / l - W_y (times the slope of the cap at z_y);
//   log_p2 = log(sum of p^2) = log q - 2 log l
// stats (R, 4): logp of the target, entropy, 1 if the target is the arg-max, mean raw logit over V.
// A row that met a NaN or an infinity gives NaN everywhere, never a number.
// u, wy (R, C); state (R, 8). Mapping: a workgroup takes a row at a time. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/row_group.glsl"
#include "lib/softcap.glsl"

layout(constant_id = 1) const uint CAP = 0; // 1: logits are soft-capped at p.cap
layout(push_constant) uniform push { head_finish_args p; };
layout(binding = 0, std430) writeonly buffer out_stats { vec4 stats[]; };
layout(binding = 1, std430) writeonly buffer out_lse { float lse[]; };
layout(binding = 2, std430) writeonly buffer out_log_p2 { float log_p2[]; };
layout(binding = 3, std430) buffer inout_u { vec4 u[]; };
layout(binding = 4, std430) readonly buffer in_state { float state[]; };
layout(binding = 5, std430) readonly buffer in_wy { vec4 wy[]; };
layout(binding = 6, std430) readonly buffer in_targets { int targets[]; };

#define NAN uintBitsToFloat(0x7fc00000u)

void main()
{
    for (uint row = gl_WorkGroupID.x; row < p.R; row += gl_NumWorkGroups.x) {
        const uint at = 8 * row;
        const float m = state[at], l = state[at + 1], sum = state[at + 3], log_l = log(l);
        const bool bad = isnan(sum) || isinf(sum);

        if (gl_LocalInvocationIndex == 0) {
            const float hit = state[at + 4] == float(targets[row]) ? 1.0 : 0.0;
            const vec4 v = vec4((state[at + 5] - m) - log_l, log_l - state[at + 2] / l, hit,
                                sum / float(p.V));

            stats[row] = bad ? vec4(NAN) : v;
            lse[row] = bad ? NAN : m + log_l;
            log_p2[row] = bad ? NAN : log(state[at + 6]) - 2.0 * log_l;
        }
        if (p.with_u != 0)
            for (uint c = gl_LocalInvocationIndex; c < (p.C + 3) / 4; c += GROUP) {
                const uint i = row * p.ldu / 4 + c;
                const float slope = CAP != 0 ? SOFTCAP_SLOPE(state[at + 5], p.cap) : 1.0;
                const vec4 v = u[i] / l - slope * wy[row * p.ldy / 4 + c];

                u[i] = bad ? vec4(NAN) : v;
            }
    }
}
