// int8 (LLM.int8, Dettmers et al. 2022, arXiv 2208.07339): signed bytes, 4 a word; an f32 largest
// magnitude a row. Value q * largest * (1 / 127), two roundings, as bitsandbytes has it.
#include "lib/dq_bits.glsl"

vec4 dq(uint row, uint col4)
{
    const float largest = uintBitsToFloat(dq_scales(row, 0));
    const precise vec4 v = vec4(ivec4(quants_8(row, col4) ^ 128u) - 128) * largest * 0.007874015718698502;

    return v;
}
