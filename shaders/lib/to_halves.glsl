// f32 as halves with a power-of-two exponent a vector, which keeps values of any magnitude.
#include "power.glsl"

const int LEAST_EXP = -112; // power() takes it and its negative

// The exponent that brings a magnitude with these bits into [2^14, 2^15), below the largest half
int half_exp(uint bits) { return clamp(int(bits >> 23) - 127 - 14, LEAST_EXP, 113); }

// Of a vector whose largest magnitude has these bits (NaN above infinity above all others). One with a NaN
// or an infinity keeps exponent 0: its products are not finite either.
int vector_exp(uint bits) { return bits != 0 && bits < 0x7f800000u ? half_exp(bits) : 0; }

uvec4 to_halves(vec4 lo, vec4 hi)
{
    return uvec4(packHalf2x16(lo.xy), packHalf2x16(lo.zw), packHalf2x16(hi.xy), packHalf2x16(hi.zw));
}
