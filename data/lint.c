#include "lint.h"

#include "lint_parts.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rows are near when this share of their shingles is common. Length is a bias when it tells the
 * sides apart in this share of pairs. */
static const double near_rows = 0.8, biased = 0.75;
enum { FEW_PAIRS = 50, ENOUGH_FOR_BIAS = 20, RARE_LABEL = 4 };

static const struct at_lint_row checks[AT_LINT_CHECKS] = {
#define CHECK(id, level_of, name_of, what_of) \
    [AT_LINT_##id] = { .level = AT_LINT_##level_of, .name = (name_of), .what = (what_of) },
#include "lint.def"
#undef CHECK
};

const struct at_lint_row *at_lint_get(enum at_lint_check check)
{
    AT_REQUIRE((uint32_t)check < AT_LINT_CHECKS);
    return &checks[check];
}

const char *at_lint_level_name(enum at_lint_level level)
{
    static const char *const names[AT_LINT_LEVELS] = { "note", "warning", "error" };

    AT_REQUIRE((uint32_t)level < AT_LINT_LEVELS);
    return names[level];
}

/* ---- rows beside each other ---- */

struct lint {
    const struct at_lint_params *params;
    struct at_lint *out;
    char *eos;
    struct at_lines *files;
    struct at_lint_batch *batches;
    size_t n_batches, capacity;
    const struct at_lint_kept **rows; /* (n_rows) those that are read, in the order of the files */
    uint32_t n_rows;
    struct at_lint_batch whole; /* findings that need more than a row */
};

static AT_CHECKED AT_PRINTF(5, 6)
    find_like(struct lint *l, enum at_lint_check check, const struct at_lint_kept *row,
              const struct at_lint_kept *other, const char *format, ...)
{
    enum at_status st = AT_OK;
    struct at_lint_finding finding = { .check = check, .file = row->file, .line = row->line };
    char text[160], *copy = NULL;
    va_list args;

    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 forgets va_start() */
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (other->file == row->file)
        TRY(at_arena_printf(&l->whole.arena, &copy, "%s line %u", text, other->line));
    else
        TRY(at_arena_printf(&l->whole.arena, &copy, "%s %s:%u", text, l->files[other->file].path,
                            other->line));
    finding.text = copy;
    finding.other_file = other->file;
    finding.other = other->line;
    TRY(at_lint_push(&l->whole, &finding));
done:
    return st;
}

static bool same_id(const struct at_row_id *a, const struct at_row_id *b)
{
    return a->word[0] == b->word[0] && a->word[1] == b->word[1];
}

static int compare_ids(const struct at_row_id *a, const struct at_row_id *b)
{
    for (size_t i = 0; i < AT_COUNT(a->word); i++)
        if (a->word[i] != b->word[i])
            return a->word[i] < b->word[i] ? -1 : 1;
    return 0;
}

static int compare_file_lines(const struct at_lint_kept *a, const struct at_lint_kept *b)
{
    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    return a->line < b->line ? -1 : a->line > b->line;
}

/* Rows of one prompt and the same sides in any order stand together, in the order of the files. */
static int compare_contents(const void *left, const void *right)
{
    const struct at_lint_kept *a = *(const struct at_lint_kept *const *)left,
                              *b = *(const struct at_lint_kept *const *)right;
    const struct at_lint_kept *rows[2] = { a, b };
    const struct at_row_id *low[2], *high[2];
    int order = compare_ids(&a->prompt, &b->prompt);

    for (size_t i = 0; i < 2; i++) {
        const bool swapped = compare_ids(&rows[i]->side[0], &rows[i]->side[1]) > 0;
        low[i] = &rows[i]->side[swapped];
        high[i] = &rows[i]->side[!swapped];
    }
    if (order == 0)
        order = compare_ids(low[0], low[1]);
    if (order == 0)
        order = compare_ids(high[0], high[1]);
    return order != 0 ? order : compare_file_lines(a, b);
}

static bool same_contents(const struct at_lint_kept *a, const struct at_lint_kept *b)
{
    return same_id(&a->prompt, &b->prompt) &&
           ((same_id(&a->side[0], &b->side[0]) && same_id(&a->side[1], &b->side[1])) ||
            (same_id(&a->side[0], &b->side[1]) && same_id(&a->side[1], &b->side[0])));
}

/* Among rows with the same contents the first one is right; held-out copies are leakage. */
static AT_CHECKED find_same(struct lint *l)
{
    enum at_status st = AT_OK;
    const struct at_lint_kept **rows = NULL, *first = NULL;

    TRY(at_alloc(&rows, l->n_rows, sizeof *rows));
    memcpy(rows, l->rows, l->n_rows * sizeof *rows);
    qsort(rows, l->n_rows, sizeof *rows, compare_contents);
    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct at_lint_kept *row = rows[i];
        if (!first || !same_contents(first, row)) {
            first = row;
            continue;
        }
        if (row->kind == AT_ROWS_PAIR && first->kind == AT_ROWS_PAIR &&
            !same_id(&first->side[0], &row->side[0]))
            TRY(find_like(l, AT_LINT_REVERSED, row, first, "the other way round than"));
        else if (row->kind == AT_ROWS_LABELLED && first->kind == AT_ROWS_LABELLED &&
                 row->desirable != first->desirable)
            TRY(find_like(l, AT_LINT_CONTRADICTION, row, first, "labelled otherwise than"));
        else if (row->kind == first->kind && row->held == first->held)
            TRY(find_like(l, AT_LINT_DUPLICATE, row, first, "the same as"));
    }
done:
    at_free(&rows);
    return st;
}

