#include "couple.h"

#include <math.h>
#include <stdlib.h>

struct at_ranked {
    float value;
    uint32_t pair;
};

AT_CHECKED at_coupling_init(struct at_coupling *out, uint32_t micro_batch)
{
    *out = (struct at_coupling){ .micro_batch = micro_batch };
    return at_alloc(&out->ranks, 2 * (size_t)micro_batch, sizeof *out->ranks);
}

void at_coupling_release(struct at_coupling *coupling)
{
    at_free(&coupling->ranks);
    *coupling = (struct at_coupling){ 0 };
}

/* By value, NaN last; equal ones as they came, so that the order is one. */
static int by_value(const void *a, const void *b)
{
    const struct at_ranked *x = a, *y = b;

    if (isnan(x->value) != isnan(y->value))
        return isnan(x->value) ? 1 : -1;
    if (x->value < y->value || x->value > y->value)
        return x->value < y->value ? -1 : 1;
    return x->pair < y->pair ? -1 : x->pair > y->pair;
}

static float log_ratio(const struct at_row_result *pair, uint32_t side)
{
    return pair->policy[side].logp - pair->reference[side].logp;
}

static float difference(const struct at_segment_result sides[2])
{
    return sides[0].logp - sides[1].logp;
}

/* aot: the pair of rank k by the policy's difference meets the one of rank k by the reference's. */
static void match_pairs(struct at_ranked *ranks, struct at_row_result *pairs, uint32_t n)
{
    struct at_ranked *policy = ranks, *reference = ranks + n;

    for (uint32_t i = 0; i < n; i++) {
        policy[i] = (struct at_ranked){ difference(pairs[i].policy), i };
        reference[i] = (struct at_ranked){ difference(pairs[i].reference), i };
    }
    qsort(policy, n, sizeof *policy, by_value);
    qsort(reference, n, sizeof *reference, by_value);
    for (uint32_t k = 0; k < n; k++) {
        struct at_row_result *own = &pairs[policy[k].pair];
        own->match.pair = reference[k].value - difference(own->reference);
    }
}

/* aot_unpaired: the chosen side of rank k meets the rejected side of rank k. */
static void match_sides(struct at_ranked *ranks, struct at_row_result *pairs, uint32_t n)
{
    struct at_ranked *chosen = ranks, *rejected = ranks + n;

    for (uint32_t i = 0; i < n; i++) {
        chosen[i] = (struct at_ranked){ log_ratio(&pairs[i], 0), i };
        rejected[i] = (struct at_ranked){ log_ratio(&pairs[i], 1), i };
    }
    qsort(chosen, n, sizeof *chosen, by_value);
    qsort(rejected, n, sizeof *rejected, by_value);
    for (uint32_t k = 0; k < n; k++) {
        pairs[chosen[k].pair].match.chosen = rejected[k].value;
        pairs[rejected[k].pair].match.rejected = chosen[k].value;
    }
}

void at_coupling_match(struct at_coupling *coupling, struct at_row_result *pairs, uint32_t n,
                       uint32_t micro_batch)
{
    AT_REQUIRE(micro_batch > 0 && micro_batch <= coupling->micro_batch);
    for (uint32_t i = 0; i < n; i += micro_batch) {
        const uint32_t m = n - i < micro_batch ? n - i : micro_batch;
        match_pairs(coupling->ranks, pairs + i, m);
        match_sides(coupling->ranks, pairs + i, m);
    }
}

AT_CHECKED at_coupling_rows(struct at_coupling *coupling, struct at_engine *engine,
                            const struct at_row *const *rows, struct at_row_result *results,
                            uint32_t n, uint32_t micro_batch, const struct at_compute *what)
{
    enum at_status st = AT_OK;
    const struct at_compute statistics = { .policy = true,
                                           .reference = what->reference,
                                           .tail_discount = what->tail_discount };

    if (coupling->micro_batch > 0) {
        TRY(at_engine_rows(engine, rows, results, n, &statistics));
        TRY(at_engine_finish(engine));
        at_coupling_match(coupling, results, n, micro_batch);
    }
    TRY(at_engine_rows(engine, rows, results, n, what));
done:
    return st;
}
