// Philox 4x32-10 (Salmon et al. 2011), the same numbers as engine/base/rng.c.
uvec4 philox(uvec4 c, uvec2 k)
{
    for (int i = 0; i < 10; i++) {
        uint high0, low0, high1, low1;

        umulExtended(0xD2511F53u, c.x, high0, low0);
        umulExtended(0xCD9E8D57u, c.z, high1, low1);
        c = uvec4(high1 ^ c.y ^ k.x, low1, high0 ^ c.w ^ k.y, low0);
        k += uvec2(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}
