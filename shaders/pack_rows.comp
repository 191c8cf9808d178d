// h[r,c] = x[r,c] * 2^(col_exp[c] - exps[r]) rounded to a half: the operand of a product on matrix units.
// exps[r] puts the largest magnitude of a row into [2^14, 2^15), so that no value overflows and what is
// lost below the smallest half is under 2^-38 of the row's largest. With -DBF16 h is x as bf16, as it is.
// x (rows, cols) f32 from column x_col of its rows on; h rows ldh halves apart (a multiple of 8), 0 from
// cols to ldh; col_exp (cols) is read where SCALED is 1.
// Mapping: a workgroup takes a row at a time, an invocation 8 columns. Shared: 256 bytes.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/to_halves.glsl"

layout(local_size_x = 64) in;
layout(push_constant) uniform push { pack_rows_args p; };
layout(binding = 0, std430) writeonly buffer out_h { uvec4 h[]; };
layout(binding = 1, std430) readonly buffer in_x { vec4 x[]; };
#ifndef BF16
layout(constant_id = 1) const uint SCALED = 0;
layout(binding = 2, std430) writeonly buffer out_exps { int exps[]; };
layout(binding = 3, std430) readonly buffer in_col_exp { int col_exp[]; };

shared uint most[64];
#endif

// Columns c ... c + 3 of a row; 0 from cols on
vec4 load(uint row, uint c)
{
    vec4 v = vec4(0);

    if (c >= p.cols)
        return v;
    v = x[(row * p.ldx + p.x_col + c) / 4];
    for (uint e = 0; e < 4; e++) {
        if (c + e >= p.cols)
            v[e] = 0;
#ifndef BF16
        else if (SCALED != 0)
            v[e] *= power(col_exp[c + e]);
#endif
    }
    return v;
}

#ifdef BF16
float row_factor(uint row) { return 1.0; }
#else

// Of bit patterns, which order as magnitudes do: NaN above infinity above all others
uint largest(uint row)
{
    const uint i = gl_LocalInvocationIndex;
    uint m = 0;

    for (uint c = 4 * i; c < p.cols; c += 4 * 64) {
        const uvec4 bits = floatBitsToUint(load(row, c)) & 0x7fffffffu;

        m = max(m, max(max(bits.x, bits.y), max(bits.z, bits.w)));
    }
    most[i] = m;
    for (uint half_size = 32; half_size > 0; half_size /= 2) {
        barrier();
        if (i < half_size)
            most[i] = max(most[i], most[i + half_size]);
    }
    barrier();
    m = most[0];
    barrier();
    return m;
}

float row_factor(uint row)
{
    const int e = vector_exp(largest(row));

    if (gl_LocalInvocationIndex == 0)
        exps[row] = e;
    return power(-e);
}
#endif

void main()
{
    for (uint row = gl_WorkGroupID.x; row < p.rows; row += gl_NumWorkGroups.x) {
        const float factor = row_factor(row);

        for (uint c = 8 * gl_LocalInvocationIndex; c < p.ldh; c += 8 * 64)
            h[(row * p.ldh + c) / 8] = to_halves(load(row, c) * factor, load(row, c + 4) * factor);
    }
}
