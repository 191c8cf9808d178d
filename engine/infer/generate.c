#include "generate.h"

#include "os.h"

#include <string.h>

struct at_generator {
    struct at_gpu *gpu;
    struct at_stream *stream;
    struct at_pool *frozen, *work;
    struct at_model model;
    struct at_adapter adapters[AT_MAX_ADAPTERS];
    struct at_adapter *stack[AT_MAX_ADAPTERS];
    size_t n_adapters;
    struct at_decoder decoder;
    struct at_kv_cache cache;
    struct at_tensor last, logits; /* (1, C), (1, V) */
    float *host_logits;            /* (V) */
    uint8_t *seen;                 /* (V) ids of prompt and reply so far, with a penalty */
    struct at_candidate *candidates;
    struct at_ids cached; /* what the cache holds */
    double adapter_scale;
    bool whole; /* an adapter has modules in full */
};

/* ---- opening ---- */

static AT_CHECKED plan(struct at_generator *g, struct at_weights *weights,
                       const struct at_model_config *config, const struct at_generator_params *p)
{
    enum at_status st = AT_OK;
    const struct at_decoder_params decoder = { .capacity = AT_EXTEND_ROWS,
                                               .capacity_rows = AT_EXTEND_ROWS,
                                               .capacity_segments = AT_EXTEND_ROWS };
    const struct at_source *score = NULL, *saved[AT_SAVED_COUNT] = { NULL };

    if (config->value_head)
        FAIL(AT_DATA, "the model is a reward model (score.weight): it cannot write; `attune score` "
                      "prints its rewards");
    if (p->n_adapters > AT_MAX_ADAPTERS)
        FAIL(AT_USAGE, "at most %d adapters can be stacked", AT_MAX_ADAPTERS);
    TRY(at_pool_create(&g->frozen, g->gpu, "frozen weights"));
    TRY(at_pool_create(&g->work, g->gpu, "decoding"));
    for (size_t i = 0; i < p->n_adapters; i++) {
        TRY(at_adapter_plan_load(&g->adapters[i], config, p->adapter_dirs[i], NULL, g->frozen));
        g->stack[g->n_adapters++] = &g->adapters[i];
        TRY(at_adapter_check_scale(&g->adapters[i], i, g->adapter_scale));
        for (size_t k = 0; k < AT_SAVED_COUNT; k++)
            g->whole = g->whole || g->adapters[i].saved[k];
    }
    TRY(at_adapter_check_stack((const struct at_adapter *const *)g->stack, g->n_adapters));
    at_adapter_top(saved, &score, (const struct at_adapter *const *)g->stack, g->n_adapters);
    TRY(at_model_plan(&g->model, config, weights, g->frozen, NULL, p->n_positions, saved));
    TRY(at_decoder_plan(&g->decoder, &g->model, g->stack, g->n_adapters, g->work, &decoder));
    TRY(at_kv_cache_plan(&g->cache, config, p->n_positions, g->work));
    at_tensor_reserve(g->work, &g->last, 1, config->C, "last hidden state");
    at_tensor_reserve(g->work, &g->logits, 1, config->V, "logits");
    TRY(at_alloc(&g->host_logits, config->V, sizeof *g->host_logits));
    TRY(at_alloc(&g->seen, config->V, sizeof *g->seen));
    TRY(at_alloc(&g->candidates, config->V, sizeof *g->candidates));
done:
    return st;
}

static AT_CHECKED commit(struct at_generator *g, const struct at_model_config *config)
{
    enum at_status st = AT_OK;
    const uint64_t need = at_pool_bytes(g->frozen) + at_pool_bytes(g->work);
    const struct at_gpu_info *info = at_gpu_get_info(g->gpu);

    if (need > info->memory_bytes)
        FAIL(AT_DEVICE_MEMORY,
             "generation needs %llu MiB of device memory and %llu MiB are free on %s; take a "
             "smaller model or fewer tokens (max_new_tokens, in a chat context)",
             (unsigned long long)need >> 20, (unsigned long long)info->memory_bytes >> 20,
             info->name);
    TRY(at_pool_commit(g->frozen));
    TRY(at_pool_commit(g->work));
    TRY(at_model_upload(&g->model, g->gpu, 0));
    for (size_t i = 0; i < g->n_adapters; i++) {
        TRY(at_adapter_upload(&g->adapters[i], config, g->gpu, 0));
        TRY(at_adapter_set_scale(&g->adapters[i], g->adapter_scale));
    }
    TRY(at_stream_create(&g->stream, g->gpu));
    TRY(at_decoder_start(g->stream, &g->decoder));
done:
    return st;
}

AT_CHECKED at_generator_open(struct at_generator **out, struct at_weights *weights,
                             const struct at_model_config *config,
                             const struct at_generator_params *p)
{
    enum at_status st = AT_OK;
    struct at_generator *g = NULL;

    *out = NULL;
    TRY(at_alloc(&g, 1, sizeof *g));
    g->adapter_scale = p->adapter_scale;
    TRY(at_gpu_open(&g->gpu, &p->gpu));
    TRY(at_model_choose_halves(config, g->gpu));
    TRY(plan(g, weights, config, p));
    TRY(commit(g, config));
    *out = g;
    g = NULL;
done:
    at_generator_close(&g);
    return st;
}

