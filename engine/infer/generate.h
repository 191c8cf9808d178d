/* Generation by itself: a device, a model with a stack of frozen adapters, and a sampler over them.
 * Everything is planned when a generator is opened; a token allocates nothing on the device. */
#ifndef AT_GENERATE_H
#define AT_GENERATE_H

#include "sampler.h"

struct at_generator_params {
    struct at_gpu_params gpu;
    const char *const *adapter_dirs; /* PEFT folders, bottom first */
    size_t n_adapters;
    double adapter_scale; /* multiplies every adapter's own scale; 1 with DoRA and saved modules */
    /* n_sequences is lowered, to 1 if need be, until everything fits the device's memory; it is 1
     * where rotary angles depend on a sequence's length */
    struct at_sampler_params sampler;
};
struct at_generator;
/* Opens the device and uploads the model. `weights` must outlive the generator. */
AT_CHECKED at_generator_open(struct at_generator **out, struct at_weights *weights,
                             const struct at_model_config *config,
                             const struct at_generator_params *params);
void at_generator_close(struct at_generator **generator);
const struct at_gpu_info *at_generator_get_info(const struct at_generator *generator);
uint32_t at_generator_get_sequences(const struct at_generator *generator);
/* For at_stream_profile(). */
struct at_stream *at_generator_get_stream(struct at_generator *generator);
/* From now on the adapters whose `on` is true (as many as were opened), in their order, `scale`
 * times as strong. AT_USAGE for one that has what no other scale than 1 is defined for, and for
 * switching where one has modules in full, which took the base's place when it was opened. */
AT_CHECKED at_generator_use(struct at_generator *generator, const bool *on, double scale);
/* at_sampler_run(). */
AT_CHECKED at_generate(struct at_generator *generator, const struct at_generation *what);
/* The same for one prompt and one reply, whose ids are appended to `out`; what->reply is not read.
 */
AT_CHECKED at_generate_one(struct at_generator *generator, struct at_ids *out,
                           enum at_generation_end *end, const struct at_generation *what);
/* The logits (V) that the last id was chosen from, of a generator with one sequence: in
 * at_generation.token, and after. */
AT_CHECKED at_generator_read_logits(struct at_generator *generator, float *logits);

/* at_sampler_state(). */
AT_CHECKED at_generator_state(struct at_generator *generator, float *out, const int32_t *ids,
                              uint32_t n, uint32_t begin);

#endif
