#include "dataset.h"

#include "forms.h"
#include "reader.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Lines of a batch are one thread's; a wave of batches is read before its rows are copied. */
enum { BATCH_LINES = 32, WAVE_BATCHES = 128, MAX_REPORTED = 20, BLOCK_ROWS = 4096 };

enum outcome { KEPT, CUT, DROPPED_LONG, SKIPPED, WRONG };

struct result {
    enum outcome outcome;
    uint32_t line, half;
    bool moved, doubtful, chat, of_pair;
    const struct at_form *form;
    struct at_row row;
    const char *message; /* of SKIPPED and WRONG */
};
/* What a thread works with. Results lie in its arena until they are copied. */
struct batch {
    const struct at_dataset_params *params;
    const char *eos;
    struct at_line lines[BATCH_LINES];
    struct result results[2 * BATCH_LINES]; /* (n_results) */
    size_t n, n_results;
    struct at_arena arena;
    struct at_record record;
    struct at_rendering rendering;
    bool chat; /* a row was a conversation */
    enum at_status st;
    char failure[1024]; /* at_message() of a status that ends the reading */
};
/* Rows of one kind, for a warning: how many on how many lines, and the first of these as text. */
struct tally {
    uint32_t n, n_lines, last;
    struct at_buf numbers;
};
struct loader {
    struct at_dataset *out;
    const struct at_dataset_params *params;
    char *eos;
    struct batch *batches;  /* (WAVE_BATCHES) */
    struct at_row **blocks; /* (n_blocks) of BLOCK_ROWS of the out->n_rows rows */
    size_t n_blocks;
    struct at_arena kept;                /* of the blocks */
    struct tally cut, dropped, doubtful; /* of the file that is read */
    const char *path;                    /* the first one's */
    bool may_be_empty;
    uint32_t file; /* that is read */
    uint32_t n_lines, n_wrong, n_skipped;
    char *reported[MAX_REPORTED]; /* messages of the first of them; in `scratch` */
    struct at_arena scratch;
};

/* ---- a line ---- */

static AT_CHECKED set_message(struct batch *b, struct result *out, enum outcome outcome)
{
    enum at_status st = AT_OK;
    char *copy = NULL;

    TRY(at_arena_strdup(&b->arena, &copy, at_message()));
    out->outcome = outcome;
    out->message = copy;
done:
    return st;
}

static uint32_t count_ones(const char *flags, uint32_t n)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < n; i++)
        count += flags[i] != 0;
    return count;
}

/* What TRL pads with; -1: nothing. */
static int32_t pad_id(const struct at_dataset_params *p)
{
    const int32_t pad = at_tokenizer_pad(p->tokenizer);

    if (pad >= 0)
        return pad;
    return p->eos ? at_tokenizer_find(p->tokenizer, p->eos) : at_tokenizer_eos(p->tokenizer);
}

/* The only target of a side whose last hidden state is read; none where it is all padding. */
static void mark_last(struct at_segment *s, uint8_t *targets, const int32_t *ids,
                      const struct at_dataset_params *p)
{
    const int32_t pad = p->skips_pad ? pad_id(p) : -1;
    uint32_t n = s->n;

    while (n > 0 && ids[n - 1] == pad)
        n--;
    memset(targets, 0, s->n * sizeof *targets);
    s->n_targets = n > 0;
    if (n > 0)
        targets[n - 1] = 1;
}

