/* A data set of tokenised rows, read from JSONL records (packed with gzip or Zstandard or not) in
 * TRL's forms, or in those of other tools that forms.h rewrites.
 *   preference  {prompt, chosen, rejected} or {chosen, rejected}, strings or message lists;
 *               triples {..., reference}
 *   SFT         {messages}, {prompt, completion}, {text}, or a preference row (trains on chosen)
 *   labelled    {prompt, completion, label}, or a preference row, which makes two (chosen:
 * desirable)
 *
 * Every bad line is reported with line, column and reason.
 *
 * A data set has any number of rows: the rows and their tokens, about 1.5 KiB for a pair of 300
 * words, lie in an arena that spills (mem.h), and who goes through them all drops what is behind.
 * So the process has the same memory for a thousand rows and for a million; the disk of the cache
 * folder has the rest while the process lives. Nothing is kept for the next start, which reads the
 * lines again, on all processors: a million pairs of 180 words are 50 s of processor time, and
 * nothing can be stale. */
#ifndef AT_DATASET_H
#define AT_DATASET_H

#include "chat.h"
#include "row.h"
#include "tokenizer.h"

enum at_on_long { AT_LONG_ERROR, AT_LONG_CUT, AT_LONG_DROP };
enum at_on_bad { AT_BAD_ERROR, AT_BAD_SKIP, AT_BAD_KEEP };

/* Whole turns that stand before every conversation, behind its system message: few-shot. */
struct at_examples {
    const struct at_message *messages;
    size_t n; /* messages */
};
struct at_dataset_params {
    enum at_row_kind kind;
    const struct at_tokenizer *tokenizer;
    const struct at_chat *chat;  /* NULL: conversational rows are AT_DATA */
    const char *chat_problem;    /* why there is none, for the message; or NULL */
    const char *eos;             /* appended to plain completions that lack it; NULL: tokenizer's */
    const char *system_prompt;   /* put before conversations that have no system message; or NULL */
    struct at_examples examples; /* of conversations; prompts of plain text get none */
    uint32_t max_length;         /* tokens of prompt + completion; 0: no limit */
    enum at_on_long on_long;
    enum at_on_bad on_bad;
    bool assistant_only;  /* SFT: only assistant tokens (and their end of turn) are targets */
    bool completion_only; /* SFT on rows with a prompt: only the completion */
    bool keeps_cut;       /* cut rows without a target left are kept, not dropped */
    bool prompt_targets;  /* pairs: at_row.prompt_targets */
    uint32_t long_from; /* rows of more tokens have other rotary angles, so that sides of a pair on
                           both sides of it share no prefix; 0: none have */
    bool long_each;     /* and each length of those others again */
    bool triples;       /* pairs: rows have a side `reference` */
    bool reads_last;    /* pairs: at_row.reads_last; rows may have a number "margin" */
    bool singles;    /* reads_last: rows of SFT without `chosen` are taken as rows with one side */
    bool unrewarded; /* samples: rewards are not read, lines may lack them */
    bool skips_pad;  /* reads_last: of a side the last token that is no padding; the padding
                        token is the tokenizer's, or the end token where it has none */
};
struct at_dataset {
    struct at_arena arena;
    struct at_row *rows;
    uint32_t n_rows;
    /* Counted while reading: rows of the files, of them cut and kept, left out; kept rows whose
     * prompt has other ids at its end than in front of a completion; kept pairs without a prompt to
     * share, and those whose sides have other angles. */
    uint32_t n_read, n_cut, n_dropped, n_boundary_moved, n_unshared, n_apart;
    uint32_t n_chats, n_prompted; /* kept: conversations; rows with a prompt of their own */
    uint32_t n_of_pairs;          /* kept: rows of SFT that are a pair's chosen side */
    const char *form;             /* of the first row, where it is another than TRL's */
    char digest[65];              /* over all ids, masks and lines: what the trainer will see */
    /* Of a side of a split, else NULL: what it is of, whose tokens it has, and which row of that
     * each is (n_rows). */
    const struct at_dataset *all;
    uint32_t *from;
};
/* Reads `n_paths` files in order. Zero rows left, or a row without targets, is AT_DATA.
 *
 * Wrong lines (encoding, JSON, keys, types, what the template refuses) are always AT_DATA: alone as
 * the message, several as a warning each ("bad_row", at most 20) and a message that counts them.
 * Rows of no use (an empty completion, equal sides, roles out of order) follow on_bad; without a
 * target they cannot be kept. Long rows follow on_long; cut rows without a target left are dropped
 * unless keeps_cut.
 *
 * The prompt ends where TRL ends it: at the longest prefix that its ids share with every full row.
 *
 * Rows are in the order of the files; of preference rows that make two each, a thousand desirable
 * ones come before their counterparts, as TRL unpairs them.
 */
AT_CHECKED at_dataset_load(struct at_dataset *out, const char *const *paths, size_t n_paths,
                           const struct at_dataset_params *params);
/* The same of n bytes of lines that are there; `name` is what messages call them. That no row is
 * left, as all are too long, is fine. */
AT_CHECKED at_dataset_parse(struct at_dataset *out, const char *name, const char *text, size_t n,
                            const struct at_dataset_params *params);
/* Rows in the order of the files, of two of a line the desirable one first. */
void at_dataset_order_by_line(struct at_dataset *dataset);
/* The prompts and chosen completions of the first n_rows conversations of a file, without their
 * system messages; in `arena`. AT_DATA where it has fewer conversations, and for broken lines. */
AT_CHECKED at_examples_load(struct at_examples *out, struct at_arena *arena, const char *path,
                            uint32_t n_rows);
/* Splits by prompt group: a group goes to `held` when its keyed hash falls below `fraction` (above
 * 0, below 1), whatever the order of rows and the other groups; each side gets the nearest group
 * when it would have none. A group is the rows with one last user message (chat) or one prompt
 * (plain). AT_DATA when there is a single group. Both sides share the arena of `all`, which must
 * outlive them; their n_read is n_rows. */
AT_CHECKED at_dataset_split(struct at_dataset *train, struct at_dataset *held,
                            const struct at_dataset *all, double fraction, uint64_t seed);
/* The same for fold `fold` of n_folds (2 or more): each group is held out in exactly one of them,
 * and their numbers of groups differ by one at most. AT_DATA when there are fewer groups. */
AT_CHECKED at_dataset_fold(struct at_dataset *train, struct at_dataset *held,
                           const struct at_dataset *all, uint32_t fold, uint32_t n_folds,
                           uint64_t seed);
/* Writes the rows' lines as they stand in `sources` (the paths of at_dataset_load), in the order of
 * the files, each once. */
AT_CHECKED at_dataset_save(const struct at_dataset *dataset, const char *const *sources,
                           const char *path);
/* at_arena_drop(), and at_arena_passed() at row i, of all that its rows lie in. */
void at_dataset_drop(const struct at_dataset *dataset);
void at_dataset_passed(const struct at_dataset *dataset, uint32_t i);
void at_dataset_release(struct at_dataset *dataset);

#endif
