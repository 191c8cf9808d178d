/* Replies of the sampler on tiny models: their log-probs are those of the training forward, and a
 * reply depends neither on what runs beside it nor on how much does. */
#include "gpu_test.h"

#include "engine.h"
#include "sampler.h"
#include "tolerances.h"

enum { PROMPTS = 5, SAMPLES = 3, REPLIES = PROMPTS * SAMPLES, MAX_PROMPT = 23, NEW = 17 };

struct replies {
    int32_t ids[PROMPTS][SAMPLES][NEW];
    float logps[PROMPTS][SAMPLES][NEW];
    uint32_t n[PROMPTS][SAMPLES], n_ended;
    enum at_generation_end end[PROMPTS][SAMPLES];
    uint32_t first; /* number of the prompt that the run calls 0 */
};

struct fixture {
    struct at_bundle bundle;
    struct at_engine engine;
    int32_t prompt[PROMPTS][MAX_PROMPT];
    struct at_prompt_ids prompts[PROMPTS];
};

/* Prompts of several lengths, one of a single token. window: a model whose window cuts them. */
static void open_fixture(struct fixture *f, const char *model, uint32_t window)
{
    static const uint32_t n[PROMPTS] = { 23, 1, 16, 7, 11 };
    const struct at_engine_params plan = { .gpu = { .validate = true },
                                           .capacity = 320,
                                           .trainable = AT_TRAIN_FULL,
                                           .from_scratch = true,
                                           .seed = 1 };
    char path[512];

    snprintf(path, sizeof path, "%s/golden/models/%s", TEST_DIR, model);
    at_gpu_close(&(struct at_gpu *){ gt_open_device(plan.gpu) }); /* or the test is skipped */
    OK(at_bundle_open(&f->bundle, &(struct at_bundle_params){ .path = path }));
    if (window > 0) {
        f->bundle.config.family = at_family_find("mistral");
        f->bundle.config.window = window;
        at_layers_default(&f->bundle.config, 0, 0, 0);
    }
    OK(at_engine_plan(&f->engine, &f->bundle, &plan));
    OK(at_engine_commit(&f->engine));
    for (uint32_t i = 0; i < PROMPTS; i++) {
        for (uint32_t t = 0; t < n[i]; t++)
            f->prompt[i][t] = (int32_t)(gt_random() % f->bundle.config.V);
        f->prompts[i] = (struct at_prompt_ids){ f->prompt[i], n[i] };
    }
}

static void close_fixture(struct fixture *f)
{
    at_engine_close(&f->engine);
    at_bundle_close(&f->bundle);
}

static enum at_status take(void *context, const struct at_reply *reply)
{
    struct replies *r = context;
    const uint32_t p = r->first + reply->prompt;

    assert_in_range(reply->n, 0, NEW);
    r->n[p][reply->sample] = (uint32_t)reply->n;
    r->end[p][reply->sample] = reply->end;
    memcpy(r->ids[p][reply->sample], reply->ids, reply->n * sizeof *reply->ids);
    memcpy(r->logps[p][reply->sample], reply->logps, reply->n * sizeof *reply->logps);
    r->n_ended++;
    return AT_OK;
}

/* Prompts first ... first + n of the fixture, by a sampler of this many sequences. */
static void run(struct fixture *f, struct replies *out, uint32_t n_sequences, uint32_t first,
                uint32_t n, struct at_generation what)
{
    const struct at_sampler_params params = { .n_sequences = n_sequences,
                                              .n_samples = SAMPLES,
                                              .n_positions = MAX_PROMPT + NEW,
                                              .n_prompt = MAX_PROMPT,
                                              .n_new = NEW };
    struct at_engine *e = &f->engine;
    struct at_sampler *sampler = NULL;
    struct at_pool *pool = NULL;

    out->first = first;
    what.prompts = f->prompts + first;
    what.n_prompts = n;
    what.prompt_index = first;
    what.n_samples = SAMPLES;
    what.max_new_tokens = NEW;
    what.reply = take;
    what.context = out;
    OK(at_pool_create(&pool, e->gpu, "sampler"));
    OK(at_sampler_plan(&sampler, &e->model, NULL, 0, pool, at_gpu_get_info(e->gpu), &params));
    OK(at_pool_commit(pool));
    OK(at_sampler_run(sampler, e->stream, &what));
    at_sampler_close(&sampler);
    at_pool_destroy(&pool);
}

/* Sums of the log-probs of samples a and b of every prompt by the training forward. */
static void forward(struct fixture *f, const struct replies *r, uint32_t a, uint32_t b,
                    float logp[2 * PROMPTS])
{
    static uint8_t targets[NEW];
    const uint32_t sample[2] = { a, b };
    struct at_segment_result sums[2 * PROMPTS];
    const struct at_row *pointers[PROMPTS];
    struct at_row rows[PROMPTS];
    struct at_engine *e = &f->engine;

    memset(targets, 1, sizeof targets);
    for (uint32_t i = 0; i < PROMPTS; i++) {
        const uint32_t n = f->prompts[i].n;

        rows[i] = (struct at_row){
            .index = i, .prefix = f->prompts[i].ids, .n_prefix = n, .n_prompt = n, .n_segments = 2
        };
        for (uint32_t k = 0; k < 2; k++) {
            const uint32_t m = r->n[i][sample[k]];
            rows[i].segment[k] = (struct at_segment){ r->ids[i][sample[k]], targets, m, m, m };
        }
        pointers[i] = &rows[i];
    }
    at_slab_fill(&e->slab, pointers, PROMPTS);
    const struct at_batch batch = at_engine_batch(&e->slab);

    at_decoder_begin(e->stream, &e->decoder, &batch);
    at_decoder_forward(e->stream, &e->decoder, &batch, AT_PASS_POLICY_EVAL,
                       at_view_part(e->decoder.sums, 0, sizeof sums));
    at_stream_download(e->stream, sums, e->decoder.sums, sizeof sums);
    OK(at_stream_wait(e->stream));
    for (uint32_t s = 0; s < 2 * PROMPTS; s++)
        logp[s] = sums[s].logp;
}

