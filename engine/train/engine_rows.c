#include "engine_parts.h"
#include "kl.h"

#include <math.h>
#include <string.h>

void at_engine_host_release(struct at_engine_host **host)
{
    struct at_engine_host *h = *host;

    if (!h)
        return;
    at_free(&h->landing.sums);
    at_free(&h->landing.reference);
    at_free(&h->landing.losses);
    at_free(&h->landing.drifts);
    at_free(&h->landing.pairs);
    at_free(&h->landing.facts);
    at_free(&h->landing.matches);
    at_free(&h->landing.of);
    at_free(&h->landing.n_targets);
    at_free(&h->landing.target);
    for (int k = 0; k < 2; k++)
        at_free(&h->landing.stats[k]);
    at_free(&h->packed);
    at_free(&h->packed_results);
    at_free(&h->riders);
    at_free(&h->rider_results);
    at_free(&h->slab_of_row);
    at_free(&h->order);
    at_free(&h->tokens);
    at_free(&h->facts);
    at_free(host);
}

static AT_CHECKED grow(struct at_engine_host *h, size_t n)
{
    enum at_status st = AT_OK;
    struct landing *l = &h->landing;
    const size_t old = h->capacity, segments = AT_MAX_SEGMENTS;

    if (n <= old)
        goto done;
    TRY(at_realloc(&l->sums, old * segments, n * segments, sizeof *l->sums));
    TRY(at_realloc(&l->reference, old * segments, n * segments, sizeof *l->reference));
    TRY(at_realloc(&l->losses, old * segments, n * segments, sizeof *l->losses));
    TRY(at_realloc(&l->pairs, old, n, sizeof *l->pairs));
    TRY(at_realloc(&l->facts, old, n, sizeof *l->facts));
    TRY(at_realloc(&l->matches, old, n, sizeof *l->matches));
    TRY(at_realloc(&l->drifts, old * segments, n * segments, sizeof *l->drifts));
    TRY(at_realloc(&l->of, old, n, sizeof *l->of));
    TRY(at_realloc(&l->n_targets, old, n, sizeof *l->n_targets));
    TRY(at_realloc(&h->packed, old, n, sizeof *h->packed));
    TRY(at_realloc(&h->packed_results, old, n, sizeof *h->packed_results));
    TRY(at_realloc(&h->riders, old, n, sizeof *h->riders));
    TRY(at_realloc(&h->rider_results, old, n, sizeof *h->rider_results));
    TRY(at_realloc(&h->slab_of_row, old, n, sizeof *h->slab_of_row));
    TRY(at_realloc(&h->order, old, n, sizeof *h->order));
    h->capacity = n;
done:
    return st;
}

/* Room for the stats of all target tokens of the rows, and of `padding` rows at the ends of slabs.
 */
static AT_CHECKED grow_stats(struct landing *l, const struct at_row *const *rows,
                             const struct at_row_result *results, uint32_t n, size_t padding)
{
    enum at_status st = AT_OK;
    const size_t old = l->stats_capacity;
    size_t need = padding;

    l->n_stats = l->n_order = 0;
    l->wants_tokens = false;
    for (uint32_t i = 0; i < n; i++) {
        l->wants_tokens = l->wants_tokens || results[i].tokens[0] || results[i].tokens[1];
        need += at_row_targets(rows[i]);
    }
    if (!l->wants_tokens || need <= old)
        goto done;
    for (int k = 0; k < 2; k++)
        TRY(at_realloc(&l->stats[k], 4 * old, 4 * need, sizeof *l->stats[k]));
    TRY(at_realloc(&l->target, old, need, sizeof *l->target));
    l->stats_capacity = need;
done:
    return st;
}

struct at_batch at_engine_batch(const struct at_slab *slab)
{
    return (struct at_batch){ .T = slab->T,
                              .R = slab->R,
                              .T_back = slab->T_back,
                              .R_back = slab->R_back,
                              .S = slab->S,
                              .S_back = slab->S_back,
                              .n_back = slab->n_own < slab->n_tokens ? slab->n_own : slab->T_back,
                              .n_segments = slab->n_segments,
                              .ids = slab->ids,
                              .positions = slab->positions,
                              .intervals = &slab->intervals[0].prefix_begin,
                              .query_end = slab->query_end,
                              .tokens = slab->tokens,
                              .sources = slab->sources,
                              .source_names = slab->source_names,
                              .row_source = slab->row_source,
                              .source_begin = slab->source_begin,
                              .source_place = slab->source_place,
                              .target = slab->target,
                              .row_segment = slab->row_segment,
                              .row_weight = slab->row_weight,
                              .order = slab->order,
                              .segment_begin = slab->segment_begin,
                              .n_order = slab->n_rows,
                              .long_runs = slab->long_runs,
                              .n_long = slab->n_long };
}

