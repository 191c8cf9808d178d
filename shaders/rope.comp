// Rotary embedding in place, of queries and keys: with a = x[t, h D + i], b = x[t, h D + i + W/2] and cosine
// and sine of (positions[t], i), i < W/2:  a' = a cos - b sin;  b' = b cos + a sin;  `sign` -1 turns back.
// What lies in a head beyond its first W values stays.
// q (T, H * D), k (T, G * D), of which there may be none; D a multiple of 4; table (n, W): cosines, then
// sines, of the positions p0 ... p0 + n; rows at other positions are left alone. A workgroup takes a row of
// both at a time. No shared memory.
// Su et al. 2021, arXiv 2104.09864; halves as Hugging Face pairs them.
#version 450
#extension GL_GOOGLE_include_directive : require
#define ADJACENT (W % 16 == 0) // halves of heads are pairs
#include "lib/store.glsl"
#include "args.h"
#include "lib/row_group.glsl"
#include "lib/source.glsl"

layout(constant_id = 1) const uint W = 64; // values of a head that are turned
const uint HALF = W / 8; // vec4s of half of them
layout(push_constant) uniform push { rope_args p; };
INOUT(0, q)
layout(binding = 0, std430) buffer inout_q1 { float q1[]; }; // where halves do not begin with a vec4
INOUT(1, k)
layout(binding = 1, std430) buffer inout_k1 { float k1[]; };
layout(binding = 2, std430) readonly buffer in_positions { int positions[]; };
SOURCE(3, table);
#ifdef TEXELS
layout(binding = 4) uniform samplerBuffer old_q; // for reading
layout(binding = 5) uniform samplerBuffer old_k;
#else
#define old_q q
#define old_k k
#endif

#define LOAD1(buffer, i) LOAD(buffer, (i) / 4)[(i) % 4]

#define TURN_ROW turn_query
#define X q
#define X1 q1
#define OLD old_q
#include "lib/rope_row.glsl"

#define TURN_ROW turn_key
#define X k
#define X1 k1
#define OLD old_k
#include "lib/rope_row.glsl"

void main()
{
    uint t = gl_WorkGroupID.x;
    do {
        const uint position = uint(positions[t]) - p.p0; // wraps when below the part

        if (position < p.n) {
            turn_query(t * p.ldq, p.H, position * p.ldtable);
            turn_key(t * p.ldk, p.G, position * p.ldtable);
        }
    } while ((t += gl_NumWorkGroups.x) < p.T);
}
