/* How alike a reply and a reference are, by their words. */
#ifndef AT_OVERLAP_H
#define AT_OVERLAP_H

#include "status.h"

enum { AT_BLEU_ORDER = 4 };
/* BLEU (Papineni et al. 2002) over a corpus with one reference each, as sacrebleu computes it: its
 * tokenizer 13a, exponential smoothing. `struct at_bleu b = {0}` is ready to use. */
struct at_bleu {
    uint64_t correct[AT_BLEU_ORDER], total[AT_BLEU_ORDER], reply_words, reference_words;
};
AT_CHECKED at_bleu_add(struct at_bleu *bleu, const char *reply, const char *reference);
double at_bleu_score(const struct at_bleu *bleu); /* 0 to 100 */

/* ROUGE-L (Lin 2004): F1 of the longest common subsequence, 0 to 1, as rouge-score computes it
 * without a stemmer: words are runs of a-z and 0-9 in lower case. */
AT_CHECKED at_rouge_l(double *out, const char *reply, const char *reference);

/* Share of a text's runs of four words (by tokenizer 13a) that occurred in it before; 0 for fewer
 * than five words. */
AT_CHECKED at_repetition(double *out, const char *text);
uint32_t at_words(const char *text); /* what stands between blanks of ASCII */
/* The same text but for blanks around it. */
bool at_is_exact_match(const char *reply, const char *reference);

#endif
