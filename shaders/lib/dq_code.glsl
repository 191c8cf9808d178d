// CODE: one of the codebooks of codes.h; code_value(q): its values of nibbles, with CODE_BY_SELECTION by selection
// among constants, since on CPU devices an index is a loop over the lanes.
#include "codes.h"
#ifdef DQ_IQ4
#define CODE_GROUP4 8 // vec4s a scale
const float CODE[16] = float[](CODES_IQ4);
#else
#define CODE_GROUP4 16
#ifdef DQ_NF4
const float CODE[16] = float[](CODES_NF4);
#else
const float CODE[16] = float[](CODES_FP4);
#endif
#endif

#ifdef CODE_BY_SELECTION
vec4 code_value(ivec4 q)
{
    vec4 of[8];

    [[unroll]] for (int i = 0; i < 8; i++)
        of[i] = mix(vec4(CODE[2 * i]), vec4(CODE[2 * i + 1]), notEqual(q & 1, ivec4(0)));
    [[unroll]] for (int i = 0; i < 4; i++) of[i] = mix(of[2 * i], of[2 * i + 1], notEqual(q & 2, ivec4(0)));
    [[unroll]] for (int i = 0; i < 2; i++) of[i] = mix(of[2 * i], of[2 * i + 1], notEqual(q & 4, ivec4(0)));
    return mix(of[0], of[1], notEqual(q & 8, ivec4(0)));
}
#else
vec4 code_value(ivec4 q) { return vec4(CODE[q.x], CODE[q.y], CODE[q.z], CODE[q.w]); }
#endif
