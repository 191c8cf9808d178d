/* Inside engine/infer only: a sampler, and the passes over its cache that sampler.c and states.c
 * share. */
#ifndef AT_SAMPLER_PARTS_H
#define AT_SAMPLER_PARTS_H

#include "args.h"
#include "sampler.h"

enum { LOGIT_ROWS = 64 };

/* A prompt whose keys and values are in the cache, or on their way, from row `base` on: all tokens
 * but the last, which is the first row of every reply; and of a reply that began again
 * (long_restarts) those of its ids that were there. */
struct slot {
    bool used;
    uint32_t prompt, base, n_prefix, n_cached; /* tokens, and those computed so far */
    uint32_t n_started, n_ended;               /* replies */
};
struct sequence {
    bool used;
    uint32_t slot, sample;
    uint32_t base;      /* its rows: the token behind the slot's prefix and those that follow */
    uint32_t n, n_kept; /* ids of the reply so far; those in the slot's prefix */
    int32_t *ids;       /* (most_new) */
    float *logps;
};

struct at_sampler {
    struct at_sampler_params params;
    struct at_decoder decoder;
    struct at_kv_cache cache;
    struct at_tensor logits; /* (LOGIT_ROWS at most, V) */
    struct at_sample_buffers device;
    struct slot *slots;
    struct sequence *sequences;
    uint32_t n_slots, slot_rows, capacity, scratch_row;
    /* of a sampler of one sequence: what the rows of slot 0 hold, and of which length the angles of
     * the prompt's positions are (0: each of its own) */
    struct at_ids cached;
    uint32_t turned;
    /* a pass: host arrays */
    uint32_t T, n_rows; /* tokens; the first n_rows of them are replies' */
    int32_t *id, *position, *place, (*interval)[4], (*token)[4];
    struct sample_row *row;
    uint32_t *owner; /* sequence of a row */
    uint32_t *bits;  /* (V / 32) */
};

/* A run of it. */
struct run {
    struct at_sampler *s;
    struct at_stream *stream;
    const struct at_generation *what;
    uint32_t n_samples, next_prompt;
    uint64_t n_left; /* replies */
    int32_t *ids;    /* (n_sequences, most_new) */
    float *logps;
    uint32_t most_new;
};

/* Angles of a sequence of n tokens, see sampler.h. */
void at_sampler_turn(struct run *r, uint32_t n);
/* Of the first n ids those that slot 0 has. */
uint32_t at_sampler_common_prefix(const struct at_sampler *s, const int32_t *ids, uint32_t n);
/* A token of the pass. */
void at_sampler_add(struct at_sampler *s, int32_t id, uint32_t position, uint32_t place,
                    const uint32_t interval[4]);
/* Ids that a later run may find in slot 0, in the order of their rows. */
AT_CHECKED at_sampler_remember(struct at_sampler *s, int32_t id);
/* The hidden states (T, C) of the pass's tokens. */
struct at_tensor at_sampler_compute(struct run *r);
AT_CHECKED at_sampler_check_signal(void);

#endif
