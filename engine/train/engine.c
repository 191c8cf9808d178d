#include "engine.h"

#include "kernels.h"

#include <stdio.h>
#include <string.h>

/* Host side of one at_engine_rows() call: slab by slab, where downloads land and whose they are. */
struct landing {
    struct at_segment_result *sums, *reference, *losses, *drifts; /* (segments) */
    struct at_pair_result *pairs;
    struct at_pair_match *matches;
    struct row_facts {
        float kl, desirable;
    } * facts;                 /* (rows) as at_row_loss() takes them */
    struct at_row_result **of; /* (rows), in slab order */
    size_t n_rows, n_segments;
    /* Where results want single tokens: the head's stats of policy and reference, slab by slab, and
       where those of each target are, grouped as slab.h says. */
    bool wants_tokens;
    float *stats[2];         /* (stats, 4) */
    size_t *target;          /* (targets) */
    uint32_t *n_targets;     /* (rows) */
    size_t n_stats, n_order; /* used of `stats` and `target` */
    size_t stats_capacity;
};

struct at_engine_host {
    struct landing landing;
    float *tokens, *facts; /* of policy losses: (rows of a slab, 4), (segments of a slab, 4) */
    const struct at_row **packed;
    struct at_row_result **packed_results;
    uint32_t *slab_of_row;
    size_t capacity;
    struct at_compute what;
    bool pending;
};

/* ---- plan and commit ---- */

static uint32_t slab_capacity(const struct at_engine *e, const struct at_engine_params *p)
{
    const bool cpu = at_gpu_get_info(e->gpu)->type == AT_GPU_CPU;
    uint32_t capacity = p->capacity ? p->capacity : cpu ? 512 : 4096;

    if (capacity < p->longest_row)
        capacity = p->longest_row;
    return (uint32_t)at_round_up(capacity, 64);
}

static AT_CHECKED plan_adapters(struct at_engine *e, const struct at_model_config *config,
                                const struct at_engine_params *p)
{
    enum at_status st = AT_OK;

    if (p->n_frozen + 1 > AT_MAX_ADAPTERS)
        FAIL(AT_USAGE, "at most %d adapters can be stacked", AT_MAX_ADAPTERS);
    for (size_t i = 0; i < p->n_frozen; i++) {
        TRY(at_adapter_plan_load(&e->adapters[i], config, p->frozen_dirs[i], NULL, e->frozen));
        e->n_adapters++;
    }
    if (p->trainable == AT_TRAIN_FRESH) {
        TRY(at_adapter_plan_fresh(&e->adapters[e->n_adapters], config, &p->lora, &e->params));
        e->n_adapters++;
    } else if (p->trainable == AT_TRAIN_CONTINUE) {
        TRY(at_adapter_plan_load(&e->adapters[e->n_adapters], config, p->continue_dir, &e->params,
                                 e->frozen));
        e->n_adapters++;
    }
    if (p->syncs_reference && e->adapters[e->n_adapters - 1].dora)
        FAIL(AT_USAGE, "sync_ref_model moves the reference's A and B; it is not built for the "
                       "magnitudes of DoRA (use_dora): leave one of the two out");
    if (p->syncs_reference)
        TRY(at_adapter_plan_reference(&e->adapters[e->n_adapters - 1], config, e->frozen));
    if (p->bare_reference && p->trainable == AT_TRAIN_CONTINUE)
        e->adapters[e->n_adapters - 1].reference = NULL; /* its pass skips the adapter */
    for (size_t i = 0; i < e->n_adapters; i++)
        e->stack[i] = &e->adapters[i];
    TRY(at_adapter_check_stack((const struct at_adapter *const *)e->stack, e->n_adapters));
done:
    return st;
}

/* What trains in full beside the topmost adapter. */
static AT_CHECKED plan_saved(struct at_engine *e, const struct at_engine_params *p)
{
    enum at_status st = AT_OK;
    const struct at_adapter *a = e->n_adapters > 0 ? e->stack[e->n_adapters - 1] : NULL;
    bool any = false;

    for (uint32_t i = 0; a && i < AT_SAVED_COUNT; i++)
        any = any || a->trains_saved[i];
    if (!any)
        goto done;
    if (p->syncs_reference)
        FAIL(AT_USAGE, "sync_ref_model moves the reference's A and B; it is not built for modules "
                       "that lora_modules_to_save (or the adapter's modules_to_save) trains in "
                       "full: leave one of the two out");
    if (e->model.config.tied && !e->model.config.value_head)
        at_warn("tied", "the model's head and embedding are one matrix; modules_to_save trains a "
                        "copy of its own, as PEFT does: what is not trained stays as it is");
    TRY(at_model_plan_saved(&e->model, &e->params, a->trains_saved));
done:
    return st;
}

