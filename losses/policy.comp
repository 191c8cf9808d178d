// Driver of policy losses. For the rows r = order[i], i in [begin[s], begin[s+1]), of segment s, a sample of n tokens:
//   coef[r] = share_s * (dloss/dlogp + dloss/dlog_ratio), the second summed over the losses of all rows that log p_r
//             moves: where the ratio is the sample's, over the segment, and over n where it is a mean
//   tokens[r] = (loss, kl, low, high), as losses/prelude.h has them
// Before, tokens[r] is (log-prob of the policy that sampled, of the reference, unread, unread). facts (segments, 4):
// advantage, share of the step's loss that a token's loss is, 1 where tokens have the first, 1 where the second: of a
// sample without the first the ratio is 1, without the second the KL 0. level 0: ratios of tokens, 1: the mean
// over the sample of their logarithms, 2: the sum. stats (R, 4), logp first; order, begin: rows by segment.
// A value that is not finite gives NaN, never a number. A workgroup takes a segment. Shared: 4 * WG bytes.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/reduce.glsl"
#include "prelude.h"
#include "loss.h"

layout(push_constant) uniform push { policy_loss_args a; };
layout(binding = 0, std430) buffer out_coef { float coef[]; };
layout(binding = 1, std430) buffer out_tokens { vec4 tokens[]; };
layout(binding = 2, std430) readonly buffer in_stats { vec4 stats[]; };
layout(binding = 3, std430) readonly buffer in_facts { vec4 facts[]; };
layout(binding = 4, std430) readonly buffer in_order { int order[]; };
layout(binding = 5, std430) readonly buffer in_begin { int begin[]; };

#define NAN uintBitsToFloat(0x7fc00000u)

bool usable(float x) { return !isnan(x) && !isinf(x); }

void main()
{
    const policy_params p = policy_params(a.beta, a.epsilon_low, a.epsilon_high, a.delta, a.weighs_kl);

    for (uint s = gl_WorkGroupID.x; s < a.n_segments; s += gl_NumWorkGroups.x) {
        const int first = begin[s], end = begin[s + 1];
        const vec4 fact = facts[s];
        const bool has_old = fact.z > 0.5, has_ref = fact.w > 0.5;
        float sum = 0.0, slope = 0.0;

        for (int i = first + int(gl_LocalInvocationIndex); i < end; i += WG)
            sum += has_old ? stats[order[i]].x - tokens[order[i]].x : 0.0;
        sum = reduce_sum(sum);
        if (a.level == 1)
            sum /= float(end - first);
        for (int i = first + int(gl_LocalInvocationIndex); i < end; i += WG) {
            const int r = order[i];
            const float logp = stats[r].x, old = has_old ? tokens[r].x : logp;
            const float ref = has_ref ? tokens[r].y : logp;
            const float ratio = a.level > 0 ? sum : logp - old;
            policy_out o = policy_loss(policy_stats(logp, ref, ratio, fact.x), p);

            if (!usable(logp) || !usable(ratio) || !usable(ref) || !usable(fact.x))
                o = policy_out(NAN, NAN, NAN, NAN, NAN, NAN);
            slope += o.d_log_ratio;
            coef[r] = fact.y * (o.d_logp + (a.level == 0 ? o.d_log_ratio : 0.0));
            tokens[r] = vec4(o.loss, o.kl, o.low, o.high);
        }
        if (a.level == 0)
            continue;
        slope = reduce_sum(slope);
        if (a.level == 1)
            slope /= float(end - first);
        for (int i = first + int(gl_LocalInvocationIndex); i < end; i += WG)
            coef[order[i]] += fact.y * slope;
    }
}