static const struct at_generation sampled = { .sampling = {
                                                  .temperature = 1.3, .top_p = 1, .seed = 11 } };

static void log_probs_are_those_of_training(void **state)
{
    static const struct {
        const char *model;
        uint32_t window;
    } models[] = { { "tiny_llama", 0 }, { "tiny_qwen2", 0 }, { "tiny_llama", 12 } };

    (void)state;
    for (size_t m = 0; m < AT_COUNT(models); m++) {
        struct replies r = { .n_ended = 0 };
        float logp[2 * PROMPTS];
        struct fixture f;

        open_fixture(&f, models[m].model, models[m].window);
        run(&f, &r, 4, 0, PROMPTS, sampled);
        assert_int_equal(r.n_ended, REPLIES);
        for (uint32_t k = 0; k + 1 < SAMPLES; k++) {
            forward(&f, &r, k, k + 1, logp);
            for (uint32_t s = 0; s < 2 * PROMPTS; s++) {
                double sum = 0;
                for (uint32_t i = 0; i < NEW; i++)
                    sum += (double)r.logps[s / 2][k + s % 2][i];
                assert_int_equal(r.n[s / 2][k + s % 2], NEW);
                if (!(fabs(sum - (double)logp[s]) <= 1e-4 * NEW))
                    fail_msg("%s, window %u: prompt %u, sample %u: %.7g, training has %.7g",
                             models[m].model, models[m].window, s / 2, k + s % 2, sum,
                             (double)logp[s]);
            }
        }
        close_fixture(&f);
    }
}

static void require_equal(const struct replies *a, const struct replies *b, uint32_t prompt)
{
    assert_memory_equal(a->n[prompt], b->n[prompt], sizeof a->n[prompt]);
    assert_memory_equal(a->ids[prompt], b->ids[prompt], sizeof a->ids[prompt]);
    assert_memory_equal(a->logps[prompt], b->logps[prompt], sizeof a->logps[prompt]);
}

/* Bit by bit, whether two replies run at once or all fifteen, with other prompts or alone. */
static void replies_do_not_depend_on_their_company(void **state)
{
    static const uint32_t at_once[] = { 2, 3, 4, REPLIES };
    struct replies all = { .n_ended = 0 };
    struct fixture f;

    (void)state;
    open_fixture(&f, "tiny_llama", 0);
    run(&f, &all, REPLIES, 0, PROMPTS, sampled);
    for (size_t k = 0; k < AT_COUNT(at_once); k++) {
        struct replies r = { .n_ended = 0 };

        run(&f, &r, at_once[k], 0, PROMPTS, sampled);
        assert_int_equal(r.n_ended, REPLIES);
        for (uint32_t p = 0; p < PROMPTS; p++)
            require_equal(&r, &all, p);
    }
    for (uint32_t p = 0; p < PROMPTS; p++) {
        struct replies r = { .n_ended = 0 };

        run(&f, &r, 2, p, 1, sampled);
        require_equal(&r, &all, p);
    }
    assert_memory_not_equal(all.ids[0][0], all.ids[0][1], sizeof all.ids[0][0]);
    close_fixture(&f);
}

/* Every third id stops: with the least length no reply is shorter, and ids before it do not stop.
 */
static void replies_stop_between_their_limits(void **state)
{
    enum { STOPS = 60, LEAST = 6 };
    int32_t stop[STOPS];
    struct at_generation what = sampled;
    struct replies free_r = { .n_ended = 0 }, held = { .n_ended = 0 };
    uint32_t shorter = 0, stopped = 0;
    struct fixture f;

    (void)state;
    open_fixture(&f, "tiny_llama", 0);
    for (int32_t i = 0; i < STOPS; i++)
        stop[i] = 3 * i;
    what.stop = stop;
    what.n_stop = STOPS;
    run(&f, &free_r, 4, 0, PROMPTS, what);
    what.min_new_tokens = LEAST;
    run(&f, &held, 4, 0, PROMPTS, what);
    for (uint32_t p = 0; p < PROMPTS; p++)
        for (uint32_t s = 0; s < SAMPLES; s++) {
            shorter += free_r.n[p][s] < LEAST;
            stopped += held.end[p][s] == AT_END_STOP;
            assert_in_range(held.n[p][s], LEAST, NEW);
            assert_true((held.end[p][s] == AT_END_LENGTH) == (held.n[p][s] == NEW));
            for (uint32_t i = 0; i < held.n[p][s]; i++)
                for (uint32_t k = 0; k < STOPS; k++)
                    assert_int_not_equal(held.ids[p][s][i], stop[k]);
        }
    assert_true(shorter > 0 && stopped > 0);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_probs_are_those_of_training),
        cmocka_unit_test(replies_do_not_depend_on_their_company),
        cmocka_unit_test(replies_stop_between_their_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