/* The head's stats of the pass that was recorded last: 0 the policy's, 1 the reference's. */
static void land_stats(struct at_engine *e, const struct at_batch *b, int which)
{
    struct landing *l = &e->host->landing;

    if (l->wants_tokens)
        at_stream_download(e->stream, l->stats[which] + 4 * l->n_stats, e->decoder.stats,
                           16ul * b->R);
}

/* Says where the targets of the slab are in `stats`. */
static void land_targets(struct landing *l, const struct at_slab *slab)
{
    if (!l->wants_tokens)
        return;
    for (uint32_t i = 0; i < slab->n_rows; i++)
        l->target[l->n_order++] = l->n_stats + (size_t)slab->order[i];
    l->n_stats += slab->R;
}

/* Reference sums of the slab: uploaded when all its rows have them, else computed; computed, too,
 * where the drift from them is wanted. */
static void reference_pass(struct at_engine *e, const struct at_batch *b,
                           const struct at_compute *what, bool cached)
{
    struct at_decoder *d = &e->decoder;
    struct landing *l = &e->host->landing;
    const uint64_t bytes = b->n_segments * sizeof *l->reference;
    struct at_segment_result *values = l->reference + l->n_segments;

    if (what->drift || !cached) {
        at_decoder_forward(e->stream, d, b, AT_PASS_REFERENCE, at_view_part(d->ref_sums, 0, bytes));
        at_useful_forward(&e->useful, d, &e->slab, AT_PASS_REFERENCE);
        e->ref_forward_tokens += e->slab.n_tokens;
        land_stats(e, b, 1);
    }
    if (what->drift)
        at_decoder_keep(e->stream, d, b);
    if (what->reference && cached)
        at_stream_upload(e->stream, d->ref_sums, values, bytes);
    else if (what->reference)
        at_stream_download(e->stream, values, d->ref_sums, bytes);
}

static void row_losses(struct at_engine *e, const struct at_batch *b, const struct at_compute *what,
                       uint32_t n_rows)
{
    struct at_decoder *d = &e->decoder;
    struct landing *l = &e->host->landing;
    const uint64_t bytes = b->n_segments * sizeof *l->losses;

    AT_REQUIRE(n_rows > 0);
    if (!what->reference) /* log-ratios to it are the log-probs themselves */
        at_stream_upload(e->stream, d->ref_sums, l->reference + l->n_segments, bytes);
    if (what->kind == AT_LOSS_PAIR) {
        at_stream_upload(e->stream, d->pair_match, l->matches + l->n_rows,
                         n_rows * sizeof *l->matches);
        at_pair_losses(e->stream, what->losses, what->n_losses, d->coef, d->pair_out,
                       &(struct at_pair_batch){ .n_pairs = n_rows,
                                                .segments = b->n_segments / n_rows,
                                                .triples = e->slab.rows[0]->n_segments > 2,
                                                .R = b->R,
                                                .sums = d->sums,
                                                .ref_sums = d->ref_sums,
                                                .row_weight = d->row_weight,
                                                .match = d->pair_match,
                                                .order = d->order,
                                                .begin = d->segment_begin },
                       &what->loss_params, what->weight);
    } else {
        at_stream_upload(e->stream, d->row_facts, l->facts + l->n_rows, n_rows * sizeof *l->facts);
        at_row_loss(e->stream, what->losses[0].name, d->coef, d->pair_out, d->sums, d->ref_sums,
                    d->row_facts, d->order, d->segment_begin, n_rows, b->R, &what->loss_params,
                    what->weight);
    }
    at_stream_download(e->stream, l->pairs + l->n_rows, d->pair_out, n_rows * sizeof *l->pairs);
}

static void token_losses(struct at_engine *e, const struct at_batch *b,
                         const struct at_compute *what)
{
    struct at_decoder *d = &e->decoder;
    struct landing *l = &e->host->landing;
    const uint64_t bytes = b->n_segments * sizeof *l->losses;

    at_token_loss(e->stream, what->losses[0].name, d->coef, d->row_loss, d->stats, d->row_segment,
                  b->R, what->weight);
    at_segment_sums(e->stream, at_view_part(d->sums, 0, bytes), d->row_loss, d->row_weight,
                    d->log_p2, d->order, d->segment_begin, b->n_segments);
    at_stream_download(e->stream, l->losses + l->n_segments, d->sums, bytes);
}

