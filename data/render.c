#include "reader.h"

#include <string.h>

/* Leading ids that two sequences share. */
static size_t common_prefix(const struct at_ids *a, const struct at_ids *b)
{
    size_t n = 0;

    while (n < a->n && n < b->n && a->data[n] == b->data[n])
        n++;
    return n;
}

static AT_CHECKED encode(struct at_ids *out, const struct at_dataset_params *p, const char *text,
                         size_t n, bool special)
{
    out->n = 0;
    return at_tokenizer_encode(p->tokenizer, out, text ? text : "", n, special);
}

static struct at_chat_request request_of(const struct at_record *r, size_t k, size_t n,
                                         bool generation)
{
    return (struct at_chat_request){ .messages = r->side[k].messages,
                                     .n = n,
                                     .add_generation_prompt = generation,
                                     .tools = r->tools,
                                     .variables = r->variables };
}

/* Renders messages to `text` and encodes them. Templates write special tokens themselves. */
static AT_CHECKED encode_chat(struct at_ids *out, struct at_buf *text,
                              const struct at_dataset_params *p,
                              const struct at_chat_request *request)
{
    enum at_status st = AT_OK;

    at_buf_clear(text);
    TRY(at_chat_render(p->chat, text, request));
    TRY(at_buf_status(text));
    TRY(encode(out, p, text->data, text->n, false));
done:
    return st;
}

static AT_CHECKED encode_side(struct at_rendering *out, const struct at_record *r, size_t k,
                              const struct at_dataset_params *p)
{
    enum at_status st = AT_OK;
    const struct at_record_side *s = &r->side[k];
    const struct at_ids *ids = &out->side[k];
    const int32_t bos = at_tokenizer_bos(p->tokenizer);
    struct at_chat_request request = request_of(r, k, s->n, false);

    if (k == 0 && p->assistant_only && r->chat && at_chat_marks_generation(p->chat))
        request.spans = &out->spans;
    out->spans.n = 0;
    if (r->chat)
        TRY(encode_chat(&out->side[k], &out->text, p, &request));
    else
        TRY(encode(&out->side[k], p, s->text.data, s->text.n, true));
    if (bos >= 0 && ids->n > 1 && ids->data[0] == bos && ids->data[1] == bos)
        FAIL(AT_DATA, "the row begins with two BOS tokens: the text has one of its own; remove it");
done:
    return st;
}

static AT_CHECKED encode_prompt(struct at_rendering *out, const struct at_record *r,
                                const struct at_dataset_params *p)
{
    const struct at_chat_request request = request_of(r, 0, r->n_prompt, true);

    if (r->chat)
        return encode_chat(&out->part, &out->part_text, p, &request);
    return encode(&out->part, p, r->side[0].text.data, r->n_prompt, true);
}

/* Bytes of the whole conversation, `out->text`, that its first n messages are (with the header of
 * the assistant's turn that follows); SIZE_MAX when they are written in another way there. */
static AT_CHECKED turn_bytes(size_t *bytes, struct at_rendering *out, const struct at_record *r,
                             const struct at_dataset_params *p, size_t n, bool generation)
{
    enum at_status st = AT_OK;
    const struct at_chat_request request = request_of(r, 0, n, generation);
    struct at_buf *part = &out->part_text;

    at_buf_clear(part);
    TRY(at_chat_render(p->chat, part, &request));
    TRY(at_buf_status(part));
    *bytes = part->n;
    if (part->n > out->text.n || (part->n > 0 && memcmp(out->text.data, part->data, part->n) != 0))
        *bytes = SIZE_MAX;
done:
    return st;
}

/* Behind the mark that ends the turn, and the line's end when the template writes one. */
static size_t end_of_turn(const struct at_rendering *out, const struct at_dataset_params *p,
                          size_t begin)
{
    const char *mark = at_chat_end_of_turn(p->chat);
    const char *end = mark ? strstr(out->text.data + begin, mark) : NULL;

    if (!end)
        return out->text.n;
    end += strlen(mark);
    return (size_t)(end - out->text.data) + (*end == '\n');
}

static AT_CHECKED ids_before(size_t *ids, struct at_rendering *out,
                             const struct at_dataset_params *p, size_t bytes)
{
    enum at_status st = AT_OK;

    TRY(encode(&out->part, p, out->text.data, bytes, false));
    *ids = common_prefix(&out->part, &out->side[0]);
done:
    return st;
}

/* Keeps the mask of bytes [begin, end) of the text; before them it is cleared from id *kept on. */
static AT_CHECKED keep_bytes(size_t *kept, struct at_rendering *out,
                             const struct at_dataset_params *p, size_t begin, size_t end)
{
    enum at_status st = AT_OK;

    TRY(ids_before(&begin, out, p, begin));
    TRY(ids_before(&end, out, p, end));
    if (begin > *kept)
        memset(out->mask[0].data + *kept, 0, begin - *kept);
    *kept = end > *kept ? end : *kept;
done:
    return st;
}