/* The model under the adapters; of what several of them have, the topmost one's counts. */
static AT_CHECKED plan_model(struct at_engine *e, const struct at_model_config *config,
                             const struct at_engine_params *p, uint32_t n_positions)
{
    enum at_status st = AT_OK;
    const bool full = p->trainable == AT_TRAIN_FULL;
    const struct at_source *score = NULL, *saved[AT_SAVED_COUNT] = { NULL };

    at_adapter_top(saved, &score, (const struct at_adapter *const *)e->stack, e->n_adapters);
    TRY(at_model_plan(&e->model, config, p->from_scratch ? NULL : e->bundle->weights, e->frozen,
                      full ? &e->params : NULL, n_positions, full ? NULL : saved));
    if (config->value_head)
        TRY(at_model_plan_value(&e->model, &e->params, score));
    TRY(plan_saved(e, p));
done:
    return st;
}

/* Logits over the temperature, but where they are bent after the head's product. */
static AT_CHECKED take_temperature(struct at_model_config *config, float temperature)
{
    if (temperature == 0 || temperature == 1)
        return AT_OK;
    if (config->final_cap > 0)
        return at_fail(AT_USAGE,
                       "temperature %g: the model caps its logits "
                       "(final_logit_softcapping), which is built for temperature 1",
                       (double)temperature);
    config->logit_scale /= temperature;
    return AT_OK;
}

/* On e->gpu. */
static AT_CHECKED open_pools(struct at_engine *e)
{
    enum at_status st = AT_OK;
    const struct at_gpu_info *info = at_gpu_get_info(e->gpu);

    TRY(at_alloc(&e->host, 1, sizeof *e->host));
    TRY(at_pool_create(&e->frozen, e->gpu, "frozen weights"));
    TRY(at_pool_create(&e->state, e->gpu, "trainable state"));
    TRY(at_pool_create(&e->slab_pool, e->gpu, "slab"));
    TRY(at_params_init(&e->params, info->max_range_bytes < info->max_alloc_bytes
                                       ? info->max_range_bytes
                                       : info->max_alloc_bytes));
done:
    return st;
}

AT_CHECKED at_engine_plan(struct at_engine *out, struct at_bundle *bundle,
                          const struct at_engine_params *p)
{
    enum at_status st = AT_OK;
    struct at_decoder_params decoder = { .trains = p->trainable != AT_TRAIN_NOTHING,
                                         .dropout = p->dropout };
    struct at_model_config config = bundle->config;

    *out = (struct at_engine){ .bundle = bundle, .seed = p->seed };
    if (config.value_head && !p->value_head)
        FAIL(AT_DATA,
             "%s: the model is a reward model (score.weight): it has rewards and no language; use "
             "it with method reward",
             bundle->path);
    config.value_head = p->value_head;
    TRY(take_temperature(&config, p->temperature));
    if (decoder.trains && config.attention_dropout > 0)
        at_warn("no_effect",
                "attention_dropout %g of the model's config.json has no effect: attention is "
                "computed whole here, also in training",
                config.attention_dropout);
    TRY(at_gpu_open(&out->gpu, &p->gpu));
    TRY(at_model_choose_halves(&config, out->gpu));
    TRY(open_pools(out));
    decoder.capacity = slab_capacity(out, p);
    decoder.capacity_rows = decoder.capacity;
    decoder.capacity_segments = decoder.capacity;
    TRY(plan_adapters(out, &config, p));
    TRY(plan_model(out, &config, p,
                   p->n_positions > decoder.capacity ? p->n_positions : decoder.capacity));
    TRY(at_params_plan(&out->params, out->state, p->rates));
    TRY(at_slab_init(&out->slab, decoder.capacity));
    out->slab.long_from = at_model_long_from(&config, out->model.n_positions);
    out->slab.long_each = at_model_long_each(&config);
    out->slab.long_offset = out->model.n_positions;
    decoder.drift = p->drift && !out->model.saved[AT_SAVED_HEAD].param && config.final_cap == 0 &&
                    !(p->bare_reference && out->model.saved[AT_SAVED_EMBED].param);
    TRY(at_decoder_plan(&out->decoder, &out->model, out->stack, out->n_adapters, out->slab_pool,
                        &decoder));
done:
    if (st != AT_OK)
        at_engine_close(out);
    return st;
}

