// h[c,r] = x[r,c] * 2^(row_exp[r] - exps[c]) rounded to a half: x turned over, the first operand of a
// product on matrix units that sums over its rows. C = x^T b is gemm_half_nn of h and of b as
// pack_rows.comp packs it: an exponent of a row of b is row_exp, that of a row of C is exps, of the
// column's largest magnitude as there. With -DBF16 h is x as bf16, as it is, but turned over.
// x (rows, cols) f32 from column x_col of its rows on; h (cols, rows) halves ldh apart (a multiple of 8),
// 0 from rows to ldh.
// Mapping: a workgroup takes 16 columns at a time and reads them twice, for the exponents and in tiles of
// 64 rows, which it turns over in shared memory; an invocation has 4 columns of x, 8 halves of h.
// Shared: 5376 bytes.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/to_halves.glsl"

const uint COLS = 16, ROWS = 64, STRIDE = COLS + 1;

layout(local_size_x = 64) in;
layout(push_constant) uniform push { pack_columns_args p; };
layout(binding = 0, std430) writeonly buffer out_h { uvec4 h[]; };
layout(binding = 1, std430) readonly buffer in_x { vec4 x[]; };
#ifndef BF16
layout(binding = 2, std430) writeonly buffer out_exps { int exps[]; };
layout(binding = 3, std430) readonly buffer in_row_exp { int row_exp[]; };

shared uvec4 most[64];
#endif
shared float tile[ROWS * STRIDE];

// Columns c ... c + 3 of a row; 0 outside the matrix
vec4 load(uint row, uint c)
{
    vec4 v = vec4(0);

    if (row < p.rows && c < p.cols) {
        v = x[(row * p.ldx + p.x_col + c) / 4];
#ifndef BF16
        v *= power(row_exp[row]);
#endif
    }
    return mix(vec4(0), v, lessThan(c + uvec4(0, 1, 2, 3), uvec4(p.cols)));
}

#ifdef BF16
float column_factor(uint c0, uint col) { return 1.0; }
#else
// Leaves the bits of the largest magnitudes of columns c0 ... c0 + 15 in most[0 ... 3]
void find_most(uint c0)
{
    const uint i = gl_LocalInvocationIndex;
    uvec4 m = uvec4(0);

    for (uint r = i / 4; r < p.rows; r += 16)
        m = max(m, floatBitsToUint(load(r, c0 + i % 4 * 4)) & 0x7fffffffu);
    most[i] = m;
    for (uint half_size = 32; half_size >= 4; half_size /= 2) {
        barrier();
        if (i < half_size)
            most[i] = max(most[i], most[i + half_size]);
    }
    barrier();
}

// Of column c0 + col, which some lanes have in common
float column_factor(uint c0, uint col)
{
    find_most(c0);
    const int e = vector_exp(most[col / 4][col % 4]);

    if (c0 + col < p.cols)
        exps[c0 + col] = e;
    return power(-e);
}
#endif

void main()
{
    const uint i = gl_LocalInvocationIndex, row = i / 4, near = i % 4 * 4; // of x
    const uint col = i / 4;                                               // of h

    for (uint c0 = gl_WorkGroupID.x * COLS; c0 < p.cols; c0 += gl_NumWorkGroups.x * COLS) {
        const float factor = column_factor(c0, col);

        for (uint r0 = 0; r0 < p.rows; r0 += ROWS) {
            for (uint t = 0; t < ROWS; t += 16) {
                const vec4 v = load(r0 + t + row, c0 + near);

                for (uint k = 0; k < 4; k++)
                    tile[(t + row) * STRIDE + near + k] = v[k];
            }
            barrier();
            for (uint r = i % 4 * 8; r < ROWS && r0 + r < p.ldh; r += 32) {
                vec4 lo, hi;

                for (uint k = 0; k < 4; k++) {
                    lo[k] = tile[(r + k) * STRIDE + col];
                    hi[k] = tile[(r + 4 + k) * STRIDE + col];
                }
                if (c0 + col < p.cols)
                    h[((c0 + col) * p.ldh + r0 + r) / 8] = to_halves(lo * factor, hi * factor);
            }
            barrier();
        }
    }
}
