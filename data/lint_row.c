#include "lint_parts.h"

#include "forms.h"
#include "hash.h"
#include "prompt_rows.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sides are near when this share of their words is common, in order. */
static const double near_sides = 0.8;

/* ---- findings ---- */

AT_CHECKED at_lint_push(struct at_lint_batch *b, const struct at_lint_finding *finding)
{
    enum at_status st = AT_OK;

    if (b->n_findings == b->capacity) {
        const size_t capacity = b->capacity ? 2 * b->capacity : 16;
        TRY(at_realloc(&b->findings, b->capacity, capacity, sizeof *b->findings));
        b->capacity = capacity;
    }
    b->findings[b->n_findings++] = *finding;
done:
    return st;
}

/* A finding of line i; `key` names its column. */
static AT_CHECKED AT_PRINTF(5, 6) find(struct at_lint_batch *b, size_t i, enum at_lint_check check,
                                       const char *key, const char *format, ...)
{
    enum at_status st = AT_OK;
    struct at_lint_finding finding = { .check = check,
                                       .file = b->files[i],
                                       .line = b->lines[i].number };
    char text[512], *copy = NULL;
    va_list args;

    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 forgets va_start() */
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    text[at_utf8_check(text, strlen(text))] = 0; /* cut within a character */
    TRY(at_arena_strdup(&b->arena, &copy, text));
    finding.text = copy;
    if (key)
        finding.column = (uint32_t)at_line_column(&b->lines[i], key);
    TRY(at_lint_push(b, &finding));
done:
    return st;
}

/* The thread's message, "path:line:column: text", as a finding. */
static AT_CHECKED find_broken(struct at_lint_batch *b, size_t i)
{
    const struct at_line *line = &b->lines[i];
    const char *text = at_message();
    const size_t n_path = strlen(line->path);
    unsigned long column = 0;
    enum at_status st = AT_OK;

    if (strncmp(text, line->path, n_path) == 0 && text[n_path] == ':') {
        char *end = NULL;
        (void)strtoul(text + n_path + 1, &end, 10);
        if (end[0] == ':' && end[1] != ' ')
            column = strtoul(end + 1, &end, 10);
        if (end[0] == ':' && end[1] == ' ')
            text = end + 2;
    }
    TRY(find(b, i, AT_LINT_BROKEN, NULL, "%s", text));
    b->findings[b->n_findings - 1].column = (uint32_t)column;
done:
    return st;
}

/* ---- the texts of a row ---- */

static struct at_row_id hash_text(const char *text, size_t n)
{
    const struct at_digest digest = at_hash_bytes(text, n);

    return (struct at_row_id){ { at_hex_word(digest.hex), at_hex_word(digest.hex + 16) } };
}

static void put_messages(struct at_buf *out, const struct at_record_side *side, size_t begin,
                         size_t end)
{
    for (size_t i = begin; i < end; i++)
        at_buf_printf(out, "%s%s", i > begin ? "\n" : "", side->messages[i].content);
}

/* Conversations without a prompt are divided at the last assistant's message. */
static AT_CHECKED take_texts(struct at_lint_batch *b)
{
    enum at_status st = AT_OK;
    const struct at_record *r = &b->record;
    size_t n = r->n_prompt;

    at_buf_clear(&b->prompt);
    at_buf_puts(&b->prompt, "");
    for (size_t k = 0; k < r->n_sides; k++) {
        const struct at_record_side *s = &r->side[k];
        at_buf_clear(&b->side[k]);
        at_buf_puts(&b->side[k], "");
        if (!r->chat) {
            if (k == 0)
                at_buf_put(&b->prompt, s->text.data, n);
            at_buf_put(&b->side[k], s->text.data + n, s->text.n - n);
            continue;
        }
        n = at_record_n_prompt(r, k);
        if (k == 0)
            put_messages(&b->prompt, s, 0, n);
        put_messages(&b->side[k], s, n, s->n);
        for (size_t i = n; k == 0 && i > 0; i--)
            if (strcmp(s->messages[i - 1].role, "user") == 0) {
                b->question = s->messages[i - 1].content;
                break;
            }
    }
    TRY(at_buf_status(&b->prompt));
    for (size_t k = 0; k < r->n_sides; k++)
        TRY(at_buf_status(&b->side[k]));
    if (!r->chat || !b->question)
        b->question = b->prompt.data;
done:
    return st;
}

