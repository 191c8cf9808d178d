// gemv.comp for CPU Vulkan drivers (Mesa llvmpipe). One module a format and subgroup size (LANES).
// Mapping: a lane takes a row of W, 32 columns a turn by whole texels of quants; x is read once by the
// lanes and spread by constant-index shuffles. No shared memory. Beyond the end of x a fetch gives 0,
// and so does one behind the end of a row of W.
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "args.h"

#define TURN4 8                              // vec4s of a row a turn
#define READS ((TURN4 + LANES - 1) / LANES)  // of x a turn
layout(local_size_x = LANES) in;
layout(push_constant) uniform push { gemv_args p; };
layout(binding = 0, std430) buffer out_y { float y[]; };
#include "lib/dq_texel.glsl"
#ifdef DQ_SCALES
layout(binding = 3) uniform samplerBuffer x;
#else
layout(binding = 2) uniform samplerBuffer x;
#endif

const int OUTSIDE = -(1 << 30); // an index whose fetch gives 0

void main()
{
    const int lane = int(gl_LocalInvocationID.x), row = int(gl_WorkGroupID.x) * LANES + lane;
    const int texels = (int(p.K) + 4 * COUNT4 - 1) / (4 * COUNT4); // of a row
    vec4 sum = vec4(0);

    for (int c = 0; 4 * c < int(p.K); c += TURN4) {
        vec4 x4[READS];

        [[unroll]] for (int i = 0; i < READS; i++)
            x4[i] = texelFetch(x, c + i * LANES + lane);
        [[unroll]] for (int t = 0; t < TURN4 / COUNT4; t++) {
            const int i = c / COUNT4 + t;
            const vec4 w[COUNT4] = dq_texel(row, i < texels ? i : OUTSIDE);

            [[unroll]] for (int e = 0; e < COUNT4; e++) {
                const int at = t * COUNT4 + e;

                sum += w[e] * subgroupShuffle(x4[at / LANES], uint(at % LANES));
            }
        }
    }
    if (row < int(p.N)) {
        const float total = p.alpha * (sum.x + sum.y + (sum.z + sum.w));

        y[row] = p.accumulate != 0 ? y[row] + total : total;
    }
}
