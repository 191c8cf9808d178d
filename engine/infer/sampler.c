#include "sampler_parts.h"

#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

/* Whether replies have rows apart from their prompt's. */
static bool shares(const struct at_sampler *s)
{
    return s->params.n_samples > 1 && s->params.n_sequences > 1;
}

/* Prompts in the cache: as many as the sequences need, and one that is being read. */
static uint32_t slots_for(const struct at_sampler_params *p)
{
    if (p->n_sequences == 1)
        return 1;
    return (p->n_sequences + p->n_samples - 1) / p->n_samples + 1;
}

static AT_CHECKED plan_host(struct at_sampler *s, uint32_t V)
{
    enum at_status st = AT_OK;

    TRY(at_alloc(&s->slots, s->n_slots, sizeof *s->slots));
    TRY(at_alloc(&s->sequences, s->params.n_sequences, sizeof *s->sequences));
    TRY(at_alloc(&s->id, s->capacity, sizeof *s->id));
    TRY(at_alloc(&s->position, s->capacity, sizeof *s->position));
    TRY(at_alloc(&s->place, s->capacity, sizeof *s->place));
    TRY(at_alloc(&s->interval, s->capacity, sizeof *s->interval));
    TRY(at_alloc(&s->token, s->params.n_sequences, sizeof *s->token));
    TRY(at_alloc(&s->row, s->params.n_sequences, sizeof *s->row));
    TRY(at_alloc(&s->owner, s->params.n_sequences, sizeof *s->owner));
    TRY(at_alloc(&s->bits, at_sample_seen_words(V), sizeof *s->bits));
done:
    return st;
}

static void plan_device(struct at_sampler *s, uint32_t V, struct at_pool *pool)
{
    const uint64_t n = s->params.n_sequences;
    static const char what[] = "sampling";

    at_tensor_reserve(pool, &s->logits, n < LOGIT_ROWS ? (uint32_t)n + 1 : LOGIT_ROWS, V, "logits");
    at_pool_reserve(pool, &s->device.tokens, n * sizeof *s->token, what);
    at_pool_reserve(pool, &s->device.rows, at_round_up(n * sizeof *s->row, 16), what);
    at_pool_reserve(pool, &s->device.seen, at_round_up(n * at_sample_seen_words(V) * 4, 16), what);
    at_pool_reserve(pool, &s->device.stop, AT_SAMPLER_STOPS * 4ul, what);
}

AT_CHECKED at_sampler_plan(struct at_sampler **out, struct at_model *model,
                           struct at_adapter *const *stack, size_t n_stack, struct at_pool *pool,
                           const struct at_gpu_info *info, const struct at_sampler_params *p)
{
    enum at_status st = AT_OK;
    struct at_sampler *s = NULL;
    const struct at_model_config *config = &model->config;
    struct at_decoder_params decoder = { .capacity_rows = LOGIT_ROWS,
                                         .capacity_segments = LOGIT_ROWS };
    uint64_t rows;

    *out = NULL;
    AT_REQUIRE(p->n_sequences > 0 && p->n_samples > 0 && p->n_positions > 0);
    if (config->value_head)
        FAIL(AT_DATA, "the model is a reward model (score.weight): it cannot write; `attune score` "
                      "prints its rewards");
    TRY(at_alloc(&s, 1, sizeof *s));
    s->params = *p;
    s->n_slots = slots_for(p);
    s->slot_rows = shares(s) ? p->n_prompt : p->n_positions;
    s->capacity = (uint32_t)at_round_up(
        p->n_sequences > AT_SAMPLER_ROWS ? p->n_sequences : AT_SAMPLER_ROWS, 64);
    rows = (uint64_t)s->n_slots * s->slot_rows;
    if (shares(s))
        rows += (uint64_t)p->n_sequences * p->n_new;
    s->scratch_row = (uint32_t)rows;
    rows = at_round_up(rows + 1, 64);
    decoder.capacity = s->capacity;
    if (rows > INT32_MAX)
        FAIL(AT_DEVICE_MEMORY, "%u replies at once of %u tokens are too many", p->n_sequences,
             p->n_positions);
    TRY(plan_host(s, config->V));
    TRY(at_decoder_plan(&s->decoder, model, stack, n_stack, pool, &decoder));
    TRY(at_kv_cache_plan(&s->cache, config, (uint32_t)rows, s->capacity, pool,
                         info->max_range_bytes));
    plan_device(s, config->V, pool);
    *out = s;
    s = NULL;
done:
    at_sampler_close(&s);
    return st;
}

