/* `attune eval`: what is measured of a state (the base, the base with a prompt, an adapter), and
 * two of them compared. */
#ifndef AT_EVAL_H
#define AT_EVAL_H

#include "config.h"
#include "dataset.h"
#include "metrics.h"
#include "overlap.h"
#include "rule.h"
#include "statistics.h"

struct eval_params {
    const char *rules;          /* JSONL: prompts with a "rule"; or NULL */
    uint32_t n_replies;         /* to held-out prompts, at most */
    uint32_t max_new_tokens;    /* of a reply */
    uint64_t seed;              /* of the intervals */
    double max_drift, max_lost; /* budgets: nats a token, share of the rules; NAN: none */
};
/* A state under judgement; a result in memory of its own. */
struct eval_state {
    const char *name, *adapter, *system; /* the last two: or NULL */
    struct at_examples examples;         /* few-shot; borrowed */
    double scale;                        /* of the adapter's strength */
    struct at_arena arena;
    uint32_t n_pairs;
    uint32_t *lines; /* (n_pairs) */
    double *side[2]; /* (n_pairs) mean log-prob a token of the chosen, of the rejected reply */
    struct at_share accuracy;  /* chosen above rejected */
    struct at_estimate margin; /* chosen less rejected, nats a token */
    double perplexity;         /* of the chosen replies */
    double prompt_tokens;      /* mean of a row */
    bool has_drift;
    double drift; /* from the base, nats a token of the chosen replies */
    /* replies to held-out prompts, the likeliest token each time */
    uint32_t n_replies, n_exact, n_ended, n_refusals;
    const char **texts; /* (n_replies) */
    struct at_bleu bleu;
    struct at_estimate rouge_l, words, repetition;
    uint32_t n_rules, n_passed;
    bool *passed; /* (n_rules) */
};
/* The configuration that the run in a folder was given, of what changes how rows are read and the
 * base is loaded, then the flags; a note names what is the run's. AT_USAGE where neither names a
 * model. */
AT_CHECKED eval_config_of_run(struct at_config *out, const char *dir, const struct at_flag *flags,
                              size_t n_flags);
/* What that run held out: its eval_dataset, or the file that eval_split wrote beside the adapter.
 * AT_NOT_FOUND where it is not there. In `arena` or of `config`. */
AT_CHECKED eval_rows_of_run(const char **out, struct at_arena *arena,
                            const struct at_config *config, const char *dir);
/* The rows are those of one file, read as DPO's whatever trained, and nothing is trained. `rows`
 * must stay. */
void eval_take_rows(struct at_config *config, const char *const *rows);
/* Computes n of them that differ in name and scale alone, with one load of the model; `config`
 * names model, device and rows and is changed. Notes go to stderr. */
AT_CHECKED eval_measure(struct eval_state *states, size_t n, struct at_config *config,
                        const struct eval_params *params);
/* Accuracy and margin of the n_pairs sides that are there. */
AT_CHECKED eval_sum_up(struct eval_state *state, uint64_t seed);
void eval_release(struct eval_state *state);

/* Two states on the same rows, `after` against `before`. */
enum eval_verdict { EVAL_BETTER, EVAL_WORSE, EVAL_OPEN };
struct eval_comparison {
    struct at_estimate accuracy; /* difference of shares */
    struct at_estimate margin;   /* difference, nats a token */
    uint32_t wins, losses;       /* pairs that became right, that became wrong */
    double p;                    /* of the sign test over these */
    double needed;               /* pairs for a difference of this size; 0: no number of them */
    uint32_t gained, lost;       /* rules */
    bool over_drift, over_lost;
    enum eval_verdict verdict;
};
AT_CHECKED eval_compare(struct eval_comparison *out, const struct eval_state *before,
                        const struct eval_state *after, const struct eval_params *params);

/* ---- as JSON ---- */

/* "better", "worse", "open". */
const char *eval_verdict_word(enum eval_verdict verdict);
/* out[name] = {"value", "low", "high", "n"} */
void eval_add_interval(cJSON *out, const char *name, struct at_estimate interval);
cJSON *eval_state_json(const struct eval_state *state);
cJSON *eval_comparison_json(const struct eval_state *state,
                            const struct eval_comparison *comparison);

#endif
