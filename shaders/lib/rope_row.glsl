// A row of rope.comp, as a function: `heads` heads of a row of x, and its row of the table, from word `row` and
// `angles` on, are turned. An includer defines its name (TURN_ROW), x as vec4s and as floats (X, X1) and for
// reading (OLD); it has p, W, HALF, GROUP, `table`, LOAD, LOAD1 and STORE. X and X1 are one buffer, of which a
// pipeline writes one: X where W % 8 == 0.
void TURN_ROW(uint row, uint heads, uint angles)
{
    if (W % 8 == 0) {
        const uint n = heads * HALF;
        if (n > 0) {
            uint c0 = 0;
            do {
                const uint own = c0 + gl_LocalInvocationIndex, c = min(own, n - 1);
                const uint i = c % HALF, low = row / 4 + c / HALF * (p.D / 4) + i;
                const vec4 a = LOAD(OLD, low), b = LOAD(OLD, low + HALF);
                const vec4 cosine = LOAD(table, angles / 4 + i);
                const vec4 sine = p.sign * LOAD(table, angles / 4 + HALF + i);

                STORE(X, own < n, low, a * cosine - b * sine);
                STORE(X, own < n, low + HALF, b * cosine + a * sine);
            } while ((c0 += GROUP) < n);
        }
    } else
        for (uint c = gl_LocalInvocationIndex; c < heads * (W / 2); c += GROUP) {
            const uint i = c % (W / 2), low = row + c / (W / 2) * p.D + i, high = low + W / 2;
            const float a = LOAD1(OLD, low), b = LOAD1(OLD, high);
            const float cosine = LOAD1(table, angles + i);
            const float sine = p.sign * LOAD1(table, angles + W / 2 + i);

            X1[low] = a * cosine - b * sine;
            X1[high] = b * cosine + a * sine;
        }
}
#undef TURN_ROW
#undef X
#undef X1
#undef OLD
