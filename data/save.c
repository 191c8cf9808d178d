#include "dataset.h"
#include "os.h"

#include <stdlib.h>
#include <string.h>

/* A place in a source file: before line `line` (from 1) at byte `at`. */
struct place {
    struct at_map map;
    size_t at;
    uint32_t file, line;
};

/* A byte-order mark belongs to the file, not to its first line. */
static size_t skip_bom(const struct at_map *map)
{
    static const char bom[3] = { '\xEF', '\xBB', '\xBF' };

    return map->n >= sizeof bom && memcmp(map->data, bom, sizeof bom) == 0 ? sizeof bom : 0;
}

static AT_CHECKED go_to(struct place *p, const char *const *sources, const struct at_row *row)
{
    enum at_status st = AT_OK;

    if (p->line == 0 || p->file != row->file) {
        at_map_close(&p->map);
        TRY(at_map_open(&p->map, sources[row->file]));
        *p = (struct place){ .map = p->map, .at = skip_bom(&p->map), .file = row->file, .line = 1 };
    }
    for (; p->line < row->line; p->line++) {
        const uint8_t *begin = p->map.data + p->at;
        const uint8_t *end = memchr(begin, '\n', p->map.n - p->at);
        if (!end)
            FAIL(AT_IO, "%s has changed: it has no line %u any more", sources[row->file],
                 row->line);
        p->at += (size_t)(end - begin) + 1;
    }
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
    struct place p = { .line = 0 };

    TRY(at_alloc(&rows, dataset->n_rows, sizeof *rows));
    for (uint32_t i = 0; i < dataset->n_rows; i++)
        rows[i] = &dataset->rows[i];
    qsort(rows, dataset->n_rows, sizeof *rows, compare_places);
    TRY(at_writer_open(&writer, path));
    for (uint32_t i = 0; i < dataset->n_rows; i++) {
        if (i > 0 && compare_places(&rows[i - 1], &rows[i]) == 0)
            continue; /* the other half of a pair */
        TRY(go_to(&p, sources, rows[i]));
        const uint8_t *begin = p.map.data + p.at;
        const uint8_t *end = memchr(begin, '\n', p.map.n - p.at);
        TRY(at_writer_put(writer, begin, end ? (size_t)(end - begin) : p.map.n - p.at));
        TRY(at_writer_put(writer, "\n", 1));
    }
    TRY(at_writer_commit(writer));
done:
    at_free(&rows);
    at_writer_close(&writer);
    at_map_close(&p.map);
    return st;
}
