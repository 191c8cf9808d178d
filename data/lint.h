/* What is wrong with a data set before anything is trained: every bad line, repeated, reversed and
 * leaking rows, what the sides teach beside the tone. Files are read only.
 *
 * Repeated rows: the shingles of three words of two rows are compared by their Jaccard index, of
 * candidates found by MinHash and banding (Broder 1997; Leskovec, Rajaraman and Ullman 2014,
 * chapter 3). Displacement: Razin et al. 2024, arXiv:2410.08847; the risk is measured on words, by
 * the longest common subsequence, no model is asked. */
#ifndef AT_LINT_H
#define AT_LINT_H

#include "chat.h"
#include "row.h"
#include "tokenizer.h"

enum at_lint_level { AT_LINT_NOTE, AT_LINT_WARNING, AT_LINT_ERROR, AT_LINT_LEVELS };
enum at_lint_check {
#define CHECK(id, level, name, what) AT_LINT_##id,
#include "lint.def"
#undef CHECK
    AT_LINT_CHECKS
};
struct at_lint_row {
    enum at_lint_level level;
    const char *name, *what;
};
const struct at_lint_row *at_lint_get(enum at_lint_check check);
const char *at_lint_level_name(enum at_lint_level level); /* "error", ... */

struct at_lint_params {
    const char *const *train, *const *held; /* files */
    size_t n_train, n_held;
    const struct at_tokenizer *tokenizer; /* NULL: lengths and templates are not looked at */
    const struct at_chat *chat;           /* NULL: the model has none */
    bool has_kind; /* rows are of `kind`, AT_ROWS_SAMPLE: prompts, but for what is held out; else
                      their keys tell */
    enum at_row_kind kind;
    bool triples;                    /* pairs have a side `reference` */
    const char *eos, *system_prompt; /* of at_dataset_params */
    uint32_t max_length;             /* tokens; 0: no limit */
    uint32_t n_new;                  /* of these a sample's, of kind AT_ROWS_SAMPLE */
};
struct at_lint_finding {
    enum at_lint_check check;
    uint32_t file;              /* of `train`, then `held`, from 0 */
    uint32_t line, column;      /* from 1; line 0: of the whole data; column 0: not known */
    const char *text;           /* why, without the place */
    double score;               /* similarity of those that are ranked by it, else 0 */
    uint32_t other_file, other; /* the line it is like; 0: none */
};
struct at_lint {
    struct at_arena arena;
    struct at_lint_finding *findings; /* by file, line, check */
    size_t n_findings;
    uint32_t counts[AT_LINT_CHECKS]; /* findings of a check; of notes that count, rows */
    uint32_t n_rows, n_pairs, n_labelled, n_singles,
        n_prompts;  /* lines that hold something; of them by kind */
    uint32_t n_bad; /* lines with a finding of level error */
    uint32_t n_desirable;
    double chosen_longer, length_ratio; /* share of pairs with a longer chosen side (ties count
                                           half); geometric mean of chosen words / rejected words */
};
/* AT_DATA only when there is nothing to look at; faults of the data are findings. */
AT_CHECKED at_lint_run(struct at_lint *out, const struct at_lint_params *params);
void at_lint_release(struct at_lint *lint);
/* The phrase by which a reply refuses, in its first words; or NULL. */
const char *at_lint_find_refusal(const char *reply);

/* Frequent words of some languages, by hash. */
enum { AT_LINT_WORDS = 1024 };
struct at_lint_words {
    uint64_t hashes[AT_LINT_WORDS]; /* 0: free */
    uint8_t languages[AT_LINT_WORDS];
};
void at_lint_words_init(struct at_lint_words *out);
/* The language or script that most of a text is in, or NULL when it is not clear. */
const char *at_lint_language(const struct at_lint_words *words, const char *text);
/* The names that it gives, i from 0; NULL behind the last. */
const char *at_lint_language_name(size_t i);

#endif