static bool nearly_fits(const void *context, uint32_t a, uint32_t b)
{
    const struct lint *l = context;
    const struct at_lint_kept *left = l->rows[a], *right = l->rows[b];

    return left->kind == right->kind && left->held == right->held && !same_contents(left, right);
}

static bool leaks(const void *context, uint32_t a, uint32_t b)
{
    const struct lint *l = context;
    const struct at_lint_kept *left = l->rows[a], *right = l->rows[b];

    return !left->held && right->held && !same_id(&left->group, &right->group);
}

static AT_CHECKED find_near(struct lint *l)
{
    enum at_status st = AT_OK;
    const struct at_sketch **sketches = NULL;
    uint32_t *match = NULL;

    TRY(at_alloc(&sketches, l->n_rows, sizeof *sketches));
    TRY(at_alloc(&match, l->n_rows, sizeof *match));
    for (uint32_t i = 0; i < l->n_rows; i++)
        sketches[i] = &l->rows[i]->whole;
    TRY(at_sketch_match(match, sketches, l->n_rows, near_rows, nearly_fits, l));
    for (uint32_t i = 0; i < l->n_rows; i++)
        if (match[i] != UINT32_MAX) {
            TRY(find_like(l, AT_LINT_NEAR_DUPLICATE, l->rows[i], l->rows[match[i]],
                          "almost the same as"));
            l->whole.findings[l->whole.n_findings - 1].score =
                at_sketch_jaccard(&l->rows[i]->whole, &l->rows[match[i]]->whole);
        }
    if (l->params->n_held == 0)
        goto done;
    for (uint32_t i = 0; i < l->n_rows; i++)
        sketches[i] = l->rows[i]->question.hashes ? &l->rows[i]->question : NULL;
    TRY(at_sketch_match(match, sketches, l->n_rows, near_rows, leaks, l));
    for (uint32_t i = 0; i < l->n_rows; i++)
        if (match[i] != UINT32_MAX)
            TRY(find_like(l, AT_LINT_NEAR_LEAKAGE, l->rows[i], l->rows[match[i]],
                          "its prompt is almost that of"));
done:
    at_free(&sketches);
    at_free(&match);
    return st;
}

static int compare_groups(const void *left, const void *right)
{
    const struct at_lint_kept *a = *(const struct at_lint_kept *const *)left,
                              *b = *(const struct at_lint_kept *const *)right;
    const int order = compare_ids(&a->group, &b->group);

    return order != 0 ? order : compare_file_lines(a, b);
}

/* Files for training come first, so the first row of a group is trained on if any is. */
static AT_CHECKED find_leaks(struct lint *l)
{
    enum at_status st = AT_OK;
    const struct at_lint_kept **rows = NULL, *first = NULL;

    if (l->params->n_held == 0)
        goto done;
    TRY(at_alloc(&rows, l->n_rows, sizeof *rows));
    memcpy(rows, l->rows, l->n_rows * sizeof *rows);
    qsort(rows, l->n_rows, sizeof *rows, compare_groups);
    for (uint32_t i = 0; i < l->n_rows; i++) {
        if (!first || !same_id(&first->group, &rows[i]->group))
            first = rows[i];
        else if (rows[i]->held && !first->held)
            TRY(find_like(l, AT_LINT_LEAKAGE, rows[i], first, "its prompt is that of"));
    }
done:
    at_free(&rows);
    return st;
}

static AT_CHECKED find_mixed(struct lint *l)
{
    static const char *const forms[] = { [AT_ROWS_SFT] = "a row with one completion",
                                         [AT_ROWS_PAIR] = "a pair",
                                         [AT_ROWS_LABELLED] = "a labelled row" };
    enum at_status st = AT_OK;
    const struct at_lint_kept *first = NULL;

    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct at_lint_kept *row = l->rows[i];
        if (!first || first->file != row->file)
            first = row;
        else if (first->kind != row->kind)
            TRY(find_like(l, AT_LINT_MIXED, row, first, "%s, unlike", forms[row->kind]));
    }
