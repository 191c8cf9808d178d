// dw[c] += sum_t dy[t,c] * x[t,c] * rstd[t], in blocks of 256 rows that are added in order.
// dw (C); dy, x (T, C); rstd (T). A workgroup takes 8 vec4 columns; of a block, row slice s takes the
// rows s, s + 8, ... and the slices are added as one tree. The columns from C to the next multiple of 4
// are left alone. Shared: 1 KiB.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/source.glsl"

#define BLOCK 256
#define COLUMNS 8
#define SLICES 8
layout(local_size_x = 64) in;
layout(push_constant) uniform push { rmsnorm_bwd_weight_args p; };
layout(binding = 0, std430) buffer inout_dw { float dw[]; };
SOURCE(1, dy);
SOURCE(2, x);
layout(binding = 3, std430) readonly buffer in_rstd { float rstd[]; };

shared vec4 cells[SLICES][COLUMNS];

void main()
{
    const uint column = gl_LocalInvocationIndex % COLUMNS, slice = gl_LocalInvocationIndex / COLUMNS;
    const uint c = gl_WorkGroupID.x * COLUMNS + column;
    const bool inside = 4 * c < p.C, writes = inside && slice == 0;
    const uint n = writes ? min(4u, p.C - 4 * c) : 0;
    vec4 total = vec4(0);

    for (uint e = 0; e < n; e++)
        total[e] = dw[4 * c + e];
    for (uint t0 = 0; t0 < p.T; t0 += BLOCK) {
        const uint end = inside ? min(t0 + BLOCK, p.T) : 0;
        vec4 sum = vec4(0);

        for (uint t = t0 + slice; t < end; t += SLICES)
            sum += LOAD(dy, t * p.lddy / 4 + c) * LOAD(x, t * p.ldx / 4 + c) * rstd[t];
        barrier(); // the block before this one has been read
        cells[slice][column] = sum;
        barrier();
        total += ((cells[0][column] + cells[4][column]) + (cells[2][column] + cells[6][column])) +
                 ((cells[1][column] + cells[5][column]) + (cells[3][column] + cells[7][column]));
    }
    for (uint e = 0; e < n; e++)
        dw[4 * c + e] = total[e];
}
