#include "stats.h"

#include "lint_parts.h"
#include "prompt_rows.h"

#include <stdlib.h>
#include <string.h>

struct lengths {
    uint32_t *values;
    size_t n, capacity;
};
struct counting {
    const struct at_stats_params *params;
    struct at_stats *out;
    char *eos;
    struct lengths words[AT_PARTS], tokens[AT_PARTS];
    struct at_row_id *groups;
    size_t n_groups, capacity;
    struct at_record record;
    struct at_rendering rendering;
    struct at_arena arena;
};

static AT_CHECKED add(struct lengths *to, uint32_t value)
{
    enum at_status st = AT_OK;

    if (to->n == to->capacity) {
        const size_t capacity = to->capacity ? 2 * to->capacity : 256;
        TRY(at_realloc(&to->values, to->capacity, capacity, sizeof *to->values));
        to->capacity = capacity;
    }
    to->values[to->n++] = value;
done:
    return st;
}

static int compare_lengths(const void *left, const void *right)
{
    const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

    return a < b ? -1 : a > b;
}

static struct at_spread spread_of(struct lengths *of)
{
    struct at_spread s = { .n = (uint32_t)of->n };

    if (of->n == 0)
        return s;
    qsort(of->values, of->n, sizeof *of->values, compare_lengths);
    for (size_t i = 0; i < of->n; i++)
        s.mean += of->values[i] / (double)of->n;
    s.least = of->values[0];
    s.median = of->values[(of->n - 1) / 2];
    s.p90 = of->values[(9 * of->n + 9) / 10 - 1];
    s.most = of->values[of->n - 1];
    return s;
}

/* ---- a row ---- */

/* Words of messages [begin, end), or of bytes. */
static uint32_t words_in(const struct at_record *r, size_t k, size_t begin, size_t end)
{
    const struct at_record_side *s = &r->side[k];
    uint32_t n = 0;

    if (!r->chat)
        return at_count_words(s->text.data + begin, end - begin);
    for (size_t i = begin; i < end; i++)
        n += at_count_words(s->messages[i].content, strlen(s->messages[i].content));
    return n;
}

/* The part that side k is. */
static enum at_part part_of(const struct counting *c, enum at_row_kind kind, size_t k)
{
    return k == 1 || (kind == AT_ROWS_LABELLED && !c->record.desirable) ? AT_PART_REJECTED
                                                                        : AT_PART_CHOSEN;
}

static AT_CHECKED count_words(struct counting *c, enum at_row_kind kind)
{
    enum at_status st = AT_OK;
    const struct at_record *r = &c->record;
    uint32_t words[AT_MAX_SIDES] = { 0 };

    TRY(add(&c->words[AT_PART_PROMPT], words_in(r, 0, 0, at_record_n_prompt(r, 0))));
    for (size_t k = 0; k < r->n_sides && kind != AT_ROWS_SAMPLE; k++) {
        const struct at_record_side *s = &r->side[k];
        words[k] = words_in(r, k, at_record_n_prompt(r, k), r->chat ? s->n : s->text.n);
        TRY(add(&c->words[part_of(c, kind, k)], words[k]));
    }
    c->out->n_chosen_longer += r->n_sides == 2 && words[0] > words[1];
    c->out->n_same_words += r->n_sides == 2 && words[0] == words[1];
done:
    return st;
}

static AT_CHECKED count_prompt(struct counting *c, const struct at_line *line,
                               const struct at_dataset_params *read)
{
    enum at_status st = AT_OK;
    struct at_prompt_reader reader;

    TRY(at_prompt_reader_init(&reader, read));
    TRY(at_prompt_read(&reader, line, c->record.json));
    TRY(add(&c->tokens[AT_PART_PROMPT], (uint32_t)reader.ids.n));
done:
    at_prompt_reader_release(&reader);
    return st;
}

/* As the trainer sees the row, before anything is cut. */
static AT_CHECKED count_tokens(struct counting *c, const struct at_line *line,
                               const struct at_dataset_params *read)
{
    enum at_status st = AT_OK;
    const struct at_rendering *r = &c->rendering;
    uint32_t longest = 0;

    if (!read->tokenizer || (c->record.chat && !read->chat))
        goto done;
    if (read->kind == AT_ROWS_SAMPLE) {
        TRY(count_prompt(c, line, read));
        goto done;
    }
    TRY(at_record_read(&c->record, line, read, c->eos, 0));
    st = at_record_render(&c->rendering, &c->record, read);
    if (st == AT_DATA)
        at_context("%s:%u", line->path, line->number);
    TRY(st);
    TRY(add(&c->tokens[AT_PART_PROMPT], r->n_prompt));
    for (size_t k = 0; k < c->record.n_sides; k++) {
        const uint32_t n = (uint32_t)r->side[k].n;
        longest = n > longest ? n : longest;
        TRY(add(&c->tokens[part_of(c, read->kind, k)], n > r->n_prompt ? n - r->n_prompt : 0));
    }
    TRY(add(&c->tokens[AT_PART_ROW], longest));
done:
    return st;
}

