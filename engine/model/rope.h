/* Rotary angles: what a model's configuration says about them, and their frequencies. */
#ifndef AT_MODEL_ROPE_H
#define AT_MODEL_ROPE_H

#include "json.h"
#include "weights.h"

enum at_rope_kind {
    AT_ROPE_DEFAULT,
    AT_ROPE_LINEAR,  /* all frequencies / factor; Chen et al. 2023, arXiv 2306.15595 */
    AT_ROPE_DYNAMIC, /* as default up to `limit` positions; a longer sequence has a base of its own
                      */
    AT_ROPE_YARN,    /* Peng et al. 2023, arXiv 2309.00071 */
    AT_ROPE_LLAMA3,  /* low frequencies / factor, high ones left, a ramp between */
    AT_ROPE_LONG,    /* two lists of divisors, by the sequence's length; arXiv 2402.13753 */
    AT_ROPE_KINDS
};
/* Zero: see AT_ROPE_DEFAULT; fields of other kinds are not read. */
enum { AT_ROPE_MOST = 512 }; /* frequencies of half a head */
struct at_rope {
    enum at_rope_kind kind;
    double theta, factor;
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* yarn: rotations within `original` positions */
    bool truncate;                            /* yarn: the ramp's ends are whole numbers */
    double attention_factor;                  /* yarn, long: of cosines and sines */
    double partial;                           /* share of a head that is turned */
    /* long: divisors of sequences of up to `original` positions, and of longer ones */
    float divisors[2][AT_ROPE_MOST];
    uint32_t n_divisors[2];
    uint32_t original; /* positions that the model was first trained with */
    uint32_t limit;    /* dynamic: a longer sequence has angles that depend on its length */
    const struct at_source *factors; /* GGUF: (W / 2) divisors of the frequencies, or NULL */
    const struct at_source *long_factors[2]; /* GGUF: where `divisors` come from, or NULL */
};

/* An object of config.json ("rope_scaling", "rope_parameters") into *out, whose other fields stay;
 * original: positions where it does not name them, most: all of the model. Unknown kinds and values
 * out of range are AT_DATA. */
AT_CHECKED at_rope_from_json(struct at_rope *out, const cJSON *rope, const char *key,
                             const char *name, uint32_t original, uint32_t most);
/* The keys <architecture>.rope.* and the tensors rope_freqs.weight and rope_factors_*.weight. */
AT_CHECKED at_rope_from_gguf(struct at_rope *out, const struct at_weights *weights,
                             const char *architecture, uint32_t max_positions);
/* Sequences of more tokens than this have angles of their own; 0: none have. */
uint32_t at_rope_long_from(const struct at_rope *rope);
/* frequencies (W / 2): angle of a position; *scale: factor of cosines and sines. W: values of a
 * head that are turned; length: tokens of the sequence. */
AT_CHECKED at_rope_frequencies(double *frequencies, double *scale, const struct at_rope *rope,
                               uint32_t W, uint32_t length);

#endif