/* Segment s of the slab is sample s. */
static void policy_losses(struct at_engine *e, const struct at_batch *b,
                          struct at_row_result *const *results, const struct at_compute *what)
{
    struct at_decoder *d = &e->decoder;
    struct landing *l = &e->host->landing;
    const struct at_slab *slab = &e->slab;
    const uint64_t bytes = b->n_segments * sizeof *l->losses;
    float *tokens = e->host->tokens, *facts = e->host->facts;

    for (uint32_t s = 0; s < b->n_segments; s++) {
        const struct at_sample_facts *f = &results[s]->sample;
        facts[4 * s] = f->advantage;
        facts[4 * s + 1] = f->share;
        facts[4 * s + 2] = f->old ? 1 : 0;
        facts[4 * s + 3] = f->ref ? 1 : 0;
        for (int32_t i = slab->segment_begin[s]; i < slab->segment_begin[s + 1]; i++) {
            float *token = tokens + 4ul * (uint32_t)slab->order[i];
            token[0] = f->old ? f->old[i - slab->segment_begin[s]] : 0;
            token[1] = f->ref ? f->ref[i - slab->segment_begin[s]] : 0;
        }
    }
    at_stream_upload(e->stream, d->row_loss, tokens, 16ul * b->R);
    at_stream_upload(e->stream, d->ref_sums, facts, 16ul * b->n_segments);
    at_policy_loss(e->stream, what->losses[0].name, d->coef, d->row_loss, d->stats, d->ref_sums,
                   d->order, d->segment_begin, b->n_segments, b->R, &what->policy_params);
    at_segment_sums(e->stream, at_view_part(d->sums, 0, bytes), d->row_loss, d->row_weight,
                    d->log_p2, d->order, d->segment_begin, b->n_segments);
    at_stream_download(e->stream, l->losses + l->n_segments, d->sums, bytes);
}

static void drift_pass(struct at_engine *e, const struct at_batch *b)
{
    struct at_decoder *d = &e->decoder;
    struct landing *l = &e->host->landing;
    const uint64_t bytes = b->n_segments * sizeof *l->drifts;

    at_decoder_drift(e->stream, d, b, at_view_part(d->sums, 0, bytes));
    at_stream_download(e->stream, l->drifts + l->n_segments, d->sums, bytes);
}

/* Lays out the slab of n packed rows; what the host knows of them goes where the device's part
 * lands. Returns whether all have reference values. */
static bool fill_slab(struct at_engine *e, uint32_t n, const struct at_compute *what)
{
    const struct at_engine_host *h = e->host;
    struct landing *l = &e->host->landing;
    struct at_segment_result *reference = l->reference + l->n_segments;
    const bool rides = what->riders.rows != NULL;
    bool cached = true;

    if (rides)
        at_slab_fill_riders(&e->slab, h->packed, h->riders, n);
    else if (h->siblings)
        at_slab_fill_siblings(&e->slab, h->packed, n);
    else
        at_slab_fill(&e->slab, h->packed, n);
    AT_REQUIRE(e->slab.n_segments <= AT_MAX_SEGMENTS * n);
    if (what->tail_discount > 0)
        at_slab_weigh(&e->slab, 1 - what->tail_discount);
    for (uint32_t i = 0; i < n; i++) {
        const struct at_row *row = h->packed[i];
        const struct at_row_result *result = h->packed_results[i];
        l->of[l->n_rows + i] = h->packed_results[i];
        l->facts[l->n_rows + i] = (struct row_facts){ result->kl, row->desirable };
        l->matches[l->n_rows + i] = result->match;
        l->n_targets[l->n_rows + i] = at_row_targets(row);
        cached = cached && result->has_reference;
        for (uint32_t k = 0; k < at_row_sums(row); k++)
            *reference++ = what->reference
                               ? result->reference[k]
                               : (struct at_segment_result){ .margin = k ? 0 : row->margin };
    }
    for (uint32_t i = 0; rides && i < n; i++) {
        cached = cached && h->rider_results[i]->has_reference;
        *reference++ = h->rider_results[i]->reference[0];
    }
    return cached;
}

/* Waits for the log-probs of the slab's riders, the last n of its segments, keeps their reference's
 * and gives the rows of each batch its term. */