/* The row of the rendering, each side cut to `limit` ids. */
static AT_CHECKED make_row(struct batch *b, struct result *out, uint32_t limit)
{
    enum at_status st = AT_OK;
    const struct at_rendering *r = &b->rendering;
    struct at_row *row = &out->row;
    int32_t *ids = NULL;
    uint8_t *targets = NULL;
    const uint32_t n_prefix = r->n_prefix < limit ? r->n_prefix : limit;

    *row = (struct at_row){ .kind = b->params->kind,
                            .desirable = b->record.desirable,
                            .rejected = out->half == 1,
                            .line = out->line,
                            .n_prefix = n_prefix,
                            .n_prompt = r->n_prompt < limit ? r->n_prompt : limit,
                            .n_segments = b->record.n_sides,
                            .prompt_targets = b->params->prompt_targets,
                            .first_counts = r->first_counts,
                            .reads_last = b->params->reads_last,
                            .margin = b->record.margin,
                            .prompt_hash = b->record.prompt_hash };
    TRY(at_arena_alloc(&b->arena, &ids, n_prefix, sizeof *ids));
    if (n_prefix > 0)
        memcpy(ids, r->side[0].data, n_prefix * sizeof *ids);
    row->prefix = ids;
    for (uint32_t k = 0; k < row->n_segments; k++) {
        struct at_segment *s = &row->segment[k];
        s->n = (uint32_t)(r->side[k].n < limit ? r->side[k].n : limit) - n_prefix;
        s->n_uncut = row->kind == AT_ROWS_LABELLED ? (uint32_t)r->side[k].n - n_prefix : s->n;
        TRY(at_arena_alloc(&b->arena, &ids, s->n_uncut, sizeof *ids));
        TRY(at_arena_alloc(&b->arena, &targets, s->n_uncut, sizeof *targets));
        if (s->n_uncut > 0) {
            memcpy(ids, r->side[k].data + n_prefix, s->n_uncut * sizeof *ids);
            memcpy(targets, r->mask[k].data + n_prefix, s->n_uncut);
            s->n_targets = count_ones(r->mask[k].data + n_prefix, s->n);
        }
        if (row->reads_last)
            mark_last(s, targets, ids, b->params);
        s->ids = ids;
        s->targets = targets;
    }
done:
    return st;
}

static bool sides_are_equal(const struct at_row *row)
{
    const struct at_segment *a = &row->segment[0], *b = &row->segment[1];

    return row->n_segments > 1 && a->n == b->n &&
           (a->n == 0 || memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0);
}

static bool lacks_targets(const struct at_row *row)
{
    for (uint32_t k = 0; k < row->n_segments; k++)
        if (row->segment[k].n_targets == 0)
            return true;
    return false;
}

/* A well-formed row that teaches nothing, or the wrong thing. */
static AT_CHECKED refuse_row(struct batch *b, const struct at_line *line, struct result *out,
                             const char *why)
{
    const bool skip = b->params->on_bad == AT_BAD_SKIP;

    (void)at_line_fail(line, NULL, "%s%s", why,
                       skip ? "" : "; correct it or set on_bad_row to skip");
    return set_message(b, out, skip ? SKIPPED : WRONG);
}

static AT_CHECKED judge_row(struct batch *b, const struct at_line *line, struct result *out)
{
    const bool no_targets =
        lacks_targets(&out->row) && !(out->outcome == CUT && b->params->keeps_cut);
    const char *why = b->record.doubt;

    if (no_targets && !why[0])
        why = "no token of the row is trained on";
    if (!why[0] && sides_are_equal(&out->row))
        why = out->outcome == CUT ? "chosen and rejected are the same once they are cut"
                                  : "chosen and rejected are the same";
    out->doubtful = why[0] != 0;
    if (out->doubtful && (no_targets || b->params->on_bad != AT_BAD_KEEP))
        return refuse_row(b, line, out, why);
    return AT_OK;
}

static AT_CHECKED finish_row(struct batch *b, const struct at_line *line, struct result *out)
{
    enum at_status st = AT_OK;
    const struct at_dataset_params *p = b->params;
    uint32_t limit = p->max_length > 0 ? p->max_length : UINT32_MAX;
    size_t longest = 0;

    for (uint32_t k = 0; k < b->record.n_sides; k++)
        longest = b->rendering.side[k].n > longest ? b->rendering.side[k].n : longest;
    out->moved = b->rendering.moved;
    out->chat = b->record.chat;
    out->of_pair = b->record.of_pair;
    out->form = b->record.form;
    out->outcome = KEPT;
    if (longest > limit && p->on_long == AT_LONG_DROP) {
        out->outcome = DROPPED_LONG;
        goto done;
    }
    if (longest > limit && p->on_long == AT_LONG_ERROR) {
        (void)at_line_fail(line, NULL,
                           "the row has %zu tokens, max_length is %u; raise it or set on_long_row "
                           "to cut or drop",
                           longest, limit);
        TRY(set_message(b, out, WRONG));
        goto done;
    }
    if (longest > limit)
        out->outcome = CUT;
    TRY(make_row(b, out, limit));
    if (out->outcome == CUT && !p->keeps_cut && lacks_targets(&out->row))
        out->outcome = DROPPED_LONG; /* the prompt alone is that long */
    else
        TRY(judge_row(b, line, out));
done:
    return st;
}

static bool lacks_template(const struct batch *b)
{
    return b->record.chat && !b->params->chat;
}

