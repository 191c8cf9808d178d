// q5_1: five bits; a word per 32 columns with d low and m high, f16. Value d * q + m, one rounding.
#include "lib/dq_bits.glsl"
#include "lib/half.glsl"

vec4 dq(uint row, uint col4)
{
    const uint scales = dq_scales(row, col4 / 8);
    const float d = half_to_float(scales & 0xffffu), m = half_to_float(scales >> 16);
    const precise vec4 v = d * vec4(quants_5(row, col4)) + m;

    return v;
}
