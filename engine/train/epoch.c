#include "epoch.h"

#include "rng.h"

#include <math.h>
#include <string.h>

bool at_epoch_is_weighted(const struct at_run *run)
{
    return run->config->train_dataset.weights != NULL && run->data.train_packs.n > 0;
}

static double weight_of(const struct at_run *run, uint32_t file)
{
    return run->config->train_dataset.weights[file];
}

static uint32_t rows_of(const struct at_run *run, uint32_t file)
{
    const struct at_packs *d = &run->data.train_packs;
    uint32_t n = 0;

    for (uint32_t i = 0; i < d->n_rows; i++) {
        n += d->rows[i].file == file;
        at_run_passed(run, i);
    }
    return n;
}

/* Rows of a file's n that are seen once more than the others. */
static uint32_t share_of(double weight, uint32_t n)
{
    const double rest = weight - floor(weight), share = round(rest * n);

    return rest > 0 && n > 0 ? (uint32_t)fmax(1, share) : 0;
}

AT_CHECKED at_epoch_count(uint32_t *out, const struct at_run *run)
{
    enum at_status st = AT_OK;
    const struct at_packs *d = &run->data.train_packs;
    double count = 0;

    *out = d->n;
    if (!at_epoch_is_weighted(run))
        goto done;
    if (d->how != AT_PACKING_NONE)
        FAIL(AT_USAGE, "train_dataset: weights do not go with packing, whose packed rows hold rows "
                       "of several files; set packing to false, or leave the weights out");
    for (uint32_t f = 0; f < run->config->train_dataset.n; f++) {
        const uint32_t n = rows_of(run, f);
        count += floor(weight_of(run, f)) * n + share_of(weight_of(run, f), n);
    }
    if (count > UINT32_MAX)
        FAIL(AT_USAGE, "train_dataset: with these weights an epoch has %.0f rows; lower them",
             count);
    *out = (uint32_t)count;
done:
    return st;
}

/* The rows that have their turn in this epoch: the next `share` of a fixed order of the file's n,
 * `rows` (n); `taken` (all rows) tells which. */
static void mark_share(bool *taken, uint32_t *rows, const struct at_run *run, uint32_t file,
                       uint64_t epoch)
{
    const struct at_packs *d = &run->data.train_packs;
    struct at_rng rng = at_rng_make(at_run_data_seed(run->config), AT_RNG_SHUFFLE, 0, file + 1);
    uint32_t n = 0, share = 0;

    for (uint32_t i = 0; i < d->n_rows; i++) {
        if (d->rows[i].file == file)
            rows[n++] = i;
        at_run_passed(run, i);
    }
    share = share_of(weight_of(run, file), n);
    at_rng_shuffle(&rng, rows, n);
    for (uint32_t i = 0; i < share; i++)
        taken[rows[(epoch % n * share + i) % n]] = true;
}

/* Each pass over the files has the rows whose weight is not used up. */
static AT_CHECKED list_weighted(uint32_t *order, const struct at_run *run, uint64_t epoch)
{
    enum at_status st = AT_OK;
    const struct at_packs *d = &run->data.train_packs;
    bool *taken = NULL, any = true;
    uint32_t *rows = NULL, n = 0;

    TRY(at_alloc(&taken, d->n_rows, sizeof *taken));
    TRY(at_alloc(&rows, d->n_rows, sizeof *rows));
    for (uint32_t pass = 1; any; pass++) {
        any = false;
        for (uint32_t i = 0; i < d->n_rows; i++) {
            if (weight_of(run, d->rows[i].file) >= pass) {
                order[n++] = i;
                any = true;
            }
            at_run_passed(run, i);
        }
    }
    for (uint32_t f = 0; f < run->config->train_dataset.n; f++)
        mark_share(taken, rows, run, f, epoch);
    for (uint32_t i = 0; i < d->n_rows; i++)
        if (taken[i])
            order[n++] = i;
    AT_REQUIRE(n == run->epoch_packs);
done:
    at_free(&taken);
    at_free(&rows);
    return st;
}

AT_CHECKED at_epoch_order(uint32_t *order, const struct at_run *run, uint64_t epoch)
{
    enum at_status st = AT_OK;
    struct at_rng rng =
        at_rng_make(at_run_data_seed(run->config), AT_RNG_SHUFFLE, (uint32_t)epoch, 0);

    for (uint32_t i = 0; i < run->data.train_packs.n && !at_epoch_is_weighted(run); i++)
        order[i] = i;
    if (at_epoch_is_weighted(run))
        TRY(list_weighted(order, run, epoch));
    if (strcmp(run->config->train_sampling_strategy, "random") == 0)
        at_rng_shuffle(&rng, order, run->epoch_packs);
done:
    return st;
}
