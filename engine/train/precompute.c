#include "precompute.h"

/* at_reference_rows() of a data set. */
static AT_CHECKED refer(struct at_loop *l, struct at_engine *e, const struct at_row *rows,
                        struct at_row_result *results, uint32_t n_rows, float tail)
{
    enum { PIECE = 1024 };
    enum at_status st = AT_OK;

    for (uint32_t i = 0; i < n_rows; i += PIECE) {
        const uint32_t n = n_rows - i < PIECE ? n_rows - i : PIECE;
        TRY(at_reference_rows(e, rows + i, results + i, n, tail));
        at_loop_drop(l);
    }
done:
    return st;
}

AT_CHECKED at_precompute_other(struct at_loop *l)
{
    enum at_status st = AT_OK;
    struct at_run *run = l->run;
    struct at_engine *e = &run->reference.engine;
    const struct at_run_data *d = &run->data;
    const float tail = l->what.tail_discount;

    if (!at_run_has_other_reference(run))
        goto done;
    TRY(at_reference_commit(&run->reference));
    TRY(refer(l, e, d->train.rows, l->results, d->train.n_rows, tail));
    TRY(refer(l, e, d->eval.rows, l->eval, d->eval.n_rows, tail));
    TRY(refer(l, e, l->kl.rows, l->kl.results, l->kl.n, 0));
    TRY(refer(l, e, l->eval_kl.rows, l->eval_kl.results, l->eval_kl.n, 0));
    run->engine.ref_forward_tokens += e->ref_forward_tokens;
done:
    at_reference_leave_device(&run->reference);
    return st;
}

AT_CHECKED at_precompute_own(struct at_loop *l)
{
    enum at_status st = AT_OK;
    struct at_engine *e = &l->run->engine;
    const struct at_packs *d = &l->run->data.train_packs;

    if (!l->what.reference || at_run_has_other_reference(l->run) ||
        (!e->model.trainable && !l->config->precompute_ref_log_probs))
        goto done;
    TRY(refer(l, e, d->rows, l->results, d->n_rows, l->what.tail_discount));
    TRY(refer(l, e, l->kl.rows, l->kl.results, l->kl.n, 0));
done:
    return st;
}
