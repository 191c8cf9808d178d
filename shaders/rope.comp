// Rotary embedding in place: with a = x[t, h D + i], b = x[t, h D + i + W/2] and cosine and sine of
// (positions[t], i), i < W/2:  a' = a cos - b sin;  b' = b cos + a sin;  `sign` -1 turns back. What lies
// in a head beyond its first W values stays.
// x (T, heads * D), D a multiple of 4; table (n, W): cosines, then sines, of the positions p0 ... p0 + n;
// rows at other positions are left alone. A workgroup takes a row at a time. No shared memory.
// Su et al. 2021, arXiv 2104.09864; halves as Hugging Face pairs them.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/source.glsl"

layout(local_size_x = 64) in;
layout(constant_id = 1) const uint W = 64; // values of a head that are turned
const uint HALF = W / 8; // vec4s of half of them
layout(push_constant) uniform push { rope_args p; };
layout(binding = 0, std430) buffer inout_x { vec4 x[]; };
layout(binding = 0, std430) buffer inout_x1 { float x1[]; }; // where halves do not begin with a vec4
layout(binding = 1, std430) readonly buffer in_positions { int positions[]; };
SOURCE(2, table);
#ifdef TEXELS
layout(binding = 3) uniform samplerBuffer old; // x for reading
#else
#define old x
#endif

#define LOAD1(buffer, i) LOAD(buffer, (i) / 4)[(i) % 4]

// One row of x, and of the table, from word `row` and `angles` on.
void turn_row(uint row, uint angles)
{
    if (W % 8 == 0)
        for (uint c = gl_LocalInvocationIndex; c < p.heads * HALF; c += 64) {
            const uint i = c % HALF, low = row / 4 + c / HALF * (p.D / 4) + i;
            const vec4 a = LOAD(old, low), b = LOAD(old, low + HALF);
            const vec4 cosine = LOAD(table, angles / 4 + i);
            const vec4 sine = p.sign * LOAD(table, angles / 4 + HALF + i);

            x[low] = a * cosine - b * sine;
            x[low + HALF] = b * cosine + a * sine;
        }
    else
        for (uint c = gl_LocalInvocationIndex; c < p.heads * (W / 2); c += 64) {
            const uint i = c % (W / 2), low = row + c / (W / 2) * p.D + i, high = low + W / 2;
            const float a = LOAD1(old, low), b = LOAD1(old, high);
            const float cosine = LOAD1(table, angles + i);
            const float sine = p.sign * LOAD1(table, angles + W / 2 + i);

            x1[low] = a * cosine - b * sine;
            x1[high] = b * cosine + a * sine;
        }
}

void main()
{
    for (uint t = gl_WorkGroupID.x; t < p.T; t += gl_NumWorkGroups.x) {
        const uint position = uint(positions[t]) - p.p0; // wraps when below the part

        if (position < p.n)
            turn_row(t * p.ld, position * p.ldtable);
    }
}
