/* One line of a data file on its way to a row: read and judged, then rendered to ids and masks.
 * Private to data/. */
#ifndef AT_READER_H
#define AT_READER_H

#include "dataset.h"
#include "json.h"
#include "lines.h"

/* Why a row is of no use though it is well-formed. */
enum at_doubt { AT_DOUBT_NONE, AT_DOUBT_EMPTY, AT_DOUBT_IDENTICAL, AT_DOUBT_ROLES, AT_DOUBT_LABEL };

/* A side is the whole sequence: the prompt, then its completion. */
struct at_record_side {
    struct at_message *messages; /* chat: n of them, borrowed from `json` */
    size_t n, capacity;
    struct at_buf text; /* plain: with the end of sequence */
};
/* Its memory is used again by the next line. */
struct at_record {
    cJSON *json;                    /* in TRL's keys */
    const struct at_form *form;     /* that the line had; NULL: TRL's */
    cJSON *parsed_tools;            /* of a row whose "tools" are a text */
    const cJSON *tools, *variables; /* chat: for the template, or NULL */
    bool chat;                      /* messages, otherwise plain text */
    bool has_prompt;                /* false: {messages} and {text} */
    bool of_pair;                   /* SFT: the chosen side of a pair */
    bool desirable;                 /* labelled rows */
    uint32_t n_halves; /* rows that the line makes: 2 of a pair that labelled rows are made of */
    uint32_t n_sides;  /* 1; of a pair 2, of a triple 3 */
    struct at_record_side side[AT_MAX_SIDES];
    size_t n_prompt; /* messages or bytes of each side that are the prompt */
    float margin;    /* at_row.margin */
    enum at_doubt doubted;
    char doubt[160];       /* the same as a sentence, or "" */
    const char *doubt_key; /* of the outer object; or NULL */
    struct at_row_id prompt_hash;
};
/* Reads a line, or the row number `half` of the n_halves that it makes; `eos` is appended to plain
 * text that lacks it ("" for none). Of kind AT_ROWS_SAMPLE it is a prompt to draw samples for, as
 * prompt_rows.h has them: its side 0 is the prompt alone. A malformed line is AT_DATA with a
 * message that begins with "path:line:" or "path:line:column:". */
AT_CHECKED at_record_read(struct at_record *record, const struct at_line *line,
                          const struct at_dataset_params *params, const char *eos, uint32_t half);
void at_record_release(struct at_record *record);
/* What the line's keys make it: a pair, a labelled row, or another. AT_DATA for broken JSON. */
AT_CHECKED at_line_kind(enum at_row_kind *out, const struct at_line *line);
/* Messages of side k, or bytes of its text, that are the prompt; a conversation without a prompt
 * ends with the last assistant's message. */
size_t at_record_n_prompt(const struct at_record *record, size_t k);
/* Column of a key of the outer object, in characters from 1; 0 when it is not found. */
size_t at_line_column(const struct at_line *line, const char *key);
/* AT_DATA with "path:line: " or, when the outer object has the key, "path:line:column: " before the
 * text. */
enum at_status at_line_fail(const struct at_line *line, const char *key, const char *format, ...)
    AT_PRINTF(3, 4);

/* What a record is to the trainer, before it is cut; memory is used again. */
struct at_rendering {
    struct at_ids side[AT_MAX_SIDES];
    struct at_buf mask[AT_MAX_SIDES]; /* a byte for each id: 1 where it is a target; the first
                                            is none, nothing predicts it */
    uint32_t n_prompt;                /* ids of every side that are the prompt */
    uint32_t n_prefix;                /* the same, or 0 where the prompt is trained on */
    bool first_counts;                /* at_row.first_counts */
    bool moved; /* the prompt alone has other ids at its end than in front of the completion */
    struct at_ids part;
    struct at_buf text, part_text;
    struct at_spans spans; /* of side 0 that the template marks as the assistant's */
};
AT_CHECKED at_record_render(struct at_rendering *out, const struct at_record *record,
                            const struct at_dataset_params *params);
void at_rendering_release(struct at_rendering *rendering);

/* What plain text ends with: `eos`, which must be a token (AT_DATA), or with NULL the tokenizer's
 * own; "" where it has none. */
AT_CHECKED at_eos_text(char **out, struct at_arena *arena, const struct at_tokenizer *tokenizer,
                       const char *eos);
/* Where a group of rows stands in [0, 2^64): a function of seed and prompt alone, so that the order
 * of rows and the rest of the data do not matter; and the largest place that is held out of n,
 * never all of them and never none. */
uint64_t at_group_place(const struct at_row_id *group, uint64_t seed);
uint64_t at_group_border(const uint64_t *places, size_t n, double fraction);
/* The number that the first 16 hexadecimal digits are. */
uint64_t at_hex_word(const char *hex);
/* Its digest: of what the trainer sees of its rows. */
void at_dataset_digest(struct at_dataset *dataset);

#endif
