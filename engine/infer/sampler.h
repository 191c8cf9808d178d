/* Many replies at once, on the device: the keys and values of a prompt are computed once and read
 * by all of its replies, prompts of different lengths run together, a reply that is finished leaves
 * its place to the next one, and of the logits only ids and log-probs come back. Attention over a
 * prefix and a segment, as in training (DESIGN.md 1.3).
 *
 * Where rotary angles depend on a sequence's length, they are those that transformers' cache has:
 * the prompt's are of its length, those of each token of the reply of the length up to it, and of
 * families with long_restarts all are computed again when the sequence becomes long. There is one
 * table: such samplers have one sequence.
 *
 * A reply is a function of the model, its prompt and (seed, prompt_index, sample): never of what
 * runs beside it. A sampler of one sequence has kernels of its own for single tokens, whose
 * rounding differs; others never use them. */
#ifndef AT_SAMPLER_H
#define AT_SAMPLER_H

#include "decoder.h"
#include "sampling.h"
#include "tokenizer.h"

enum { AT_SAMPLER_STOPS = 64, AT_SAMPLER_ROWS = 256 /* tokens of a pass, if not more */ };

struct at_sampler_params {
    uint32_t n_sequences;     /* replies that grow at once, at most */
    uint32_t n_samples;       /* replies to a prompt, at most */
    uint32_t n_positions;     /* tokens of prompt and reply together, at most */
    uint32_t n_prompt, n_new; /* tokens of a prompt, of a reply, at most; read with n_samples > 1 */
};
struct at_sampler;
/* Plans a decoder, the cache and all else in `pool`, which the caller commits before the first run.
 * Borrows the model and the adapters. */
AT_CHECKED at_sampler_plan(struct at_sampler **out, struct at_model *model,
                           struct at_adapter *const *stack, size_t n_stack, struct at_pool *pool,
                           const struct at_gpu_info *info, const struct at_sampler_params *params);
void at_sampler_close(struct at_sampler **sampler);
/* Its decoder: at_decoder_start() is the caller's, and its stack may be changed between runs;
 * then what the cache holds is forgotten. */
struct at_decoder *at_sampler_decoder(struct at_sampler *sampler);

enum at_generation_end { AT_END_STOP, AT_END_LENGTH };
struct at_reply { /* borrowed for the call */
    uint32_t prompt, sample;
    const int32_t *ids; /* without the id that stopped it */
    const float *logps; /* nats under the softmax of the plain logits (temperature 1, no rule) */
    size_t n;
    enum at_generation_end end;
    int32_t stop; /* the id that stopped it; -1: at_generation.token did, or it is AT_END_LENGTH */
    float stop_logp;
};
struct at_prompt_ids {
    const int32_t *ids; /* n > 0 */
    uint32_t n;
};
struct at_generation {
    const struct at_prompt_ids *prompts;
    uint32_t n_prompts;
    uint32_t prompt_index; /* of the first one, for the random numbers */
    uint32_t n_samples;    /* replies to each: 0 is 1 */
    uint32_t min_new_tokens, max_new_tokens;
    const int32_t *stop; /* ids that end a reply; at most AT_SAMPLER_STOPS */
    size_t n_stop;
    struct at_sampling sampling;
    /* Of a sampler of one sequence and one prompt: what it begins with as the sequence before did,
     * is not computed again; another text where rounding decides, as it was computed in other
     * pieces. */
    bool goes_on;
    /* With every id of a reply as it comes; may be NULL. *ends, which is false, may be set:
     * AT_END_STOP. A failure ends the run. */
    enum at_status (*token)(void *context, uint32_t prompt, uint32_t sample, int32_t id,
                            bool *ends);
    /* With every whole reply, as they finish. A failure ends the run. */
    enum at_status (*reply)(void *context, const struct at_reply *reply);
    void *context;
};
/* A prompt that leaves no room for a reply is AT_DATA; logits that are not finite are AT_NUMERIC. A
 * signal ends it with AT_INTERRUPTED or AT_TERMINATED. */
AT_CHECKED at_sampler_run(struct at_sampler *sampler, struct at_stream *stream,
                          const struct at_generation *what);

/* Of a sampler of one sequence: the logits (V) that the last id was chosen from, in
 * at_generation.token and after the run. */
AT_CHECKED at_sampler_read_logits(struct at_sampler *sampler, struct at_stream *stream,
                                  float *logits);

/* Of a sampler of one sequence: the mean (C) of the normed hidden states of ids[begin] to ids[n -
 * 1], what the model makes of a prompt. What stands before `begin` is not computed again where the
 * sequence before had it, too. AT_DATA for more ids than positions. */
AT_CHECKED at_sampler_state(struct at_sampler *sampler, struct at_stream *stream, float *out,
                            const int32_t *ids, uint32_t n, uint32_t begin);

#endif
