/* links: train base */
/* Learning rates = transformers' (tests/golden/schedules.json, made by make_schedules.py). */
#include "json.h"
#include "schedule.h"
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

static const char *const names[] = {
#define SCHEDULE(name, warms_up, factor, knobs, cycles) #name,
#include "schedules.def"
#undef SCHEDULE
};

static struct at_schedule make(const char *type, double peak, double warmup, uint64_t total,
                               const char *kwargs)
{
    struct at_schedule s;

    if (at_schedule_make(&s, type, peak, warmup, total, kwargs) != AT_OK)
        fail_msg("%s %s: %s", type, kwargs ? kwargs : "", at_message());
    return s;
}

static void check_row(const cJSON *row)
{
    char *kwargs = cJSON_PrintUnformatted(at_json_find(row, "kwargs"));
    const cJSON *rates = at_json_find(row, "rates"), *rate = NULL;
    const char *type = at_json_find(row, "type")->valuestring;
    const double peak = at_json_find(row, "peak")->valuedouble;
    const int warmup = at_json_find(row, "warmup")->valueint;
    const int total = at_json_find(row, "total")->valueint;
    const struct at_schedule s = make(type, peak, warmup, (uint64_t)total, kwargs);
    uint64_t t = 0;

    cJSON_ArrayForEach(rate, rates)
    {
        const double got = at_schedule_at(&s, t);
        if (!(fabs(got - rate->valuedouble) <= 1e-15 * peak))
            fail_msg("%s %s, warmup %d, step %llu of %d: %.17g, want %.17g", type, kwargs, warmup,
                     (unsigned long long)t, total, got, rate->valuedouble);
        t++;
    }
    assert_int_equal(t, total);
    cJSON_free(kwargs);
}

static void schedules_equal_transformers(void **state)
{
    cJSON *document = NULL;
    const cJSON *row = NULL;
    char seen[256] = "|";

    (void)state;
    assert_int_equal(at_json_load(&document, TEST_DIR "/golden/schedules.json"), AT_OK);
    cJSON_ArrayForEach(row, at_json_find(document, "rows"))
    {
        char word[64];

        check_row(row);
        snprintf(word, sizeof word, "|%s|", at_json_find(row, "type")->valuestring);
        if (!strstr(seen, word))
            snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s|",
                     at_json_find(row, "type")->valuestring);
    }
    for (size_t i = 0; i < AT_COUNT(names); i++) {
        char word[64];

        snprintf(word, sizeof word, "|%s|", names[i]);
        if (!strstr(seen, word) && strcmp(names[i], "reduce_lr_on_plateau") != 0)
            fail_msg("schedules.json has no row of %s", names[i]);
        if (i > 0 && strcmp(names[i - 1], names[i]) >= 0)
            fail_msg("schedules.def: %s is not in its place", names[i]);
    }
    at_json_free(&document);
}

static void plateaus_equal_transformers(void **state)
{
    cJSON *document = NULL;
    const cJSON *row = NULL;
    uint32_t falls = 0;

    (void)state;
    assert_int_equal(at_json_load(&document, TEST_DIR "/golden/schedules.json"), AT_OK);
    cJSON_ArrayForEach(row, at_json_find(document, "plateaus"))
    {
        char *kwargs = cJSON_PrintUnformatted(at_json_find(row, "kwargs"));
        const cJSON *metric = at_json_find(row, "metrics")->child;
        const cJSON *rate = at_json_find(row, "rates")->child;
        const double peak = at_json_find(row, "peak")->valuedouble;
        const struct at_schedule s = make("reduce_lr_on_plateau", peak, 0, 100, kwargs);
        struct at_plateau p = at_plateau_begin(&s);

        assert_true(at_schedule_has_plateau(&s) && p.rate == peak);
        for (; metric; metric = metric->next, rate = rate->next) {
            const double before = p.rate;
            at_plateau_step(&p, &s, metric->valuedouble, true);
            falls += p.rate < before;
            if (!(fabs(p.rate - rate->valuedouble) <= 1e-15 * peak))
                fail_msg("%s at %g: %.17g, want %.17g", kwargs, metric->valuedouble, p.rate,
                         rate->valuedouble);
        }
        cJSON_free(kwargs);
    }
    assert_true(falls > 10);
    at_json_free(&document);
}

