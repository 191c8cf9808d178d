// Weights by whole 16-byte texels of quants, for CPU devices: dq_texel(row, i) -> COUNT4 vec4s, columns
// 4 * COUNT4 * i and on of a row, bit for bit the values of lib/dq_<name>.glsl. A lane decodes a texel:
// one fetch, one scale, no test a value. Needs quants_stride and scales_stride in p.
#ifdef DQ_F32
layout(binding = 1) uniform samplerBuffer quants;
#else
layout(binding = 1) uniform isamplerBuffer quants;
#endif
#if !defined DQ_F32 && !defined DQ_F16 && !defined DQ_BF16
#define DQ_SCALES
layout(binding = 2) uniform isamplerBuffer scales;
#endif
#include "lib/half.glsl"

#ifdef DQ_F32
#define COUNT4 1
#elif defined DQ_F16 || defined DQ_BF16
#define COUNT4 2
#elif defined DQ_Q8_0 || defined DQ_Q6_K
#define COUNT4 4
#else
#define COUNT4 8
#endif

#if defined DQ_Q4_0 || defined DQ_Q8_0
// f16 of a block of 32 columns, two a word
float block_scale(int row, int block)
{
    const uint word = uint(texelFetch(scales, row * int(p.scales_stride) + block / 2).x);

    return half_to_float((block & 1) == 0 ? word & 0xffffu : word >> 16);
}
#endif

vec4[COUNT4] dq_texel(int row, int i)
{
    precise vec4 w[COUNT4];

#ifdef DQ_F32
    w[0] = texelFetch(quants, row * int(p.quants_stride) / 4 + i);
#else
    const ivec4 q = texelFetch(quants, row * int(p.quants_stride) / 4 + i);
#ifdef DQ_F16
    [[unroll]] for (int e = 0; e < 4; e++) {
        w[e / 2][2 * e & 3] = half_to_float(uint(q[e]) & 0xffffu);
        w[e / 2][(2 * e & 3) + 1] = half_to_float(uint(q[e]) >> 16);
    }
#elif defined DQ_BF16
    [[unroll]] for (int e = 0; e < 4; e++) {
        w[e / 2][2 * e & 3] = intBitsToFloat(q[e] << 16);
        w[e / 2][(2 * e & 3) + 1] = intBitsToFloat(q[e] & ~0xffff);
    }
#elif defined DQ_Q8_0
    const float d = block_scale(row, i / 2);
    [[unroll]] for (int e = 0; e < 4; e++)
        w[e] = d * vec4(q[e] << 24 >> 24, q[e] << 16 >> 24, q[e] << 8 >> 24, q[e] >> 24);
#elif defined DQ_Q6_K
    const float d = intBitsToFloat(texelFetch(scales, row * int(p.scales_stride) + i).x);
    [[unroll]] for (int e = 0; e < 4; e++)
        w[e] = d * vec4((ivec4(q[e], q[e] >> 8, q[e] >> 16, q[e] >> 24) & 63) - 32);
#elif defined DQ_Q4_0
    const float d = block_scale(row, i);
    [[unroll]] for (int e = 0; e < 8; e++)
        w[e] = d * vec4((ivec4(q[e / 2]) >> (ivec4(0, 4, 8, 12) + 16 * (e & 1)) & 15) - 8);
#else
    const uint scale = uint(texelFetch(scales, row * int(p.scales_stride) + i).x);
    const float d = half_to_float(scale & 0xffffu), m = half_to_float(scale >> 16);
    [[unroll]] for (int e = 0; e < 8; e++)
        w[e] = d * vec4(ivec4(q[e / 2]) >> (ivec4(0, 4, 8, 12) + 16 * (e & 1)) & 15) + m;
#endif
#endif
    return w;
}
