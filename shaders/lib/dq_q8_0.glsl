// q8_0: signed bytes, 4 a word; an f16 scale d per 32 columns, two a word. Value d * q.
#include "lib/half.glsl"

vec2 dq_factors(uint row, uint col4)
{
    const uint scales = dq_scales(row, col4 / 16);

    return vec2(half_to_float((col4 & 8u) == 0u ? scales & 0xffffu : scales >> 16), 0);
}

vec4 dq_value(uint row, uint col4, vec2 factors)
{
    const int q = int(dq_quants(row, col4));
    const precise vec4 v = factors.x * vec4(bitfieldExtract(q, 0, 8), bitfieldExtract(q, 8, 8),
                                            bitfieldExtract(q, 16, 8), bitfieldExtract(q, 24, 8));

    return v;
}