static bool equal_but_for_blanks(const char *a, const char *b)
{
    static const char blanks[] = " \t\r\n";
    size_t n = 0, m = 0;

    a += strspn(a, blanks);
    b += strspn(b, blanks);
    n = strlen(a);
    m = strlen(b);
    while (n > 0 && strchr(blanks, a[n - 1]))
        n--;
    while (m > 0 && strchr(blanks, b[m - 1]))
        m--;
    return n == m && memcmp(a, b, n) == 0;
}

/* ---- a row by itself ---- */

/* What the method takes, or by its keys: a pair, a labelled row, or another. What is held out where
 * samples are drawn are no prompts. */
static AT_CHECKED kind_of(enum at_row_kind *out, const struct at_lint_params *p,
                          const struct at_line *line, bool held)
{
    *out = p->kind;
    return p->has_kind && !(held && p->kind == AT_ROWS_SAMPLE) ? AT_OK : at_line_kind(out, line);
}

/* As the trainer reads it, with the room that a sample needs. */
static AT_CHECKED check_prompt(struct at_lint_batch *b, size_t i,
                               const struct at_dataset_params *read)
{
    enum at_status st = AT_OK;
    const struct at_lint_params *p = b->params;
    struct at_prompt_reader reader;

    TRY(at_prompt_reader_init(&reader, read));
    st = at_prompt_read(&reader, &b->lines[i], b->record.json);
    if (st == AT_DATA) {
        TRY(find_broken(b, i));
        goto done;
    }
    TRY(st);
    if (p->max_length > 0 && reader.ids.n + p->n_new > p->max_length)
        TRY(find(b, i, AT_LINT_TOO_LONG, "prompt",
                 "%zu tokens, max_completion_length is %u, max_length %u", reader.ids.n, p->n_new,
                 p->max_length));
done:
    at_prompt_reader_release(&reader);
    return st;
}

/* Reads the line once more, as the trainer does: plain texts end with the end of sequence. */
static AT_CHECKED check_length(struct at_lint_batch *b, size_t i)
{
    enum at_status st = AT_OK;
    const struct at_lint_params *p = b->params;
    const struct at_dataset_params read = { .kind = b->rows[i].kind,
                                            .triples = p->triples,
                                            .tokenizer = p->tokenizer,
                                            .chat = p->chat,
                                            .system_prompt = p->system_prompt };
    size_t longest = 0;

    if (!p->tokenizer || (b->record.chat && !p->chat))
        goto done;
    if (read.kind == AT_ROWS_SAMPLE) {
        TRY(check_prompt(b, i, &read));
        goto done;
    }
    TRY(at_record_read(&b->record, &b->lines[i], &read, b->eos, 0));
    st = at_record_render(&b->rendering, &b->record, &read);
    if (st == AT_DATA) {
        TRY(find_broken(b, i));
        goto done;
    }
    TRY(st);
    for (uint32_t k = 0; k < b->record.n_sides; k++)
        longest = b->rendering.side[k].n > longest ? b->rendering.side[k].n : longest;
    if (p->max_length > 0 && longest > p->max_length)
        TRY(find(b, i, AT_LINT_TOO_LONG, NULL, "%zu tokens, max_length is %u", longest,
                 p->max_length));
done:
    return st;
}

