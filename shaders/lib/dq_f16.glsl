// IEEE halves, two a word, low half first. dq_quants(row, i) is word i of a row.
#include "lib/half.glsl"

vec4 dq(uint row, uint col4)
{
    const uint lo = dq_quants(row, 2 * col4), hi = dq_quants(row, 2 * col4 + 1);

    return vec4(half_to_float(lo & 0xffffu), half_to_float(lo >> 16), half_to_float(hi & 0xffffu),
                half_to_float(hi >> 16));
}