void at_sampler_close(struct at_sampler **sampler)
{
    struct at_sampler *s = *sampler;

    if (!s)
        return;
    at_kv_cache_release(&s->cache);
    at_decoder_release(&s->decoder);
    at_free(&s->slots);
    at_free(&s->sequences);
    at_free(&s->id);
    at_free(&s->position);
    at_free(&s->place);
    at_free(&s->interval);
    at_free(&s->token);
    at_free(&s->row);
    at_free(&s->owner);
    at_free(&s->bits);
    at_ids_release(&s->cached);
    at_free(sampler);
}

struct at_decoder *at_sampler_decoder(struct at_sampler *s)
{
    s->cached.n = 0;
    return &s->decoder;
}

/* ---- prompts ---- */

static const struct at_prompt_ids *prompt_of(const struct run *r, const struct slot *slot)
{
    return &r->what->prompts[slot->prompt];
}

/* Tokens of the prompt, but for the last one, that are computed already. */
static uint32_t known(const struct run *r, const struct at_prompt_ids *prompt)
{
    return r->what->goes_on ? at_sampler_common_prefix(r->s, prompt->ids, prompt->n - 1) : 0;
}

static void take_prompts(struct run *r)
{
    struct at_sampler *s = r->s;

    for (uint32_t i = 0; i < s->n_slots && r->next_prompt < r->what->n_prompts; i++) {
        struct slot *slot = &s->slots[i];
        const struct at_prompt_ids *prompt = &r->what->prompts[r->next_prompt];
        if (slot->used)
            continue;
        at_sampler_turn(r, prompt->n);
        *slot = (struct slot){ .used = true,
                               .prompt = r->next_prompt,
                               .base = i * s->slot_rows,
                               .n_prefix = prompt->n - 1,
                               .n_cached = known(r, prompt) };
        s->cached.n = slot->n_cached;
        r->next_prompt++;
    }
}

/* The first prompt that can be replied to, or NULL. */
static struct slot *ready(const struct run *r)
{
    struct slot *best = NULL;

    for (uint32_t i = 0; i < r->s->n_slots; i++) {
        struct slot *slot = &r->s->slots[i];
        if (slot->used && slot->n_started < r->n_samples && slot->n_cached == slot->n_prefix &&
            (!best || slot->prompt < best->prompt))
            best = slot;
    }
    return best;
}

static void mark_seen(struct run *r, uint32_t sequence, const struct at_prompt_ids *prompt)
{
    const uint32_t words = at_sample_seen_words(r->s->decoder.model->config.V);
    const uint64_t bytes = 4ul * words;

    if (!at_sampling_penalises(&r->what->sampling))
        return;
    memset(r->s->bits, 0, bytes);
    for (uint32_t i = 0; i < prompt->n; i++)
        r->s->bits[prompt->ids[i] / 32] |= 1u << prompt->ids[i] % 32;
    at_stream_upload(r->stream, at_view_part(r->s->device.seen, sequence * bytes, bytes),
                     r->s->bits, bytes);
}

static void start_replies(struct run *r)
{
    struct at_sampler *s = r->s;
    const uint32_t shared = s->n_slots * s->slot_rows;

    for (uint32_t i = 0; i < s->params.n_sequences; i++) {
        struct slot *slot = s->sequences[i].used ? NULL : ready(r);
        if (!slot)
            continue;
        if (s->params.n_sequences == 1)
            s->cached.n = slot->n_prefix; /* the reply before is overwritten */
        s->sequences[i] = (struct sequence){
            .used = true,
            .slot = (uint32_t)(slot - s->slots),
            .sample = slot->n_started++,
            .base =
                shares(s) ? shared + i * s->params.n_new : slot->base + prompt_of(r, slot)->n - 1,
            .ids = r->ids + (size_t)i * r->most_new,
            .logps = r->logps + (size_t)i * r->most_new,
        };
        mark_seen(r, i, prompt_of(r, slot));
    }
}

