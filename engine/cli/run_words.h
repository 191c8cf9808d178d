/* The command line of a stage that is a command. */
#ifndef AT_RUN_WORDS_H
#define AT_RUN_WORDS_H

#include "run.h"

struct run_words {
    struct pipeline *pipeline;
    size_t stage; /* whose they are */
    char *items[128];
    int n;
};
AT_CHECKED run_words_add(struct run_words *words, const char *word);
/* "--key value"; value NULL: a switch. */
AT_CHECKED run_words_flag(struct run_words *words, const char *key, const char *value);
/* A key of a configuration as a flag, where it was given. */
AT_CHECKED run_words_key(struct run_words *words, const struct at_config *config, enum at_key key);
/* The arguments of the command that the words name. */
AT_CHECKED run_words_read(struct cli_args *out, struct run_words *words);

#endif
