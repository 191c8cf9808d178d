// dm[c] += sum_t dy[t,c] * u[t,c] / norm[c], in blocks of 256 rows that are added in order; nothing where
// the norm is 0. dm, norm (C); dy, u (T, C). A workgroup takes 8 vec4 columns; of a block, row slice s takes
// the rows s, s + 8, ... and the slices are added as one tree. The columns from C to the next multiple of 4
// are left alone. Shared: 1 KiB. Liu et al. 2024 (DoRA), arXiv 2402.09353, section 4.3: the norm is a
// constant in the backward pass.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/source.glsl"

#define BLOCK 256
#define COLUMNS 8
#define SLICES 8
layout(local_size_x = 64) in;
layout(push_constant) uniform push { dora_bwd_args p; };
layout(binding = 0, std430) buffer inout_dm { float dm[]; };
SOURCE(1, dy);
SOURCE(2, u);
layout(binding = 3, std430) readonly buffer in_norm { float norm[]; };

shared vec4 cells[SLICES][COLUMNS];

void main()
{
    const uint column = gl_LocalInvocationIndex % COLUMNS, slice = gl_LocalInvocationIndex / COLUMNS;
    const uint c = gl_WorkGroupID.x * COLUMNS + column;
    const bool inside = 4 * c < p.C, writes = inside && slice == 0;
    const uint n = writes ? min(4u, p.C - 4 * c) : 0;
    vec4 total = vec4(0);

    for (uint t0 = 0; t0 < p.T; t0 += BLOCK) {
        const uint end = inside ? min(t0 + BLOCK, p.T) : 0;
        vec4 sum = vec4(0);

        for (uint t = t0 + slice; t < end; t += SLICES)
            sum += LOAD(dy, t * p.lddy / 4 + c) * LOAD(u, t * p.ldu / 4 + c);
        barrier(); // the block before this one has been read
        cells[slice][column] = sum;
        barrier();
        total += ((cells[0][column] + cells[4][column]) + (cells[2][column] + cells[6][column])) +
                 ((cells[1][column] + cells[5][column]) + (cells[3][column] + cells[7][column]));
    }
    for (uint e = 0; e < n; e++)
        if (norm[4 * c + e] > 0.0)
            dm[4 * c + e] += total[e] / norm[4 * c + e];
}