/* ---- a pass ---- */

/* Token i of the slot's prompt and, behind it, of the reply q. */
static int32_t token_of(const struct run *r, const struct slot *slot, const struct sequence *q,
                        uint32_t i)
{
    const struct at_prompt_ids *prompt = prompt_of(r, slot);

    return i < prompt->n ? prompt->ids[i] : q->ids[i - prompt->n];
}

/* Every reply's newest token, whose successor is wanted. */
static AT_CHECKED add_replies(struct run *r)
{
    enum at_status st = AT_OK;
    struct at_sampler *s = r->s;

    for (uint32_t i = 0; i < s->params.n_sequences; i++) {
        const struct sequence *q = &s->sequences[i];
        const struct slot *slot = &s->slots[q->slot];
        const uint32_t row = q->n - q->n_kept;

        if (!q->used || slot->n_cached < slot->n_prefix)
            continue;
        const uint32_t begin = slot->n_prefix > 0 ? slot->base : 0;
        const uint32_t interval[4] = { begin, begin + slot->n_prefix, q->base, q->base + row + 1 };
        const int32_t id = token_of(r, slot, q, slot->n_prefix + row);
        s->owner[s->n_rows] = i;
        s->row[s->n_rows++] = (struct sample_row){ .prompt = r->what->prompt_index + slot->prompt,
                                                   .sample_index = q->sample,
                                                   .position = prompt_of(r, slot)->n + q->n,
                                                   .slot = i,
                                                   .holds = q->n < r->what->min_new_tokens };
        at_sampler_add(s, id, slot->n_prefix + row, q->base + row, interval);
        TRY(at_sampler_remember(s, id));
    }
done:
    return st;
}

/* As many tokens of the slot's prefix as there is room for. */
static AT_CHECKED add_prefix(struct run *r, struct slot *slot)
{
    enum at_status st = AT_OK;
    struct at_sampler *s = r->s;

    for (; slot->n_cached < slot->n_prefix && s->T < s->capacity; slot->n_cached++) {
        const uint32_t at = slot->base + slot->n_cached;
        const int32_t id = token_of(r, slot, &s->sequences[0], slot->n_cached);
        at_sampler_add(s, id, slot->n_cached, at, (const uint32_t[4]){ 0, 0, slot->base, at + 1 });
        TRY(at_sampler_remember(s, id));
    }
done:
    return st;
}

/* A sampler of several sequences has no use of the kernels for one token: another one goes along.
 */
static void add_company(struct at_sampler *s)
{
    if (s->params.n_sequences > 1 && s->T == 1)
        at_sampler_add(s, s->id[0], 0, s->scratch_row,
                       (const uint32_t[4]){ 0, 0, s->scratch_row, s->scratch_row + 1 });
}

static AT_CHECKED gather(struct run *r)
{
    enum at_status st = AT_OK;
    struct at_sampler *s = r->s;
    uint32_t first = UINT32_MAX;

    s->T = s->n_rows = 0;
    TRY(add_replies(r));
    for (uint32_t i = 0; i < s->n_slots; i++)
        if (s->slots[i].used && s->slots[i].prompt < first)
            first = s->slots[i].prompt;
    for (uint32_t p = first; p < r->next_prompt; p++)
        for (uint32_t i = 0; i < s->n_slots; i++)
            if (s->slots[i].used && s->slots[i].prompt == p)
                TRY(add_prefix(r, &s->slots[i]));
    add_company(s);
done:
    return st;
}

