/* links: train base */
#include "schedule.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

static void check_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%.17g, want %.17g", got, want);
}

static const double pi = 3.14159265358979323846;

/* transformers' optimization.py, written out: the factor of step t. */
static double factor(const char *type, int t, int warmup, int total)
{
    const double after = fmax(1, total - warmup);

    if (type[0] == 'c' && type[1] == 'o' && type[2] == 'n' && type[8] == 0)
        return 1; /* constant */
    if (t < warmup)
        return t / fmax(1, warmup);
    if (type[0] == 'l')
        return fmax(0, (total - t) / after);
    if (type[2] == 's')
        return fmax(0, 0.5 * (1 + cos(pi * 0.5 * 2 * ((t - warmup) / after))));
    return 1; /* constant_with_warmup */
}

static void check_all(double warmup_steps, int warmup, int total)
{
    static const char *const types[] = { "linear", "cosine", "constant", "constant_with_warmup" };

    for (size_t i = 0; i < AT_COUNT(types); i++) {
        const struct at_schedule s =
            at_schedule_make(types[i], 3e-4, warmup_steps, (uint64_t)total);
        for (int t = 0; t <= total + 2; t++) {
            const double want = 3e-4 * factor(types[i], t, warmup, total);
            if (fabs(at_schedule_at(&s, (uint64_t)t) - want) > 1e-18)
                fail_msg("%s, warmup %g, step %d of %d: %.17g, want %.17g", types[i], warmup_steps,
                         t, total, at_schedule_at(&s, (uint64_t)t), want);
        }
    }
}

static void schedule_without_warmup_equals_transformers(void **state)
{
    (void)state;
    check_all(0, 0, 10);
    check_all(0, 0, 1);
}

static void schedule_with_warmup_steps_equals_transformers(void **state)
{
    (void)state;
    check_all(3, 3, 10);
    check_all(1, 1, 10);
    check_all(10, 10, 10);
    check_all(20, 20, 10);
}

static void schedule_with_a_ratio_rounds_up(void **state)
{
    (void)state;
    check_all(0.1, 1, 10);
    check_all(0.1, 2, 11);
    check_all(0.25, 25, 100);
}

static void schedule_values_by_hand(void **state)
{
    const struct at_schedule linear = at_schedule_make("linear", 1, 2, 6);
    const struct at_schedule cosine = at_schedule_make("cosine", 1, 0, 4);

    (void)state;
    check_near(at_schedule_at(&linear, 0), 0, 0);
    check_near(at_schedule_at(&linear, 1), 0.5, 0);
    check_near(at_schedule_at(&linear, 2), 1, 0);
    check_near(at_schedule_at(&linear, 5), 0.25, 0);
    check_near(at_schedule_at(&cosine, 1), 0.853553390593, 1e-9);
    check_near(at_schedule_at(&cosine, 2), 0.5, 1e-15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedule_without_warmup_equals_transformers),
        cmocka_unit_test(schedule_with_warmup_steps_equals_transformers),
        cmocka_unit_test(schedule_with_a_ratio_rounds_up),
        cmocka_unit_test(schedule_values_by_hand),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
