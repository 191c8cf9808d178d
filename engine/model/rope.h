/* Rotary angles: what a model's configuration says about them, and their frequencies. */
#ifndef AT_MODEL_ROPE_H
#define AT_MODEL_ROPE_H

#include "json.h"
#include "weights.h"

enum at_rope_kind {
    AT_ROPE_DEFAULT,
    AT_ROPE_LINEAR,  /* all frequencies / factor; Chen et al. 2023, arXiv 2306.15595 */
    AT_ROPE_DYNAMIC, /* as default up to `limit` positions; longer sequences are refused */
    AT_ROPE_YARN,    /* Peng et al. 2023, arXiv 2309.00071 */
    AT_ROPE_LLAMA3,  /* low frequencies / factor, high ones left, a ramp between */
    AT_ROPE_KINDS
};
/* Zero: see AT_ROPE_DEFAULT; fields of other kinds are not read. */
struct at_rope {
    enum at_rope_kind kind;
    double theta, factor;
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* yarn: rotations within `original` positions */
    bool truncate;                            /* yarn: the ramp's ends are whole numbers */
    double attention_factor;                  /* yarn: of cosines and sines */
    uint32_t original;                        /* positions that the model was first trained with */
    uint32_t limit; /* a longer sequence has angles that depend on its length; 0: none has */
    const struct at_source *factors; /* GGUF: (D / 2) divisors of the frequencies, or NULL */
};

/* An object of config.json ("rope_scaling", "rope_parameters") into *out, whose other fields stay;
 * max_positions: where it does not name the original ones. Unknown kinds and values out of range
 * are AT_DATA. */
AT_CHECKED at_rope_from_json(struct at_rope *out, const cJSON *rope, const char *key,
                             const char *name, uint32_t max_positions);
/* The keys <architecture>.rope.* and the tensor rope_freqs.weight. */
AT_CHECKED at_rope_from_gguf(struct at_rope *out, const struct at_weights *weights,
                             const char *architecture, uint32_t max_positions);
/* frequencies (D / 2): angle of a position; *scale: factor of cosines and sines. */
AT_CHECKED at_rope_frequencies(double *frequencies, double *scale, const struct at_rope *rope,
                               uint32_t D);
/* AT_DATA when a sequence of n tokens has angles that depend on its length. */
AT_CHECKED at_rope_check_length(const struct at_rope *rope, uint32_t n);

#endif