AT_CHECKED at_engine_plan_reward(struct at_engine *out, struct at_engine *base, const char *dir)
{
    enum at_status st = AT_OK;
    const uint32_t capacity = base->decoder.capacity;
    const struct at_decoder_params decoder = { .capacity = capacity,
                                               .capacity_rows = capacity,
                                               .capacity_segments = capacity };
    const struct at_source *score = NULL, *saved[AT_SAVED_COUNT] = { NULL };
    struct at_adapter *adapter = &out->adapters[0];

    *out = (struct at_engine){
        .base = base, .gpu = base->gpu, .bundle = base->bundle, .seed = base->seed
    };
    if (base->model.trainable || base->model.saved[AT_SAVED_EMBED].source)
        FAIL(AT_USAGE,
             "%s: a reward model's adapter lies over the base's weights, which this run %s: name a "
             "whole reward model",
             dir, base->model.trainable ? "trains" : "has with an adapter's embedding");
    TRY(open_pools(out));
    at_model_share(&out->model, &base->model);
    TRY(at_adapter_plan_load(adapter, &out->model.config, dir, NULL, out->frozen));
    out->stack[out->n_adapters++] = adapter;
    at_adapter_top(saved, &score, (const struct at_adapter *const *)out->stack, out->n_adapters);
    if (saved[AT_SAVED_EMBED])
        FAIL(AT_USAGE,
             "%s: the reward model has an embedding of its own (modules_to_save), which "
             "is not built beside another model: train one without",
             dir);
    if (!score)
        FAIL(AT_DATA, "%s: no value head (score.weight): it is not the adapter of a reward model",
             dir);
    TRY(at_model_plan_value(&out->model, &out->params, score));
    TRY(at_params_plan(&out->params, out->state, NULL));
    TRY(at_slab_init(&out->slab, capacity));
    out->slab.long_from = base->slab.long_from;
    out->slab.long_each = base->slab.long_each;
    out->slab.long_offset = base->slab.long_offset;
    TRY(at_decoder_plan(&out->decoder, &out->model, out->stack, out->n_adapters, out->slab_pool,
                        &decoder));
    base->beside_bytes += at_engine_get_bytes(out).total;
done:
    if (st != AT_OK)
        at_engine_close(out);
    return st;
}

struct at_engine_bytes at_engine_get_bytes(const struct at_engine *e)
{
    struct at_engine_bytes b = { .frozen = at_pool_bytes(e->frozen),
                                 .state = at_pool_bytes(e->state),
                                 .slab = at_pool_bytes(e->slab_pool),
                                 .sampler = e->sampler ? at_pool_bytes(e->sampler_pool) : 0,
                                 .beside = e->beside_bytes,
                                 .available = at_gpu_get_info(e->gpu)->memory_bytes };

    b.total = b.frozen + b.state + b.slab + b.sampler + b.beside;
    return b;
}

AT_CHECKED at_engine_check_room(const struct at_engine *e)
{
    const struct at_engine_bytes b = at_engine_get_bytes(e);
    const double mib = 1.0 / (1 << 20);

    if (b.total > b.available)
        return at_fail(
            AT_DEVICE_MEMORY,
            "the run needs %.0f MiB of device memory (weights %.0f, trainable state %.0f, slab "
            "%.0f, sampling %.0f, reward models %.0f) and %.0f MiB are free on %s; lower "
            "max_tokens_per_slab or %s, or take a smaller model",
            (double)b.total * mib, (double)b.frozen * mib, (double)b.state * mib,
            (double)b.slab * mib, (double)b.sampler * mib, (double)b.beside * mib,
            (double)b.available * mib, at_gpu_get_info(e->gpu)->name,
            e->sampler ? "max_completion_length" : "max_length");
    return AT_OK;
}

AT_CHECKED at_engine_commit(struct at_engine *e)
{
    enum at_status st = AT_OK;

    TRY(at_engine_check_room(e));
    TRY(at_pool_commit(e->frozen));
    TRY(at_pool_commit(e->state));
    TRY(at_pool_commit(e->slab_pool));
    if (e->sampler)
        TRY(at_pool_commit(e->sampler_pool));
    at_params_bind(&e->params);
    if (e->base) {
        at_model_share(&e->model, &e->base->model);
        TRY(at_value_head_upload(&e->model.value, e->gpu, e->seed));
        e->stream = e->base->stream;
    } else {
        TRY(at_model_upload(&e->model, e->gpu, e->seed));
        TRY(at_stream_create(&e->stream, e->gpu));
    }
    for (size_t i = 0; i < e->n_adapters; i++)
        TRY(at_adapter_upload(&e->adapters[i], &e->bundle->config, e->gpu, e->seed));
    TRY(at_decoder_start(e->stream, &e->decoder));
done:
    return st;
}