static void count_messages(struct counting *c)
{
    const struct at_record_side *s = &c->record.side[0];
    uint32_t users = 0;
    bool system = false;

    for (size_t i = 0; c->record.chat && i < s->n; i++) {
        users += strcmp(s->messages[i].role, "user") == 0;
        system = system || strcmp(s->messages[i].role, "system") == 0;
    }
    c->out->n_chat += c->record.chat;
    c->out->n_turns += users > 1;
    c->out->n_system += system;
    c->out->n_synthetic += cJSON_IsTrue(at_json_find(c->record.json, "synthetic")) != 0;
    c->out->n_unreviewed += cJSON_IsFalse(at_json_find(c->record.json, "reviewed")) != 0;
}

static AT_CHECKED count_row(struct counting *c, const struct at_line *line)
{
    enum at_status st = AT_OK;
    struct at_dataset_params read = { .tokenizer = c->params->tokenizer,
                                      .chat = c->params->chat,
                                      .system_prompt = c->params->system_prompt };

    if (c->params->prompts)
        read.kind = AT_ROWS_SAMPLE;
    else
        TRY(at_line_kind(&read.kind, line));
    TRY(at_record_read(&c->record, line, &read, "", 0));
    c->out->n_rows++;
    c->out->n_pairs += read.kind == AT_ROWS_PAIR;
    c->out->n_labelled += read.kind == AT_ROWS_LABELLED;
    c->out->n_singles += read.kind == AT_ROWS_SFT;
    c->out->n_prompts += read.kind == AT_ROWS_SAMPLE;
    c->out->n_desirable += read.kind == AT_ROWS_LABELLED && c->record.desirable;
    count_messages(c);
    if (c->n_groups == c->capacity) {
        const size_t capacity = c->capacity ? 2 * c->capacity : 256;
        TRY(at_realloc(&c->groups, c->capacity, capacity, sizeof *c->groups));
        c->capacity = capacity;
    }
    c->groups[c->n_groups++] = c->record.prompt_hash;
    TRY(count_words(c, read.kind));
    TRY(count_tokens(c, line, &read));
done:
    return st;
}

/* ---- all of them ---- */

static int compare_groups(const void *left, const void *right)
{
    return memcmp(left, right, sizeof(struct at_row_id));
}

static AT_CHECKED count_file(struct counting *c, const char *path)
{
    enum at_status st = AT_OK;
    struct at_lines lines = { .path = NULL };
    struct at_line line;
    const uint32_t before = c->out->n_rows;
    bool found = true;

    TRY(at_lines_open(&lines, path));
    for (;;) {
        TRY(at_lines_next(&lines, &line, &found));
        if (!found)
            break;
        TRY(count_row(c, &line));
    }
    if (c->out->n_rows == before)
        FAIL(AT_DATA, "%s: the data set has no rows; one JSON object a line is expected", path);
done:
    at_lines_close(&lines);
    return st;
}

AT_CHECKED at_stats_read(struct at_stats *out, const struct at_stats_params *params)
{
    struct counting c = { .params = params, .out = out };
    enum at_status st = AT_OK;

    *out = (struct at_stats){ 0 };
    if (params->tokenizer)
        TRY(at_eos_text(&c.eos, &c.arena, params->tokenizer, params->eos));
    for (size_t i = 0; i < params->n_from; i++)
        TRY(count_file(&c, params->from[i]));
    if (c.n_groups > 0)
        qsort(c.groups, c.n_groups, sizeof *c.groups, compare_groups);
    for (size_t i = 0; i < c.n_groups; i++)
        out->n_groups += i == 0 || compare_groups(&c.groups[i], &c.groups[i - 1]) != 0;
    for (uint32_t k = 0; k < AT_PARTS; k++) {
        out->words[k] = spread_of(&c.words[k]);
        out->tokens[k] = spread_of(&c.tokens[k]);
    }
done:
    for (uint32_t k = 0; k < AT_PARTS; k++) {
        at_free(&c.words[k].values);
        at_free(&c.tokens[k].values);
    }
    at_free(&c.groups);
    at_record_release(&c.record);
    at_rendering_release(&c.rendering);
    at_arena_release(&c.arena);
    return st;
}
