#include "engine_parts.h"

#include "kernels.h"

#include <stdio.h>
#include <string.h>

static bool is_limited_higher(const struct at_engine *engine)
{
    const struct at_gpu_info *info = at_gpu_get_info(engine->gpu);

    return info->memory_bytes > info->free_bytes;
}

bool at_engine_is_elsewhere(const struct at_engine *engine)
{
    const struct at_weights *weights = engine->bundle->weights;

    return is_limited_higher(engine) || (weights && at_weights_lack_data(weights));
}

static uint32_t slab_capacity(const struct at_engine *e, const struct at_engine_params *p)
{
    const bool elsewhere = p->elsewhere || is_limited_higher(e);
    const bool cpu = at_gpu_get_info(e->gpu)->type == AT_GPU_CPU && !elsewhere;
    const uint32_t of_cpu = p->cpu_slab ? p->cpu_slab : AT_CPU_SLAB;
    uint32_t capacity = p->capacity ? p->capacity : cpu ? of_cpu : 4096;

    if (capacity < p->longest_row)
        capacity = p->longest_row;
    return (uint32_t)at_round_up(capacity, 64);
}

static void set_capacity(struct at_decoder_params *decoder, uint32_t capacity)
{
    decoder->capacity = decoder->capacity_rows = decoder->capacity_segments = capacity;
}

/* Whether the device has no room and something makes the plan smaller: first a slab that a step
 * does not fill, where its size was not given, then computing activations again. Neither changes a
 * bit of the training. */
static bool shrink(struct at_decoder_params *decoder, const struct at_engine *e,
                   const struct at_engine_params *p)
{
    const struct at_engine_bytes b = at_engine_get_bytes(e);
    const uint64_t step = at_round_up(p->step_tokens, 64);

    if (b.total <= b.available || !decoder->trains)
        return false;
    if (p->capacity == 0 && step > 0 && step < decoder->capacity) {
        set_capacity(decoder, (uint32_t)step);
        return true;
    }
    if (!p->recompute_if_short || decoder->recompute == AT_RECOMPUTE_GROUP)
        return false;
    decoder->recompute++;
    return true;
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

/* In the slab's pool, which is empty. */
static AT_CHECKED plan_decoder(struct at_engine *e, struct at_decoder_params *decoder,
                               const struct at_engine_params *p)
{
    enum at_status st = AT_OK;

    for (;;) {
        TRY(at_decoder_plan(&e->decoder, &e->model, e->stack, e->n_adapters, e->slab_pool,
                            decoder));
        if (!shrink(decoder, e, p))
            break;
        at_decoder_release(&e->decoder);
        at_pool_destroy(&e->slab_pool);
        TRY(at_pool_create(&e->slab_pool, e->gpu, "slab"));
    }
done:
    return st;
}

AT_CHECKED at_engine_plan(struct at_engine *out, struct at_bundle *bundle,
                          const struct at_engine_params *p)
{
    enum at_status st = AT_OK;
    struct at_decoder_params decoder = { .trains = p->trainable != AT_TRAIN_NOTHING,
                                         .recompute = p->recompute,
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
    set_capacity(&decoder, slab_capacity(out, p));
    out->least_tokens = (uint32_t)at_round_up(p->longest_row, 64);
    TRY(plan_adapters(out, &config, p));
    TRY(plan_model(out, &config, p,
                   p->n_positions > decoder.capacity ? p->n_positions : decoder.capacity));
    TRY(at_params_plan(&out->params, out->state, p->rates));
    decoder.drift = p->drift && !out->model.saved[AT_SAVED_HEAD].param && config.final_cap == 0 &&
                    !(p->bare_reference && out->model.saved[AT_SAVED_EMBED].param);
    TRY(plan_decoder(out, &decoder, p));
    TRY(at_slab_init(&out->slab, decoder.capacity));
    out->slab.long_from = at_model_long_from(&config, out->model.n_positions);
    out->slab.long_each = at_model_long_each(&config);
    out->slab.long_offset = out->model.n_positions;
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

const char *at_engine_limit(const struct at_engine *e)
{
    if (e->decoder.capacity > e->least_tokens)
        return "max_tokens_per_slab";
    return e->sampler ? "max_completion_length" : "max_length";
}

AT_CHECKED at_engine_check_room(const struct at_engine *e)
{
    const struct at_engine_bytes b = at_engine_get_bytes(e);
    const double mib = 1.0 / (1 << 20);
    char room[AT_GPU_ROOM_BYTES], sampling[48] = "", beside[48] = "";

    if (b.total <= b.available)
        return AT_OK;
    at_gpu_room_text(room, at_gpu_get_info(e->gpu));
    if (b.sampler > 0)
        snprintf(sampling, sizeof sampling, ", sampling %.0f", (double)b.sampler * mib);
    if (b.beside > 0)
        snprintf(beside, sizeof beside, ", reward models %.0f", (double)b.beside * mib);
    return at_fail(AT_DEVICE_MEMORY,
                   "the run needs %.0f MiB of device memory (weights %.0f, trainable state %.0f, "
                   "slab %.0f%s%s) and %s; lower %s, or take a smaller model",
                   (double)b.total * mib, (double)b.frozen * mib, (double)b.state * mib,
                   (double)b.slab * mib, sampling, beside, room, at_engine_limit(e));
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
    e->padding_tokens = e->padding_rows = 0;
    e->useful = (struct at_useful){ 0 };
done:
    return st;
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
    at_engine_host_release(&e->host);
    *e = (struct at_engine){ .gpu = NULL };
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
    const struct at_gpu_info *info = at_gpu_get_info(e->gpu);
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
                            !info->halves ? "f32"
                            : info->bf16  ? "bf16"
                                          : "halves");
    return out;
}