AT_CHECKED at_engine_restart(struct at_engine *e)
{
    enum at_status st = AT_OK;

    TRY(at_params_restart(e->gpu, &e->params));
    if (e->model.trainable)
        TRY(at_model_upload(&e->model, e->gpu, e->seed));
    else if (e->model.config.value_head)
        TRY(at_value_head_upload(&e->model.value, e->gpu, e->seed));
    for (size_t i = 0; i < e->n_adapters; i++)
        if (e->adapters[i].trainable)
            TRY(at_adapter_upload(&e->adapters[i], &e->bundle->config, e->gpu, e->seed));
    TRY(at_decoder_start(e->stream, &e->decoder));
    e->tokens_given = e->tokens_computed = e->head_rows = e->ref_forward_tokens = 0;
    e->useful = (struct at_useful){ 0 };
done:
    return st;
}

static void host_release(struct at_engine_host **host)
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
    at_free(&h->slab_of_row);
    at_free(&h->tokens);
    at_free(&h->facts);
    at_free(host);
}

void at_engine_close(struct at_engine *e)
{
    if (!e->base)
        at_stream_destroy(&e->stream);
    at_sampler_close(&e->sampler);
    at_decoder_release(&e->decoder);
    at_slab_release(&e->slab);
    for (size_t i = 0; i < e->n_adapters; i++)
        at_adapter_release(&e->adapters[i]);
    at_model_release(&e->model);
    at_params_release(&e->params);
    at_pool_destroy(&e->sampler_pool);
    at_pool_destroy(&e->slab_pool);
    at_pool_destroy(&e->state);
    at_pool_destroy(&e->frozen);
    if (!e->base)
        at_gpu_close(&e->gpu);
    host_release(&e->host);
    *e = (struct at_engine){ .gpu = NULL };
}

/* ---- rows ---- */

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
    TRY(at_realloc(&h->slab_of_row, old, n, sizeof *h->slab_of_row));
    h->capacity = n;
done:
    return st;
}

