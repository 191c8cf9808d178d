/* Sampling over the weights and adapters of an engine. */
#include "engine.h"

/* AT_DEVICE_MEMORY where a sampler of these sequences does not fit beside all else. */
static AT_CHECKED try_sampler(struct at_engine *e, const struct at_sampler_params *p)
{
    enum at_status st = AT_OK;

    TRY(at_pool_create(&e->sampler_pool, e->gpu, "sampling"));
    TRY(at_sampler_plan(&e->sampler, &e->model, e->stack, e->n_adapters, e->sampler_pool,
                        at_gpu_get_info(e->gpu), p));
    TRY(at_engine_check_room(e));
done:
    return st;
}

AT_CHECKED at_engine_plan_sampler(struct at_engine *e, const struct at_sampler_params *wanted)
{
    enum at_status st;
    struct at_sampler_params p = *wanted;

    if (at_model_long_from(&e->model.config, p.n_positions) > 0)
        p.n_sequences = 1;
    /* one sequence has kernels of its own, which round differently */
    while ((st = try_sampler(e, &p)) == AT_DEVICE_MEMORY && p.n_sequences > 2) {
        p.n_sequences = (p.n_sequences + 1) / 2;
        at_sampler_close(&e->sampler);
        at_pool_destroy(&e->sampler_pool);
    }
    e->n_sequences = p.n_sequences;
    return st == AT_DEVICE_MEMORY && e->sampler ? AT_OK : st; /* told with the plan */
}

AT_CHECKED at_engine_sample(struct at_engine *e, const struct at_generation *what)
{
    at_decoder_norms(e->stream, at_sampler_decoder(e->sampler));
    return at_sampler_run(e->sampler, e->stream, what);
}
