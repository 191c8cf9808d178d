// q5_1: five bits; a word per 32 columns with d low and m high, f16. Value d * q + m, one rounding.
#include "lib/dq_bits.glsl"
#include "lib/half.glsl"

vec2 dq_factors(uint row, uint col4)
{
    const uint scales = dq_scales(row, col4 / 8);

    return vec2(half_to_float(scales & 0xffffu), half_to_float(scales >> 16));
}

vec4 dq_value(uint row, uint col4, vec2 factors)
{
    const precise vec4 v = factors.x * vec4(quants_5(row, col4)) + factors.y;

    return v;
}
