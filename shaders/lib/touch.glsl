// Reads a word of each of `lines` cache lines of 64 bytes of `rows` rows, from vec4 `first` on, `ld4` vec4s apart
// (both begin with a line, or a row's last line is left out): what the subgroup goes to read or write behind other
// work is on its way meanwhile. A store of a few bytes to a line that is far away, and a read, is waited for each
// time; and what is read in a column, a line of each row, no processor reads ahead. The result has no meaning, but
// something must take it. An includer has LANES.
int touch(samplerBuffer x4, int first, int ld4, const int rows, const int lines)
{
    const int lane = int(gl_LocalInvocationID.x);
    int any = 0;

    [[unroll]] for (int i = 0; i < rows * lines; i += LANES)
        any |= floatBitsToInt(texelFetch(x4, first + (i + lane) / lines * ld4 + (i + lane) % lines * 4).x);
    return any;
}