/* Without a mode the metric says what is better; transformers takes min. */
static void plateau_of_an_accuracy_looks_for_more(void **state)
{
    const struct at_schedule s =
        make("reduce_lr_on_plateau", 1, 0, 100, "{\"patience\":0,\"factor\":0.5}");
    struct at_plateau p = at_plateau_begin(&s);

    (void)state;
    at_plateau_step(&p, &s, 0.5, false);
    at_plateau_step(&p, &s, 0.6, false);
    assert_true(p.rate == 1);
    at_plateau_step(&p, &s, 0.55, false);
    assert_true(p.rate == 0.5);
}

static void warmup_below_one_is_a_share_rounded_up(void **state)
{
    const struct at_schedule s = make("linear", 1, 0.1, 11, NULL);

    (void)state;
    assert_int_equal(s.warmup, 2);
    assert_true(at_schedule_at(&s, 0) == 0 && at_schedule_at(&s, 1) == 0.5 &&
                at_schedule_at(&s, 2) == 1);
}

/* Rates never fall below 0 when a run has more steps than planned. */
static void rates_after_the_end_are_finite(void **state)
{
    static const char *const kwargs[][2] = {
        { "cosine_with_min_lr", "{\"min_lr\":0}" },
        { "warmup_stable_decay", "{\"num_decay_steps\":3}" },
    };

    (void)state;
    for (size_t n = 0; n < AT_COUNT(names); n++) {
        const char *knobs = NULL;

        for (size_t i = 0; i < AT_COUNT(kwargs); i++)
            if (strcmp(kwargs[i][0], names[n]) == 0)
                knobs = kwargs[i][1];
        for (int warmup = 0; warmup <= 8; warmup += 4) {
            const struct at_schedule s = make(names[n], 1e-3, warmup, 8, knobs);

            for (uint64_t t = 0; t < 12; t++)
                if (!(at_schedule_at(&s, t) >= 0 && at_schedule_at(&s, t) <= 1e-3 * (1 + 1e-12)))
                    fail_msg("%s: %g at step %llu", names[n], at_schedule_at(&s, t),
                             (unsigned long long)t);
        }
    }
}

static void knobs_without_meaning_are_refused(void **state)
{
    static const char *const cases[][3] = {
        { "linear", "{\"num_cycles\":2}", "schedule linear has no num_cycles" },
        { "cosine", "{\"power\":2}", "it has num_cycles" },
        { "cosine", "{\"num_cycles\":\"two\"}", "num_cycles: a number in" },
        { "cosine_with_min_lr", "{}", "takes min_lr or min_lr_rate" },
        { "cosine_with_min_lr", "{\"min_lr\":0,\"min_lr_rate\":0}", "not both" },
        { "cosine_with_min_lr", "{\"min_lr_rate\":2}", "min_lr_rate: a number in 0..1" },
        { "polynomial", "{\"lr_end\":1}", "lr_end 1 must be below learning_rate" },
        { "warmup_stable_decay", "{}", "needs num_decay_steps" },
        { "warmup_stable_decay", "{\"num_decay_steps\":1,\"decay_type\":\"x\"}",
          "linear|cosine|1-sqrt" },
    };
    struct at_schedule s;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        assert_int_equal(at_schedule_make(&s, cases[i][0], 1e-3, 0, 10, cases[i][1]), AT_USAGE);
        if (!strstr(at_message(), cases[i][2]))
            fail_msg("\"%s\" does not say \"%s\"", at_message(), cases[i][2]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules_equal_transformers),
        cmocka_unit_test(plateaus_equal_transformers),
        cmocka_unit_test(plateau_of_an_accuracy_looks_for_more),
        cmocka_unit_test(warmup_below_one_is_a_share_rounded_up),
        cmocka_unit_test(rates_after_the_end_are_finite),
        cmocka_unit_test(knobs_without_meaning_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
