// q5_k: five bits; super-blocks of groups of 32. Value d * scale * q - m * minimum, one rounding.
#include "lib/dq_bits.glsl"
#include "lib/dq_super.glsl"

vec4 dq(uint row, uint col4)
{
    const vec2 s = super_bytes(row, col4);
    const precise vec4 v = s.x * vec4(quants_5(row, col4)) - s.y;

    return v;
}
