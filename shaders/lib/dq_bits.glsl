// Quants of few bits: columns 4 * col4 ... 4 * col4 + 3 of a row, as numbers from 0. dq_quants(row, i) is
// word i of a row; planes as in engine/ops/quant.h. Bits of column c of a word go up with c.
const uvec4 PLACE = uvec4(0, 1, 2, 3);

uvec4 quants_2(uint row, uint col4)
{
    return uvec4(dq_quants(row, col4 / 4)) >> (8 * (col4 & 3u) + 2 * PLACE) & 3u;
}

// 128 columns: 8 words of lower two bits, 4 of third bits
uvec4 quants_3(uint row, uint col4)
{
    const uint at = col4 / 32 * 12;
    const uvec4 high = uvec4(dq_quants(row, at + 8 + (col4 >> 3 & 3u))) >> (4 * (col4 & 7u) + PLACE) & 1u;

    return uvec4(dq_quants(row, at + (col4 >> 2 & 7u))) >> (8 * (col4 & 3u) + 2 * PLACE) & 3u | high << 2;
}

uvec4 quants_4(uint row, uint col4)
{
    return uvec4(dq_quants(row, col4 / 2)) >> (16 * (col4 & 1u) + 4 * PLACE) & 15u;
}

// 128 columns: 16 words of nibbles, 4 of fifth bits
uvec4 quants_5(uint row, uint col4)
{
    const uint at = col4 / 32 * 20;
    const uvec4 high = uvec4(dq_quants(row, at + 16 + (col4 >> 3 & 3u))) >> (4 * (col4 & 7u) + PLACE) & 1u;

    return uvec4(dq_quants(row, at + (col4 >> 1 & 15u))) >> (16 * (col4 & 1u) + 4 * PLACE) & 15u | high << 4;
}

uvec4 quants_8(uint row, uint col4)
{
    return uvec4(dq_quants(row, col4)) >> 8 * PLACE & 255u;
}
