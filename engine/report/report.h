/* What a run did, as one HTML page that needs nothing else: no network, no script. It is made of
 * the files that a run and the commands after it wrote (INTERFACE.md) and of nothing else, so that
 * the same files give the same bytes. */
#ifndef AT_REPORT_H
#define AT_REPORT_H

#include "json.h"

struct at_report_params {
    const char *dir;  /* of a finished run: metrics.jsonl, result.json, run.json */
    const char *eval; /* what `attune eval --json` printed; NULL: eval.json there, if any */
    /* compare.json and dial.json, of `attune compare` and `dial`, are taken from the folder */
    const char *replies; /* lines {"prompt", "before", "after"}; NULL: replies.jsonl, if any */
    const char *tokens;  /* what `attune score --tokens --json` printed; NULL: tokens.jsonl */
};
struct at_report;
/* AT_NOT_FOUND when the folder holds no finished run or a named file is missing; AT_DATA with the
 * line for files that are not what they should be. */
AT_CHECKED at_report_open(struct at_report **out, const struct at_report_params *params);
/* Whether there is an evaluation on the page; one in the folder that cannot be read is left out
 * with a warning ("report_file"), as are other files of commands after the run. */
bool at_report_is_judged(const struct at_report *report);
/* Whether pairs were held out, by which `attune eval` can judge the adapter. */
bool at_report_has_held_pairs(const struct at_report *report);
/* Whether the run trained a whole model, of which no adapter is made; whether what it trained gives
 * rewards. */
bool at_report_is_whole_model(const struct at_report *report);
bool at_report_gives_rewards(const struct at_report *report);
void at_report_close(struct at_report **report);
/* The page, put in place whole. */
AT_CHECKED at_report_write(const struct at_report *report, const char *path);
/* The same facts; the caller frees them. */
AT_CHECKED at_report_json(cJSON **out, const struct at_report *report);

/* A held-out pair that the training did not learn, or one of the tenth with the least margins: many
 * of these have a wrong label. */
struct at_bad_pair {
    const char *file; /* NULL: run.json does not tell */
    uint32_t line;    /* from 1 */
    double margin;
    const char *fate; /* "learnt", "never learnt", "forgotten", "learnt backwards" */
};
/* The worst first; n_judged: pairs with a margin. The array lies in `arena`, texts in the report.
 */
AT_CHECKED at_report_bad_pairs(struct at_arena *arena, struct at_bad_pair **out, uint32_t *n,
                               uint32_t *n_judged, const struct at_report *report);

/* ---- texts of rows ---- */

struct at_row_text {
    const char *prompt, *chosen, *rejected; /* each may be NULL: not in the row */
};
/* The row in a line (from 1) of a data file: the last user's message or the prompt, the last
 * message of each side. Nothing where the file is gone or packed, or the line is no row. Strings in
 * `arena`. */
AT_CHECKED at_row_text_find(struct at_row_text *out, struct at_arena *arena, const char *path,
                            uint32_t line);

#endif
