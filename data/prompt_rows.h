/* Rows of a prompt alone, for which a policy draws samples. JSONL, one a line, as TRL has them:
 *   {"prompt": text or messages, ...}
 * Further columns are read by rewards, so that a row keeps its line. */
#ifndef AT_PROMPT_ROWS_H
#define AT_PROMPT_ROWS_H

#include "dataset.h"
#include "json.h"
#include "lines.h"

/* Ids of the prompts of lines, and of what ends their completions. */
struct at_prompt_reader {
    const struct at_dataset_params *params;
    struct at_ids ids; /* of the prompt read last */
    int32_t eos, turn; /* ends of a sequence and of a turn; -1: none */
};
/* AT_DATA for an eos_token that is none. */
AT_CHECKED at_prompt_reader_init(struct at_prompt_reader *out,
                                 const struct at_dataset_params *params);
void at_prompt_reader_release(struct at_prompt_reader *reader);
/* "prompt" of a line, a conversation with the beginning of the reply. AT_DATA with the place of
 * what is wrong. */
AT_CHECKED at_prompt_read(struct at_prompt_reader *reader, const struct at_line *line,
                          const cJSON *json);

struct at_prompt_row {
    const int32_t *ids;
    uint32_t n;
    uint32_t file, line; /* of the files read, from 0; of that file, from 1 */
    bool chat;
    const char *json; /* the line */
};
struct at_prompt_rows {
    struct at_arena arena;
    const struct at_prompt_row *items;
    uint32_t n, n_chats, longest; /* rows, of them conversations; ids of the longest */
    char digest[65];              /* of ids and lines */
};
/* In the order of the files. max_length, where it is not 0, is of prompt and completion together,
 * for which n_new tokens are wanted: a prompt that leaves less is AT_DATA. No row is, too. */
AT_CHECKED at_prompt_rows_load(struct at_prompt_rows *out, const char *const *paths, size_t n_paths,
                               uint32_t n_new, const struct at_dataset_params *params);
void at_prompt_rows_release(struct at_prompt_rows *rows);

#endif
