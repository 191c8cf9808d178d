#include "divide.h"

#include "reader.h"

#include <stdlib.h>

struct division {
    const struct at_divide_params *params;
    uint64_t *places; /* of every row, in the order of the files */
    size_t n, capacity;
    uint64_t border;
    uint64_t n_labelled, n_singles;
};

static AT_CHECKED add_place(struct division *d, uint64_t place)
{
    enum at_status st = AT_OK;

    if (d->n == d->capacity) {
        const size_t capacity = d->capacity ? 2 * d->capacity : 1024;
        TRY(at_realloc(&d->places, d->capacity, capacity, sizeof *d->places));
        d->capacity = capacity;
    }
    d->places[d->n++] = place;
done:
    return st;
}

static AT_CHECKED read_places(struct division *d)
{
    enum at_status st = AT_OK;
    struct at_lines lines = { .path = NULL };
    struct at_record record = { .json = NULL };
    struct at_line line;
    bool found = false;

    for (size_t i = 0; i < d->params->n_from; i++) {
        TRY(at_lines_open(&lines, d->params->from[i]));
        for (;;) {
            struct at_dataset_params read = { .kind = AT_ROWS_SFT };
            TRY(at_lines_next(&lines, &line, &found));
            if (!found)
                break;
            if (d->params->prompts)
                read.kind = AT_ROWS_SAMPLE;
            else
                TRY(at_line_kind(&read.kind, &line));
            d->n_labelled += read.kind == AT_ROWS_LABELLED;
            d->n_singles += read.kind == AT_ROWS_SFT;
            TRY(at_record_read(&record, &line, &read, "", 0));
            TRY(add_place(d, at_group_place(&record.prompt_hash, d->params->seed)));
        }
        at_lines_close(&lines);
    }
done:
    at_lines_close(&lines);
    at_record_release(&record);
    return st;
}

static int compare_places(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

    return a < b ? -1 : a > b;
}

static AT_CHECKED choose(struct division *d, struct at_divide_counts *counts)
{
    enum at_status st = AT_OK;
    uint64_t *sorted = NULL;

    TRY(at_alloc(&sorted, d->n, sizeof *sorted));
    for (size_t i = 0; i < d->n; i++)
        sorted[i] = d->places[i];
    qsort(sorted, d->n, sizeof *sorted, compare_places);
    if (d->n == 0 || sorted[0] == sorted[d->n - 1])
        FAIL(AT_DATA, "%s: %zu rows with %s prompt: nothing can be held out", d->params->from[0],
             d->n, d->n > 0 ? "the same" : "no");
    d->border = at_group_border(d->places, d->n, d->params->fraction);
    for (size_t i = 0; i < d->n; i++) {
        const bool held = sorted[i] <= d->border, first = i == 0 || sorted[i] != sorted[i - 1];
        counts->held_rows += held;
        counts->train_rows += !held;
        counts->held_groups += held && first;
        counts->train_groups += !held && first;
    }
done:
    at_free(&sorted);
    return st;
}

static AT_CHECKED write_sides(const struct division *d)
{
    enum at_status st = AT_OK;
    struct at_writer *writers[2] = { NULL, NULL };
    struct at_lines lines = { .path = NULL };
    struct at_line line;
    size_t row = 0;
    bool found = false;

    TRY(at_writer_open(&writers[0], d->params->train));
    TRY(at_writer_open(&writers[1], d->params->held));
    for (size_t i = 0; i < d->params->n_from; i++) {
        TRY(at_lines_open(&lines, d->params->from[i]));
        for (;;) {
            struct at_writer *to = NULL;
            TRY(at_lines_next(&lines, &line, &found));
            if (!found)
                break;
            if (row == d->n)
                FAIL(AT_IO, "%s has changed while it was read", d->params->from[i]);
            to = writers[d->places[row++] <= d->border];
            TRY(at_writer_put(to, line.text, line.n));
            TRY(at_writer_put(to, "\n", 1));
        }
        at_lines_close(&lines);
    }
    if (row != d->n)
        FAIL(AT_IO, "the rows have changed while they were read");
    TRY(at_writer_commit(writers[0]));
    TRY(at_writer_commit(writers[1]));
done:
    at_writer_close(&writers[0]);
    at_writer_close(&writers[1]);
    at_lines_close(&lines);
    return st;
}

AT_CHECKED at_divide(struct at_divide_counts *out, const struct at_divide_params *params)
{
    struct division d = { .params = params };
    enum at_status st = AT_OK;

    *out = (struct at_divide_counts){ 0 };
    AT_REQUIRE(params->fraction > 0 && params->fraction < 1 && params->n_from > 0);
    TRY(read_places(&d));
    TRY(choose(&d, out));
    out->n_labelled = d.n_labelled;
    out->n_singles = d.n_singles;
    TRY(write_sides(&d));
done:
    at_free(&d.places);
    return st;
}
