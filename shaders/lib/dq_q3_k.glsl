// q3_k: three bits; super-blocks of groups of 16. Value d * scale * (q - 4), exact but for its last product.
#include "lib/dq_bits.glsl"
#include "lib/dq_super.glsl"

vec4 dq(uint row, uint col4)
{
    const precise vec4 v = super_signed(row, col4) * vec4(ivec4(quants_3(row, col4)) - 4);

    return v;
}
