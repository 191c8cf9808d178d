/* What the parts of label.h share. Private to data/. */
#ifndef AT_LABEL_PARTS_H
#define AT_LABEL_PARTS_H

#include "hash.h"
#include "label.h"
#include "os.h"

enum { AT_LABEL_VERSION = 1, AT_LABEL_CHOICES = AT_LABEL_SKIP + 1, AT_MAX_ANNOTATORS = 64 };
extern const char *const at_label_choices[AT_LABEL_CHOICES]; /* as the log has them */

struct label_pair {
    cJSON *json; /* in TRL's keys; candidates as a pair */
    uint32_t line;
    struct at_digest digest;
};
/* Latest decision of an annotator on a pair; json NULL: none. */
struct label_decision {
    cJSON *json;
    enum at_label_choice choice;
};
struct at_labels {
    struct at_labels_params params;
    struct at_arena arena;
    struct label_pair *pairs; /* (n) in the file's order */
    uint32_t n;
    size_t capacity;
    uint32_t *order;                           /* (n) this annotator's places to pairs */
    const char *annotators[AT_MAX_ANNOTATORS]; /* number 0 is this one */
    uint32_t n_annotators;
    struct label_decision *decisions[AT_MAX_ANNOTATORS]; /* (n) each */
    uint32_t done;
    struct at_lock *lock; /* one process at a time writes the log */
    struct at_log *log;   /* NULL: to be opened with `bytes`, which are whole lines */
    uint64_t bytes;
};
/* Whether the file's first reply of a pair stands on the left of the page. */
bool at_label_first_is_left(const struct at_labels *labels, uint32_t pair);
/* Takes a decision of annotator `who` over, `json` included. */
void at_label_keep(struct at_labels *labels, uint32_t who, uint32_t pair, cJSON *json,
                   enum at_label_choice choice);

#endif
