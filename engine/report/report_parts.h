/* Parts of a report; private to engine/report. */
#ifndef AT_REPORT_PARTS_H
#define AT_REPORT_PARTS_H

#include "os.h"
#include "report.h"

/* ---- curves: metrics.jsonl ---- */

enum { CURVE_POINTS = 240, CHART_SERIES = 5 };
struct curve_point {
    double x, y;
};
/* A metric over the steps, at most CURVE_POINTS of its values. */
struct curve {
    struct curve_point *points; /* (n) */
    size_t n, capacity;
};
struct chart {
    const char *id, *title, *unit, *help;
    const char *by;   /* what x is; NULL: the step */
    const char *x[2]; /* the metric that it is, by the first of these names that a line has */
    double scale;     /* of the metric; 0: 1 */
    size_t look;      /* of the first series, whose lines are told apart by it; 0: training's */
    struct series {
        const char *metric, *label;
    } series[CHART_SERIES];
};
enum { N_CHARTS = 13 };
extern const struct chart charts[N_CHARTS];
struct curves {
    struct curve of[N_CHARTS][CHART_SERIES];
};
AT_CHECKED curves_read(struct curves *out, const char *path);
void curves_release(struct curves *curves);
/* Keeps the first and the last point and of what lies between, in equal parts by number, the least
 * and the greatest value of each: an outlier stays. A pure function of the points. */
void curve_thin(struct curve *curve, size_t most);

/* ---- pairs: pairs.jsonl ---- */

/* How a held-out pair fared, by its margin in the evaluations up to the state that was written. */
enum pair_fate { PAIR_LEARNT, PAIR_NEVER, PAIR_FORGOTTEN, PAIR_BACKWARDS, PAIR_FATES };
extern const char *const pair_fate_names[PAIR_FATES];
struct pair {
    uint32_t file, line;
    uint32_t tokens[2]; /* of the chosen, of the rejected reply */
    uint32_t n;         /* evaluations */
    double first, best,
        last;       /* margins; first: of losses without a reference, taken off the others */
    bool was_right; /* above 0 once */
    enum pair_fate fate;
};
struct pairs {
    struct pair *items;   /* (n), in the order of the data set */
    uint32_t *worst;      /* (n_judged) indices, the least margin first */
    uint32_t n, n_judged; /* judged: those with a margin */
    uint32_t count[PAIR_FATES];
};
/* last_step: of the state that was written; later evaluations are not read. absolute: margins
 * compare log-probs themselves, not changes against a reference, so that the first is taken off. */
AT_CHECKED pairs_read(struct pairs *out, const char *path, double last_step, bool absolute);
void pairs_release(struct pairs *pairs);

/* ---- the report ---- */

enum { SAMPLES_SHOWN = 3 };
struct reply {
    const char *prompt, *before, *after;
};
struct at_report {
    struct at_arena arena;
    const char *dir;
    cJSON *run, *result, *eval, *compare, *dial, *learnt; /* the last four: or NULL */
    cJSON *samples[SAMPLES_SHOWN];                        /* lines of completions.jsonl, or NULL */
    struct curves curves;
    struct pairs pairs;
    struct reply *replies; /* (n_replies) */
    size_t n_replies, replies_capacity;
    const char *before_name, *after_name; /* of the replies */
};
/* The first line of completions.jsonl, one in the middle and the last; the caller frees them. */
AT_CHECKED samples_read(cJSON *out[SAMPLES_SHOWN], const char *path);
/* Calls `take` with each line of a JSONL file, parsed. */
AT_CHECKED report_lines(const char *path,
                        enum at_status (*take)(void *context, const cJSON *line, const char *name),
                        void *context);
/* The path of a file that a pair stands in, or NULL. */
const char *report_pair_file(const struct at_report *report, uint32_t file);
/* A value of run.json's "config", or NULL. */
const cJSON *report_config(const struct at_report *report, const char *key);
/* The phrases of a method, of a verdict. */
struct report_words {
    const char *name, *title, *text;
    bool absolute; /* of methods: margins compare log-probs, not changes against a reference */
};
const struct report_words *report_method(const struct at_report *report);
/* "rows", or "prompts" of a run that drew its samples. */
const char *report_trains_on(const struct at_report *report);
const struct report_words *report_verdict(const struct at_report *report);
/* Paragraphs for a reader who knows no machine learning. */
AT_CHECKED report_summary(struct at_buf *out, const struct at_report *report);

/* ---- the page ---- */

struct page {
    struct at_buf text; /* what is not written yet */
    struct at_writer *writer;
    const struct at_report *report;
};
/* Text with what HTML would read escaped; control characters become U+FFFD. */
void html_text(struct at_buf *out, const char *text);
/* The same of at most n characters, with "..." where it is cut. */
void html_excerpt(struct at_buf *out, const char *text, size_t n);
extern const char html_style[];
/* `text` with <ins> or <del> around words that `other` has not in this order; without marks where
 * one of them is very long. */
AT_CHECKED html_difference(struct at_buf *out, const char *text, const char *other,
                           const char *tag);
/* A figure with its lines, or nothing when there are no points. */
AT_CHECKED chart_write(struct at_buf *out, const struct chart *chart, const struct curve *curves);
/* Shares with their intervals on one axis from 0 to 100 %. */
struct interval_bar {
    const char *label;
    double value, low, high;
};
void intervals_write(struct at_buf *out, const struct interval_bar *bars, size_t n);
/* Sections; each appends to page.text. */
AT_CHECKED page_judged(struct page *page); /* eval.json, compare.json */
AT_CHECKED page_dial(struct page *page);   /* dial.json */
AT_CHECKED page_replies(struct page *page);
AT_CHECKED page_samples(struct page *page); /* completions.jsonl */
AT_CHECKED page_learnt(struct page *page);
AT_CHECKED page_pairs(struct page *page);
AT_CHECKED page_data(struct page *page);
AT_CHECKED page_provenance(struct page *page);

#endif