/* What stands in one part of the row. */
static AT_CHECKED check_text(struct at_lint_batch *b, size_t i, const char *key, const char *text)
{
    enum at_status st = AT_OK;
    const char *family = NULL;
    const char *mark = b->record.chat ? at_lint_find_mark(text, &family) : NULL;
    const char *mojibake = at_lint_find_mojibake(text);
    const char *personal = at_lint_find_personal(text);

    if (mark)
        TRY(find(b, i, AT_LINT_MARKUP, key, "\"%s\" holds %s, which the chat template writes", key,
                 mark[0] == '\n' ? strrchr(mark, '\n') + 1 : mark));
    if (mojibake)
        TRY(find(b, i, AT_LINT_MOJIBAKE, key, "\"%s\" holds %s", key, mojibake));
    if (personal)
        TRY(find(b, i, AT_LINT_PERSONAL, key, "\"%s\" holds %s", key, personal));
done:
    return st;
}

/* A side against the prompt; where the prompt is too short to tell, against prompt and other side.
 */
static AT_CHECKED check_languages(struct at_lint_batch *b, size_t i)
{
    enum at_status st = AT_OK;
    const char *prompt = at_lint_language(b->words, b->question);
    struct at_buf rest = { 0 };

    for (size_t k = 0; k < b->record.n_sides; k++) {
        const char *side = at_lint_language(b->words, b->side[k].data), *other = prompt;
        if (!other && b->record.n_sides > 1) {
            at_buf_clear(&rest);
            at_buf_printf(&rest, "%s\n%s", b->question, b->side[k == 0].data);
            TRY(at_buf_status(&rest));
            other = at_lint_language(b->words, rest.data);
        }
        if (!side || !other || side == other || at_lint_names_language(b->prompt.data))
            continue;
        TRY(find(b, i, AT_LINT_LANGUAGE, b->keys[k], "\"%s\" is %s, the rest is %s", b->keys[k],
                 side, other));
        break;
    }
done:
    at_buf_release(&rest);
    return st;
}

static AT_CHECKED check_pair(struct at_lint_batch *b, size_t i)
{
    enum at_status st = AT_OK;
    double similarity = 0;

    if (equal_but_for_blanks(b->side[0].data, b->side[1].data)) {
        TRY(find(b, i, AT_LINT_IDENTICAL, "chosen", "chosen and rejected are the same"));
        goto done;
    }
    TRY(at_lint_similarity(&similarity, b->side[0].data, b->side[1].data, near_sides));
    if (similarity >= near_sides) {
        TRY(find(b, i, AT_LINT_DISPLACEMENT, "chosen", "the sides share %.0f %% of their words",
                 100 * similarity));
        b->findings[b->n_findings - 1].score = similarity;
    }
done:
    return st;
}

static AT_CHECKED check_texts(struct at_lint_batch *b, size_t i)
{
    enum at_status st = AT_OK;
    const struct at_record *r = &b->record;
    const bool wanted = b->rows[i].kind != AT_ROWS_LABELLED || r->desirable;
    const char *refusal = wanted ? at_lint_find_refusal(b->side[0].data) : NULL;

    if (b->prompt.n > 0)
        TRY(check_text(b, i, r->has_prompt ? "prompt" : b->keys[0], b->prompt.data));
    for (size_t k = 0; k < r->n_sides; k++)
        TRY(check_text(b, i, b->keys[k], b->side[k].data));
    TRY(check_languages(b, i));
    if (refusal)
        TRY(find(b, i, AT_LINT_REFUSAL, b->keys[0], "\"%s\" refuses: \"%s\"", b->keys[0], refusal));
    if (r->n_sides > 1)
        TRY(check_pair(b, i));
done:
    return st;
}