/* AT_DATA: the line is wrong, and says so; others are failures of the whole. */
static AT_CHECKED take_line(struct batch *b, const struct at_line *line, struct result *out)
{
    enum at_status st = AT_OK;

    if (line->n > INT32_MAX)
        return at_line_fail(line, NULL, "the line has %zu bytes; no row is that long", line->n);
    TRY(at_record_read(&b->record, line, b->params, b->eos, out->half));
    if (lacks_template(b))
        return at_line_fail(line, NULL,
                            "the row is a conversation, but %s; name one with "
                            "chat_template_path",
                            b->params->chat_problem ? b->params->chat_problem
                                                    : "the model has no chat template");
    if (b->record.doubt[0] && b->params->on_bad != AT_BAD_KEEP)
        return refuse_row(b, line, out, b->record.doubt);
    b->chat |= b->record.chat;
    st = at_record_render(&b->rendering, &b->record, b->params);
    if (st == AT_DATA)
        at_context("%s:%u", line->path, line->number);
    if (st == AT_OK)
        TRY(finish_row(b, line, out));
done:
    return st;
}

static void work(void *context, size_t index)
{
    enum at_status st = AT_OK;
    struct batch *b = (struct batch *)context + index;

    b->n_results = 0;
    for (size_t i = 0; i < b->n; i++) {
        b->record.n_halves = 1;
        for (uint32_t half = 0; half < b->record.n_halves; half++) {
            struct result *out = &b->results[b->n_results++];
            *out = (struct result){ .line = b->lines[i].number, .half = half };
            st = take_line(b, &b->lines[i], out);
            if (st == AT_DATA && !lacks_template(b))
                TRY(set_message(b, out, WRONG));
            else
                TRY(st);
            if (out->outcome == WRONG) /* said once */
                break;
        }
    }
done:
    b->st = st;
    if (st != AT_OK)
        snprintf(b->failure, sizeof b->failure, "%s", at_message());
}

/* ---- a wave of lines ---- */

/* Whether the sides of a pair have other rotary angles. */
static bool is_apart(const struct loader *l, const struct at_row *row)
{
    const uint32_t from = l->params->long_from, n = row->n_prefix;
    bool apart = false;

    for (uint32_t k = 1; from > 0 && n > 0 && k < row->n_segments; k++) {
        const uint32_t a = n + row->segment[0].n, b = n + row->segment[k].n;
        apart = apart || (a > from) != (b > from) || (l->params->long_each && a > from && a != b);
    }
    return apart;
}

/* Repeats the prefix at the head of each segment. */
static AT_CHECKED take_apart(struct loader *l, struct at_row *row)
{
    enum at_status st = AT_OK;

    if (row->prompt_targets)
        FAIL(AT_DATA,
             "line %u: sides of more than %u tokens have other rotary angles than shorter ones: "
             "those "
             "of this pair differ, and a loss that reads the prompt needs one prompt for both; set "
             "max_length "
             "to %u",
             row->line, l->params->long_from, l->params->long_from);
    for (uint32_t k = 0; k < row->n_segments; k++) {
        struct at_segment *s = &row->segment[k];
        int32_t *ids = NULL;
        uint8_t *targets = NULL;
        TRY(at_arena_alloc(&l->out->arena, &ids, row->n_prefix + s->n, sizeof *ids));
        TRY(at_arena_alloc(&l->out->arena, &targets, row->n_prefix + s->n, sizeof *targets));
        memcpy(ids, row->prefix, row->n_prefix * sizeof *ids);
        memcpy(ids + row->n_prefix, s->ids, s->n * sizeof *ids);
        memcpy(targets + row->n_prefix, s->targets, s->n);
        s->ids = ids;
        s->targets = targets;
        s->n += row->n_prefix;
        s->n_uncut = s->n;
    }
    row->n_prefix = 0;
    l->out->n_apart++;
done:
    return st;
}

