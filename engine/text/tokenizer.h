/* Byte-level BPE (Sennrich et al. 2016; GPT-2's byte alphabet) from a Hugging Face folder's
 * tokenizer.json or from the arrays of a GGUF file. Ids and strings equal the `tokenizers`
 * library's. A tokenizer is read-only after loading and may be used by several threads. */
#ifndef AT_TOKENIZER_H
#define AT_TOKENIZER_H

#include "mem.h"
#include "status.h"

struct at_tokenizer;

/* What GGUF metadata hold; every array is borrowed during the call only. */
struct at_vocab {
    const char *model; /* tokenizer.ggml.model: "gpt2" */
    const char *pre;   /* tokenizer.ggml.pre: "smollm", "qwen2", "llama-bpe", ...; or NULL */
    const char *const *tokens;   /* n_tokens byte strings in GPT-2's byte alphabet */
    const size_t *token_lengths; /* bytes of each */
    const int32_t *types;        /* 1 normal, 3 control, 4 user-defined, 6 byte; or NULL */
    const char *const *merges;   /* n_merges "left right" */
    size_t n_tokens, n_merges;
    int32_t bos, eos, pad; /* -1 when absent */
    bool add_bos, add_eos;
};

/* `dir` holds tokenizer.json (and tokenizer_config.json, special_tokens_map.json when present).
 * Kinds that are not built are refused with a sentence that names the component. */
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
/* Hex BLAKE2b over vocabulary, merges, added tokens and pattern; 65 bytes. */
const char *at_tokenizer_digest(const struct at_tokenizer *tokenizer);

/* Appends the ids of n bytes of UTF-8 (invalid bytes become U+FFFD, counted by a warning). With
 * `add_special` the tokenizer's own BOS/EOS rule applies, as in `tokenizer(text)`. Added tokens in
 * the text are recognised either way, as in the reference. */
AT_CHECKED at_tokenizer_encode(const struct at_tokenizer *tokenizer, struct at_ids *out,
                               const char *text, size_t n, bool add_special);
/* Appends the text of the ids; bytes that are not valid UTF-8 become U+FFFD.
 * `skip_special` leaves special tokens out. Ids out of range are AT_DATA. */
AT_CHECKED at_tokenizer_decode(const struct at_tokenizer *tokenizer, struct at_buf *out,
                               const int32_t *ids, size_t n, bool skip_special);

/* Incremental decoding: bytes come out as soon as they form whole characters. */
struct at_decoding {
    char pending[8];
    size_t n_pending;
};
AT_CHECKED at_decoding_put(struct at_decoding *decoding, const struct at_tokenizer *tokenizer,
                           struct at_buf *out, int32_t id, bool skip_special);

#endif
