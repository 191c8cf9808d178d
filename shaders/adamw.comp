// AdamW with clipping, in PyTorch's order (Loshchilov and Hutter 2019, arXiv 1711.05101):
//   g *= norm[1]; p *= 1 - lr wd; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
//   p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps); g = 0
// When norm[2] is 0 only g = 0 happens. p, g, m, v (n); norm (8) from sqnorm_total.comp. The factors come
// from the host, in double. An invocation takes 4 elements; none past n is written. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/store.glsl"
#include "args.h"
#include "lib/source.glsl"

layout(local_size_x = 64) in;
layout(push_constant) uniform push { adamw_args p; };
INOUT(0, param)
INOUT(1, grad)
INOUT(2, first)
INOUT(3, second)
layout(binding = 4, std430) readonly buffer in_norm { vec4 norm[2]; };
#ifdef TEXELS // for reading
layout(binding = 5) uniform samplerBuffer old_p;
layout(binding = 6) uniform samplerBuffer old_g;
layout(binding = 7) uniform samplerBuffer old_m;
layout(binding = 8) uniform samplerBuffer old_v;
#else
#define old_p param
#define old_g grad
#define old_m first
#define old_v second
#endif

void main()
{
    for (uint i0 = 64 * gl_WorkGroupID.x; 4 * i0 < p.n; i0 += 64 * gl_NumWorkGroups.x) {
        const uint own = i0 + gl_LocalInvocationIndex, i = min(own, (p.n - 1) / 4);
        const bool on = own == i;
        const bvec4 used = lessThan(4 * i + uvec4(0, 1, 2, 3), uvec4(p.n));
        const vec4 g0 = LOAD(old_g, i);

        STORE(grad, on, i, mix(g0, vec4(0), used));
        if (norm[0].z == 0.0)
            continue;
        const vec4 p0 = LOAD(old_p, i), m0 = LOAD(old_m, i), v0 = LOAD(old_v, i);
        const precise vec4 g = g0 * norm[0].y;
        const precise vec4 m = p.beta1 * m0 + p.one_minus_beta1 * g;
        const precise vec4 v = p.beta2 * v0 + p.one_minus_beta2 * (g * g);
        const precise vec4 denom = sqrt(v) / p.sqrt_correction2 + p.epsilon;
        const precise vec4 w = p0 * p.decay - p.step_size * (m / denom);

        STORE(first, on, i, mix(m0, m, used));
        STORE(second, on, i, mix(v0, v, used));
        STORE(param, on, i, mix(p0, w, used));
    }
}
