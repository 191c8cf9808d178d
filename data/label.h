/* Pairs of replies that people judge, and what they decided: a log that only grows.
 *
 * The pairs are a file of JSON Lines: pairs in any form of forms.h, or candidates {"prompt",
 * "responses": [one, another]}. `first` is what the file has first (chosen, responses[0]), `second`
 * the other.
 *
 * The log has a line a decision, on the disk before at_labels_put() returns; of several decisions
 * of one annotator on one pair the last one counts:
 *   {"format_version": 1, "line": of the pair's file, "digest": of the pair, "annotator": "...",
 *    "choice": "first" | "second" | "tie" | "skip", "left": "first" | "second" (what stood on the
 *    left), "reason": "...", "edit": {"of": "first" | "second", "text": "..."}, "ratings":
 *    {"warmth": 4}, "review": true, "time": seconds since 1970}
 * with reason, edit, ratings and review only where they were given. A last line without its end,
 * which a crash may leave, is cut off. */
#ifndef AT_LABEL_H
#define AT_LABEL_H

#include "json.h"

enum at_label_choice { AT_LABEL_FIRST, AT_LABEL_SECOND, AT_LABEL_TIE, AT_LABEL_SKIP };

struct at_labels_params {
    const char *path, *log;
    const char *annotator;         /* letters, digits, "-", "_", "." and "@": at most 64 */
    const char *const *dimensions; /* what is rated from 1 to 5; names like the annotator's */
    size_t n_dimensions;
    uint64_t seed; /* of the order of pairs and of sides */
    bool review;   /* pairs in the file's order, sides as they are: is the label right? */
    bool reads;    /* the log is read only, and must exist */
};
struct at_labels;
/* AT_CANNOT_WRITE when another process has the log. AT_DATA with its place for a wrong pair or line
 * of the log, a log of another file, or one that holds reviews where labels are wanted and the
 * other way round. */
AT_CHECKED at_labels_open(struct at_labels **out, const struct at_labels_params *params);
void at_labels_close(struct at_labels **labels);
uint32_t at_labels_count(const struct at_labels *labels);
uint32_t at_labels_done(const struct at_labels *labels); /* of this annotator */

/* The pair at `place` of this annotator's order as a page shows it, or, at UINT32_MAX, the first
 * one that is not decided yet: {"place", "done", "total", "review", "dimensions": [...], "prompt":
 * [messages], "a": [messages], "b": [messages]} and, where it was decided before, "before": that
 * answer. Nothing tells which side is which, but in a review, where a is the file's first.
 * {"finished": true, "done", "total"} when all are decided. The caller frees it. */
AT_CHECKED at_labels_show(cJSON **out, const struct at_labels *labels, uint32_t place);
/* An answer of the page: {"place", "choice": "a" | "b" | "tie" | "skip", "reason", "edit": {"of":
 * "a" | "b", "text"}, "ratings"}; all but the first two may be missing. With an edit the edited
 * side is the choice. AT_DATA for what is none, AT_CANNOT_WRITE when the log cannot be written:
 * then it is not counted either. */
AT_CHECKED at_labels_put(struct at_labels *labels, const cJSON *answer);

/* What annotators say of pair i of the file: 1 where more chose the second reply than the first and
 * than found both equal, 0 the first, 0.5 neither; NAN where nobody has decided. */
double at_labels_outcome(const struct at_labels *labels, uint32_t i);

struct at_labels_counts {
    uint32_t n_rows;      /* written */
    uint32_t n_edits;     /* of them pairs of an edit and what it was made of */
    uint32_t n_split;     /* pairs on which annotators are divided: left out */
    uint32_t n_undecided; /* ties, skipped, or not seen by anyone: left out */
};
/* Writes the decided pairs in TRL's keys, in the file's order, marked "reviewed": true: the side
 * that more annotators chose than the other, and than found both equal, as chosen; behind a pair,
 * one for every edit with the edit as chosen and what it was made of as rejected. AT_CANNOT_WRITE
 * when `path` exists; AT_DATA when nothing was decided. */
AT_CHECKED at_labels_export(struct at_labels_counts *out, const struct at_labels *labels,
                            const char *path);

/* Two annotators on the pairs that both decided, skipped ones aside. kappa: agreement beyond chance
 * (Cohen 1960, "A coefficient of agreement for nominal scales"); 1 where both always say the same.
 */
struct at_agreement {
    const char *one, *other;
    uint32_t n, n_equal;
    double kappa;
};
/* All pairs of annotators with at least one decision in common; the array lies in `arena`. */
AT_CHECKED at_labels_agreement(struct at_arena *arena, struct at_agreement **out, size_t *out_n,
                               const struct at_labels *labels);

#endif
