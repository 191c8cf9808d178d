/* Blocks of 32 values whose codes are IQ4's sixteen numbers times a scale: alone (IQ4_NL) or eight
 * whose scales are parts of one (IQ4_XS). Layouts: ggml-common.h. */
#include "encode_blocks.h"

#include <math.h>
#include <string.h>

#include "fit.h"
#include "weights_file.h"

enum { BLOCK = AT_FIT_MOST, BLOCKS = AT_SUPER / BLOCK };
static const float beyond = 1e9f; /* IQ4_XS cannot hold it, and its squares are still finite */

/* Codes of x / scale; value i beside i + 16. */
static void put_codes(uint8_t *out, const float *x, float scale)
{
    const float inverse = scale != 0 ? 1 / scale : 0;

    for (uint32_t i = 0; i < BLOCK / 2; i++)
        out[i] = (uint8_t)(at_fit_iq4_code(inverse * x[i]) |
                           at_fit_iq4_code(inverse * x[i + BLOCK / 2]) << 4);
}

bool at_encode_iq4_nl(uint8_t *out, const float *x)
{
    const float scale = at_fit_iq4(x);

    put_codes(out + 2, x, scale);
    return at_put_scale(out, scale);
}

/* Scales of six bits more than -32: nibbles in bytes 4 to 7, the upper two bits in the word before.
 */
bool at_encode_iq4_xs(uint8_t *out, const float *x)
{
    float scale[BLOCKS], d = 0;

    if (fabsf(at_fit_extreme(x, AT_SUPER)) >= beyond)
        return false;
    for (uint32_t b = 0; b < BLOCKS; b++)
        scale[b] = at_fit_iq4(x + b * BLOCK);
    d = -at_fit_extreme(scale, BLOCKS) / 32;
    memset(out + 2, 0, 2 + BLOCKS / 2);
    for (uint32_t b = 0; b < BLOCKS; b++) {
        const float part = d != 0 ? at_fit_whole(1 / d * scale[b], -32, 31) : 0;
        const uint32_t s = (uint32_t)((int)part + 32);
        out[2 + b / 4] |= (uint8_t)(s >> 4 << b % 4 * 2);
        out[4 + b / 2] |= (uint8_t)((s & 15) << b % 2 * 4);
        put_codes(out + 8 + 16 * b, x + b * BLOCK, d * part);
    }
    return at_put_scale(out, d);
}
