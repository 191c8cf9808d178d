/* Rotary embedding (Su et al. 2021, arXiv 2104.09864), halves as Hugging Face pairs them: elements
 * i and i + D/2 of a head as one complex number times cos + i sin of the row's position. In place,
 * dense double: x (T, heads * D), table (n, D) with D/2 cosines, then D/2 sines. */
#ifndef REF_ROPE_H
#define REF_ROPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void ref_rope(double *x, const int32_t *positions, const double *table, size_t T, size_t heads,
              size_t D, size_t W, bool backward);

#endif
