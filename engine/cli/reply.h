/* What commands that reply share: the numbers of sampling, and a reply's text as it comes. */
#ifndef AT_REPLY_H
#define AT_REPLY_H

#include "cli.h"
#include "generate.h"

enum cli_reply_number { /* flags and, in a chat, names of /set; sorted */
                        CLI_MAX_NEW_TOKENS,
                        CLI_MIN_NEW_TOKENS,
                        CLI_MIN_P,
                        CLI_REPETITION_PENALTY,
                        CLI_SEED,
                        CLI_TEMPERATURE,
                        CLI_TOP_K,
                        CLI_TOP_P,
                        CLI_REPLY_NUMBERS
};
struct cli_reply_params {
    double number[CLI_REPLY_NUMBERS];
    const char **stops; /* --stop: texts that end a reply and are no part of it */
    size_t n_stops;
};
/* From the flags; what is not given has the defaults of --help. */
AT_CHECKED cli_reply_params_read(struct cli_reply_params *out, struct cli_args *args);
/* Sets a number by its name; AT_USAGE for other names and wrong values. */
AT_CHECKED cli_reply_params_set(struct cli_reply_params *params, const char *name,
                                const char *value);
/* "temperature 0, top_p 1, ..." */
AT_CHECKED cli_reply_params_tell(struct at_buf *out, const struct cli_reply_params *params);
struct at_sampling cli_reply_sampling(const struct cli_reply_params *params);

/* A reply's text as tokens come. */
struct cli_reply {
    const struct at_tokenizer *tokenizer;
    const struct cli_reply_params *params;
    bool shows; /* on stdout, as soon as no stop string can begin there */
    struct at_buf text;
    size_t shown;
    struct at_decoding decoding;
};
void cli_reply_begin(struct cli_reply *reply);
/* The next id. *ends is set where a stop string came, which is no part of the text. */
AT_CHECKED cli_reply_token(struct cli_reply *reply, int32_t id, bool *ends);
void cli_reply_end(struct cli_reply *reply); /* shows what was held back */

#endif
