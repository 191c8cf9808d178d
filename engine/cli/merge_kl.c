#include "merge_kl.h"

#include "generate.h"
#include "prompts.h"
#include "record.h"

#include <math.h>
#include <string.h>

enum { PROMPTS = 8, TOKENS = 16 };

struct measurement {
    const struct merge_kl_params *params;
    struct cli_prompts prompts;
    size_t n_prompts;
    struct at_generator *generator;
    uint32_t V, n; /* ids of the vocabulary; tokens of all replies */
    struct at_ids replies[PROMPTS];
    float *logits; /* (n, V) of the trained state */
};

static AT_CHECKED open_generator(struct measurement *m, struct at_weights *weights,
                                 const struct at_model_config *config, const struct cli_base *base)
{
    struct at_generator_params p = { .gpu = m->params->gpu,
                                     .adapter_dirs = base ? base->dirs : NULL,
                                     .n_adapters = base ? base->n : 0,
                                     .adapter_scale = base ? m->params->scale : 1 };

    p.sampler = (struct at_sampler_params){ .n_sequences = 1, .n_samples = 1 };
    for (size_t i = 0; i < m->n_prompts; i++)
        if (m->prompts.items[i].n > p.sampler.n_positions)
            p.sampler.n_positions = m->prompts.items[i].n;
    p.sampler.n_positions += TOKENS;
    return at_generator_open(&m->generator, weights, config, &p);
}

static enum at_status keep_logits(void *context, uint32_t prompt, uint32_t sample, int32_t id,
                                  bool *ends)
{
    struct measurement *m = context;

    (void)prompt;
    (void)sample;
    (void)id;
    *ends = false;
    return at_generator_read_logits(m->generator, m->logits + (size_t)m->n++ * m->V);
}

static AT_CHECKED write_replies(struct measurement *m)
{
    enum at_status st = AT_OK;
    enum at_generation_end end = AT_END_LENGTH;

    TRY(at_alloc(&m->logits, (size_t)PROMPTS * TOKENS * m->V, sizeof *m->logits));
    for (size_t i = 0; i < m->n_prompts; i++) {
        const struct at_prompt_ids prompt = { m->prompts.items[i].ids, m->prompts.items[i].n };
        const struct at_generation what = { .prompts = &prompt,
                                            .n_prompts = 1,
                                            .max_new_tokens = TOKENS,
                                            .stop = m->prompts.stop,
                                            .n_stop = m->prompts.n_stop,
                                            .sampling = { .top_p = 1 },
                                            .token = keep_logits,
                                            .context = m };
        TRY(at_generate_one(m->generator, &m->replies[i], &end, &what));
    }
done:
    return st;
}

static double log_sum_exp(const float *x, uint32_t n)
{
    uint32_t most = 0;
    double sum = 1; /* of the largest one */

    for (uint32_t i = 1; i < n; i++)
        most = x[i] > x[most] ? i : most;
    for (uint32_t i = 0; i < n; i++)
        sum += i == most ? 0 : exp((double)x[i] - (double)x[most]);
    return (double)x[most] + log(sum);
}

static double kl(const float *p, const float *q, uint32_t n)
{
    const double zp = log_sum_exp(p, n), zq = log_sum_exp(q, n);
    double sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)p[i] - zp) * (((double)p[i] - zp) - ((double)q[i] - zq));
    return sum;
}

/* The sum of KL before every token of the same replies, by a model without adapters. */
static AT_CHECKED compare(double *sum, struct measurement *m, struct at_weights *weights,
                          const struct at_model_config *config)
{
    enum at_status st = AT_OK;
    struct at_ids ids = { .n = 0 }, ignored = { .n = 0 };
    enum at_generation_end end = AT_END_LENGTH;
    uint32_t at = 0;
    float *now = NULL;

    *sum = 0;
    TRY(open_generator(m, weights, config, NULL));
    TRY(at_alloc(&now, m->V, sizeof *now));
    for (size_t i = 0; i < m->n_prompts; i++) {
        ids.n = 0;
        for (uint32_t k = 0; k < m->prompts.items[i].n; k++)
            TRY(at_ids_push(&ids, m->prompts.items[i].ids[k]));
        for (size_t k = 0; k < m->replies[i].n; k++, at++) {
            const struct at_prompt_ids prompt = { ids.data, (uint32_t)ids.n };
            const struct at_generation what = { .prompts = &prompt,
                                                .n_prompts = 1,
                                                .max_new_tokens = 1,
                                                .sampling = { .top_p = 1 },
                                                .goes_on = k > 0 };
            TRY(at_generate_one(m->generator, &ignored, &end, &what));
            TRY(at_generator_read_logits(m->generator, now));
            *sum += kl(m->logits + (size_t)at * m->V, now, m->V);
            TRY(at_ids_push(&ids, m->replies[i].data[k]));
        }
    }
done:
    at_generator_close(&m->generator);
    at_ids_release(&ids);
    at_ids_release(&ignored);
    at_free(&now);
    return st;
}

