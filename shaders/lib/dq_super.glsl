// Scales of a super-block of 256 columns, 5 words: f16 d low and m high, then 16 bytes, in order, for
// groups of 16 columns or pairs for groups of 32. Every product here is exact in f32.
#include "lib/half.glsl"

uint super_word(uint row, uint col4, uint word) { return dq_scales(row, col4 / 64 * 5 + word); }
uint super_byte(uint row, uint col4, uint i) { return super_word(row, col4, 1 + i / 4) >> 8 * (i & 3u) & 255u; }

// 16 columns: d * signed byte
float super_signed(uint row, uint col4)
{
    const int scale = int(super_byte(row, col4, col4 / 4 & 15u));

    return half_to_float(super_word(row, col4, 0) & 0xffffu) * (scale < 128 ? scale : scale - 256);
}

// d * scale and m * minimum
vec2 super_pair(uint row, uint col4, uint scale, uint minimum)
{
    const uint word = super_word(row, col4, 0);

    return vec2(half_to_float(word & 0xffffu) * scale, half_to_float(word >> 16) * minimum);
}

// 16 columns: nibbles of a byte
vec2 super_nibbles(uint row, uint col4)
{
    const uint both = super_byte(row, col4, col4 / 4 & 15u);

    return super_pair(row, col4, both & 15u, both >> 4);
}

// 32 columns: two bytes
vec2 super_bytes(uint row, uint col4)
{
    const uint i = col4 / 8 & 7u;

    return super_pair(row, col4, super_byte(row, col4, 2 * i), super_byte(row, col4, 2 * i + 1));
}
