// q6_k: 6-bit quants as bytes 0..63, 4 a word; an f32 d * scale per 16 columns. Value that * (q - 32).
vec4 dq(uint row, uint col4)
{
    const uint q = dq_quants(row, col4);
    const float d = uintBitsToFloat(dq_scales(row, col4 / 4));
    const precise vec4 v = d * vec4(ivec4(q & 63u, q >> 8 & 63u, q >> 16 & 63u, q >> 24 & 63u) - 32);

    return v;
}
