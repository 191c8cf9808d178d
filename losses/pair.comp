// Driver of pair losses: pair i has `segments` segments, chosen, rejected and, of three, its prompt or its
// reference. The loss sees as its chosen side what `chosen` says (args.h). Adds one loss of a list, with
// use_weighting times w = prod over sides of e^(mean over tokens of log p(token) - log sum p^2), a constant:
//   coef[r] += weight * w dloss/dlogp_r for the rows r of its segments
//   result[i] += (loss_weight * w * loss, 0, 0, 0); its two other numbers become the pair's log-ratios
// A log-ratio is the sum of policy - reference log-probs, each times its row_weight; the loss sees its score
// under the divergence or, with log_ratios 0, the policy's sum without weights. sums, ref_sums (segments, 8)
// as segment_sum.comp writes them, but value 7 of a chosen side's ref_sums is the pair's margin; order, begin:
// rows by segment; matches (n_pairs, 4): struct pair_match, of coupled losses. Log-ratios that are not finite
// give NaN, never a number. A workgroup takes a pair. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "prelude.h"
#include "divergence.h"
#include "loss.h"

layout(local_size_x = 64) in;
layout(push_constant) uniform push { pair_loss_args a; };
layout(binding = 0, std430) buffer inout_coef { float coef[]; };
layout(binding = 1, std430) buffer inout_result { vec4 result[]; };
layout(binding = 2, std430) readonly buffer in_sums { float sums[]; };
layout(binding = 3, std430) readonly buffer in_ref_sums { float ref_sums[]; };
layout(binding = 4, std430) readonly buffer in_row_weight { float row_weight[]; };
layout(binding = 5, std430) readonly buffer in_match { vec4 matches[]; };
layout(binding = 6, std430) readonly buffer in_order { int order[]; };
layout(binding = 7, std430) readonly buffer in_begin { int begin[]; };

#define NAN uintBitsToFloat(0x7fc00000u)

bool usable(float x) { return !isnan(x) && !isinf(x); }

score_out side(float logp, float log_ratio)
{
    if (a.log_ratios == 0)
        return reverse_kl_score(logp);
    return divergence_score(a.divergence, log_ratio, a.alpha);
}

// Of a side's sums: how likely the policy is to give these tokens itself. Zhou et al. 2024, arXiv 2406.11827
// (WPO), eq. 2.
float side_weight(uint at) { return exp((sums[at + 5] - sums[at + 6]) / sums[at + 4]); }

void spread(uint segment, float value)
{
    for (int i = begin[segment] + int(gl_LocalInvocationIndex); i < begin[segment + 1]; i += 64)
        coef[order[i]] += a.log_ratios == 0 ? value : value * row_weight[order[i]];
}

void main()
{
    for (uint i = gl_WorkGroupID.x; i < a.n_pairs; i += gl_NumWorkGroups.x) {
        const uint first = a.segments * i, c = 8 * first, r = c + 8;
        const bool first_counts = a.chosen != PAIR_CHOSEN_THIRD, third_counts = a.chosen != PAIR_CHOSEN_FIRST;
        const float third = third_counts ? sums[c + 21] : 0.0;
        const float logp = (first_counts ? sums[c + 5] : 0.0) + third;
        const float n = (first_counts ? sums[c + 4] : 0.0) + (third_counts ? sums[c + 20] : 0.0);
        const loss_params p =
            loss_params(a.beta, a.label_smoothing, a.discopop_tau, a.mean_n_chosen, a.simpo_gamma,
                        a.alphapo_alpha, a.center_rewards_coefficient, ref_sums[c + 7], a.tpo_l_gamma);
        const float ratio_chosen = sums[c] - ref_sums[c], ratio_rejected = sums[r] - ref_sums[r];
        const score_out chosen = side(logp, ratio_chosen);
        const score_out rejected = side(sums[r + 5], ratio_rejected);
        const float w = a.use_weighting == 0 ? 1.0 : side_weight(c) * side_weight(r);
        pair_out o = pair_loss(
            pair_stats(chosen.score, rejected.score, n, sums[r + 4]), p,
            pair_match(matches[i].x, matches[i].y, matches[i].z));

        if (!usable(ratio_chosen + third) || !usable(ratio_rejected))
            o = pair_out(NAN, NAN, NAN);
        if (gl_LocalInvocationIndex == 0)
            result[i] =
                vec4(result[i].x + a.loss_weight * w * o.loss, ratio_chosen, ratio_rejected, 0.0);
        if (first_counts)
            spread(first, a.weight * w * o.d_chosen * chosen.slope);
        spread(first + 1, a.weight * w * o.d_rejected * rejected.slope);
        if (third_counts)
            spread(first + 2, a.weight * w * o.d_chosen * chosen.slope);
    }
}
