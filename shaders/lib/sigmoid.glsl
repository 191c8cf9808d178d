// 1 / (1 + e^-g) and 1 minus it, both without overflow or cancellation; a NaN stays one.
#include "exp2.glsl"

struct sigmoids { vec4 value, rest; };

sigmoids sigmoid(vec4 g)
{
    const vec4 x = -1.44269504 * abs(g); // e^-|g| = 2^x
    const vec4 e = vec4(exp2_neg(x.x), exp2_neg(x.y), exp2_neg(x.z), exp2_neg(x.w));
    const vec4 larger = 1.0 / (1.0 + e), smaller = e * larger;
    const bvec4 negative = lessThan(g, vec4(0));

    return sigmoids(mix(larger, smaller, negative), mix(smaller, larger, negative));
}
