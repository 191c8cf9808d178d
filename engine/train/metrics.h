/* Metrics under TRL's names, from row results. All sums are double, in row order. */
#ifndef AT_METRICS_H
#define AT_METRICS_H

#include "config.h"
#include "engine.h"
#include "statistics.h"

/* Sums over rows; a window of steps or an evaluation. */
struct at_tally {
    double rows, loss;
    double logp[2], score[2], wins; /* pairs: chosen, rejected; strict wins of the reward */
    double mean_logp_wins;          /* chosen mean log-prob a token above rejected */
    double logit[2], entropy, hits; /* sums over tokens */
    double tokens[2];               /* target tokens of segment 0 and 1 */
    double labelled[2], kl;         /* labelled rows: desirable ones, others, which count above as
                                       segment 0 and 1; sum of their KL terms */
    double mean_logp[2];            /* of means over a side's tokens */
    double log_odds, log_ratio;     /* log-odds x of a pair, log sigma(x) */
    double nll, nll_tokens;         /* of the chosen side, with the prompt where that counts; of
                                       triples, of the reference */
    double low, high, groups;       /* sums over groups of rows of their least and greatest score */
};
void at_tally_add(struct at_tally *tally, const struct at_row *row, const struct at_row_result *r);

/* Pairs that are a group: those of an optimizer step, or of an evaluation. */
void at_tally_group(struct at_tally *tally, const struct at_row_result *results, uint32_t n);

/* Whose metrics they are. */
struct at_metric_style {
    enum at_method method;
    double beta;            /* turns scores into rewards */
    bool token_means;       /* log-probs are means over a side's tokens, not sums */
    bool log_odds;          /* ORPO's are written */
    bool kl;                /* KTO's KL term is written */
    bool triples;           /* rows have a side `reference` */
    bool without_reference; /* of a method that has one: no loss reads it, none was computed, and no
                               rewards are written */
};
/* {"loss": ..., TRL's names...} with `prefix` ("" or "eval_").
 * A value that is not finite becomes null and its name is added to "nonfinite". */
void at_tally_write(cJSON *out, const struct at_tally *tally, const char *prefix,
                    const struct at_metric_style *style);
/* Margins of pairs by how long their chosen sides are, the mean over those that have at most 32,
 * 128, 512 tokens and more than the bound before: PREFIXmargins/len_32, len_128, len_512, len_more;
 * what no pair has is left out. They tell a style that is learned from a length that is. scale: of
 * scores to rewards. */
void at_metric_lengths(cJSON *out, const char *prefix, const struct at_row *rows,
                       const struct at_row_result *results, uint32_t n, double scale);
/* Every name that at_metric_lengths() may write, with 0. */
void at_metric_length_names(cJSON *out, const char *prefix);
/* Adds a number to an object under the rule for non-finite values. */
void at_metric_add(cJSON *out, const char *prefix, const char *name, double value);

cJSON *at_share_json(struct at_share share);

#endif
