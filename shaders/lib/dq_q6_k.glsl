// q6_k: 6-bit quants as bytes 0..63, 4 a word; super-blocks of groups of 16. Value d * scale * (q - 32).
#include "lib/dq_bits.glsl"
#include "lib/dq_super.glsl"

vec4 dq(uint row, uint col4)
{
    const precise vec4 v = super_signed(row, col4) * vec4(ivec4(quants_8(row, col4)) - 32);

    return v;
}
