#include "shared_reference.h"

#include <string.h>

/* One side of a loop: its rows' results, and where each row's are kept. */
struct side {
    struct at_row_result *results; /* (n) */
    uint32_t n, n_kept;            /* rows; room that is needed to keep them */
    const uint32_t *from;          /* (n); NULL: in order */
    int where;                     /* index into struct at_shared_reference */
};

static struct side side_of(const struct at_loop *l, int k)
{
    const struct at_run_data *d = &l->run->data;
    const struct at_dataset *rows = k == 0 ? &d->train : &d->eval;

    return (struct side){ .results = k == 0 ? l->results : l->eval,
                          .n = rows->n_rows,
                          .n_kept = d->was_split ? d->all.n_rows : rows->n_rows,
                          .from = rows->from,
                          .where = d->was_split ? 0 : k };
}

/* Methods with a reference do not pack: a loop's results are those of the data set's rows. */
static bool is_shareable(const struct at_loop *l)
{
    return l->what.reference && !l->config->sync_ref_model && !at_run_has_other_reference(l->run);
}

static uint32_t place_of(const struct side *s, uint32_t i)
{
    return s->from ? s->from[i] : i;
}

/* On the way through a side's rows, at row i. */
static void passed(const struct at_shared_reference *s, const struct at_loop *l, uint32_t i)
{
    at_loop_passed(l, i);
    at_arena_passed(&s->arena, i);
}

void at_shared_reference_take(const struct at_shared_reference *s, struct at_loop *l)
{
    for (int k = 0; k < 2 && is_shareable(l); k++) {
        const struct side side = side_of(l, k);
        for (uint32_t i = 0; i < side.n && s->n[side.where] > 0; i++) {
            const struct at_kept_reference *kept = &s->kept[side.where][place_of(&side, i)];
            if (kept->is_known)
                memcpy(side.results[i].reference, kept->segment, sizeof kept->segment);
            side.results[i].has_reference = side.results[i].has_reference || kept->is_known;
            passed(s, l, i);
        }
    }
}

AT_CHECKED at_shared_reference_keep(struct at_shared_reference *s, const struct at_loop *l)
{
    enum at_status st = AT_OK;

    s->arena.spills = true;
    for (int k = 0; k < 2 && is_shareable(l); k++) {
        const struct side side = side_of(l, k);
        struct at_kept_reference **kept = &s->kept[side.where];
        if (s->n[side.where] == 0)
            TRY(at_arena_alloc(&s->arena, kept, side.n_kept, sizeof **kept));
        s->n[side.where] = side.n_kept;
        for (uint32_t i = 0; i < side.n; i++) {
            struct at_kept_reference *to = &(*kept)[place_of(&side, i)];
            if (side.results[i].has_reference)
                memcpy(to->segment, side.results[i].reference, sizeof to->segment);
            to->is_known = to->is_known || side.results[i].has_reference;
            passed(s, l, i);
        }
    }
done:
    return st;
}

void at_shared_reference_release(struct at_shared_reference *s)
{
    at_arena_release(&s->arena);
    *s = (struct at_shared_reference){ .n = { 0 } };
}