/* Rows move from a batch's arena to the data set's: all ids, then all flags. */
static AT_CHECKED keep_row(struct loader *l, const struct result *result)
{
    enum at_status st = AT_OK;
    struct at_row row = result->row;
    int32_t *ids = NULL;
    uint8_t *targets = NULL;
    size_t n = 0;

    AT_REQUIRE(row.n_segments <= AT_MAX_SIDES);
    if (l->out->n_rows == l->n_blocks * BLOCK_ROWS) {
        TRY(at_realloc(&l->blocks, l->n_blocks, l->n_blocks + 1, sizeof *l->blocks));
        TRY(at_arena_alloc(&l->kept, &l->blocks[l->n_blocks], BLOCK_ROWS, sizeof row));
        l->n_blocks++;
    }
    for (uint32_t k = 0; k < row.n_segments; k++)
        n += row.segment[k].n_uncut;
    TRY(at_arena_alloc(&l->out->arena, &ids, row.n_prefix + n, sizeof *ids));
    TRY(at_arena_alloc(&l->out->arena, &targets, n, sizeof *targets));
    if (row.n_prefix > 0)
        memcpy(ids, row.prefix, row.n_prefix * sizeof *ids);
    row.prefix = ids;
    ids += row.n_prefix;
    for (uint32_t k = 0; k < row.n_segments; k++) {
        struct at_segment *s = &row.segment[k];
        if (s->n_uncut > 0) {
            memcpy(ids, s->ids, s->n_uncut * sizeof *ids);
            memcpy(targets, s->targets, s->n_uncut);
        }
        s->ids = ids;
        s->targets = targets;
        ids += s->n_uncut;
        targets += s->n_uncut;
    }
    if (l->out->n_rows == 0 && result->form)
        l->out->form = result->form->name;
    if (is_apart(l, &row))
        TRY(take_apart(l, &row));
    else
        l->out->n_unshared += row.n_segments > 1 && row.n_prefix == 0;
    row.index = l->n_lines; /* until put_in_order() */
    row.file = l->file;
    l->blocks[l->out->n_rows / BLOCK_ROWS][l->out->n_rows % BLOCK_ROWS] = row;
    l->out->n_rows++;
    l->out->n_boundary_moved += result->moved;
    l->out->n_chats += result->chat;
    l->out->n_of_pairs += result->of_pair;
    l->out->n_prompted += row.n_prompt > 0;
done:
    return st;
}

static void count_line(struct tally *tally, uint32_t line)
{
    tally->n++;
    if (line == tally->last)
        return; /* the other half of a pair */
    tally->last = line;
    if (tally->n_lines < MAX_REPORTED)
        at_buf_printf(&tally->numbers, "%s%u", tally->n_lines ? ", " : "", line);
    tally->n_lines++;
}

static AT_CHECKED report(struct loader *l, const char *message)
{
    enum at_status st = AT_OK;
    const uint32_t n = l->n_wrong + l->n_skipped;

    if (n < MAX_REPORTED)
        TRY(at_arena_strdup(&l->scratch, &l->reported[n], message));
done:
    return st;
}

static AT_CHECKED take_result(struct loader *l, const struct result *r)
{
    enum at_status st = AT_OK;

    if (l->out->n_read == UINT32_MAX)
        FAIL(AT_DATA, "more than %u rows; train on a part of them", UINT32_MAX);
    l->out->n_read++;
    l->n_lines += r->half == 0;
    switch (r->outcome) {
    case CUT:
        count_line(&l->cut, r->line);
        l->out->n_cut++;
        /* fall through */
    case KEPT:
        if (r->doubtful)
            count_line(&l->doubtful, r->line);
        if (l->n_wrong == 0) /* otherwise nothing is trained on */
            TRY(keep_row(l, r));
        break;
    case DROPPED_LONG:
        count_line(&l->dropped, r->line);
        l->out->n_dropped++;
        break;
    case SKIPPED:
        TRY(report(l, r->message));
        l->n_skipped++;
        l->out->n_dropped++;
        break;
    case WRONG:
        TRY(report(l, r->message));
        l->n_wrong++;
        break;
    }
done:
    return st;
}

static AT_CHECKED read_wave(struct loader *l, size_t n_batches)
{
    enum at_status st = AT_OK;

    at_parallel_for(n_batches, work, l->batches);
    for (size_t i = 0; i < n_batches; i++) {
        struct batch *b = &l->batches[i];
        if (b->st != AT_OK)
            FAIL(b->st, "%s", b->failure);
        for (size_t k = 0; k < b->n_results; k++)
            TRY(take_result(l, &b->results[k]));
    }
done:
    for (size_t i = 0; i < n_batches; i++) {
        at_arena_release(&l->batches[i].arena);
        l->batches[i].n = 0;
    }
    at_arena_drop(&l->out->arena);
    at_arena_drop(&l->kept);
    return st;
}

/* ---- a file ---- */

