/* Parts of lint, private to data/: what a text holds, which rows are alike. */
#ifndef AT_LINT_PARTS_H
#define AT_LINT_PARTS_H

#include "lint.h"
#include "reader.h"

/* ---- a text ---- */

/* Walks the words of n bytes of UTF-8: runs of letters and digits; of scripts written without
 * spaces every character is one. *at starts at 0; false behind the last word. */
bool at_word_next(const char *text, size_t n, size_t *at, const char **word, size_t *length);
uint32_t at_count_words(const char *text, size_t n);
uint64_t at_word_hash(const char *word, size_t n); /* letters of ASCII in any case */

/* Each returns a phrase for a finding, or NULL. */
const char *at_lint_find_mojibake(const char *text);
const char *at_lint_find_personal(const char *text);
/* The mark of a chat template that the text holds, and which template's; `after` continues a
 * search. */
const char *at_lint_find_mark(const char *text, const char **family);
/* The text asks for another language. */
bool at_lint_names_language(const char *text);

/* 2 * common / (n + m) of two texts' words: of the words in any order it is an upper bound of
 * the longest common subsequence's, which is computed where the bound reaches `from`. */
AT_CHECKED at_lint_similarity(double *out, const char *a, const char *b, double from);

/* ---- rows that are alike ---- */

/* The smallest AT_SKETCH hashes of a text's shingles, ascending: two such sets estimate the Jaccard
 * index of the whole sets, exactly while they have no more (Cohen and Kaplan 2007). */
enum { AT_SKETCH = 128, AT_BANDS = 16, AT_BAND_ROWS = 4, AT_SHINGLE = 3 };
struct at_sketch {
    const uint64_t *hashes; /* (n) */
    uint32_t n;
    uint64_t bands[AT_BANDS]; /* equal in one: candidates */
};
/* Of several texts as one; memory from the arena. */
AT_CHECKED at_sketch_make(struct at_sketch *out, struct at_arena *arena, const char *const *texts,
                          size_t n);
double at_sketch_jaccard(const struct at_sketch *a, const struct at_sketch *b);
/* For each sketch the first earlier one that `fits` and whose index is at least `from`, or
 * UINT32_MAX. In time n log n: of a crowd that shares a band only the first are compared. */
AT_CHECKED at_sketch_match(uint32_t *out, const struct at_sketch *const *sketches, uint32_t n,
                           double from, bool (*fits)(const void *context, uint32_t a, uint32_t b),
                           const void *context);

/* ---- a row by itself ---- */

/* What is kept of a row. */
struct at_lint_kept {
    bool is_row;
    enum at_row_kind kind;
    bool desirable, held, synthetic, unreviewed;
    uint32_t file, line;
    struct at_row_id group, prompt, side[AT_MAX_SIDES];
    uint32_t words[AT_MAX_SIDES];
    struct at_sketch whole, question;
};
/* A batch of lines is one thread's. Texts stay until the line is done, the rest until release. */
enum { AT_LINT_BATCH = 64 };
struct at_lint_batch {
    const struct at_lint_params *params;
    const char *eos; /* of at_eos_text(), when there is a tokenizer */
    struct at_line lines[AT_LINT_BATCH];
    uint32_t files[AT_LINT_BATCH];
    size_t n;
    struct at_lint_kept rows[AT_LINT_BATCH];
    struct at_arena arena;
    struct at_lint_finding *findings;
    size_t n_findings, capacity;
    enum at_status st;
    char failure[1024];
    /* of the line in work */
    struct at_record record;
    struct at_rendering rendering;
    struct at_buf prompt, side[AT_MAX_SIDES];
    const struct at_lint_words *words;
    const char *question; /* the last user message, or the plain prompt */
    const char *keys[AT_MAX_SIDES];
};
AT_CHECKED at_lint_push(struct at_lint_batch *batch, const struct at_lint_finding *finding);
/* Reads and checks the lines of batch `index` of the array `context`, for at_parallel_for(); sets
 * `st`. */
void at_lint_batch_run(void *context, size_t index);
void at_lint_batch_release(struct at_lint_batch *batch);

#endif
