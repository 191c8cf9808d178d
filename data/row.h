/* A tokenised training row: a prefix computed once and one or more segments behind it.
 * A preference pair is [prompt][chosen][rejected], a triple has [reference] behind it, another row
 * is [prompt][completion]. The shared prefix is exactly min(prompt length, common prefix of the
 * sides); prompt tokens past it stand at the head of each segment and are not targets. */
#ifndef AT_ROW_H
#define AT_ROW_H

#include "mem.h"
#include "status.h"

/* SFT: one text; PAIR: a chosen and a rejected completion, of a triple a reference to imitate as
 * well; LABELLED: a completion that is desirable or not; SAMPLE: one of several completions of a
 * prompt that have rewards (rollouts.h). */
enum at_row_kind { AT_ROWS_SFT, AT_ROWS_PAIR, AT_ROWS_LABELLED, AT_ROWS_SAMPLE };
enum { AT_MAX_SIDES = 3, AT_MAX_SEGMENTS = 3 }; /* segments: sides, or two and the prompt */

struct at_segment {
    const int32_t *ids;     /* n tokens after the prefix */
    const uint8_t *targets; /* n flags: 1 where the token's log-prob is counted, or its hidden state
                               is read */
    uint32_t n, n_targets;
    uint32_t n_uncut; /* LABELLED: what ids and targets hold, before the row was cut; else n */
};
struct at_row {
    enum at_row_kind kind;
    bool desirable;        /* LABELLED */
    bool rejected;         /* LABELLED: it is the rejected half of a line that is a pair */
    uint32_t file, line;   /* of the files read, from 0; of that file, from 1 */
    uint32_t index;        /* of the row in its data set, from 0 */
    const int32_t *prefix; /* n_prefix tokens; may be 0 for SFT rows trained on all tokens */
    uint32_t n_prefix;
    uint32_t n_prompt; /* length of the prompt as TRL counts it (>= n_prefix) */
    uint32_t n_segments;
    struct at_segment segment[AT_MAX_SIDES]; /* pair: 0 chosen, 1 rejected, 2 reference */
    bool prompt_targets; /* the prefix's tokens are targets too, from the second on: their log-probs
                            are those of one more segment behind the others */
    bool first_counts;   /* SFT: its first token is trained on where something stands before it */
    bool reads_last; /* nothing is predicted: the hidden state of each side's only target, its last
                        token or the last that is no padding, is read */
    float margin;    /* reads_last: by how much the chosen side is to be better */
    struct at_row_id {
        uint64_t word[2];
    } prompt_hash; /* groups rows by prompt for splitting */
};
/* Tokens the engine computes for a row (prefix once), tokens as TRL counts them, and those of its
 * longest sequence, the prefix and one side. */
uint32_t at_row_tokens(const struct at_row *row);
uint32_t at_row_tokens_unshared(const struct at_row *row);
uint32_t at_row_sequence(const struct at_row *row);
/* Of the whole row, and of its prefix alone (0 unless prompt_targets). */
uint32_t at_row_targets(const struct at_row *row);
uint32_t at_row_prompt_targets(const struct at_row *row);
/* Segments of log-probs: n_segments, and one for the prompt. */
uint32_t at_row_sums(const struct at_row *row);
/* Samples of one prompt, which can read one copy of it. */
bool at_rows_are_siblings(const struct at_row *a, const struct at_row *b);
/* TRL's column of side k: "completion" of rows with one. */
const char *at_row_side_name(const struct at_row *row, uint32_t k);

#endif
