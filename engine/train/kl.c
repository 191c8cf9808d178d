#include "kl.h"

#include <math.h>

/* The row whose completion row i takes. */
static uint32_t partner(uint32_t i, uint32_t n, uint32_t batch)
{
    const uint32_t begin = i / batch * batch;
    const uint32_t end = n - begin < batch ? n : begin + batch;

    if (i > begin || end - begin == 1)
        return i - 1;
    return end - 1;
}

AT_CHECKED at_kl_rows(struct at_arena *arena, struct at_row **out, const struct at_dataset *d,
                      uint32_t batch, uint32_t max_length, const struct at_dataset *others)
{
    enum at_status st = AT_OK;
    struct at_row *rows = NULL;

    AT_REQUIRE(batch > 1);
    if (d->n_rows < 2 && !others)
        FAIL(AT_DATA, "the KL term of loss_type kto compares a row with another one, and there is "
                      "only one: add rows, or use loss_type apo_zero_unpaired, which needs none");
    TRY(at_arena_alloc(arena, &rows, d->n_rows, sizeof *rows));
    for (uint32_t i = 0; i < d->n_rows; i++) {
        struct at_segment *s = &rows[i].segment[0];
        const uint32_t room = max_length > 0 ? max_length - d->rows[i].n_prefix : UINT32_MAX;
        rows[i] = d->rows[i];
        *s = d->n_rows < 2 ? others->rows[0].segment[0]
                           : d->rows[partner(i, d->n_rows, batch)].segment[0];
        s->n = s->n_uncut < room ? s->n_uncut : room;
        s->n_targets = s->n; /* of labelled rows every token of the completion is one */
        at_arena_passed(arena, i);
        at_dataset_passed(d, i);
    }
    *out = rows;
done:
    return st;
}

AT_CHECKED at_kl_init(struct at_kl *out, const struct at_row *rows, const struct at_arena *arena,
                      const struct at_row *of, uint32_t n, uint32_t capacity)
{
    enum at_status st = AT_OK;

    *out = (struct at_kl){ .rows = rows, .of = of, .n = rows ? n : 0, .arena.spills = true };
    if (!rows)
        goto done;
    TRY(at_arena_alloc(&out->arena, &out->results, n, sizeof *out->results));
    TRY(at_alloc(&out->picked, capacity, sizeof *out->picked));
    TRY(at_alloc(&out->picked_of, capacity, sizeof *out->picked_of));
    TRY(at_alloc(&out->kept, capacity, sizeof *out->kept));
    TRY(at_alloc(&out->window, capacity, sizeof *out->window));
    for (uint32_t i = 0; i < n; i++) {
        out->results[i].n_segments = at_row_sums(&rows[i]);
        at_arena_passed(arena, i);
        at_arena_passed(&out->arena, i);
    }
done:
    return st;
}

void at_kl_release(struct at_kl *kl)
{
    at_arena_release(&kl->arena);
    at_free(&kl->picked);
    at_free(&kl->picked_of);
    at_free(&kl->kept);
    at_free(&kl->window);
}

float at_kl_term(double sum, uint32_t n)
{
    return sum < 0 ? 0 : (float)(sum / n); /* NaN stays */
}

/* A pass of the picked rows alone. */
static AT_CHECKED compute(struct at_kl *kl, struct at_engine *e, struct at_row_result *results,
                          uint32_t n, uint32_t batch)
{
    enum at_status st = AT_OK;
    const struct at_compute what = { .policy = true, .reference = true };

    for (uint32_t i = 0; i < n; i++)
        kl->window[i] = *kl->kept[i];
    TRY(at_engine_rows(e, kl->picked, kl->window, n, &what));
    TRY(at_engine_finish(e));
    for (uint32_t i = 0; i < n; i++)
        if (isfinite(kl->window[i].reference[0].logp))
            *kl->kept[i] = kl->window[i];
    for (uint32_t begin = 0; begin < n; begin += batch) {
        const uint32_t end = n - begin < batch ? n : begin + batch;
        double sum = 0;
        for (uint32_t i = begin; i < end; i++)
            sum += (double)kl->window[i].policy[0].logp - (double)kl->window[i].reference[0].logp;
        for (uint32_t i = begin; i < end; i++)
            results[i].kl = at_kl_term(sum, end - begin);
    }
done:
    return st;
}

AT_CHECKED at_kl_begin(struct at_kl *kl, struct at_engine *e, const uint32_t *index,
                       struct at_row_result *results, uint32_t n, uint32_t batch,
                       struct at_compute *what)
{
    what->riders = (struct at_riders){ .rows = NULL };
    if (!kl->rows)
        return AT_OK;
    for (uint32_t i = 0; i < n; i++) {
        kl->picked[i] = &kl->rows[index[i]];
        kl->picked_of[i] = &kl->of[index[i]];
        kl->kept[i] = &kl->results[index[i]];
    }
    if (!at_engine_takes_riders(e, kl->picked_of, kl->picked, n, batch))
        return compute(kl, e, results, n, batch);
    what->riders = (struct at_riders){ kl->picked, kl->kept, batch };
    return AT_OK;
}
