// q6_k: 6-bit quants as bytes 0..63, 4 a word; super-blocks of groups of 16. Value d * scale * (q - 32).
#include "lib/dq_bits.glsl"
#include "lib/dq_super.glsl"

vec2 dq_factors(uint row, uint col4) { return vec2(super_signed(row, col4), 0); }

vec4 dq_value(uint row, uint col4, vec2 factors)
{
    const precise vec4 v = factors.x * vec4(ivec4(quants_8(row, col4)) - 32);

    return v;
}