/* Clears the mask but for what the template says that the assistant writes. */
static AT_CHECKED keep_marked(struct at_rendering *out, const struct at_dataset_params *p)
{
    enum at_status st = AT_OK;
    size_t kept = 0;

    for (size_t i = 0; i < out->spans.n; i++)
        TRY(keep_bytes(&kept, out, p, out->spans.data[i].begin, out->spans.data[i].end));
    memset(out->mask[0].data + kept, 0, out->side[0].n - kept);
done:
    return st;
}

/* The same where it does not say: from behind the assistant's header to behind its turn. */
static AT_CHECKED keep_assistant(struct at_rendering *out, const struct at_record *r,
                                 const struct at_dataset_params *p)
{
    enum at_status st = AT_OK;
    const struct at_record_side *s = &r->side[0];
    size_t kept = 0, begin = 0, end = 0;

    for (size_t i = p->completion_only ? r->n_prompt : 0; i < s->n; i++) {
        if (strcmp(s->messages[i].role, "assistant") != 0)
            continue;
        TRY(turn_bytes(&begin, out, r, p, i, true));
        if (begin == SIZE_MAX)
            FAIL(AT_DATA,
                 "the chat template writes the messages before number %zu in another way when more "
                 "follow, so the assistant's tokens cannot be told; set assistant_only_loss to "
                 "false",
                 i + 1);
        TRY(turn_bytes(&end, out, r, p, i + 1, false));
        if (end == SIZE_MAX || end < begin) /* templates that drop thoughts of earlier turns */
            end = end_of_turn(out, p, begin);
        TRY(keep_bytes(&kept, out, p, begin, end));
    }
    memset(out->mask[0].data + kept, 0, out->side[0].n - kept);
done:
    return st;
}

AT_CHECKED at_record_render(struct at_rendering *out, const struct at_record *record,
                            const struct at_dataset_params *params)
{
    enum at_status st = AT_OK;
    const bool sft = params->kind == AT_ROWS_SFT;
    size_t n_prompt = 0;

    out->moved = false;
    for (size_t k = record->n_sides; k-- > 0;)
        TRY(encode_side(out, record, k, params)); /* side 0 last: its text is looked at again */
    if (record->has_prompt) {
        TRY(encode_prompt(out, record, params));
        n_prompt = out->part.n;
        for (size_t k = 0; k < record->n_sides; k++) {
            const size_t n = common_prefix(&out->part, &out->side[k]);
            n_prompt = n < n_prompt ? n : n_prompt;
        }
        out->moved = n_prompt < out->part.n;
    }
    out->n_prompt = (uint32_t)n_prompt;
    out->n_prefix = !sft || params->completion_only ? out->n_prompt : 0;
    for (size_t k = 0; k < record->n_sides; k++) {
        at_buf_clear(&out->mask[k]);
        for (size_t i = 0; i < out->side[k].n; i++)
            at_buf_put(&out->mask[k], i < out->n_prefix ? "" : "\1", 1);
        TRY(at_buf_status(&out->mask[k]));
    }
    if (sft && params->assistant_only && record->chat && out->side[0].n > 0)
        TRY(at_chat_marks_generation(params->chat) ? keep_marked(out, params)
                                                   : keep_assistant(out, record, params));
    out->first_counts = sft && out->side[0].n > 0 && out->mask[0].data[0];
    for (size_t k = 0; k < record->n_sides; k++)
        if (out->side[k].n > 0)
            out->mask[k].data[0] = 0; /* nothing predicts it */
done:
    return st;
}

void at_rendering_release(struct at_rendering *rendering)
{
    for (size_t k = 0; k < AT_MAX_SIDES; k++) {
        at_ids_release(&rendering->side[k]);
        at_buf_release(&rendering->mask[k]);
    }
    at_ids_release(&rendering->part);
    at_buf_release(&rendering->text);
    at_buf_release(&rendering->part_text);
    at_spans_release(&rendering->spans);
}

AT_CHECKED at_eos_text(char **out, struct at_arena *arena, const struct at_tokenizer *tokenizer,
                       const char *eos)
{
    enum at_status st = AT_OK;
    const int32_t id = at_tokenizer_eos(tokenizer);
    struct at_buf text = { 0 };

    if (eos) {
        if (at_tokenizer_find(tokenizer, eos) < 0)
            FAIL(AT_DATA, "eos_token \"%s\" is not a token of the model; name one that is", eos);
        at_buf_puts(&text, eos);
    } else if (id >= 0) {
        TRY(at_tokenizer_decode(tokenizer, &text, &id, 1, false));
    }
    TRY(at_buf_status(&text));
    TRY(at_arena_strdup(arena, out, text.data ? text.data : ""));
done:
    at_buf_release(&text);
    return st;
}