void at_generator_close(struct at_generator **generator)
{
    struct at_generator *g = *generator;

    if (!g)
        return;
    at_stream_destroy(&g->stream);
    at_kv_cache_release(&g->cache);
    at_decoder_release(&g->decoder);
    for (size_t i = 0; i < g->n_adapters; i++)
        at_adapter_release(&g->adapters[i]);
    at_model_release(&g->model);
    at_pool_destroy(&g->work);
    at_pool_destroy(&g->frozen);
    at_gpu_close(&g->gpu);
    at_free(&g->host_logits);
    at_free(&g->seen);
    at_ids_release(&g->cached);
    at_free(&g->candidates);
    at_free(generator);
}

const struct at_gpu_info *at_generator_get_info(const struct at_generator *g)
{
    return at_gpu_get_info(g->gpu);
}

struct at_stream *at_generator_get_stream(struct at_generator *g)
{
    return g->stream;
}

AT_CHECKED at_generator_use(struct at_generator *g, const bool *on, double scale)
{
    enum at_status st = AT_OK;
    struct at_decoder *d = &g->decoder;
    bool all = true;

    for (size_t i = 0; i < g->n_adapters; i++) {
        all = all && on[i];
        if (on[i])
            TRY(at_adapter_check_scale(&g->adapters[i], i, scale));
    }
    if (g->whole && !all)
        FAIL(AT_USAGE,
             "an adapter has modules in full (modules_to_save), which took the base's place "
             "when it was opened: it cannot be switched off");
    d->n_stack = 0;
    d->dora = false;
    for (size_t i = 0; i < g->n_adapters; i++) {
        if (!on[i])
            continue;
        TRY(at_adapter_set_scale(&g->adapters[i], scale));
        d->stack[d->n_stack++] = &g->adapters[i];
        d->dora = g->adapters[i].dora;
    }
    g->cached.n = 0;
done:
    return st;
}

/* ---- tokens ---- */

/* Computes n tokens in pieces and leaves the last one's logits in host_logits. */
static AT_CHECKED extend(struct at_generator *g, const int32_t *ids, uint32_t n)
{
    enum at_status st = AT_OK;
    const uint32_t V = g->model.config.V;

    for (uint32_t i = 0; i < n; i++)
        TRY(at_ids_push(&g->cached, ids[i]));
    for (uint32_t i = 0; i < n;) {
        const uint32_t T = n - i < AT_EXTEND_ROWS ? n - i : AT_EXTEND_ROWS;
        at_decoder_extend(g->stream, &g->decoder, &g->cache, ids + i, T, g->last);
        i += T;
    }
    at_head_logits(g->stream, g->logits, g->last, g->model.head, &g->decoder.head);
    at_stream_download(g->stream, g->host_logits, g->logits.view, V * sizeof(float));
    TRY(at_stream_wait(g->stream));
done:
    return st;
}

static bool is_stop(const struct at_generation *what, int32_t id)
{
    for (size_t i = 0; i < what->n_stop; i++)
        if (what->stop[i] == id)
            return true;
    return false;
}

static AT_CHECKED check_signal(void)
{
    const enum at_status st = at_signal_status();

    return st == AT_OK ? st : at_fail(st, "stopped by a signal");
}

/* Tokens of the prompt that the cache has, but for the last one, whose logits are wanted. */
static uint32_t known(const struct at_generator *g, const struct at_generation *what)
{
    uint32_t n = 0;

    while (what->goes_on && n + 1 < what->n_prompt && n < g->cached.n &&
           g->cached.data[n] == what->prompt[n])
        n++;
    return n;
}

/* The next id of the sequence in the cache. */
static AT_CHECKED choose(int32_t *out, struct at_generator *g, const struct at_generation *what)
{
    const struct at_sampling *p = &what->sampling;
    const uint32_t V = g->model.config.V;

    if (p->repetition_penalty > 0 && p->repetition_penalty != 1) {
        memset(g->seen, 0, V);
        for (size_t i = 0; i < g->cached.n; i++)
            g->seen[g->cached.data[i]] = 1;
        at_penalise(g->host_logits, g->seen, V, p->repetition_penalty);
    }
    return at_sample(out, g->host_logits, V, p, what->prompt_index, g->cache.n, g->candidates);
}

AT_CHECKED at_generate(struct at_generator *g, struct at_ids *out, enum at_generation_end *end,
                       const struct at_generation *what)
{
    enum at_status st = AT_OK;
    int32_t id = 0;
    bool ends = false;

    *end = AT_END_LENGTH;
    AT_REQUIRE(what->n_prompt > 0);
    if (what->n_prompt >= g->cache.capacity)
        FAIL(AT_DATA, "the prompt has %u tokens; with %u positions no reply fits", what->n_prompt,
             g->cache.capacity);
    g->cache.n = known(g, what);
    g->cached.n = g->cache.n;
    TRY(extend(g, what->prompt + g->cache.n, what->n_prompt - g->cache.n));
    for (uint32_t n = 0; n < what->max_new_tokens; n++) {
        TRY(check_signal());
        TRY(choose(&id, g, what));
        if (is_stop(what, id)) {
            *end = AT_END_STOP;
            break;
        }
        TRY(at_ids_push(out, id));
        if (what->token)
            TRY(what->token(what->context, id, &ends));
        if (ends)
            *end = AT_END_STOP;
        if (ends || n + 1 == what->max_new_tokens || g->cache.n == g->cache.capacity)
            break;
        TRY(extend(g, &id, 1));
    }
done:
    return st;
}
