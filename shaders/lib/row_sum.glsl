// Sums and maxima along rows: a workgroup of 64 works on 8 rows, 8 lanes a row. Lane l of a row takes the
// vec4s l, l + 8, ... in order; the lanes' sums are added as one fixed tree, so the bits depend neither on
// the device nor on what else lies in the workgroup. A NaN stays one in both. Two barriers for 8 rows.
// Shared: 256 bytes, 1024 more where the vec4 sum is used.
#include "larger.glsl"
#define ROWS 8
#define LANES 8
layout(local_size_x = 64) in;

shared vec4 row_cells[ROWS][LANES / 4];
shared vec4 row_cells4[ROWS][LANES];

uint row_lane() { return gl_LocalInvocationIndex % LANES; }
uint row_in_group() { return gl_LocalInvocationIndex / LANES; }

// Sum over the lanes of this invocation's row. Uniform control flow only.
float row_sum(float x)
{
    barrier(); // the sum before this one has been read
    row_cells[row_in_group()][row_lane() / 4][row_lane() % 4] = x;
    barrier();
    const vec4 half4 = row_cells[row_in_group()][0] + row_cells[row_in_group()][1];
    const vec2 half2 = half4.xy + half4.zw;
    return half2.x + half2.y;
}

vec4 row_sum(vec4 x)
{
    const uint r = row_in_group();

    barrier();
    row_cells4[r][row_lane()] = x;
    barrier();
    return ((row_cells4[r][0] + row_cells4[r][4]) + (row_cells4[r][2] + row_cells4[r][6])) +
           ((row_cells4[r][1] + row_cells4[r][5]) + (row_cells4[r][3] + row_cells4[r][7]));
}

// Largest over the lanes of this invocation's row. Uniform control flow only.
float row_max(float x)
{
    barrier();
    row_cells[row_in_group()][row_lane() / 4][row_lane() % 4] = x;
    barrier();
    const vec4 a = row_cells[row_in_group()][0], b = row_cells[row_in_group()][1];
    return larger(larger(larger(a.x, b.x), larger(a.z, b.z)), larger(larger(a.y, b.y), larger(a.w, b.w)));
}
