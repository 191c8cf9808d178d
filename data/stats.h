/* What a data set is made of, in numbers; nothing is judged (that is lint.h) and nothing changed.
 */
#ifndef AT_STATS_H
#define AT_STATS_H

#include "chat.h"
#include "tokenizer.h"

/* Of n lengths; median and p90 are lengths that occur (nearest rank). */
struct at_spread {
    uint32_t n, least, median, p90, most;
    double mean;
};
enum at_part { AT_PART_PROMPT, AT_PART_CHOSEN, AT_PART_REJECTED, AT_PART_ROW, AT_PARTS };
struct at_stats {
    uint32_t n_rows, n_pairs, n_labelled, n_singles, n_prompts, n_desirable;
    uint32_t n_groups;        /* rows with one last user message (chat) or prompt (plain) */
    uint32_t n_chat, n_turns; /* conversations; of them with more than one user message */
    uint32_t n_system, n_synthetic, n_unreviewed;
    uint32_t n_chosen_longer, n_same_words; /* pairs, by words */
    /* Chosen: the completion of rows that have one, the desirable ones of labelled rows. A row: of
     * tokens, its longer side with the prompt; words have none. */
    struct at_spread words[AT_PARTS], tokens[AT_PARTS]; /* tokens: n is 0 without a tokenizer */
};
struct at_stats_params {
    const char *const *from; /* files of JSON Lines in any form of forms.h, packed or not */
    size_t n_from;
    bool prompts;                         /* rows are of prompts alone, to draw samples for */
    const struct at_tokenizer *tokenizer; /* NULL: tokens are not counted */
    const struct at_chat *chat;           /* NULL: conversations are counted in words alone */
    const char *eos, *system_prompt;      /* of at_dataset_params */
};
/* Broken rows and files without any are AT_DATA. */
AT_CHECKED at_stats_read(struct at_stats *out, const struct at_stats_params *params);

#endif
