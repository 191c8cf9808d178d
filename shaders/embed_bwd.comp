// dW[ids[j],:] += sum of dx[order[i],:] over i in [begin[j], begin[j+1]) in order, j < n_ids
// dW (V, C): rows v0 ... v0 + V of a table; dx (T, C): rows t0 ... t0 + T of a tensor; what lies outside
// is left to other parts. The ids are distinct: a workgroup takes one at a time. No shared memory.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/row_group.glsl"

layout(push_constant) uniform push { embed_bwd_args p; };
layout(binding = 0, std430) buffer inout_dw { vec4 dW[]; };
layout(binding = 1, std430) readonly buffer in_dx { vec4 dx[]; };
layout(binding = 2, std430) readonly buffer in_ids { int ids[]; };
layout(binding = 3, std430) readonly buffer in_begin { int begin[]; };
layout(binding = 4, std430) readonly buffer in_order { int order[]; };

void main()
{
    for (uint j = gl_WorkGroupID.x; j < p.n_ids; j += gl_NumWorkGroups.x) {
        const uint v = uint(ids[j]) - p.v0; // wraps when below the part

        for (uint c = gl_LocalInvocationIndex; v < p.V && c < (p.C + 3) / 4; c += GROUP) {
            vec4 sum = dW[v * p.lddw / 4 + c];

            for (int i = begin[j]; i < begin[j + 1]; i++) {
                const uint t = uint(order[i]) - p.t0;
                if (t < p.T)
                    sum += dx[t * p.lddx / 4 + c];
            }
            dW[v * p.lddw / 4 + c] = sum;
        }
    }
}
