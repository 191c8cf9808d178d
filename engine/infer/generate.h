/* Generation with a KV cache: one sequence at a time through the decoder of training, adapters as a
 * frozen stack. Everything is planned when a generator is opened; a token allocates nothing on the
 * device. */
#ifndef AT_GENERATE_H
#define AT_GENERATE_H

#include "decoder.h"
#include "tokenizer.h"

struct at_generator_params {
    struct at_gpu_params gpu;
    const char *const *adapter_dirs; /* PEFT folders, bottom first */
    size_t n_adapters;
    double adapter_scale; /* multiplies every adapter's own scale; 1 with DoRA and saved modules */
    uint32_t n_positions; /* tokens of prompt and reply together, at most */
};
struct at_generator;
/* Opens the device and uploads the model. `weights` must outlive the generator. */
AT_CHECKED at_generator_open(struct at_generator **out, struct at_weights *weights,
                             const struct at_model_config *config,
                             const struct at_generator_params *params);
void at_generator_close(struct at_generator **generator);
const struct at_gpu_info *at_generator_get_info(const struct at_generator *generator);
/* For at_stream_profile(). */
struct at_stream *at_generator_get_stream(struct at_generator *generator);
/* From now on the adapters whose `on` is true (as many as were opened), in their order, `scale`
 * times as strong. AT_USAGE for one that has what no other scale than 1 is defined for, and for
 * switching where one has modules in full, which took the base's place when it was opened. */
AT_CHECKED at_generator_use(struct at_generator *generator, const bool *on, double scale);

/* How the next token is chosen. Logits of ids that prompt or reply have are divided by the
 * repetition penalty where they are positive, else multiplied (Keskar et al. 2019, arXiv
 * 1909.05858). Temperature 0 takes the likeliest (lowest id wins ties); else logits / temperature,
 * the top_k likeliest of them (0: all), of those the likeliest whose probabilities sum to at least
 * top_p (Holtzman et al. 2019, arXiv 1904.09751), of those all that are at least min_p times as
 * likely as the likeliest (Nguyen et al. 2024, arXiv 2407.01082), by Philox keyed by (seed, prompt,
 * position): the same text whatever else is generated. */
struct at_sampling {
    double temperature, top_p; /* top_p in (0, 1]; 1: all */
    double min_p;              /* in [0, 1]; 0: all */
    double repetition_penalty; /* 1, or 0: none */
    uint32_t top_k;
    uint64_t seed;
};
struct at_generation {
    const int32_t *prompt; /* n_prompt > 0 ids */
    uint32_t n_prompt, prompt_index, max_new_tokens;
    const int32_t *stop; /* ids that end the reply; they are not part of it */
    size_t n_stop;
    struct at_sampling sampling;
    /* What the prompt begins with as the sequence before did, is not computed again: another text
     * where rounding decides, as it was computed in other pieces. */
    bool goes_on;
    /* Called with every id of the reply as it comes; may be NULL. *ends, which is false, may be
     * set: AT_END_STOP. A failure ends the generation. */
    enum at_status (*token)(void *context, int32_t id, bool *ends);
    void *context;
};
enum at_generation_end { AT_END_STOP, AT_END_LENGTH };
/* Appends the reply's ids to `out`. A prompt that leaves no room is AT_DATA; logits that are not
 * finite are AT_NUMERIC. A signal ends it with AT_INTERRUPTED or AT_TERMINATED. */
AT_CHECKED at_generate(struct at_generator *generator, struct at_ids *out,
                       enum at_generation_end *end, const struct at_generation *what);

/* The repetition penalty on the logits whose `seen` is not 0. */
void at_penalise(float *logits, const uint8_t *seen, uint32_t V, double penalty);
/* The next id from V logits; `scratch` holds V entries. For tests and at_generate(). */
struct at_candidate {
    double weight;
    int32_t id;
};
AT_CHECKED at_sample(int32_t *out, const float *logits, uint32_t V,
                     const struct at_sampling *sampling, uint32_t prompt_index, uint32_t position,
                     struct at_candidate *scratch);

#endif
