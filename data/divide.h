/* A data file into one to train on and one to judge by, before anything is trained. */
#ifndef AT_DIVIDE_H
#define AT_DIVIDE_H

#include "row.h"
#include "status.h"

struct at_divide_params {
    const char *const *from; /* files of JSON Lines in any form of forms.h, packed or not */
    size_t n_from;
    bool prompts;    /* rows are of prompts alone, to draw samples for */
    double fraction; /* of the groups that is held out, above 0 and below 1 */
    uint64_t seed;
    const char *train, *held; /* files to write */
};
struct at_divide_counts {
    uint64_t train_rows, held_rows, train_groups, held_groups;
    uint64_t n_labelled, n_singles; /* rows of these kinds, of both sides */
};
/* Lines go where at_dataset_split() puts their rows, as they stand and in their order: a group is
 * the rows with one last user message (chat) or one prompt (plain), and where it goes is a function
 * of seed and prompt alone. Broken rows and a single group are AT_DATA; then nothing is written. */
AT_CHECKED at_divide(struct at_divide_counts *out, const struct at_divide_params *params);

#endif
