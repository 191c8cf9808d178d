/* Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): random
 * numbers are a function of (seed, stream, counter), never of what was drawn before. */
#ifndef AT_RNG_H
#define AT_RNG_H

#include "status.h"

/* What a number is for; keys never collide between uses. */
enum at_rng_use {
    AT_RNG_INIT,
    AT_RNG_SHUFFLE,
    AT_RNG_SPLIT,
    AT_RNG_DROPOUT,
    AT_RNG_SAMPLE,
    AT_RNG_TEST,
    AT_RNG_LOSS_CHECK,
    AT_RNG_BOOTSTRAP,
    AT_RNG_LABEL,
    AT_RNG_VARY,
    AT_RNG_PARTS,
    AT_RNG_ROUND
};

struct at_rng {
    uint32_t key[2], counter[4], block[4];
    unsigned used;
};
/* Generator for one use and two free indices (say, layer and module). */
struct at_rng at_rng_make(uint64_t seed, enum at_rng_use use, uint32_t index0, uint32_t index1);
void at_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);
uint32_t at_rng_u32(struct at_rng *rng);
double at_rng_uniform(struct at_rng *rng);             /* in [0, 1), 32 bits */
double at_rng_normal(struct at_rng *rng);              /* Box-Muller, two draws a number */
uint32_t at_rng_below(struct at_rng *rng, uint32_t n); /* unbiased; n > 0 */
/* Fisher-Yates on n indices. */
void at_rng_shuffle(struct at_rng *rng, uint32_t *items, size_t n);

#endif