static AT_CHECKED warn_tally(struct tally *tally, const char *kind, const char *path,
                             const char *what)
{
    enum at_status st = AT_OK;
    char more[32] = "";

    TRY(at_buf_status(&tally->numbers));
    if (tally->n_lines > MAX_REPORTED)
        snprintf(more, sizeof more, " and %u more", tally->n_lines - MAX_REPORTED);
    if (tally->n > 0)
        at_warn(kind, "%s: %u %s (line%s %s%s)", path, tally->n, what,
                tally->n_lines > 1 ? "s" : "", tally->numbers.data, more);
    at_buf_clear(&tally->numbers);
    tally->n = tally->n_lines = tally->last = 0;
done:
    return st;
}

static AT_CHECKED warn_file(struct loader *l, const char *path)
{
    enum at_status st = AT_OK;
    char what[96];

    snprintf(what, sizeof what, "rows were cut to %u tokens", l->params->max_length);
    TRY(warn_tally(&l->cut, "cut_row", path, what));
    snprintf(what, sizeof what, "rows were dropped: %s of %u tokens",
             l->params->on_long == AT_LONG_CUT ? "their prompt alone fills max_length"
                                               : "they are longer than max_length",
             l->params->max_length);
    TRY(warn_tally(&l->dropped, "dropped_row", path, what));
    TRY(warn_tally(&l->doubtful, "kept_row", path,
                   "rows are kept though they teach nothing or the wrong thing"));
done:
    return st;
}

static AT_CHECKED read_lines(struct loader *l, struct at_lines *lines)
{
    enum at_status st = AT_OK;
    bool found = true;
    size_t used = 0;

    while (found) {
        struct batch *b = &l->batches[used];
        TRY(at_lines_next(lines, &b->lines[b->n], &found));
        b->n += found;
        used += b->n == BATCH_LINES;
        if (used == WAVE_BATCHES) {
            TRY(read_wave(l, used));
            used = 0;
        }
    }
    TRY(read_wave(l, used < WAVE_BATCHES && l->batches[used].n > 0 ? used + 1 : used));
    TRY(warn_file(l, lines->path));
done:
    return st;
}

static AT_CHECKED read_file(struct loader *l, const char *path)
{
    enum at_status st = AT_OK;
    struct at_lines lines;

    TRY(at_lines_open(&lines, path));
    TRY(read_lines(l, &lines));
done:
    at_lines_close(&lines);
    return st;
}

/* ---- the data set ---- */

/* What a template does to every conversation; said once, not for each data set of a run. */
static void warn_template(const struct loader *l)
{
    const struct at_chat *chat = l->params->chat;
    bool used = false;

    for (size_t i = 0; i < WAVE_BATCHES; i++)
        used |= l->batches[i].chat;
    if (used && at_chat_ends_no_turn(chat) && at_warn_count("no_end_of_turn") == 0)
        at_warn("no_end_of_turn", "the chat template writes nothing behind a message of the "
                                  "assistant: the model does not learn to end its replies");
    if (used && at_chat_writes_date(chat) && at_warn_count("template_date") == 0)
        at_warn("template_date", "the chat template may write today's date: another day's rows "
                                 "differ, and a run does not go on from its checkpoint");
}

/* One wrong line is the error; of several each is a warning first. */
static AT_CHECKED judge_file(const struct loader *l)
{
    enum at_status st = AT_OK;
    const uint32_t n = l->n_wrong + l->n_skipped;
    const struct at_dataset *out = l->out;

    if (l->n_wrong == 1 && n == 1)
        FAIL(AT_DATA, "%s", l->reported[0]);
    for (uint32_t i = 0; i < n && i < MAX_REPORTED; i++)
        at_warn("bad_row", "%s", l->reported[i]);
    if (n > MAX_REPORTED)
        at_warn("bad_row", "and %u more bad rows", n - MAX_REPORTED);
    if (l->n_wrong > 0)
        FAIL(AT_DATA, "%u of %u rows cannot be used (%snamed above); correct them", l->n_wrong,
             out->n_read, n > MAX_REPORTED ? "the first are " : "");
    if (out->n_read == 0)
        FAIL(AT_DATA, "%s: the data set has no rows; one JSON object a line is expected", l->path);
    if (out->n_rows == 0 && !l->may_be_empty)
        FAIL(AT_DATA, "%s: no row is left: all %u were dropped", l->path, out->n_read);
done:
    return st;
}

