// CODE: one of the codebooks of codes.h.
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