/* Room for the stats of all target tokens of the rows, whose slabs each end in padding. */
static AT_CHECKED grow_stats(struct landing *l, const struct at_row *const *rows,
                             const struct at_row_result *results, uint32_t n, uint32_t n_slabs)
{
    enum at_status st = AT_OK;
    const size_t old = l->stats_capacity;
    size_t need = (size_t)n_slabs * 64;

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
                              .n_segments = slab->n_segments,
                              .ids = slab->ids,
                              .positions = slab->positions,
                              .intervals = &slab->intervals[0].prefix_begin,
                              .query_end = slab->query_end,
                              .tokens = slab->tokens,
                              .source = slab->source,
                              .target = slab->target,
                              .row_segment = slab->row_segment,
                              .row_weight = slab->row_weight,
                              .row_begin = slab->row_begin,
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

static void compute_slab(struct at_engine *e, const struct at_row *const *rows,
                         struct at_row_result *const *results, uint32_t n,
                         const struct at_compute *what)
{
    struct at_decoder *d = &e->decoder;
    struct landing *l = &e->host->landing;
    const enum at_pass pass = what->train   ? AT_PASS_POLICY_TRAIN
                              : what->drift ? AT_PASS_POLICY_DRIFT
                                            : AT_PASS_POLICY_EVAL;
    bool cached = true;
    struct at_batch b;

    at_slab_fill(&e->slab, rows, n);
    if (what->tail_discount > 0)
        at_slab_weigh(&e->slab, 1 - what->tail_discount);
    b = at_engine_batch(&e->slab);
    for (uint32_t i = 0, s = 0; i < n; i++) {
        l->of[l->n_rows + i] = results[i];
        l->facts[l->n_rows + i] = (struct row_facts){ results[i]->kl, rows[i]->desirable };
        l->matches[l->n_rows + i] = results[i]->match;
        l->n_targets[l->n_rows + i] = at_row_targets(rows[i]);
        cached = cached && results[i]->has_reference;
        for (uint32_t k = 0; k < at_row_sums(rows[i]); k++)
            l->reference[l->n_segments + s++] =
                what->reference ? results[i]->reference[k]
                                : (struct at_segment_result){ .margin = k ? 0 : rows[i]->margin };
    }
    at_decoder_begin(e->stream, d, &b);
    if (what->reference || what->drift)
        reference_pass(e, &b, what, cached);
    if (what->policy) {
        const uint64_t bytes = b.n_segments * sizeof *l->sums;
        at_decoder_forward(e->stream, d, &b, pass, at_view_part(d->sums, 0, bytes));
        at_useful_forward(&e->useful, d, &e->slab, pass);
        at_stream_download(e->stream, l->sums + l->n_segments, d->sums, bytes);
        land_stats(e, &b, 0);
        if (what->n_losses > 0 && what->kind == AT_LOSS_TOKEN)
            token_losses(e, &b, what);
        else if (what->n_losses > 0 && what->kind == AT_LOSS_POLICY)
            policy_losses(e, &b, results, what);
        else if (what->n_losses > 0)
            row_losses(e, &b, what, n);
        if (what->drift)
            drift_pass(e, &b);
        e->tokens_computed += e->slab.n_tokens;
        e->head_rows += e->slab.n_rows;
    }
    land_targets(l, &e->slab);
    if (what->train) {
        at_decoder_backward(e->stream, d, &b);
        at_useful_backward(&e->useful, d, &e->slab);
    }
    for (uint32_t i = 0; i < n; i++)
        e->tokens_given += what->n_losses > 0 ? at_row_tokens_unshared(rows[i]) : 0;
    l->n_rows += n;
    l->n_segments += b.n_segments;
}

AT_CHECKED at_engine_rows(struct at_engine *e, const struct at_row *const *rows,
                          struct at_row_result *results, uint32_t n, const struct at_compute *what)
{
    enum at_status st = AT_OK;
    struct at_engine_host *h = e->host;
    uint32_t n_slabs = 0;

    AT_REQUIRE(!h->pending);
    TRY(grow(h, n));
    TRY(at_pack(h->slab_of_row, &n_slabs, rows, n, e->decoder.capacity));
    TRY(grow_stats(&h->landing, rows, results, n, n_slabs));
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
        for (uint32_t i = 0; i < n; i++) {
            if (h->slab_of_row[i] != slab)
                continue;
            h->packed[m] = rows[i];
            h->packed_results[m++] = &results[i];
        }
        compute_slab(e, h->packed, h->packed_results, m, what);
        TRY(at_stream_submit(e->stream));
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

AT_CHECKED at_engine_set_scale(struct at_engine *e, double scale)
{
    enum at_status st = AT_OK;

    if (scale != 1 && e->model.config.value_head)
        FAIL(AT_USAGE,
             "adapter_scale is %g; a reward model's value head was trained for the adapter as it "
             "is: leave adapter_scale out",
             scale);
    for (size_t i = 0; i < e->n_adapters; i++) {
        TRY(at_adapter_check_scale(e->stack[i], i, scale));
        TRY(at_adapter_set_scale(e->stack[i], scale));
    }
done:
    return st;
}

AT_CHECKED at_engine_sync_reference(struct at_engine *e, float alpha)
{
    at_adapter_mix_reference(e->stream, e->stack[e->n_adapters - 1], alpha);
    return at_stream_wait(e->stream);
}

cJSON *at_engine_kernels(const struct at_engine *e)
{
    static const char *const names[] = {
#define KERNEL(name, file, defines, args, bufs, units, cut, flop) #name,
#define VARIANT(kernel, name, file, defines, needs, bindings, units)
#include "kernels.def"
#undef KERNEL
#undef VARIANT
    };
    const struct at_model_config *c = &e->bundle->config;
    /* attention kernels choose by head width, heads a kv head, windows and caps */
    struct at_work work = { 1, 1, 1, 4, { c->D, c->H / c->G, 0, c->attention_cap > 0 } };
    cJSON *out = cJSON_CreateObject();
    uint32_t windowed = 0;

    for (uint32_t l = 0; l < c->L; l++)
        windowed += at_decoder_window(&e->decoder, l) > 0;
    for (uint32_t i = 0; i < AT_COUNT(names); i++) {
        const char *variant[2];
        char name[64];
        for (uint32_t k = 0; k < 2; k++) {
            work.spec[2] = k;
            variant[k] = at_kernel_variant(e->gpu, i, work);
        }
        cJSON_AddStringToObject(out, names[i], variant[windowed == c->L]);
        snprintf(name, sizeof name, "%s/window", names[i]);
        if (windowed > 0 && windowed < c->L && strcmp(variant[0], variant[1]) != 0)
            cJSON_AddStringToObject(out, name, variant[1]);
    }
    cJSON_AddStringToObject(out, "products_with_weights",
                            at_gpu_get_info(e->gpu)->halves ? "halves" : "f32");
    return out;
}
