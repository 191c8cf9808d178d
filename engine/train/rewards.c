#include "rewards.h"

#include "evaluate.h"
#include "tensorboard.h"

#include <stdio.h>

enum { CHOSEN, REJECTED, MARGIN, KINDS };

/* Values of three histograms; a row has a place in each that it counts in. */
struct values {
    double *of[KINDS]; /* (rows) */
    size_t n[KINDS];
};

static void put(struct values *v, int kind, double value)
{
    v->of[kind][v->n[kind]++] = value;
}

static void put_row(struct values *v, const struct at_row *row, const struct at_row_result *r,
                    double scale)
{
    const double chosen = r->pair.score_chosen, rejected = r->pair.score_rejected;

    if (row->kind == AT_ROWS_LABELLED) { /* its own score, whatever its label */
        put(v, row->desirable ? CHOSEN : REJECTED, scale * chosen);
        return;
    }
    put(v, CHOSEN, scale * chosen);
    put(v, REJECTED, scale * rejected);
    put(v, MARGIN, scale * (chosen - rejected));
}

AT_CHECKED at_reward_histograms(const struct at_loop *l, uint64_t step, const char *prefix,
                                const struct at_row *const *rows,
                                const struct at_row_result *results, uint32_t n)
{
    static const char *const names[KINDS] = { "histograms/rewards/chosen",
                                              "histograms/rewards/rejected",
                                              "histograms/rewards/margins" };
    enum at_status st = AT_OK;
    struct values v = { .n = { 0 } };
    struct at_histogram list[KINDS];
    char name[KINDS][64];

    if (!at_records_has_events(l->records) || l->objective.without_reference ||
        at_method_get(l->run->method)->rows == AT_ROWS_SAMPLE ||
        at_method_get(l->run->method)->rows == AT_ROWS_SFT)
        goto done;
    for (int k = 0; k < KINDS; k++)
        TRY(at_alloc(&v.of[k], n, sizeof *v.of[k]));
    for (uint32_t i = 0; i < n; i++)
        put_row(&v, rows[i], &results[i], at_loop_reward_scale(l));
    for (int k = 0; k < KINDS; k++) {
        snprintf(name[k], sizeof name[k], "%s%s", prefix, names[k]);
        list[k] = (struct at_histogram){ name[k], v.of[k], v.n[k] };
    }
    TRY(at_records_histograms(l->records, step, list, KINDS));
done:
    for (int k = 0; k < KINDS; k++)
        at_free(&v.of[k]);
    return st;
}