static AT_CHECKED land_riders(struct at_engine *e, uint32_t n, uint32_t batch)
{
    enum at_status st = AT_OK;
    struct at_engine_host *h = e->host;
    struct landing *l = &h->landing;
    const size_t first = l->n_segments + e->slab.n_segments - n;
    const struct at_segment_result *policy = l->sums + first, *reference = l->reference + first;

    TRY(at_stream_submit(e->stream));
    TRY(at_stream_wait(e->stream));
    for (uint32_t begin = 0; begin < n; begin += batch) {
        const uint32_t end = n - begin < batch ? n : begin + batch;
        double sum = 0;
        for (uint32_t i = begin; i < end; i++) {
            struct at_row_result *rider = h->rider_results[i];
            sum += (double)policy[i].logp - (double)reference[i].logp;
            if (!isfinite(reference[i].logp))
                continue;
            rider->reference[0] = reference[i];
            rider->has_reference = true;
        }
        for (uint32_t i = begin; i < end; i++)
            h->packed_results[i]->kl = l->facts[l->n_rows + i].kl = at_kl_term(sum, end - begin);
    }
done:
    return st;
}

static void losses_of(struct at_engine *e, const struct at_batch *b, const struct at_compute *what,
                      uint32_t n)
{
    if (what->kind == AT_LOSS_TOKEN)
        token_losses(e, b, what);
    else if (what->kind == AT_LOSS_POLICY)
        policy_losses(e, b, e->host->packed_results, what);
    else
        row_losses(e, b, what, n);
}

/* Policy pass and losses of the slab's n rows. */
static AT_CHECKED policy_pass(struct at_engine *e, const struct at_batch *b,
                              const struct at_compute *what, uint32_t n)
{
    enum at_status st = AT_OK;
    struct at_decoder *d = &e->decoder;
    struct landing *l = &e->host->landing;
    const enum at_pass pass = what->train   ? AT_PASS_POLICY_TRAIN
                              : what->drift ? AT_PASS_POLICY_DRIFT
                                            : AT_PASS_POLICY_EVAL;
    const uint64_t bytes = b->n_segments * sizeof *l->sums;

    at_decoder_forward(e->stream, d, b, pass, at_view_part(d->sums, 0, bytes));
    at_useful_forward(&e->useful, d, &e->slab, pass);
    at_stream_download(e->stream, l->sums + l->n_segments, d->sums, bytes);
    land_stats(e, b, 0);
    if (what->riders.rows)
        TRY(land_riders(e, n, what->riders.batch));
    if (what->n_losses > 0)
        losses_of(e, b, what, n);
    if (what->drift)
        drift_pass(e, b);
    e->tokens_computed += e->slab.n_tokens;
    e->head_rows += e->slab.n_rows;
    e->padding_tokens += e->slab.T - e->slab.n_tokens;
    e->padding_rows += e->slab.R - e->slab.n_rows;
done:
    return st;
}

/* Of the n rows that h->packed and those with it hold. */
static AT_CHECKED compute_slab(struct at_engine *e, uint32_t n, const struct at_compute *what)
{
    enum at_status st = AT_OK;
    struct at_decoder *d = &e->decoder;
    struct landing *l = &e->host->landing;
    const bool cached = fill_slab(e, n, what);
    const struct at_batch b = at_engine_batch(&e->slab);

    at_decoder_begin(e->stream, d, &b);
    if (what->reference || what->drift)
        reference_pass(e, &b, what, cached);
    if (what->policy)
        TRY(policy_pass(e, &b, what, n));
    land_targets(l, &e->slab);
    if (what->train) {
        at_decoder_backward(e->stream, d, &b);
        at_useful_backward(&e->useful, d, &e->slab);
    }
    for (uint32_t i = 0; i < n; i++)
        e->tokens_given += what->n_losses > 0 ? at_row_tokens_unshared(e->host->packed[i]) : 0;
    l->n_rows += n;
    l->n_segments += b.n_segments - (what->riders.rows ? n : 0); /* what those were is known */
    TRY(at_stream_submit(e->stream));
done:
    return st;
}

/* Whether a side may read the prefix of another row: dropout would give each row's its own values,
 * and other lengths other angles. */
static bool prefixes_are_alike(const struct at_engine *e)
{
    return e->decoder.dropout.p == 0 && e->slab.long_from == 0;
}

bool at_engine_takes_riders(const struct at_engine *e, const struct at_row *const *rows,
                            const struct at_row *const *riders, uint32_t n, uint32_t batch)
{
    bool fit = prefixes_are_alike(e);

    for (uint32_t i = 0; fit && i < n; i += batch)
        fit = at_rider_tokens(rows + i, riders + i, n - i < batch ? n - i : batch) <=
              e->decoder.capacity;
    return fit;
}

