#include "shared_reference.h"

#include <string.h>

static bool is_shareable(const struct at_loop *l)
{
    return l->what.reference && !l->config->sync_ref_model && !at_run_has_other_reference(l->run);
}

static const struct at_dataset *rows_of(const struct at_loop *l, int k)
{
    return k == 0 ? &l->run->data.train : &l->run->data.eval;
}

static uint32_t count_of(const struct at_loop *l, int k)
{
    return k == 0 ? l->run->data.train_packs.n_rows : l->run->data.eval_packs.n_rows;
}

void at_shared_reference_take(const struct at_shared_reference *s, struct at_loop *l)
{
    struct at_row_result *into[2] = { l->results, l->eval };

    for (int k = 0; k < 2 && is_shareable(l); k++) {
        if (s->n[k] != count_of(l, k) || strcmp(s->digest[k], rows_of(l, k)->digest) != 0)
            continue;
        for (uint32_t i = 0; i < s->n[k]; i++) {
            memcpy(into[k][i].reference, s->results[k][i].reference, sizeof into[k][i].reference);
            into[k][i].has_reference = s->results[k][i].has_reference;
        }
    }
}

AT_CHECKED at_shared_reference_keep(struct at_shared_reference *s, const struct at_loop *l)
{
    enum at_status st = AT_OK;
    const struct at_row_result *from[2] = { l->results, l->eval };

    for (int k = 0; k < 2 && is_shareable(l); k++) {
        at_free(&s->results[k]);
        s->n[k] = 0;
        TRY(at_alloc(&s->results[k], count_of(l, k), sizeof **s->results));
        s->n[k] = count_of(l, k);
        if (s->n[k] > 0)
            memcpy(s->results[k], from[k], s->n[k] * sizeof **s->results);
        memcpy(s->digest[k], rows_of(l, k)->digest, sizeof s->digest[k]);
    }
done:
    return st;
}

void at_shared_reference_release(struct at_shared_reference *s)
{
    for (int k = 0; k < 2; k++)
        at_free(&s->results[k]);
    *s = (struct at_shared_reference){ .n = { 0 } };
}
