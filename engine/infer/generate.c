#include "generate.h"

struct at_generator {
    struct at_gpu *gpu;
    struct at_stream *stream;
    struct at_pool *frozen, *work;
    struct at_model model;
    struct at_adapter adapters[AT_MAX_ADAPTERS];
    struct at_adapter *stack[AT_MAX_ADAPTERS];
    size_t n_adapters;
    struct at_sampler *sampler;
    uint32_t n_sequences;
    double adapter_scale;
    bool whole; /* an adapter has modules in full */
};

/* ---- opening ---- */

static AT_CHECKED plan(struct at_generator *g, struct at_weights *weights,
                       const struct at_model_config *config, const struct at_generator_params *p)
{
    enum at_status st = AT_OK;
    const struct at_source *score = NULL, *saved[AT_SAVED_COUNT] = { NULL };

    if (p->n_adapters > AT_MAX_ADAPTERS)
        FAIL(AT_USAGE, "at most %d adapters can be stacked", AT_MAX_ADAPTERS);
    TRY(at_pool_create(&g->frozen, g->gpu, "frozen weights"));
    for (size_t i = 0; i < p->n_adapters; i++) {
        TRY(at_adapter_plan_load(&g->adapters[i], config, p->adapter_dirs[i], NULL, g->frozen));
        g->stack[g->n_adapters++] = &g->adapters[i];
        TRY(at_adapter_check_scale(&g->adapters[i], i, g->adapter_scale));
        for (size_t k = 0; k < AT_SAVED_COUNT; k++)
            g->whole = g->whole || g->adapters[i].saved[k];
    }
    TRY(at_adapter_check_stack((const struct at_adapter *const *)g->stack, g->n_adapters));
    at_adapter_top(saved, &score, (const struct at_adapter *const *)g->stack, g->n_adapters);
    TRY(at_model_plan(&g->model, config, weights, g->frozen, NULL, p->sampler.n_positions, saved));
done:
    return st;
}

/* AT_DEVICE_MEMORY where a sampler of these sequences does not fit beside the weights. */
static AT_CHECKED try_sampler(struct at_generator *g, const struct at_sampler_params *p)
{
    enum at_status st = AT_OK;
    const struct at_gpu_info *info = at_gpu_get_info(g->gpu);
    char room[AT_GPU_ROOM_BYTES];
    uint64_t need;

    TRY(at_pool_create(&g->work, g->gpu, "generation"));
    TRY(at_sampler_plan(&g->sampler, &g->model, g->stack, g->n_adapters, g->work, info, p));
    need = at_pool_bytes(g->frozen) + at_pool_bytes(g->work);
    if (need > info->memory_bytes) {
        at_gpu_room_text(room, info);
        FAIL(AT_DEVICE_MEMORY,
             "generation needs %llu MiB of device memory and %s; take a smaller model or fewer "
             "tokens (max_new_tokens, in a chat context)",
             (unsigned long long)need >> 20, room);
    }
done:
    return st;
}

static AT_CHECKED plan_sampler(struct at_generator *g, const struct at_sampler_params *wanted)
{
    enum at_status st;
    struct at_sampler_params p = *wanted;

    if (at_model_long_from(&g->model.config, p.n_positions) > 0)
        p.n_sequences = 1;
    while ((st = try_sampler(g, &p)) == AT_DEVICE_MEMORY && p.n_sequences > 1) {
        p.n_sequences = (p.n_sequences + 1) / 2;
        at_sampler_close(&g->sampler);
        at_pool_destroy(&g->work);
    }
    g->n_sequences = p.n_sequences;
    return st;
}

static AT_CHECKED commit(struct at_generator *g, const struct at_model_config *config)
{
    enum at_status st = AT_OK;

    TRY(at_pool_commit(g->frozen));
    TRY(at_pool_commit(g->work));
    TRY(at_model_upload(&g->model, g->gpu, 0));
    for (size_t i = 0; i < g->n_adapters; i++) {
        TRY(at_adapter_upload(&g->adapters[i], config, g->gpu, 0));
        TRY(at_adapter_set_scale(&g->adapters[i], g->adapter_scale));
    }
    TRY(at_stream_create(&g->stream, g->gpu));
    TRY(at_decoder_start(g->stream, at_sampler_decoder(g->sampler)));
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
    TRY(plan_sampler(g, &p->sampler));
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
    at_sampler_close(&g->sampler);
    for (size_t i = 0; i < g->n_adapters; i++)
        at_adapter_release(&g->adapters[i]);
    at_model_release(&g->model);
    at_pool_destroy(&g->work);
    at_pool_destroy(&g->frozen);
    at_gpu_close(&g->gpu);
    at_free(generator);
}

const struct at_gpu_info *at_generator_get_info(const struct at_generator *g)
{
    return at_gpu_get_info(g->gpu);
}

uint32_t at_generator_get_sequences(const struct at_generator *g)
{
    return g->n_sequences;
}

struct at_stream *at_generator_get_stream(struct at_generator *g)
{
    return g->stream;
}

AT_CHECKED at_generator_use(struct at_generator *g, const bool *on, double scale)
{
    enum at_status st = AT_OK;
    struct at_decoder *d = at_sampler_decoder(g->sampler);
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
done:
    return st;
}

AT_CHECKED at_generate(struct at_generator *g, const struct at_generation *what)
{
    return at_sampler_run(g->sampler, g->stream, what);
}

AT_CHECKED at_generator_read_logits(struct at_generator *g, float *logits)
{
    return at_sampler_read_logits(g->sampler, g->stream, logits);
}

struct one {
    const struct at_generation *what;
    struct at_ids *out;
    enum at_generation_end end;
};

static enum at_status one_token(void *context, uint32_t prompt, uint32_t sample, int32_t id,
                                bool *ends)
{
    const struct at_generation *what = ((struct one *)context)->what;

    return what->token ? what->token(what->context, prompt, sample, id, ends) : AT_OK;
}

static enum at_status one_reply(void *context, const struct at_reply *reply)
{
    enum at_status st = AT_OK;
    struct one *one = context;

    one->end = reply->end;
    for (size_t i = 0; i < reply->n; i++)
        TRY(at_ids_push(one->out, reply->ids[i]));
done:
    return st;
}

AT_CHECKED at_generate_one(struct at_generator *g, struct at_ids *out, enum at_generation_end *end,
                           const struct at_generation *what)
{
    enum at_status st = AT_OK;
    struct one one = { .what = what, .out = out, .end = AT_END_LENGTH };
    struct at_generation run = *what;

    AT_REQUIRE(what->n_prompts == 1 && what->n_samples <= 1);
    run.token = one_token;
    run.reply = one_reply;
    run.context = &one;
    TRY(at_generate(g, &run));
    *end = one.end;
done:
    return st;
}

AT_CHECKED at_generator_state(struct at_generator *g, float *out, const int32_t *ids, uint32_t n,
                              uint32_t begin)
{
    return at_sampler_state(g->sampler, g->stream, out, ids, n, begin);
}