done:
    return st;
}

/* ---- the whole ---- */

static AT_CHECKED AT_PRINTF(4, 5)
    note(struct lint *l, enum at_lint_check check, uint32_t count, const char *format, ...)
{
    enum at_status st = AT_OK;
    struct at_lint_finding finding = { .check = check };
    char text[240], *copy = NULL;
    va_list args;

    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 forgets va_start() */
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    TRY(at_arena_strdup(&l->whole.arena, &copy, text));
    finding.text = copy;
    TRY(at_lint_push(&l->whole, &finding));
    l->out->counts[check] = count;
done:
    return st;
}

static void count_rows(struct lint *l, uint32_t *n_synthetic, uint32_t *n_unreviewed)
{
    struct at_lint *out = l->out;
    double longer = 0, ratio = 0;
    uint32_t n = 0;

    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct at_lint_kept *r = l->rows[i];
        out->n_pairs += r->kind == AT_ROWS_PAIR;
        out->n_labelled += r->kind == AT_ROWS_LABELLED;
        out->n_singles += r->kind == AT_ROWS_SFT;
        out->n_prompts += r->kind == AT_ROWS_SAMPLE;
        out->n_desirable += r->kind == AT_ROWS_LABELLED && r->desirable;
        *n_synthetic += r->synthetic;
        *n_unreviewed += r->unreviewed;
        if (r->kind != AT_ROWS_PAIR || r->words[0] == 0 || r->words[1] == 0)
            continue;
        longer += r->words[0] > r->words[1] ? 1 : r->words[0] == r->words[1] ? 0.5 : 0;
        ratio += log((double)r->words[0] / r->words[1]);
        n++;
    }
    out->chosen_longer = n > 0 ? longer / n : 0;
    out->length_ratio = n > 0 ? exp(ratio / n) : 0;
}

static AT_CHECKED find_notes(struct lint *l)
{
    enum at_status st = AT_OK;
    const struct at_lint *out = l->out;
    uint32_t n_synthetic = 0, n_unreviewed = 0, rarer = 0;

    count_rows(l, &n_synthetic, &n_unreviewed);
    rarer = out->n_desirable < out->n_labelled - out->n_desirable
                ? out->n_desirable
                : out->n_labelled - out->n_desirable;
    if (out->n_pairs > 0 && out->n_pairs < FEW_PAIRS)
        TRY(note(l, AT_LINT_FEW, 1,
                 "%u pairs: with fewer than %d, a result can hardly be told from luck",
                 out->n_pairs, FEW_PAIRS));
    if (out->n_pairs >= ENOUGH_FOR_BIAS &&
        (out->chosen_longer >= biased || out->chosen_longer <= 1 - biased))
        TRY(note(l, AT_LINT_LENGTH_BIAS, 1,
                 "chosen is the longer side in %.0f %% of the pairs (words: %.2f times): a model "
                 "can win by length alone",
                 100 * out->chosen_longer, out->length_ratio));
    if (n_synthetic > 0)
        TRY(note(l, AT_LINT_SYNTHETIC, n_synthetic, "%u of %u rows are synthetic", n_synthetic,
                 l->n_rows));
    if (out->n_labelled > 0 && rarer * RARE_LABEL < out->n_labelled - rarer)
        TRY(note(l, AT_LINT_UNBALANCED, 1,
                 "%u rows are desirable and %u are not: weigh them (desirable_weight, "
                 "undesirable_weight)",
                 out->n_desirable, out->n_labelled - out->n_desirable));
    if (n_unreviewed > 0)
        TRY(note(l, AT_LINT_UNREVIEWED, n_unreviewed, "%u of %u rows were reviewed by nobody",
                 n_unreviewed, l->n_rows));
done:
    return st;
}

static int compare_findings(const void *left, const void *right)
{
    const struct at_lint_finding *a = left, *b = right;

    if ((a->line == 0) != (b->line == 0))
        return a->line == 0 ? 1 : -1;
    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    if (a->check != b->check)
        return a->check < b->check ? -1 : 1;
    return a->column < b->column ? -1 : a->column > b->column;
}

static AT_CHECKED take_findings(struct at_lint *out, const struct at_lint_batch *b)
{
    enum at_status st = AT_OK;
    char *text = NULL;

    for (size_t i = 0; i < b->n_findings; i++) {
        struct at_lint_finding *f = &out->findings[out->n_findings];
        *f = b->findings[i];
        TRY(at_arena_strdup(&out->arena, &text, f->text));
        f->text = text;
        out->n_findings++;
        if (at_lint_get(f->check)->level != AT_LINT_NOTE)
            out->counts[f->check]++;
    }
done:
    return st;
}

