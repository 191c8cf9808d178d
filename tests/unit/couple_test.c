/* links: train data base */
#include "couple.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

enum { PAIRS = 5 };

/* Log-probs of chosen and rejected side: policy, reference. In halves, so that all is exact. */
static const float logps[PAIRS][4] = {
    { -10, -12, -9, -12.5f }, { -4, -9, -6, -8 },    { -20, -18, -20, -21 },
    { -7, -7.5f, -5, -8 },    { -3, -4, -3.5f, -4 },
};

static void make_pairs(struct at_row_result out[PAIRS])
{
    memset(out, 0, PAIRS * sizeof *out);
    for (size_t i = 0; i < PAIRS; i++)
        for (size_t k = 0; k < 2; k++) {
            out[i].policy[k].logp = logps[i][k];
            out[i].reference[k].logp = logps[i][2 + k];
        }
}

static void require_match(const struct at_row_result *pair, float own, float chosen, float rejected)
{
    assert_true(pair->match.pair == own);
    assert_true(pair->match.chosen == chosen);
    assert_true(pair->match.rejected == rejected);
}

/* By hand. Differences of the policy 2, 5, -2 and of the reference 3.5, 2, 1; log-ratios of the
 * chosen sides -1, 2, 0 and of the rejected sides 0.5, -1, 3. Then two pairs for themselves:
 * differences 0.5, 1 and 3, 0.5; log-ratios -2, 0.5 and 0.5, 0. */
static void match_is_by_rank_in_each_micro_batch(void **state)
{
    struct at_coupling coupling;
    struct at_row_result pairs[PAIRS];

    (void)state;
    make_pairs(pairs);
    assert_int_equal(at_coupling_init(&coupling, 3), AT_OK);
    at_coupling_match(&coupling, pairs, PAIRS, 3);
    require_match(&pairs[0], -1.5f, -1, 0);
    require_match(&pairs[1], 1.5f, 3, -1);
    require_match(&pairs[2], 0, 0.5f, 2);
    require_match(&pairs[3], -2.5f, 0, 0.5f);
    require_match(&pairs[4], 2.5f, 0.5f, -2);
    at_coupling_match(&coupling, pairs, PAIRS, 1);
    for (size_t i = 0; i < PAIRS; i++)
        require_match(&pairs[i], 0, logps[i][1] - logps[i][3], logps[i][0] - logps[i][2]);
    at_coupling_release(&coupling);
}

/* A NaN is last in its order, wherever it stands; the others keep theirs. */
static void match_of_nan_is_last(void **state)
{
    struct at_coupling coupling;
    struct at_row_result pairs[PAIRS];

    (void)state;
    make_pairs(pairs);
    pairs[0].policy[0].logp = NAN;
    assert_int_equal(at_coupling_init(&coupling, 3), AT_OK);
    at_coupling_match(&coupling, pairs, 3, 3);
    assert_true(pairs[2].match.chosen == -1 && pairs[1].match.chosen == 0.5f);
    assert_true(pairs[0].match.chosen == 3 && isnan(pairs[2].match.rejected));
    at_coupling_release(&coupling);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(match_is_by_rank_in_each_micro_batch),
        cmocka_unit_test(match_of_nan_is_last),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
