// q4_1: nibbles, 8 a word, column 8i + j at bit 4j; a word per 32 columns with d low and m high, f16.
// Value d * nibble + m, two roundings.
#include "lib/half.glsl"

vec2 dq_factors(uint row, uint col4)
{
    const uint scales = dq_scales(row, col4 / 8);

    return vec2(half_to_float(scales & 0xffffu), half_to_float(scales >> 16));
}

vec4 dq_value(uint row, uint col4, vec2 factors)
{
    const uint q = dq_quants(row, col4 / 2) >> ((col4 & 1u) * 16u);
    const precise vec4 v = factors.x * vec4(q & 15u, q >> 4 & 15u, q >> 8 & 15u, q >> 12 & 15u) + factors.y;

    return v;
}
