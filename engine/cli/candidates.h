/* What `attune generate` works with, and the rows that it makes for people to look at: pairs of
 * replies, and prompts. Both are marked "synthetic": true, "reviewed": false. */
#ifndef AT_CANDIDATES_H
#define AT_CANDIDATES_H

#include "prompts.h"
#include "reply.h"

/* How replies are made. */
struct cli_voice {
    struct cli_reply_params params;
    struct cli_prompts prompts; /* as this voice's system message begins them */
    bool *on;                   /* of the generator's adapters */
};
struct cli_session {
    struct cli_args *args;
    struct at_arena arena;
    struct at_bundle bundle;
    struct at_generator *generator;
    double adapter_scale;
    size_t n_adapters;
    struct cli_voice voice, other; /* other: of pairs, the second reply's */
    struct cli_reply reply;        /* the last of cli_session_reply() */
    enum at_generation_end end;
    uint64_t n_tokens; /* of all replies */
};
/* Replies to prompt i of the voice; `draw`, with the seed, is what sampling follows. */
AT_CHECKED cli_session_reply(struct cli_session *session, const struct cli_voice *voice, size_t i,
                             size_t draw);

/* --pairs: {"prompt", "responses": [voice's, other's], "synthetic", "reviewed"} a prompt on stdout.
 * Where the other voice samples, an equal or empty reply is drawn again; what stays so is left out
 * and counted. AT_DATA when nothing is left. */
AT_CHECKED cli_pairs_print(struct cli_session *session);

/* --vary: n prompts for the voice that ask the model for another message like three of the seeds'
 * (Wang et al. 2022, "Self-Instruct", arXiv 2212.10560). */
AT_CHECKED cli_vary_ask(struct cli_session *session, const struct cli_prompts *seeds, uint32_t n);
/* Its replies as {"prompt", "synthetic", "reviewed"} on stdout; what is too like a seed or an
 * earlier one (ROUGE-L 0.7, as there) is drawn again, then left out and counted. */
AT_CHECKED cli_vary_print(struct cli_session *session, const struct cli_prompts *seeds);

#endif
