/* links: reward base */
/* Planted series: what looks like a reward that is exploited, and what does not. */
#include "alarm.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

enum { ROLLOUTS = 24 };
static const double noise[] = { 0.3, -0.7, 0.1, 0.9, -0.4, -0.2, 0.6, -0.6 };

/* From one value in a straight line to another, with noise; the rollouts of alarms, 0: none. */
struct series {
    double from, to, noise;
};
static void run(int at[AT_ALARM_SERIES], const struct series of[AT_ALARM_SERIES])
{
    struct at_alarm alarm = { .count = { 0 } };
    uint32_t n = 0;

    memset(at, 0, AT_ALARM_SERIES * sizeof *at);
    for (int i = 0; i < ROLLOUTS; i++) {
        double values[AT_ALARM_SERIES];
        for (int s = 0; s < AT_ALARM_SERIES; s++)
            values[s] = of[s].from + (of[s].to - of[s].from) * i / (ROLLOUTS - 1) +
                        of[s].noise * noise[(i + 3 * s) % 8];
        n += at_alarm_add(&alarm, (uint64_t)i + 1, values);
    }
    for (int s = 0; s < AT_ALARM_SERIES; s++) {
        at[s] = (int)alarm.raised[s].step;
        n -= at[s] > 0;
    }
    assert_int_equal(n, 0); /* each once */
}

static const struct series steady = { 0.7, 0.7, 0.02 }, calm = { 0.05, 0.08, 0.02 },
                           same = { 60, 66, 5 }, rising = { 0.1, 0.8, 0.05 };

static void require_alarms(int accuracy, int length, int repetition, const struct series *a,
                           const struct series *l, const struct series *r,
                           const struct series *reward)
{
    int at[AT_ALARM_SERIES];

    run(at, (struct series[]){ *a, *l, *r, *reward });
    assert_int_equal(at[AT_ALARM_ACCURACY] > 0, accuracy);
    assert_int_equal(at[AT_ALARM_LENGTH] > 0, length);
    assert_int_equal(at[AT_ALARM_REPETITION] > 0, repetition);
    for (int s = 0; s < AT_ALARM_SERIES; s++)
        assert_true(at[s] == 0 || at[s] >= 2 * AT_ALARM_WINDOW);
}

static void a_reward_that_is_exploited_raises_its_alarm(void **state)
{
    static const struct series falling = { 0.7, 0.5, 0.02 }, longer = { 60, 150, 5 },
                               shorter = { 60, 20, 5 }, repeated = { 0.05, 0.5, 0.02 };

    (void)state;
    require_alarms(1, 0, 0, &falling, &same, &calm, &rising);
    require_alarms(0, 1, 0, &steady, &longer, &calm, &rising);
    require_alarms(0, 1, 0, &steady, &shorter, &calm, &rising);
    require_alarms(0, 0, 1, &steady, &same, &repeated, &rising);
    require_alarms(1, 1, 1, &falling, &longer, &repeated, &rising);
    /* whatever the reward's unit and sign */
    require_alarms(0, 1, 0, &steady, &longer, &calm, &(struct series){ -900, -400, 40 });
}

static void what_is_no_sign_raises_none(void **state)
{
    static const struct series falling = { 0.7, 0.5, 0.02 }, longer = { 60, 150, 5 },
                               flat = { 0.5, 0.5, 0.2 }, sinking = { 0.5, 0.1, 0.05 },
                               noisy = { 0.7, 0.62, 0.25 };

    (void)state;
    require_alarms(0, 0, 0, &steady, &same, &calm, &rising);
    require_alarms(0, 0, 0, &falling, &longer, &calm, &flat); /* it gains nothing */
    require_alarms(0, 0, 0, &falling, &longer, &calm, &sinking);
    require_alarms(0, 0, 0, &noisy, &same, &calm, &rising);
    require_alarms(0, 0, 0, &(struct series){ NAN, NAN, 0 }, &same, &calm, &rising);
}

/* Accuracy of every third rollout: known later, compared all the same. */
static void values_that_are_missing_are_passed_over(void **state)
{
    struct at_alarm alarm = { .count = { 0 } };
    struct at_buf text = { 0 };

    (void)state;
    assert_true(isnan(at_alarm_now(&alarm, AT_ALARM_LENGTH)));
    for (int i = 0; i < 40; i++) {
        const double reward = 0.01 * i + 0.001 * noise[i % 8];
        const double values[] = { i % 3 == 0 ? 0.8 - 0.01 * i : NAN, 60, 0, reward };
        assert_int_equal(at_alarm_add(&alarm, (uint64_t)i + 1, values), i == 27); /* the tenth */
    }
    assert_true(alarm.raised[AT_ALARM_ACCURACY].step == 28);
    assert_true(fabs(at_alarm_before(&alarm, AT_ALARM_ACCURACY) - 0.74) < 1e-9);
    at_alarm_tell(&text, &alarm, AT_ALARM_ACCURACY);
    assert_non_null(strstr(text.data, "step 28: "));
    assert_non_null(strstr(text.data,
                           "rose from 0.02 to 0.25 while the share of held-out pairs whose "
                           "chosen reply is the likelier fell from 0.74 to 0.59"));
    at_buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reward_that_is_exploited_raises_its_alarm),
        cmocka_unit_test(what_is_no_sign_raises_none),
        cmocka_unit_test(values_that_are_missing_are_passed_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
