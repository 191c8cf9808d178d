/* Inside engine/model only: blocks of files with fitted scales, a function a type, bit for bit what
 * ggml's quantisers make without an importance matrix. x: a block of finite values. False: they are
 * too large for the type. */
#ifndef AT_ENCODE_BLOCKS_H
#define AT_ENCODE_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

bool at_encode_iq4_nl(uint8_t *out, const float *x);
bool at_encode_iq4_xs(uint8_t *out, const float *x);
bool at_encode_q2_k(uint8_t *out, const float *x);
bool at_encode_q3_k(uint8_t *out, const float *x);
bool at_encode_q4_k(uint8_t *out, const float *x);
bool at_encode_q5_k(uint8_t *out, const float *x);
bool at_encode_q6_k(uint8_t *out, const float *x);

/* A half; false: it is too large for one. */
bool at_put_scale(uint8_t *out, float x);

#endif
