// dsum[t][h] = sum_d o[t][h][d] d_o[t][h][d], the first step of the attention's backward pass.
// o, d_o (T, H * D); dsum (T, H). An invocation takes one (t, h). No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/source.glsl"

layout(constant_id = 1) const uint D = 64;
layout(local_size_x = 64) in;
layout(push_constant) uniform push { attention_sum_args p; };
layout(binding = 0, std430) writeonly buffer out_dsum { float dsum[]; };
SOURCE(1, o);
SOURCE(2, d_o);

void main()
{
    const uint step = gl_NumWorkGroups.x * 64;

    for (uint i = gl_GlobalInvocationID.x; i < p.T * p.H; i += step) {
        const uint t = i / p.H, h = i % p.H;
        float sum = 0.0;
        uint d = 0;

        do {
            sum += dot(LOAD(o, (t * p.ldo + h * D) / 4 + d), LOAD(d_o, (t * p.lddo + h * D) / 4 + d));
        } while (++d < D / 4);
        dsum[i] = sum;
    }
}
