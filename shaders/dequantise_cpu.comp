// dequantise.comp for CPU Vulkan drivers (Mesa llvmpipe): the same bits, by whole texels of quants.
// Mapping: an invocation takes a row of a workgroup's 16 rows, a texel (8 to 32 weights) a turn. No
// shared memory. Why so: all lanes have the same work, a row's tail is no test.
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#include "lib/store.glsl"
#include "args.h"

layout(local_size_x = 16) in;
layout(push_constant) uniform push { dequantise_args p; };
TARGET(0, x)
#include "lib/dq_texel.glsl"

void main()
{
    const int own = int(gl_WorkGroupID.x * 16 + gl_LocalInvocationIndex), row = min(own, int(p.rows) - 1);
    const int cols4 = int(p.cols + 3) / 4;

    dq_begin();
    for (int i = 0; i * COUNT4 < cols4; i++) {
        const vec4 w[COUNT4] = dq_texel(row, i);
        const int at = row * int(p.ld) / 4 + i * COUNT4;

        [[unroll]] for (int e = 0; e < COUNT4; e++) {
#if COUNT4 == 2 // any number of columns, others have whole blocks
            const int left = int(p.cols) - 4 * (i * COUNT4 + e);

            STORE(x, own == row && left > 0, at + e, mix(vec4(0), w[e], lessThan(ivec4(0, 1, 2, 3), ivec4(left))));
#else
            STORE(x, own == row, at + e, w[e]);
#endif
        }
    }
}