/* What the comparison with other rows needs. */
static AT_CHECKED keep_row(struct at_lint_batch *b, size_t i)
{
    enum at_status st = AT_OK;
    const struct at_record *r = &b->record;
    struct at_lint_kept *row = &b->rows[i];
    const char *texts[1 + AT_MAX_SIDES] = { b->question };
    size_t n = 1;

    row->is_row = true;
    row->desirable = r->desirable;
    row->synthetic = cJSON_IsTrue(at_json_find(r->json, "synthetic"));
    row->unreviewed = cJSON_IsFalse(at_json_find(r->json, "reviewed"));
    row->group = r->prompt_hash;
    row->prompt = hash_text(b->prompt.data, b->prompt.n);
    for (size_t k = 0; k < r->n_sides; k++) {
        row->side[k] = hash_text(b->side[k].data, b->side[k].n);
        row->words[k] = at_count_words(b->side[k].data, b->side[k].n);
        texts[n++] = b->side[k].data;
    }
    TRY(at_sketch_make(&row->whole, &b->arena, texts, n));
    if (b->params->n_held > 0 && (r->has_prompt || r->chat))
        TRY(at_sketch_make(&row->question, &b->arena, texts, 1));
done:
    return st;
}

static enum at_lint_check check_of_doubt(enum at_doubt doubt)
{
    return doubt == AT_DOUBT_EMPTY       ? AT_LINT_EMPTY
           : doubt == AT_DOUBT_IDENTICAL ? AT_LINT_IDENTICAL
                                         : AT_LINT_ROLES;
}

static AT_CHECKED take_line(struct at_lint_batch *b, size_t i)
{
    enum at_status st = AT_OK;
    struct at_record *r = &b->record;
    struct at_lint_kept *row = &b->rows[i];
    struct at_dataset_params read = { .system_prompt = b->params->system_prompt,
                                      .triples = b->params->triples };

    *row = (struct at_lint_kept){ .file = b->files[i],
                                  .line = b->lines[i].number,
                                  .held = b->files[i] >= b->params->n_train };
    b->question = NULL;
    if (b->lines[i].n > INT32_MAX)
        return find(b, i, AT_LINT_BROKEN, NULL, "the line has %zu bytes; no row is that long",
                    b->lines[i].n);
    st = kind_of(&row->kind, b->params, &b->lines[i], row->held);
    read.kind = row->kind;
    read.reads_last = row->kind == AT_ROWS_PAIR; /* margins are looked at */
    if (st == AT_OK)
        st = at_record_read(r, &b->lines[i], &read, "", 0);
    if (st == AT_DATA)
        return find_broken(b, i);
    TRY(st);
    b->keys[0] = r->n_sides > 1                        ? "chosen"
                 : row->kind == AT_ROWS_SAMPLE         ? "prompt"
                 : at_json_find(r->json, "completion") ? "completion"
                 : r->chat                             ? "messages"
                                                       : "text";
    b->keys[1] = "rejected";
    b->keys[2] = "reference";
    TRY(take_texts(b));
    if (r->doubted)
        TRY(find(b, i, check_of_doubt(r->doubted), r->doubt_key, "%s", r->doubt));
    if (r->doubted != AT_DOUBT_EMPTY)
        TRY(check_texts(b, i));
    TRY(keep_row(b, i));
    if (!r->doubted)
        TRY(check_length(b, i)); /* the texts are gone */
done:
    return st;
}

void at_lint_batch_run(void *context, size_t index)
{
    enum at_status st = AT_OK;
    struct at_lint_batch *b = (struct at_lint_batch *)context + index;
    struct at_lint_words words;

    at_lint_words_init(&words);
    b->words = &words;
    for (size_t i = 0; i < b->n; i++)
        TRY(take_line(b, i));
done:
    b->words = NULL;
    b->st = st;
    if (st != AT_OK)
        snprintf(b->failure, sizeof b->failure, "%s", at_message());
    at_record_release(&b->record);
    at_rendering_release(&b->rendering);
    at_buf_release(&b->prompt);
    for (size_t k = 0; k < AT_MAX_SIDES; k++)
        at_buf_release(&b->side[k]);
}

void at_lint_batch_release(struct at_lint_batch *b)
{
    at_free(&b->findings);
    at_arena_release(&b->arena);
}
