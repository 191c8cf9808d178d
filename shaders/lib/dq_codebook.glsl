// iq4, nf4, fp4: nibbles, 8 a word, and an f32 scale per 4 * CODE_GROUP4 columns. Value scale * code.
#include "lib/dq_bits.glsl"
#include "lib/dq_code.glsl"

vec2 dq_factors(uint row, uint col4) { return vec2(uintBitsToFloat(dq_scales(row, col4 / CODE_GROUP4)), 0); }

vec4 dq_value(uint row, uint col4, vec2 factors)
{
    const precise vec4 v = factors.x * code_value(ivec4(quants_4(row, col4)));

    return v;
}
