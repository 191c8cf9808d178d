// q2_k: two bits; super-blocks of groups of 16, d * scale low and m * minimum high nibble. Value
// d * scale * q - m * minimum, one rounding.
#include "lib/dq_bits.glsl"
#include "lib/dq_super.glsl"

vec2 dq_factors(uint row, uint col4) { return super_nibbles(row, col4); }

vec4 dq_value(uint row, uint col4, vec2 factors)
{
    const precise vec4 v = factors.x * vec4(quants_2(row, col4)) - factors.y;

    return v;
}
