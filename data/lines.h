/* The lines of a text file, one after the other. Private to data/. */
#ifndef AT_LINES_H
#define AT_LINES_H

#include "os.h"

struct at_line {
    const char *path;
    const char *text; /* n bytes, without the end of line */
    size_t n;
    uint32_t number; /* from 1 */
};
struct at_lines {
    struct at_map map;
    const char *path; /* borrowed */
    size_t at;
    uint32_t number; /* of the last line read */
};
/* A byte-order mark belongs to the file, not to its first line. */
AT_CHECKED at_lines_open(struct at_lines *out, const char *path);
/* The next line that holds more than blanks; *found is false behind the last. `out` borrows from
 * `lines`. AT_DATA for files of more than UINT32_MAX lines. */
AT_CHECKED at_lines_next(struct at_lines *lines, struct at_line *out, bool *found);
void at_lines_close(struct at_lines *lines);

#endif
