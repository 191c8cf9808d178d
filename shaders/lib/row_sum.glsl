// Sums along rows: a workgroup of 64 works on 8 rows, 8 lanes a row. Lane l of a row takes the vec4s l,
// l + 8, ... in order; the lanes' sums are added as one fixed tree, so the bits depend neither on the
// device nor on what else lies in the workgroup. Two barriers for 8 rows. Shared: 256 bytes. With -DSHUFFLES, for
// CPU devices whose subgroups have 8 lanes or more, neither: the lanes of a row lie in one.
#ifdef SHUFFLES
#extension GL_KHR_shader_subgroup_shuffle : require
#endif
#define ROWS 8
#define LANES 8
layout(local_size_x = 64) in;

#ifndef SHUFFLES
shared vec4 row_cells[ROWS][LANES / 4];
#endif

uint row_lane() { return gl_LocalInvocationIndex % LANES; }
uint row_in_group() { return gl_LocalInvocationIndex / LANES; }

// Sum over the lanes of this invocation's row. Uniform control flow only.
#ifdef SHUFFLES
float row_sum(float x)
{
    x += subgroupShuffleXor(x, 4);
    x += subgroupShuffleXor(x, 2);
    return x + subgroupShuffleXor(x, 1);
}
#else
float row_sum(float x)
{
    barrier(); // the sum before this one has been read
    row_cells[row_in_group()][row_lane() / 4][row_lane() % 4] = x;
    barrier();
    const vec4 half4 = row_cells[row_in_group()][0] + row_cells[row_in_group()][1];
    const vec2 half2 = half4.xy + half4.zw;
    return half2.x + half2.y;
}
#endif