/* The trained base's bundle, where it is here and what it was. */
static AT_CHECKED open_trained(struct at_bundle *out, bool *found, struct cli_base *b,
                               const struct merge_kl_params *p)
{
    enum at_status st = AT_OK;
    struct at_bundle_params params = { .path = p->trained };
    struct at_found_model model = { .path = NULL };
    const char *last = b->dirs[b->n - 1];
    char hex[65];

    *found = false;
    if (!p->trained || at_model_find(&model, &b->arena, p->trained) != AT_OK ||
        !at_path_exists(model.path))
        goto done;
    TRY(cli_base_recorded(b, &params.tokenizer_dir, last, "run.json", "config", "tokenizer"));
    TRY(cli_base_recorded(b, &params.chat_template_path, last, "run.json", "config",
                          "chat_template_path"));
    TRY(at_bundle_open(out, &params));
    TRY(at_weights_digest(out->weights, hex));
    *found = strcmp(hex, p->digest) == 0;
done:
    return st;
}

static AT_CHECKED measure(struct measurement *m, struct cli_base *b, struct at_bundle *trained,
                          const char *rows)
{
    enum at_status st = AT_OK;
    struct at_weights *merged = NULL;
    struct at_model_config config;
    double sum = 0, bare = 0;

    TRY(cli_prompts_open(&m->prompts, trained));
    TRY(cli_prompts_read(&m->prompts, rows));
    m->n_prompts = m->prompts.n < PROMPTS ? m->prompts.n : PROMPTS;
    m->V = trained->config.V;
    TRY(open_generator(m, trained->weights, &trained->config, b));
    TRY(write_replies(m));
    at_generator_close(&m->generator);
    TRY(at_weights_open(&merged, m->params->merged));
    TRY(at_model_config_read(&config, merged));
    if (config.V != m->V)
        FAIL(AT_DATA, "%s has %u words, the base of training %u: they cannot be compared",
             m->params->merged, config.V, m->V);
    TRY(compare(&sum, m, merged, &config));
    TRY(compare(&bare, m, trained->weights, &trained->config));
    if (m->n == 0)
        cli_note(
            "drift    not measured: the replies to %zu held-out prompts end before their first "
            "token",
            m->n_prompts);
    else
        cli_note("drift    %.4f nats a token from what was trained, over %u tokens of replies to "
                 "%zu held-out prompts; the base without adapters: %.4f",
                 sum / m->n, m->n, m->n_prompts, bare / m->n);
done:
    at_generator_close(&m->generator);
    at_weights_close(&merged);
    return st;
}

/* What keeps a drift from being measured, and is nothing against the model that was written. */
static bool only_unmeasured(enum at_status st)
{
    return st == AT_DATA || st == AT_NOT_FOUND || st == AT_IO || st == AT_MEMORY ||
           st == AT_DEVICE_MEMORY;
}

AT_CHECKED merge_kl_measure(struct cli_base *b, const struct merge_kl_params *params)
{
    enum at_status st = AT_OK;
    struct measurement m = { .params = params };
    struct at_bundle trained = { .path = NULL };
    char *rows = NULL;
    bool found = false;

    TRY(at_path_join(&b->arena, &rows, b->dirs[b->n - 1], AT_SPLIT_EVAL));
    if (!at_path_exists(rows)) {
        cli_note("drift    not measured: there are no held-out rows, %s", rows);
        goto done;
    }
    TRY(open_trained(&trained, &found, b, params));
    if (!found)
        cli_note("drift    not measured: the base of training, %s, is not here",
                 params->trained ? params->trained : "which run.json does not name");
    else
        TRY(measure(&m, b, &trained, rows));
done:
    if (only_unmeasured(st)) {
        cli_note("drift    not measured: %s", at_message());
        st = AT_OK;
    }
    for (size_t i = 0; i < PROMPTS; i++)
        at_ids_release(&m.replies[i]);
    cli_prompts_release(&m.prompts);
    at_free(&m.logits);
    at_bundle_close(&trained);
    return st;
}
