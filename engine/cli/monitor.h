/* `attune monitor`: figures of replies after release, and how they differ from others. */
#ifndef AT_MONITOR_H
#define AT_MONITOR_H

#include "json.h"
#include "rule.h"
#include "statistics.h"

enum monitor_figure { /* sorted */
                      MONITOR_COMPLETED,
                      MONITOR_COMPLETION_TOKENS,
                      MONITOR_EDITED,
                      MONITOR_ENDED,
                      MONITOR_ESCALATED,
                      MONITOR_FLAGGED,
                      MONITOR_LATENCY_S,
                      MONITOR_PROMPT_TOKENS,
                      MONITOR_REFUSALS,
                      MONITOR_REPETITION,
                      MONITOR_RULES,
                      MONITOR_THUMBS_UP,
                      MONITOR_WORDS,
                      MONITOR_FIGURES
};
enum monitor_good { MONITOR_ANY, MONITOR_LESS, MONITOR_MORE }; /* which way is better */
struct monitor_row {
    const char *name; /* in JSON, and of the replies in eval's */
    const char *text; /* for people */
    bool share;       /* printed as a percentage, with Wilson's interval; else a mean */
    enum monitor_good good;
};
extern const struct monitor_row monitor_rows[MONITOR_FIGURES];

struct monitor_figures {
    struct at_estimate of[MONITOR_FIGURES]; /* n 0: not known */
};
struct monitor_rules {
    struct at_rule **items; /* (n): a reply keeps them all */
    cJSON **texts;          /* (n): as they were given */
    size_t n;
};
/* Of a log of feedback.h; *n_feedback counts lines with an edit or a thumb. AT_DATA with the place
 * for wrong lines and for a log without any. */
AT_CHECKED monitor_measure(struct monitor_figures *out, uint64_t *n_feedback, const char *path,
                           const struct monitor_rules *rules);
/* The rules as a list, which stands beside their share as "of". */
cJSON *monitor_rules_json(const struct monitor_rules *rules);
/* Those of a file that `attune monitor --json` or `attune eval --json` printed, of this the last
 * state, whose replies are held against the rules; put over what *out has. A share of replies that
 * keep other rules is left out, with a warning ("other_rules"). */
AT_CHECKED monitor_read(struct monitor_figures *out, const char *path,
                        const struct monitor_rules *rules);

/* Replies on either side from which on a difference is judged: with fewer, normal intervals of
 * means are too narrow (of three values, a 99.5 % interval by Student's t is five times as wide; of
 * 30, a tenth wider). */
enum { MONITOR_LEAST = 30 };
/* now - then, with the interval that both of theirs give (Zou and Donner 2008, "Construction of
 * confidence limits about effect measures", MOVER), widened to 99.5 %: of all figures together one
 * in 15 comparisons of equal logs is flagged somewhere. */
struct at_estimate monitor_difference(const struct at_estimate *now,
                                      const struct at_estimate *then);

#endif
