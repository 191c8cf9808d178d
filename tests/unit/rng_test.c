/* links: base */
#include "rng.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

static void check_philox(const uint32_t counter[4], const uint32_t key[2], const uint32_t want[4])
{
    uint32_t got[4];
    at_philox(got, counter, key);
    assert_memory_equal(got, want, sizeof got);
}

/* Random123's kat_vectors, philox4x32 with 10 rounds. */
static void philox_published_vectors_match(void **state)
{
    (void)state;
    check_philox((const uint32_t[]){ 0, 0, 0, 0 }, (const uint32_t[]){ 0, 0 },
                 (const uint32_t[]){ 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 });
    check_philox((const uint32_t[]){ UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX },
                 (const uint32_t[]){ UINT32_MAX, UINT32_MAX },
                 (const uint32_t[]){ 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd });
    check_philox((const uint32_t[]){ 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
                 (const uint32_t[]){ 0xa4093822, 0x299f31d0 },
                 (const uint32_t[]){ 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 });
}

static void u32_seed_use_and_indices_each_change_the_stream(void **state)
{
    (void)state;
    struct at_rng rngs[] = {
        at_rng_make(1, AT_RNG_INIT, 0, 0),
        at_rng_make(2, AT_RNG_INIT, 0, 0),
        at_rng_make(1 | (uint64_t)1 << 32, AT_RNG_INIT, 0, 0),
        at_rng_make(1, AT_RNG_DROPOUT, 0, 0),
        at_rng_make(1, AT_RNG_INIT, 1, 0),
        at_rng_make(1, AT_RNG_INIT, 0, 1),
    };
    uint32_t first[AT_COUNT(rngs)];
    for (size_t i = 0; i < AT_COUNT(rngs); i++) {
        first[i] = at_rng_u32(&rngs[i]);
        for (size_t k = 0; k < i; k++)
            assert_int_not_equal(first[i], first[k]);
    }
    struct at_rng again = at_rng_make(1, AT_RNG_INIT, 0, 0);
    assert_int_equal(at_rng_u32(&again), first[0]);
}

static void u32_walks_the_blocks_in_order(void **state)
{
    (void)state;
    struct at_rng rng = at_rng_make(0x0123456789abcdef, AT_RNG_SAMPLE, 5, 6);
    for (uint32_t block = 0; block < 3; block++) {
        uint32_t want[4];
        at_philox(want, (const uint32_t[]){ block, AT_RNG_SAMPLE, 5, 6 },
                  (const uint32_t[]){ 0x89abcdef, 0x01234567 });
        for (int i = 0; i < 4; i++)
            assert_int_equal(at_rng_u32(&rng), want[i]);
    }
}

static void uniform_many_draws_have_its_moments(void **state)
{
    (void)state;
    struct at_rng rng = at_rng_make(3, AT_RNG_TEST, 0, 0);
    const int n = 200000;
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        double x = at_rng_uniform(&rng);
        assert_true(x >= 0 && x < 1);
        sum += x;
        squares += x * x;
    }
    /* five standard deviations of the sample means */
    assert_true(fabs(sum / n - 0.5) < 5 * sqrt(1.0 / 12 / n));
    assert_true(fabs(squares / n - 1.0 / 3) < 5 * sqrt(4.0 / 45 / n));
}

static void normal_many_draws_have_its_moments(void **state)
{
    (void)state;
    struct at_rng rng = at_rng_make(4, AT_RNG_TEST, 0, 0);
    const int n = 200000;
    double sum = 0, squares = 0, fourths = 0;
    for (int i = 0; i < n; i++) {
        double x = at_rng_normal(&rng);
        assert_true(isfinite(x));
        sum += x;
        squares += x * x;
        fourths += x * x * x * x;
    }
    assert_true(fabs(sum / n) < 5 * sqrt(1.0 / n));
    assert_true(fabs(squares / n - 1) < 5 * sqrt(2.0 / n));
    assert_true(fabs(fourths / n - 3) < 5 * sqrt(96.0 / n));
}

/* 3 * 2^30: without rejection every third value would come up twice as often as the others. */
static void below_large_range_is_unbiased(void **state)
{
    (void)state;
    struct at_rng rng = at_rng_make(5, AT_RNG_TEST, 0, 0);
    const uint32_t range = 3u << 30;
    const int n = 300000;
    int counts[3] = { 0 };
    for (int i = 0; i < n; i++) {
        uint32_t x = at_rng_below(&rng, range);
        assert_true(x < range);
        counts[x % 3]++;
    }
    for (int i = 0; i < 3; i++)
        assert_true(fabs(counts[i] - n / 3.0) < 5 * sqrt(n * 2.0 / 9));
}

static void below_small_ranges_reach_every_value(void **state)
{
    (void)state;
    struct at_rng rng = at_rng_make(6, AT_RNG_TEST, 0, 0);
    assert_int_equal(at_rng_below(&rng, 1), 0);
    int counts[7] = { 0 };
    for (int i = 0; i < 70000; i++)
        counts[at_rng_below(&rng, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(counts[i], 10000 - 500, 10000 + 500);
}

static void shuffle_is_a_permutation_and_every_order_occurs(void **state)
{
    (void)state;
    struct at_rng rng = at_rng_make(7, AT_RNG_SHUFFLE, 0, 0);
    int counts[27] = { 0 };
    for (int i = 0; i < 6000; i++) {
        uint32_t items[3] = { 0, 1, 2 };
        at_rng_shuffle(&rng, items, 3);
        assert_int_equal(1 << items[0] | 1 << items[1] | 1 << items[2], 7);
        counts[items[0] * 9 + items[1] * 3 + items[2]]++;
    }
    int orders = 0;
    for (int i = 0; i < 27; i++)
        if (counts[i] > 0) {
            orders++;
            assert_in_range(counts[i], 1000 - 150, 1000 + 150);
        }
    assert_int_equal(orders, 6);
    at_rng_shuffle(&rng, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_published_vectors_match),
        cmocka_unit_test(u32_seed_use_and_indices_each_change_the_stream),
        cmocka_unit_test(u32_walks_the_blocks_in_order),
        cmocka_unit_test(uniform_many_draws_have_its_moments),
        cmocka_unit_test(normal_many_draws_have_its_moments),
        cmocka_unit_test(below_large_range_is_unbiased),
        cmocka_unit_test(below_small_ranges_reach_every_value),
        cmocka_unit_test(shuffle_is_a_permutation_and_every_order_occurs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
