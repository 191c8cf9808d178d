/* A pass over the cache, and what it holds. */
#include "sampler_parts.h"

#include "os.h"

void at_sampler_turn(struct run *r, uint32_t n)
{
    struct at_sampler *s = r->s;
    const struct at_model *m = s->decoder.model;
    const uint32_t from = at_model_long_from(&m->config, m->n_positions);
    uint32_t turned = 0;

    if (from > 0 && n > from)
        turned = at_model_long_each(&m->config) ? n : m->n_positions;
    if (turned == s->turned)
        return;
    if (s->turned > turned)
        at_model_turn(r->stream, m, 0, s->turned, 0);
    if (turned > 0)
        at_model_turn(r->stream, m, 0, turned, turned);
    s->turned = turned;
    s->cached.n = 0; /* keys in the cache are turned otherwise */
}

uint32_t at_sampler_common_prefix(const struct at_sampler *s, const int32_t *ids, uint32_t n)
{
    uint32_t i = 0;

    while (i < n && i < s->cached.n && s->cached.data[i] == ids[i])
        i++;
    return i;
}

void at_sampler_add(struct at_sampler *s, int32_t id, uint32_t position, uint32_t place,
                    const uint32_t interval[4])
{
    s->id[s->T] = id;
    s->position[s->T] = (int32_t)position;
    s->place[s->T] = (int32_t)place;
    for (int i = 0; i < 4; i++)
        s->interval[s->T][i] = (int32_t)interval[i];
    s->T++;
}

AT_CHECKED at_sampler_remember(struct at_sampler *s, int32_t id)
{
    return s->params.n_sequences == 1 ? at_ids_push(&s->cached, id) : AT_OK;
}

struct at_tensor at_sampler_compute(struct run *r)
{
    const struct at_sampler *s = r->s;
    const struct at_extension tokens = { .T = s->T,
                                         .n_alone = s->n_rows,
                                         .ids = s->id,
                                         .positions = s->position,
                                         .place = s->place,
                                         .intervals = s->interval };

    return at_decoder_extend(r->stream, &r->s->decoder, &s->cache, &tokens);
}

AT_CHECKED at_sampler_check_signal(void)
{
    const enum at_status st = at_signal_status();

    return st == AT_OK ? st : at_fail(st, "stopped by a signal");
}
