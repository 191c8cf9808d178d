/* Data files from one form into another. */
#ifndef AT_CONVERT_H
#define AT_CONVERT_H

#include "forms.h"

/* A column of a table and the key that it is, such as {"New reply", "chosen"}. */
struct at_column {
    const char *name, *key;
};
struct at_convert_params {
    const char *const *from; /* files: JSON Lines in any form of forms.h or one list of objects,
                                .csv, .tsv; gzip and Zstandard are unpacked */
    size_t n_from;
    const char *to;                  /* a file that does not exist */
    const char *from_form;           /* of JSON Lines; NULL: told by the keys of each row */
    const char *form;                /* NULL: "trl" */
    const struct at_column *columns; /* of tables; others keep their names */
    size_t n_columns;
    const char *only; /* "pairs", "labelled", "sft": rows of this kind alone; or NULL */
    bool plain;       /* of tables: texts stay texts instead of one message each */
    /* Of conversations: system messages go, so that replies that a long one made are trained
     * without it (prompt distillation: Askell et al. 2021, arXiv 2112.00861, section 2.1), and this
     * one takes their place, where it is not NULL. Each conversation gets it. */
    bool drops_system;
    const char *system;
};
/* Rows that were left out for one reason: how many, and the first of them. */
struct at_convert_left {
    const char *why; /* a few words; NULL: none */
    uint64_t n;
    const char *path;
    uint32_t first; /* line, or with of_array the number of the object in a list */
    bool of_array;
};
struct at_convert_counts {
    uint64_t n_rows, n_system; /* rows; of them those whose system message was changed */
    uint64_t n_left;           /* rows left out: of another kind, or with nothing to train on */
    struct at_convert_left left[10];
    struct at_form_unused unused; /* answers of them and of others */
    const char *forms[8]; /* that were read, of the first file first; NULL behind the last */
};
/* Writes one JSON object a line, in the order of the files. Wrong rows are AT_DATA with their
 * place, and so is a file of which all rows are left out; feedback of several kinds, which no
 * training reads together, is AT_USAGE without `only`. Then nothing is written. AT_CANNOT_WRITE
 * when `to` exists. */
AT_CHECKED at_convert(struct at_convert_counts *out, const struct at_convert_params *params);
/* "alpaca, hh-rlhf, ...": names of forms, of those only that are written with `written`. Valid
 * until the thread's next call. */
const char *at_form_names(bool written);

#endif
