// AdamW with clipping, in PyTorch's order (Loshchilov and Hutter 2019, arXiv 1711.05101):
//   g *= norm[1]; p *= 1 - lr wd; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
//   p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps); g = 0
// When norm[2] is 0 only g = 0 happens. p, g, m, v (n); norm (8) from sqnorm_total.comp. The factors come
// from the host, in double. An invocation takes 4 elements; none past n is written. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"

layout(local_size_x = 64) in;
layout(push_constant) uniform push { adamw_args p; };
layout(binding = 0, std430) buffer inout_p { vec4 param[]; };
layout(binding = 1, std430) buffer inout_g { vec4 grad[]; };
layout(binding = 2, std430) buffer inout_m { vec4 first[]; };
layout(binding = 3, std430) buffer inout_v { vec4 second[]; };
layout(binding = 4, std430) readonly buffer in_norm { vec4 norm[2]; };

void main()
{
    for (uint i = gl_GlobalInvocationID.x; 4 * i < p.n; i += 64 * gl_NumWorkGroups.x) {
        const bvec4 used = lessThan(4 * i + uvec4(0, 1, 2, 3), uvec4(p.n));
        const vec4 old = grad[i];

        grad[i] = mix(old, vec4(0), used);
        if (norm[0].z == 0.0)
            continue;
        const precise vec4 g = old * norm[0].y;
        const precise vec4 m = p.beta1 * first[i] + p.one_minus_beta1 * g;
        const precise vec4 v = p.beta2 * second[i] + p.one_minus_beta2 * (g * g);
        const precise vec4 denom = sqrt(v) / p.sqrt_correction2 + p.epsilon;
        const precise vec4 w = param[i] * p.decay - p.step_size * (m / denom);

        first[i] = mix(first[i], m, used);
        second[i] = mix(second[i], v, used);
        param[i] = mix(param[i], w, used);
    }
}
