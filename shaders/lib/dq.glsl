// dq(row, c): columns 4c ... 4c + 3 of a row of a stored weight, for any device. A format is a define
// (-DDQ_<name>); planes as in engine/ops/quant.h: bindings 1 and, where it has scales, 2. Needs
// quants_stride and scales_stride in p, as in dequantise_args. With -DDQ_WORDS planes are texel buffers of words,
// and main() begins with dq_begin(). A format with scales has dq_factors(row, c), the same for 16 columns and more,
// and dq_value(row, c, factors), what these make of the quants.
#ifdef DQ_WORDS
#define CODE_BY_SELECTION
uint quants_ld, scales_ld; // words of a row: in a loop every lane would load the push constant
void dq_begin() { quants_ld = p.quants_stride, scales_ld = p.scales_stride; }

layout(binding = 1, r32i) readonly uniform iimageBuffer quants;
uint dq_quants(uint row, uint i) { return uint(imageLoad(quants, int(row * quants_ld + i)).x); }
#else
layout(binding = 1, std430) readonly buffer in_quants { uint quants[]; };
uint dq_quants(uint row, uint i) { return quants[row * p.quants_stride + i]; }
#endif

#ifdef DQ_F32
vec4 dq(uint row, uint c)
{
    const uint at = row * p.quants_stride + 4 * c;

    return uintBitsToFloat(uvec4(quants[at], quants[at + 1], quants[at + 2], quants[at + 3]));
}
#elif defined DQ_F16
#include "lib/dq_f16.glsl"
#elif defined DQ_BF16
#include "lib/dq_bf16.glsl"
#else
#define DQ_SCALES
#ifdef DQ_WORDS
layout(binding = 2, r32i) readonly uniform iimageBuffer scales;
uint dq_scales(uint row, uint i) { return uint(imageLoad(scales, int(row * scales_ld + i)).x); }
#else
layout(binding = 2, std430) readonly buffer in_scales { uint scales[]; };
uint dq_scales(uint row, uint i) { return scales[row * p.scales_stride + i]; }
#endif
#ifdef DQ_Q8_0
#include "lib/dq_q8_0.glsl"
#elif defined DQ_Q4_0
#include "lib/dq_q4_0.glsl"
#elif defined DQ_Q4_1
#include "lib/dq_q4_1.glsl"
#elif defined DQ_Q5_0
#include "lib/dq_q5_0.glsl"
#elif defined DQ_Q5_1
#include "lib/dq_q5_1.glsl"
#elif defined DQ_Q2_K
#include "lib/dq_q2_k.glsl"
#elif defined DQ_Q3_K
#include "lib/dq_q3_k.glsl"
#elif defined DQ_Q4_K
#include "lib/dq_q4_k.glsl"
#elif defined DQ_Q5_K
#include "lib/dq_q5_k.glsl"
#elif defined DQ_Q6_K
#include "lib/dq_q6_k.glsl"
#elif defined DQ_INT8
#include "lib/dq_int8.glsl"
#else
#include "lib/dq_codebook.glsl"
#endif

vec4 dq(uint row, uint col4) { return dq_value(row, col4, dq_factors(row, col4)); }
#endif
