// Reads a word of each cache line of a tile of C, ROWS rows of 4 * CG * LANES columns from vec4 `first` on, `ld4`
// vec4s apart, where rows begin with a line: a product stores them at its end, a few bytes of a line at a time, and
// would wait there for each. The result has no meaning. An includer has ROWS, CG and LANES.
#define LINES (CG * LANES / 4) // of 64 bytes, of a row
int touch(samplerBuffer c4, int first, int ld4)
{
    const int lane = int(gl_LocalInvocationID.x);
    int any = 0;

    [[unroll]] for (int i = 0; i < ROWS * LINES; i += LANES)
        any |= floatBitsToInt(texelFetch(c4, first + (i + lane) / LINES * ld4 + (i + lane) % LINES * 4).x);
    return any;
}
