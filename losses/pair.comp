// Driver of pair losses: pair i has segments 2i (chosen) and 2i + 1 (rejected).
//   coef[r] = weight * dloss/dlogp_r for the rows r of its two segments (the caller has zeroed the rest)
//   result[i] = (loss, score_chosen, score_rejected, 0), score = sum of policy - reference log-probs
// sums, ref_sums (segments, 8) as segment_sum.comp writes them; order, begin: rows by segment. Scores that
// are not finite give NaN, never a number. A workgroup takes a pair. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "prelude.h"
#include "loss.h"

layout(local_size_x = 64) in;
layout(push_constant) uniform push { pair_loss_args a; };
layout(binding = 0, std430) writeonly buffer out_coef { float coef[]; };
layout(binding = 1, std430) writeonly buffer out_result { vec4 result[]; };
layout(binding = 2, std430) readonly buffer in_sums { float sums[]; };
layout(binding = 3, std430) readonly buffer in_ref_sums { float ref_sums[]; };
layout(binding = 4, std430) readonly buffer in_order { int order[]; };
layout(binding = 5, std430) readonly buffer in_begin { int begin[]; };

#define NAN uintBitsToFloat(0x7fc00000u)

bool usable(float x) { return !isnan(x) && !isinf(x); }

void spread(uint segment, float value)
{
    for (int i = begin[segment] + int(gl_LocalInvocationIndex); i < begin[segment + 1]; i += 64)
        coef[order[i]] = value;
}

void main()
{
    for (uint i = gl_WorkGroupID.x; i < a.n_pairs; i += gl_NumWorkGroups.x) {
        const uint c = 16 * i, r = c + 8;
        const pair_stats s =
            pair_stats(sums[c] - ref_sums[c], sums[r] - ref_sums[r], sums[c + 4], sums[r + 4]);
        pair_out o = pair_loss(s, loss_params(a.beta, a.label_smoothing));

        if (!usable(s.score_chosen) || !usable(s.score_rejected))
            o = pair_out(NAN, NAN, NAN);
        if (gl_LocalInvocationIndex == 0)
            result[i] = vec4(o.loss, s.score_chosen, s.score_rejected, 0);
        spread(2 * i, a.weight * o.d_chosen);
        spread(2 * i + 1, a.weight * o.d_rejected);
    }
}
