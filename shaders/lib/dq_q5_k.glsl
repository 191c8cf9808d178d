// q5_k: five bits; super-blocks of groups of 32. Value d * scale * q - m * minimum, one rounding.
#include "lib/dq_bits.glsl"
#include "lib/dq_super.glsl"

vec2 dq_factors(uint row, uint col4) { return super_bytes(row, col4); }

vec4 dq_value(uint row, uint col4, vec2 factors)
{
    const precise vec4 v = factors.x * vec4(quants_5(row, col4)) - factors.y;

    return v;
}
