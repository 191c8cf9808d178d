#include "ref_rope.h"

void ref_rope(double *x, const int32_t *positions, const double *table, size_t T, size_t heads,
              size_t D, size_t W, bool backward)
{
    for (size_t head = 0; head < T * heads; head++, x += D) {
        const double *cosine = table + (size_t)positions[head / heads] * W;
        const double *sine = cosine + W / 2;

        for (size_t i = 0; i < W / 2; i++) {
            const double a = x[i], b = x[i + W / 2], s = backward ? -sine[i] : sine[i];

            x[i] = a * cosine[i] - b * s;
            x[i + W / 2] = b * cosine[i] + a * s;
        }
    }
}
