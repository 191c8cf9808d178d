// norm[i] = sqrt(sum_c v[i,c]^2): the length of every row of a panel of weights.
// v (rows, cols); norm (rows). A workgroup takes 8 rows at a time. Shared: 256 bytes.
// Liu et al. 2024 (DoRA), arXiv 2402.09353, eq. 5.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/row_sum.glsl"
#include "lib/source.glsl"

layout(push_constant) uniform push { dora_norm_args p; };
layout(binding = 0, std430) writeonly buffer out_norm { float norm[]; };
SOURCE(1, v);

void main()
{
    for (uint i0 = gl_WorkGroupID.x * ROWS; i0 < p.rows; i0 += gl_NumWorkGroups.x * ROWS) {
        const uint row = i0 + row_in_group(), i = min(row, p.rows - 1); // barriers need every lane
        float sum = 0.0;

        for (uint c = row_lane(); c < (p.cols + 3) / 4; c += LANES) {
            const vec4 x = LOAD(v, i * p.ld / 4 + c);
            sum += dot(x, x);
        }
        const float total = row_sum(sum);
        if (row < p.rows && row_lane() == 0)
            norm[i] = sqrt(total);
    }
}
