// iq4, nf4, fp4: nibbles, 8 a word, and an f32 scale per 4 * CODE_GROUP4 columns. Value scale * code.
#include "lib/dq_bits.glsl"
#include "lib/dq_code.glsl"
vec4 code_value(ivec4 q) { return vec4(CODE[q.x], CODE[q.y], CODE[q.z], CODE[q.w]); }

vec4 dq(uint row, uint col4)
{
    const float d = uintBitsToFloat(dq_scales(row, col4 / CODE_GROUP4));
    const precise vec4 v = d * code_value(ivec4(quants_4(row, col4)));

    return v;
}
