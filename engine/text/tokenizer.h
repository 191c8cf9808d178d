/* Tokenizers: byte-level BPE (Sennrich et al. 2016; GPT-2's byte alphabet), SentencePiece's BPE
 * and Unigram (Kudo and Richardson 2018), from a Hugging Face folder or from the arrays of a GGUF
 * file. Ids and strings equal the `tokenizers` library's. A tokenizer is read-only after loading
 * and may be used by several threads. Merging takes n log n steps whatever the text; a pattern of
 * the file that takes too many is AT_DATA.
 * Invalid UTF-8, in texts to encode: every maximal part that is no UTF-8 becomes one U+FFFD
 * (Unicode 3.9), as Python's errors="replace" and Rust do. */
#ifndef AT_TOKENIZER_H
#define AT_TOKENIZER_H

#include "mem.h"
#include "status.h"

struct at_tokenizer;

/* What GGUF metadata hold; every array is borrowed during the call only. */
struct at_vocab {
    const char *model; /* tokenizer.ggml.model: "gpt2", "llama" */
    const char *pre;   /* tokenizer.ggml.pre: "smollm", "qwen2", "llama-bpe", ...; or NULL */
    const char *const *tokens;   /* n_tokens strings; gpt2: in GPT-2's byte alphabet */
    const size_t *token_lengths; /* bytes of each */
    const int32_t *types;      /* 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte; or NULL */
    const float *scores;       /* n_tokens; llama: which pair is merged first */
    const char *const *merges; /* gpt2: n_merges "left right" */
    size_t n_tokens, n_merges;
    int32_t bos, eos, pad, unknown; /* -1 when absent */
    bool add_bos, add_eos;
    bool add_space_prefix, remove_extra_whitespaces; /* llama */
};
/* Everything absent, flags as they are for such a model when the file does not say. AT_DATA for
 * models and names that are not built. */
AT_CHECKED at_vocab_init(struct at_vocab *out, const char *model, const char *pre,
                         const char *name);

/* `dir` holds tokenizer.json, or vocab.json and merges.txt (and tokenizer_config.json,
 * special_tokens_map.json when present). Kinds that are not built are refused with a sentence that
 * names the component. AT_NOT_FOUND says how to make tokenizer.json when there is only
 * SentencePiece's tokenizer.model. */
AT_CHECKED at_tokenizer_load(struct at_tokenizer **out, const char *dir);
AT_CHECKED at_tokenizer_from_vocab(struct at_tokenizer **out, const struct at_vocab *vocab,
                                   const char *name);
void at_tokenizer_destroy(struct at_tokenizer **tokenizer);

uint32_t at_tokenizer_size(const struct at_tokenizer *tokenizer); /* largest id + 1 */
int32_t at_tokenizer_bos(const struct at_tokenizer *tokenizer);   /* -1 when there is none */
int32_t at_tokenizer_eos(const struct at_tokenizer *tokenizer);
int32_t at_tokenizer_pad(const struct at_tokenizer *tokenizer);
int32_t at_tokenizer_find(const struct at_tokenizer *tokenizer, const char *token); /* or -1 */
bool at_tokenizer_is_special(const struct at_tokenizer *tokenizer, int32_t id);
/* An id that is not the same token in both, or -1; its texts go to `a_text` and `b_text` (borrowed;
 * NULL: nothing). An id that one of them lacks counts only when a text can have it: GGUF files fill
 * a vocabulary up with tokens that none has. */
int32_t at_tokenizer_compare(const struct at_tokenizer *a, const struct at_tokenizer *b,
                             const char **a_text, const char **b_text);
/* Hex BLAKE2b over all that makes ids of texts; 65 bytes. */
const char *at_tokenizer_digest(const struct at_tokenizer *tokenizer);

/* Appends the ids of n bytes of UTF-8 (invalid parts become U+FFFD, counted by a warning). With
 * `add_special` the tokenizer's own BOS/EOS rule applies, as in `tokenizer(text)`. Added tokens in
 * the text are recognised either way, as in the reference. */
AT_CHECKED at_tokenizer_encode(const struct at_tokenizer *tokenizer, struct at_ids *out,
                               const char *text, size_t n, bool add_special);
/* Appends the text of the ids; bytes that are not valid UTF-8 become U+FFFD: one for each maximal
 * part, or, of tokens like <0x0A>, one for each byte of a run that is no UTF-8 as a whole.
 * `skip_special` leaves special tokens out. Ids without a text, those behind the last token
 * too (models pad their vocabularies), decode to nothing; negative ones are AT_DATA. */
AT_CHECKED at_tokenizer_decode(const struct at_tokenizer *tokenizer, struct at_buf *out,
                               const int32_t *ids, size_t n, bool skip_special);

/* Incremental decoding: bytes come out as soon as they form whole characters. The text is
 * at_tokenizer_decode()'s, but that of runs of tokens like <0x0A> one U+FFFD stands for each
 * maximal part. Begin with {0}. */
struct at_decoding {
    char pending[8];
    size_t n_pending;
    bool has_token, has_text; /* some were put; what is first loses its space in some models */
};
AT_CHECKED at_decoding_put(struct at_decoding *decoding, const struct at_tokenizer *tokenizer,
                           struct at_buf *out, int32_t id, bool skip_special);

#endif
