// q4_0: nibbles, 8 a word, column 8i + j at bit 4j; an f16 scale d per 32 columns, two a word.
// Value d * (nibble - 8).
#include "lib/half.glsl"

vec2 dq_factors(uint row, uint col4)
{
    const uint scales = dq_scales(row, col4 / 16);

    return vec2(half_to_float((col4 & 8u) == 0u ? scales & 0xffffu : scales >> 16), 0);
}

vec4 dq_value(uint row, uint col4, vec2 factors)
{
    const uint q = dq_quants(row, col4 / 2) >> ((col4 & 1u) * 16u);
    const precise vec4 v = factors.x * vec4(ivec4(q & 15u, q >> 4 & 15u, q >> 8 & 15u, q >> 12 & 15u) - 8);

    return v;
}
