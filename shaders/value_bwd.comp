// dw[c] += sum_r coef[r] * h[r,c], in blocks of 256 rows that are added in order: the gradient of a value
// head (value_fwd.comp). dw (C); h (R, C); coef (R). A workgroup takes 8 vec4 columns; of a block, row slice
// s takes the rows s, s + 8, ... and the slices are added as one tree. The columns from C to the next multiple
// of 4 get zeros, as h has them. Shared: 1 KiB.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"

#define BLOCK 256
#define COLUMNS 8
#define SLICES 8
layout(local_size_x = 64) in;
layout(push_constant) uniform push { value_bwd_args p; };
layout(binding = 0, std430) buffer inout_dw { vec4 dw[]; };
layout(binding = 1, std430) readonly buffer in_h { vec4 h[]; };
layout(binding = 2, std430) readonly buffer in_coef { float coef[]; };

shared vec4 cells[SLICES][COLUMNS];

void main()
{
    const uint column = gl_LocalInvocationIndex % COLUMNS, slice = gl_LocalInvocationIndex / COLUMNS;
    const uint c = gl_WorkGroupID.x * COLUMNS + column;
    const bool inside = 4 * c < p.C;
    vec4 total = vec4(0);

    if (inside)
        total = dw[c];
    for (uint r0 = 0; r0 < p.R; r0 += BLOCK) {
        const uint end = inside ? min(r0 + BLOCK, p.R) : 0;
        vec4 sum = vec4(0);

        for (uint r = r0 + slice; r < end; r += SLICES)
            sum += coef[r] * h[r * p.ldh / 4 + c];
        barrier(); // the block before this one has been read
        cells[slice][column] = sum;
        barrier();
        total += ((cells[0][column] + cells[4][column]) + (cells[2][column] + cells[6][column])) +
                 ((cells[1][column] + cells[5][column]) + (cells[3][column] + cells[7][column]));
    }
    if (inside && slice == 0)
        dw[c] = total;
}
