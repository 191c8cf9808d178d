/* Parts of the tokenizer, private to engine/text: tables, models, patterns, normalizers,
 * pre-tokenizers, decoders, loaders. */
#ifndef AT_TOKENIZER_PARTS_H
#define AT_TOKENIZER_PARTS_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include "hash.h"
#include "json.h"
#include "tokenizer.h"
#include <pcre2.h>

enum {
    AT_MAX_ID = (1 << 24) - 1, /* a file that says more is damaged */
    AT_MAX_STAGES = 16,
    AT_MAX_TEMPLATE = 8
};

/* ---- strings to ids ---- */

/* Open addressing; keys are borrowed and outlive the map. */
struct at_string_map {
    struct at_string_slot *slots;
    size_t n, n_slots;
};
/* Room for n keys. */
AT_CHECKED at_string_map_init(struct at_string_map *out, size_t n);
void at_string_map_release(struct at_string_map *map);
/* Sets a key's id; the last one holds. At most as many keys as there is room for. */
void at_string_map_put(struct at_string_map *map, const char *key, size_t n, int32_t id);
int32_t at_string_map_find(const struct at_string_map *map, const char *key, size_t n); /* or -1 */

/* ---- merges ---- */

struct at_merge {
    uint64_t pair; /* left id in the upper half; UINT64_MAX: a free slot */
    uint32_t rank;
    int32_t id;
};
struct at_merge_map {
    struct at_merge *slots;
    size_t n_slots;
};
AT_CHECKED at_merge_map_init(struct at_merge_map *out, size_t n);
void at_merge_map_release(struct at_merge_map *map);
void at_merge_map_put(struct at_merge_map *map, int32_t left, int32_t right, uint32_t rank,
                      int32_t id);
const struct at_merge *at_merge_map_find(const struct at_merge_map *map, int32_t left,
                                         int32_t right); /* or NULL */

/* Memory of one merging, used again for each word. */
struct at_bpe {
    struct at_symbol *symbols;
    struct at_candidate_merge *heap;
    size_t capacity, n_heap;
};
void at_bpe_release(struct at_bpe *bpe);

/* ---- Unigram ---- */

/* Scores and a trie over the tokens' bytes (Kudo 2018). */
struct at_unigram {
    struct at_merge_map trie; /* (node, byte) to the next node; rank: its token + 1, or 0 */
    double *scores;           /* (tokens of the model) */
    double unknown_score;
};
/* After all tokens; `scores` belong to the tokenizer from then on, also on failure. */
AT_CHECKED at_unigram_init(struct at_unigram *out, const struct at_tokenizer *tokenizer,
                           double *scores, size_t n);
void at_unigram_release(struct at_unigram *unigram);

/* ---- patterns ---- */

extern const char at_pattern_gpt2[];
/* Compiles a pattern written for the reference's engine (Oniguruma with Ruby's syntax). AT_DATA for
 * constructs that PCRE2 would read in another way. */
AT_CHECKED at_pattern_compile(pcre2_code **out, const char *pattern, const char *name);
/* Finds the text itself. */
AT_CHECKED at_pattern_compile_literal(pcre2_code **out, const char *text, const char *name);
struct at_matcher {
    pcre2_match_data *match;
    pcre2_match_context *limits;
};
AT_CHECKED at_matcher_init(struct at_matcher *out);
void at_matcher_release(struct at_matcher *matcher);
/* The next match from `from` on; *begin = n when there is none. */
AT_CHECKED at_matcher_find(struct at_matcher *matcher, const pcre2_code *code, size_t *begin,
                           size_t *end, const char *text, size_t n, size_t from);

/* ---- normalizers ---- */

/* SentencePiece's table of replacements: a double array over the bytes, then texts, each with a 0
 * behind it. */
struct at_charsmap {
    const uint32_t *units;
    size_t n_units;
    const char *texts;
    size_t n_texts;
};
/* `blob` is base64; the map's memory is the arena's. */
AT_CHECKED at_charsmap_read(struct at_charsmap *out, struct at_arena *arena, const char *blob,
                            const char *name);
void at_charsmap_put(const struct at_charsmap *map, struct at_buf *out, const char *text, size_t n);

