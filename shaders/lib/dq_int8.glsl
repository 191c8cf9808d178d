// int8 (LLM.int8, Dettmers et al. 2022, arXiv 2208.07339): signed bytes, 4 a word; an f32 largest
// magnitude a row. Value q * largest * (1 / 127), two roundings, as bitsandbytes has it.
#include "lib/dq_bits.glsl"

vec2 dq_factors(uint row, uint col4) { return vec2(uintBitsToFloat(dq_scales(row, 0)), 0); }

vec4 dq_value(uint row, uint col4, vec2 factors)
{
    const precise vec4 v = vec4(ivec4(quants_8(row, col4) ^ 128u) - 128) * factors.x * 0.007874015718698502;

    return v;
}