/* Logits and the next ids of the replies' rows, a few rows at a time. */
static void sample(struct run *r, struct at_tensor h)
{
    struct at_sampler *s = r->s;
    const struct at_decoder *d = &s->decoder;
    const uint32_t least = s->params.n_sequences > 1 ? 2 : 1, most = s->logits.dim[0];

    at_stream_upload(r->stream, s->device.rows, s->row, s->n_rows * sizeof *s->row);
    for (uint32_t i = 0; i < s->n_rows; i += most) {
        const uint32_t n = s->n_rows - i < most ? s->n_rows - i : most, R = n < least ? least : n;
        struct at_tensor rows = { h.view, { s->capacity, h.dim[1] }, h.ld };
        struct at_sample_buffers part = s->device;

        part.tokens = at_view_part(part.tokens, i * sizeof *s->token, n * sizeof *s->token);
        part.rows =
            at_view_part(part.rows, i * sizeof *s->row, at_round_up(n * sizeof *s->row, 16));
        rows = at_tensor_rows(rows, i, R);
        at_head_logits(r->stream, at_tensor_rows(s->logits, 0, R), rows, d->model->head, &d->head);
        at_sample_rows(r->stream, at_tensor_rows(s->logits, 0, n), (uint32_t)r->what->n_stop, &part,
                       &r->what->sampling);
    }
    at_stream_download(r->stream, s->token, s->device.tokens, s->n_rows * sizeof *s->token);
}

/* ---- replies ---- */

static bool stops(const struct at_generation *what, int32_t id)
{
    for (size_t i = 0; i < what->n_stop; i++)
        if (what->stop[i] == id)
            return true;
    return false;
}

/* All but the last of the slot's first n tokens are computed, with the angles of n tokens. */
static void begin_again(struct run *r, struct slot *slot, uint32_t n)
{
    at_sampler_turn(r, n);
    slot->n_prefix = n - 1;
    slot->n_cached = 0;
    r->s->cached.n = 0;
}

/* Whether the newest token of a reply is the one with which its sequence becomes long. */
static bool becomes_long(const struct run *r, const struct slot *slot, const struct sequence *q)
{
    const struct at_model *m = r->s->decoder.model;
    const uint32_t from = at_model_long_from(&m->config, m->n_positions);

    return m->config.family->long_restarts && from > 0 && prompt_of(r, slot)->n + q->n == from + 1;
}

/* token: id and log-prob of what stopped it, or NULL. */
static AT_CHECKED end_reply(struct run *r, struct sequence *q, enum at_generation_end end,
                            const int32_t *token)
{
    enum at_status st = AT_OK;
    struct slot *slot = &r->s->slots[q->slot];
    struct at_reply reply = { .prompt = slot->prompt,
                              .sample = q->sample,
                              .ids = q->ids,
                              .logps = q->logps,
                              .n = q->n,
                              .end = end,
                              .stop = token ? token[0] : -1 };

    if (token)
        memcpy(&reply.stop_logp, &token[1], sizeof reply.stop_logp);
    q->used = false;
    if (++slot->n_ended == r->n_samples)
        slot->used = false;
    else if (q->n_kept > 0) /* the next reply begins with the prompt again */
        begin_again(r, slot, prompt_of(r, slot)->n);
    r->n_left--;
    if (r->what->reply)
        TRY(r->what->reply(r->what->context, &reply));
done:
    return st;
}

/* Ids that a reply to this prompt may have. */
static uint32_t room(const struct run *r, const struct at_prompt_ids *prompt)
{
    const struct at_sampler_params *p = &r->s->params;
    uint32_t n = p->n_positions - prompt->n + 1;

    if (shares(r->s) && p->n_new < n)
        n = p->n_new;
    return r->what->max_new_tokens < n ? r->what->max_new_tokens : n;
}

/* Says which prompt the message is about, where there are several. */
static AT_CHECKED name_prompt(const struct run *r, uint32_t prompt, enum at_status st)
{
    if (r->what->n_prompts > 1)
        at_context("prompt %u", prompt + 1);
    return st;
}