enum at_normalizer_kind {
    AT_NORMALIZE_NFC,
    AT_NORMALIZE_NFD,
    AT_NORMALIZE_NFKC,
    AT_NORMALIZE_NFKD,
    AT_NORMALIZE_LOWERCASE,
    AT_NORMALIZE_NMT,
    AT_NORMALIZE_STRIP_ACCENTS,
    AT_NORMALIZE_STRIP,
    AT_NORMALIZE_PREPEND,
    AT_NORMALIZE_REPLACE,
    AT_NORMALIZE_CHARSMAP
};
struct at_normalizer {
    enum at_normalizer_kind kind;
    bool left, right;       /* Strip */
    const char *text;       /* Prepend: before the text; Replace: instead of a match */
    pcre2_code *code;       /* Replace */
    struct at_charsmap map; /* Precompiled */
};
/* A text on its way to the model. `at_start`: its first character is the first of all; some
 * pre-tokenizers treat that one in another way. */
struct at_text {
    struct at_buf buf;
    bool at_start;
};
/* Normalises text->buf in place. */
AT_CHECKED at_normalize(const struct at_tokenizer *tokenizer, struct at_matcher *matcher,
                        struct at_text *text);

/* ---- pre-tokenizer ---- */

/* What becomes of the matches of a pattern, and of what stands between them. */
enum at_behavior {
    AT_SPLIT_ISOLATED,
    AT_SPLIT_REMOVED,
    AT_SPLIT_MERGED_WITH_PREVIOUS,
    AT_SPLIT_MERGED_WITH_NEXT,
    AT_SPLIT_CONTIGUOUS
};
enum at_prepend { AT_PREPEND_NEVER, AT_PREPEND_FIRST, AT_PREPEND_ALWAYS };
/* Either cuts a text at the matches of `code`, or, without one, writes `mark` for each space and
 * puts one before a text that does not begin with it. */
struct at_stage {
    pcre2_code *code;
    enum at_behavior behavior;
    bool invert; /* matches and what stands between them change places */
    const char *mark;
    enum at_prepend prepend;
};
/* Cuts a text by all stages and appends the ids of the words. */
struct at_encoding {
    const struct at_tokenizer *tokenizer;
    struct at_ids *out;
    struct at_bpe bpe;
    struct at_matcher matcher;
};
AT_CHECKED at_encoding_put(struct at_encoding *encoding, const char *text, size_t n, bool at_start);

/* Appends the ids of a word, which is not empty. */
typedef enum at_status at_word_encoder(struct at_encoding *encoding, const char *word, size_t n);
at_word_encoder at_bpe_word, at_unigram_word;

/* ---- decoder ---- */

enum at_decode_kind { AT_DECODE_REPLACE, AT_DECODE_STRIP, AT_DECODE_MARK };
/* What is done to a token's text. */
struct at_decode_op {
    enum at_decode_kind kind;
    const char *text;     /* Replace: what is replaced; Strip: a character; Metaspace: the mark */
    const char *content;  /* Replace */
    uint32_t start, stop; /* Strip: at most so many characters at the ends */
    bool first_has_none;  /* Metaspace: marks of the first token are left out, not made spaces */
};
struct at_decoder {
    struct at_decode_op ops[AT_MAX_STAGES];
    size_t n_ops;
    bool byte_level;    /* tokens are in GPT-2's byte alphabet */
    bool byte_fallback; /* <0x0A> is a byte; runs that are no UTF-8 are U+FFFD for each byte */
    bool fuse;          /* what follows is done to the whole text */
    char strip;         /* one such character at the start of the whole text is left out; or 0 */
};
/* Sets what each token decodes to. */
AT_CHECKED at_decoder_end(struct at_tokenizer *tokenizer);
int at_byte_token(const char *text, size_t n); /* the byte of <0x0A>, else -1 */

/* ---- the tokenizer ---- */

struct at_token {
    const char *text;  /* the byte alphabet, or an added token's own text; NULL: a gap */
    const char *bytes; /* what it decodes to */
    uint32_t n_text, n_bytes;
    bool is_byte; /* of a run that decodes as a whole */
    bool special, lstrip, rstrip, single_word;
};

/* Added tokens that are looked for in one form of the text. */
struct at_added {
    struct at_string_map map;
    uint32_t *lengths; /* distinct lengths, longest first */
    size_t n_lengths;
    bool first[256]; /* bytes that a token begins with */
};

