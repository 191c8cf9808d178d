/* links: infer model ops gpu base */
#include "generate.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

enum { V = 5, DRAWS = 20000 };

static const float logits[V] = { 1.0f, 3.0f, 2.0f, 3.0f, -1.0f };

static int32_t draw(const struct at_sampling *p, uint32_t prompt, uint32_t position)
{
    struct at_candidate scratch[V];
    int32_t id = -1;

    assert_int_equal(at_sample(&id, logits, V, p, prompt, position, scratch), AT_OK);
    return id;
}

/* Shares of the ids over many positions. */
static void shares(double out[V], const struct at_sampling *p)
{
    memset(out, 0, V * sizeof *out);
    for (uint32_t i = 0; i < DRAWS; i++)
        out[draw(p, 0, i)] += 1.0 / DRAWS;
}

static void sample_at_temperature_0_takes_the_lowest_of_the_likeliest(void **state)
{
    const struct at_sampling greedy = { .top_p = 1 };

    (void)state;
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(draw(&greedy, i, i), 1);
}

static void sample_follows_the_softmax(void **state)
{
    const struct at_sampling p = { .temperature = 2, .top_p = 1, .seed = 7 };
    double got[V], sum = 0;

    (void)state;
    shares(got, &p);
    for (int i = 0; i < V; i++)
        sum += exp((double)logits[i] / 2);
    for (int i = 0; i < V; i++)
        if (fabs(got[i] - exp((double)logits[i] / 2) / sum) > 0.015)
            fail_msg("id %d: share %g", i, got[i]);
}

static void sample_keeps_top_k(void **state)
{
    const struct at_sampling p = { .temperature = 1, .top_p = 1, .top_k = 3, .seed = 7 };
    double got[V];

    (void)state;
    shares(got, &p);
    assert_true(got[0] == 0 && got[4] == 0 && got[1] > 0.3 && got[2] > 0.1 && got[3] > 0.3);
}

/* Two tokens hold 0.79 of the probability: top_p 0.7 keeps both, 0.3 the first. */
static void sample_keeps_top_p(void **state)
{
    struct at_sampling p = { .temperature = 1, .top_p = 0.7, .seed = 7 };
    double got[V];

    (void)state;
    shares(got, &p);
    assert_true(got[2] == 0 && got[1] > 0.4 && got[3] > 0.4);
    p.top_p = 0.3;
    shares(got, &p);
    assert_true(got[1] > 0.999);
}

/* Weights beside the likeliest: 0.135, 1, 0.368, 1, 0.018. */
static void sample_keeps_min_p(void **state)
{
    struct at_sampling p = { .temperature = 1, .top_p = 1, .min_p = 0.3, .seed = 7 };
    double got[V];

    (void)state;
    shares(got, &p);
    assert_true(got[0] == 0 && got[4] == 0 && got[2] > 0.1 && got[1] > 0.35 && got[3] > 0.35);
    p.min_p = 0.4;
    shares(got, &p);
    assert_true(got[2] == 0 && got[1] > 0.45 && got[3] > 0.45);
    p.temperature = 2; /* 0.368 to the power of a half: 0.607 */
    shares(got, &p);
    assert_true(got[0] == 0 && got[2] > 0.2);
}

/* As transformers' RepetitionPenaltyLogitsProcessor. */
static void penalty_weakens_what_was_seen(void **state)
{
    static const uint8_t seen[V] = { 1, 0, 1, 0, 1 };
    float x[V] = { 1.0f, 3.0f, 2.0f, 3.0f, -1.0f };

    (void)state;
    at_penalise(x, seen, V, 1.25);
    assert_true(x[0] == 0.8f && x[1] == 3.0f && x[2] == 1.6f && x[3] == 3.0f && x[4] == -1.25f);
}

static void sample_depends_on_seed_prompt_and_position_alone(void **state)
{
    const struct at_sampling a = { .temperature = 1, .top_p = 1, .seed = 1 };
    const struct at_sampling b = { .temperature = 1, .top_p = 1, .seed = 2 };
    int by_seed = 0, by_prompt = 0;

    (void)state;
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(draw(&a, 3, i), draw(&a, 3, i));
        by_seed += draw(&a, 3, i) != draw(&b, 3, i);
        by_prompt += draw(&a, 3, i) != draw(&a, 4, i);
    }
    assert_true(by_seed > 20 && by_prompt > 20);
}

static void sample_of_what_is_not_finite_fails(void **state)
{
    const struct at_sampling greedy = { .top_p = 1 };
    const float bad[V] = { 0, NAN, 0, 0, 0 };
    struct at_candidate scratch[V];
    int32_t id = 0;

    (void)state;
    assert_int_equal(at_sample(&id, bad, V, &greedy, 0, 0, scratch), AT_NUMERIC);
    assert_non_null(strstr(at_message(), "token 1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sample_at_temperature_0_takes_the_lowest_of_the_likeliest),
        cmocka_unit_test(sample_follows_the_softmax),
        cmocka_unit_test(sample_keeps_top_k),
        cmocka_unit_test(sample_keeps_top_p),
        cmocka_unit_test(sample_keeps_min_p),
        cmocka_unit_test(penalty_weakens_what_was_seen),
        cmocka_unit_test(sample_depends_on_seed_prompt_and_position_alone),
        cmocka_unit_test(sample_of_what_is_not_finite_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
