// x[r,c] = the value of a stored weight, bit for bit what the format's definition gives in f32.
// x (rows, cols) f32; planes as in engine/ops/quant.h, their rows stride words apart. One module a
// format (-DDQ_<name>).
// Mapping: a workgroup takes a row at a time, an invocation 4 columns. The columns from cols to the
// next multiple of 4 are written as zeros. No shared memory. Formats: ggml, Gerganov et al.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/row_group.glsl"

layout(push_constant) uniform push { dequantise_args p; };
layout(binding = 0, std430) writeonly buffer out_x { vec4 x[]; };
#include "lib/dq.glsl"

void main()
{
    for (uint row = gl_WorkGroupID.x; row < p.rows; row += gl_NumWorkGroups.x)
        for (uint c = gl_LocalInvocationIndex; c < (p.cols + 3) / 4; c += GROUP) {
            const bvec4 used = lessThan(4 * c + uvec4(0, 1, 2, 3), uvec4(p.cols));

            x[row * p.ld / 4 + c] = mix(vec4(0), dq(row, c), used);
        }
}