static AT_CHECKED take_token(struct run *r, uint32_t i)
{
    enum at_status st = AT_OK;
    struct at_sampler *s = r->s;
    struct sequence *q = &s->sequences[s->owner[i]];
    struct slot *slot = &s->slots[q->slot];
    const int32_t id = s->token[i][0];
    bool ends = false;

    if (s->token[i][2] >= 0) {
        at_fail(AT_NUMERIC, "the logit of token %d is not finite", s->token[i][2]);
        return name_prompt(r, slot->prompt, AT_NUMERIC);
    }
    if (stops(r->what, id)) {
        TRY(end_reply(r, q, AT_END_STOP, s->token[i]));
        goto done;
    }
    q->ids[q->n] = id;
    memcpy(&q->logps[q->n++], &s->token[i][1], sizeof *q->logps);
    if (r->what->token)
        TRY(r->what->token(r->what->context, slot->prompt, q->sample, id, &ends));
    if (ends || q->n == room(r, prompt_of(r, slot))) {
        TRY(end_reply(r, q, ends ? AT_END_STOP : AT_END_LENGTH, NULL));
    } else if (becomes_long(r, slot, q)) {
        begin_again(r, slot, prompt_of(r, slot)->n + q->n);
        q->base = slot->base + slot->n_prefix;
        q->n_kept = q->n;
    }
done:
    return st;
}

static AT_CHECKED pass(struct run *r)
{
    enum at_status st = AT_OK;
    struct at_sampler *s = r->s;
    struct at_tensor h;

    TRY(at_sampler_check_signal());
    take_prompts(r);
    start_replies(r);
    TRY(gather(r));
    h = at_sampler_compute(r);
    if (s->n_rows > 0)
        sample(r, h);
    TRY(at_stream_wait(r->stream));
    for (uint32_t i = 0; i < s->n_rows; i++)
        TRY(take_token(r, i));
done:
    return st;
}

/* ---- a run ---- */

static AT_CHECKED check(const struct run *r)
{
    const struct at_sampler_params *p = &r->s->params;

    AT_REQUIRE(r->n_samples <= p->n_samples && r->what->n_stop <= AT_SAMPLER_STOPS);
    AT_REQUIRE(!r->what->goes_on || (p->n_sequences == 1 && r->what->n_prompts == 1));
    AT_REQUIRE(p->n_sequences == 1 ||
               at_model_long_from(&r->s->decoder.model->config, p->n_positions) == 0);
    for (uint32_t i = 0; i < r->what->n_prompts; i++) {
        const uint32_t n = r->what->prompts[i].n, most = shares(r->s) ? p->n_prompt : UINT32_MAX;
        AT_REQUIRE(n > 0 && n <= most);
        if (n >= p->n_positions) {
            at_fail(AT_DATA, "the prompt has %u tokens; with %u positions no reply fits", n,
                    p->n_positions);
            return name_prompt(r, i, AT_DATA);
        }
    }
    return AT_OK;
}

AT_CHECKED at_sampler_run(struct at_sampler *s, struct at_stream *stream,
                          const struct at_generation *what)
{
    enum at_status st = AT_OK;
    struct run r = { .s = s,
                     .stream = stream,
                     .what = what,
                     .n_samples = what->n_samples > 0 ? what->n_samples : 1 };
    const uint32_t n = s->params.n_sequences;

    TRY(check(&r));
    r.n_left = what->max_new_tokens > 0 ? (uint64_t)what->n_prompts * r.n_samples : 0;
    r.most_new =
        what->max_new_tokens < s->params.n_positions ? what->max_new_tokens : s->params.n_positions;
    TRY(at_alloc(&r.ids, (size_t)n * r.most_new + 1, sizeof *r.ids));
    TRY(at_alloc(&r.logps, (size_t)n * r.most_new + 1, sizeof *r.logps));
    memset(s->slots, 0, s->n_slots * sizeof *s->slots);
    memset(s->sequences, 0, n * sizeof *s->sequences);
    if (what->n_stop > 0)
        at_stream_upload(stream, s->device.stop, what->stop, what->n_stop * sizeof *what->stop);
    while (r.n_left > 0)
        TRY(pass(&r));
done:
    if (st != AT_OK)
        s->cached.n = 0;
    at_free(&r.ids);
    at_free(&r.logps);
    return st;
}

AT_CHECKED at_sampler_read_logits(struct at_sampler *s, struct at_stream *stream, float *logits)
{
    AT_REQUIRE(s->params.n_sequences == 1);
    at_stream_download(stream, logits, s->logits.view, s->logits.dim[1] * sizeof *logits);
    return at_stream_wait(stream);
}
