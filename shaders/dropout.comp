// y = keep * scale * x, or y += it with accumulate; keep[t, c] = (word c % 4 of Philox) >= threshold,
// counter (c / 4, place, row, module), key (key0, key1): a mask is a function of the token's row and its
// place in it, never of where the token stands. y, x (T, C); tokens (T) of (row, place). y may be x.
// A workgroup takes a row at a time. No shared memory. Srivastava et al. 2014 (JMLR 15), inverted.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/philox.glsl"
#include "lib/row_group.glsl"

layout(push_constant) uniform push { dropout_args p; };
layout(binding = 0, std430) buffer inout_y { vec4 y[]; };
layout(binding = 1, std430) readonly buffer in_x { vec4 x[]; };
layout(binding = 2, std430) readonly buffer in_tokens { uvec2 tokens[]; };

void main()
{
    const uvec2 key = uvec2(p.key0, p.key1);

    for (uint t = gl_WorkGroupID.x; t < p.T; t += gl_NumWorkGroups.x)
        for (uint c = gl_LocalInvocationIndex; c < (p.C + 3) / 4; c += GROUP) {
            const uvec4 random = philox(uvec4(c, tokens[t].y, tokens[t].x, p.module), key);
            const bvec4 keep = greaterThanEqual(random, uvec4(p.threshold));
            const precise vec4 kept = mix(vec4(0), p.scale * x[t * p.ldx / 4 + c], keep);
            const uint at = t * p.ldy / 4 + c;

            if (p.accumulate != 0)
                y[at] += kept;
            else
                y[at] = kept;
        }
}
