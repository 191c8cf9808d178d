/* Prompts to reply to: texts and files of them as ids, through a model's chat template. */
#ifndef AT_PROMPTS_H
#define AT_PROMPTS_H

#include "bundle.h"
#include "dataset.h"
#include "sampler.h"

enum { CLI_MAX_MESSAGES = 256 }; /* of a conversation */
struct cli_prompt {
    int32_t *ids;
    uint32_t n;
    const char *text; /* as it was given; NULL: it is messages or ids */
    cJSON *row;       /* the line that it stands in; NULL: it was given by itself */
    size_t line;      /* of its file, from 1; 0: it was given by itself */
};
struct cli_prompts {
    const char *system;          /* put before prompts without a system message; or NULL */
    struct at_examples examples; /* turns before every conversation, behind its system message */
    bool raw;                    /* texts are plain: no chat template */
    const struct at_bundle *bundle;
    struct cli_prompt *items;
    size_t n, capacity;
    int32_t stop[2]; /* end of sequence, and of a turn */
    size_t n_stop;
    struct at_arena arena;
};
/* `bundle` must stay open; `system`, `examples` and `raw` are set before. */
AT_CHECKED cli_prompts_open(struct cli_prompts *prompts, const struct at_bundle *bundle);
void cli_prompts_release(struct cli_prompts *prompts);
/* A user's message, or with `raw` or without a template a text; `text` is borrowed. */
AT_CHECKED cli_prompts_add(struct cli_prompts *prompts, const char *text);
/* A conversation of at most CLI_MAX_MESSAGES (AT_DATA). */
AT_CHECKED cli_prompts_add_messages(struct cli_prompts *prompts, const struct at_message *messages,
                                    size_t n);
/* Ids as they are. */
AT_CHECKED cli_prompts_add_ids(struct cli_prompts *prompts, const int32_t *ids, size_t n);
/* Lines with "prompt" (text or messages) or "messages". */
AT_CHECKED cli_prompts_read(struct cli_prompts *prompts, const char *path);
/* Prompt i, a text or a line's, as a row has it: messages without the reply at their end and with
 * `system` in front where they have none, or a text where it was taken as one. The caller's. */
cJSON *cli_prompts_json(const struct cli_prompts *prompts, size_t i);
/* The text of a prompt, or its last message of the user; "" where it has none. */
const char *cli_prompt_text(const struct cli_prompt *prompt);

/* The prompts as generation reads them; free with at_free(), valid while the prompts are. */
AT_CHECKED cli_prompts_ids(struct at_prompt_ids **out, const struct cli_prompts *prompts);

#endif
