// Driver of token losses: for rows with row_segment[r] >= 0
//   coef[r] = weight * dloss/dlogp_r, row_loss[r] = (loss, 0, 0, 0); other rows get 0 in both.
// stats (R, 4), logp first; row_segment (R) int. A log-prob that is not finite gives NaN, never a number.
// An invocation takes a row. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "prelude.h"
#include "loss.h"

layout(local_size_x = 64) in;
layout(push_constant) uniform push { token_loss_args a; };
layout(binding = 0, std430) writeonly buffer out_coef { float coef[]; };
layout(binding = 1, std430) writeonly buffer out_row_loss { vec4 row_loss[]; };
layout(binding = 2, std430) readonly buffer in_stats { float stats[]; };
layout(binding = 3, std430) readonly buffer in_row_segment { int row_segment[]; };

#define NAN uintBitsToFloat(0x7fc00000u)

void main()
{
    for (uint r = gl_GlobalInvocationID.x; r < a.R; r += 64 * gl_NumWorkGroups.x) {
        const float logp = stats[4 * r];
        token_out o = token_loss(token_stats(logp, logp));

        if (isnan(logp) || isinf(logp))
            o = token_out(NAN, NAN);
        coef[r] = row_segment[r] >= 0 ? a.weight * o.d_logp : 0.0;
        row_loss[r] = vec4(row_segment[r] >= 0 ? o.loss : 0.0, 0.0, 0.0, 0.0);
    }
}