static AT_CHECKED gather(struct lint *l)
{
    enum at_status st = AT_OK;
    struct at_lint *out = l->out;
    const struct at_lint_finding *last = NULL;
    size_t n = l->whole.n_findings;

    for (size_t i = 0; i < l->n_batches; i++)
        n += l->batches[i].n_findings;
    TRY(at_arena_alloc(&out->arena, &out->findings, n, sizeof *out->findings));
    for (size_t i = 0; i < l->n_batches; i++)
        TRY(take_findings(out, &l->batches[i]));
    TRY(take_findings(out, &l->whole));
    qsort(out->findings, out->n_findings, sizeof *out->findings, compare_findings);
    for (size_t i = 0; i < out->n_findings; i++) {
        const struct at_lint_finding *f = &out->findings[i];
        if (at_lint_get(f->check)->level != AT_LINT_ERROR)
            continue;
        out->n_bad += !last || last->file != f->file || last->line != f->line;
        last = f;
    }
done:
    return st;
}

/* ---- files ---- */

static AT_CHECKED add_line(struct lint *l, const struct at_line *line, uint32_t file)
{
    enum at_status st = AT_OK;
    struct at_lint_batch *b = NULL;

    if (l->n_batches == 0 || l->batches[l->n_batches - 1].n == AT_LINT_BATCH) {
        if (l->n_batches == l->capacity) {
            const size_t capacity = l->capacity ? 2 * l->capacity : 16;
            TRY(at_realloc(&l->batches, l->capacity, capacity, sizeof *l->batches));
            l->capacity = capacity;
        }
        l->batches[l->n_batches].params = l->params;
        l->batches[l->n_batches++].eos = l->eos;
    }
    b = &l->batches[l->n_batches - 1];
    b->files[b->n] = file;
    b->lines[b->n++] = *line;
    if (l->out->n_rows == UINT32_MAX)
        FAIL(AT_DATA, "more than %u rows; look at a part of them", UINT32_MAX);
    l->out->n_rows++;
done:
    return st;
}

static AT_CHECKED read_files(struct lint *l)
{
    enum at_status st = AT_OK;
    const struct at_lint_params *p = l->params;
    struct at_line line;

    for (size_t i = 0; i < p->n_train + p->n_held; i++) {
        const uint32_t before = l->out->n_rows;
        bool found = true;
        TRY(at_lines_open(&l->files[i], i < p->n_train ? p->train[i] : p->held[i - p->n_train]));
        while (found) {
            TRY(at_lines_next(&l->files[i], &line, &found));
            if (found)
                TRY(add_line(l, &line, (uint32_t)i));
        }
        if (l->out->n_rows == before)
            FAIL(AT_DATA, "%s: the data set has no rows; one JSON object a line is expected",
                 l->files[i].path);
    }
done:
    return st;
}

static AT_CHECKED collect_rows(struct lint *l)
{
    enum at_status st = AT_OK;

    TRY(at_alloc(&l->rows, l->out->n_rows, sizeof(const struct at_lint_kept *)));
    for (size_t i = 0; i < l->n_batches; i++) {
        const struct at_lint_batch *b = &l->batches[i];
        if (b->st != AT_OK)
            FAIL(b->st, "%s", b->failure);
        for (size_t k = 0; k < b->n; k++)
            if (b->rows[k].is_row)
                l->rows[l->n_rows++] = &b->rows[k];
    }
done:
    return st;
}

AT_CHECKED at_lint_run(struct at_lint *out, const struct at_lint_params *params)
{
    enum at_status st = AT_OK;
    struct lint l = { .params = params, .out = out };
    const size_t n_files = params->n_train + params->n_held;

    *out = (struct at_lint){ .n_findings = 0 };
    TRY(at_alloc(&l.files, n_files, sizeof *l.files));
    if (params->tokenizer)
        TRY(at_eos_text(&l.eos, &l.whole.arena, params->tokenizer, params->eos));
    TRY(read_files(&l));
    at_parallel_for(l.n_batches, at_lint_batch_run, l.batches);
    TRY(collect_rows(&l));
    TRY(find_same(&l));
    TRY(find_near(&l));
    TRY(find_leaks(&l));
    TRY(find_mixed(&l));
    TRY(find_notes(&l));
    TRY(gather(&l));
done:
    for (size_t i = 0; i < l.n_batches; i++)
        at_lint_batch_release(&l.batches[i]);
    for (size_t i = 0; l.files && i < n_files; i++)
        at_lines_close(&l.files[i]);
    at_lint_batch_release(&l.whole);
    at_free(&l.batches);
    at_free(&l.files);
    at_free(&l.rows);
    if (st != AT_OK)
        at_lint_release(out);
    return st;
}

void at_lint_release(struct at_lint *lint)
{
    at_arena_release(&lint->arena);
    *lint = (struct at_lint){ .n_findings = 0 };
}
