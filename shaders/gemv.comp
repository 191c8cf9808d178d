// y[m,n] (+)= alpha * sum_k W[n,k] x[m,k]: a product with few rows, for decoding; W (N,K) as it is stored.
// y (M,N) from column y_col of its rows on, x (M,K) f32; planes of W as in engine/ops/quant.h. The sum is over
// columns k_begin to k_end, the first a multiple of 32. One module a format (-DDQ_<name>).
// Mapping: a workgroup takes a row of W and one of x at a time, an invocation the vec4s i, i + 64, ... in order, then
// one tree: bits depend on the shape alone. Shared: 1280 bytes.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/reduce.glsl"

layout(push_constant) uniform push { gemv_args p; };
layout(binding = 0, std430) buffer out_y { float y[]; };
#include "lib/dq.glsl"
#ifdef DQ_SCALES
layout(binding = 3, std430) readonly buffer in_x { vec4 x[]; };
#else
layout(binding = 2, std430) readonly buffer in_x { vec4 x[]; };
#endif

void main()
{
    for (uint n = gl_WorkGroupID.x; n < p.N; n += gl_NumWorkGroups.x)
        for (uint m = gl_WorkGroupID.y; m < p.M; m += gl_NumWorkGroups.y) {
            vec4 sum = vec4(0);

            for (uint c = p.k_begin / 4 + gl_LocalInvocationIndex; c < (p.k_end + 3) / 4; c += WG)
                sum += mix(vec4(0), dq(n, c) * x[m * p.ldx / 4 + c],
                           lessThan(4 * c + uvec4(0, 1, 2, 3), uvec4(p.k_end)));
            const float total = p.alpha * reduce_sum(sum.x + sum.y + (sum.z + sum.w));
            if (gl_LocalInvocationIndex == 0) {
                const uint at = m * p.ldy + p.y_col + n;

                y[at] = p.accumulate != 0 ? y[at] + total : total;
            }
        }
}
