// norm[0] = sqrt(sum of slots), norm[1] = min(1, max_norm / (norm[0] + 1e-6)) or 1 without max_norm,
// norm[2] = 1 if norm[0] is finite, else 0, as torch.nn.utils.clip_grad_norm_ does; the rest is 0.
// slots (n); norm (8). One workgroup; the order of the sum is fixed. Shared: 20 * WG bytes.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/reduce.glsl"

layout(push_constant) uniform push { sqnorm_total_args p; };
layout(binding = 0, std430) writeonly buffer out_norm { float norm[]; };
layout(binding = 1, std430) readonly buffer in_slots { float slots[]; };

void main()
{
    float sum = 0.0;

    for (uint i = gl_LocalInvocationIndex; i < p.n; i += WG)
        sum += slots[i];
    const float l2 = sqrt(reduce_sum(sum));
    if (gl_LocalInvocationIndex >= 8)
        return;
    const bool finite = !isnan(l2) && !isinf(l2);
    float v = 0.0;
    if (gl_LocalInvocationIndex == 0)
        v = l2;
    else if (gl_LocalInvocationIndex == 1)
        v = p.max_norm > 0.0 && finite ? min(1.0, p.max_norm / (l2 + 1e-6)) : 1.0;
    else if (gl_LocalInvocationIndex == 2)
        v = finite ? 1.0 : 0.0;
    norm[gl_LocalInvocationIndex] = v;
}
