// y[t,:] = x[t,:] - mean_c x[t,c], or y[t,:] += the same with `accumulate`; the second is its own gradient.
// y, x (T, C). A workgroup takes 8 rows at a time. Shared: 256 bytes.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/row_sum.glsl"
#include "lib/source.glsl"

layout(push_constant) uniform push { center_args p; };
layout(binding = 0, std430) buffer inout_y { vec4 y[]; };
SOURCE(1, x);
#ifdef TEXELS
layout(binding = 2) uniform samplerBuffer old; // y for reading
#else
#define old y
#endif

void main()
{
    for (uint t0 = gl_WorkGroupID.x * ROWS; t0 < p.T; t0 += gl_NumWorkGroups.x * ROWS) {
        const uint row = t0 + row_in_group(), t = min(row, p.T - 1); // barriers need every lane
        const uint at_y = t * p.ldy / 4, at_x = t * p.ldx / 4, end = (p.C + 3) / 4;
        float sum = 0.0;

        for (uint c = row_lane(); c < end; c += LANES)
            sum += dot(LOAD(x, at_x + c), vec4(1)); // what lies beyond column C is zero
        const float mean = row_sum(sum) / float(p.C);
        if (row >= p.T)
            continue;
        for (uint c = row_lane(); c < end; c += LANES) {
            const vec4 v = cut_at(p.C, c, LOAD(x, at_x + c) - mean);
            y[at_y + c] = p.accumulate != 0 ? LOAD(old, at_y + c) + v : v;
        }
    }
}
