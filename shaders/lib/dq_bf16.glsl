// bfloat16: the upper half of a float, two a word, low half first. dq_quants(row, i) is word i of a row.
vec4 dq(uint row, uint col4)
{
    const uint lo = dq_quants(row, 2 * col4), hi = dq_quants(row, 2 * col4 + 1);

    return vec4(uintBitsToFloat(lo << 16), uintBitsToFloat(lo & 0xffff0000u), uintBitsToFloat(hi << 16),
                uintBitsToFloat(hi & 0xffff0000u));
}
