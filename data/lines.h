/* Text files as they are read: whole, unpacked, by lines or by cells. Private to data/. */
#ifndef AT_LINES_H
#define AT_LINES_H

#include "os.h"

/* The bytes of a file, of gzip (RFC 1952) and Zstandard (RFC 8878) files those that are packed;
 * the first bytes tell. Plain files are mapped; others are unpacked twice, first to see how many
 * bytes there are, and large ones lie in a file then. */
struct at_text {
    const char *data; /* n bytes */
    size_t n;
    struct at_map map;
    struct at_arena unpacked; /* it spills */
    char *into;               /* while it is unpacked; NULL: bytes are counted */
};
AT_CHECKED at_text_open(struct at_text *out, const char *path);
void at_text_close(struct at_text *text);
/* Where its text begins: behind a byte-order mark. */
size_t at_text_begin(const struct at_text *file);

/* ---- lines ---- */

struct at_line {
    const char *path;
    const char *text; /* n bytes, without the end of line */
    size_t n;
    uint32_t number; /* from 1 */
};
struct at_lines {
    struct at_text file;
    const char *path; /* borrowed */
    size_t at;
    uint32_t number; /* of the last line read */
    size_t dropped;  /* up to here the pages of a mapped file are the system's again */
};
/* A byte-order mark belongs to the file, not to its first line. */
AT_CHECKED at_lines_open(struct at_lines *out, const char *path);
/* The same of n bytes that are there, which must stay; `name` is what errors call them. */
void at_lines_of_text(struct at_lines *out, const char *name, const char *text, size_t n);
/* The next line that holds more than blanks; *found is false behind the last. `out` borrows from
 * `lines`. AT_DATA for files of more than UINT32_MAX lines. */
AT_CHECKED at_lines_next(struct at_lines *lines, struct at_line *out, bool *found);
void at_lines_close(struct at_lines *lines);
/* Nothing but blanks, tabs and carriage returns. */
bool at_line_is_blank(const char *text, size_t n);

/* ---- tables ---- */

/* Comma- or tab-separated values (RFC 4180): cells in quotes may hold separators, ends of lines and
 * doubled quotes. */
struct at_cells {
    struct at_text file;
    const char *path; /* borrowed */
    char separator;
    size_t at;
    uint32_t number, line; /* next line of the file; line that the last row began on */
    struct at_buf text;    /* the row's cells, each ended by a 0 */
    size_t *starts;        /* (capacity) of each in `text` */
    size_t n, capacity;    /* cells of the row */
};
/* separator 0: the comma, or the semicolon where the first line has more of these. AT_DATA for text
 * that is no UTF-8. */
AT_CHECKED at_cells_open(struct at_cells *out, const char *path, char separator);
/* The next row that is not empty; *found is false behind the last. AT_DATA with the place for a
 * quote that is not closed and for what stands behind a closing one; within a cell that does not
 * begin with a quote, quotes are as they are. */
AT_CHECKED at_cells_next(struct at_cells *cells, bool *found);
const char *at_cells_get(const struct at_cells *cells, size_t i); /* valid until the next row */
void at_cells_close(struct at_cells *cells);

#endif
