// f32 as halves with a power-of-two exponent a vector, which keeps values of any magnitude; with -DBF16 as
// bf16, the upper half of an f32 and so of its range.
#include "power.glsl"

const int LEAST_EXP = -112; // power() takes it and its negative

// The exponent that brings a magnitude with these bits into [2^14, 2^15), below the largest half
int half_exp(uint bits) { return clamp(int(bits >> 23) - 127 - 14, LEAST_EXP, 113); }

// Of a vector whose largest magnitude has these bits (NaN above infinity above all others). One with a NaN
// or an infinity keeps exponent 0: its products are not finite either.
int vector_exp(uint bits) { return bits != 0 && bits < 0x7f800000u ? half_exp(bits) : 0; }

#ifdef BF16
// To the nearest, ties to even; NaN stays NaN
uint to_half(float x)
{
    const uint bits = floatBitsToUint(x);

    return (bits & 0x7fffffffu) > 0x7f800000u ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

uint to_half2(vec2 v) { return to_half(v.x) | to_half(v.y) << 16; }
#else
uint to_half2(vec2 v) { return packHalf2x16(v); }
#endif

uvec4 to_halves(vec4 lo, vec4 hi)
{
    return uvec4(to_half2(lo.xy), to_half2(lo.zw), to_half2(hi.xy), to_half2(hi.zw));
}