/* Lines of a thousand together, their first halves before their second ones. */
static int compare_rows(const void *left, const void *right)
{
    enum { BLOCK = 1000 };
    const struct at_row *a = left, *b = right;
    const uint32_t block_a = (a->index - 1) / BLOCK, block_b = (b->index - 1) / BLOCK;

    if (block_a != block_b)
        return block_a < block_b ? -1 : 1;
    if (a->rejected != b->rejected)
        return a->rejected ? 1 : -1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static int compare_lines(const void *left, const void *right)
{
    const struct at_row *a = left, *b = right;

    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    return (int)a->rejected - (int)b->rejected;
}

/* Rows mostly are in order; sorting takes as much memory again. */
static void put_in_order(struct at_dataset *d, int (*compare)(const void *, const void *))
{
    bool in_order = true;

    for (uint32_t i = 1; in_order && i < d->n_rows; i++)
        in_order = compare(&d->rows[i - 1], &d->rows[i]) <= 0;
    if (!in_order)
        qsort(d->rows, d->n_rows, sizeof *d->rows, compare);
    for (uint32_t i = 0; i < d->n_rows; i++) {
        d->rows[i].index = i;
        at_arena_passed(&d->arena, i);
    }
}

void at_dataset_order_by_line(struct at_dataset *d)
{
    put_in_order(d, compare_lines);
}

static void release(struct loader *l)
{
    for (size_t i = 0; l->batches && i < WAVE_BATCHES; i++) {
        at_record_release(&l->batches[i].record);
        at_rendering_release(&l->batches[i].rendering);
        at_arena_release(&l->batches[i].arena);
    }
    at_free(&l->batches);
    at_free(&l->blocks);
    at_arena_release(&l->kept);
    at_buf_release(&l->cut.numbers);
    at_buf_release(&l->dropped.numbers);
    at_buf_release(&l->doubtful.numbers);
    at_arena_release(&l->scratch);
}

static AT_CHECKED begin(struct loader *l)
{
    enum at_status st = AT_OK;

    *l->out = (struct at_dataset){ .arena.spills = true };
    l->kept.spills = true;
    TRY(at_eos_text(&l->eos, &l->scratch, l->params->tokenizer, l->params->eos));
    TRY(at_alloc(&l->batches, WAVE_BATCHES, sizeof *l->batches));
    for (size_t i = 0; i < WAVE_BATCHES; i++) {
        l->batches[i].params = l->params;
        l->batches[i].eos = l->eos;
    }
done:
    return st;
}

static AT_CHECKED finish(struct loader *l)
{
    enum at_status st = AT_OK;
    struct at_dataset *out = l->out;

    TRY(judge_file(l));
    warn_template(l);
    TRY(at_arena_alloc(&out->arena, &out->rows, out->n_rows, sizeof *out->rows));
    for (uint32_t i = 0; i < out->n_rows; i++) {
        out->rows[i] = l->blocks[i / BLOCK_ROWS][i % BLOCK_ROWS];
        at_arena_passed(&out->arena, i);
        at_arena_passed(&l->kept, i);
    }
    at_arena_release(&l->kept);
    put_in_order(out, compare_rows);
    at_dataset_digest(out);
done:
    return st;
}

AT_CHECKED at_dataset_load(struct at_dataset *out, const char *const *paths, size_t n_paths,
                           const struct at_dataset_params *params)
{
    enum at_status st = AT_OK;
    struct loader l = { .out = out, .params = params, .path = n_paths > 0 ? paths[0] : "" };

    TRY(begin(&l));
    for (; l.file < n_paths; l.file++)
        TRY(read_file(&l, paths[l.file]));
    TRY(finish(&l));
done:
    release(&l);
    if (st != AT_OK)
        at_dataset_release(out);
    return st;
}

AT_CHECKED at_dataset_parse(struct at_dataset *out, const char *name, const char *text, size_t n,
                            const struct at_dataset_params *params)
{
    enum at_status st = AT_OK;
    struct loader l = { .out = out, .params = params, .path = name, .may_be_empty = true };
    struct at_lines lines;

    TRY(begin(&l));
    at_lines_of_text(&lines, name, text, n);
    TRY(read_lines(&l, &lines));
    TRY(finish(&l));
done:
    release(&l);
    if (st != AT_OK)
        at_dataset_release(out);
    return st;
}

void at_dataset_drop(const struct at_dataset *d)
{
    at_arena_drop(&d->arena);
    if (d->all)
        at_arena_drop(&d->all->arena);
}

void at_dataset_passed(const struct at_dataset *d, uint32_t i)
{
    at_arena_passed(&d->arena, i);
    if (d->all)
        at_arena_passed(&d->all->arena, i);
}

void at_dataset_release(struct at_dataset *dataset)
{
    at_arena_release(&dataset->arena);
    *dataset = (struct at_dataset){ .n_rows = 0 };
}
