/* `attune score --tokens`: every token's log-prob, and what a data set's tokens gained or lost
 * between reference and policy. */
#ifndef AT_SCORE_TOKENS_H
#define AT_SCORE_TOKENS_H

#include "cli.h"

struct score_tokens {
    const struct at_tokenizer *tokenizer; /* borrowed */
    bool json, colours;
    bool reference; /* log-ratios are there; without them nothing is summed up */
    /* sums of the log-ratio by token, and by opening */
    uint32_t n_tokens; /* of the vocabulary */
    struct score_sum {
        const char *text; /* of an opening; NULL: a token */
        int32_t id;
        uint32_t n;
        double sum;
    } * tokens, *openings;
    size_t n_openings, capacity;
    struct at_arena arena;
};
AT_CHECKED score_tokens_open(struct score_tokens *out, const struct at_tokenizer *tokenizer,
                             bool json, bool reference);
void score_tokens_close(struct score_tokens *tokens);

/* Room for the log-probs of a row in its result, which stays until score_tokens_release(). */
AT_CHECKED score_tokens_room(struct at_row_result *result, const struct at_row *row,
                             bool reference);
void score_tokens_release(struct at_row_result *result);

/* Side k of a row: {"ids": [...], "texts": [...], "logp": [...], "ref_logp": [...]} into `side`
 * under "tokens" (with `json`), or the text with what each token gained, on stdout. Counts it. */
AT_CHECKED score_tokens_side(struct score_tokens *tokens, cJSON *side, const char *name,
                             const struct at_row *row, const struct at_row_result *result,
                             uint32_t k);
/* Tokens and openings (the first three words of a reply) whose log-ratio changed most, summed over
 * all rows: a last line {"learnt": {"tokens": {"gained": [...], "lost": [...]}, "openings": ...}},
 * or two lists. Nothing without a reference. */
AT_CHECKED score_tokens_end(struct score_tokens *tokens);

#endif
