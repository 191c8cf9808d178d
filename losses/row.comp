// Driver of row losses: row i has one segment.
//   coef[r] = weight * dloss/dlogp_r for the rows r of it
//   result[i] = (loss, log-ratio, 0, 0)
// A log-ratio is the sum of policy - reference log-probs. sums, ref_sums (segments, 8) as segment_sum.comp
// writes them; facts (rows, 2): KL term, 1 where the row is desirable; order, begin: completion rows by segment.
// Log-ratios that are not finite give NaN, never a number. A workgroup takes a row. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "prelude.h"
#include "loss.h"

layout(local_size_x = 64) in;
layout(push_constant) uniform push { row_loss_args a; };
layout(binding = 0, std430) writeonly buffer out_coef { float coef[]; };
layout(binding = 1, std430) writeonly buffer out_result { vec4 result[]; };
layout(binding = 2, std430) readonly buffer in_sums { float sums[]; };
layout(binding = 3, std430) readonly buffer in_ref_sums { float ref_sums[]; };
layout(binding = 4, std430) readonly buffer in_facts { vec2 facts[]; };
layout(binding = 5, std430) readonly buffer in_order { int order[]; };
layout(binding = 6, std430) readonly buffer in_begin { int begin[]; };

#define NAN uintBitsToFloat(0x7fc00000u)

bool usable(float x) { return !isnan(x) && !isinf(x); }

void main()
{
    const row_params p = row_params(a.beta, a.desirable_weight, a.undesirable_weight);

    for (uint i = gl_WorkGroupID.x; i < a.n_rows; i += gl_NumWorkGroups.x) {
        const float score = sums[8 * i] - ref_sums[8 * i];
        row_out o = row_loss(row_stats(score, facts[i].x, facts[i].y), p);

        if (!usable(score) || !usable(facts[i].x))
            o = row_out(NAN, NAN);
        if (gl_LocalInvocationIndex == 0)
            result[i] = vec4(o.loss, score, 0.0, 0.0);
        for (int r = begin[i] + int(gl_LocalInvocationIndex); r < begin[i + 1]; r += 64)
            coef[order[r]] = a.weight * o.d_score;
    }
}
