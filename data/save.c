#include "dataset.h"
#include "lines.h"

#include <stdlib.h>

/* The line that was read last. */
struct place {
    struct at_lines lines;
    struct at_line line;
    uint32_t file;
};

static AT_CHECKED go_to(struct place *p, const char *const *sources, const struct at_row *row)
{
    enum at_status st = AT_OK;
    bool found = true;

    if (p->lines.number == 0 || p->file != row->file) {
        at_lines_close(&p->lines);
        TRY(at_lines_open(&p->lines, sources[row->file]));
        p->file = row->file;
    }
    while (found && p->lines.number < row->line)
        TRY(at_lines_next(&p->lines, &p->line, &found));
    if (!found || p->line.number != row->line)
        FAIL(AT_IO, "%s has changed: it has no line %u any more", sources[row->file], row->line);
done:
    return st;
}

static int compare_places(const void *left, const void *right)
{
    const struct at_row *a = *(const struct at_row *const *)left;
    const struct at_row *b = *(const struct at_row *const *)right;

    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    return a->line < b->line ? -1 : a->line > b->line;
}

AT_CHECKED at_dataset_save(const struct at_dataset *dataset, const char *const *sources,
                           const char *path)
{
    enum at_status st = AT_OK;
    struct at_writer *writer = NULL;
    const struct at_row **rows = NULL;
    struct place p = { .file = 0 };

    TRY(at_alloc(&rows, dataset->n_rows, sizeof *rows));
    for (uint32_t i = 0; i < dataset->n_rows; i++)
        rows[i] = &dataset->rows[i];
    qsort(rows, dataset->n_rows, sizeof *rows, compare_places);
    TRY(at_writer_open(&writer, path));
    for (uint32_t i = 0; i < dataset->n_rows; i++) {
        if (i > 0 && compare_places(&rows[i - 1], &rows[i]) == 0)
            continue; /* the other half of a pair */
        TRY(go_to(&p, sources, rows[i]));
        TRY(at_writer_put(writer, p.line.text, p.line.n));
        TRY(at_writer_put(writer, "\n", 1));
    }
    TRY(at_writer_commit(writer));
done:
    at_free(&rows);
    at_writer_close(&writer);
    at_lines_close(&p.lines);
    return st;
}
