// q5_0: five bits; an f16 scale d per 32 columns, two a word. Value d * (q - 16).
#include "lib/dq_bits.glsl"
#include "lib/half.glsl"

vec2 dq_factors(uint row, uint col4)
{
    const uint scales = dq_scales(row, col4 / 16);

    return vec2(half_to_float((col4 & 8u) == 0u ? scales & 0xffffu : scales >> 16), 0);
}

vec4 dq_value(uint row, uint col4, vec2 factors)
{
    const precise vec4 v = factors.x * vec4(ivec4(quants_5(row, col4)) - 16);

    return v;
}
