// q2_k: two bits; super-blocks of groups of 16, d * scale low and m * minimum high nibble. Value
// d * scale * q - m * minimum, one rounding.
#include "lib/dq_bits.glsl"
#include "lib/dq_super.glsl"

vec4 dq(uint row, uint col4)
{
    const vec2 s = super_nibbles(row, col4);
    const precise vec4 v = s.x * vec4(quants_2(row, col4)) - s.y;

    return v;
}