struct at_tokenizer {
    struct at_arena arena;
    struct at_token *tokens; /* (n_tokens) */
    size_t n_tokens;
    struct at_string_map vocab; /* the model's vocabulary */
    struct at_merge_map merges;
    at_word_encoder *word;
    struct at_unigram unigram;
    int32_t byte_id[256];     /* of a byte's letter in GPT-2's alphabet; -1: no token */
    int32_t fallback_id[256]; /* of <0x0A>; -1: no token, or no byte fallback */
    int32_t unknown;          /* -1: what has no token is left out */
    bool byte_fallback;
    bool fuse_unknown;  /* one for all that stand together */
    bool ignore_merges; /* a word that is a token is that token */
    bool byte_level;    /* words are spelled in GPT-2's byte alphabet */
    struct at_normalizer normalizers[AT_MAX_STAGES];
    size_t n_normalizers;
    struct at_added added[2]; /* looked for before and after normalisation */
    struct at_stage stages[AT_MAX_STAGES];
    size_t n_stages;
    struct at_decoder decoder;
    int32_t before[AT_MAX_TEMPLATE], after[AT_MAX_TEMPLATE]; /* around a text */
    size_t n_before, n_after;
    int32_t bos, eos, pad;
    struct at_hash hash; /* of what loading has seen so far */
    char digest[65];
};

/* An added token as a file describes it. */
struct at_added_token {
    const char *text;
    int32_t id;
    bool special, lstrip, rstrip, single_word, normalized;
};

/* Loading: begin, tokens, merges, added tokens, stages, end. Errors begin with `name`. */
AT_CHECKED at_tokenizer_begin(struct at_tokenizer *t, size_t n_tokens, size_t n_vocab,
                              size_t n_merges);
AT_CHECKED at_tokenizer_put_token(struct at_tokenizer *t, const char *text, size_t n, int32_t id,
                                  const char *name);
/* After all tokens; left and right are texts. */
AT_CHECKED at_tokenizer_put_merge(struct at_tokenizer *t, uint32_t rank, const char *left,
                                  size_t n_left, const char *right, size_t n_right,
                                  const char *name);
AT_CHECKED at_tokenizer_put_added(struct at_tokenizer *t, const struct at_added_token *tokens,
                                  size_t n, const char *name);
/* Before the added tokens. `pattern` is what identifies the parts: the source of `code`, or "". */
AT_CHECKED at_tokenizer_put_normalizer(struct at_tokenizer *t, struct at_normalizer normalizer,
                                       const char *pattern, const char *name);
/* The tokenizer owns the code from then on, also on failure. */
AT_CHECKED at_tokenizer_put_stage(struct at_tokenizer *t, struct at_stage stage,
                                  const char *pattern, const char *name);
/* A stage that keeps matches and what stands between them. */
AT_CHECKED at_tokenizer_put_isolated(struct at_tokenizer *t, const char *pattern, const char *name);
AT_CHECKED at_tokenizer_put_decode(struct at_tokenizer *t, struct at_decode_op op,
                                   const char *name);
AT_CHECKED at_tokenizer_end(struct at_tokenizer *t);

/* ---- tokenizer.json ---- */

/* Reads normalizer, pre_tokenizer, post_processor and decoder. */
AT_CHECKED at_components_read(struct at_tokenizer *t, const cJSON *json, const char *name);
enum at_status at_component_refuse(const char *name, const char *where, const char *what,
                                   const char *built);
/* A folder with vocab.json and merges.txt: the document that tokenizer.json would be. */
AT_CHECKED at_vocab_files_read(cJSON **out, const char *dir, const cJSON *config);

/* ---- pre-tokenizers by name ---- */

/* What `tokenizer.ggml.pre` means. Texts are cut by each pattern in turn. */
struct at_pre {
    const char *names; /* with a space before and behind each */
    const char *patterns[5];
    bool nfc, ignore_merges, add_bos;
};
AT_CHECKED at_pre_find(const struct at_pre **out, const char *wanted, const char *name);

/* ---- characters ---- */

/* GPT-2's alphabet: the code point that stands for a byte, and back (-1: for none). */
uint32_t at_alphabet_char(uint8_t byte);
int at_alphabet_byte(uint32_t code);
/* Code point at text[0], valid UTF-8; *n is its length. */
uint32_t at_utf8_get(const char *text, size_t *n);
size_t at_utf8_put(char out[4], uint32_t code);
/* Appends the text; every maximal part that is no UTF-8 becomes U+FFFD (Unicode 3.9, as Rust and
 * Python do). With n_rest, a character that only lacks its end is not appended: *n_rest bytes are
 * left. Returns the number of replacements. */
size_t at_utf8_repair(struct at_buf *out, const char *text, size_t n, size_t *n_rest);
size_t at_last_char(const char *text, size_t n); /* where the last character begins; n > 0 */
/* Where the white space before text[end] begins, and where that from text[i] on ends. */
size_t at_space_before(const char *text, size_t end);
size_t at_space_after(const char *text, size_t n, size_t i);
bool at_is_space(uint32_t code); /* White_Space */
bool at_is_mark(uint32_t code);  /* of any kind */
bool at_is_word(uint32_t code);  /* \w of the reference: letters, marks, digits, connectors */

#endif
