#include "rng.h"

#include <math.h>

/* Multipliers and Weyl increments of the paper's section 3.3 (Philox-4x32). */
static const uint32_t multiplier[2] = { 0xD2511F53u, 0xCD9E8D57u };
static const uint32_t weyl[2] = { 0x9E3779B9u, 0xBB67AE85u };

void at_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c[4] = { counter[0], counter[1], counter[2], counter[3] };
    uint32_t k[2] = { key[0], key[1] };
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)multiplier[0] * c[0];
        uint64_t p1 = (uint64_t)multiplier[1] * c[2];
        c[0] = (uint32_t)(p1 >> 32) ^ c[1] ^ k[0];
        c[1] = (uint32_t)p1;
        c[2] = (uint32_t)(p0 >> 32) ^ c[3] ^ k[1];
        c[3] = (uint32_t)p0;
        k[0] += weyl[0];
        k[1] += weyl[1];
    }
    for (int i = 0; i < 4; i++)
        out[i] = c[i];
}

struct at_rng at_rng_make(uint64_t seed, enum at_rng_use use, uint32_t index0, uint32_t index1)
{
    return (struct at_rng){
        .key = { (uint32_t)seed, (uint32_t)(seed >> 32) },
        .counter = { 0, (uint32_t)use, index0, index1 },
        .used = 4,
    };
}

uint32_t at_rng_u32(struct at_rng *rng)
{
    if (rng->used == 4) {
        at_philox(rng->block, rng->counter, rng->key);
        rng->counter[0]++;
        AT_REQUIRE(rng->counter[0] != 0); /* the stream would repeat */
        rng->used = 0;
    }
    return rng->block[rng->used++];
}

double at_rng_uniform(struct at_rng *rng)
{
    return at_rng_u32(rng) * 0x1p-32;
}

double at_rng_normal(struct at_rng *rng)
{
    double u = (at_rng_u32(rng) + 1.0) * 0x1p-32; /* in (0, 1]: log(u) is finite */
    double angle = 6.283185307179586 * at_rng_uniform(rng);
    return sqrt(-2 * log(u)) * cos(angle);
}

uint32_t at_rng_below(struct at_rng *rng, uint32_t n)
{
    AT_REQUIRE(n > 0);
    /* Lemire 2019, "Fast random integer generation in an interval": the high word of x * n, where
     * the 2^32 mod n surplus values of the low word are drawn again. */
    uint32_t surplus = -n % n;
    uint64_t product;
    do
        product = (uint64_t)at_rng_u32(rng) * n;
    while ((uint32_t)product < surplus);
    return (uint32_t)(product >> 32);
}

void at_rng_shuffle(struct at_rng *rng, uint32_t *items, size_t n)
{
    AT_REQUIRE(n <= UINT32_MAX);
    for (size_t i = n; i > 1; i--) {
        uint32_t j = at_rng_below(rng, (uint32_t)i);
        uint32_t item = items[i - 1];
        items[i - 1] = items[j];
        items[j] = item;
    }
}
