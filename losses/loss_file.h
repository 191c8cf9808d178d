/* A loss of one's own: a file such as those here, read and compiled when a run starts ("file:PATH"
 * of loss_type). Its row says what its text says: the knobs are those that it reads as p.NAME, and
 * a line `#define LOSS_READS word ...` tells the rest (README.md). */
#ifndef AT_LOSS_FILE_H
#define AT_LOSS_FILE_H

#include "hash.h"
#include "losses.h"
#include "mem.h"

#define AT_LOSS_FILE_PREFIX "file:"
#define AT_LOSS_FILE_METHODS "cdn" /* that take one, as letters of losses.def */

struct at_loss_file {
    const char *name;        /* of the file, without its folder */
    const char *text, *code; /* the text; the same with blanks for comments */
    size_t n_bytes;
    struct at_digest digest;
};
/* Reads the file of `word`, "file:PATH", whose relative path starts from `dir`. Everything lies in
 * `arena`. AT_NOT_FOUND; AT_USAGE when the name does not end in .h; AT_DATA with the line where the
 * text asks for what there is not: another include than prelude.h, a knob of other losses. */
AT_CHECKED at_loss_file_read(struct at_arena *arena, const struct at_loss **out, const char *word,
                             const char *dir);
/* The pair driver with this text in it, without includes: one text for at_glsl_compile(), whose
 * messages have the lines of the user's file. */
AT_CHECKED at_loss_file_shader(struct at_buf *out, const struct at_loss_file *file);

#endif
