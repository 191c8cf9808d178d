// q4_1: nibbles, 8 a word, column 8i + j at bit 4j; a word per 32 columns with d low and m high, f16.
// Value d * nibble + m, two roundings.
#include "lib/half.glsl"

vec4 dq(uint row, uint col4)
{
    const uint q = dq_quants(row, col4 / 2) >> ((col4 & 1u) * 16u);
    const uint scales = dq_scales(row, col4 / 8);
    const float d = half_to_float(scales & 0xffffu), m = half_to_float(scales >> 16);
    const precise vec4 v = d * vec4(q & 15u, q >> 4 & 15u, q >> 8 & 15u, q >> 12 & 15u) + m;

    return v;
}
