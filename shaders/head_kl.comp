// KL(p || q) of a row's next token over the whole vocabulary, two states h, h' before one head W:
//   sum_v p_v log(p_v / q_v) = (h - h') . sum_v p_v W_v - (lse - lse') = (h - h') . u + log p_y - log q_y
// with u = sum_v p_v W_v - W_y, the gradient row that head_finish.comp leaves: no logits are needed again.
// kl (R, 4): the value (nats) and three zeros, as segment_sum.comp reads them; u, h, h' (R, C); stats and
// those of h' (R, 4) from head_finish.comp. A workgroup takes a row at a time; a sum depends on C alone.
// Shared: 20 * WG bytes.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/reduce.glsl"

layout(push_constant) uniform push { head_kl_args p; };
layout(binding = 0, std430) writeonly buffer out_kl { vec4 kl[]; };
layout(binding = 1, std430) readonly buffer in_stats { vec4 stats[]; };
layout(binding = 2, std430) readonly buffer in_ref_stats { vec4 ref_stats[]; };
layout(binding = 3, std430) readonly buffer in_u { vec4 u[]; };
layout(binding = 4, std430) readonly buffer in_h { vec4 h[]; };
layout(binding = 5, std430) readonly buffer in_ref_h { vec4 ref_h[]; };

void main()
{
    for (uint r = gl_WorkGroupID.x; r < p.R; r += gl_NumWorkGroups.x) {
        vec4 parts = vec4(0);

        for (uint c = gl_LocalInvocationIndex; c < (p.C + 3) / 4; c += WG)
            parts += (h[r * p.ldh / 4 + c] - ref_h[r * p.ldr / 4 + c]) * u[r * p.ldu / 4 + c];
        parts = reduce_sum(parts);
        if (gl_LocalInvocationIndex == 0)
            kl[r] = vec4((parts.x + parts.z) + (parts.y + parts.w) +
                             (stats[r].x - ref_stats[r].x), 0, 0, 0);
    }
}
