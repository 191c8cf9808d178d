/* Pairs that a run draws itself (online DPO, Guo et al. 2024, arXiv 2402.04792): two samples of the
 * policy to each prompt, the one with the higher reward is chosen, and every loss of pairs takes
 * them. Row g of the window is the pair of prompt g. Where both have one reward, or one has none,
 * nothing is decided: the pair is computed forward only and counted (frac_reward_zero_std); TRL
 * takes the first as chosen. The temperature is the sampler's alone, as in TRL's trainer. Loss ipo
 * is DPO's, of token averages, where TRL's online trainer takes sums; metrics leave out padding,
 * over which it sums objective/kl and objective/entropy. */
#ifndef AT_ONLINE_PAIRS_H
#define AT_ONLINE_PAIRS_H

#include "advantage.h"
#include "config.h"
#include "reward_tally.h"
#include "row.h"

#include <cjson/cJSON.h>

struct at_loop;
struct at_online;

/* Sums of metrics since the last line, of a checkpoint; all are doubles. */
struct at_pairs_tally {
    double steps, scores, margin, ended, kl, entropy, length, flat, repetition, looks, accuracy;
    struct at_reward_tally rewards;
};

/* Which of two samples is chosen. */
enum at_pairs_choice { AT_CHOSE_FIRST, AT_CHOSE_SECOND, AT_CHOSE_NONE };

/* The n pairs of a step from the rewards of their samples: which are chosen, what is told of them
 * in metrics and completions.jsonl, and whether rewards can teach (at_online_look()). */
AT_CHECKED at_pairs_decide(struct at_loop *loop, uint32_t n);
/* Before a step over n pairs: their drift, where max_drift asks for it. */
AT_CHECKED at_pairs_begin(struct at_loop *loop, uint32_t n);
/* Adds the computed step. */
void at_pairs_tally_step(struct at_loop *loop, uint32_t n);
/* TRL's names of its trainer; the sums start anew. */
void at_pairs_write(cJSON *line, struct at_loop *loop);

#endif
