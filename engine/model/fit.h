/* Inside engine/model only: scales of blocks of files by weighted least squares, as ggml's
 * quantisers without importance matrix search them (make_qkx2_quants, make_q3_quants,
 * make_qx_quants, quantize_row_iq4_nl_impl of ggml-quants.c): the same values in the same order of
 * sums, hence their bits. Codes beyond a type's range are cut. */
#ifndef AT_FIT_H
#define AT_FIT_H

#include <stdbool.h>
#include <stdint.h>

enum { AT_SUPER = 256, AT_FIT_LANES = 8, AT_FIT_MOST = 32 };

/* A whole number, ties to even, in [least, most]; NaN stays NaN. */
static inline float at_fit_whole(float x, float least, float most)
{
    const float whole = 12582912; /* 1.5 * 2^23: what is added to it has no fraction left */
    const float r = (x + whole) - whole;

    return r < least ? least : r > most ? most : r;
}
/* The value of largest magnitude of n, the first of several; 0 where all are below 1e-15. */
float at_fit_extreme(const float *x, uint32_t n);

/* x = scale q + least, q in [0, most], least <= 0. */
struct at_fit_range {
    uint32_t n;              /* values of a sub-block, at most AT_FIT_MOST */
    float most, first, step; /* steps of the tries: first + step (0 ... tries) + most */
    uint32_t tries;
    bool absolute; /* errors |d| with weights |x|, else d^2 with weights |x| + rms(x) */
};
/* AT_FIT_LANES sub-blocks of x, one behind the other, side by side. minus[k] = -least of sub-block
 * k; codes in the order of x. */
void at_fit_ranged(float *scale, float *minus, uint8_t *code, const float *x,
                   const struct at_fit_range *range);
/* The scale of x = scale q, q in [-half, half): `n` of at most AT_FIT_MOST values, weights x^2.
 * code[i] = q + half. */
float at_fit_centred(uint8_t *code, const float *x, uint32_t n, float half);
/* The same by exchanging one q after the other while that helps. */
float at_fit_by_turns(uint8_t *code, const float *x, uint32_t n, float half);
/* The scale of x = scale code[q], of AT_FIT_MOST values and the codes of IQ4. */
float at_fit_iq4(const float *x);
uint8_t at_fit_iq4_code(float x); /* the code nearest to x */

#endif