static AT_CHECKED pack(struct at_engine *e, const struct at_row *const *rows, uint32_t n,
                       const struct at_riders *riders, uint32_t *out_n_slabs)
{
    struct at_engine_host *h = e->host;
    const uint32_t capacity = e->decoder.capacity;

    h->siblings = n > 0 && rows[0]->kind == AT_ROWS_SAMPLE && prefixes_are_alike(e);
    if (h->siblings)
        return at_pack_siblings(h->slab_of_row, h->order, out_n_slabs, rows, n, capacity);
    for (uint32_t i = 0; i < n; i++)
        h->order[i] = i;
    if (riders->rows)
        return at_pack_riders(h->slab_of_row, out_n_slabs, rows, riders->rows, n, riders->batch,
                              capacity);
    return at_pack(h->slab_of_row, out_n_slabs, rows, n, capacity);
}

AT_CHECKED at_engine_rows(struct at_engine *e, const struct at_row *const *rows,
                          struct at_row_result *results, uint32_t n, const struct at_compute *what)
{
    enum at_status st = AT_OK;
    struct at_engine_host *h = e->host;
    uint32_t n_slabs = 0;

    AT_REQUIRE(!h->pending);
    TRY(grow(h, n));
    TRY(pack(e, rows, n, &what->riders, &n_slabs));
    TRY(grow_stats(&h->landing, rows, results, n, (size_t)n_slabs * e->slab.granule));
    if (what->kind == AT_LOSS_POLICY && !h->tokens) {
        TRY(at_alloc(&h->tokens, e->decoder.capacity_rows, 16));
        TRY(at_alloc(&h->facts, e->decoder.capacity_segments, 16));
    }
    h->what = *what;
    memcpy(e->decoder.dropout.key, what->dropout_key, sizeof what->dropout_key);
    h->landing.n_rows = h->landing.n_segments = 0;
    h->pending = true;
    if (e->norms_of != e->params.changes)
        at_decoder_norms(e->stream, &e->decoder);
    e->norms_of = e->params.changes;
    for (uint32_t slab = 0; slab < n_slabs; slab++) {
        uint32_t m = 0;
        for (uint32_t k = 0; k < n; k++) {
            const uint32_t i = h->order[k];
            if (h->slab_of_row[i] != slab)
                continue;
            if (what->riders.rows) {
                h->riders[m] = what->riders.rows[i];
                h->rider_results[m] = what->riders.results[i];
            }
            h->packed[m] = rows[i];
            h->packed_results[m++] = &results[i];
        }
        TRY(compute_slab(e, m, what));
    }
done:
    return st;
}

/* Of row i, whose first target is `first`; without cached reference values those, too. */
static void sort_tokens(const struct landing *l, size_t i, size_t first,
                        const struct at_compute *what)
{
    const struct at_row_result *r = l->of[i];
    const bool fresh[2] = { what->policy, what->reference && !r->has_reference };

    for (int k = 0; k < 2; k++)
        for (uint32_t t = 0; r->tokens[k] && fresh[k] && t < l->n_targets[i]; t++)
            r->tokens[k][t] = l->stats[k][4 * l->target[first + t]];
}

/* Sums over the tokens of a sample, as losses/policy.comp leaves them. */
static void take_sample(struct at_row_result *r, const struct at_segment_result *sums)
{
    r->pair.loss = r->sample.share * sums->logp;
    r->sample_sums = (struct at_sample_sums){ sums->entropy, sums->hits, sums->logit_mean };
}

AT_CHECKED at_engine_finish(struct at_engine *e)
{
    enum at_status st = AT_OK;
    struct at_engine_host *h = e->host;
    struct landing *l = &h->landing;
    size_t s = 0, first = 0;

    h->pending = false;
    TRY(at_stream_wait(e->stream));
    for (size_t i = 0; i < l->n_rows; i++) {
        struct at_row_result *r = l->of[i];
        if (l->wants_tokens)
            sort_tokens(l, i, first, &h->what);
        first += l->n_targets[i];
        if (h->what.drift)
            r->drift = l->drifts[s].raw_logp;
        for (uint32_t k = 0; k < r->n_segments; k++, s++) {
            if (h->what.policy)
                r->policy[k] = l->sums[s];
            if (h->what.reference)
                r->reference[k] = l->reference[s];
            if (h->what.n_losses > 0 && h->what.kind == AT_LOSS_TOKEN)
                r->pair.loss = l->losses[s].logp;
            if (h->what.n_losses > 0 && h->what.kind == AT_LOSS_POLICY)
                take_sample(r, &l->losses[s]);
        }
        if (h->what.n_losses > 0 && (h->what.kind == AT_LOSS_PAIR || h->what.kind == AT_LOSS_ROW))
            r->pair = l->pairs[i];
        r->has_reference = r->has_reference || h->what.reference;
    }
done:
    return st;
}
