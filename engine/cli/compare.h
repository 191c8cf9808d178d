/* `attune compare`: two states of a model reply to the same prompts, and a judge who does not know
 * which is which says whose reply is better. */
#ifndef AT_COMPARE_H
#define AT_COMPARE_H

#include "cli.h"
#include "statistics.h"

/* A line of the file of replies: {"prompt", "responses": [before's, after's], "models": [...]} in
 * the form that `attune label` takes. The prompt is the whole of what was replied to, a text or
 * messages; "made_with" is what the replies depend on besides. */
struct compare_reply {
    cJSON *row;
    const char *prompt; /* its last message, for judges that read one text */
    const char *text[2];
};
struct compare {
    struct cli_args *args;
    const char *names[2];          /* of the states: before, after */
    const char *device;            /* of judges; or NULL */
    const char *replies_path;      /* or NULL: nothing is replied */
    cJSON *made_with;              /* as the file has it; NULL where nothing is replied */
    struct compare_reply *replies; /* (n_replies) */
    size_t n_replies, capacity;
    /* what a judge said of n cases: 1 after is better, 0.5 equal, 0 before is better, NAN: nothing
     */
    double *outcome;
    uint32_t n;
    struct at_arena arena;
};
/* Each fills outcome and n. AT_NO_EVIDENCE where people have decided nothing yet. */
AT_CHECKED compare_by_reward(struct compare *compare);
AT_CHECKED compare_by_model(struct compare *compare);
AT_CHECKED compare_by_people(struct compare *compare);

#endif
